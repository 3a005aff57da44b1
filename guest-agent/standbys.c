/* SPDX-License-Identifier: Apache-2.0 */
/* All interpreters that wait, and the PREPARE messages that ask for them. */
#include "guest-agent/standbys.h"

#include "base/log.h"
#include "base/util.h"
#include "guest-agent/go.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Several starts of an interpreter that imports its modules, on a busy host under TCG. */
#define PREPARE_SECONDS 30.
/* Longer than a clone's first short run takes. */
#define RETIRE_SECONDS 0.3

static_assert(STANDBYS_MAX >= LANGUAGES * STANDBYS_PER_LANGUAGE, "all may be asked for");
static_assert(ELEMENTSOF(((struct process_spared *)0)->pids) >= LANGUAGES * STANDBYS_PER_LANGUAGE,
	      "all may be spared");

/* A PREPARE without an answer. */
struct pending {
	struct standbys *standbys;
	const struct language *language; /* NULL: there is none */
	uint64_t id;
	size_t wanted;
	ev_timer deadline;
};

struct standbys {
	struct standbys_context context;
	struct standby_context each;
	struct standby slots[STANDBYS_MAX];
	struct pending pending[LANGUAGES];
	ev_timer retire; /* user code runs: the others go */
	bool has_begun;  /* user code, which may have been at what waits */
	unsigned serial;
};

static bool is_up(const struct standby *standby)
{
	return standby->state == STANDBY_STARTING || standby->state == STANDBY_WAITING;
}

static size_t count(const struct standbys *standbys, const struct language *language,
		    bool only_waiting)
{
	size_t n = 0;

	for (size_t i = 0; i < STANDBYS_MAX; i++) {
		const struct standby *standby = &standbys->slots[i];

		if (standby->language == language && is_up(standby) &&
		    (!only_waiting || standby->state == STANDBY_WAITING))
			n++;
	}
	return n;
}

PRINTF_LIKE(4, 5)
static void answer(struct standbys *standbys, uint64_t id, uint64_t waiting, const char *format,
		   ...)
{
	struct msg msg = {.type = FRAME_PREPARED, .prepared = {.id = id, .waiting = waiting}};
	va_list args;

	va_start(args, format);
	vsnprintf(msg.prepared.detail, sizeof(msg.prepared.detail), format, args);
	va_end(args);
	link_send(standbys->context.link, &msg);
}

static void answer_pending(struct pending *pending, const char *detail)
{
	struct standbys *standbys = pending->standbys;
	const struct language *language = TAKE_PTR(pending->language);

	if (!language)
		return;
	loop_timer_stop(standbys->context.loop, &pending->deadline);
	answer(standbys, pending->id, count(standbys, language, true), "%s", detail);
}

static void on_deadline(struct ev_loop *ev UNUSED, ev_timer *timer, int events UNUSED)
{
	answer_pending(timer->data, "Not all of them wait yet: they take too long to start");
}

static void on_change(void *user, const struct language *language, bool has_failed)
{
	struct standbys *standbys = user;
	struct pending *pending = &standbys->pending[language_index(language)];

	if (!pending->language)
		return;
	if (has_failed)
		answer_pending(pending, "An interpreter ended before it waited");
	else if (count(standbys, language, true) >= pending->wanted)
		answer_pending(pending, "");
}

static struct standby *find(struct standbys *standbys, const struct language *language)
{
	for (size_t i = 0; i < STANDBYS_MAX; i++) {
		struct standby *standby = &standbys->slots[i];

		if (standby->state == STANDBY_WAITING && standby->language == language)
			return standby;
	}
	return NULL;
}

static void retire_now(struct standbys *standbys, const struct standby *chosen)
{
	for (size_t i = 0; i < STANDBYS_MAX; i++)
		if (&standbys->slots[i] != chosen)
			standby_kill(&standbys->slots[i]);
}

static void on_retire(struct ev_loop *ev UNUSED, ev_timer *timer, int events UNUSED)
{
	retire_now(timer->data, NULL);
}

int standbys_create(struct standbys **ret, const struct standbys_context *context)
{
	struct standbys *standbys = calloc(1, sizeof(*standbys));

	if (!standbys)
		return -ENOMEM;
	standbys->context = *context;
	standbys->each = (struct standby_context){
		.loop = context->loop,
		.config = context->config,
		.cgroup = context->cgroup,
		.on_change = on_change,
		.user = standbys,
	};
	for (size_t i = 0; i < LANGUAGES; i++) {
		standbys->pending[i].standbys = standbys;
		ev_timer_init(&standbys->pending[i].deadline, on_deadline, 0., 0.);
		standbys->pending[i].deadline.data = &standbys->pending[i];
	}
	ev_timer_init(&standbys->retire, on_retire, 0., 0.);
	standbys->retire.data = standbys;
	*ret = standbys;
	return 0;
}

bool standbys_kill_all(struct standbys *standbys)
{
	bool are_left = false;

	for (size_t i = 0; i < STANDBYS_MAX; i++) {
		standby_kill(&standbys->slots[i]);
		are_left |= standbys->slots[i].state == STANDBY_ENDING;
	}
	return are_left;
}

void standbys_destroy(struct standbys *standbys)
{
	if (!standbys)
		return;
	loop_timer_stop(standbys->context.loop, &standbys->retire);
	for (size_t i = 0; i < LANGUAGES; i++)
		loop_timer_stop(standbys->context.loop, &standbys->pending[i].deadline);
	for (size_t i = 0; i < STANDBYS_MAX; i++)
		if (standbys->slots[i].state != STANDBY_NONE)
			process_fini(&standbys->slots[i].process, standbys->context.cgroup);
	free(standbys);
}

