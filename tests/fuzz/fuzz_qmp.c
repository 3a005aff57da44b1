/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes of QEMU at the QMP client, while a balloon is driven over it. */
#include "base/util.h"
#include "daemon/vm/balloon.h"
#include "tests/fuzz/time.h"

/* How many deadlines pass behind what QEMU has said, at the most. */
#define DEADLINES    16
#define LONG_MS      3600000
#define LONG_SECONDS 3600.
#define VM_BYTES     (256u << 20)
#define COMMANDS     4

struct peer {
	struct loop *loop;
	struct qmp *qmp;
	struct balloon balloon;
	int fd;
	int ready, ended, asked, answered, ballooned;
};

static void on_answer(void *user, const json_t *ret, const struct qmp_error *error)
{
	struct peer *peer = user;

	FUZZ_CHECK(!ret != !error);
	FUZZ_CHECK(!error || (error->class && error->desc && error->error < 0));
	peer->answered++;
}

static void on_balloon_done(void *user, int error UNUSED, uint64_t actual_bytes UNUSED)
{
	struct peer *peer = user;

	peer->ballooned++;
}

static void on_ready(void *user)
{
	struct peer *peer = user;

	FUZZ_CHECK(++peer->ready == 1);
	for (; peer->asked < COMMANDS; peer->asked++)
		FUZZ_CHECK(qmp_command(peer->qmp, "query-status", NULL, LONG_MS, on_answer, peer) ==
			   0);
	balloon_start(&peer->balloon, peer->loop, peer->qmp, VM_BYTES, LONG_SECONDS);
	FUZZ_CHECK(balloon_set(&peer->balloon, VM_BYTES / 2, on_balloon_done, peer) == 0);
}

/* As daemon/vm/vm.c reads it. */
static void on_event(void *user, const char *name, const json_t *data, uint64_t time_us UNUSED)
{
	struct peer *peer = user;
	const json_t *actual = json_object_get(data, "actual");

	FUZZ_CHECK(name && (!data || json_is_object(data)));
	if (peer->ready && json_is_integer(actual))
		balloon_changed(&peer->balloon, (uint64_t)json_integer_value(actual));
}

static void on_end(void *user, int error)
{
	struct peer *peer = user;

	FUZZ_CHECK(error <= 0);
	FUZZ_CHECK(++peer->ended == 1);
	FUZZ_CHECK(peer->answered == peer->asked);
}

static const struct qmp_ops ops = {.on_ready = on_ready, .on_event = on_event, .on_end = on_end};

static void drain(void *user)
{
	fuzz_drain(((struct peer *)user)->fd);
}

/* First byte: piece length; the rest is what QEMU says. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct peer peer = {0};
	int fds[2];

	fuzz_begin();
	fuzz_time_begin();
	if (size < 1)
		return 0;
	fuzz_socketpair(fds);
	peer.fd = fds[0];
	FUZZ_CHECK(loop_create(&peer.loop) == 0);
	FUZZ_CHECK(qmp_create(peer.loop, "fuzz", fds[1], LONG_MS, &ops, &peer, &peer.qmp) == 0);
	fuzz_play(peer.loop, peer.fd, data + 1, size - 1, fuzz_piece(data[0], size - 1), drain,
		  &peer);
	for (int i = 0; i < DEADLINES && fuzz_time_pass(peer.loop); i++)
		fuzz_drain(peer.fd);
	close_fd(peer.fd);
	fuzz_settle(peer.loop);
	FUZZ_CHECK(peer.ended == 1);
	if (peer.ready)
		balloon_stop(&peer.balloon);
	FUZZ_CHECK(peer.ballooned == peer.ready);
	qmp_destroy(peer.qmp);
	fuzz_settle(peer.loop);
	loop_destroy(peer.loop);
	return 0;
}
