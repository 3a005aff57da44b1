/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Flow control of one data stream of the guest link: credit as absolute offsets, and resending.
 *
 * Theory of operation: the sender keeps every byte until the receiver has said it was taken, in a
 * buffer of one window, so a connection that is lost loses nothing: after a new HELLO it goes back
 * to the offset the receiver names. The receiver grants `limit = taken + window`; a sender beyond
 * the limit, a gap, or a credit that shrinks is a protocol error. No I/O: both ends and the tests
 * drive it.
 */
#ifndef PROTOCOL_FLOW_H
#define PROTOCOL_FLOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A window holds what travels during one round trip; 256 KiB keeps virtio-serial busy under TCG. */
#define FLOW_WINDOW (256u * 1024)

struct flow_sender {
	uint8_t *ring;    /* FLOW_WINDOW bytes, allocated on first use; byte `o` lives at o %
			     FLOW_WINDOW */
	uint64_t taken;   /* the receiver has these */
	uint64_t sent;    /* put on the wire on this connection */
	uint64_t written; /* given to us by the producer */
	uint64_t limit;   /* may be put on the wire */
	bool is_ended;    /* the producer has no more */
	bool is_end_sent;
};

void flow_sender_init(struct flow_sender *sender);
/* The same where another sender was before: the receiver has everything before `offset`. How much
 * more it takes it says itself. */
void flow_sender_init_at(struct flow_sender *sender, uint64_t offset);
void flow_sender_fini(struct flow_sender *sender);

/* Bytes that flow_sender_write() takes now. */
size_t flow_sender_room(const struct flow_sender *sender);

/* Adds bytes of the producer; at most flow_sender_room(). 0 or -ENOMEM, -ENOBUFS. */
int flow_sender_write(struct flow_sender *sender, const void *data, size_t len);

/* The producer has no more. */
void flow_sender_end(struct flow_sender *sender);

/*
 * The next piece to put on the wire, contiguous, at most `max` bytes: sets offset and data and
 * counts it as sent. Returns its length, 0 when nothing may be sent now.
 */
size_t flow_sender_next(struct flow_sender *sender, size_t max, uint64_t *ret_offset,
			const uint8_t **ret_data);

/* True once, when everything was sent and END (at offset `written`) is due on this connection. */
bool flow_sender_end_due(struct flow_sender *sender);

/* A CREDIT frame came. 0, or -EPROTO when it takes back what it gave or takes what was not sent. */
int flow_sender_credit(struct flow_sender *sender, uint64_t taken, uint64_t limit);

/* A new connection: the receiver has everything before `offset`. 0, or -EPROTO when that cannot be.
 */
int flow_sender_resume(struct flow_sender *sender, uint64_t offset);

/* All written bytes were taken and END was sent. */
bool flow_sender_is_done(const struct flow_sender *sender);

struct flow_receiver {
	uint64_t received; /* next offset expected */
	uint64_t taken;    /* consumed by our side */
	uint64_t limit;    /* last granted */
	bool is_ended;
};

/* Starts with a grant of one window, which both ends know without a message. */
void flow_receiver_init(struct flow_receiver *receiver);
/* Goes on for another receiver, who took everything before `offset`: a CREDIT (`taken`, `limit`) is
 * due. */
void flow_receiver_init_at(struct flow_receiver *receiver, uint64_t offset);

/*
 * A DATA frame of `len` bytes at `offset` came. Sets how many leading bytes are repeats to skip. 0,
 * or -EPROTO for a gap, data beyond the limit or behind the end.
 */
int flow_receiver_data(struct flow_receiver *receiver, uint64_t offset, size_t len,
		       size_t *ret_skip);

/* An END frame came. 0, or -EPROTO when bytes are missing before it. */
int flow_receiver_end(struct flow_receiver *receiver, uint64_t offset);

/* `len` received bytes were consumed. True when a CREDIT (`taken`, `limit`) should be sent now. */
bool flow_receiver_take(struct flow_receiver *receiver, size_t len);

/* The same where the sender waits for each of its bytes to be consumed: a CREDIT is due always. */
void flow_receiver_take_told(struct flow_receiver *receiver, size_t len);

#endif
