/* SPDX-License-Identifier: Apache-2.0 */
/* execsandboxctl session ps, kill, wait, write: background processes of a session. */
#include "ctl/output.h"
#include "ctl/run.h"
#include "ctl/source.h"
#include "ctl/table.h"

#include <errno.h>
#include <string.h>

static const struct column columns[] = {
	{"PROCESS", "process", CELL_TEXT},
	{"STATE", "state", CELL_TEXT},
	{"STATUS", "status", CELL_TEXT},
	{"EXIT", "exit_code", CELL_NUMBER},
	{"STARTED", "started_at", CELL_TEXT},
	{"STDOUT", "stdout_bytes", CELL_NUMBER},
	{"STDERR", "stderr_bytes", CELL_NUMBER},
	{"COMMAND", "command", CELL_TEXT},
	{.title = NULL},
};

static json_t *params_of(const struct arguments *arguments)
{
	return json_pack("{s:s, s:s}", "session", arguments->operands[0], "process",
			 arguments->operands[1]);
}

static int ps(struct ctl *ctl, const struct arguments *arguments)
{
	json_auto_t *result = NULL;
	json_t *list;
	int status = ctl_fetch(ctl, "process.list",
			       json_pack("{s:s}", "session", arguments->operands[0]), &result);

	if (status != EXIT_OK)
		return status;
	if (ctl->is_json)
		return ctl_printed(output_json(result, false));
	list = json_object_get(result, "processes");
	if (json_array_size(list) == 0) {
		output_note("There is no background process");
		return EXIT_OK;
	}
	return ctl_printed(table_print(columns, list));
}

const struct verb verb_session_ps = {
	.name = "session ps",
	.synopsis = "SESSION",
	.summary = "List a session's background processes, and the last that have ended",
	.operands_min = 1,
	.operands_max = 1,
	.usage_status = EXIT_USAGE,
	.handler = ps,
};

/* --- kill --- */

enum { KILL_SIGNAL };

static const struct verb_option kill_options[] = {
	[KILL_SIGNAL] = {"signal", 'S', OPTION_TEXT, "NAME", 0, 0, "Such as INT; TERM by default"},
	{.name = NULL},
};

static int kill_process(struct ctl *ctl, const struct arguments *arguments)
{
	const char *name = arguments->options[KILL_SIGNAL].text;
	json_auto_t *result = NULL;
	json_t *params = params_of(arguments);

	if (name)
		json_object_set_new(params, "signal", json_string(name));
	return ctl_fetch(ctl, "process.signal", params, &result);
}

const struct verb verb_session_kill = {
	.name = "session kill",
	.synopsis = "SESSION PROCESS",
	.summary = "Send a signal to a background process",
	.details = "It goes to the program's process group; KILL ends all that it has started.",
	.options = kill_options,
	.operands_min = 2,
	.operands_max = 2,
	.usage_status = EXIT_USAGE,
	.handler = kill_process,
};

/* --- wait --- */

static int wait_for(struct ctl *ctl, const struct arguments *arguments)
{
	return run_call(ctl, "process.wait", params_of(arguments));
}

const struct verb verb_session_wait = {
	.name = "session wait",
	.synopsis = "SESSION PROCESS",
	.summary = "Wait for the end of a background process, and show what it has written",
	.details = "Of each output the last bytes are kept, 1 MiB as the daemon comes. The exit "
		   "status is as of 'run'; Ctrl-C ends the waiting, and the process goes on.",
	.operands_min = 2,
	.operands_max = 2,
	.usage_status = EXIT_SANDBOX,
	.handler = wait_for,
};

/* --- write --- */

enum { WRITE_END };

static const struct verb_option write_options[] = {
	[WRITE_END] = {"end", 0, OPTION_FLAG, NULL, 0, 0, "And then end its standard input"},
	{.name = NULL},
};

/* Of one call: within what waits for one process at a time. */
#define WRITE_BYTES (1u << 20)

/* As long as it takes: a process that does not read holds us up. */
static int write_piece(struct ctl *ctl, const struct arguments *arguments, const char *bytes,
		       size_t len)
{
	json_t *params = params_of(arguments);
	struct call_result call;
	int status;

	if (source_set_bytes(params, "data", "encoding", bytes, len) < 0) {
		json_decref(params);
		return EXIT_ERROR;
	}
	call = ctl_call(ctl, "process.write", params, 0);
	status = ctl_report(ctl, &call);
	json_decref(call.value);
	return status;
}

static int write_input(struct ctl *ctl, const struct arguments *arguments)
{
	_cleanup_free_ char *bytes = malloc(WRITE_BYTES);
	json_auto_t *result = NULL;
	int status = bytes ? EXIT_OK : EXIT_ERROR;
	ssize_t n = 1;

	while (status == EXIT_OK && n > 0) {
		n = read(STDIN_FILENO, bytes, WRITE_BYTES);
		if (n < 0) {
			output_error("Cannot read standard input: %s", strerror(errno));
			return EXIT_ERROR;
		}
		if (n > 0)
			status = write_piece(ctl, arguments, bytes, (size_t)n);
	}
	if (status == EXIT_OK && arguments->options[WRITE_END].is_set)
		status = ctl_fetch(ctl, "process.close_stdin", params_of(arguments), &result);
	return status;
}

const struct verb verb_session_write = {
	.name = "session write",
	.synopsis = "SESSION PROCESS",
	.summary = "Write standard input to a background process",
	.options = write_options,
	.operands_min = 2,
	.operands_max = 2,
	.usage_status = EXIT_USAGE,
	.handler = write_input,
};
