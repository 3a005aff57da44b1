/* SPDX-License-Identifier: Apache-2.0 */
/* execsandboxctl ls: what is in a directory of a session. */
#include "ctl/copy_path.h"
#include "ctl/ctl.h"
#include "ctl/output.h"
#include "ctl/source.h"
#include "ctl/table.h"
#include "protocol/rpc_error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { LS_RECURSIVE };

static const struct verb_option options[] = {
	[LS_RECURSIVE] = {"recursive", 'r', OPTION_FLAG, NULL, 0, 0,
			  "Also what is in the directories below"},
	{.name = NULL},
};

static const struct column columns[] = {
	{"MODE", "mode", CELL_TEXT},
	{"SIZE", "size", CELL_NUMBER},
	{"MODIFIED", "mtime", CELL_TEXT},
	{"NAME", "name", CELL_TEXT},
	{.title = NULL},
};

/* "-rw-r--r--" */
static json_t *mode_text(const json_t *entry)
{
	static const char *const types[] = {"-file", "ddirectory", "lsymlink",
					    "pfifo", "ssocket",    "cdevice"};
	static const char letters[] = "rwxrwxrwx";
	const char *type = json_string_value(json_object_get(entry, "type")) ?: "";
	const char *mode = json_string_value(json_object_get(entry, "mode")) ?: "";
	unsigned long bits = strtoul(mode, NULL, 8);
	char text[] = "?---------";

	for (size_t i = 0; i < ELEMENTSOF(types); i++)
		if (strcmp(types[i] + 1, type) == 0)
			text[0] = types[i][0];
	for (size_t i = 0; i < 9; i++)
		if (bits & (0400u >> i))
			text[1 + i] = letters[i];
	if (bits & 04000)
		text[3] = bits & 0100 ? 's' : 'S';
	if (bits & 02000)
		text[6] = bits & 0010 ? 's' : 'S';
	if (bits & 01000)
		text[9] = bits & 0001 ? 't' : 'T';
	return json_string(text);
}

/* As it is, or without the bytes that are not text. New string, or NULL. */
static char *name_text(const json_t *entry, const char *key, const char *encoding_key)
{
	const char *encoding = json_string_value(json_object_get(entry, encoding_key));
	uint8_t *bytes = NULL;
	ssize_t len = source_get_bytes(json_object_get(entry, key), encoding, &bytes);
	char *text = len < 0 ? NULL : strndup((char *)bytes, (size_t)len);

	free(bytes);
	for (char *at = text; at && encoding && *at; at++)
		if ((unsigned char)*at < ' ' || (unsigned char)*at >= 127)
			*at = '?';
	return text;
}

static json_t *row_of(const json_t *entry)
{
	_cleanup_free_ char *name = name_text(entry, "name", "encoding");
	_cleanup_free_ char *target = name_text(entry, "target", "target_encoding");

	return json_pack("{s:o, s:O*, s:O*, s:o}", "mode", mode_text(entry), "size",
			 json_object_get(entry, "size"), "mtime", json_object_get(entry, "mtime"),
			 "name",
			 json_sprintf("%s%s%s", name ?: "?", target ? " -> " : "", target ?: ""));
}

static int print(const json_t *list)
{
	json_auto_t *rows = json_array();
	const json_t *entry;
	size_t i;

	json_array_foreach (json_object_get(list, "entries"), i, entry)
		json_array_append_new(rows, row_of(entry));
	if (json_array_size(rows) == 0)
		output_note("There is nothing in it");
	else if (table_print(columns, rows) < 0)
		return ctl_printed(-ENOMEM);
	if (json_is_true(json_object_get(list, "truncated")))
		output_hint("there is more than fits into one list: name a directory below");
	return EXIT_OK;
}

/* The list; of what is no directory itself. */
static int fetch(struct ctl *ctl, const struct place_name *place, bool is_recursive, json_t **ret)
{
	json_auto_t *params =
		json_pack("{s:s, s:s}", "session", place->session, "path", place->path);
	struct call_result call;
	int status;

	if (!params) {
		output_error("'%s' is not UTF-8 text", place->path);
		return EXIT_USAGE;
	}
	json_object_set_new(params, "recursive", json_boolean(is_recursive));
	call = ctl_call(ctl, "file.list", json_incref(params), 0);
	if (call.outcome == CALL_ERROR &&
	    json_integer_value(json_object_get(call.value, "code")) == RPC_NOT_DIRECTORY) {
		json_decref(call.value);
		json_object_del(params, "recursive");
		call = ctl_call(ctl, "file.stat", json_incref(params), 0);
		if (call.outcome == CALL_RESULT)
			call.value = json_pack("{s:[o]}", "entries", call.value);
	}
	status = ctl_report(ctl, &call);
	if (call.outcome == CALL_RESULT)
		*ret = call.value;
	else
		json_decref(call.value);
	return status;
}

static int ls(struct ctl *ctl, const struct arguments *arguments)
{
	const char *word = arguments->operands[0];
	_cleanup_(place_name_fini) struct place_name place = {0};
	json_auto_t *list = NULL;
	int status;

	if (place_name_parse(word, &place) == 0 && !place.session)
		place = (struct place_name){.session = strdup(word), .path = ""};
	if (!place.session)
		return ctl_printed(-ENOMEM);
	status = fetch(ctl, &place, arguments->options[LS_RECURSIVE].is_set, &list);
	if (status != EXIT_OK)
		return status;
	return ctl->is_json ? ctl_printed(output_json(list, false)) : print(list);
}

const struct verb verb_ls = {
	.name = "ls",
	.synopsis = "[-r] SESSION[:PATH]",
	.summary = "List the files of a session",
	.details = "PATH is one below /home/user, which is what is listed without it.",
	.options = options,
	.operands_min = 1,
	.operands_max = 1,
	.usage_status = EXIT_USAGE,
	.handler = ls,
};