static int start_one(struct standbys *standbys, const struct language *language)
{
	for (size_t i = 0; i < STANDBYS_MAX; i++)
		if (standbys->slots[i].state == STANDBY_NONE)
			return standby_start(&standbys->slots[i], &standbys->each, language,
					     ++standbys->serial);
	return -EAGAIN;
}

static void end_language(struct standbys *standbys, const struct language *language)
{
	for (size_t i = 0; i < STANDBYS_MAX; i++)
		if (standbys->slots[i].language == language)
			standby_kill(&standbys->slots[i]);
}

void standbys_prepare(struct standbys *standbys, const struct msg_prepare *request)
{
	/* Those that are to go, go now: who is started for this must not go with them. */
	if (ev_is_active(&standbys->retire)) {
		loop_timer_stop(standbys->context.loop, &standbys->retire);
		retire_now(standbys, NULL);
	}
	const struct language *language = language_find(request->language);
	struct pending *pending;
	int r = 0;

	if (!language || !language->command) {
		answer(standbys, request->id, 0, "Unknown language '%s' (known: %s)",
		       request->language, language_known());
		return;
	}
	pending = &standbys->pending[language_index(language)];
	answer_pending(pending, "Another PREPARE came");
	if (request->count > STANDBYS_PER_LANGUAGE) {
		answer(standbys, request->id, count(standbys, language, true),
		       "At most %d may wait", STANDBYS_PER_LANGUAGE);
		return;
	}
	if (request->count == 0)
		end_language(standbys, language);
	for (size_t n = count(standbys, language, false); n < request->count && r == 0; n++)
		r = start_one(standbys, language);
	pending->language = language;
	pending->id = request->id;
	pending->wanted = (size_t)request->count;
	if (r < 0)
		answer_pending(pending, strerror(-r));
	else if (count(standbys, language, true) >= pending->wanted)
		answer_pending(pending, "");
	else
		loop_timer_start(standbys->context.loop, &pending->deadline, PREPARE_SECONDS);
}

/* Without cgroups only those that are spared tell a run's processes from others: they go now. */
static void retire_others(struct standbys *standbys, const struct standby *chosen)
{
	standbys->has_begun = true;
	if (cgroup_is_there(standbys->context.cgroup))
		loop_timer_start(standbys->context.loop, &standbys->retire, RETIRE_SECONDS);
	else
		retire_now(standbys, chosen);
	for (size_t i = 0; i < LANGUAGES; i++)
		answer_pending(&standbys->pending[i], "A run has begun");
}

void standbys_note_code(struct standbys *standbys)
{
	standbys->has_begun = true;
}

void standbys_dismiss(struct standbys *standbys)
{
	retire_others(standbys, NULL);
}

/* The run behind a rehearsal may use as much memory, mostly: set now, it needs no time then. */
static void limit_others(struct standbys *standbys, const struct program *program)
{
	for (size_t i = 0; i < STANDBYS_MAX; i++) {
		struct cgroup_run *group = &standbys->slots[i].process.cgroup;
		struct cgroup_limits limits = {.memory_max_bytes = program->memory_max_bytes,
					       .pids_max = group->limits.pids_max};

		if (standbys->slots[i].state == STANDBY_WAITING && group->fd >= 0)
			cgroup_run_limit(group, &limits);
	}
}

static size_t encode(const struct program *program, char message[GO_MESSAGE_MAX])
{
	const struct language *language = program->language;

	return language->can_stay ? go_encode_run(message, language->go_max, program->cwd,
						  program->args, program->env)
				  : go_encode(message, language->go_max, program->cwd,
					      program->args, program->env);
}

bool standbys_take(struct standbys *standbys, const struct program *program, bool spares_others,
		   struct process *ret)
{
	struct standby *standby = find(standbys, program->language);
	char message[GO_MESSAGE_MAX];
	size_t len = 0;

	/* One that does not fit this program dies with the others, or stays. */
	if (standby && language_can_set_late(program->language, program->env) &&
	    program_can_enter(program, standbys->context.config))
		len = encode(program, message);
	if (!spares_others)
		retire_others(standbys, len > 0 ? standby : NULL);
	if (spares_others)
		limit_others(standbys, program);
	if (len == 0)
		return false;
	program_limit(program, &standby->process);
	if (process_limit_cpu(&standby->process, program->cpu_seconds) < 0) {
		standby_kill(standby);
		return false;
	}
	if (!standby_go(standby, message, len, ret)) {
		log_notice("standby", "The %s that waited is gone", program->language->name);
		return false;
	}
	ret->go_fd = close_fd(ret->go_fd);
	return true;
}

bool standbys_take_resident(struct standbys *standbys, const struct language *language,
			    const json_t *env, struct process *ret)
{
	bool is_wanted = language->can_stay && !standbys->has_begun;
	struct standby *standby = is_wanted ? find(standbys, language) : NULL;
	char message[GO_MESSAGE_MAX];
	size_t len = 0;

	if (standby && language_can_set_late(language, env))
		len = go_encode_stay(message, language->go_max, env);
	return len > 0 && standby_go(standby, message, len, ret);
}

bool standbys_on_reaped(struct standbys *standbys, pid_t pid)
{
	for (size_t i = 0; i < STANDBYS_MAX; i++) {
		if (standbys->slots[i].state == STANDBY_NONE ||
		    standbys->slots[i].process.pid != pid)
			continue;
		standby_on_reaped(&standbys->slots[i]);
		return true;
	}
	return false;
}

void standbys_spared(const struct standbys *standbys, struct process_spared *ret)
{
	ret->len = 0;
	for (size_t i = 0; i < STANDBYS_MAX; i++)
		if (is_up(&standbys->slots[i]))
			ret->pids[ret->len++] = standbys->slots[i].process.pid;
}
