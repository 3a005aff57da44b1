/* SPDX-License-Identifier: Apache-2.0 */
/* A rehearsal: the daemon's own no-op in a READY VM, on the path that a user's code takes. */
#include "daemon/template/rehearsal.h"

#include "base/util.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/*
 * Not the number of a user's run, so that a late message cannot pass for one of its own; and in a
 * clone not the template's either: an agent that was saved before it had read our EXIT_ACK answers
 * the same number with the old run's end.
 */
#define TEMPLATE_EXEC 2
#define CLONE_EXEC    3
#define PREPARE_ID    1
#define EXPECTED      "ready\n"
#define OUTPUT_LIMIT  4096
/* Grace periods of RCU and what waits for them: 1,445 new translations in the next run without, 630
 * with it. */
#define SETTLE_MS 50

struct language {
	const char *name, *program;
	struct rehearsal_step template[REHEARSAL_STEPS_MAX], clone[REHEARSAL_STEPS_MAX];
};

/*
 * Python and bash wait in the template: three for the rehearsals of a clone that goes to the
 * pool, one for the user. What a rehearsal leaves untranslated the next one finds: a run after one,
 * two and three of them has 1,450, 440 and 70 blocks translated. Bun seeds its random
 * numbers when it starts, so it starts in the clone; the template only has its files in the page
 * cache; PREPARE 0 is a last word to its agent whose answer says that the end of the run was read
 * before the machine is saved.
 */
static const struct language languages[] = {
	{"python",
	 "print('ready')\n",
	 {{REHEARSAL_PREPARE, 1}, {REHEARSAL_RUN, 0}, {REHEARSAL_PREPARE, 4}},
	 {{REHEARSAL_RUN, 0},
	  {REHEARSAL_RUN, 0},
	  {REHEARSAL_RUN, 0},
	  {REHEARSAL_SETTLE, SETTLE_MS}}},
	{"shell",
	 "echo ready\n",
	 {{REHEARSAL_PREPARE, 1}, {REHEARSAL_RUN, 0}, {REHEARSAL_PREPARE, 4}},
	 {{REHEARSAL_RUN, 0},
	  {REHEARSAL_RUN, 0},
	  {REHEARSAL_RUN, 0},
	  {REHEARSAL_SETTLE, SETTLE_MS}}},
	{"javascript",
	 "console.log('ready')\n",
	 {{REHEARSAL_RUN, 0}, {REHEARSAL_PREPARE, 0}},
	 {{REHEARSAL_PREPARE, 1},
	  {REHEARSAL_RUN, 0},
	  {REHEARSAL_PREPARE, 1},
	  {REHEARSAL_SETTLE, SETTLE_MS}}},
};

static const char *const kind_names[] = {
	[REHEARSAL_END] = "end",
	[REHEARSAL_RUN] = "run",
	[REHEARSAL_PREPARE] = "prepare",
	[REHEARSAL_SETTLE] = "settle",
};
static_assert(ELEMENTSOF(kind_names) == REHEARSAL_SETTLE + 1, "every kind has a name");

static const struct rehearsal_step no_steps[] = {{REHEARSAL_END, 0}};

static const struct language *find_language(const char *name)
{
	for (size_t i = 0; i < ELEMENTSOF(languages); i++)
		if (strcmp(languages[i].name, name) == 0)
			return &languages[i];
	return NULL;
}

const struct rehearsal_step *rehearsal_for_template(const char *language)
{
	const struct language *found = find_language(language);

	return found ? found->template : no_steps;
}

const struct rehearsal_step *rehearsal_for_clone(const char *language)
{
	const struct language *found = find_language(language);

	return found ? found->clone : no_steps;
}

json_t *rehearsal_recipe(const char *language)
{
	json_t *recipe = json_array();

	for (const struct rehearsal_step *step = rehearsal_for_template(language);
	     step->kind != REHEARSAL_END; step++)
		json_array_append_new(recipe,
				      json_sprintf("%s %u", kind_names[step->kind], step->count));
	return recipe;
}

void rehearsal_cancel(struct rehearsal *rehearsal)
{
	if (!rehearsal->vm)
		return;
	loop_timer_stop(rehearsal->host->loop, &rehearsal->deadline);
	loop_timer_stop(rehearsal->host->loop, &rehearsal->settled);
	rehearsal->vm = NULL;
}

static void finish(struct rehearsal *rehearsal, struct rpc_error *error_take)
{
	struct vm *vm = rehearsal->vm;

	rehearsal_cancel(rehearsal);
	vm_detach(vm);
	rehearsal->on_done(rehearsal->user, error_take);
}

static void fail(struct rehearsal *rehearsal, const char *what, const char *detail)
{
	finish(rehearsal, rpc_error_new(RPC_VM_TRANSIENT, "VM %s does not run %s: %s%s%s",
					vm_id(rehearsal->vm), vm_get_spec(rehearsal->vm)->language,
					what, *detail ? ": " : "", detail));
}

static uint32_t exec_number(const struct rehearsal *rehearsal)
{
	return vm_get_spec(rehearsal->vm)->start == QEMU_TEMPLATE ? TEMPLATE_EXEC : CLONE_EXEC;
}

