/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interpreter of a session: one process that runs one program after another and keeps what they
 * define.
 *
 * Theory of operation: an interpreter that waits becomes it when the host says that there will be
 * programs (Python: it goes on waiting, out of the reach of commands), or with the first program
 * when no user code has run before; else one is started. Each program is sent on its control
 * socket: a message (resident_message()), and with it the descriptors of the program's text, input
 * and outputs. The run owns the process meanwhile: what ends the run's tree ends the interpreter,
 * and the next program starts a fresh one. When the interpreter says that a program is done, with
 * an exit status and a report of its exception, the run gives the process back. What it says is a
 * claim of user code about itself (DESIGN: "The interpreter's word"): it can only end its own
 * session's runs, and what it has left running goes on until the session ends.
 */
#ifndef GUEST_AGENT_RESIDENT_H
#define GUEST_AGENT_RESIDENT_H

#include "base/loop.h"
#include "guest-agent/program.h"
#include "guest-agent/receipt.h"
#include "guest-agent/standbys.h"

struct resident_context {
	struct loop *loop;
	const struct agent_config *config;
	const struct cgroup *cgroup;
	struct standbys *standbys;
};

/* What a run hears; `report` is as of receipt_parse_report(). */
typedef void (*resident_done_fn)(void *user, int status, const char *report, size_t len);

/* Pipes of programs that are over, which what they left still writes to. */
#define RESIDENT_SINKS_MAX 256

struct resident_sink {
	struct loop *loop;
	int fd; /* -1: none */
	ev_io watcher;
	ev_timer pause;
};

struct resident {
	const struct resident_context *context;
	struct process process; /* while nobody has borrowed it */
	pid_t pid;              /* 0: there is none */
	int control_fd;
	bool awaits_word; /* it has waited, and goes on so until its first program comes */
	json_t *env;      /* what each is started with; NULL: none */
	ev_io watcher;
	char reply[5 + RECEIPT_REPORT_MAX];
	size_t reply_len;
	resident_done_fn on_done; /* NULL: no program runs */
	void *user;
	struct resident_sink sinks[RESIDENT_SINKS_MAX];
};

/* The program's ends; the caller's when this returns. */
struct resident_streams {
	int code_fd, stdin_fd, stdout_fd, stderr_fd;
};

void resident_init(struct resident *resident, const struct resident_context *context);
void resident_fini(struct resident *resident);

/* Programs of this language will come, for an interpreter with these variables. Is it there now? */
bool resident_prepare(struct resident *resident, const struct language *language, json_t *env_take);

/*
 * Has the program run, by a new interpreter if there is none, in a cgroup of name `name`. Its
 * process is the caller's until resident_return() or resident_lose(). 0; -EBUSY while another one's
 * is; or -errno.
 */
int resident_begin(struct resident *resident, const struct program *program, const char *name,
		   const struct resident_streams *streams, resident_done_fn on_done, void *user,
		   struct process *ret_process);

/* After on_done: the process goes on. */
void resident_return(struct resident *resident, struct process *process);

/* The process has ended, or will: it stays the caller's. */
void resident_lose(struct resident *resident);

/* Reads and drops what comes from now on, for who writes there and shall not die of it; with more
 * than RESIDENT_SINKS_MAX of them the pipe is closed. */
void resident_drop_output(struct resident *resident, int fd_take);

/* Bytes that it holds while nobody has borrowed it, with all that it has left running; 0 when there
 * is none. And its end, for lack of memory: the next program starts a fresh one. */
uint64_t resident_held(const struct resident *resident);
void resident_kill_for_memory(struct resident *resident);

/* A process was reaped. True when it was this one, borrowed by nobody. */
bool resident_on_reaped(struct resident *resident, pid_t pid);

#endif
