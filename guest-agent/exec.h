/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One run of a user's program, from EXEC to EXIT_ACK.
 *
 * Theory of operation: the states below follow each other and are never gone back. The agent owns
 * the object and tells it what comes from the host and from wait(2); the object owns its processes,
 * pipes and cgroup, and sends by itself whenever exec_pump() lets it. A run ends when its main
 * process ends, or says farewell (guest-agent/report.h): whatever else its tree left running is
 * killed then, so that a forked child can neither outlive the run nor keep its output open. The
 * receipt is kept until the host has acknowledged it.
 * A background one runs beside others: its text has a file of its own, interpreters that wait go on
 * waiting for others, and the host is told of each byte of input that it has taken.
 */
#ifndef GUEST_AGENT_EXEC_H
#define GUEST_AGENT_EXEC_H

#include "guest-agent/cgroup.h"
#include "guest-agent/config.h"
#include "guest-agent/link.h"
#include "guest-agent/resident.h"
#include "guest-agent/standbys.h"
#include "guest-agent/terminal.h"

#include <sys/resource.h>

enum exec_state {
	EXEC_RECEIVING, /* the program's text is coming */
	EXEC_RUNNING,   /* its main process lives */
	EXEC_ENDING,    /* that is gone; the rest of its tree is being killed */
	EXEC_DRAINING,  /* all are gone; their last output waits for credit */
	EXEC_ENDED,     /* the receipt is made; EXIT is sent behind the output */
};

/* What all runs share; outlives them. */
struct exec_context {
	struct loop *loop;
	struct link *link;
	const struct agent_config *config;
	const struct cgroup *cgroup;
	struct standbys *standbys;
	struct resident *residents; /* LANGUAGES of them */
	uint64_t *home_bytes;       /* size that the home directory was given last; 0: none */
	uint64_t *serial;           /* of the last cgroup made for a run */
	/* Something waits to be sent: call exec_pump() soon. */
	void (*on_ready)(void *user);
	void *user;
};

struct exec;

/*
 * A new run; takes what it wants out of `request` (args and env). A request that cannot be served
 * (unknown language, no room for the text) makes a run that has already failed. 0 or -ENOMEM.
 */
int exec_create(struct exec **ret, const struct exec_context *context, struct msg_exec *request);
/* Like it, but failed from the start for the reason given. */
int exec_create_refused(struct exec **ret, const struct exec_context *context,
			const struct msg_exec *request, const char *reason);
/* Kills what still runs (without waiting for it) and frees. NULL is fine. */
void exec_destroy(struct exec *exec);

uint32_t exec_number(const struct exec *exec);
/* Does it run beside others? */
bool exec_is_background(const struct exec *exec);
enum exec_state exec_state(const struct exec *exec);
/* An ended run's last processes are dead: its cgroup can be removed. */
bool exec_is_gone(const struct exec *exec);

/* The main process while EXEC_RUNNING, else 0. */
pid_t exec_pid(const struct exec *exec);
/* Was EXIT put on this connection? Only then may an EXIT_ACK end the run's memory. */
bool exec_is_exit_sent(const struct exec *exec);

/* Frames of its streams. 0, or -errno that is the host's fault. */
int exec_data(struct exec *exec, enum frame_substream sub, uint64_t offset, const uint8_t *data,
	      size_t len);
int exec_end(struct exec *exec, enum frame_substream sub, uint64_t offset);
int exec_credit(struct exec *exec, enum frame_substream sub, uint64_t taken, uint64_t limit);

/* SIGTERM to the program's process group, SIGKILL to its whole tree `grace_ms` later (at once with
 * 0). A run that has not started fails. */
void exec_kill(struct exec *exec, uint64_t grace_ms);
/* A signal to the program's process group; SIGKILL goes to its whole tree. */
void exec_signal(struct exec *exec, uint64_t signal_number);
/* Its terminal, if it has one, has another size. */
void exec_resize(struct exec *exec, const struct terminal_size *size);
/* SIGKILL to the whole tree, for lack of memory. */
void exec_kill_for_memory(struct exec *exec);

/* The main process was reaped. */
void exec_on_reaped(struct exec *exec, int status, const struct rusage *rusage);
/* Some process was reaped: is an ending run's tree gone now? */
void exec_check_tree(struct exec *exec);

/* Samples what the kernel keeps no maximum of; call now and then. Returns the bytes held now. */
uint64_t exec_sample(struct exec *exec);

/* A new connection: adds its host-to-guest offsets to `received` (object), goes back to what the
 * host has (`host_received`, may be NULL), repeats what was said. */
void exec_describe(const struct exec *exec, json_t *received);
void exec_resume(struct exec *exec, const json_t *host_received);
/* The same EXEC came again: repeats STARTED. */
void exec_repeat_started(const struct exec *exec);

/* Sends at most one piece of each output, ends, and EXIT. True when it sent something. */
bool exec_pump(struct exec *exec);

#endif
