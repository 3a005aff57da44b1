/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One `run`: a program, a fresh VM, an outcome.
 *
 * Theory of operation: a run waits for a VM, sends its program, gathers output, and ends with the
 * guest's receipt (EXIT) or without one. The host's monotonic clock decides the deadline: at it the
 * guest is told to kill the run, and a guest that has not sent EXIT kill_grace + 250 ms later loses
 * its VM; the call answers `timeout` either way. A cancelled run ends the same way and answers with
 * what there is. A caller who is gone takes the run and its VM along. The VM is released when the
 * run is done: it never runs other code.
 *
 * States:                          side exits
 *   WAITING  for a VM              cancel, caller gone, queue deadline or boot failure (the pool's)
 *   RUNNING  EXEC was sent         deadline, cancel, caller gone, VM lost, protocol broken
 *   KILLING  KILL was sent         EXIT or the kill deadline, whichever is first; VM lost; caller
 * gone DONE     answered              freed in this iteration
 */
#ifndef DAEMON_SESSION_RUN_H
#define DAEMON_SESSION_RUN_H

#include "conf/config.h"
#include "daemon/pool/pool.h"
#include "daemon/rpc/call.h"
#include "daemon/session/run_counters.h"

struct run_env {
	struct loop *loop;
	struct pool *pool;
	const struct config *config;
	struct run_counters *counters;
};

/* Handles one `run` call; params have passed method_validate(). */
struct rpc_reply run_start(const struct run_env *env, struct rpc_call *call,
			   const json_t *params) WARN_UNUSED;

#endif
