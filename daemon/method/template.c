/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `template.*`: what VMs are cloned from.
 *
 * Theory of operation: template.build has a template made anew and stays pending until that has
 * ended. The build belongs to the daemon, not to the caller: who cancels or goes away only stops
 * waiting. A struct build lives as long as its call.
 */
#include "daemon/method/methods.h"

#include "daemon/session/request.h"
#include "protocol/moment.h"

#include <errno.h>
#include <string.h>

static json_t *milliseconds(uint64_t us)
{
	return us ? json_real((double)us / 1000) : json_null();
}

/* Of the last build by this daemon. */
static json_t *build_times(const struct builder_times *times)
{
	uint64_t total_us = times->boot_us + times->rehearsal_us + times->save_us + times->seal_us;

	if (total_us == 0)
		return json_null();
	return json_pack("{s:o, s:o, s:o, s:o, s:o}", "boot_ms", milliseconds(times->boot_us),
			 "rehearsal_ms", milliseconds(times->rehearsal_us), "save_ms",
			 milliseconds(times->save_us), "seal_ms", milliseconds(times->seal_us),
			 "total_ms", milliseconds(total_us));
}

/* The hashes are known once the image was stored or loaded. */
static json_t *hash(const char *text)
{
	return *text ? json_string(text) : json_null();
}

static json_t *describe(const struct template *template)
{
	const struct template_image *image = template->image;
	const struct rpc_error *error = template->error;

	return json_pack(
		"{s:s, s:s, s:I, s:s, s:b, s:o, s:o, s:o, s:o, s:I, s:o, s:o, s:o, s:o, s:s?}",
		"name", template->name, "language", template->language, "memory_mb",
		(json_int_t) template->memory_mb, "state", template_state_name(template->state),
		"stored", template->is_stored, "ram_bytes",
		image ? json_integer((json_int_t)(image->vm.memory_mb << 20)) : json_null(),
		"state_bytes", image ? json_integer((json_int_t)image->vm.state_len) : json_null(),
		"ram_sha256", hash(template->hashes.ram), "state_sha256",
		hash(template->hashes.state), "clones", (json_int_t)template_clones(template),
		"created_at", moment_json(image ? template->ready_ns : 0), "used_at",
		moment_json(template->used_ns), "load_ms", milliseconds(template->load_us), "build",
		build_times(&template->times), "error", error ? error->message : NULL);
}

static struct template *find(struct rpc_call *call, const json_t *params,
			     struct rpc_error **ret_error)
{
	struct daemon *daemon = rpc_call_context(call);
	const char *name = json_string_value(json_object_get(params, "name"));
	struct template *template = NULL;

	if (daemon->templates) {
		templates_look(daemon->templates);
		template = templates_find(daemon->templates, name);
	}
	if (!template)
		*ret_error = rpc_error_hint(
			rpc_error_new(RPC_TEMPLATE_NOT_FOUND, "There is no template '%.64s'", name),
			daemon->templates ? "'execsandboxctl template list' shows those there are"
					  : "templates = off in the daemon's configuration");
	return template;
}

struct rpc_reply method_template_list(struct rpc_call *call, const json_t *params UNUSED)
{
	struct daemon *daemon = rpc_call_context(call);
	const struct template *at = NULL;
	json_t *list = json_array();

	if (daemon->templates) {
		templates_look(daemon->templates);
		while ((at = templates_next(daemon->templates, at)))
			json_array_append_new(list, describe(at));
	}
	return rpc_reply_result(call, json_pack("{s:o}", "templates", list));
}

struct rpc_reply method_template_info(struct rpc_call *call, const json_t *params)
{
	struct rpc_error *error = NULL;
	const struct template *template = find(call, params, &error);

	return template ? rpc_reply_result(call, describe(template)) : rpc_reply_error(call, error);
}

struct rpc_reply method_template_remove(struct rpc_call *call, const json_t *params)
{
	struct rpc_error *error = NULL;
	struct template *template = find(call, params, &error);
	int r = template ? template_remove(template) : 0;

	if (r == -EBUSY)
		error = rpc_error_hint(
			rpc_error_new(
				RPC_TEMPLATE_BUSY,
				"Template '%s' is being %s: it cannot be removed", template->name,
				template->state == TEMPLATE_READY ? "made anew or stored" : "made"),
			"try again when template.info says 'ready' and 'stored'");
	else if (r < 0)
		error = rpc_error_new(RPC_INTERNAL_ERROR,
				      "Cannot remove template '%s' from disk: %s", template->name,
				      strerror(-r));
	return error ? rpc_reply_error(call, error) : rpc_reply_result(call, json_object());
}

/* --- template.build --- */

struct build {
	struct rpc_call *call;
	struct template_waiter waiter;
};

