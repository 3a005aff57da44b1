/* SPDX-License-Identifier: Apache-2.0 */
/* What exec.c (one program, from its request to its answer) and exec_recall.c (one that an earlier
 * daemon began) share. */
#ifndef DAEMON_SESSION_EXEC_INTERNAL_H
#define DAEMON_SESSION_EXEC_INTERNAL_H

#include "daemon/session/exec.h"
#include "daemon/session/output.h"
#include "daemon/session/result.h"

enum exec_state {
	EXEC_WAITING,
	EXEC_RECALLED,
	EXEC_RUNNING,
	EXEC_KILLING,
	EXEC_COLLECTING,
	EXEC_DONE,
};

struct exec {
	struct exec_config config;
	enum exec_state state;
	enum run_verdict verdict;
	bool is_verdict_noted;        /* in a file, exec_recall.h */
	struct rpc_call *call;        /* NULL once answered or gone */
	struct result_record *record; /* NULL: none, or it has its end */
	struct run_request request;
	struct vm *vm; /* from exec_begin() to the end */
	uint32_t number;
	enum pool_start start;
	char vm_id[VM_ID_SIZE], session_id[SESSION_ID_SIZE];
	struct output out, err;
	size_t held[2];  /* bytes not credited yet because the caller is slow */
	json_int_t seq;  /* of run.output */
	bool is_started; /* run.started was sent */
	uint64_t asked_us, granted_us, dispatched_us;
	uint64_t ended_us;    /* COLLECTING; else 0 */
	struct msg_exit exit; /* the same: the guest's receipt */
	json_t *files;        /* for the result; NULL: none */
	ev_timer deadline;
	struct defer free_later;
};

/* Takes the request. NULL without memory. */
struct exec *exec_new(const struct exec_config *config, struct rpc_call *call,
		      struct run_request *request_take);

void exec_set_state(struct exec *exec, enum exec_state state);

/* Its VM is this one, from now on. */
void exec_set_vm(struct exec *exec, struct vm *vm, uint32_t number);

/* Answers with an outcome; `exit` is the guest's receipt, or NULL. */
void exec_answer(struct exec *exec, const struct msg_exit *exit, enum exec_end end);

/* Answers with an error. */
void exec_answer_error(struct exec *exec, struct rpc_error *error_take, enum exec_end end);

/* Has a RUNNING one killed: it ends with this verdict. */
void exec_kill_program(struct exec *exec, enum run_verdict verdict);

#endif
