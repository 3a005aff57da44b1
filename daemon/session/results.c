/* SPDX-License-Identifier: Apache-2.0 */
/* Results that outlive their calls: those of programs with an exec_id. */
#include "daemon/session/results.h"

#include "daemon/session/exec.h"
#include "daemon/session/results_internal.h"

#include <errno.h>
#include <string.h>

/* A call that joined a program that ran already. */
struct waiter {
	LIST_ENTRY(waiter) link;
	struct result_record *record;
	struct rpc_call *call;
};

/* --- Records. --- */

struct result_record *results_new_record(struct results *results, uid_t uid, const char *exec_id)
{
	struct result_record *record = calloc(1, sizeof(*record));

	if (!record)
		return NULL;
	record->results = results;
	record->uid = uid;
	strncpy(record->exec_id, exec_id, sizeof(record->exec_id) - 1);
	LIST_INIT(&record->waiters);
	return record;
}

void results_free_record(struct result_record *record)
{
	json_decref(record->params);
	json_decref(record->progress);
	json_decref(record->result);
	rpc_error_free(record->error);
	output_fini(&record->out);
	output_fini(&record->err);
	free(record);
}

void results_insert(struct result_record *record)
{
	struct results *results = record->results;
	struct result_record *next = NULL;

	if (record->has_ended) {
		TAILQ_FOREACH(next, &results->records, link)
		if (next->has_ended && next->ended_us > record->ended_us)
			break;
	}
	if (next)
		TAILQ_INSERT_BEFORE(next, record, link);
	else
		TAILQ_INSERT_TAIL(&results->records, record, link);
}

static void release_record(struct result_record *record)
{
	TAILQ_REMOVE(&record->results->records, record, link);
	results_free_record(record);
}

/* Nobody shall hear of it any more, nor of the next daemon. */
static void drop_record(struct result_record *record)
{
	results_file_remove(record);
	release_record(record);
}

static struct result_record *find(struct results *results, uid_t uid, const char *exec_id)
{
	struct result_record *record;

	TAILQ_FOREACH(record, &results->records, link)
	if (record->uid == uid && strcmp(record->exec_id, exec_id) == 0)
		return record;
	return NULL;
}

uint64_t results_keep_us(const struct results *results)
{
	return (uint64_t)(results->config->result_seconds * 1e6);
}

void results_drop_expired(struct results *results)
{
	struct result_record *record, *next;
	uint64_t now = now_us(), first = UINT64_MAX;

	for (record = TAILQ_FIRST(&results->records); record; record = next) {
		next = TAILQ_NEXT(record, link);
		if (!record->has_ended)
			continue;
		if (now - record->ended_us >= results_keep_us(results))
			drop_record(record);
		else
			first = MIN(first, record->ended_us + results_keep_us(results));
	}
	loop_timer_stop(results->loop, &results->expiry);
	if (first != UINT64_MAX)
		loop_timer_start(results->loop, &results->expiry, (double)(first - now) / 1e6);
}

static void on_expiry(struct ev_loop *ev UNUSED, ev_timer *timer, int events UNUSED)
{
	results_drop_expired(timer->data);
}

/* Makes room for `bytes` more of one user's; false when too much of it still runs. */
static bool make_room(struct results *results, uid_t uid, size_t bytes)
{
	uint64_t sum = bytes, running = bytes, max = results->config->result_bytes_per_uid;
	struct result_record *record, *next;

	TAILQ_FOREACH(record, &results->records, link)
	{
		if (record->uid != uid)
			continue;
		sum += record->bytes;
		if (!record->has_ended)
			running += record->bytes;
	}
	/* What has ended is not given up for one that does not fit anyway. */
	if (running > max)
		return false;
	for (record = TAILQ_FIRST(&results->records); record && sum > max; record = next) {
		next = TAILQ_NEXT(record, link);
		if (record->uid != uid || !record->has_ended)
			continue;
		sum -= record->bytes;
		drop_record(record);
	}
	return sum <= max;
}

void results_drop_oldest(struct results *results, uid_t uid)
{
	(void)make_room(results, uid, 0);
}

/* --- What was asked. --- */

/* How it is answered is no part of it. */
int results_hash_request(const json_t *params, char ret[STORE_HASH_SIZE])
{
	json_auto_t *request = json_copy((json_t *)params);
	_cleanup_free_ char *text = NULL;

	json_object_del(request, "stream");
	json_object_del(request, "exec_id");
	text = json_dumps(request, JSON_COMPACT | JSON_SORT_KEYS);
	return text ? store_hash(text, strlen(text), ret) : -ENOMEM;
}

static struct rpc_error *conflict(const char *exec_id)
{
	struct rpc_error *error =
		rpc_error_new(RPC_EXEC_ID_CONFLICT,
			      "exec_id '%.64s' belongs to another request of yours", exec_id);

