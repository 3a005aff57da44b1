/* SPDX-License-Identifier: Apache-2.0 */
/* What a run changes of the whole machine before it starts: the clock, the size of the home. */
#ifndef GUEST_AGENT_MACHINE_H
#define GUEST_AGENT_MACHINE_H

#include "guest-agent/config.h"
#include "protocol/message.h"

/*
 * Does what the request asks for, where the machine is ours (as PID 1), and otherwise nothing.
 * `home_bytes` is the size that the home directory was given last (0: none), and is kept up to
 * date. 0 or -errno.
 */
int machine_prepare(const struct agent_config *config, const struct msg_exec *request,
		    uint64_t *home_bytes);

#endif
