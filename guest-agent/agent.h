/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent: answers the host and owns the runs.
 *
 * Theory of operation: one loop joins the port (where connections come from), the link (frames over
 * the present one), the runs, SIGCHLD, and two timers: telemetry every two seconds while a host
 * listens and 50 ms behind each program's start, and the pressure guard while a run lives.
 * Everything it does is bounded, so that a PING is answered at once whatever user code does.
 */
#ifndef GUEST_AGENT_AGENT_H
#define GUEST_AGENT_AGENT_H

#include "guest-agent/config.h"

struct agent;

/* Sets up cgroups as far as they are there, signals, and the way to the host. `config` must outlive
 * it. 0 or -errno. */
int agent_create(struct agent **ret, const struct agent_config *config);

/* Ends all runs, waits for their processes, frees. NULL is fine. */
void agent_destroy(struct agent *agent);

/* Serves until the only connection ends or SIGTERM comes; as PID 1 for ever. */
void agent_run(struct agent *agent);

#endif