static int send_run(struct rehearsal *rehearsal)
{
	const struct vm_spec *spec = vm_get_spec(rehearsal->vm);
	const struct language *language = find_language(spec->language);
	struct msg_exec exec = {
		.exec = exec_number(rehearsal),
		.realtime_ns = realtime_ns(),
		.stdout_limit = OUTPUT_LIMIT,
		.stderr_limit = OUTPUT_LIMIT,
		.memory_max_bytes = spec->memory_mb << 20,
		.disk_max_bytes = rehearsal->host->disk_default_bytes,
		.is_rehearsal = true,
	};
	char *code = language ? strdup(language->program) : NULL;

	if (!code)
		return -ENOMEM;
	rehearsal->output_len = 0;
	snprintf(exec.language, sizeof(exec.language), "%s", spec->language);
	return agent_link_exec(vm_link(rehearsal->vm), &exec, code, strlen(code), NULL, 0);
}

static int send_prepare(struct rehearsal *rehearsal)
{
	struct msg msg = {.type = FRAME_PREPARE,
			  .prepare = {.id = PREPARE_ID, .count = rehearsal->steps->count}};

	snprintf(msg.prepare.language, sizeof(msg.prepare.language), "%s",
		 vm_get_spec(rehearsal->vm)->language);
	return agent_link_send(vm_link(rehearsal->vm), &msg);
}

static void step(struct rehearsal *rehearsal)
{
	int r = 0;

	switch (rehearsal->steps->kind) {
	case REHEARSAL_END:
		finish(rehearsal, NULL);
		return;
	case REHEARSAL_RUN:
		r = send_run(rehearsal);
		break;
	case REHEARSAL_PREPARE:
		r = send_prepare(rehearsal);
		break;
	case REHEARSAL_SETTLE:
		loop_timer_start(rehearsal->host->loop, &rehearsal->settled,
				 rehearsal->steps->count / 1000.);
		break;
	}
	if (r < 0)
		fail(rehearsal, "cannot send a message", strerror(-r));
}

static void on_settled(struct ev_loop *ev UNUSED, ev_timer *timer, int events UNUSED)
{
	struct rehearsal *rehearsal = timer->data;

	rehearsal->steps++;
	step(rehearsal);
}

static void on_exited(struct rehearsal *rehearsal, const struct msg_exit *exit)
{
	agent_link_exec_done(vm_link(rehearsal->vm), exec_number(rehearsal));
	if (strcmp(exit->reason, MSG_REASON_EXITED) != 0 || exit->exit_code != 0) {
		fail(rehearsal, exit->reason, exit->detail);
		return;
	}
	if (rehearsal->output_len != strlen(EXPECTED) ||
	    memcmp(rehearsal->output, EXPECTED, strlen(EXPECTED)) != 0) {
		fail(rehearsal, "its no-op printed something else", "");
		return;
	}
	rehearsal->steps++;
	step(rehearsal);
}

static void on_prepared(struct rehearsal *rehearsal, const struct msg_prepared *prepared)
{
	if (prepared->waiting < rehearsal->steps->count) {
		fail(rehearsal, "its interpreter does not wait", prepared->detail);
		return;
	}
	rehearsal->steps++;
	step(rehearsal);
}

static void on_message(void *user, const struct msg *msg)
{
	struct rehearsal *rehearsal = user;

	if (!rehearsal->vm)
		return;
	if (msg->type == FRAME_EXIT && msg->exit.exec == exec_number(rehearsal) &&
	    rehearsal->steps->kind == REHEARSAL_RUN)
		on_exited(rehearsal, &msg->exit);
	else if (msg->type == FRAME_PREPARED && rehearsal->steps->kind == REHEARSAL_PREPARE)
		on_prepared(rehearsal, &msg->prepared);
}

static void on_output(void *user, uint32_t exec, enum frame_substream sub, const uint8_t *data,
		      size_t len)
{
	struct rehearsal *rehearsal = user;
	size_t room = sizeof(rehearsal->output) - rehearsal->output_len;

	if (!rehearsal->vm)
		return;
	agent_link_take(vm_link(rehearsal->vm), exec, sub, len);
	if (sub != SUBSTREAM_STDOUT)
		return;
	memcpy(rehearsal->output + rehearsal->output_len, data, MIN(len, room));
	rehearsal->output_len += MIN(len, room);
}

static void on_lost(void *user, struct rpc_error *error_take)
{
	struct rehearsal *rehearsal = user;

	if (!rehearsal->vm) {
		rpc_error_free(error_take);
		return;
	}
	rehearsal_cancel(rehearsal);
	rehearsal->on_done(rehearsal->user, error_take);
}

static const struct vm_client_ops client_ops = {
	.on_message = on_message, .on_output = on_output, .on_lost = on_lost};

static void on_deadline(struct ev_loop *ev UNUSED, ev_timer *timer, int events UNUSED)
{
	fail(timer->data, "no answer in time", "");
}

void rehearsal_start(struct rehearsal *rehearsal, const struct vm_host *host, struct vm *vm,
		     const struct rehearsal_step *steps, rehearsal_done_fn on_done, void *user)
{
	*rehearsal = (struct rehearsal){
		.host = host, .vm = vm, .steps = steps, .on_done = on_done, .user = user};
	ev_timer_init(&rehearsal->deadline, on_deadline, 0., 0.);
	ev_timer_init(&rehearsal->settled, on_settled, 0., 0.);
	rehearsal->deadline.data = rehearsal->settled.data = rehearsal;
	loop_timer_start(host->loop, &rehearsal->deadline, host->boot_timeout_seconds);
	vm_attach(vm, VM_UID_NONE, &client_ops, rehearsal);
	step(rehearsal);
}
