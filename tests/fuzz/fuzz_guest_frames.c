/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes of a hostile guest at the daemon's end of the guest link, during a run: its output and its
 * receipt go on into the result a client would get.
 */
#include "base/util.h"
#include "daemon/session/result.h"
#include "protocol/flow.h"
#include "tests/fuzz/guest.h"

#include <string.h>

/* Bits of an input's second byte. */
enum {
	FLAG_RAW = 1,       /* no handshake is played first */
	FLAG_KEEP = 2,      /* output is credited at the end only, as for a slow client */
	FLAG_BIG_INPUT = 4, /* standard input of more than a window */
};

#define OUTPUT_LIMIT (64u * 1024)
#define BIG_INPUT    (FLOW_WINDOW + 4096u)

struct guest {
	struct fuzz_guest peer;
	uint8_t flags;
	bool is_ready, is_failed, is_exited;
	struct output outputs[2]; /* stdout, stderr */
	size_t kept[2];
};

static void on_ready(void *user, const struct msg_hello_reply *hello)
{
	struct guest *guest = user;
	struct msg_exec exec = {.exec = 1, .language = "python"};
	size_t input_len = guest->flags & FLAG_BIG_INPUT ? BIG_INPUT : 0;

	FUZZ_CHECK(!guest->is_ready && !guest->is_failed);
	FUZZ_CHECK(hello->version == LINK_VERSION);
	guest->is_ready = true;
	(void)agent_link_exec(guest->peer.link, &exec, strdup("print(1)"), strlen("print(1)"),
			      input_len ? calloc(1, input_len) : NULL, input_len);
}

/* What daemon/session/run.c makes of a receipt. */
static void make_result(struct guest *guest, const struct msg_exit *exit)
{
	const struct run_outcome outcome = {
		.exit = exit,
		.out = &guest->outputs[0],
		.err = &guest->outputs[1],
		.vm = "vm_1",
		.language = "python",
		.start = "boot",
	};
	json_t *result = run_result(&outcome);
	char *text = result ? json_dumps(result, JSON_COMPACT) : NULL;

	FUZZ_CHECK(text);
	free(text);
	json_decref(result);
}

static void on_message(void *user, const struct msg *msg)
{
	struct guest *guest = user;

	FUZZ_CHECK(guest->is_ready && !guest->is_failed);
	if (msg->type != FRAME_EXIT)
		return;
	make_result(guest, &msg->exit);
	guest->is_exited = guest->is_exited || msg->exit.exec == 1;
	agent_link_exec_done(guest->peer.link, (uint32_t)msg->exit.exec);
}

static void on_output(void *user, uint32_t exec, enum frame_substream sub, const uint8_t *data,
		      size_t len)
{
	struct guest *guest = user;
	size_t i = sub == SUBSTREAM_STDERR;

	FUZZ_CHECK(exec == 1 && len > 0 && !guest->is_failed && !guest->is_exited);
	if (output_add(&guest->outputs[i], data, len) < 0) {
		agent_link_close(guest->peer.link);
		return;
	}
	json_decref(output_next_chunk(&guest->outputs[i], false));
	guest->kept[i] += len;
	FUZZ_CHECK(guest->kept[i] <= FLOW_WINDOW);
	if (guest->flags & FLAG_KEEP)
		return;
	agent_link_take(guest->peer.link, exec, sub, guest->kept[i]);
	guest->kept[i] = 0;
}

static void on_failed(void *user, int error, const char *why)
{
	struct guest *guest = user;

	FUZZ_CHECK(!guest->is_failed && error < 0 && why);
	guest->is_failed = true;
}

static const struct agent_link_ops ops = {
	.on_ready = on_ready,
	.on_message = on_message,
	.on_output = on_output,
	.on_failed = on_failed,
};

static void drain(void *user)
{
	fuzz_drain(((struct guest *)user)->peer.fd);
}

static void finish(struct guest *guest)
{
	agent_link_take(guest->peer.link, 1, SUBSTREAM_STDOUT, guest->kept[0]);
	agent_link_take(guest->peer.link, 1, SUBSTREAM_STDERR, guest->kept[1]);
	fuzz_guest_hang_up(&guest->peer);
	fuzz_guest_end(&guest->peer);
	make_result(guest, NULL);
	output_fini(&guest->outputs[0]);
	output_fini(&guest->outputs[1]);
}

/* First byte: piece length; second: flags; the rest is what the guest sends. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct guest guest = {.outputs = {{.limit = OUTPUT_LIMIT}, {.limit = OUTPUT_LIMIT}}};

	fuzz_begin();
	if (size < 2)
		return 0;
	guest.flags = data[1];
	fuzz_guest_start(&guest.peer, &ops, &guest);
	if (!(guest.flags & FLAG_RAW))
		fuzz_guest_say_hello(&guest.peer);
	FUZZ_CHECK(guest.is_ready || (guest.flags & FLAG_RAW));
	fuzz_play(guest.peer.loop, guest.peer.fd, data + 2, size - 2, fuzz_piece(data[0], size - 2),
		  drain, &guest);
	finish(&guest);
	return 0;
}
