/* SPDX-License-Identifier: Apache-2.0 */
/* One interpreter that was started before its program is known, and waits for it. */
#include "guest-agent/standby.h"

#include "base/log.h"
#include "base/util.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static const char *const state_names[] = {
	[STANDBY_NONE] = "none",
	[STANDBY_STARTING] = "starting",
	[STANDBY_WAITING] = "waiting",
	[STANDBY_ENDING] = "ending",
};
static_assert(ELEMENTSOF(state_names) == STANDBY_ENDING + 1, "every state has a name");

static void set_state(struct standby *standby, enum standby_state state)
{
	log_debug("standby", "%s %d: state %s -> %s", standby->language->name, standby->process.pid,
		  state_names[standby->state], state_names[state]);
	standby->state = state;
	if (state != STANDBY_STARTING)
		ev_io_stop(loop_ev(standby->context->loop), &standby->watcher);
}

static void on_word(struct ev_loop *ev UNUSED, ev_io *watcher, int events UNUSED)
{
	struct standby *standby = watcher->data;
	const struct standby_context *context = standby->context;
	char word;
	ssize_t n = read(standby->process.go_fd, &word, 1);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n == 1) {
		set_state(standby, STANDBY_WAITING);
		process_note_usage(&standby->process);
	} else {
		standby_kill(standby);
	}
	context->on_change(context->user, standby->language, n != 1);
}

static int start_process(struct standby *standby, unsigned serial)
{
	const struct standby_context *context = standby->context;
	struct program program = {.language = standby->language};
	char name[32];
	int r = 0;

	if (standby->language->opens_program_file)
		r = program_make_placeholder(standby->language, context->config);
	snprintf(name, sizeof(name), "standby-%u", serial);
	if (r == 0 && cgroup_is_there(context->cgroup))
		r = cgroup_run_create(context->cgroup, name, &standby->process.cgroup);
	if (r == 0 && standby->process.cgroup.fd >= 0)
		cgroup_run_limit(&standby->process.cgroup,
				 &(struct cgroup_limits){.pids_max = STANDBY_PIDS_MAX});
	if (r == 0)
		r = program_start(&program, context->config, true, &standby->process);
	return r;
}

int standby_start(struct standby *standby, const struct standby_context *context,
		  const struct language *language, unsigned serial)
{
	int r;

	*standby =
		(struct standby){.context = context, .language = language, .process = PROCESS_NONE};
	r = start_process(standby, serial);
	if (r < 0) {
		process_fini(&standby->process, context->cgroup);
		return r;
	}
	ev_io_init(&standby->watcher, on_word, standby->process.go_fd, EV_READ);
	standby->watcher.data = standby;
	ev_io_start(loop_ev(context->loop), &standby->watcher);
	set_state(standby, STANDBY_STARTING);
	return 0;
}

void standby_kill(struct standby *standby)
{
	switch (standby->state) {
	case STANDBY_NONE:
	case STANDBY_ENDING:
		return;
	case STANDBY_STARTING:
	case STANDBY_WAITING:
		/* It has no children: its hook starts none. */
		kill(standby->process.pid, SIGKILL);
		set_state(standby, STANDBY_ENDING);
		return;
	}
}

void standby_on_reaped(struct standby *standby)
{
	const struct standby_context *context = standby->context;
	bool has_failed = standby->state == STANDBY_STARTING;

	set_state(standby, STANDBY_NONE);
	process_fini(&standby->process, context->cgroup);
	if (has_failed)
		context->on_change(context->user, standby->language, true);
}

bool standby_go(struct standby *standby, const void *message, size_t len, struct process *ret)
{
	/* It always fits the socket: less than all of it means that nobody reads. */
	if (write(standby->process.go_fd, message, len) != (ssize_t)len) {
		standby_kill(standby);
		return false;
	}
	set_state(standby, STANDBY_NONE);
	*ret = process_move(&standby->process);
	return true;
}
