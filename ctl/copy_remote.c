/* SPDX-License-Identifier: Apache-2.0 */
/* What a copy consists of: a tree in a session, as its guest claims it. */
#include "ctl/copy_path.h"
#include "ctl/copy_plan.h"
#include "ctl/output.h"
#include "protocol/rpc_error.h"

#include <errno.h>
#include <string.h>

/* Where a list is asked for, and from. */
struct lister {
	struct ctl *ctl;
	const char *session, *root;
	struct plan plan;
};

static const char *text(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key)) ?: "";
}

static int error_code(const struct call_result *call)
{
	return call->outcome == CALL_ERROR
		       ? (int)json_integer_value(json_object_get(call->value, "code"))
		       : 0;
}

static json_t *file_params(const char *session, const char *path)
{
	return json_pack("{s:s, s:s}", "session", session, "path", path);
}

static int refuse_guest(const char *path, const char *why)
{
	output_error("The session has a name that %s, '%s': nothing was copied", why, path);
	return EXIT_ERROR;
}

/* "2026-01-02T03:04:05.678Z"; not known when it is something else. */
static struct timespec parse_time(const char *text)
{
	struct timespec unknown = {.tv_nsec = UTIME_OMIT};
	struct tm tm = {0};
	const char *end = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
	unsigned millis = 0;

	if (!end || (*end == '.' && sscanf(end, ".%3uZ", &millis) != 1))
		return unknown;
	return (struct timespec){.tv_sec = timegm(&tm), .tv_nsec = (long)millis * 1000000};
}

static int add_failed(int error)
{
	output_error("Cannot copy so many files: %s", strerror(-error));
	return EXIT_ERROR;
}

/* Adds a file or directory as the guest tells of it, and leaves out anything else. */
static int add(struct plan *plan, const char *path, const json_t *from)
{
	json_int_t size = json_integer_value(json_object_get(from, "size"));
	const char *type = text(from, "type");
	const json_t *mode = json_object_get(from, "mode");
	bool is_directory = strcmp(type, "directory") == 0;
	struct plan_entry entry = {
		.is_directory = is_directory,
		/* No more than permissions: who copies may be root. */
		.mode = mode ? (mode_t)strtoul(text(from, "mode"), NULL, 8) & 0777 : MODE_UNKNOWN,
		.size = is_directory || size < 0 ? 0 : (uint64_t)size,
		.mtime = parse_time(text(from, "mtime")),
	};
	int r;

	if (!is_directory && strcmp(type, "file") != 0) {
		r = plan_leave_out(plan, path);
	} else {
		entry.path = strdup(path);
		r = entry.path ? plan_add(plan, &entry) : -ENOMEM;
	}
	return r < 0 ? add_failed(r) : EXIT_OK;
}

/* Adds an entry of the list of the directory `below`. */
static int add_listed(struct lister *lister, const char *below, const json_t *from)
{
	const json_t *name = json_object_get(from, "name");
	bool is_link = strcmp(text(from, "type"), "symlink") == 0;
	_cleanup_free_ char *path = path_join(below, json_string_value(name) ?: "");
	const char *why = path_refusal(json_string_value(name) ?: "", json_string_length(name));

	/* Of a link it may be the target that is not text. */
	if (!is_link && strcmp(text(from, "encoding"), "base64") == 0)
		return refuse_guest(text(from, "name"), "is not UTF-8 text (here as base64)");
	if (why && !is_link)
		return refuse_guest(json_string_value(name) ?: "", why);
	return path ? add(&lister->plan, path, from) : add_failed(-ENOMEM);
}

static int list(struct lister *lister, const char *below, unsigned depth);

/* A list was cut: one directory, and each in it by itself. */
static int list_each(struct lister *lister, const char *below, const json_t *entries,
		     unsigned depth)
{
	const json_t *from;
	size_t i;

	json_array_foreach (entries, i, from) {
		_cleanup_free_ char *path = path_join(below, text(from, "name"));
		int status = add_listed(lister, below, from);

		if (status == EXIT_OK && strcmp(text(from, "type"), "directory") == 0)
			status = path ? list(lister, path, depth + 1) : add_failed(-ENOMEM);
		if (status != EXIT_OK)
			return status;
	}
	return EXIT_OK;
}

static int fetch_list(struct lister *lister, const char *below, bool is_recursive, json_t **ret)
{
	_cleanup_free_ char *path = path_join(lister->root, below);
	json_t *params = path ? file_params(lister->session, path) : NULL;

	if (!params)
		return add_failed(-ENOMEM);
	json_object_set_new(params, "recursive", json_boolean(is_recursive));
	return ctl_fetch(lister->ctl, "file.list", params, ret);
}

