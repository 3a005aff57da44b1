/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files of results.h: one for each record, <uid>-<SHA-256 of exec_id>.json.
 *
 *   {uid, exec_id, state: "running", bytes, asked_ns, params, vm, session?, language, start,
 *    number, asked_us, granted_us, dispatched_us}
 *   {uid, exec_id, state: "ended", request, ended_us, result or error}
 *
 * Times in us are of CLOCK_MONOTONIC, which goes on when the wall clock is set.
 *
 * Only the daemon's user can write there; all the same a file is believed only as far as it was
 * checked.
 */
#include "base/kept.h"
#include "base/log.h"
#include "daemon/session/exec.h"
#include "daemon/session/results_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Both outputs at the highest limits, of which JSON makes six times as much (control characters),
 * and files. */
#define FILE_MAX ((size_t)1 << 30)

#define FLAGS_READ  (JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL)
#define FLAGS_WRITE JSON_COMPACT

/* --- Writing. --- */

static int file_name(uid_t uid, const char *exec_id, char ret[KEPT_NAME_SIZE])
{
	char hash[STORE_HASH_SIZE];
	int r = store_hash(exec_id, strlen(exec_id), hash);

	if (r == 0)
		snprintf(ret, KEPT_NAME_SIZE, "%ju-%s.json", (uintmax_t)uid, hash);
	return r;
}

/* Of a program that has ended, and whose end the disk did not take: of the same length. */
#define SUFFIX      ".json"
#define LOST_SUFFIX ".lost"

static void set_suffix(char name[KEPT_NAME_SIZE], const char *suffix)
{
	memcpy(name + strlen(name) - strlen(SUFFIX), suffix, sizeof(SUFFIX));
}

static bool has_suffix(const char *name, const char *suffix)
{
	size_t len = strlen(name);

	return len > strlen(suffix) && strcmp(name + len - strlen(suffix), suffix) == 0;
}

static int write_json(const struct result_record *record, const json_t *saved)
{
	_cleanup_free_ char *text = saved ? json_dumps(saved, FLAGS_WRITE) : NULL;
	char name[KEPT_NAME_SIZE];
	size_t len;
	int r;

	if (!text)
		return -ENOMEM;
	len = strlen(text);
	if (len > FILE_MAX)
		return -EFBIG;
	r = file_name(record->uid, record->exec_id, name);
	return r < 0 ? r : kept_write(record->results->dir_fd, name, text, len);
}

/* A full disk is told once, not with every program. */
static int write_record(struct result_record *record, const json_t *saved)
{
	struct results *results = record->results;
	int r = write_json(record, saved);

	if (r < 0 && !results->is_write_failing)
		log_warning(NULL,
			    "Cannot write the record of exec_id '%.64s': %s; until that is "
			    "possible again, programs with an exec_id do not outlive the daemon",
			    record->exec_id, strerror(-r));
	results->is_write_failing = r < 0;
	record->has_file |= r == 0;
	return r;
}

/* The guest will forget it: who took it for running would run it again. A name takes no room. */
static void mark_lost(const struct result_record *record)
{
	int dir_fd = record->results->dir_fd;
	char name[KEPT_NAME_SIZE], lost[KEPT_NAME_SIZE];

	if (!record->has_file || file_name(record->uid, record->exec_id, name) < 0)
		return;
	memcpy(lost, name, sizeof(lost));
	set_suffix(lost, LOST_SUFFIX);
	if (renameat(dir_fd, name, dir_fd, lost) < 0)
		log_warning(NULL, "Cannot rename the record of exec_id '%.64s': %s",
			    record->exec_id, strerror(errno));
}

