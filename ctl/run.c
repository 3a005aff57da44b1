/* SPDX-License-Identifier: Apache-2.0 */
/*
 * execsandboxctl run: a program's output as it comes, and its exit status as our own.
 *
 * Theory of operation: one request with "stream":true. Its run.output notifications are written
 * out as they come and counted; the result repeats the output, and what of it was not written yet
 * is written then, so that nothing is lost or shown twice whichever way it came. SIGINT, SIGTERM
 * or a reader of our stdout that went away cancel the request; the reply to that still brings the
 * partial output.
 */
#include "ctl/run.h"

#include "ctl/output.h"
#include "ctl/source.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>

enum { RUN_CODE, RUN_LANGUAGE, RUN_TIMEOUT, RUN_MEMORY, RUN_ENV, RUN_EXEC_ID, RUN_NO_STREAM };

static const struct verb_option options[] = {
	[RUN_CODE] = {"code", 'c', OPTION_TEXT, "CODE", 0, 0, "The program itself"},
	[RUN_LANGUAGE] = {"language", 'l', OPTION_TEXT, "LANG", 0, 0,
			  "python, javascript or shell; else by the file's extension or first "
			  "line, else python"},
	[RUN_TIMEOUT] = {"timeout", 't', OPTION_NUMBER, "SECONDS", 0, 0,
			 "Wall-clock time the program may take"},
	[RUN_MEMORY] = {"memory", 'm', OPTION_INTEGER, "MB", 0, 0,
			"Memory the program may use, in MiB"},
	[RUN_ENV] = {"env", 'e', OPTION_PAIR, "NAME=VALUE", 0, 0,
		     "Environment variable; may be repeated"},
	[RUN_EXEC_ID] = {"exec-id", 0, OPTION_TEXT, "ID", 0, 0,
			 "Your name for it: it goes on when you leave, see session result"},
	[RUN_NO_STREAM] = {"no-stream", 0, OPTION_FLAG, NULL, 0, 0,
			   "Print the output at the end, not as it comes"},
	{.name = NULL},
};

/* After cancelling, how long the partial output is waited for: the daemon kills at once, and its
 * own kill grace may be set to 5 s (execsandboxd.conf(5), kill_grace_ms). */
#define CANCEL_SECONDS 6.0

enum run_state {
	RUN_WAITING,    /* for output and the reply */
	RUN_CANCELLING, /* $/cancelRequest was sent: the same, but not for long */
	RUN_DONE,       /* the reply is here, or waiting is over */
};

enum { STDOUT, STDERR, STREAM_COUNT };
static const struct {
	const char *name, *encoding_key;
	int fd;
} streams[STREAM_COUNT] = {
	[STDOUT] = {"stdout", "stdout_encoding", STDOUT_FILENO},
	[STDERR] = {"stderr", "stderr_encoding", STDERR_FILENO},
};

struct run {
	struct ctl *ctl;
	enum run_state state;
	json_int_t id;
	json_t *result, *error; /* of the reply */
	size_t written[STREAM_COUNT];
	int stopped_by; /* signal that ended the waiting: SIGINT, SIGTERM, SIGPIPE; else 0 */
	ev_timer patience;
};

static void set_state(struct run *run, enum run_state state)
{
	if (run->state == state || run->state == RUN_DONE)
		return;
	run->state = state;
	switch (state) {
	case RUN_WAITING:
		break;
	case RUN_CANCELLING:
		if (run->ctl->client)
			client_notify(run->ctl->client, "$/cancelRequest",
				      json_pack("{s:I}", "id", run->id));
		loop_timer_start(run->ctl->loop, &run->patience, CANCEL_SECONDS);
		break;
	case RUN_DONE:
		loop_timer_stop(run->ctl->loop, &run->patience);
		loop_stop(run->ctl->loop);
		break;
	}
}

/* The first signal asks the daemon to stop the program, a second one stops us. */
static void stop(struct run *run, int signal_number)
{
	if (!run->stopped_by)
		run->stopped_by = signal_number;
	set_state(run, run->state == RUN_WAITING ? RUN_CANCELLING : RUN_DONE);
}

static void on_interrupt(void *user, int signal_number)
{
	stop(user, signal_number);
}

static void on_patience_over(struct ev_loop *ev UNUSED, ev_timer *timer, int events UNUSED)
{
	set_state(timer->data, RUN_DONE);
}

static void write_bytes(struct run *run, size_t stream, const uint8_t *bytes, size_t len)
{
	if (run->stopped_by == SIGPIPE)
		return;
	if (output_bytes(streams[stream].fd, bytes, len) == 0)
		run->written[stream] += len;
	else if (run->state == RUN_WAITING)
		stop(run, SIGPIPE);
	else
		run->stopped_by = SIGPIPE;
}

/* Writes the bytes of `text` behind the first `skip` ones. */
static void write_text(struct run *run, size_t stream, const json_t *text, const char *encoding,
		       size_t skip)
{
	uint8_t *bytes = NULL;
	ssize_t len = source_get_bytes(text, encoding, &bytes);

	if (len < 0)
		return;
	if ((size_t)len > skip)
		write_bytes(run, stream, bytes + skip, (size_t)len - skip);
	free(bytes);
}

