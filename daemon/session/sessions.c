/* SPDX-License-Identifier: Apache-2.0 */
/* All sessions: found by id or name, listed, remembered for a while when they are closed. */
#include "daemon/session/sessions.h"

#include "daemon/session/session_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define LIST_DEFAULT 100

int sessions_create(const struct sessions_config *config, struct sessions **ret)
{
	struct sessions *sessions = calloc(1, sizeof(*sessions));

	if (!sessions)
		return -ENOMEM;
	sessions->config = *config;
	TAILQ_INIT(&sessions->open);
	*ret = sessions;
	return 0;
}

void sessions_destroy(struct sessions *sessions)
{
	struct session *session;

	if (!sessions)
		return;
	while ((session = TAILQ_FIRST(&sessions->open)))
		session_close(session, REASON_DAEMON_STOPPED);
	free(sessions);
}

void sessions_add(struct sessions *sessions, struct session *session)
{
	struct session *next;

	if (!*session->id) {
		draw_id(session->id, sizeof(session->id), sessions->config.node, "ses");
		session->order = sessions->last_order + 1;
	}
	sessions->last_order = MAX(sessions->last_order, session->order);
	/* Those of an earlier daemon come in any order. */
	TAILQ_FOREACH(next, &sessions->open, link)
	if (next->order > session->order)
		break;
	if (next)
		TAILQ_INSERT_BEFORE(next, session, link);
	else
		TAILQ_INSERT_TAIL(&sessions->open, session, link);
}

void sessions_remove(struct sessions *sessions, struct session *session, enum session_reason reason)
{
	struct tombstone *tombstone = &sessions->closed[sessions->closed_next];

	TAILQ_REMOVE(&sessions->open, session, link);
	sessions->counters.closed[reason]++;
	/* Nobody was told its id. */
	if (reason == REASON_CANCELLED || reason == REASON_NO_VM)
		return;
	sessions->closed_next = (sessions->closed_next + 1) % SESSIONS_REMEMBERED;
	memcpy(tombstone->id, session->id, sizeof(tombstone->id));
	tombstone->uid = session->uid;
	tombstone->reason = reason;
}

bool sessions_has_name(const struct sessions *sessions, uid_t uid, const char *name,
		       const struct session *except)
{
	const struct session *session;

	TAILQ_FOREACH(session, &sessions->open, link)
	if (session != except && session->uid == uid && strcmp(session->name, name) == 0)
		return true;
	return false;
}

static bool may_see(const struct rpc_peer *peer, uid_t uid)
{
	return peer->is_admin || peer->uid == uid;
}

/* By its id, or one of the caller's own by its name. */
static struct session *find_open(struct sessions *sessions, const struct rpc_peer *peer,
				 const char *name)
{
	struct session *session;

	TAILQ_FOREACH(session, &sessions->open, link)
	if (strcmp(session->id, name) == 0 && may_see(peer, session->uid))
		return session;
	TAILQ_FOREACH(session, &sessions->open, link)
	if (*name && strcmp(session->name, name) == 0 && session->uid == peer->uid)
		return session;
	return NULL;
}

struct session *sessions_find(struct sessions *sessions, const struct rpc_peer *peer,
			      const char *name, struct rpc_error **ret_error)
{
	struct session *session = find_open(sessions, peer, name);
	struct rpc_error *error;

	if (session)
		return session;
	for (size_t i = 0; i < SESSIONS_REMEMBERED; i++) {
		const struct tombstone *closed = &sessions->closed[i];

		if (*closed->id && may_see(peer, closed->uid) && strcmp(closed->id, name) == 0) {
			*ret_error = session_closed_error(closed->id, closed->reason);
			return NULL;
		}
	}
	error = rpc_error_new(RPC_SESSION_NOT_FOUND, "There is no session '%.64s'", name);
	rpc_error_set(error, "session", json_string(name));
	*ret_error = rpc_error_hint(error, "'execsandboxctl session list' shows the sessions");
	return NULL;
}

/* --- session.list --- */

/* Where to go on: behind the session of that number. */
static bool read_cursor(const json_t *cursor, uint64_t *ret)
{
	const char *text = json_string_value(cursor);
	char *end;

	*ret = 0;
	if (!text)
		return true;
	errno = 0;
	*ret = strtoull(text, &end, 10);
	return *text >= '0' && *text <= '9' && !*end && errno == 0;
}

static bool is_wanted(const struct session *session, const json_t *params)
{
	const char *name = json_string_value(json_object_get(params, "name"));
	const char *state = json_string_value(json_object_get(params, "state"));

	return (!name || strcmp(session->name, name) == 0) &&
	       (!state || strcmp(session_state_name(session->state), state) == 0);
}

json_t *sessions_list(const struct sessions *sessions, const struct rpc_peer *peer,
		      const json_t *params, struct rpc_error **ret_error)
{
	const json_t *limit = json_object_get(params, "limit");
	size_t left = limit ? (size_t)json_integer_value(limit) : LIST_DEFAULT;
	const struct session *session;
	uint64_t behind, last = 0;
	json_t *list, *result;

	if (!read_cursor(json_object_get(params, "cursor"), &behind)) {
		*ret_error = rpc_error_set(
			rpc_error_hint(rpc_error_new(RPC_INVALID_PARAMS, "'cursor' is none"),
				       "give next_cursor of the list before"),
			"field", json_string("cursor"));
		return NULL;
	}
	list = json_array();
	result = json_pack("{s:o}", "sessions", list);
	TAILQ_FOREACH(session, &sessions->open, link)
	{
		if (session->order <= behind || !may_see(peer, session->uid) ||
		    !is_wanted(session, params))
			continue;
		if (left-- == 0) {
			json_object_set_new(result, "next_cursor",
					    json_sprintf("%ju", (uintmax_t)last));
			break;
		}
		json_array_append_new(list, session_describe(session));
		last = session->order;
	}
	return result;
}

const char *sessions_vm_owner(const struct sessions *sessions, const struct vm *vm)
{
	const struct session *session;

	TAILQ_FOREACH(session, &sessions->open, link)
	if (session->vm == vm)
		return session->id;
	return NULL;
}

const struct sessions_counters *sessions_counters(const struct sessions *sessions)
{
	return &sessions->counters;
}

size_t sessions_processes(const struct sessions *sessions)
{
	const struct session *session;
	size_t count = 0;

	TAILQ_FOREACH(session, &sessions->open, link)
	count += processes_living(&session->processes);
	return count;
}

size_t sessions_in_state(const struct sessions *sessions, const char *state)
{
	const struct session *session;
	size_t count = 0;

	TAILQ_FOREACH(session, &sessions->open, link)
	if (strcmp(session_state_name(session->state), state) == 0)
		count++;
	return count;
}