static int list(struct lister *lister, const char *below, unsigned depth)
{
	json_auto_t *all = NULL, *one = NULL;
	const json_t *from;
	size_t i;
	int status = depth > PLAN_DEPTH_MAX ? refuse_guest(below, "is too deep")
					    : fetch_list(lister, below, true, &all);

	if (status != EXIT_OK)
		return status;
	if (json_is_true(json_object_get(all, "truncated"))) {
		status = fetch_list(lister, below, false, &one);
		if (status != EXIT_OK)
			return status;
		if (json_is_true(json_object_get(one, "truncated"))) {
			output_error("There is too much in '%s' for one list", below);
			return EXIT_ERROR;
		}
		return list_each(lister, below, json_object_get(one, "entries"), depth);
	}
	json_array_foreach (json_object_get(all, "entries"), i, from) {
		status = add_listed(lister, below, from);
		if (status != EXIT_OK)
			return status;
	}
	return EXIT_OK;
}

/* What a link leads to: the daemon describes the link itself. */
static int look_behind(struct ctl *ctl, const char *session, const char *path,
		       enum remote_type *ret)
{
	struct call_result call = ctl_call(ctl, "file.list", file_params(session, path), 0);
	int code = error_code(&call), status = EXIT_OK;

	*ret = REMOTE_OTHER;
	if (call.outcome == CALL_RESULT)
		*ret = REMOTE_DIRECTORY;
	else if (code == RPC_FILE_NOT_FOUND)
		*ret = REMOTE_NOTHING;
	else if (code != RPC_NOT_DIRECTORY)
		status = ctl_report(ctl, &call);
	json_decref(call.value);
	return status;
}

int remote_look(struct ctl *ctl, const char *session, const char *path, enum remote_type *ret)
{
	struct call_result call = ctl_call(ctl, "file.stat", file_params(session, path), 0);
	const char *type = text(call.value, "type");
	int status = EXIT_OK;

	*ret = REMOTE_OTHER;
	if (error_code(&call) == RPC_FILE_NOT_FOUND)
		*ret = REMOTE_NOTHING;
	else if (call.outcome != CALL_RESULT)
		status = ctl_report(ctl, &call);
	else if (strcmp(type, "directory") == 0)
		*ret = REMOTE_DIRECTORY;
	else if (strcmp(type, "symlink") == 0)
		status = look_behind(ctl, session, path, ret);
	json_decref(call.value);
	return status;
}

/* The file that a link leads to: its size is all that is known. */
static int plan_linked(struct lister *lister)
{
	json_auto_t *read = NULL, *entry = NULL;
	json_t *params = file_params(lister->session, lister->root);
	int status;

	json_object_set_new(params, "length", json_integer(1));
	status = ctl_fetch(lister->ctl, "file.read", params, &read);
	if (status != EXIT_OK)
		return status;
	entry = json_pack("{s:s, s:O*}", "type", "file", "size", json_object_get(read, "size"));
	return add(&lister->plan, "", entry);
}

static int plan_root(struct lister *lister, bool is_recursive)
{
	json_auto_t *root = NULL;
	int status = ctl_fetch(lister->ctl, "file.stat", file_params(lister->session, lister->root),
			       &root);
	enum remote_type behind = REMOTE_OTHER;
	bool is_link = strcmp(text(root, "type"), "symlink") == 0;

	if (status == EXIT_OK && is_link)
		status = look_behind(lister->ctl, lister->session, lister->root, &behind);
	if (status != EXIT_OK)
		return status;
	if (is_link && behind != REMOTE_DIRECTORY)
		return plan_linked(lister);
	if (is_link || strcmp(text(root, "type"), "directory") == 0) {
		if (!is_recursive) {
			output_error("'%s' is a directory", lister->root);
			output_hint("-r copies it with all that is in it");
			return EXIT_ERROR;
		}
		json_object_set_new(root, "type", json_string("directory"));
		status = add(&lister->plan, "", root);
		return status == EXIT_OK ? list(lister, "", 0) : status;
	}
	status = add(&lister->plan, "", root);
	if (status == EXIT_OK && lister->plan.left_out > 0) {
		output_error("'%s' is no regular file", lister->root);
		status = EXIT_ERROR;
	}
	return status;
}

int plan_remote(struct ctl *ctl, const char *session, const char *path, bool is_recursive,
		struct plan *ret)
{
	struct lister lister = {.ctl = ctl, .session = session, .root = path};
	int status = plan_root(&lister, is_recursive);

	if (status == EXIT_OK)
		*ret = lister.plan;
	else
		plan_fini(&lister.plan);
	return status;
}
