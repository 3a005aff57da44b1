/* SPDX-License-Identifier: Apache-2.0 */
/* What results.c (records and who asks for them) and results_file.c (their files) share. */
#ifndef DAEMON_SESSION_RESULTS_INTERNAL_H
#define DAEMON_SESSION_RESULTS_INTERNAL_H

#include "daemon/session/results.h"
#include "daemon/template/store_hash.h"

#include <sys/queue.h>

#define EXEC_ID_SIZE 129
/* Of a record besides what it holds: itself, and the result's objects. */
#define RECORD_BYTES 8192

struct waiter;

struct result_record {
	TAILQ_ENTRY(result_record) link; /* oldest first; those that have ended by their end */
	struct results *results;
	uid_t uid;
	char exec_id[EXEC_ID_SIZE];
	char request[STORE_HASH_SIZE];
	size_t bytes;
	uint64_t asked_ns, asked_us;
	bool has_file;
	LIST_HEAD(, waiter) waiters;
	/* Until it has ended. */
	struct exec *exec; /* NULL: of the daemon before, not adopted yet */
	json_t *params;    /* until they are in its file; NULL: no file */
	json_t *progress;  /* without exec: session.result but for the output */
	bool is_cancelled; /* the same */
	/* Once it has ended: result or error. */
	bool has_ended;
	json_t *result;
	struct rpc_error *error;
	struct output out, err;
	uint64_t ended_us;
};

struct results {
	struct loop *loop;
	const struct config *config;
	int dir_fd;            /* -1: none */
	bool is_write_failing; /* which was logged */
	TAILQ_HEAD(, result_record) records;
	ev_timer expiry;
};

/* --- results.c --- */

uint64_t results_keep_us(const struct results *results);

/* One that is not in the list; NULL without memory. */
struct result_record *results_new_record(struct results *results, uid_t uid, const char *exec_id);
void results_free_record(struct result_record *record);

/* Into the list; by its end, if it has one. */
void results_insert(struct result_record *record);

/* Drops what has expired, and of one user's what does not fit. */
void results_drop_expired(struct results *results);
void results_drop_oldest(struct results *results, uid_t uid);

/* The hash of what was asked, without how it is answered. 0 or -ENOMEM. */
int results_hash_request(const json_t *params, char ret[STORE_HASH_SIZE]);

/* The outputs' bytes and the result's or error's count from here on. */
void results_count_ended(struct result_record *record);

/* --- results_file.c --- */

/* Writes a record that was dispatched, or has ended, to its file. Failures are logged. */
void results_file_running(struct result_record *record, const struct results_dispatch *dispatch);
void results_file_ended(struct result_record *record);
void results_file_remove(struct result_record *record);

/* Makes a record, not inserted, of a file's text. 0; -EINVAL for what is none, -ESTALE for one that
 * has expired, -ENOMEM. `ret_saved` is the text as JSON. */
int results_file_parse(struct results *results, const char *name, const char *text, size_t len,
		       struct result_record **ret, json_t **ret_saved);

#endif
