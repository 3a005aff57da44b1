/* SPDX-License-Identifier: Apache-2.0 */
/*
 * execsandboxctl shell: a shell in a session, on our terminal.
 *
 * Theory of operation: a background process of the session, with a terminal of the size of ours
 * when our standard input is one, and with pipes otherwise. Our terminal is raw meanwhile: keys go
 * there as they come, one process.write at a time, and what it is written is shown as it comes
 * (session.attach). The reply to process.wait says how much output there is in all: when that is
 * here, the shell is over, and its exit status is ours. When we are told to end, the shell is told
 * that its line has hung up.
 */
#include "ctl/output.h"
#include "ctl/source.h"
#include "ctl/terminal.h"

#include "ctl/ctl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Of one write: what a pipe holds. */
#define INPUT_BYTES (64u * 1024)
/* A daemon that answers at all does so at once. */
#define ANSWER_SECONDS 5.
/* Between the hang-up and the end of a shell: what it saves when it is told to go. */
#define GRACE_SECONDS 1.
/* More than any output has: process.wait shall not repeat it. */
#define BEYOND_ALL (1ll << 50)

enum { SHELL_LANGUAGE, SHELL_CWD, SHELL_ENV };

static const struct verb_option options[] = {
	[SHELL_LANGUAGE] = {"language", 'l', OPTION_TEXT, "LANG", 0, 0,
			    "Make a session for it: python (default), javascript or shell"},
	[SHELL_CWD] = {"cwd", 0, OPTION_TEXT, "DIRECTORY", 0, 0, "Directory to start in"},
	[SHELL_ENV] = {"env", 'e', OPTION_PAIR, "NAME=VALUE", 0, 0,
		       "Environment variable; may be repeated"},
	{.name = NULL},
};

enum { STDOUT, STDERR, STREAM_COUNT };
static const struct {
	const char *name, *bytes_key;
	int fd;
} streams[STREAM_COUNT] = {
	[STDOUT] = {"stdout", "stdout_bytes", STDOUT_FILENO},
	[STDERR] = {"stderr", "stderr_bytes", STDERR_FILENO},
};

struct shell {
	struct ctl *ctl;
	const char *session, *process; /* ids, borrowed */
	bool has_terminal;
	json_int_t next[STREAM_COUNT]; /* bytes of each output that were shown */
	json_t *result, *error;        /* of process.wait */
	int stopped_by;                /* signal, or 0 */
	ev_io input;
	ev_signal winch, hup;
};

static json_t *params_of(const struct shell *shell)
{
	return json_pack("{s:s, s:s}", "session", shell->session, "process", shell->process);
}

static void stop(struct shell *shell, int signal_number)
{
	shell->stopped_by = shell->stopped_by ?: signal_number;
	loop_stop(shell->ctl->loop);
}

static void stop_when_complete(struct shell *shell)
{
	for (size_t i = 0; i < STREAM_COUNT; i++)
		if (shell->next[i] <
		    json_integer_value(json_object_get(shell->result, streams[i].bytes_key)))
			return;
	loop_stop(shell->ctl->loop);
}

/* --- What the daemon says. --- */

static void show(struct shell *shell, size_t stream, const json_t *params)
{
	const char *encoding = json_string_value(json_object_get(params, "encoding"));
	uint8_t *bytes = NULL;
	ssize_t len = source_get_bytes(json_object_get(params, "data"), encoding, &bytes);

	if (len < 0)
		return;
	if (output_bytes(streams[stream].fd, bytes, (size_t)len) < 0)
		stop(shell, SIGPIPE);
	shell->next[stream] = json_integer_value(json_object_get(params, "offset")) + len;
	free(bytes);
}

static void on_notification(void *user, const char *method, const json_t *params)
{
	struct shell *shell = user;
	const char *process = json_string_value(json_object_get(params, "process"));
	const char *stream = json_string_value(json_object_get(params, "stream"));

	if (strcmp(method, "process.output") != 0 || !process || !stream ||
	    strcmp(process, shell->process) != 0)
		return;
	for (size_t i = 0; i < STREAM_COUNT; i++)
		if (strcmp(stream, streams[i].name) == 0)
			show(shell, i, params);
	if (shell->result)
		stop_when_complete(shell);
}

static void on_end(void *user, const json_t *result, const json_t *error)
{
	struct shell *shell = user;

	shell->result = json_incref((json_t *)result);
	shell->error = json_incref((json_t *)error);
	if (result)
		stop_when_complete(shell);
	else
		loop_stop(shell->ctl->loop);
}

/* --- What we say. --- */

/* A shell that has ended takes nothing more; on_end() is on its way. */
static void on_written(void *user, const json_t *result, const json_t *error UNUSED)
{
	struct shell *shell = user;

	if (result)
		ev_io_start(loop_ev(shell->ctl->loop), &shell->input);
}

