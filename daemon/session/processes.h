/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The background processes of one session: started, found, listed, followed, ended.
 *
 * Theory of operation: a process is an exec of the guest that runs beside the session's programs,
 * under a number of its own, until it ends or the session closes. What it writes is kept in a ring
 * per stream, by offsets from the beginning: whoever asks later, waits for the end, or is attached
 * reads from there. An attached connection that is congested is waited for, with the guest's stream
 * (attach.h); nobody else is, but for the pace at which all of them may write. Ended processes stay
 * known, as many as PROCESSES_REMEMBERED. Messages of the guest come to processes_on_message() and
 * its like, which tell whether the number was theirs. Everything is owned by the session:
 * processes_close() answers all who wait, processes_fini() frees.
 */
#ifndef DAEMON_SESSION_PROCESSES_H
#define DAEMON_SESSION_PROCESSES_H

#include "daemon/session/exec.h"
#include "daemon/session/sessions.h"

#include <sys/queue.h>

/* Living processes of one session: as many as the guest's agent has places for. */
#define PROCESSES_MAX 16
/* Ended ones that are still known. */
#define PROCESSES_REMEMBERED 16

#define PROCESS_ID_SIZE 64

/* Output that the guest may send of all of them together: what nobody asked for, and what is thrown
 * away at once, must not take the daemon's time from others. 20 MiB/s. */
#define PROCESSES_PACE_SECONDS 0.05
#define PROCESSES_PACE_BYTES   (1u << 20)

struct process;
struct attachment;

struct processes_config {
	const struct exec_env *env;
	const char *session; /* its id, as long as the processes */
	const char *node;    /* prefix of ids; may be empty */
	/* What processes_living() or processes_are_used() say may have changed. */
	void (*on_change)(void *user);
	/* What the next daemon would have to know of them has changed. */
	void (*on_save)(void *user);
	/* The guest has neither started nor refused one in time. */
	void (*on_unresponsive)(void *user);
	/* Bytes that the rings of this user may still take. */
	size_t (*room)(void *user);
	void *user;
};

/* Embedded in the session; what is inside is processes.c's and its friends'. */
struct processes {
	struct processes_config config;
	TAILQ_HEAD(process_list, process) list; /* in the order they were started */
	LIST_HEAD(attachment_list, attachment) attachments;
	size_t living, ended;
	size_t calls;    /* that wait */
	size_t credited; /* bytes in this interval */
	size_t pace_turn;
	ev_timer pace;           /* its end, while anything was */
	const struct exec *exec; /* the program that runs beside them, for attach.c; or NULL */
	uint64_t exec_number;
};

void processes_init(struct processes *processes, const struct processes_config *config);

/* The VM is going: all who wait are answered with SESSION_CLOSED. */
void processes_close(struct processes *processes, enum session_reason reason);
void processes_fini(struct processes *processes);

/* Those that run, or are about to. */
size_t processes_living(const struct processes *processes);

/* Does a call wait, or is a connection attached? */
bool processes_are_used(const struct processes *processes);

/* A call about one of them waits from now on; and no longer. */
void processes_call_began(struct processes *processes);
void processes_call_ended(struct processes *processes);

/* May so many bytes be credited now? False: process_credit() is called when they may. */
bool processes_may_credit(struct processes *processes, size_t bytes);

/* What the rings have allocated. */
size_t processes_bytes(const struct processes *processes);

/* NULL, or the error when one more is too many. */
struct rpc_error *processes_check_room(const struct processes *processes) WARN_UNUSED;

/*
 * Starts a process in a VM that works, under a number that it has not seen; the call is answered
 * when the guest has started it. Takes the request.
 */
struct rpc_reply processes_start(struct processes *processes, struct rpc_call *call,
				 struct run_request *request_take, struct vm *vm,
				 uint32_t number) WARN_UNUSED;

/* False when the number is none of theirs. */
bool processes_on_message(struct processes *processes, const struct msg *msg);
bool processes_on_output(struct processes *processes, uint32_t number, enum frame_substream sub,
			 const uint8_t *data, size_t len);
bool processes_on_input(struct processes *processes, uint32_t number, uint64_t taken);

/* What the next daemon has to know of them has changed. */
void processes_save(const struct processes *processes);

/* What the next daemon has to know. New reference, an array. */
json_t *processes_record(const struct processes *processes);

/* Those of an earlier daemon, whose VM has this directory; they live from processes_take_up() on.
 * False when that is no record. */
bool processes_recall(struct processes *processes, const json_t *record, int vm_dir_fd);

/* Adds what is here of their outputs, as in HELLO. */
void processes_tell_received(const struct processes *processes, json_t *received);

/* They go on in their VM. 0 or -errno: then it is of no use. */
int processes_take_up(struct processes *processes, struct vm *vm,
		      const struct msg_hello_reply *hello);

bool processes_has_number(const struct processes *processes, uint64_t number);

/* The process that params.process names. NULL with PROCESS_NOT_FOUND. */
struct process *processes_find(const struct processes *processes, const json_t *params,
			       struct rpc_error **ret_error);

/* The result of process.list. */
json_t *processes_list(const struct processes *processes);

#endif
