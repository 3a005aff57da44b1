/* SPDX-License-Identifier: Apache-2.0 */
/* The balloon of one VM, driven over QMP. */
#include "daemon/vm/balloon.h"

#include "base/util.h"
#include "daemon/vm/qemu_argv.h"

#include <errno.h>

/* QEMU answers these from memory; only a main loop that hangs takes longer. */
#define QMP_DEADLINE_MS  2000
#define PROGRESS_SECONDS 0.1
/* Guest pages are 4 KiB and the driver works in 1 MiB steps: nearer than that is there. */
#define NEAR_BYTES (1u << 20)

static uint64_t distance(uint64_t a, uint64_t b)
{
	return a > b ? a - b : b - a;
}

static void finish(struct balloon *balloon, int error)
{
	balloon_done_fn on_done = balloon->on_done;

	balloon->on_done = NULL;
	loop_timer_stop(balloon->loop, &balloon->progress);
	if (on_done)
		on_done(balloon->user, error, balloon->actual_bytes);
}

static uint64_t stat_of(const json_t *stats, const char *name)
{
	double value = json_number_value(json_object_get(stats, name));

	/* "Not reported" is 2^64-1; no guest has more than a PiB. */
	return value > 0 && value < 0x1p50 ? (uint64_t)value : 0;
}

static void on_stats(void *user, const json_t *ret, const struct qmp_error *error)
{
	struct balloon *balloon = user;
	const json_t *stats = json_object_get(ret, "stats");

	uint64_t updated_s = stat_of(ret, "last-update");
	bool is_same = updated_s == balloon->stats.updated_s;

	if (error)
		return;
	balloon->stats = (struct balloon_stats){
		.total = stat_of(stats, "stat-total-memory"),
		.free = stat_of(stats, "stat-free-memory"),
		.available = stat_of(stats, "stat-available-memory"),
		.caches = stat_of(stats, "stat-disk-caches"),
		.swap_in = stat_of(stats, "stat-swap-in"),
		.swap_out = stat_of(stats, "stat-swap-out"),
		.updated_s = updated_s,
		.received_us = is_same ? balloon->stats.received_us : now_us(),
	};
}

static void on_query(void *user, const json_t *ret, const struct qmp_error *error)
{
	struct balloon *balloon = user;

	if (!error)
		balloon_changed(balloon,
				(uint64_t)json_integer_value(json_object_get(ret, "actual")));
}

static void query(struct balloon *balloon)
{
	/* A full command queue means QEMU is not answering: its deadlines say so to their owners.
	 */
	(void)qmp_command(balloon->qmp, "query-balloon", NULL, QMP_DEADLINE_MS, on_query, balloon);
}

/* At the first poll and not at the start: most runs are over by then. */
static void start_polling(struct balloon *balloon)
{
	balloon->is_polling = true;
	(void)qmp_command(balloon->qmp, "qom-set",
			  json_pack("{s:s, s:s, s:i}", "path", QEMU_BALLOON_QOM, "property",
				    "guest-stats-polling-interval", "value",
				    (int)MAX(balloon->interval_seconds, 1.)),
			  QMP_DEADLINE_MS, NULL, NULL);
}

static void on_poll(struct ev_loop *ev UNUSED, ev_timer *timer, int events UNUSED)
{
	struct balloon *balloon = timer->data;

	if (!balloon->is_polling)
		start_polling(balloon);
	(void)qmp_command(
		balloon->qmp, "qom-get",
		json_pack("{s:s, s:s}", "path", QEMU_BALLOON_QOM, "property", "guest-stats"),
		QMP_DEADLINE_MS, on_stats, balloon);
	query(balloon);
	loop_timer_start(balloon->loop, &balloon->poll, balloon->interval_seconds);
}

static void on_progress_timer(struct ev_loop *ev UNUSED, ev_timer *timer, int events UNUSED)
{
	struct balloon *balloon = timer->data;

	query(balloon);
	loop_timer_start(balloon->loop, &balloon->progress, PROGRESS_SECONDS);
}

static void on_target_set(void *user, const json_t *ret UNUSED, const struct qmp_error *error)
{
	struct balloon *balloon = user;

	/* Answers come in order: until the last one they are of targets that were replaced. */
	if (--balloon->unanswered > 0 || !balloon->on_done)
		return;
	if (error) {
		balloon->target_bytes = balloon->actual_bytes;
		finish(balloon, error->error);
		return;
	}
	query(balloon);
	loop_timer_start(balloon->loop, &balloon->progress, PROGRESS_SECONDS);
}

void balloon_start(struct balloon *balloon, struct loop *loop, struct qmp *qmp, uint64_t size_bytes,
		   double interval_seconds)
{
	/* Of an earlier client of the same VM. */
	unsigned unanswered = balloon->qmp == qmp ? balloon->unanswered : 0;

	*balloon = (struct balloon){.loop = loop,
				    .qmp = qmp,
				    .size_bytes = size_bytes,
				    .actual_bytes = size_bytes,
				    .target_bytes = size_bytes,
				    .interval_seconds = interval_seconds,
				    .unanswered = unanswered};
	ev_timer_init(&balloon->poll, on_poll, 0., 0.);
	ev_timer_init(&balloon->progress, on_progress_timer, 0., 0.);
	balloon->poll.data = balloon->progress.data = balloon;
	loop_timer_start(loop, &balloon->poll, interval_seconds);
}

void balloon_adopt(struct balloon *balloon)
{
	balloon->is_target_unknown = true;
	query(balloon);
}

void balloon_stop(struct balloon *balloon)
{
	if (!balloon->loop)
		return;
	loop_timer_stop(balloon->loop, &balloon->poll);
	finish(balloon, -ECANCELED);
}

int balloon_set(struct balloon *balloon, uint64_t target_bytes, balloon_done_fn on_done, void *user)
{
	int r = qmp_command(balloon->qmp, "balloon",
			    json_pack("{s:I}", "value", (json_int_t)target_bytes), QMP_DEADLINE_MS,
			    on_target_set, balloon);

	if (r < 0)
		return r;
	balloon->unanswered++;
	balloon->is_target_unknown = false;
	balloon->target_bytes = target_bytes;
	finish(balloon, -ECANCELED);
	balloon->on_done = on_done;
	balloon->user = user;
	return 0;
}

void balloon_cancel(struct balloon *balloon)
{
	finish(balloon, -ECANCELED);
}

void balloon_changed(struct balloon *balloon, uint64_t actual_bytes)
{
	balloon->actual_bytes = MIN(actual_bytes, balloon->size_bytes);
	if (balloon->is_target_unknown)
		balloon->target_bytes = balloon->actual_bytes;
	if (balloon->on_done && distance(balloon->actual_bytes, balloon->target_bytes) < NEAR_BYTES)
		finish(balloon, 0);
}
