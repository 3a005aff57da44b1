/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One background process of a session, and the calls about it.
 *
 * Theory of operation: session.exec waits for STARTED, process.wait for the end, process.write for
 * the guest to have taken its bytes (process_input.h). EXIT is the receipt, kept with the rings.
 *
 * States:                          side exits
 *   STARTING  EXEC was sent        it failed, cancelled, the session closes: never was there
 *   RUNNING   the guest says so    the session closes
 *   ENDED     EXIT came            forgotten when too many have ended
 */
#ifndef DAEMON_SESSION_PROCESS_H
#define DAEMON_SESSION_PROCESS_H

#include "daemon/session/process_input.h"
#include "daemon/session/processes.h"
#include "daemon/session/ring.h"

enum process_state {
	PROCESS_STARTING,
	PROCESS_RUNNING,
	PROCESS_ENDED,
};

enum { PROCESS_STDOUT, PROCESS_STDERR, PROCESS_STREAMS };
extern const char *const process_stream_names[PROCESS_STREAMS];
extern const enum frame_substream process_stream_subs[PROCESS_STREAMS];

/* One connection's place in the outputs of one process (attach.h). */
struct follower {
	LIST_ENTRY(follower) of_process, of_attachment;
	struct attachment *attachment;
	struct process *process;
	uint64_t next[PROCESS_STREAMS];
};

struct process {
	TAILQ_ENTRY(process) link;
	struct processes *processes;
	char id[PROCESS_ID_SIZE];
	enum process_state state;
	bool is_kept;     /* process_record.h */
	bool is_unwanted; /* its caller has cancelled it before it was there */
	uint32_t number;
	struct vm *vm;         /* NULL when the session has closed */
	struct rpc_call *call; /* session.exec, while STARTING */
	char *command;         /* for people */
	char *cwd;
	uint64_t rows, columns; /* of its terminal; 0: it has none */
	struct ring rings[PROCESS_STREAMS];
	size_t held[PROCESS_STREAMS]; /* bytes that are not credited yet */
	LIST_HEAD(, follower) followers;
	struct process_input input;
	TAILQ_HEAD(, process_wait) waits;
	uint64_t begun_us, execute_us;
	uint64_t started_ns, ended_ns; /* wall clock; 0: not yet */
	struct msg_exit exit;          /* when ENDED */
	ev_timer start_deadline;
	struct defer free_later;
};

/* An empty one with its lists and timers. NULL without memory. */
struct process *process_new(struct processes *processes);

/* Makes one of a request, which it takes, and sends it to the guest. NULL with the error. */
struct process *process_create(struct processes *processes, struct rpc_call *call,
			       struct run_request *request_take, struct vm *vm, uint32_t number,
			       struct rpc_error **ret_error);

/* Makes its call one that is answered later. */
struct rpc_reply process_reply_pending(struct process *process) WARN_UNUSED;

/* Answers all who wait for it with copies of this error; it is over. */
void process_fail(struct process *process, const struct rpc_error *error);
void process_free(struct process *process);

/* The guest speaks of it. That its end was heard is acknowledged by who keeps it. */
void process_on_started(struct process *process);
void process_on_exit(struct process *process, const struct msg_exit *exit);
void process_on_output(struct process *process, enum frame_substream sub, const uint8_t *data,
		       size_t len);

/* Credits what was held, unless a follower is too far behind or all have written too fast. */
void process_credit(struct process *process);

/* Handle process.signal, .resize, .wait: params have passed method_validate(). */
struct rpc_reply process_signal(struct process *process, struct rpc_call *call,
				const json_t *params) WARN_UNUSED;
struct rpc_reply process_resize(struct process *process, struct rpc_call *call,
				const json_t *params) WARN_UNUSED;
struct rpc_reply process_wait(struct process *process, struct rpc_call *call,
			      const json_t *params) WARN_UNUSED;

/* Its end has come: answers those who wait. With an error all hear that instead. */
void process_end_waits(struct process *process, const struct rpc_error *error);

/* NULL, or that it has ended. */
struct rpc_error *process_require_living(const struct process *process) WARN_UNUSED;

/* As process.list shows it. New reference. */
json_t *process_describe(const struct process *process);

/* Its RunResult, or {state: "running", …}, with output from these offsets on. New reference. */
json_t *process_result(const struct process *process, const uint64_t offsets[PROCESS_STREAMS]);

#endif
