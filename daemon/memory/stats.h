/* SPDX-License-Identifier: Apache-2.0 */
/* One sample per VM for `memory.stats`: the host's truth beside the guest's claims. */
#ifndef DAEMON_MEMORY_STATS_H
#define DAEMON_MEMORY_STATS_H

#include "daemon/memory/control.h"

#include <jansson.h>

/* {total_bytes, available_bytes, managed_bytes, managed_available_bytes, reserve_bytes,
 * budget_bytes, psi_some_avg10, psi_full_avg10, level, state}. New reference, NULL on failure. */
json_t *memory_host_json(const struct memory_control *control);

/*
 * One VM's sample: the host's figures, the balloon's, and the guest's claims as guest_stats joins
 * them. What is not known is null, and age_ms says how old the guest's word is. New reference, NULL
 * without memory.
 */
json_t *memory_vm_json(struct memory_control *control, struct vm *vm);

#endif
