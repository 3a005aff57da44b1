/* SPDX-License-Identifier: Apache-2.0 */
/* A session that outlives the daemon. */
#include "daemon/session/session_record.h"

#include "base/log.h"
#include "daemon/launcher/vm_dir.h"
#include "daemon/session/attach.h"
#include "daemon/session/exec_recall.h"
#include "daemon/session/request_record.h"
#include "daemon/session/session_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* --- What is written. --- */

/* NULL without memory. */
static json_t *pack(const struct session *session)
{
	json_t *owner = json_pack(
		"{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f}", "kind", "session", "id",
		session->id, "name", session->name, "order", (json_int_t)session->order, "start",
		(json_int_t)session->wish.start, "exec_count", (json_int_t)session->exec_count,
		"created_ns", (json_int_t)session->created_ns, "expires_us",
		(json_int_t)session->expires_us, "expires_ns", (json_int_t)session->expires_ns,
		"idle_timeout_seconds", session->idle_timeout_seconds, "timeout_seconds",
		session->timeout_seconds);

	if (json_object_set(owner, "metadata", session->metadata) == 0 &&
	    json_object_set_new(owner, "last_number", json_integer(session->last_number)) == 0 &&
	    json_object_set_new(owner, "request", request_record(&session->request)) == 0 &&
	    json_object_set_new(owner, "processes", processes_record(&session->processes)) == 0)
		return owner;
	json_decref(owner);
	return NULL;
}

void session_save(struct session *session)
{
	int r;

	if (session->is_bound || !session->vm || session->state == SESSION_CLOSED)
		return;
	r = vm_record_write(session->vm, pack(session));
	if (r < 0 && !session->is_unsaved)
		log_warning(session->id,
			    "Would not outlive the daemon, its record is not written: %s",
			    strerror(-r));
	session->is_unsaved = r < 0;
}

/* --- What is read. --- */

static uint64_t number_of(const json_t *owner, const char *name)
{
	json_int_t value = json_integer_value(json_object_get(owner, name));

	return value > 0 ? (uint64_t)value : 0;
}

static bool take_text(const json_t *owner, const char *name, char *ret, size_t size)
{
	const char *text = json_string_value(json_object_get(owner, name));

	return text && (size_t)snprintf(ret, size, "%s", text) < size;
}

static bool recall_settings(struct session *session, const json_t *owner)
{
	json_t *metadata = json_object_get(owner, "metadata");
	uint64_t start = number_of(owner, "start");

	if (!take_text(owner, "id", session->id, sizeof(session->id)) || !*session->id ||
	    !take_text(owner, "name", session->name, sizeof(session->name)) ||
	    !json_is_object(metadata) || start > POOL_START_BOOT)
		return false;
	json_decref(session->metadata);
	session->metadata = json_incref(metadata);
	session->order = number_of(owner, "order");
	session->exec_count = number_of(owner, "exec_count");
	session->last_number = (uint32_t)MIN(number_of(owner, "last_number"), FRAME_EXEC_MAX / 2);
	session->created_ns = number_of(owner, "created_ns");
	session->expires_us = number_of(owner, "expires_us");
	session->expires_ns = number_of(owner, "expires_ns");
	session->idle_timeout_seconds =
		json_number_value(json_object_get(owner, "idle_timeout_seconds"));
	session->timeout_seconds = json_number_value(json_object_get(owner, "timeout_seconds"));
	session->wish.start = (enum pool_start)start;
	return session->idle_timeout_seconds > 0 && session->timeout_seconds >= 0 &&
	       request_recall(json_object_get(owner, "request"), &session->request);
}

static bool recall_processes(struct session *session, const json_t *owner, const char *vm,
			     int vms_fd)
{
	_cleanup_close_ int dir_fd = vm_dir_open(vms_fd, vm);

	return dir_fd >= 0 &&
	       processes_recall(&session->processes, json_object_get(owner, "processes"), dir_fd);
}

