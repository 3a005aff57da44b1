/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One program in one VM, from its request to the answer of its call.
 *
 * Theory of operation: an exec owns its call and answers it once. It waits until its owner, a `run`
 * or a session, has a VM for it; then it sends the program there, gathers output, and ends with the
 * guest's receipt (EXIT) or without one. The host's monotonic clock decides the deadline: at it the
 * guest is told to kill the program, and a guest that has not sent EXIT kill_grace + 250 ms later
 * is not waited for; the call answers `timeout` either way. A cancelled program ends the same way
 * and answers with what there is.
 * An exec with an exec_id (results.h) goes on without its caller. Another one whose caller is gone
 * is over at once where the VM is its own, since that goes with it; where other programs follow in
 * the VM (is_shared), its end is waited for as at a cancellation.
 *
 * The owner is the client of the VM, or makes the exec that (exec_client_ops), and hears of the end
 * once, by on_done, when the call has been answered.
 *
 * States:                          side exits
 *   WAITING  for a VM              cancel, caller gone, exec_fail()
 *   RECALLED an earlier daemon began it, and its VM is being adopted (exec_recall.h); exec_fail()
 *   RUNNING  EXEC was sent         deadline, cancel, caller gone, VM lost, protocol broken
 *   KILLING  KILL was sent         EXIT or the kill deadline, whichever is first; VM lost
 *   COLLECTING  it has ended, its owner fetches what it has left; cancel, caller gone, VM lost
 *   DONE     answered              freed in this iteration
 */
#ifndef DAEMON_SESSION_EXEC_H
#define DAEMON_SESSION_EXEC_H

#include "conf/config.h"
#include "daemon/rpc/call.h"
#include "daemon/session/request.h"
#include "daemon/session/results.h"
#include "daemon/session/run_counters.h"
#include "daemon/vm/vm.h"

#define SESSION_ID_SIZE 64

/* What a guest gets to report an end after the SIGKILL (API, "Closer rules"). */
#define EXEC_KILL_REPORT_SECONDS 0.25

struct exec;

/* Borrowed, longer than any exec. */
struct exec_env {
	struct loop *loop;
	const struct config *config;
	struct run_counters *counters;
	struct results *results;
};

/* How an exec has left its VM. */
enum exec_end {
	EXEC_NOT_BEGUN,
	EXEC_REPORTED,   /* the guest says that nothing of it runs any more */
	EXEC_UNREPORTED, /* it may still run: the guest has not said in time */
	EXEC_BROKEN,     /* the guest broke its word */
	EXEC_LOST,       /* there is no VM any more, or none that takes messages */
	EXEC_STOPPED,    /* the daemon ends */
};

struct exec_ops {
	/* The program has ended, and the VM is still there: the answer waits for exec_collected().
	 * May be NULL: it does not wait. */
	void (*on_ended)(void *user, struct exec *exec);
	void (*on_done)(void *user, struct exec *exec, enum exec_end end);
};

struct exec_config {
	const struct exec_env *env;
	bool is_shared;      /* other programs follow in its VM */
	size_t extra_bytes;  /* that its owner keeps for it: they count as its own */
	const char *session; /* for the result; NULL: none. Copied */
	const struct exec_ops *ops;
	void *user;
};

/* For vm_attach() with the exec as user; an owner that is the client itself hands on to them. */
extern const struct vm_client_ops exec_client_ops;

/*
 * A call and what it asks for: takes `request` (also when it fails), charges its bytes to the
 * caller. With an exec_id in `params`, which results_join() has not found, it goes on when its
 * caller has gone, and its result is kept. NULL with the error to answer in `ret_error`.
 */
struct exec *exec_create(const struct exec_config *config, struct rpc_call *call,
			 const json_t *params, struct run_request *request_take,
			 struct rpc_error **ret_error) WARN_UNUSED;

/* Makes the call one that is answered later. Call it last: the exec answers from here on. */
struct rpc_reply exec_reply_pending(struct exec *exec) WARN_UNUSED;

/* Frees an exec whose call was not made pending: it never ran. */
void exec_free(struct exec *exec);

/* Its turn has come: runs in a VM that is attached, under a number that the VM has not seen.
 * `granted_us` is when the VM was its own, for the times of the result. */
void exec_begin(struct exec *exec, struct vm *vm, uint32_t number, enum pool_start start,
		uint64_t granted_us);

/* After on_ended: answers, with these for the `files` of the result. Harmless when it is DONE. */
void exec_collected(struct exec *exec, json_t *files_take);

/* Answers with this error; a program that runs is not waited for. Harmless when it is DONE. */
void exec_fail(struct exec *exec, struct rpc_error *error_take);

/* As $/cancelRequest does: it is answered when the program has ended. */
void exec_cancel(struct exec *exec);

/* How far it is, {state: "running", vm, session?, stdout, …}, with output from these offsets. */
json_t *exec_progress(const struct exec *exec, uint64_t stdout_offset, uint64_t stderr_offset);

/* The next bytes of an output from `*offset` on, at most `max`, as {"data", "encoding"?}, and moves
 * the offset behind them: for others than its caller. NULL when there are none. New reference. */
json_t *exec_output_chunk(const struct exec *exec, enum frame_substream sub, uint64_t *offset,
			  size_t max);

/* What there is of its result, as of a cancelled one: for the `result` of an error. */
json_t *exec_partial_result(struct exec *exec);

bool exec_is_waiting(const struct exec *exec);

/* Has it an exec_id, and goes on without its caller? */
bool exec_is_kept(const struct exec *exec);

/* Counts bytes against its caller's buffers, if it has one. False when that is too much. */
bool exec_hold(struct exec *exec, size_t bytes);

/* Errors are counted where a call gets none: returns its argument. */
struct rpc_error *exec_refused(const struct exec_env *env, struct rpc_error *error);

#endif