	rpc_error_set(error, "field", json_string("exec_id"));
	return rpc_error_hint(error, "draw a new one for each program");
}

/* --- Who joins. --- */

static void on_cancel(void *user)
{
	struct waiter *waiter = user;

	/* The program is the same, whoever wants it to end. */
	if (waiter->record->exec)
		exec_cancel(waiter->record->exec);
	else
		waiter->record->is_cancelled = true;
}

static void on_gone(void *user)
{
	struct waiter *waiter = user;

	LIST_REMOVE(waiter, link);
	free(waiter);
}

static void on_stop(void *user)
{
	struct waiter *waiter = user;

	rpc_call_finish_error(waiter->call,
			      rpc_error_new(RPC_VM_LOST, "The daemon stopped while the code ran"));
	on_gone(waiter);
}

static const struct rpc_call_ops waiter_ops = {
	.on_cancel = on_cancel, .on_gone = on_gone, .on_stop = on_stop};

static struct rpc_reply join(struct result_record *record, struct rpc_call *call)
{
	struct waiter *waiter;

	if (record->result)
		return rpc_reply_result(call, json_incref(record->result));
	if (record->error)
		return rpc_reply_error(call, rpc_error_copy(record->error));
	waiter = calloc(1, sizeof(*waiter));
	if (!waiter)
		return rpc_reply_error(call, rpc_error_no_memory());
	waiter->record = record;
	waiter->call = call;
	LIST_INSERT_HEAD(&record->waiters, waiter, link);
	return rpc_reply_pending(call, &waiter_ops, waiter);
}

bool results_join(struct results *results, struct rpc_call *call, const json_t *params,
		  struct rpc_reply *ret)
{
	const char *exec_id = json_string_value(json_object_get(params, "exec_id"));
	struct result_record *record =
		exec_id ? find(results, rpc_call_peer(call)->uid, exec_id) : NULL;
	char request[STORE_HASH_SIZE];

	if (!record)
		return false;
	if (results_hash_request(params, request) < 0)
		*ret = rpc_reply_error(call, rpc_error_no_memory());
	else if (strcmp(record->request, request) != 0)
		*ret = rpc_reply_error(call, conflict(exec_id));
	else
		*ret = join(record, call);
	return true;
}

static void answer_waiters(struct result_record *record, json_t *result,
			   const struct rpc_error *error)
{
	struct waiter *waiter;

	while ((waiter = LIST_FIRST(&record->waiters))) {
		if (result)
			rpc_call_finish_result(waiter->call, json_incref(result));
		else
			rpc_call_finish_error(waiter->call, error ? rpc_error_copy(error)
								  : rpc_error_no_memory());
		on_gone(waiter);
	}
}

/* --- From a call to its end. --- */

struct result_record *results_begin(struct results *results, const struct rpc_call *call,
				    const json_t *params, struct exec *exec, size_t bytes,
				    struct rpc_error **ret_error)
{
	const char *exec_id = json_string_value(json_object_get(params, "exec_id"));
	uid_t uid = rpc_call_peer(call)->uid;
	struct result_record *record;

	if (!exec_id)
		return NULL;
	if (!make_room(results, uid, bytes + RECORD_BYTES)) {
		*ret_error = rpc_error_hint(
			rpc_error_new(RPC_QUOTA_EXCEEDED,
				      "Your programs with an exec_id fill result_bytes_per_uid"),
			"wait for some of them to end");
		return NULL;
	}
	record = results_new_record(results, uid, exec_id);
	if (!record || results_hash_request(params, record->request) < 0) {
		free(record);
		*ret_error = rpc_error_no_memory();
		return NULL;
	}
	record->exec = exec;
	record->bytes = bytes + RECORD_BYTES;
	record->asked_ns = realtime_ns();
	record->asked_us = now_us();
	if (results->dir_fd >= 0)
		record->params = json_incref((json_t *)params);
	results_insert(record);
	return record;
}

void results_dispatched(struct result_record *record, const struct results_dispatch *dispatch)
{
	results_file_running(record, dispatch);
	json_decref(TAKE_PTR(record->params));
}

void results_adopted(struct result_record *record, struct exec *exec)
{
	record->exec = exec;
	json_decref(TAKE_PTR(record->progress));
	if (record->is_cancelled)
		exec_cancel(exec);
}

void results_count_ended(struct result_record *record)
{
	const json_t *result = record->result;

	record->bytes = RECORD_BYTES;
	if (record->error)
		record->bytes += json_dumpb(record->error->data, NULL, 0, JSON_COMPACT);
	if (!result)
		return;
	/* As bytes, and as text. */
	record->bytes += 2 * (record->out.len + record->err.len) +
			 json_dumpb(json_object_get(result, "error"), NULL, 0,
				    JSON_COMPACT | JSON_ENCODE_ANY) +
			 json_dumpb(json_object_get(result, "files"), NULL, 0, JSON_COMPACT);
}

