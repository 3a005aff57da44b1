/* SPDX-License-Identifier: Apache-2.0 */
/* What a guest claims of its memory: the agent's word and the balloon driver's joined into one. */
#include "daemon/memory/guest_stats.h"

#include "base/util.h"

static void take_agent(const struct msg_memory *agent, struct policy_guest *guest)
{
	guest->total_bytes = guest_claim(agent->mem_total);
	guest->free_bytes = guest_claim(agent->mem_free);
	guest->available_bytes = guest_claim(agent->mem_available);
	guest->caches_bytes = guest_claim(agent->mem_caches);
}

static void take_driver(const struct balloon_stats *driver, struct policy_guest *guest)
{
	guest->total_bytes = guest_claim(driver->total);
	guest->free_bytes = guest_claim(driver->free);
	guest->available_bytes = guest_claim(driver->available);
	guest->caches_bytes = guest_claim(driver->caches);
}

static void take_zram(const struct msg_memory *agent, struct policy_guest *guest)
{
	guest->swap_free_bytes = guest_claim(agent->swap_free);
	guest->anonymous_bytes = guest_claim(agent->mem_anonymous);
	guest->zram_limit_bytes = guest_claim(agent->zram_mem_limit);
	guest->zram_orig_bytes = guest_claim(agent->zram_orig_data_size);
	guest->zram_used_bytes = guest_claim(agent->zram_mem_used_total);
}

void guest_stats_join(const struct msg_memory *agent, uint64_t agent_age_us,
		      const struct balloon_stats *driver, uint64_t driver_age_us,
		      struct policy_guest *ret)
{
	bool is_fresh = agent && agent_age_us < GUEST_STATS_KEEP_US;
	bool is_agents = agent && (is_fresh || !driver || agent_age_us <= driver_age_us);

	*ret = (struct policy_guest){.is_known = agent || driver};
	if (is_agents)
		take_agent(agent, ret);
	else if (driver)
		take_driver(driver, ret);
	if (ret->is_known)
		ret->age_us = is_agents ? agent_age_us : driver_age_us;
	if (is_agents)
		take_zram(agent, ret);
	ret->is_agents = is_agents;
}
