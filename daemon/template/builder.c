/* SPDX-License-Identifier: Apache-2.0 */
/* Making a template: boot a VM in a memfd, rehearse, save, seal. */
#include "daemon/template/builder.h"

#include "base/log.h"
#include "daemon/template/rehearsal.h"
#include "daemon/template/worker.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

enum builder_state {
	BUILDER_BOOTING,
	BUILDER_REHEARSING,
	BUILDER_SAVING,
	BUILDER_ENDING,
	BUILDER_SEALING,
	BUILDER_DONE,
};

struct builder {
	struct vm_host *host;
	struct loop *loop; /* outlives the host's VMs */
	enum builder_state state;
	char name[64]; /* for logs and /proc */
	struct vm *vm;
	struct vm_image image;
	struct rehearsal rehearsal;
	struct worker *worker;
	struct rpc_error *error; /* why it will fail once the VM is gone */
	struct builder_times times;
	uint64_t step_us; /* when the state began */
	builder_done_fn on_done;
	void *user;
	struct defer free_later;
};

static const char *const state_names[] = {
	[BUILDER_BOOTING] = "booting", [BUILDER_REHEARSING] = "rehearsing",
	[BUILDER_SAVING] = "saving",   [BUILDER_ENDING] = "ending",
	[BUILDER_SEALING] = "sealing", [BUILDER_DONE] = "done",
};
static_assert(ELEMENTSOF(state_names) == BUILDER_DONE + 1, "every state has a name");

/* Returns how long the last state took. */
static uint64_t set_state(struct builder *builder, enum builder_state state)
{
	uint64_t now = now_us(), took = now - builder->step_us;

	log_debug(builder->name, "Template %s -> %s", state_names[builder->state],
		  state_names[state]);
	builder->state = state;
	builder->step_us = now;
	return took;
}

static void free_builder(void *user)
{
	struct builder *builder = user;

	rehearsal_cancel(&builder->rehearsal);
	worker_destroy(builder->worker);
	vm_image_fini(&builder->image);
	rpc_error_free(builder->error);
	free(builder);
}

static void finish(struct builder *builder, struct rpc_error *error_take)
{
	struct vm_image image = VM_IMAGE_NONE;

	if (!error_take) {
		image = builder->image;
		builder->image = (struct vm_image)VM_IMAGE_NONE;
	}
	set_state(builder, BUILDER_DONE);
	loop_defer(builder->loop, &builder->free_later, free_builder, builder);
	builder->on_done(builder->user, error_take, &image, &builder->times);
}

static struct rpc_error *failure(const struct builder *builder, const char *what, int error)
{
	return rpc_error_new(RPC_VM_TRANSIENT, "Cannot make template %s: %s: %s", builder->name,
			     what, strerror(-error));
}

/* --- Steps, in time order. --- */

static void on_rehearsed(void *user, struct rpc_error *error_take)
{
	struct builder *builder = user;

	if (error_take) {
		builder->error = error_take;
		vm_stop(builder->vm);
		return;
	}
	builder->times.rehearsal_us = set_state(builder, BUILDER_SAVING);
	vm_save(builder->vm);
}

static void on_ready(void *user)
{
	struct builder *builder = user;

	builder->times.boot_us = set_state(builder, BUILDER_REHEARSING);
	rehearsal_start(&builder->rehearsal, builder->host, builder->vm,
			rehearsal_for_template(vm_get_spec(builder->vm)->language), on_rehearsed,
			builder);
}

static void on_saved(void *user, uint8_t *state_take, size_t len)
{
	struct builder *builder = user;

	builder->image.state = state_take;
	builder->image.state_len = len;
	memcpy(builder->image.sync, agent_link_sync(vm_link(builder->vm)),
	       sizeof(builder->image.sync));
	builder->times.save_us = set_state(builder, BUILDER_ENDING);
	vm_stop(builder->vm);
}

static void on_failed(void *user, struct rpc_error *error_take)
{
	struct builder *builder = user;

	rpc_error_free(builder->error);
	builder->error = error_take;
}

static int seal(void *input, char report[WORKER_REPORT_MAX] UNUSED, size_t *ret_report_len UNUSED)
{
	const struct vm_image *image = input;

	return vm_image_seal(image->ram_fd, image->memory_mb);
}

static void on_sealed(void *user, int result, const char *report UNUSED, size_t report_len UNUSED)
{
	struct builder *builder = user;

	builder->worker = NULL;
	builder->times.seal_us = now_us() - builder->step_us;
	finish(builder, result < 0 ? failure(builder, "cannot seal its memory", result) : NULL);
}

static void on_gone(void *user)
{
	struct builder *builder = user;
	int r;

	builder->vm = NULL;
	if (builder->state != BUILDER_ENDING) {
		if (!builder->error)
			builder->error = failure(builder, "its VM ended", -ECANCELED);
		finish(builder, TAKE_PTR(builder->error));
		return;
	}
	set_state(builder, BUILDER_SEALING);
	r = worker_start(builder->loop, "seal", &builder->image.ram_fd, 1, seal, &builder->image,
			 on_sealed, builder, &builder->worker);
	if (r < 0)
		finish(builder, failure(builder, "cannot start a worker", r));
}

static const struct vm_ops vm_ops = {
	.on_ready = on_ready, .on_saved = on_saved, .on_failed = on_failed, .on_gone = on_gone};

struct rpc_error *builder_start(struct vm_host *host, const char *language, uint64_t memory_mb,
				builder_done_fn on_done, void *user, struct builder **ret)
{
	struct builder *builder = calloc(1, sizeof(*builder));
	struct vm_spec spec = {.start = QEMU_TEMPLATE,
			       .memory_mb = memory_mb,
			       .uid = VM_UID_NONE,
			       .language = language};
	struct rpc_error *error;

	if (!builder)
		return rpc_error_new(RPC_VM_TRANSIENT, "Cannot make a template: out of memory");
	builder->host = host;
	builder->loop = host->loop;
	builder->on_done = on_done;
	builder->user = user;
	builder->step_us = now_us();
	snprintf(builder->name, sizeof(builder->name), "%s-%ju", language, (uintmax_t)memory_mb);
	builder->image = (struct vm_image)VM_IMAGE_NONE;
	builder->image.memory_mb = memory_mb;
	builder->image.ram_fd = vm_image_create_ram(builder->name, memory_mb);
	if (builder->image.ram_fd < 0) {
		error = failure(builder, "cannot make its memory", builder->image.ram_fd);
		free_builder(builder);
		return error;
	}
	spec.image = &builder->image;
	error = vm_create(host, &spec, &vm_ops, builder, &builder->vm);
	if (error) {
		free_builder(builder);
		return error;
	}
	*ret = builder;
	return NULL;
}

void builder_destroy(struct builder *builder)
{
	if (!builder)
		return;
	loop_defer_cancel(builder->loop, &builder->free_later);
	free_builder(builder);
}