static void request(struct shell *shell, const char *method, json_t *params_take,
		    client_reply_fn fn)
{
	if (!shell->ctl->client ||
	    client_request(shell->ctl->client, method, params_take, fn, shell, NULL) < 0)
		loop_stop(shell->ctl->loop);
}

static void on_said(void *user UNUSED, const json_t *result UNUSED, const json_t *error UNUSED)
{
}

static void on_input(struct ev_loop *ev, ev_io *watcher, int events UNUSED)
{
	struct shell *shell = watcher->data;
	char bytes[INPUT_BYTES];
	ssize_t n = read(STDIN_FILENO, bytes, sizeof(bytes));
	json_t *params;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	ev_io_stop(ev, watcher);
	params = params_of(shell);
	if (n > 0) {
		source_set_bytes(params, "data", "encoding", bytes, (size_t)n);
		request(shell, "process.write", params, on_written);
	} else {
		request(shell, "process.close_stdin", params, on_said);
	}
}

static void on_winch(struct ev_loop *ev UNUSED, ev_signal *watcher, int events UNUSED)
{
	struct shell *shell = watcher->data;
	json_t *params = params_of(shell);
	json_auto_t *size = terminal_size(STDIN_FILENO);

	json_object_update(params, size);
	request(shell, "process.resize", params, on_said);
}

static void on_interrupt(void *user, int signal_number)
{
	stop(user, signal_number);
}

static void on_hup(struct ev_loop *ev UNUSED, ev_signal *watcher, int events UNUSED)
{
	stop(watcher->data, SIGHUP);
}

/* --- From its start to its end. --- */

static void start_watchers(struct shell *shell)
{
	struct ctl *ctl = shell->ctl;
	struct ev_loop *ev = loop_ev(ctl->loop);

	ctl->on_notification = on_notification;
	ctl->on_interrupt = on_interrupt;
	ctl->notification_user = ctl->interrupt_user = shell;
	ev_io_init(&shell->input, on_input, STDIN_FILENO, EV_READ);
	ev_signal_init(&shell->winch, on_winch, SIGWINCH);
	ev_signal_init(&shell->hup, on_hup, SIGHUP);
	shell->input.data = shell->winch.data = shell->hup.data = shell;
	ev_io_start(ev, &shell->input);
	ev_signal_start(ev, &shell->hup);
	if (shell->has_terminal)
		ev_signal_start(ev, &shell->winch);
}

static void stop_watchers(struct shell *shell)
{
	struct ctl *ctl = shell->ctl;
	struct ev_loop *ev = loop_ev(ctl->loop);

	ev_io_stop(ev, &shell->input);
	ev_signal_stop(ev, &shell->winch);
	ev_signal_stop(ev, &shell->hup);
	ctl->on_notification = NULL;
	ctl->on_interrupt = NULL;
}

/* The answer is waited for: what is sent by who leaves may be lost. NULL without a result. */
static json_t *say(struct shell *shell, const char *method, const char *key, json_t *value_take)
{
	json_t *params = params_of(shell);
	struct call_result call;

	json_object_set_new(params, key, value_take);
	if (!shell->ctl->client) {
		json_decref(params);
		return NULL;
	}
	call = ctl_call(shell->ctl, method, params, ANSWER_SECONDS);
	if (call.outcome == CALL_RESULT)
		return call.value;
	json_decref(call.value);
	return NULL;
}

/* Nobody reads it any more. A shell that is about to read a line misses a signal, and a terminal
 * that is gone would end its reading: here that is for us to do. */
static void hang_up(struct shell *shell)
{
	json_auto_t *told = say(shell, "process.signal", "signal", json_string("HUP"));
	json_auto_t *ended =
		say(shell, "process.wait", "timeout_seconds", json_real(GRACE_SECONDS));
	json_auto_t *killed = NULL;

	if (json_object_get(ended, "state"))
		killed = say(shell, "process.signal", "signal", json_string("KILL"));
}

static int exit_status(const struct shell *shell)
{
	struct call_result call = {.outcome = shell->error ? CALL_ERROR : CALL_LOST,
				   .value = shell->error,
				   .error = shell->ctl->end_error};

	if (shell->stopped_by)
		return EXIT_SIGNALED + shell->stopped_by;
	if (shell->result)
		return (int)json_integer_value(json_object_get(shell->result, "exit_code")) & 0xff;
	ctl_report(shell->ctl, &call);
	return EXIT_SANDBOX;
}

