/* SPDX-License-Identifier: Apache-2.0 */
/* Files between this machine and a session: requests in flight, and the first error. */
#include "ctl/copy.h"

#include "ctl/copy_path.h"
#include "ctl/output.h"
#include "protocol/rpc_error.h"

#include <errno.h>
#include <string.h>

static void stop(struct copy *copy, int status)
{
	if (copy->is_done)
		return;
	copy->is_done = true;
	copy->status = status;
	progress_end(&copy->progress);
	loop_stop(copy->ctl->loop);
}

static void fail_call(struct copy *copy, const struct call_result *call)
{
	if (copy->is_done)
		return;
	progress_end(&copy->progress);
	stop(copy, ctl_report(copy->ctl, call));
}

enum copy_step copy_fail(struct copy *copy, const char *what, const char *path, int error)
{
	_cleanup_free_ char *name = path_join(copy->local_name, path);

	progress_end(&copy->progress);
	/* `… | head` has read what it wanted. */
	if (!copy->is_done && error != -EPIPE)
		output_error("%s '%s'%s%s", what, name ?: path, error ? ": " : "",
			     error ? strerror(-error) : "");
	stop(copy, EXIT_ERROR);
	return COPY_WAITS;
}

void copy_go_on(struct copy *copy)
{
	while (!copy->is_done && copy->in_flight < COPY_WINDOW)
		switch (copy->step(copy->user)) {
		case COPY_SENT:
			continue;
		case COPY_WAITS:
			return;
		case COPY_DONE:
			if (copy->in_flight == 0)
				stop(copy, EXIT_OK);
			return;
		}
}

enum copy_step copy_changed(struct copy *copy, const char *path)
{
	return copy_fail(copy, "It changed while it was copied:", path, 0);
}

static bool is_about_descriptor(const json_t *error)
{
	const char *field =
		json_string_value(json_object_get(json_object_get(error, "data"), "field"));

	return json_integer_value(json_object_get(error, "code")) == RPC_INVALID_PARAMS && field &&
	       strcmp(field, "descriptor") == 0;
}

static void on_reply(void *user, const json_t *result, const json_t *error)
{
	struct copy_request request = *(struct copy_request *)user;
	struct copy *copy = request.copy;
	struct call_result call = {.outcome = CALL_ERROR, .value = (json_t *)error};

	((struct copy_request *)user)->fn = NULL;
	copy->in_flight--;
	if (!result && !error)
		return; /* the end of the connection follows */
	if (error && !copy->lacks_descriptors && is_about_descriptor(error))
		copy->lacks_descriptors = true;
	else if (error)
		fail_call(copy, &call);
	if (copy->is_done)
		return;
	request.fn(request.user, result);
	copy_go_on(copy);
}

enum copy_step copy_send(struct copy *copy, const char *method, json_t *params_take,
			 void (*fn)(void *user, const json_t *result), void *user)
{
	struct call_result call = {.outcome = CALL_LOST, .error = params_take ? 0 : -ENOMEM};
	struct copy_request *request = copy->requests;

	while (request->fn)
		request++;
	*request = (struct copy_request){.copy = copy, .fn = fn, .user = user};
	if (call.error == 0)
		call.error = client_request(copy->ctl->client, method, params_take, on_reply,
					    request, NULL);
	if (call.error == 0) {
		copy->in_flight++;
		return COPY_SENT;
	}
	request->fn = NULL;
	fail_call(copy, &call);
	return COPY_WAITS;
}

enum copy_step copy_send_passing(struct copy *copy, const char *method, json_t *params_take,
				 int fd_take, void (*fn)(void *user, const json_t *result),
				 void *user)
{
	struct call_result call = {.outcome = CALL_LOST};

	json_object_set_new(params_take, "descriptor", json_true());
	call.error = client_pass(copy->ctl->client, fd_take);
	if (call.error == 0)
		return copy_send(copy, method, params_take, fn, user);
	json_decref(params_take);
	fail_call(copy, &call);
	return COPY_WAITS;
}

json_t *copy_params(const struct copy *copy, const char *root, const char *path)
{
	_cleanup_free_ char *joined = path_join(root, path);

	return joined ? json_pack("{s:s, s:s}", "session", copy->session, "path", joined) : NULL;
}

int copy_run(struct copy *copy)
{
	struct ctl *ctl = copy->ctl;
	struct call_result lost = {.outcome = CALL_LOST};

	progress_begin(&copy->progress, copy->plan->bytes, copy->plan->files);
	ctl->interrupted = 0;
	copy_go_on(copy);
	if (!copy->is_done)
		loop_run(ctl->loop);
	if (!copy->is_done && ctl->interrupted) {
		stop(copy, EXIT_SIGNALED + ctl->interrupted);
	} else if (!copy->is_done) {
		lost.error = ctl->end_error;
		fail_call(copy, &lost);
	}
	/* Late replies must not find what they belonged to. */
	if (copy->status != EXIT_OK) {
		client_destroy(ctl->client);
		ctl->client = NULL;
	}
	return copy->status;
}