/* The program that ran. NULL, or the error: it is not part of the session. */
static struct rpc_error *recall_program(struct session *session,
					const struct session_past_program *past, int vms_fd)
{
	struct run_request request;
	struct rpc_error *error = exec_recall_check("session.exec", past->saved);
	struct config config;

	request_lift_bounds(session->sessions->config.exec->config, &config);
	if (!error)
		error = exec_request_parse(json_object_get(past->saved, "params"), &config,
					   &session->request, &request);
	if (error)
		return error;
	if (!request_settle(json_object_get(past->saved, "settled"), &request)) {
		run_request_fini(&request);
		return exec_recall_error();
	}
	return session_recall_program(session, &request, past->record, past->saved, vms_fd);
}

/* Without its program the session goes on all the same: what the guest is at is a stray. */
static void recall_or_fail_program(struct session *session, const struct session_past_program *past,
				   int vms_fd)
{
	struct rpc_error *error = recall_program(session, past, vms_fd);

	if (!error)
		return;
	log_warning(session->id, "Its program does not go on: %s", error->message);
	error->code = RPC_VM_LOST;
	results_fail(past->record, error);
	rpc_error_free(error);
}

static struct rpc_error *no_record(const struct vm_record *vm)
{
	return rpc_error_new(RPC_VM_LOST, "The record of VM %s does not say what it is for",
			     vm->id);
}

static json_t *received(const struct session *session)
{
	const struct session_program *program = TAILQ_FIRST(&session->programs);
	json_t *offsets = json_object();

	processes_tell_received(&session->processes, offsets);
	if (program)
		exec_tell_received(program->exec, offsets);
	return offsets;
}

struct rpc_error *session_recall(struct sessions *sessions, const struct vm_record *vm,
				 const json_t *owner, const struct session_past_program *program,
				 int vms_fd, void (*on_settled)(void *user), void *user)
{
	struct session *session = session_new(sessions, vm->uid);
	struct rpc_error *error = NULL;

	if (!session)
		return rpc_error_no_memory();
	if (!recall_settings(session, owner) || !recall_processes(session, owner, vm->id, vms_fd))
		error = no_record(vm);
	if (error) {
		session_free(session);
		return error;
	}
	session->is_recalled = true;
	if (program->record)
		recall_or_fail_program(session, program, vms_fd);
	session_make_wish(session);
	sessions_add(sessions, session);
	error = pool_adopt(sessions->config.pool, &session->wish, vm, received(session));
	if (error) {
		session->wish.on_failed(session, error);
		on_settled(user);
		return NULL;
	}
	session->on_settled = on_settled;
	session->settled_user = user;
	return NULL;
}

/* --- It goes on. --- */

static bool is_known(void *user, uint32_t number)
{
	const struct session *session = user;
	const struct session_program *program = TAILQ_FIRST(&session->programs);

	return (program && exec_number(program->exec) == number) ||
	       processes_has_number(&session->processes, number);
}

static void on_strays_done(void *user)
{
	struct session *session = user;

	if (session->state == SESSION_STARTING)
		session_open(session);
	session_files_advance(session);
	session_work_end(session);
}

static void on_unresponsive(void *user)
{
	session_close(user, REASON_UNRESPONSIVE);
}

/* All that the guest is at and nobody asks for. */
static int add_strays(struct session *session, const struct msg_hello_reply *hello)
{
	session->strays = (struct strays){.env = session->sessions->config.exec,
					  .vm = session->vm,
					  .on_done = on_strays_done,
					  .on_unresponsive = on_unresponsive,
					  .user = session};
	return strays_take(&session->strays, hello, is_known, &session->last_number);
}

static void go_on(struct session *session, const struct msg_hello_reply *hello)
{
	struct session_program *program = TAILQ_FIRST(&session->programs);
	bool has_strays = session->strays.count > 0;

	if (has_strays)
		session_work_begin(session);
	if (program && !exec_is_waiting(program->exec)) {
		session_go_on_with(session, program);
		exec_take_up(program->exec, session->vm, hello);
	} else if (!has_strays) {
		session_open(session);
	}
}

void session_take_up(struct session *session)
{
	const struct msg_hello_reply *hello = vm_hello(session->vm);
	int r = processes_take_up(&session->processes, session->vm, hello);

	if (r == 0)
		r = add_strays(session, hello);
	log_info(session->id, "Taken up again with VM %s", vm_id(session->vm));
	if (r < 0)
		session_close(session, r == -EPROTO ? REASON_GUEST_PROTOCOL : REASON_VM_LOST);
	else
		go_on(session, hello);
}
