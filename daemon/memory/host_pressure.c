/* SPDX-License-Identifier: Apache-2.0 */
/* Memory pressure of the host: a callback when there is some, and figures every second. */
#include "daemon/memory/host_pressure.h"

#include "base/log.h"
#include "base/util.h"
#include "daemon/memory/host.h"

#include <errno.h>
#include <string.h>

#define LOG_OBJECT "host"

#define INTERVAL_SECONDS 1.
/* A quarter of the window that is watched. */
#define POLL_SECONDS 0.25
/* What the levels of the policy are defined over. */
#define STALL_WINDOW_US 2000000u

struct host_pressure {
	struct loop *loop;
	struct host_pressure_config config;
	host_pressure_fn on_pressure;
	void *user;

	struct host_source source;
	struct psi_history history; /* of this source */
	ev_io trigger_io;
	ev_timer poll, tick;
	double interval_seconds;
	uint64_t last_wake_us; /* by totals */

	uint64_t used_bytes;
	uint64_t total_bytes, available_bytes; /* of the last /proc/meminfo that could be read */
	bool is_meminfo_lost;
};

/* --- The source. --- */

/* Starts the watchers that the source's kind asks for. */
static void follow_source(struct host_pressure *pressure)
{
	switch (pressure->source.kind) {
	case HOST_SOURCE_TRIGGERS:
		ev_io_set(&pressure->trigger_io, pressure->source.trigger.epoll_fd, EV_READ);
		ev_io_start(loop_ev(pressure->loop), &pressure->trigger_io);
		break;
	case HOST_SOURCE_TOTALS:
		loop_timer_start(pressure->loop, &pressure->poll, POLL_SECONDS);
		break;
	case HOST_SOURCE_AVAILABLE:
		break;
	}
}

static void leave_source(struct host_pressure *pressure)
{
	ev_io_stop(loop_ev(pressure->loop), &pressure->trigger_io);
	loop_timer_stop(pressure->loop, &pressure->poll);
}

/* Reads the source's totals, and remembers them. */
static int read_psi(struct host_pressure *pressure, uint64_t us, struct psi *ret)
{
	int r = host_source_read(&pressure->source, ret);

	if (r == 0)
		psi_history_add(&pressure->history, us, ret);
	return r;
}

/* Another source may have other totals. The first reading is what later ones are compared with. */
static void retry_source(struct host_pressure *pressure)
{
	struct psi psi;

	if (pressure->source.path || !host_source_retry(&pressure->source))
		return;
	pressure->history = (struct psi_history){0};
	read_psi(pressure, now_us(), &psi);
	follow_source(pressure);
}

static void lose_source(struct host_pressure *pressure, int error)
{
	leave_source(pressure);
	host_source_lose(&pressure->source, error);
	retry_source(pressure);
}

/* --- Samples. --- */

static uint64_t minus(uint64_t a, uint64_t b)
{
	return a - MIN(a, b);
}

/* The last figures are better than none. */
static void read_meminfo(struct host_pressure *pressure)
{
	int r = host_meminfo_read(pressure->config.files, &pressure->total_bytes,
				  &pressure->available_bytes);

	if (r < 0 && !pressure->is_meminfo_lost)
		log_warning(LOG_OBJECT, "Cannot read '/proc/meminfo': %s", strerror(-r));
	pressure->is_meminfo_lost = r < 0;
}

static void measure_memory(struct host_pressure *pressure, struct host_sample *sample)
{
	uint64_t reserve = pressure->config.reserve_bytes, budget = pressure->config.budget_bytes;
	uint64_t managed, available;
	struct cgroup_memory cgroup;

	read_meminfo(pressure);
	own_cgroup_memory(pressure->config.files, &pressure->config.cgroup, &cgroup);
	managed = MIN(minus(pressure->total_bytes, reserve), cgroup.limit_bytes);
	available = MIN(minus(pressure->available_bytes, reserve), cgroup.available_bytes);
	sample->over_bytes = budget > 0 ? minus(pressure->used_bytes, budget) : 0;
	if (budget > 0) {
		managed = MIN(managed, budget);
		available = MIN(available, minus(budget, pressure->used_bytes));
	}
	sample->managed_bytes = managed;
	sample->available_bytes = MIN(available, managed);
}

static void measure_stall(const struct host_pressure *pressure, uint64_t us, const struct psi *psi,
			  struct host_sample *sample)
{
	struct psi_stall stall = psi_history_stall(&pressure->history, us, psi, STALL_WINDOW_US);

	sample->has_psi = true;
	sample->some_stall_percent = 100. * (double)stall.some_us / (double)stall.window_us;
	sample->full_stall_percent = 100. * (double)stall.full_us / (double)stall.window_us;
	sample->some_avg10 = psi->some.avg10;
	sample->full_avg10 = psi->full.avg10;
}

/* `psi`: NULL when there is none. */
static void measure(struct host_pressure *pressure, uint64_t us, const struct psi *psi,
		    struct host_sample *ret)
{
	*ret = (struct host_sample){.measured_us = us};
	measure_memory(pressure, ret);
	if (psi)
		measure_stall(pressure, us, psi, ret);
}

