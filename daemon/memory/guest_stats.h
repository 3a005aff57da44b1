/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a guest claims of its memory: the agent's word and the balloon driver's joined into one.
 *
 * Theory of operation: the agent tells all (meminfo, zram, what is anonymous) every two seconds,
 * the driver only what virtio-balloon has statistics for. The agent is believed while its word is
 * not older than GUEST_STATS_KEEP_US; then who spoke last, and what only the agent tells is not
 * known. Either is the guest: a claim that is over what any guest has counts as not made, and an
 * impossible one is kept as it is, so that the policy sees the lie. Sources:
 * Documentation/filesystems/proc.rst, QEMU docs/interop/virtio-balloon-stats.rst.
 */
#ifndef DAEMON_MEMORY_GUEST_STATS_H
#define DAEMON_MEMORY_GUEST_STATS_H

#include "daemon/memory/policy_vm.h"
#include "daemon/vm/balloon.h"
#include "protocol/message.h"

/* Three words of the agent. */
#define GUEST_STATS_KEEP_US 6000000u

/* What is believed of a claim: no guest has a PiB, and sums of less do not overflow. */
static inline uint64_t guest_claim(uint64_t bytes)
{
	return bytes < UINT64_C(1) << 50 ? bytes : 0;
}

/*
 * `agent` came agent_age_us ago and `driver` driver_age_us ago; NULL: it never spoke. Bytes,
 * microseconds.
 */
void guest_stats_join(const struct msg_memory *agent, uint64_t agent_age_us,
		      const struct balloon_stats *driver, uint64_t driver_age_us,
		      struct policy_guest *ret);

#endif
