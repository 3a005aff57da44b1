/* SPDX-License-Identifier: Apache-2.0 */
/* Memory telemetry: fills MEMORY messages from /proc, zram's mm_stat and the user cgroup. */
#ifndef GUEST_AGENT_MEMORY_H
#define GUEST_AGENT_MEMORY_H

#include "guest-agent/cgroup.h"
#include "guest-agent/guard.h"
#include "protocol/message.h"

/* Everything that can be read; what a kernel does not have stays zero. `id` stays zero too. */
void memory_read(const struct cgroup *cgroup, struct msg_memory *ret);

/* The guard's sample of now. False where the kernel counts no pressure of the user cgroup. */
bool memory_read_pressure(const struct cgroup *cgroup, struct guard_sample *ret);

/* Fills in /proc/meminfo's and /proc/vmstat's figures from their text. */
void memory_parse_meminfo(const char *text, struct msg_memory *memory);
void memory_parse_vmstat(const char *text, struct msg_memory *memory);
/* The same for mm_stat (Documentation/admin-guide/blockdev/zram.rst). */
void memory_parse_mm_stat(const char *text, struct msg_memory *memory);

#endif