/* Reads everything, whatever the state of the source. */
static void look(struct host_pressure *pressure, uint64_t us, struct host_sample *ret)
{
	struct psi psi;
	int r = read_psi(pressure, us, &psi);

	if (r < 0 && pressure->source.path)
		lose_source(pressure, r);
	measure(pressure, us, r == 0 ? &psi : NULL, ret);
}

/* --- Wakes. --- */

static void on_trigger(struct ev_loop *ev UNUSED, ev_io *io, int events UNUSED)
{
	struct host_pressure *pressure = io->data;
	uint64_t us = now_us();
	struct host_sample sample;
	int r = psi_trigger_take(&pressure->source.trigger);

	if (r < 0) {
		lose_source(pressure, r);
		return;
	}
	look(pressure, us, &sample);
	pressure->on_pressure(pressure->user, &sample, HOST_WAKE_TRIGGER);
}

/* What the kernel's trigger would do: when over the threshold, once in a window. */
static bool is_wake(struct host_pressure *pressure, uint64_t us, const struct psi *psi)
{
	const struct psi_threshold *threshold = &host_source_threshold;
	struct psi_stall stall =
		psi_history_stall(&pressure->history, us, psi, threshold->window_us);

	if (stall.some_us < threshold->some_us && stall.full_us < threshold->full_us)
		return false;
	if (pressure->last_wake_us && us < pressure->last_wake_us + threshold->window_us)
		return false;
	pressure->last_wake_us = us;
	return true;
}

static void on_poll(struct ev_loop *ev UNUSED, ev_timer *timer, int events UNUSED)
{
	struct host_pressure *pressure = timer->data;
	uint64_t us = now_us();
	struct host_sample sample;
	struct psi psi;
	int r = read_psi(pressure, us, &psi);

	if (r < 0) {
		lose_source(pressure, r);
		return;
	}
	loop_timer_start(pressure->loop, &pressure->poll, POLL_SECONDS);
	if (!is_wake(pressure, us, &psi))
		return;
	measure(pressure, us, &psi, &sample);
	pressure->on_pressure(pressure->user, &sample, HOST_WAKE_TRIGGER);
}

static void on_tick(struct ev_loop *ev UNUSED, ev_timer *timer, int events UNUSED)
{
	struct host_pressure *pressure = timer->data;
	struct host_sample sample;

	loop_timer_start(pressure->loop, &pressure->tick, pressure->interval_seconds);
	retry_source(pressure);
	look(pressure, now_us(), &sample);
	pressure->on_pressure(pressure->user, &sample, HOST_WAKE_TIMER);
}

/* --- Life. --- */

static void init_watchers(struct host_pressure *pressure)
{
	ev_io_init(&pressure->trigger_io, on_trigger, -1, EV_READ);
	ev_timer_init(&pressure->poll, on_poll, 0., 0.);
	ev_timer_init(&pressure->tick, on_tick, 0., 0.);
	pressure->trigger_io.data = pressure->poll.data = pressure->tick.data = pressure;
}

int host_pressure_create(struct loop *loop, const struct host_pressure_config *config,
			 host_pressure_fn on_pressure, void *user, struct host_pressure **ret)
{
	struct host_pressure *pressure = calloc(1, sizeof(*pressure));
	struct psi psi;
	int r;

	if (!pressure)
		return -ENOMEM;
	pressure->loop = loop;
	pressure->config = *config;
	if (!config->files)
		pressure->config.files = &kernel_files_system;
	pressure->on_pressure = on_pressure;
	pressure->user = user;
	r = host_meminfo_read(pressure->config.files, &pressure->total_bytes,
			      &pressure->available_bytes);
	if (r < 0) {
		free(pressure);
		return r;
	}
	host_source_init(&pressure->source, pressure->config.files, &pressure->config.cgroup);
	init_watchers(pressure);
	read_psi(pressure, now_us(), &psi);
	follow_source(pressure);
	host_pressure_set_interval(pressure, INTERVAL_SECONDS);
	*ret = pressure;
	return 0;
}

void host_pressure_destroy(struct host_pressure *pressure)
{
	if (!pressure)
		return;
	leave_source(pressure);
	loop_timer_stop(pressure->loop, &pressure->tick);
	host_source_fini(&pressure->source);
	free(pressure);
}

void host_pressure_set_used(struct host_pressure *pressure, uint64_t used_bytes)
{
	pressure->used_bytes = used_bytes;
}

void host_pressure_set_limits(struct host_pressure *pressure, uint64_t reserve_bytes,
			      uint64_t budget_bytes)
{
	pressure->config.reserve_bytes = reserve_bytes;
	pressure->config.budget_bytes = budget_bytes;
}

void host_pressure_set_interval(struct host_pressure *pressure, double seconds)
{
	if (pressure->interval_seconds == seconds)
		return;
	pressure->interval_seconds = seconds;
	loop_timer_start(pressure->loop, &pressure->tick, seconds);
}

void host_pressure_sample(struct host_pressure *pressure, struct host_sample *ret)
{
	look(pressure, now_us(), ret);
}

enum host_source_kind host_pressure_source(const struct host_pressure *pressure)
{
	return pressure->source.kind;
}

const char *host_pressure_path(const struct host_pressure *pressure)
{
	return pressure->source.path;
}