static void on_notification(void *user, const char *method, const json_t *params)
{
	struct run *run = user;
	const char *stream = json_string_value(json_object_get(params, "stream"));
	const char *encoding = json_string_value(json_object_get(params, "encoding"));

	if (strcmp(method, "run.output") != 0 || !stream ||
	    json_integer_value(json_object_get(params, "id")) != run->id)
		return;
	for (size_t i = 0; i < STREAM_COUNT; i++)
		if (strcmp(stream, streams[i].name) == 0)
			write_text(run, i, json_object_get(params, "data"), encoding, 0);
}

static void on_reply(void *user, const json_t *result, const json_t *error)
{
	struct run *run = user;

	run->result = json_incref((json_t *)result);
	run->error = json_incref((json_t *)error);
	set_state(run, RUN_DONE);
}

/* What of a RunResult's output was not streamed. */
static void write_rest(struct run *run, const json_t *result)
{
	for (size_t i = 0; i < STREAM_COUNT; i++) {
		const char *encoding =
			json_string_value(json_object_get(result, streams[i].encoding_key));

		write_text(run, i, json_object_get(result, streams[i].name), encoding,
			   run->written[i]);
	}
}

static void print_notes(const json_t *result)
{
	static const char *const truncated[] = {"stdout_truncated", "stderr_truncated"};
	static const char *const bytes[] = {"stdout_bytes", "stderr_bytes"};
	const char *status = json_string_value(json_object_get(result, "status")) ?: "";
	char size[BYTES_TEXT_SIZE];

	for (size_t i = 0; i < STREAM_COUNT; i++)
		if (json_is_true(json_object_get(result, truncated[i])))
			output_note(
				"%s was cut: the program wrote %s", streams[i].name,
				format_bytes(json_number_value(json_object_get(result, bytes[i])),
					     size));
	if (strcmp(status, "timeout") == 0)
		output_note("The program ran out of time; --timeout gives it more");
	else if (strcmp(status, "oom") == 0)
		output_note("The program ran out of memory; limits.memory_mb of its run or session "
			    "gives it more");
}

static int result_status(const json_t *result)
{
	const char *status = json_string_value(json_object_get(result, "status"));
	const json_t *code = json_object_get(result, "exit_code");

	if (!status || !json_is_integer(code))
		return EXIT_SANDBOX;
	if (strcmp(status, "timeout") == 0)
		return EXIT_TIMEOUT;
	return (int)json_integer_value(code) & 0xff;
}

static int finish(struct run *run)
{
	const json_t *partial = json_object_get(json_object_get(run->error, "data"), "result");
	bool is_json = run->ctl->is_json;
	int r = 0;

	if (run->result && is_json)
		r = output_json(run->result, false);
	else if (run->result || partial)
		write_rest(run, run->result ?: partial);
	if (run->stopped_by)
		return EXIT_SIGNALED + run->stopped_by;
	if (r < 0)
		return ctl_printed(r) ? EXIT_SANDBOX : EXIT_OK;
	if (!run->result) {
		struct call_result call = {.outcome = run->error ? CALL_ERROR : CALL_LOST,
					   .value = run->error,
					   .error = run->ctl->end_error};

		ctl_report(run->ctl, &call);
		return EXIT_SANDBOX;
	}
	if (!is_json)
		print_notes(run->result);
	return result_status(run->result);
}

int run_call(struct ctl *ctl, const char *method, json_t *params_take)
{
	struct run run = {.ctl = ctl};
	int r = ctl_connect(ctl), status;

	if (r < 0) {
		json_decref(params_take);
		ctl_report_connect(ctl, r);
		return EXIT_SANDBOX;
	}
	ev_timer_init(&run.patience, on_patience_over, 0., 0.);
	run.patience.data = &run;
	ctl->on_notification = on_notification;
	ctl->on_interrupt = on_interrupt;
	ctl->notification_user = ctl->interrupt_user = &run;
	r = client_request(ctl->client, method, params_take, on_reply, &run, &run.id);
	if (r < 0) {
		struct call_result call = {.outcome = CALL_LOST, .error = r};

		ctl_report(ctl, &call);
		return EXIT_SANDBOX;
	}
	loop_run(ctl->loop);
	client_destroy(ctl->client); /* a second Ctrl-C ends without the reply */
	ctl->client = NULL;
	status = finish(&run);
	json_decref(run.result);
	json_decref(run.error);
	return status;
}

