/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's connection, and the plain call-and-wait. */
#include "ctl/ctl.h"

#include "ctl/output.h"

#include "protocol/rpc_error.h"

#include <errno.h>
#include <string.h>

/* Every call but `run` is answered from memory; memory.balloon waits some seconds for the guest. */
#define CALL_SECONDS 30.0

static void on_notification(void *user, const char *method, const json_t *params)
{
	struct ctl *ctl = user;

	if (ctl->on_notification)
		ctl->on_notification(ctl->notification_user, method, params);
}

static void on_end(void *user, int error)
{
	struct ctl *ctl = user;

	client_destroy(ctl->client);
	ctl->client = NULL;
	ctl->end_error = error;
	loop_stop(ctl->loop);
}

static void on_signal(struct ev_loop *ev UNUSED, ev_signal *watcher, int events UNUSED)
{
	struct ctl *ctl = watcher->data;

	ctl->interrupted = watcher->signum;
	if (ctl->on_interrupt)
		ctl->on_interrupt(ctl->interrupt_user, watcher->signum);
	else
		loop_stop(ctl->loop);
}

int ctl_init(struct ctl *ctl, const char *socket_path, bool is_json)
{
	static const int signals[] = {SIGINT, SIGTERM};
	int r;

	*ctl = (struct ctl){.socket_path = socket_path, .is_json = is_json};
	r = loop_create(&ctl->loop);
	if (r < 0)
		return r;
	for (size_t i = 0; i < ELEMENTSOF(signals); i++) {
		ev_signal_init(&ctl->interrupt[i], on_signal, signals[i]);
		ctl->interrupt[i].data = ctl;
	}
	return 0;
}

void ctl_fini(struct ctl *ctl)
{
	if (!ctl->loop)
		return;
	for (size_t i = 0; i < ELEMENTSOF(ctl->interrupt); i++)
		ev_signal_stop(loop_ev(ctl->loop), &ctl->interrupt[i]);
	client_destroy(ctl->client);
	loop_destroy(ctl->loop);
}

int ctl_connect(struct ctl *ctl)
{
	static const struct client_ops ops = {.on_notification = on_notification, .on_end = on_end};
	int r;

	if (ctl->client)
		return 0;
	r = client_connect(ctl->loop, ctl->socket_path, &ops, ctl, &ctl->client);
	if (r < 0)
		return r;
	/* Before this point nothing waits in the loop, and a signal may simply end the process. */
	for (size_t i = 0; i < ELEMENTSOF(ctl->interrupt); i++)
		ev_signal_start(loop_ev(ctl->loop), &ctl->interrupt[i]);
	return 0;
}

int ctl_report_connect(const struct ctl *ctl, int error)
{
	output_error("Cannot connect to '%s': %s", ctl->socket_path, strerror(-error));
	switch (-error) {
	case ENOENT:
	case ECONNREFUSED:
		output_hint("start the daemon with 'systemctl start execsandboxd', or name its "
			    "socket with --socket or EXECSANDBOX_SOCKET");
		break;
	case EACCES:
	case EPERM:
		output_hint("join the group that owns the socket: "
			    "'usermod -aG execsandbox USER', then log in again");
		break;
	case EAGAIN:
		output_hint("the daemon's queue of connections is full; try again");
		break;
	default:
		output_hint("see 'execsandboxctl doctor'");
	}
	return EXIT_NO_DAEMON;
}

struct wait {
	struct ctl *ctl;
	struct call_result call;
	bool is_done;
	ev_timer deadline;
};

static void on_reply(void *user, const json_t *result, const json_t *error)
{
	struct wait *wait = user;

	if (!result && !error)
		return; /* the end of the connection follows */
	wait->is_done = true;
	wait->call.outcome = result ? CALL_RESULT : CALL_ERROR;
	wait->call.value = json_incref((json_t *)(result ?: error));
	loop_stop(wait->ctl->loop);
}

static void on_deadline(struct ev_loop *ev UNUSED, ev_timer *timer, int events UNUSED)
{
	struct wait *wait = timer->data;

	wait->is_done = true;
	wait->call.outcome = CALL_TIMEOUT;
	loop_stop(wait->ctl->loop);
}

static void wait_for_reply(struct wait *wait, double seconds)
{
	struct ctl *ctl = wait->ctl;

	ctl->interrupted = 0;
	ev_timer_init(&wait->deadline, on_deadline, 0., 0.);
	wait->deadline.data = wait;
	if (seconds > 0)
		loop_timer_start(ctl->loop, &wait->deadline, seconds);
	loop_run(ctl->loop);
	loop_timer_stop(ctl->loop, &wait->deadline);
	if (wait->is_done)
		return;
	wait->call.outcome = ctl->client ? CALL_INTERRUPTED : CALL_LOST;
	wait->call.error = ctl->end_error;
	/* A late reply must not find this frame. */
	client_destroy(ctl->client);
	ctl->client = NULL;
}

