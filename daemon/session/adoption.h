/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an earlier daemon has left: sessions and runs that go on, and the rest, which is ended.
 *
 * Theory of operation: results of programs with an exec_id are read first; those that had not ended
 * name the VM they ran in. Then each VM that lives is looked at: one whose record says whose it is
 * goes on as that session or run, with its program if it had one; all others are killed. What ran
 * in a VM that is not there any more is lost, and its result says so. The daemon serves its clients
 * when all that go on have been heard of, or ADOPTION_SECONDS have passed: nobody finds a session
 * half of which is missing.
 */
#ifndef DAEMON_SESSION_ADOPTION_H
#define DAEMON_SESSION_ADOPTION_H

#include "daemon/session/run.h"
#include "daemon/session/sessions.h"

/* A guest answers within 0.3 s; one that does not is waited for, but not by clients, who are served
 * within a second of the start. */
#define ADOPTION_SECONDS 0.7

struct adoption;

struct adoption_config {
	const struct run_env *run;
	struct sessions *sessions;
	struct vm_host *host;
	void (*on_done)(void *user); /* from the loop, or from adoption_start() */
	void *user;
};

/* Takes up what there is. 0 or -ENOMEM. */
int adoption_start(const struct adoption_config *config, struct adoption **ret);

/* NULL is fine. */
void adoption_destroy(struct adoption *adoption);

#endif
