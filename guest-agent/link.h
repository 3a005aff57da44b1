/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The link to the host: frames over one connection after the other.
 *
 * Theory of operation: a connection comes (link_attach), READY is sent, and nothing else until the
 * host's HELLO; whatever state was left from before is then brought up to date by the owner, who
 * answers with link_accept() and resends. A connection that ends loses nothing but what was queued.
 * Frames of one iteration of the loop are gathered and leave in one write at its end: each write to
 * the port stops the virtual CPU. Data frames are taken only while little is queued, so that an
 * answer never waits behind more than a few of them. When the host does not read and the queue is
 * full the link goes back to waiting for HELLO: the resend mends it.
 */
#ifndef GUEST_AGENT_LINK_H
#define GUEST_AGENT_LINK_H

#include "base/stream.h"
#include "protocol/message.h"

enum link_state {
	LINK_DOWN,    /* no connection */
	LINK_WAITING, /* connected; only HELLO is heard, nothing is sent */
	LINK_OPEN,
};

struct link_ops {
	/* A control message came; HELLO also while waiting. Members may be taken out of it. */
	void (*on_message)(void *user, struct msg *msg);
	/* DATA, END or CREDIT came. Non-zero (-errno) ends decoding until the next SYNC. */
	int (*on_data)(void *user, uint32_t stream, uint64_t offset, const uint8_t *data,
		       size_t len);
	int (*on_end)(void *user, uint32_t stream, uint64_t offset);
	int (*on_credit)(void *user, uint32_t stream, uint64_t taken, uint64_t limit);
	/* There is room for data frames again. */
	void (*on_room)(void *user);
	/* The connection ended. */
	void (*on_down)(void *user);
};

/* The port's driver takes at most this much in one write (drivers/char/virtio_console.c,
 * port_fops_write): a frame of exactly that is one buffer and one notification of the host. */
#define LINK_BATCH_MAX (32u * 1024)

struct link {
	struct loop *loop;
	const struct link_ops *ops;
	void *user;
	enum link_state state;
	struct stream stream;
	struct frame_decoder decoder;
	struct defer flush;
	size_t batch_len;
	uint8_t batch[LINK_BATCH_MAX]; /* not written yet */
};

void link_init(struct link *link, struct loop *loop, const struct link_ops *ops, void *user);
void link_fini(struct link *link);

/* Takes a connected descriptor and sends READY. The link must be down. */
void link_attach(struct link *link, int fd_take);

/*
 * Answers a HELLO: watches for its SYNC from now on, sends its nonce raw and the reply behind it.
 * `received_take` and `execs_take` go into the reply.
 */
void link_accept(struct link *link, const struct msg_hello *hello, json_t *received_take,
		 json_t *execs_take);

/* Sends a control message; dropped silently unless the link is open. */
void link_send(struct link *link, const struct msg *msg);

/* Sends a frame of a data stream; the same. */
void link_send_data(struct link *link, uint32_t stream, uint64_t offset, const uint8_t *data,
		    size_t len);
void link_send_end(struct link *link, uint32_t stream, uint64_t offset);
void link_send_credit(struct link *link, uint32_t stream, uint64_t taken, uint64_t limit);

/* May data frames be sent now? If not, on_room() tells when. */
bool link_has_room(const struct link *link);

/* Largest piece for link_send_data(). */
extern const size_t link_data_max;

#endif
