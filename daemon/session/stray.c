/* SPDX-License-Identifier: Apache-2.0 */
/* What goes on in a session's VM that nobody waits for. */
#include "daemon/session/stray.h"

#include <errno.h>

static int add(struct strays *strays, uint32_t number)
{
	int r;

	if (strays->count == STRAYS_MAX)
		return -EBUSY;
	r = agent_link_resume_stray(vm_link(strays->vm), number);
	if (r == 0)
		strays->numbers[strays->count++] = number;
	return r;
}

static void kill_all(struct strays *strays)
{
	uint64_t grace_ms = (uint64_t)strays->env->config->kill_grace_ms;

	for (size_t i = 0; i < strays->count; i++) {
		struct msg msg = {.type = FRAME_KILL,
				  .kill = {.exec = strays->numbers[i], .grace_ms = grace_ms}};

		/* Whoever is not reached has the next deadline. */
		(void)agent_link_send(vm_link(strays->vm), &msg);
	}
	loop_timer_start(strays->env->loop, &strays->timer,
			 (double)grace_ms / 1000 + EXEC_KILL_REPORT_SECONDS);
}

static void on_timer(struct ev_loop *ev UNUSED, ev_timer *timer, int events UNUSED)
{
	struct strays *strays = timer->data;

	if (strays->is_killed) {
		strays->on_unresponsive(strays->user);
		return;
	}
	strays->is_killed = true;
	kill_all(strays);
}

int strays_take(struct strays *strays, const struct msg_hello_reply *hello,
		bool (*is_known)(void *user, uint32_t number), uint32_t *last_number)
{
	const json_t *entry;
	size_t i;
	int r;

	json_array_foreach (hello->execs, i, entry) {
		json_int_t number = json_integer_value(entry);

		if (number <= 0 || number > FRAME_EXEC_MAX / 2)
			return -EPROTO;
		*last_number = MAX(*last_number, (uint32_t)number);
		r = is_known(strays->user, (uint32_t)number) ? 0 : add(strays, (uint32_t)number);
		if (r < 0)
			return r;
	}
	ev_timer_init(&strays->timer, on_timer, 0., 0.);
	strays->timer.data = strays;
	if (strays->count > 0)
		loop_timer_start(strays->env->loop, &strays->timer, STRAY_SECONDS);
	return 0;
}

bool strays_on_message(struct strays *strays, const struct msg *msg)
{
	uint64_t number = msg->type == FRAME_EXIT      ? msg->exit.exec
			  : msg->type == FRAME_STARTED ? msg->exec_ref.exec
						       : 0;

	for (size_t i = 0; i < strays->count; i++) {
		if (strays->numbers[i] != number)
			continue;
		if (msg->type != FRAME_EXIT)
			return true;
		agent_link_exec_done(vm_link(strays->vm), strays->numbers[i]);
		strays->numbers[i] = strays->numbers[--strays->count];
		if (strays->count == 0) {
			strays_stop(strays);
			strays->on_done(strays->user);
		}
		return true;
	}
	return false;
}

void strays_stop(struct strays *strays)
{
	strays->count = 0;
	if (strays->vm)
		loop_timer_stop(strays->env->loop, &strays->timer);
}
