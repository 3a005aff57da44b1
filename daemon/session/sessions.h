/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All sessions: found by id or name, listed, remembered for a while when they are closed.
 *
 * Theory of operation: sessions are kept in the order they were made. A caller finds its own, an
 * admin all by their ids; a foreign id answers as if it did not exist. The last SESSIONS_REMEMBERED
 * that closed answer SESSION_CLOSED with the reason, older ones SESSION_NOT_FOUND. A name belongs
 * to one open session of a user at a time.
 */
#ifndef DAEMON_SESSION_SESSIONS_H
#define DAEMON_SESSION_SESSIONS_H

#include "daemon/pool/pool.h"
#include "daemon/session/exec.h"

#define SESSIONS_REMEMBERED 1024

struct session;
struct sessions;

/* Why a session closed: `reason` of SESSION_CLOSED. */
enum session_reason {
	REASON_CLOSED, /* session.close */
	REASON_IDLE_TIMEOUT,
	REASON_TIMEOUT,
	REASON_CONNECTION_CLOSED,
	REASON_CANCELLED, /* session.create was */
	REASON_NO_VM,     /* session.create got none */
	REASON_VM_LOST,
	REASON_MEMORY_PRESSURE, /* the host's memory ran out */
	REASON_GUEST_PROTOCOL,
	REASON_UNRESPONSIVE, /* a program's end was not reported */
	REASON_DAEMON_STOPPED,
	SESSION_REASONS,
};

/* What became of sessions since the start: for `metrics`. */
struct sessions_counters {
	uint64_t created, closed[SESSION_REASONS];
	uint64_t processes_started;
};

struct sessions_config {
	const struct exec_env *exec;
	struct pool *pool;
	const char *node; /* prefix of ids; may be empty */
	/* "session.created", and "session.closed" with its reason (otherwise NULL). A session that
	 * never had a VM has neither. */
	void (*on_event)(void *user, const char *type, const char *session, uid_t uid,
			 const char *reason);
	void *user;
};

/* 0 or -ENOMEM. */
int sessions_create(const struct sessions_config *config, struct sessions **ret);

/* Closes all that are left. NULL is fine. */
void sessions_destroy(struct sessions *sessions);

/* The session that a caller calls by this id or name. NULL with 4001 or 4002 in `ret_error`. */
struct session *sessions_find(struct sessions *sessions, const struct rpc_peer *peer,
			      const char *name, struct rpc_error **ret_error);

/* The result of session.list, or the error in `ret_error`. */
json_t *sessions_list(const struct sessions *sessions, const struct rpc_peer *peer,
		      const json_t *params, struct rpc_error **ret_error);

/* The id of the session whose VM this is; NULL when it is none's. */
const char *sessions_vm_owner(const struct sessions *sessions, const struct vm *vm);

/* Since the start. A session that never had a VM counts as closed, not as created. */
const struct sessions_counters *sessions_counters(const struct sessions *sessions);

/* Background processes that live now, of all sessions. */
size_t sessions_processes(const struct sessions *sessions);

/* How many sessions are in a state; the states' names, and NULL behind the last. */
size_t sessions_in_state(const struct sessions *sessions, const char *state);
extern const char *const session_open_states[];

const char *session_reason_name(enum session_reason reason);

#endif