/* In its file before anybody hears of it: whoever does may forget the program. */
static void set_ended(struct result_record *record)
{
	struct results *results = record->results;

	record->exec = NULL;
	json_decref(TAKE_PTR(record->progress));
	record->has_ended = true;
	record->ended_us = now_us();
	results_count_ended(record);
	results_file_ended(record);
	output_spool_end(&record->out);
	output_spool_end(&record->err);
	answer_waiters(record, record->result, record->error);
	TAILQ_REMOVE(&results->records, record, link);
	results_insert(record);
	results_drop_oldest(results, record->uid);
	results_drop_expired(results);
}

void results_end(struct result_record *record, json_t *result, struct output *out,
		 struct output *err)
{
	record->result = json_incref(result);
	record->out = *out;
	record->err = *err;
	*out = *err = (struct output){0};
	output_trim(&record->out);
	output_trim(&record->err);
	set_ended(record);
}

void results_fail(struct result_record *record, const struct rpc_error *error)
{
	record->error = rpc_error_copy(error);
	set_ended(record);
}

void results_forget(struct result_record *record, const struct rpc_error *error)
{
	answer_waiters(record, NULL, error);
	drop_record(record);
}

/* --- session.result --- */

static uint64_t offset_of(const json_t *params, const char *name)
{
	return (uint64_t)json_integer_value(json_object_get(params, name));
}

static json_t *ended_result(const struct result_record *record, uint64_t out, uint64_t err)
{
	json_t *result = json_copy(record->result);

	if (out > 0)
		output_to_result_from(&record->out, "stdout", out,
				      !json_is_true(json_object_get(result, "stdout_truncated")),
				      result);
	if (err > 0)
		output_to_result_from(&record->err, "stderr", err,
				      !json_is_true(json_object_get(result, "stderr_truncated")),
				      result);
	return result;
}

/* How far one is that has no exec. */
static json_t *orphan_progress(const struct result_record *record, uint64_t out, uint64_t err)
{
	static const struct output nothing;
	json_t *progress = json_copy(record->progress);

	output_to_result_from(&nothing, "stdout", out, false, progress);
	output_to_result_from(&nothing, "stderr", err, false, progress);
	return progress;
}

struct rpc_reply results_get(struct results *results, struct rpc_call *call, const json_t *params)
{
	const char *exec_id = json_string_value(json_object_get(params, "exec_id"));
	uint64_t out = offset_of(params, "stdout_offset"), err = offset_of(params, "stderr_offset");
	const struct result_record *record = find(results, rpc_call_peer(call)->uid, exec_id);
	struct rpc_error *error;

	if (!record) {
		error = rpc_error_new(RPC_EXEC_NOT_FOUND,
				      "There is no program of yours with "
				      "exec_id '%.64s'",
				      exec_id);
		error = rpc_error_hint(error, "results are kept for a while only; if it was sent "
					      "before, send the same request again");
		return rpc_reply_error(call, error);
	}
	if (record->exec)
		return rpc_reply_result(call, exec_progress(record->exec, out, err));
	if (!record->has_ended)
		return rpc_reply_result(call, orphan_progress(record, out, err));
	if (record->error)
		return rpc_reply_error(call, rpc_error_copy(record->error));
	return rpc_reply_result(call, ended_result(record, out, err));
}

/* --- Life. --- */

int results_create(struct loop *loop, const struct config *config, int dir_fd, struct results **ret)
{
	struct results *results = calloc(1, sizeof(*results));

	if (!results)
		return -ENOMEM;
	results->loop = loop;
	results->config = config;
	results->dir_fd = dir_fd;
	TAILQ_INIT(&results->records);
	ev_timer_init(&results->expiry, on_expiry, 0., 0.);
	results->expiry.data = results;
	*ret = results;
	return 0;
}

static struct result_record *first_running(struct results *results)
{
	struct result_record *record;

	TAILQ_FOREACH(record, &results->records, link)
	if (!record->has_ended)
		return record;
	return NULL;
}

void results_destroy(struct results *results)
{
	struct result_record *record;
	struct rpc_error *error;

	if (!results)
		return;
	while ((record = first_running(results))) {
		error = rpc_error_new(RPC_VM_LOST, "The daemon stopped while the code ran");
		if (record->exec) {
			exec_fail(record->exec, error);
		} else {
			results_fail(record, error);
			rpc_error_free(error);
		}
	}
	while ((record = TAILQ_FIRST(&results->records)))
		release_record(record);
	loop_timer_stop(results->loop, &results->expiry);
	free(results);
}