/* Its output from the beginning on, and its end. */
static int follow(struct shell *shell)
{
	json_auto_t *attached = NULL;
	json_t *params = params_of(shell);
	int status;

	start_watchers(shell);
	status = ctl_fetch(shell->ctl, "session.attach", params_of(shell), &attached);
	json_object_set_new(params, "stdout_offset", json_integer(BEYOND_ALL));
	json_object_set_new(params, "stderr_offset", json_integer(BEYOND_ALL));
	if (status == EXIT_OK && !shell->stopped_by) {
		request(shell, "process.wait", params, on_end);
		loop_run(shell->ctl->loop);
	} else {
		json_decref(params);
	}
	stop_watchers(shell);
	terminal_restore();
	if (shell->stopped_by)
		hang_up(shell);
	return status == EXIT_OK || shell->stopped_by ? exit_status(shell) : EXIT_SANDBOX;
}

static int add_words(json_t *params, const struct arguments *arguments)
{
	json_t *words = json_array();
	int r = json_object_set_new(params, "argv", words);

	for (size_t i = 0; i < arguments->rest_count; i++)
		if (json_array_append_new(words, json_string(arguments->rest[i])) < 0) {
			output_error("Word %zu is not UTF-8 text", i + 1);
			return -EINVAL;
		}
	if (arguments->rest_count == 0)
		r |= json_array_append_new(words, json_string("bash"));
	return r;
}

static void add_environment(json_t *params, const struct shell *shell,
			    const struct option_value *given)
{
	const char *type = getenv("TERM");
	json_t *env = json_object();

	if (shell->has_terminal) {
		json_object_set_new(env, "PS1", json_string("\\u@\\h:\\w\\$ "));
		if (type && *type)
			json_object_set_new(env, "TERM", json_string(type));
	}
	if (given->is_set)
		json_object_update(env, given->pairs);
	json_object_set_new(params, "env", env);
}

/* EXIT_OK with the started process in `ret`. */
static int start(struct shell *shell, const struct arguments *arguments, json_t **ret)
{
	const char *cwd = arguments->options[SHELL_CWD].text;
	json_t *params = json_pack("{s:s, s:b, s:s*}", "session", shell->session, "background", 1,
				   "cwd", cwd);

	if (!params || add_words(params, arguments) < 0) {
		json_decref(params);
		return EXIT_USAGE;
	}
	add_environment(params, shell, &arguments->options[SHELL_ENV]);
	if (shell->has_terminal)
		json_object_set_new(params, "terminal", terminal_size(STDIN_FILENO));
	return ctl_fetch(shell->ctl, "session.exec", params, ret);
}

static int run_in(struct shell *shell, const struct arguments *arguments)
{
	json_auto_t *started = NULL;
	int status = start(shell, arguments, &started);

	if (status != EXIT_OK)
		return EXIT_SANDBOX;
	shell->process = json_string_value(json_object_get(started, "process"));
	if (shell->has_terminal && terminal_make_raw(STDIN_FILENO) < 0)
		output_note("The terminal cannot be set: keys are sent a line at a time");
	status = follow(shell);
	json_decref(shell->result);
	json_decref(shell->error);
	return status;
}

/* A session that goes with our connection. */
static int make_session(struct ctl *ctl, const char *language, json_t **ret)
{
	struct call_result call =
		ctl_call(ctl, "session.create",
			 json_pack("{s:s, s:s*}", "bind", "connection", "language", language), 0);

	if (call.outcome != CALL_RESULT) {
		int status = ctl_report(ctl, &call);

		json_decref(call.value);
		return status > EXIT_SIGNALED ? status : EXIT_SANDBOX;
	}
	*ret = call.value;
	return EXIT_OK;
}

static int shell_run(struct ctl *ctl, const struct arguments *arguments)
{
	const struct option_value *language = &arguments->options[SHELL_LANGUAGE];
	struct shell shell = {.ctl = ctl,
			      .session = arguments->operands[0],
			      .has_terminal = isatty(STDIN_FILENO)};
	json_auto_t *made = NULL;
	int status = EXIT_OK;

	if (shell.session && language->is_set) {
		output_error("Both a session and a language for a new one are given");
		return EXIT_SANDBOX;
	}
	if (!shell.session)
		status = make_session(ctl, language->text, &made);
	if (status != EXIT_OK)
		return status;
	shell.session = shell.session ?: json_string_value(json_object_get(made, "session"));
	return run_in(&shell, arguments);
}

const struct verb verb_shell = {
	.name = "shell",
	.synopsis = "[SESSION | -l LANG] [-- WORD...]",
	.summary = "A shell in a session, on this terminal",
	.details =
		"It runs beside the session's programs, in the session that is named or in a new "
		"one that closes with it. Words behind '--' are another program than bash.\n"
		"\n"
		"All keys go there, Ctrl-C and Ctrl-D too, and it follows the size of this "
		"terminal. When standard input is no terminal, it is the shell's as it is, and so "
		"are its outputs.\n"
		"\n"
		"The exit status is the shell's; 128 plus the signal's number when one has ended "
		"it, or us, 125 when it could not be run.",
	.options = options,
	.operands_max = 1,
	.takes_rest = true,
	.usage_status = EXIT_SANDBOX,
	.handler = shell_run,
};
