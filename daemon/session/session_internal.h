/* SPDX-License-Identifier: Apache-2.0 */
/* What session.c (one session), its other parts and sessions.c (all of them) share. */
#ifndef DAEMON_SESSION_SESSION_INTERNAL_H
#define DAEMON_SESSION_SESSION_INTERNAL_H

#include "daemon/rpc/conn.h"
#include "daemon/session/processes.h"
#include "daemon/session/session.h"
#include "daemon/session/session_files.h"
#include "daemon/session/stray.h"

#include <sys/queue.h>

enum session_state {
	SESSION_STARTING,
	SESSION_IDLE,
	SESSION_BUSY,
	SESSION_CLOSED,
};

/* One program of a session, from its call to its answer. */
struct session_program {
	TAILQ_ENTRY(session_program) link;
	struct session *session;
	struct exec *exec;
	bool is_resident; /* code in the session's interpreter */
};

struct session {
	TAILQ_ENTRY(session) link;
	struct sessions *sessions;
	char id[SESSION_ID_SIZE];
	char name[SESSION_NAME_SIZE]; /* empty: none */
	enum session_state state;
	uid_t uid;
	struct rpc_call *call;      /* session.create, until it is answered */
	struct run_request request; /* what all its programs have in common */
	struct pool_request wish;
	struct vm *vm;                          /* IDLE and BUSY */
	TAILQ_HEAD(, session_program) programs; /* the first runs when BUSY */
	size_t program_count;
	struct session_files files;
	uint32_t last_number;            /* that the VM has seen, of a program or anything else */
	uint64_t exec_count;             /* programs that began */
	unsigned work_count;             /* of what goes on in the VM: it rests at 0 */
	struct processes processes;      /* beside the programs */
	enum session_reason lost_reason; /* why the VM is lost, when it is */
	json_t *metadata;
	uint64_t created_ns, idle_ns;                 /* wall clock; since when it is IDLE */
	uint64_t order;                               /* rises from one session to the next */
	double idle_timeout_seconds, timeout_seconds; /* the latter 0: none */
	uint64_t expires_us;                          /* CLOCK_MONOTONIC; 0: never */
	uint64_t expires_ns;                          /* the same as it is told, wall clock */
	struct rpc_conn_watch conn_watch;
	bool is_bound;
	bool is_unsaved;  /* its record could not be written */
	bool is_recalled; /* an earlier daemon made it; then, until its VM has answered or has not:
			   */
	void (*on_settled)(void *user);
	void *settled_user;
	struct strays strays; /* of one that was recalled */
	ev_timer idle_timer, timeout_timer;
	struct defer free_later;
};

struct tombstone {
	char id[SESSION_ID_SIZE];
	uid_t uid;
	enum session_reason reason;
};

struct sessions {
	struct sessions_config config;
	TAILQ_HEAD(session_list, session) open;
	struct sessions_counters counters;
	uint64_t last_order;
	struct tombstone closed[SESSIONS_REMEMBERED]; /* a ring */
	size_t closed_next;
};

void session_set_state(struct session *session, enum session_state state);

/* What goes on in the VM, and who waits for it, has changed: it rests or does not, and the idle
 * timer runs or stands. */
void session_settle(struct session *session);

/* What session.create and session.update have in common (session_settings.c). */
struct rpc_error *session_check_settings(const struct session *session,
					 const json_t *params) WARN_UNUSED;
void session_apply_settings(struct session *session, const json_t *params);
void session_start_timeout(struct session *session);
/* When it would be over, if it has one, from now on. */
void session_set_timeout(struct session *session);

/* Programs that wait behind the one that runs. */
size_t session_waiting(const struct session *session);

/* For session_record.c: the life of a session, in parts. */
struct session *session_new(struct sessions *sessions, uid_t uid);
void session_free(struct session *session);
/* What it asks the pool for. */
void session_make_wish(struct session *session);
/* A program that an earlier daemon began: the first of its programs. Takes the request. */
struct rpc_error *session_recall_program(struct session *session, struct run_request *request_take,
					 struct result_record *record, const json_t *saved,
					 int vms_fd) WARN_UNUSED;
/* The program goes on, and is waited for. */
void session_go_on_with(struct session *session, struct session_program *program);
/* STARTING no longer: its next program begins, or it rests. */
void session_open(struct session *session);
/* The same of one that is IDLE already. */
void session_begin_first(struct session *session);

/* Background processes (session_process.c). */
void session_init_processes(struct session *session);
struct rpc_reply session_exec_background(struct session *session, struct rpc_call *call,
					 const json_t *params) WARN_UNUSED;

/* A session is known from here on: draws its id and its place in the order, if it has none. */
void sessions_add(struct sessions *sessions, struct session *session);

/* A session is closed: forgets it, but for its id and the reason. */
void sessions_remove(struct sessions *sessions, struct session *session,
		     enum session_reason reason);

/* Whether an open session of this user, but for `except`, has that name. */
bool sessions_has_name(const struct sessions *sessions, uid_t uid, const char *name,
		       const struct session *except);

/* SESSION_CLOSED, with the reason. */
struct rpc_error *session_closed_error(const char *id, enum session_reason reason);

const char *session_state_name(enum session_state state);

static inline struct loop *session_loop(const struct session *session)
{
	return session->sessions->config.exec->loop;
}

/* A number for EXEC that the session's VM has not seen. */
static inline uint32_t session_next_number(struct session *session)
{
	return ++session->last_number;
}

/* Something goes on in the VM: it does not rest, and the idle timer stands. False, and nothing has
 * begun, when the VM is dying: the session's end is on its way. */
bool session_work_begin(struct session *session);
/* It is over. */
void session_work_end(struct session *session);

#endif
