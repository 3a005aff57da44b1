/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest of the fuzz harnesses: the other end of a guest link, which has said hello and then says
 * what an input tells.
 *
 * Theory of operation: bytes that are frames are found by chance alone, and what lies behind the
 * framing seldom. An input may therefore be a list of steps, [what][length, two bytes][bytes], of
 * which fuzz_guest_step() makes frames that are right in form, with offsets as they are due; a step
 * of raw bytes is there for all that is wrong.
 */
#ifndef TESTS_FUZZ_GUEST_H
#define TESTS_FUZZ_GUEST_H

#include "daemon/vm/agent_link.h"
#include "tests/fuzz/fuzz.h"

/* Execs of which a guest keeps offsets. */
#define FUZZ_GUEST_EXECS 4

struct fuzz_guest {
	struct loop *loop;
	struct agent_link *link;
	int fd;
	struct msg_hello hello;
	bool has_hello;
	uint64_t sent[FUZZ_GUEST_EXECS][2]; /* bytes of standard output and error */
};

/* A step's first byte: the low bits say what, the next two which exec. */
enum fuzz_step {
	STEP_OUT,     /* output: the bytes */
	STEP_ERR,     /* error output: the bytes */
	STEP_END,     /* both outputs end */
	STEP_EXITED,  /* the receipt of a program that has ended well */
	STEP_MESSAGE, /* a control message: its type, and its JSON */
	STEP_RAW,     /* the bytes as they are */
	STEP_CREDIT,  /* for input: a stream, four bytes of how much was taken */
	STEP_CALLER,  /* the harness's own */
	STEP_COUNT,
};
#define STEP_EXEC(byte) ((byte) / STEP_COUNT % FUZZ_GUEST_EXECS)

/* A link with `ops` over a fresh loop, and the guest's end of it. Aborts when it cannot. */
void fuzz_guest_start(struct fuzz_guest *guest, const struct agent_link_ops *ops, void *user);

/* READY, the daemon's HELLO, its nonce and HELLO_REPLY: on_ready has come then. */
void fuzz_guest_say_hello(struct fuzz_guest *guest);

/* Says one step, not STEP_CALLER, of the exec `number`; the loop has dealt with it then. */
void fuzz_guest_say(struct fuzz_guest *guest, uint8_t step, uint32_t number, const uint8_t *data,
		    size_t len);

/* Cuts the next step off an input. False: there is none. */
bool fuzz_guest_step(const uint8_t **data, size_t *size, uint8_t *ret_step,
		     const uint8_t **ret_bytes, size_t *ret_len);

/* Hangs up. The link is still there. */
void fuzz_guest_hang_up(struct fuzz_guest *guest);

/* Frees link and loop. */
void fuzz_guest_end(struct fuzz_guest *guest);

#endif
