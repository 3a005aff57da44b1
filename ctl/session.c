/* SPDX-License-Identifier: Apache-2.0 */
/* execsandboxctl session create, exec, result, list, info, update, close: VMs to keep. */
#include "ctl/output.h"
#include "ctl/run.h"
#include "ctl/table.h"

#include <errno.h>
#include <stdio.h>

static const struct column columns[] = {
	{"SESSION", "session", CELL_TEXT},
	{"NAME", "name", CELL_TEXT},
	{"STATE", "state", CELL_TEXT},
	{"LANGUAGE", "language", CELL_TEXT},
	{"VM", "vm", CELL_TEXT},
	{"MEMORY MB", "memory_mb", CELL_NUMBER},
	{"EXECS", "execs", CELL_NUMBER},
	{"QUEUED", "queued", CELL_NUMBER},
	{"IDLE SINCE", "idle_since", CELL_TEXT},
	{"UID", "uid", CELL_NUMBER},
	{.title = NULL},
};

static int print(const struct ctl *ctl, const json_t *session)
{
	if (ctl->is_json)
		return ctl_printed(output_json(session, false));
	members_print(session);
	return EXIT_OK;
}

/* --- create and update --- */

/* The first are those of update, too. */
enum { SESSION_NAME, SESSION_IDLE, SESSION_TIMEOUT, SESSION_LANGUAGE, SESSION_MEMORY, SESSION_ENV };

#define SETTINGS                                                                              \
	[SESSION_NAME] = {"name", 'n', OPTION_TEXT, "NAME", 0, 0, "Another name for its id"}, \
	[SESSION_IDLE] = {"idle-timeout",                                                     \
			  'i',                                                                \
			  OPTION_NUMBER,                                                      \
			  "SECONDS",                                                          \
			  0,                                                                  \
			  0,                                                                  \
			  "Close it when nothing has run in it for so long"},                 \
	[SESSION_TIMEOUT] = {"timeout",                                                       \
			     't',                                                             \
			     OPTION_NUMBER,                                                   \
			     "SECONDS",                                                       \
			     0,                                                               \
			     0,                                                               \
			     "Close it so long from now, whatever runs"}

static const struct verb_option create_options[] = {
	SETTINGS,
	[SESSION_LANGUAGE] = {"language", 'l', OPTION_TEXT, "LANG", 0, 0,
			      "Whose VM: python (default), javascript or shell"},
	[SESSION_MEMORY] = {"memory", 'm', OPTION_INTEGER, "MB", 0, 0,
			    "Memory each of its programs may use, in MiB"},
	[SESSION_ENV] = {"env", 'e', OPTION_PAIR, "NAME=VALUE", 0, 0,
			 "Environment variable of all its programs; may be repeated"},
	{.name = NULL},
};

static const struct verb_option update_options[] = {SETTINGS, {.name = NULL}};

/* NULL after the reason was printed. */
static json_t *settings(const struct option_value *values)
{
	json_t *params = json_pack("{s:s*}", "name", values[SESSION_NAME].text);

	if (!params) {
		output_error("The name is not UTF-8 text");
		return NULL;
	}
	if (values[SESSION_IDLE].is_set)
		json_object_set_new(params, "idle_timeout_seconds",
				    json_real(values[SESSION_IDLE].number));
	if (values[SESSION_TIMEOUT].is_set)
		json_object_set_new(params, "timeout_seconds",
				    json_real(values[SESSION_TIMEOUT].number));
	return params;
}

static int create(struct ctl *ctl, const struct arguments *arguments)
{
	const struct option_value *values = arguments->options;
	json_t *params = settings(values);
	json_auto_t *result = NULL;
	struct call_result call;
	int status;

	if (!params)
		return EXIT_USAGE;
	if (values[SESSION_LANGUAGE].is_set)
		json_object_set_new(params, "language", json_string(values[SESSION_LANGUAGE].text));
	if (values[SESSION_ENV].is_set)
		json_object_set(params, "env", values[SESSION_ENV].pairs);
	if (values[SESSION_MEMORY].is_set)
		json_object_set_new(
			params, "limits",
			json_pack("{s:I}", "memory_mb", (json_int_t)values[SESSION_MEMORY].number));
	/* It may wait in the queue for its VM, longer than other calls take. */
	call = ctl_call(ctl, "session.create", params, 0);
	if (call.outcome != CALL_RESULT) {
		status = ctl_report(ctl, &call);
		json_decref(call.value);
		return status;
	}
	result = call.value;
	if (ctl->is_json)
		return print(ctl, result);
	/* For scripts: SESSION=$(execsandboxctl session create). */
	puts(json_string_value(json_object_get(result, "session")));
	return EXIT_OK;
}

