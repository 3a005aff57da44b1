/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames of the guest link: what travels over the virtio-serial port between daemon and agent.
 *
 * Theory of operation: a frame is `u32 length, u8 type, u32 stream, payload`, integers
 * little-endian, `length` counting the payload alone. The decoder takes bytes in any split and
 * calls back once per whole frame; it holds at most one frame (FRAME_PAYLOAD_MAX) of memory. A
 * length over the cap, a missing trailer, or what the callback refuses (a type that is not the
 * peer's to send) is a protocol error, after which the decoder takes nothing more.
 *
 * Resynchronisation: a peer that died may have left half a frame in the pipe. A marker is 16 bytes
 * that only the two ends know. No byte of a marker is FRAME_TRAILER, so half a frame that is filled
 * up with the first bytes of a marker shows by its last byte, and is an error instead of a frame.
 * The agent always watches for its marker (SYNC) in the raw stream, in whatever state the decoder
 * is; finding it drops the unfinished frame. The daemon, having sent a HELLO, discards everything
 * until it sees the nonce of that HELLO as a marker.
 */
#ifndef PROTOCOL_FRAME_H
#define PROTOCOL_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRAME_HEADER_SIZE 9
#define FRAME_TRAILER     '\n'
#define FRAME_OVERHEAD    (FRAME_HEADER_SIZE + 1)
/* One cap for every payload. EXEC with its arguments and environment is the largest control
 * message. */
#define FRAME_PAYLOAD_MAX (256u * 1024)
/* Data frames stay smaller, so that control messages never wait long behind one. */
#define FRAME_DATA_MAX    (32u * 1024)
#define FRAME_MARKER_SIZE 16

enum frame_type {
	/* Host to guest. */
	FRAME_HELLO = 1, /* struct msg_hello: opens or re-opens the link */
	FRAME_IDENTITY =
		2, /* struct msg_identity: entropy, clock, host name; answered by IDENTITY_DONE */
	FRAME_EXEC = 3,       /* struct msg_exec; answered by STARTED, later EXIT */
	FRAME_KILL = 4,       /* struct msg_kill: SIGTERM, then SIGKILL to the whole tree */
	FRAME_MEMORY_GET = 5, /* struct msg_ping: answered by MEMORY with that id */
	FRAME_PING = 6,       /* struct msg_ping; answered by PONG */
	FRAME_EXIT_ACK =
		7, /* struct msg_exec_ref: the exit was taken, the agent may forget the exec */
	FRAME_PREPARE = 8, /* struct msg_prepare: interpreters shall wait; answered by PREPARED */
	FRAME_MEMORY_DROP =
		9, /* struct msg_ping: drop the page cache; answered by MEMORY with that id */
	FRAME_SIGNAL = 10, /* struct msg_signal: a signal for a background process */
	FRAME_RESIZE = 11, /* struct msg_resize: its terminal has another size now */
	/* Guest to host. */
	FRAME_READY = 32, /* struct msg_ready: the agent has opened its port and waits for HELLO */
	FRAME_HELLO_REPLY =
		33, /* struct msg_hello_reply, preceded by the HELLO's nonce as a raw marker */
	FRAME_IDENTITY_DONE = 34, /* struct msg_ping */
	FRAME_STARTED = 35,       /* struct msg_exec_ref */
	FRAME_EXIT = 36,     /* struct msg_exit: sent when all output of the exec has been sent */
	FRAME_MEMORY = 37,   /* struct msg_memory */
	FRAME_PONG = 38,     /* struct msg_ping */
	FRAME_PREPARED = 39, /* struct msg_prepared: as many wait as were asked for, or why not */
	/* Both ways, on a data stream. */
	FRAME_DATA = 64,   /* u64 offset, raw bytes */
	FRAME_END = 65,    /* u64 offset: the stream ends there */
	FRAME_CREDIT = 66, /* u64 taken, u64 limit: all before `taken` may be forgotten, up to
			      `limit` may be sent */
};

/* Data streams of exec number `e` (1, 2, …). Stream 0 carries control messages. */
enum frame_substream {
	SUBSTREAM_STDIN = 0,  /* host to guest */
	SUBSTREAM_STDOUT = 1, /* guest to host */
	SUBSTREAM_STDERR = 2, /* guest to host */
	SUBSTREAM_CODE = 3,   /* host to guest: the program's text; it starts when this ends */
};
#define FRAME_EXEC_MAX 0x3fffffffu

static inline uint32_t frame_stream_id(uint32_t exec, enum frame_substream sub)
{
	return exec * 4 + (uint32_t)sub;
}

static inline uint32_t frame_stream_exec(uint32_t stream)
{
	return stream / 4;
}

static inline enum frame_substream frame_stream_sub(uint32_t stream)
{
	return (enum frame_substream)(stream % 4);
}

/* Name for logs ("HELLO", …), "?" when there is none. */
const char *frame_type_name(uint8_t type);

/* Draws a marker (or a HELLO's nonce) that nobody can guess; none of its bytes is FRAME_TRAILER. */
void frame_marker_draw(uint8_t marker[FRAME_MARKER_SIZE]);

/* Writes a whole frame into `out`, which has room for FRAME_OVERHEAD + len bytes. Returns its size.
 */
size_t frame_encode(uint8_t *out, uint8_t type, uint32_t stream, const void *payload, size_t len);

void frame_put_u64(uint8_t out[8], uint64_t value);
uint64_t frame_get_u64(const uint8_t in[8]);

/* A whole frame; the payload is the callee's only during the call. Return non-zero (-errno) to stop
 * decoding. */
typedef int (*frame_fn)(void *user, uint8_t type, uint32_t stream, const uint8_t *payload,
			size_t len);

struct frame_decoder {
	uint8_t *buffer; /* the unfinished frame: header and payload */
	size_t len, size;
	int error; /* sticky: -EPROTO, -ENOMEM or what the callback returned */
	bool has_marker;
	bool is_discarding; /* until the marker is seen */
	uint8_t marker[FRAME_MARKER_SIZE];
	uint8_t recent[FRAME_MARKER_SIZE - 1]; /* the last raw bytes, for a marker that is split */
	size_t recent_len;
};

void frame_decoder_init(struct frame_decoder *decoder);
void frame_decoder_fini(struct frame_decoder *decoder);

/*
 * Watches for `marker` from now on. With `discard`, input is thrown away until it is seen, and the
 * watch then ends; without, the watch goes on for ever. Either way decoding starts afresh behind a
 * marker.
 */
void frame_decoder_watch(struct frame_decoder *decoder, const uint8_t marker[FRAME_MARKER_SIZE],
			 bool discard);

/*
 * Feeds bytes, calling `fn` per frame. 0; -EPROTO for an over-long frame; -ENOMEM; or what `fn`
 * returned. Errors are sticky until a watched marker is seen. `fn` may call frame_decoder_watch().
 */
int frame_decoder_feed(struct frame_decoder *decoder, const uint8_t *data, size_t len, frame_fn fn,
		       void *user);

#endif
