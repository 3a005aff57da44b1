/* SPDX-License-Identifier: Apache-2.0 */
/* What the pool is told while it works: limits, memory, how many spares there shall be. */
#include "daemon/pool/pool_internal.h"

#include <errno.h>
#include <string.h>

/* --- Limits. --- */

/* Templates take their memory from the same host, not from the VMs' budget. */
void pool_update_limits(struct pool *pool)
{
	struct admission_limits limits = pool->config.limits;
	uint64_t templates_mb =
		pool->config.templates ? templates_memory_mb(pool->config.templates) : 0;

	limits.memory_mb -= MIN(templates_mb, limits.memory_mb);
	if (pool->config.budget_mb > 0)
		limits.memory_mb = MIN(limits.memory_mb, pool->config.budget_mb);
	admission_set_limits(&pool->admission, &limits, now_us());
}

void pool_set_memory(struct pool *pool, uint64_t memory_mb, uint64_t budget_mb)
{
	pool->config.limits.memory_mb = memory_mb;
	pool->config.budget_mb = budget_mb;
	pool_update_limits(pool);
	pool_advance(pool);
}

static void set_sizes(struct pool *pool, const struct pool_config *config)
{
	for (size_t i = 0; i < pool->kind_count; i++) {
		struct pool_kind *kind = &pool->kinds[i];

		for (size_t j = 0; j < POOL_LANGUAGES_MAX && config->sizes[j].language; j++)
			if (strcmp(config->sizes[j].language, kind->language) == 0 &&
			    config->sizes[j].size != pool->config.sizes[j].size)
				kind->target = config->sizes[j].size;
		pool_shrink(pool, kind);
	}
	memcpy(pool->config.sizes, config->sizes, sizeof(pool->config.sizes));
}

void pool_reconfigure(struct pool *pool, const struct pool_config *config)
{
	uint64_t memory_mb = pool->config.limits.memory_mb;

	pool->config.limits = config->limits;
	pool->config.limits.memory_mb = memory_mb;
	pool->config.hot_max = config->hot_max;
	pool->config.vm_memory_max_mb = config->vm_memory_max_mb;
	pool->config.memory_overcommit = config->memory_overcommit;
	pool->config.queue_timeout_seconds = config->queue_timeout_seconds;
	pool->config.boot_attempts = config->boot_attempts;
	set_sizes(pool, config);
	pool_update_limits(pool);
	pool_advance(pool);
}

/* --- Spares of a language. --- */

static struct pool_kind *find_kind(const struct pool *pool, const char *language)
{
	for (size_t i = 0; i < pool->kind_count; i++)
		if (strcmp(pool->kinds[i].language, language) == 0)
			return (struct pool_kind *)&pool->kinds[i];
	return NULL;
}

bool pool_get(const struct pool *pool, const char *language, struct pool_status *ret)
{
	const struct pool_kind *kind = find_kind(pool, language);

	if (!kind)
		return false;
	ret->warm = pool_count(pool, kind->template, false, SLOT_WARM, SLOT_WARM);
	ret->hot = MIN(pool_count_hot(pool, kind->template), ret->warm);
	ret->starting = pool_count(pool, kind->template, false, SLOT_STARTING, SLOT_PAUSING);
	ret->target = kind->target;
	return true;
}

int pool_set(struct pool *pool, const char *language, size_t size)
{
	struct pool_kind *kind = find_kind(pool, language);

	if (!pool->config.templates)
		return -ENOTSUP;
	if (!kind)
		return -ENOENT;
	if (size > pool->admission.limits.max_vms)
		return -ERANGE;
	kind->target = size;
	pool_shrink(pool, kind);
	pool_advance(pool);
	return 0;
}

const char *pool_language(const struct pool *pool, size_t index)
{
	return index < pool->kind_count ? pool->kinds[index].language : NULL;
}