void results_file_running(struct result_record *record, const struct results_dispatch *dispatch)
{
	json_auto_t *saved = NULL;

	if (record->results->dir_fd < 0)
		return;
	saved = json_pack(
		"{s:I, s:s, s:s, s:I, s:I, s:O, s:s, s:s*, s:s, s:s, s:I, s:I, s:I, s:I, s:O*}",
		"uid", (json_int_t)record->uid, "exec_id", record->exec_id, "state", "running",
		"bytes", (json_int_t)record->bytes, "asked_ns", (json_int_t)record->asked_ns,
		"params", record->params, "vm", dispatch->vm, "session", dispatch->session,
		"language", dispatch->language, "start", dispatch->start, "number",
		(json_int_t)dispatch->number, "asked_us", (json_int_t)record->asked_us,
		"granted_us", (json_int_t)dispatch->granted_us, "dispatched_us",
		(json_int_t)now_us(), "settled", dispatch->settled);
	(void)write_record(record, saved);
}

void results_file_ended(struct result_record *record)
{
	json_auto_t *saved = NULL, *error = NULL;

	if (record->results->dir_fd < 0)
		return;
	error = record->error ? rpc_error_to_json(record->error) : NULL;
	saved = json_pack("{s:I, s:s, s:s, s:s, s:I, s:O*, s:O*}", "uid", (json_int_t)record->uid,
			  "exec_id", record->exec_id, "state", "ended", "request", record->request,
			  "ended_us", (json_int_t)record->ended_us, "result", record->result,
			  "error", error);
	if (write_record(record, saved) < 0)
		mark_lost(record);
}

void results_file_remove(struct result_record *record)
{
	char name[KEPT_NAME_SIZE];
	int r;

	if (record->results->dir_fd < 0 || !record->has_file)
		return;
	r = file_name(record->uid, record->exec_id, name);
	if (r == 0)
		r = kept_remove(record->results->dir_fd, name);
	if (r == 0) {
		set_suffix(name, LOST_SUFFIX);
		r = kept_remove(record->results->dir_fd, name);
	}
	if (r < 0)
		log_warning(NULL, "Cannot remove the record of exec_id '%.64s': %s",
			    record->exec_id, strerror(-r));
	record->has_file = false;
}

/* --- Reading. --- */

/* A whole number in bounds. */
static bool get_integer(const json_t *saved, const char *key, uint64_t min, uint64_t max,
			uint64_t *ret)
{
	const json_t *value = json_object_get(saved, key);
	json_int_t number = json_integer_value(value);

	if (!json_is_integer(value) || number < 0 || (uint64_t)number < min ||
	    (uint64_t)number > max)
		return false;
	*ret = (uint64_t)number;
	return true;
}

/* A text of 1 to size - 1 bytes, none of them NUL. NULL: it is none. */
static const char *get_text(const json_t *saved, const char *key, size_t size)
{
	const json_t *value = json_object_get(saved, key);
	const char *text = json_string_value(value);
	size_t len = json_string_length(value);

	return text && len > 0 && len < size && strlen(text) == len ? text : NULL;
}

/* What session.result says of it but for the output. */
static json_t *make_progress(const json_t *saved)
{
	return json_pack("{s:s, s:O, s:O*, s:O}", "state", "running", "vm",
			 json_object_get(saved, "vm"), "session", json_object_get(saved, "session"),
			 "language", json_object_get(saved, "language"));
}

static int parse_running(struct result_record *record, const json_t *saved)
{
	const json_t *params = json_object_get(saved, "params");
	const char *exec_id = json_string_value(json_object_get(params, "exec_id"));
	uint64_t bytes, number, us;

	if (!exec_id || strcmp(exec_id, record->exec_id) != 0 ||
	    !get_text(saved, "vm", VM_ID_SIZE) || !get_text(saved, "language", SESSION_ID_SIZE) ||
	    !get_text(saved, "start", SESSION_ID_SIZE) ||
	    (json_object_get(saved, "session") && !get_text(saved, "session", SESSION_ID_SIZE)) ||
	    !get_integer(saved, "bytes", 0, FILE_MAX, &bytes) ||
	    !get_integer(saved, "number", 1, UINT32_MAX, &number) ||
	    !get_integer(saved, "asked_ns", 0, INT64_MAX, &record->asked_ns) ||
	    !get_integer(saved, "asked_us", 0, INT64_MAX, &record->asked_us) ||
	    !get_integer(saved, "granted_us", 0, INT64_MAX, &us) ||
	    !get_integer(saved, "dispatched_us", 0, INT64_MAX, &us))
		return -EINVAL;
	record->bytes = (size_t)bytes;
	record->params = json_incref((json_t *)params); /* should it have to be sent again */
	record->progress = make_progress(saved);
	return record->progress ? results_hash_request(params, record->request) : -ENOMEM;
}

