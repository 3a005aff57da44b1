/* SPDX-License-Identifier: Apache-2.0 */
/* One sample per VM for `memory.stats`: the host's truth beside the guest's claims. */
#ifndef DAEMON_MEMORY_STATS_H
#define DAEMON_MEMORY_STATS_H

#include "daemon/memory/control.h"

#include <jansson.h>

/* {total_bytes, available_bytes, managed_bytes, managed_available_bytes, psi_some_avg10,
 * psi_full_avg10, level, state}. New reference, NULL on failure. */
json_t *memory_host_json(const struct memory_control *control);

/*
 * One VM's sample. Guest figures come from the agent, or from the balloon's statistics before the
 * agent has spoken; what is not known is null, and age_ms says how old the guest's word is. New
 * reference, NULL without memory.
 */
json_t *memory_vm_json(struct vm *vm);

#endif