static void on_built(void *user, struct template *template, const struct rpc_error *error)
{
	struct build *build = user;
	struct rpc_error *answer;

	if (error) {
		answer = rpc_error_new(RPC_BUILD_FAILED, "Template '%s' was not made: %s",
				       template->name, error->message);
		rpc_error_set(answer, "reason", json_string(error->message));
		rpc_error_hint(answer, "the daemon's log has the guest's console: "
				       "'journalctl -u execsandboxd'");
		rpc_call_finish_error(build->call, answer);
	} else {
		rpc_call_finish_result(build->call, describe(template));
	}
	free(build);
}

static void on_gone(void *user)
{
	struct build *build = user;

	template_await_cancel(&build->waiter);
	free(build);
}

static void on_cancel(void *user)
{
	struct build *build = user;
	struct rpc_call *call = build->call;

	on_gone(build);
	rpc_call_finish_error(call, rpc_error_new(RPC_CANCELLED,
						  "Nobody waits for the template any more; it is "
						  "made nevertheless"));
}

static void on_stop(void *user)
{
	struct build *build = user;
	struct rpc_call *call = build->call;

	on_gone(build);
	rpc_call_finish_error(
		call,
		rpc_error_hint(rpc_error_new(RPC_DRAINING, "The daemon stopped before the template "
							   "was made"),
			       "try again after its restart"));
}

static const struct rpc_call_ops build_ops = {
	.on_cancel = on_cancel, .on_gone = on_gone, .on_stop = on_stop};

/* What keeps this host from making any. */
static struct rpc_error *check_possible(struct daemon *daemon)
{
	struct rpc_error *error = method_require_accepting(daemon);
	const char *unsupported;

	if (!error)
		error = daemon_require_images(daemon);
	if (error)
		return error;
	if (!daemon->templates)
		return rpc_error_hint(
			rpc_error_new(RPC_BUILD_FAILED, "This daemon makes no templates"),
			"set templates = auto in execsandboxd.conf and restart the daemon");
	unsupported = templates_unsupported(daemon->templates);
	if (!unsupported)
		return NULL;
	error = rpc_error_new(RPC_BUILD_FAILED, "This host makes no templates: %s", unsupported);
	rpc_error_set(error, "reason", json_string(unsupported));
	return rpc_error_hint(error, "runs work all the same: their VMs boot; 'execsandboxctl "
				     "doctor' tells more");
}

/* The largest size class that is at most `limit_mb`, which is 128 at least. */
static uint64_t largest_class(uint64_t limit_mb, uint64_t default_mb)
{
	uint64_t size_mb = 128;

	while (size_mb * 2 <= limit_mb)
		size_mb *= 2;
	return default_mb <= limit_mb ? MAX(size_mb, default_mb) : size_mb;
}

/* The size class, as run has it, if a template of it may be kept. */
static struct rpc_error *read_memory(const struct daemon *daemon, const json_t *params,
				     uint64_t *ret_mb)
{
	uint64_t default_mb = (uint64_t)daemon->config->default_memory_mb;
	const json_t *given = json_object_get(params, "memory_mb");
	uint64_t asked_mb = given ? (uint64_t)json_integer_value(given) : default_mb;
	uint64_t min_mb = (uint64_t)daemon->config->min_memory_mb;
	/* Those of the default size have memory of their own; the others share what is left. */
	uint64_t room_mb = MAX(templates_room_mb(daemon->templates), default_mb);
	uint64_t max_mb = largest_class(MIN(pool_max_memory_mb(daemon->pool), room_mb), default_mb);
	struct rpc_error *error;

	*ret_mb = memory_size_class(asked_mb, default_mb);
	if (asked_mb >= min_mb && asked_mb <= max_mb)
		return NULL;
	error = rpc_error_new(RPC_LIMIT_INVALID, "memory_mb is %ju, outside %ju to %ju",
			      (uintmax_t)asked_mb, (uintmax_t)min_mb, (uintmax_t)max_mb);
	rpc_error_set(error, "field", json_string("memory_mb"));
	rpc_error_set(error, "min", json_integer((json_int_t)min_mb));
	rpc_error_set(error, "max", json_integer((json_int_t)max_mb));
	return rpc_error_hint(error, "min_memory_mb, max_memory_mb and template_memory_mb of the "
				     "configuration set these bounds");
}

struct rpc_reply method_template_build(struct rpc_call *call, const json_t *params)
{
	struct daemon *daemon = rpc_call_context(call);
	const char *language = json_string_value(json_object_get(params, "language"));
	struct rpc_error *error = check_possible(daemon);
	struct template *template;
	struct build *build;
	uint64_t memory_mb;

	if (!error)
		error = read_memory(daemon, params, &memory_mb);
	if (error)
		return rpc_reply_error(call, error);
	template = templates_get(daemon->templates, language, memory_mb);
	build = calloc(1, sizeof(*build));
	if (!template || !build) {
		free(build);
		return rpc_reply_error(
			call, rpc_error_new(RPC_INTERNAL_ERROR, "The daemon is out of memory"));
	}
	*build = (struct build){.call = call, .waiter = {.on_built = on_built, .user = build}};
	template_rebuild(template);
	template_await(template, &build->waiter);
	return rpc_reply_pending(call, &build_ops, build);
}