static struct rpc_error *parse_error(const json_t *saved)
{
	const json_t *code = json_object_get(saved, "code");
	const json_t *message = json_object_get(saved, "message");
	json_t *data = json_object_get(saved, "data");
	json_int_t number = json_integer_value(code);
	struct rpc_error *error;

	if (!json_is_integer(code) || !json_is_string(message) || !json_is_object(data) ||
	    number < INT32_MIN || number > INT32_MAX ||
	    strcmp(rpc_code_name((int)number), "UNKNOWN") == 0)
		return NULL;
	error = rpc_error_new((enum rpc_code)number, "%s", json_string_value(message));
	if (error->data)
		json_object_update(error->data, data);
	return error;
}

static int parse_result(struct result_record *record, json_t *result)
{
	int r;

	if (!get_text(result, "status", SESSION_ID_SIZE))
		return -EINVAL;
	r = output_from_result(&record->out, "stdout", result);
	if (r == 0)
		r = output_from_result(&record->err, "stderr", result);
	if (r < 0)
		return r;
	output_trim(&record->out);
	output_trim(&record->err);
	record->result = json_incref(result);
	return 0;
}

/* One that ends later than now is of another boot: it stays for its whole time. */
static int parse_age(struct result_record *record, const json_t *saved)
{
	uint64_t now = now_us();

	if (!get_integer(saved, "ended_us", 0, INT64_MAX, &record->ended_us))
		return -EINVAL;
	record->ended_us = MIN(record->ended_us, now);
	return now - record->ended_us < results_keep_us(record->results) ? 0 : -ESTALE;
}

static int parse_ended(struct result_record *record, const json_t *saved)
{
	json_t *result = json_object_get(saved, "result"), *error = json_object_get(saved, "error");
	const char *request = get_text(saved, "request", STORE_HASH_SIZE);
	int r = parse_age(record, saved);

	if (r < 0)
		return r;
	if (!request || strlen(request) != STORE_HASH_SIZE - 1 || !result == !error)
		return -EINVAL;
	memcpy(record->request, request, STORE_HASH_SIZE);
	record->has_ended = true;
	if (result) {
		r = parse_result(record, result);
	} else {
		record->error = parse_error(error);
		r = record->error ? 0 : -EINVAL;
	}
	if (r == 0)
		results_count_ended(record);
	return r;
}

static int parse_record(struct result_record *record, const json_t *saved)
{
	const char *state = get_text(saved, "state", sizeof("running"));

	if (state && strcmp(state, "running") == 0)
		return parse_running(record, saved);
	if (state && strcmp(state, "ended") == 0)
		return parse_ended(record, saved);
	return -EINVAL;
}

int results_file_parse(struct results *results, const char *name, const char *text, size_t len,
		       struct result_record **ret, json_t **ret_saved)
{
	json_auto_t *saved = json_loadb(text, len, FLAGS_READ, NULL);
	const char *exec_id = get_text(saved, "exec_id", EXEC_ID_SIZE);
	char expected[KEPT_NAME_SIZE];
	struct result_record *record;
	uint64_t uid;
	int r;

	if (!exec_id || !get_integer(saved, "uid", 0, UINT32_MAX - 1, &uid))
		return -EINVAL;
	r = file_name((uid_t)uid, exec_id, expected);
	if (r == 0 && has_suffix(name, LOST_SUFFIX))
		set_suffix(expected, LOST_SUFFIX);
	if (r == 0 && strcmp(expected, name) != 0)
		r = -EINVAL;
	if (r < 0)
		return r;
	record = results_new_record(results, (uid_t)uid, exec_id);
	if (!record)
		return -ENOMEM;
	record->has_file = true;
	r = parse_record(record, saved);
	if (r < 0) {
		results_free_record(record);
		return r;
	}
	*ret = record;
	*ret_saved = TAKE_PTR(saved);
	return 0;
}