const struct verb verb_session_create = {
	.name = "session create",
	.synopsis = "",
	.summary = "Make a session, a VM to keep, and print its id",
	.details = "Programs run in it one after the other with 'session exec'; files and "
		   "installed things stay from one to the next. It closes when it is told to, or "
		   "when nothing has run in it for its idle timeout.",
	.options = create_options,
	.usage_status = EXIT_USAGE,
	.handler = create,
};

static int update(struct ctl *ctl, const struct arguments *arguments)
{
	json_t *params = settings(arguments->options);
	json_auto_t *result = NULL;
	int status;

	if (!params)
		return EXIT_USAGE;
	json_object_set_new(params, "session", json_string(arguments->operands[0]));
	status = ctl_fetch(ctl, "session.update", params, &result);
	return status == EXIT_OK ? print(ctl, result) : status;
}

const struct verb verb_session_update = {
	.name = "session update",
	.synopsis = "SESSION",
	.summary = "Change a session's timeouts or name",
	.options = update_options,
	.operands_min = 1,
	.operands_max = 1,
	.usage_status = EXIT_USAGE,
	.handler = update,
};

/* --- list, info, close --- */

static int list(struct ctl *ctl, const struct arguments *arguments UNUSED)
{
	json_auto_t *result = NULL, *all = json_array();
	json_t *cursor = NULL;
	int status;

	do {
		json_t *params = json_pack("{s:O*}", "cursor", cursor);

		json_decref(result);
		result = NULL;
		status = ctl_fetch(ctl, "session.list", params, &result);
		if (status != EXIT_OK)
			return status;
		json_array_extend(all, json_object_get(result, "sessions"));
		cursor = json_object_get(result, "next_cursor");
	} while (cursor);
	json_object_set(result, "sessions", all);
	if (ctl->is_json)
		return ctl_printed(output_json(result, false));
	if (json_array_size(all) == 0) {
		output_note("There is no session");
		return EXIT_OK;
	}
	return ctl_printed(table_print(columns, all));
}

const struct verb verb_session_list = {
	.name = "session list",
	.synopsis = "",
	.summary = "List your sessions; all of them for an admin",
	.usage_status = EXIT_USAGE,
	.handler = list,
};

static int info(struct ctl *ctl, const struct arguments *arguments)
{
	json_auto_t *result = NULL;
	int status = ctl_fetch(ctl, "session.info",
			       json_pack("{s:s}", "session", arguments->operands[0]), &result);

	return status == EXIT_OK ? print(ctl, result) : status;
}

const struct verb verb_session_info = {
	.name = "session info",
	.synopsis = "SESSION",
	.summary = "Show one session: state, VM, times",
	.operands_min = 1,
	.operands_max = 1,
	.usage_status = EXIT_USAGE,
	.handler = info,
};

static int close_session(struct ctl *ctl, const struct arguments *arguments)
{
	json_auto_t *result = NULL;
	int status = ctl_fetch(ctl, "session.close",
			       json_pack("{s:s}", "session", arguments->operands[0]), &result);

	return status == EXIT_OK && ctl->is_json ? print(ctl, result) : status;
}

const struct verb verb_session_close = {
	.name = "session close",
	.synopsis = "SESSION",
	.summary = "Close a session: its programs end, and its VM",
	.operands_min = 1,
	.operands_max = 1,
	.usage_status = EXIT_USAGE,
	.handler = close_session,
};

/* --- exec --- */

enum {
	EXEC_COMMAND,
	EXEC_CODE,
	EXEC_TIMEOUT,
	EXEC_ENV,
	EXEC_CWD,
	EXEC_BACKGROUND,
	EXEC_ID,
	EXEC_NO_STREAM
};

static const struct verb_option exec_options[] = {
	[EXEC_COMMAND] = {"command", 'c', OPTION_TEXT, "COMMAND", 0, 0, "A program for the shell"},
	[EXEC_CODE] = {"code", 'p', OPTION_TEXT, "CODE", 0, 0,
		       "Code for the session's interpreter, which keeps what it defines"},
	[EXEC_TIMEOUT] = {"timeout", 't', OPTION_NUMBER, "SECONDS", 0, 0,
			  "Wall-clock time the program may take"},
	[EXEC_ENV] = {"env", 'e', OPTION_PAIR, "NAME=VALUE", 0, 0,
		      "Environment variable; may be repeated"},
	[EXEC_CWD] = {"cwd", 'C', OPTION_TEXT, "DIRECTORY", 0, 0,
		      "Directory to start in, from /home/user if it is relative"},
	[EXEC_BACKGROUND] = {"background", 'b', OPTION_FLAG, NULL, 0, 0,
			     "Print its id when it has started, and leave it: see session ps"},
	[EXEC_ID] = {"exec-id", 0, OPTION_TEXT, "ID", 0, 0,
		     "Your name for it: it goes on when you leave, see session result"},
	[EXEC_NO_STREAM] = {"no-stream", 0, OPTION_FLAG, NULL, 0, 0,
			    "Print the output at the end, not as it comes"},
	{.name = NULL},
};