/* Reads the code, or says why not. */
static ssize_t read_code(const char *name, char **ret)
{
	bool is_stdin = strcmp(name, "-") == 0;
	_cleanup_close_ int fd = is_stdin ? -1 : open(name, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	ssize_t len;

	if (!is_stdin && fd < 0)
		len = -errno;
	else
		len = source_read(is_stdin ? STDIN_FILENO : fd, ret);
	if (len == -EFBIG)
		output_error("The code is over %u MiB", INPUT_MAX >> 20);
	else if (len < 0)
		output_error("Cannot read '%s': %s", is_stdin ? "standard input" : name,
			     strerror((int)-len));
	return len;
}

static int add_code(json_t *params, const struct arguments *arguments, bool *ret_used_stdin)
{
	const struct option_value *values = arguments->options;
	const char *name = arguments->operand_count ? arguments->operands[0] : "-";
	_cleanup_free_ char *read = NULL;
	const char *code = values[RUN_CODE].text, *language = values[RUN_LANGUAGE].text;
	ssize_t len;

	*ret_used_stdin = !code && strcmp(name, "-") == 0;
	if (*ret_used_stdin && arguments->operand_count == 0 && isatty(STDIN_FILENO)) {
		output_error("There is no code to run");
		output_hint("give -c CODE or a FILE, or pipe the code in; '-' reads the terminal");
		return -EINVAL;
	}
	len = code ? (ssize_t)strlen(code) : read_code(name, &read);
	if (len < 0)
		return -EINVAL;
	code = code ?: read;
	language =
		language
			?: source_language(*ret_used_stdin || values[RUN_CODE].is_set ? NULL : name,
					   code, (size_t)len);
	if (source_set_bytes(params, "code", NULL, code, (size_t)len) < 0) {
		output_error("The code is not UTF-8 text");
		return -EINVAL;
	}
	return json_object_set_new(params, "language", json_string(language ?: "python"));
}

/* Something may be waiting on standard input: passed on, unless a person would have to type it. */
int run_add_stdin(json_t *params)
{
	_cleanup_free_ char *bytes = NULL;
	ssize_t len;

	if (isatty(STDIN_FILENO))
		return 0;
	len = source_read(STDIN_FILENO, &bytes);
	if (len < 0) {
		output_error("Cannot read standard input: %s", strerror((int)-len));
		return -EINVAL;
	}
	return len == 0 ? 0
			: source_set_bytes(params, "stdin", "stdin_encoding", bytes, (size_t)len);
}

static int add_options(json_t *params, const struct arguments *arguments, bool is_streaming)
{
	const struct option_value *values = arguments->options;
	json_t *args = json_array();
	int r = 0;

	for (size_t i = 0; i < arguments->rest_count; i++)
		if (json_array_append_new(args, json_string(arguments->rest[i])) < 0) {
			output_error("Argument %zu is not UTF-8 text", i + 1);
			json_decref(args);
			return -EINVAL;
		}
	if (arguments->rest_count > 0)
		r |= json_object_set(params, "args", args);
	json_decref(args);
	if (values[RUN_ENV].is_set)
		r |= json_object_set(params, "env", values[RUN_ENV].pairs);
	if (values[RUN_TIMEOUT].is_set)
		r |= json_object_set_new(params, "timeout_seconds",
					 json_real(values[RUN_TIMEOUT].number));
	if (values[RUN_MEMORY].is_set)
		r |= json_object_set_new(
			params, "limits",
			json_pack("{s:I}", "memory_mb", (json_int_t)values[RUN_MEMORY].number));
	if (values[RUN_EXEC_ID].is_set)
		r |= json_object_set_new(params, "exec_id", json_string(values[RUN_EXEC_ID].text));
	if (is_streaming)
		r |= json_object_set_new(params, "stream", json_true());
	return r;
}

static int run(struct ctl *ctl, const struct arguments *arguments)
{
	bool is_streaming = !ctl->is_json && !arguments->options[RUN_NO_STREAM].is_set;
	json_auto_t *params = json_object();
	bool used_stdin;

	if (arguments->options[RUN_CODE].is_set && arguments->operand_count > 0) {
		output_error("Both --code and the file '%s' are given", arguments->operands[0]);
		output_hint("put the program's arguments behind '--'");
		return EXIT_SANDBOX;
	}
	if (add_code(params, arguments, &used_stdin) < 0)
		return EXIT_SANDBOX;
	if (!used_stdin && run_add_stdin(params) < 0)
		return EXIT_SANDBOX;
	if (add_options(params, arguments, is_streaming) < 0)
		return EXIT_SANDBOX;
	return run_call(ctl, "run", TAKE_PTR(params));
}

const struct verb verb_run = {
	.name = "run",
	.synopsis = "[-c CODE | FILE | -] [-- ARGUMENT...]",
	.summary = "Run a program in a fresh VM",
	.details =
		"The program comes from -c, from FILE, or from standard input when neither is "
		"given or FILE is '-'. With -c or a FILE, standard input is the program's own, "
		"unless it is a terminal. Words behind '--' are the program's arguments.\n"
		"\n"
		"Output appears as the program writes it. With --json the whole result is printed "
		"at the end instead.\n"
		"\n"
		"The exit status is the program's own; 124 when it ran out of time; 137 when it "
		"ran "
		"out of memory; 128 plus the signal's number when one killed it; 130 after Ctrl-C, "
		"which stops the program; 125 when it could not be run.",
	.options = options,
	.operands_max = 1,
	.takes_rest = true,
	.usage_status = EXIT_SANDBOX,
	.handler = run,
};
