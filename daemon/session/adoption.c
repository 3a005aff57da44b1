/* SPDX-License-Identifier: Apache-2.0 */
/* What an earlier daemon has left: sessions and runs that go on, and the rest, which is ended. */
#include "daemon/session/adoption.h"

#include "base/log.h"
#include "daemon/launcher/vm_dir.h"
#include "daemon/session/session_record.h"
#include "daemon/vm/vm_record.h"
#include "daemon/vm/vm_spawn.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/queue.h>

/* A program that had not ended, as its result's record has it. */
struct past_program {
	LIST_ENTRY(past_program) link;
	struct result_record *record;
	json_t *saved;
};

struct adoption {
	struct adoption_config config;
	LIST_HEAD(, past_program) programs;
	size_t pending;   /* that have not answered */
	bool is_complete; /* all are on their way */
	ev_timer deadline;
	struct defer tell_later;
};

static void tell(void *user)
{
	struct adoption *adoption = user;

	loop_timer_stop(adoption->config.host->loop, &adoption->deadline);
	if (adoption->config.on_done)
		adoption->config.on_done(adoption->config.user);
	adoption->config.on_done = NULL;
}

static void on_deadline(struct ev_loop *ev UNUSED, ev_timer *timer, int events UNUSED)
{
	struct adoption *adoption = timer->data;

	log_warning(NULL,
		    "%zu VMs of the daemon before have not answered yet: serving without them",
		    adoption->pending);
	tell(adoption);
}

static void on_settled(void *user)
{
	struct adoption *adoption = user;

	adoption->pending--;
	if (adoption->pending == 0 && adoption->is_complete)
		loop_defer(adoption->config.host->loop, &adoption->tell_later, tell, adoption);
}

/* --- Programs that had not ended. --- */

static void fail_program(struct result_record *record)
{
	struct rpc_error *error = rpc_error_new(
		RPC_VM_LOST, "The daemon ended while the code ran, and its VM with it");

	rpc_error_hint(error, "whether the program had effects is not known");
	results_fail(record, error);
	rpc_error_free(error);
}

static void on_running(void *user, struct result_record *record, const json_t *saved)
{
	struct adoption *adoption = user;
	struct past_program *program = calloc(1, sizeof(*program));

	if (!program) {
		fail_program(record);
		return;
	}
	program->record = record;
	program->saved = json_incref((json_t *)saved);
	LIST_INSERT_HEAD(&adoption->programs, program, link);
}

static const struct results_load_ops load_ops = {.on_running = on_running};

static void drop_program(struct past_program *program)
{
	LIST_REMOVE(program, link);
	json_decref(program->saved);
	free(program);
}

static struct past_program *find_program(struct adoption *adoption, const char *vm)
{
	struct past_program *program;

	LIST_FOREACH(program, &adoption->programs, link)
	{
		const char *where = json_string_value(json_object_get(program->saved, "vm"));

		if (where && strcmp(where, vm) == 0)
			return program;
	}
	return NULL;
}

/* Nobody goes on with them. */
static void fail_programs(struct adoption *adoption)
{
	struct past_program *program;

	while ((program = LIST_FIRST(&adoption->programs))) {
		fail_program(program->record);
		drop_program(program);
	}
}

/* --- VMs. --- */

static struct rpc_error *recall_session(struct adoption *adoption, const struct vm_record *vm,
					const json_t *owner, const struct past_program *program)
{
	struct session_past_program past = {.record = NULL};

	if (program) {
		past.record = program->record;
		past.saved = program->saved;
	}
	return session_recall(adoption->config.sessions, vm, owner, &past,
			      adoption->config.host->vms_fd, on_settled, adoption);
}

static struct rpc_error *recall_run(struct adoption *adoption, const struct vm_record *vm,
				    const struct past_program *program)
{
	if (!program)
		return rpc_error_new(RPC_VM_LOST, "Its run is not known");
	return run_recall(adoption->config.run, vm, program->record, program->saved, on_settled,
			  adoption);
}

static void recall(struct adoption *adoption, const struct vm_record *vm, const json_t *owner)
{
	const char *kind = json_string_value(json_object_get(owner, "kind"));
	struct past_program *program = find_program(adoption, vm->id);
	struct rpc_error *error;

	adoption->pending++;
	if (kind && strcmp(kind, "session") == 0)
		error = recall_session(adoption, vm, owner, program);
	else
		error = recall_run(adoption, vm, program);
	if (error) {
		log_warning(vm->id, "Does not go on: %s", error->message);
		rpc_error_free(error);
		adoption->pending--;
		return;
	}
	if (program)
		drop_program(program);
}

static void adopt_vms(struct adoption *adoption)
{
	struct vm_host *host = adoption->config.host;
	struct vm_record vm;
	char name[VM_ID_SIZE];
	const char *id;
	json_t *owner;
	int r;

	for (size_t i = 0; (id = launcher_list(host->launcher, i));) {
		snprintf(name, sizeof(name), "%s", id);
		r = vm_record_read(host->vms_fd, name, &vm, &owner);
		if (r == 0) {
			recall(adoption, &vm, owner);
			json_decref(owner);
		} else if (r != -ENOENT) {
			log_warning(name, "Cannot read its record: %s", strerror(-r));
		}
		/* One that was adopted is not in the list any more. */
		id = launcher_list(host->launcher, i);
		if (id && strcmp(id, name) == 0)
			i++;
	}
	for (size_t i = 0; launcher_list(host->launcher, i); i++)
		log_notice(launcher_list(host->launcher, i),
			   "Ending it: nobody can come back for it");
	if (launcher_kill_rest(host->launcher) < 0)
		log_warning(NULL, "VMs of the daemon before do not end");
}

/* --- Life. --- */

int adoption_start(const struct adoption_config *config, struct adoption **ret)
{
	struct adoption *adoption = calloc(1, sizeof(*adoption));

	if (!adoption)
		return -ENOMEM;
	adoption->config = *config;
	LIST_INIT(&adoption->programs);
	ev_timer_init(&adoption->deadline, on_deadline, 0., 0.);
	adoption->deadline.data = adoption;
	*ret = adoption;
	/* What could not be read was logged; what runs there is a stray. */
	(void)results_load(config->run->exec->results, &load_ops, adoption);
	adopt_vms(adoption);
	fail_programs(adoption);
	vm_remove_left_files(config->host); /* of those that are dead */
	adoption->is_complete = true;
	if (adoption->pending == 0)
		tell(adoption);
	else
		loop_timer_start(config->host->loop, &adoption->deadline, ADOPTION_SECONDS);
	return 0;
}

void adoption_destroy(struct adoption *adoption)
{
	if (!adoption)
		return;
	loop_timer_stop(adoption->config.host->loop, &adoption->deadline);
	loop_defer_cancel(adoption->config.host->loop, &adoption->tell_later);
	free(adoption);
}
