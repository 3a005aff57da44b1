/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's end of the guest link: one virtio-serial port of one VM.
 *
 * Theory of operation: the link waits for the agent's READY and says HELLO; to the agent of a
 * clone, which said READY in its template, it says the template's SYNC and HELLO at once, and so to
 * one that served another daemon.
 * Everything the guest sends before the nonce of that HELLO is thrown away. From then on control
 * messages go both ways, and each exec has four data streams with credit: code and standard input
 * are pumped from buffers the link owns (that of a background exec is written in pieces into the
 * window), output is handed up and credited only when the owner takes
 * it, so a slow client stops the guest and not the daemon.
 *
 * The guest is hostile: any frame it may not send now ends the link with -EPROTO. on_failed comes
 * once and last; agent_link_destroy() may not be called from inside callbacks (defer it),
 * agent_link_close() may.
 */
#ifndef DAEMON_VM_AGENT_LINK_H
#define DAEMON_VM_AGENT_LINK_H

#include "base/loop.h"
#include "protocol/message.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct agent_link;

struct agent_link_ops {
	/* The HELLO was answered: messages may be sent. `hello` is valid during the call. */
	void (*on_ready)(void *user, const struct msg_hello_reply *hello);
	/* A control message of the guest, already checked for form. Valid during the call. */
	void (*on_message)(void *user, const struct msg *msg);
	/* Output of an exec. The owner credits it later with agent_link_take(). */
	void (*on_output)(void *user, uint32_t exec, enum frame_substream sub, const uint8_t *data,
			  size_t len);
	/* The guest has taken `taken` bytes in all of the input of a background exec: there is room
	 * for more. */
	void (*on_input)(void *user, uint32_t exec, uint64_t taken);
	/* The link is dead: -EPIPE when QEMU closed it, -EPROTO when the guest broke the rules. */
	void (*on_failed)(void *user, int error, const char *why);
};

/*
 * Takes the connected socket. `sync` is the marker the agent watches for (FRAME_MARKER_SIZE bytes):
 * NULL when it has just booted. `name` is for logs and is copied. 0 or -errno.
 */
int agent_link_create(struct loop *loop, int fd_take, const char *name, const uint8_t *sync,
		      const struct agent_link_ops *ops, void *user, struct agent_link **ret);

/*
 * The same for an agent that served another daemon. It goes on watching for the same `sync`, so
 * that a third daemon needs to know no other. `received_take` says what of its outputs is here, as
 * in HELLO ({"<stream>": offset}). In on_ready, before anything of them comes, each number in
 * `execs` of the reply must be taken up, by agent_link_resume() or agent_link_resume_stray().
 */
int agent_link_adopt(struct loop *loop, int fd_take, const char *name, const uint8_t *sync,
		     json_t *received_take, const struct agent_link_ops *ops, void *user,
		     struct agent_link **ret);

/* An exec that another daemon began. */
struct agent_link_resume {
	uint32_t exec;
	bool is_background;
	/* All of its code and of its input; of that of a background exec nothing: more may be
	 * written. Taken. */
	char *code_take, *stdin_take;
	size_t code_len, stdin_len;
	uint64_t output_bytes[2]; /* that are here; as in HELLO */
};

/* 0, -EPROTO when the guest has received more than there is, -EBUSY, -ENOMEM or what sending
 * failed of. Takes the buffers in any case. */
int agent_link_resume(struct agent_link *link, const struct agent_link_resume *resume,
		      const struct msg_hello_reply *hello);

/* An exec whose outputs nobody wants: they are thrown away. Its EXIT comes to on_message. */
int agent_link_resume_stray(struct agent_link *link, uint32_t exec);

/* Does the guest know this exec: does it run, or has its end not been acknowledged? */
bool agent_link_knows(const struct msg_hello_reply *hello, uint32_t exec);

/* Adds to what HELLO says is here: so many bytes of this output. */
void agent_link_tell_received(json_t *received, uint32_t exec, enum frame_substream sub,
			      uint64_t bytes);

/* How much of a background exec's input the guest has received, from HELLO_REPLY. */
uint64_t agent_link_received(const struct msg_hello_reply *hello, uint32_t exec,
			     enum frame_substream sub);

void agent_link_close(struct agent_link *link);
void agent_link_destroy(struct agent_link *link);

/* The marker that the agent watches for since our HELLO: FRAME_MARKER_SIZE bytes, for its clones.
 */
const uint8_t *agent_link_sync(const struct agent_link *link);

/* Sends a control message, before on_ready too (it is read behind the HELLO). 0, or -errno when it
 * cannot be sent (the link is closed, no memory, too long). */
int agent_link_send(struct agent_link *link, const struct msg *msg);

/*
 * Starts an exec: sends EXEC and then pumps code and standard input as the guest grants credit.
 * Takes both buffers (malloc; NULL is empty) whatever it returns. 0 or -errno.
 */
int agent_link_exec(struct agent_link *link, const struct msg_exec *exec, char *code_take,
		    size_t code_len, char *stdin_take, size_t stdin_len);

/*
 * Input of a background exec, which goes on until agent_link_write_end(). Returns how many of the
 * bytes were taken, as many as a window has room for: on_input comes when it has more. -ENOENT when
 * there is no such exec, or its input has ended; -EPIPE and others when nothing can be sent.
 */
ssize_t agent_link_write(struct agent_link *link, uint32_t exec, const void *data, size_t len);
void agent_link_write_end(struct agent_link *link, uint32_t exec);

/* `len` bytes of output were dealt with: the guest may send as many more. */
void agent_link_take(struct agent_link *link, uint32_t exec, enum frame_substream sub, size_t len);

/* The exec's EXIT was taken: tells the guest and forgets the exec. */
void agent_link_exec_done(struct agent_link *link, uint32_t exec);

#endif
