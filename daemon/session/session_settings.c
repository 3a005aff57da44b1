/* SPDX-License-Identifier: Apache-2.0 */
/* What session.create and session.update say of a session, and how the API shows it. */
#include "daemon/session/session_internal.h"
#include "daemon/session/session_record.h"
#include "protocol/moment.h"

#include <stdio.h>
#include <string.h>

/* Rendered. */
#define METADATA_MAX_BYTES (16u * 1024)
/* Two clocks cannot be read at once, and a busy host may come between: far beyond that. */
#define CLOCK_WAS_SET_NS UINT64_C(1000000000)

static struct rpc_error *limit_error(const char *field, double value, double max)
{
	struct rpc_error *error =
		rpc_error_new(RPC_LIMIT_INVALID, "%s is %g, outside 1 to %g", field, value, max);

	rpc_error_set(error, "min", json_integer(1));
	rpc_error_set(error, "max", json_real(max));
	rpc_error_set(error, "field", json_string(field));
	return rpc_error_hint(error, "the configuration of the daemon sets these bounds");
}

static struct rpc_error *check_name(const struct session *session, const char *name)
{
	if (strstr(name, "ses_"))
		return rpc_error_field(
			rpc_error_new(RPC_INVALID_PARAMS, "A name does not hold 'ses_', as ids do"),
			"name");
	if (*name && sessions_has_name(session->sessions, session->uid, name, session))
		return rpc_error_field(
			rpc_error_hint(rpc_error_new(RPC_INVALID_PARAMS,
						     "There is a session named '%.64s'", name),
				       "close it, or choose another name"),
			"name");
	return NULL;
}

/* What session.create and session.update have in common. */
struct rpc_error *session_check_settings(const struct session *session, const json_t *params)
{
	const struct config *config = session->sessions->config.exec->config;
	const json_t *idle = json_object_get(params, "idle_timeout_seconds");
	const json_t *timeout = json_object_get(params, "timeout_seconds");
	const json_t *name = json_object_get(params, "name");
	const json_t *metadata = json_object_get(params, "metadata");
	double max = config->max_session_seconds;

	if (idle && json_number_value(idle) > max)
		return limit_error("idle_timeout_seconds", json_number_value(idle), max);
	if (timeout && json_number_value(timeout) > max)
		return limit_error("timeout_seconds", json_number_value(timeout), max);
	if (metadata && json_dumpb(metadata, NULL, 0, JSON_COMPACT) > METADATA_MAX_BYTES)
		return rpc_error_field(rpc_error_new(RPC_INVALID_PARAMS,
						     "'metadata' is over %u bytes long",
						     METADATA_MAX_BYTES),
				       "metadata");
	return name ? check_name(session, json_string_value(name)) : NULL;
}

void session_apply_settings(struct session *session, const json_t *params)
{
	const json_t *idle = json_object_get(params, "idle_timeout_seconds");
	const json_t *timeout = json_object_get(params, "timeout_seconds");
	const char *name = json_string_value(json_object_get(params, "name"));
	json_t *metadata = json_object_get(params, "metadata");

	if (idle)
		session->idle_timeout_seconds = json_number_value(idle);
	if (timeout)
		session->timeout_seconds = json_number_value(timeout);
	if (name)
		snprintf(session->name, sizeof(session->name), "%s", name);
	if (metadata) {
		json_decref(session->metadata);
		session->metadata = json_deep_copy(metadata);
	}
}

struct rpc_error *session_update(struct session *session, const json_t *params)
{
	struct rpc_error *error = session_check_settings(session, params);

	if (error)
		return error;
	session_apply_settings(session, params);
	if (json_object_get(params, "timeout_seconds") && session->vm)
		session_start_timeout(session);
	/* One that was recalled goes on with it when its VM has answered. */
	else if (json_object_get(params, "timeout_seconds"))
		session_set_timeout(session);
	if (json_object_get(params, "idle_timeout_seconds"))
		session_settle(session);
	session_save(session);
	return NULL;
}

/* --- As the API shows it. --- */

/* What was said before, so that it is the same each time; unless the wall clock has been set since.
 */
static json_t *expiry_json(const struct session *session)
{
	uint64_t left_us = session->expires_us - MIN(session->expires_us, now_us());
	uint64_t ns = realtime_ns() + left_us * 1000, said = session->expires_ns;

	if (session->expires_us == 0)
		return json_null();
	return moment_json(MAX(ns, said) - MIN(ns, said) < CLOCK_WAS_SET_NS ? said : ns);
}

json_t *session_describe(const struct session *session)
{
	json_t *object =
		json_pack("{s:s, s:o, s:s, s:s, s:s?, s:I, s:I}", "session", session->id, "name",
			  *session->name ? json_string(session->name) : json_null(), "state",
			  session_state_name(session->state), "language", session->request.language,
			  "vm", session->vm ? vm_id(session->vm) : NULL, "memory_mb",
			  (json_int_t)session->request.memory_mb, "uid", (json_int_t)session->uid);
	bool is_idle = session->state == SESSION_IDLE && session->work_count == 0;

	if (!object)
		return NULL;
	json_object_set_new(object, "start",
			    session->vm ? json_string(pool_start_name(session->wish.start))
					: json_null());
	json_object_set_new(object, "execs", json_integer((json_int_t)session->exec_count));
	json_object_set_new(object, "queued", json_integer((json_int_t)session_waiting(session)));
	json_object_set_new(object, "processes",
			    json_integer((json_int_t)processes_living(&session->processes)));
	json_object_set_new(object, "created_at", moment_json(session->created_ns));
	json_object_set_new(object, "idle_since", moment_json(is_idle ? session->idle_ns : 0));
	json_object_set_new(object, "idle_timeout_seconds",
			    json_real(session->idle_timeout_seconds));
	json_object_set_new(object, "expires_at", expiry_json(session));
	json_object_set_new(object, "on_timeout", json_string("close"));
	json_object_set_new(object, "bind", json_string(session->is_bound ? "connection" : "none"));
	json_object_set(object, "metadata", session->metadata);
	return object;
}