struct call_result ctl_call(struct ctl *ctl, const char *method, json_t *params_take,
			    double seconds)
{
	struct wait wait = {.ctl = ctl};
	int r = ctl_connect(ctl);

	if (r < 0) {
		json_decref(params_take);
		return (struct call_result){.outcome = CALL_NO_DAEMON, .error = r};
	}
	r = client_request(ctl->client, method, params_take, on_reply, &wait, NULL);
	if (r < 0)
		return (struct call_result){.outcome = CALL_LOST, .error = r};
	wait_for_reply(&wait, seconds);
	if (wait.call.outcome == CALL_TIMEOUT) {
		client_destroy(ctl->client);
		ctl->client = NULL;
	}
	return wait.call;
}

void ctl_print_error(const json_t *error)
{
	const json_t *data = json_object_get(error, "data");
	const char *message = json_string_value(json_object_get(error, "message"));
	const char *hint = json_string_value(json_object_get(data, "hint"));
	const json_t *known = json_object_get(data, "known"), *name;
	size_t i;

	output_error("%s", message ?: "The daemon answered with an error without a message");
	if (hint)
		output_hint("%s", hint);
	if (json_array_size(known) == 0)
		return;
	fputs("known:", stderr);
	json_array_foreach (known, i, name)
		fprintf(stderr, " %s", json_string_value(name) ?: "?");
	fputc('\n', stderr);
}

static int error_status(const json_t *error)
{
	switch (json_integer_value(json_object_get(error, "code"))) {
	case RPC_SESSION_NOT_FOUND:
	case RPC_SESSION_CLOSED:
	case RPC_EXEC_NOT_FOUND:
	case RPC_PROCESS_NOT_FOUND:
	case RPC_VM_NOT_FOUND:
	case RPC_TEMPLATE_NOT_FOUND:
	case RPC_FILE_NOT_FOUND:
		return EXIT_NOT_FOUND;
	default: /* any number may come from a newer daemon */
		return EXIT_ERROR;
	}
}

static int report_lost(int error)
{
	if (error == -EMSGSIZE)
		output_error("The request is over the %u MiB that a message may have",
			     CLIENT_REQUEST_MAX >> 20);
	else if (error == -EPROTO)
		output_error("The daemon sent what is not JSON-RPC; is this its socket?");
	else
		output_error("The connection to the daemon ended before the reply%s%s",
			     error ? ": " : "", error ? strerror(-error) : "");
	if (error != -EMSGSIZE)
		output_hint("the daemon's log says why: 'journalctl -u execsandboxd'");
	return error == -EMSGSIZE ? EXIT_ERROR : EXIT_NO_DAEMON;
}

int ctl_report(const struct ctl *ctl, const struct call_result *call)
{
	json_auto_t *wrapped = NULL;

	switch (call->outcome) {
	case CALL_RESULT:
		return EXIT_OK;
	case CALL_ERROR:
		wrapped = ctl->is_json ? json_pack("{s:O}", "error", call->value) : NULL;
		if (wrapped)
			output_json(wrapped, false);
		ctl_print_error(call->value);
		return error_status(call->value);
	case CALL_NO_DAEMON:
		return ctl_report_connect(ctl, call->error);
	case CALL_LOST:
		return report_lost(call->error);
	case CALL_TIMEOUT:
		output_error("The daemon at '%s' did not answer in time", ctl->socket_path);
		output_hint("see 'systemctl status execsandboxd'");
		return EXIT_ERROR;
	case CALL_INTERRUPTED:
		return EXIT_SIGNALED + ctl->interrupted;
	}
	return EXIT_ERROR;
}

int ctl_fetch(struct ctl *ctl, const char *method, json_t *params_take, json_t **ret)
{
	struct call_result call = ctl_call(ctl, method, params_take, CALL_SECONDS);
	int status = ctl_report(ctl, &call);

	if (call.outcome == CALL_RESULT)
		*ret = call.value;
	else
		json_decref(call.value);
	return status;
}

int ctl_printed(int r)
{
	if (r == 0)
		return EXIT_OK;
	if (r != -EPIPE) /* `… | head` has read what it wanted */
		output_error("Cannot write the output: %s", strerror(-r));
	return EXIT_ERROR;
}