static int add_text(json_t *params, const char *key, const char *text)
{
	if (json_object_set_new(params, key, json_string(text)) < 0) {
		output_error("The %s is not UTF-8 text", key);
		return -EINVAL;
	}
	return 0;
}

static int add_words(json_t *params, const char *key, const struct arguments *arguments)
{
	json_auto_t *words = json_array();

	for (size_t i = 0; i < arguments->rest_count; i++)
		if (json_array_append_new(words, json_string(arguments->rest[i])) < 0) {
			output_error("Word %zu is not UTF-8 text", i + 1);
			return -EINVAL;
		}
	return json_object_set(params, key, words);
}

static int add_program(json_t *params, const struct arguments *arguments)
{
	const char *command = arguments->options[EXEC_COMMAND].text;
	const char *code = arguments->options[EXEC_CODE].text;
	bool has_words = arguments->rest_count > 0;
	int r;

	if (command ? code != NULL : !code && !has_words) {
		output_error(command ? "More programs than one are given"
				     : "There is no program to run");
		output_hint("give one of -p CODE, -c COMMAND, and a program and its arguments "
			    "behind '--'");
		return -EINVAL;
	}
	if (!command && !code)
		return add_words(params, "argv", arguments);
	r = command ? add_text(params, "command", command) : add_text(params, "code", code);
	return r == 0 && has_words ? add_words(params, "args", arguments) : r;
}

static int add_options(json_t *params, const struct option_value *values)
{
	const char *cwd = values[EXEC_CWD].text;

	if (cwd && add_text(params, "cwd", cwd) < 0)
		return -EINVAL;
	if (values[EXEC_TIMEOUT].is_set)
		json_object_set_new(params, "timeout_seconds",
				    json_real(values[EXEC_TIMEOUT].number));
	if (values[EXEC_ENV].is_set)
		json_object_set(params, "env", values[EXEC_ENV].pairs);
	if (values[EXEC_ID].is_set)
		json_object_set_new(params, "exec_id", json_string(values[EXEC_ID].text));
	return 0;
}

/* What is on our standard input stays there: 'session write' is for that. */
static int exec_background(struct ctl *ctl, json_t *params_take)
{
	json_auto_t *result = NULL;

	json_object_set_new(params_take, "background", json_true());
	if (ctl_fetch(ctl, "session.exec", params_take, &result) != EXIT_OK)
		return EXIT_SANDBOX;
	if (ctl->is_json)
		return print(ctl, result);
	puts(json_string_value(json_object_get(result, "process")));
	return EXIT_OK;
}

static int exec(struct ctl *ctl, const struct arguments *arguments)
{
	const struct option_value *values = arguments->options;
	json_auto_t *params = json_pack("{s:s}", "session", arguments->operands[0]);

	if (!params) {
		output_error("'%s' is not UTF-8 text", arguments->operands[0]);
		return EXIT_SANDBOX;
	}
	if (add_program(params, arguments) < 0 || add_options(params, values) < 0)
		return EXIT_SANDBOX;
	if (values[EXEC_BACKGROUND].is_set)
		return exec_background(ctl, TAKE_PTR(params));
	if (run_add_stdin(params) < 0)
		return EXIT_SANDBOX;
	if (!ctl->is_json && !values[EXEC_NO_STREAM].is_set)
		json_object_set_new(params, "stream", json_true());
	return run_call(ctl, "session.exec", TAKE_PTR(params));
}

const struct verb verb_session_exec = {
	.name = "session exec",
	.synopsis = "SESSION (-p CODE [-- ARG...] | -c COMMAND [-- ARG...] | -- WORD...)",
	.summary = "Run a program in a session, behind those that came before",
	.details = "Output, standard input and the exit status are as of 'run'. Ctrl-C stops the "
		   "program; the session stays.",
	.options = exec_options,
	.operands_min = 1,
	.operands_max = 1,
	.takes_rest = true,
	.usage_status = EXIT_SANDBOX,
	.handler = exec,
};

/* --- result --- */

static int result(struct ctl *ctl, const struct arguments *arguments)
{
	json_auto_t *result = NULL;
	int status = ctl_fetch(ctl, "session.result",
			       json_pack("{s:s}", "exec_id", arguments->operands[0]), &result);

	return status == EXIT_OK ? print(ctl, result) : status;
}

const struct verb verb_session_result = {
	.name = "session result",
	.synopsis = "EXEC-ID",
	.summary = "Show the result of a program that has an exec id, or how far it is",
	.operands_min = 1,
	.operands_max = 1,
	.usage_status = EXIT_USAGE,
	.handler = result,
};