/* --- All of them. --- */

struct load {
	struct results *results;
	const struct results_load_ops *ops;
	void *user;
	uint64_t bytes; /* of all that have ended */
	int error;
};

static int load_file(const struct load *load, const char *name, struct result_record **ret,
		     json_t **ret_saved)
{
	_cleanup_free_ char *text = NULL;
	ssize_t len = kept_read(load->results->dir_fd, name, FILE_MAX, &text);

	if (len < 0)
		return (int)len;
	return results_file_parse(load->results, name, text, (size_t)len, ret, ret_saved);
}

static void add_lost(struct result_record *record, const char *why)
{
	struct rpc_error *error = rpc_error_new(RPC_VM_LOST, "%s", why);

	results_fail(record, error);
	rpc_error_free(error);
}

static void add_running(const struct load *load, const char *name, struct result_record *record,
			const json_t *saved)
{
	results_insert(record);
	if (has_suffix(name, LOST_SUFFIX)) {
		add_lost(record, "The program ended, but its result did not fit on the disk of "
				 "runtime_dir, and the daemon that had it is gone");
		/* That is in the file of its own now. */
		if (!load->results->is_write_failing)
			(void)kept_remove(load->results->dir_fd, name);
	} else if (load->ops && load->ops->on_running) {
		load->ops->on_running(load->user, record, saved);
	} else {
		add_lost(record, "The daemon stopped while the code ran");
	}
}

/* The oldest may be this one. */
static void add_ended(struct load *load, struct result_record *record)
{
	load->bytes += record->bytes;
	results_insert(record);
	/* While all users' fit, each one's do: with thousands of records it is worth knowing. */
	if (load->bytes > load->results->config->result_bytes_per_uid)
		results_drop_oldest(load->results, record->uid);
}

static void remove_file(const struct load *load, const char *name, int why)
{
	int r = kept_remove(load->results->dir_fd, name);

	if (r < 0)
		log_warning(NULL, "Cannot remove '%s', which is no record of a program: %s", name,
			    strerror(-r));
	else if (why != -ESTALE)
		log_warning(NULL, "Removed '%s', which is no record of a program: %s", name,
			    strerror(-why));
}

/* A daemon was killed between what add_lost() wrote and the end of the name it came from. */
static bool is_replaced(const struct load *load, const char *name)
{
	char other[KEPT_NAME_SIZE];

	if (!has_suffix(name, LOST_SUFFIX))
		return false;
	snprintf(other, sizeof(other), "%s", name);
	set_suffix(other, SUFFIX);
	return faccessat(load->results->dir_fd, other, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void on_file(void *user, const char *name)
{
	struct load *load = user;
	struct result_record *record;
	json_auto_t *saved = NULL;
	int r;

	if (is_replaced(load, name)) {
		(void)kept_remove(load->results->dir_fd, name);
		return;
	}
	r = load_file(load, name, &record, &saved);
	if (r == 0 && record->has_ended) {
		add_ended(load, record);
	} else if (r == 0) {
		add_running(load, name, record, saved);
	} else if (r == -EINVAL || r == -EFBIG || r == -ELOOP || r == -ESTALE) {
		remove_file(load, name, r);
	} else {
		/* No memory, no descriptor: it may be read another time. */
		log_warning(NULL, "Cannot read '%s', the record of a program: %s", name,
			    strerror(-r));
		load->error = r;
	}
}

int results_load(struct results *results, const struct results_load_ops *ops, void *user)
{
	struct load load = {.results = results, .ops = ops, .user = user};
	int r = results->dir_fd < 0 ? 0 : kept_walk(results->dir_fd, on_file, &load);

	results_drop_expired(results);
	return r < 0 ? r : load.error;
}
