/* SPDX-License-Identifier: Apache-2.0 */
/* Where the daemon learns of memory pressure from: the best source that this host allows. */
#include "daemon/memory/host_source.h"

#include "base/log.h"
#include "base/util.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define LOG_OBJECT "host"

#define RETRY_FIRST_US UINT64_C(1000000)
#define RETRY_MOST_US  UINT64_C(60000000)
/* A source that held for so long begins again with the first delay. */
#define STABLE_US RETRY_MOST_US

const struct psi_threshold host_source_threshold = {
	.some_us = 50000, .full_us = 50000, .window_us = 1000000};

static const char *const kind_names[] = {
	[HOST_SOURCE_TRIGGERS] = "triggers",
	[HOST_SOURCE_TOTALS] = "totals",
	[HOST_SOURCE_AVAILABLE] = "available",
};
static_assert(ELEMENTSOF(kind_names) == HOST_SOURCE_AVAILABLE + 1, "a kind without a name");

const char *host_source_kind_name(enum host_source_kind kind)
{
	return kind_names[kind];
}

/* `error`: why it is no better kind, 0 when it is the best. */
static void set_kind(struct host_source *source, enum host_source_kind kind, const char *path,
		     int error)
{
	const char *why = error ? strerror(-error) : "granted";

	if (path)
		log_info(LOG_OBJECT, "Memory pressure: %s -> %s of '%s': %s",
			 kind_names[source->kind], kind_names[kind], path, why);
	else
		log_warning(LOG_OBJECT,
			    "Memory pressure: %s -> %s, free memory alone is watched: %s",
			    kind_names[source->kind], kind_names[kind], why);
	source->kind = kind;
	source->path = path;
}

static int read_path(const struct kernel_files *files, const char *path, struct psi *ret)
{
	_cleanup_free_ char *text = NULL;
	ssize_t len = kernel_file_read(files, path, &text);

	return len < 0 ? (int)len : psi_parse(text, ret);
}

/*
 * Any refusal leads down a step: which errors mean what has changed from kernel to kernel. Triggers
 * over 2 s, which Linux grants anybody since 6.4, come 0.6 to 2 s after the stall: totals that are
 * read every 250 ms are quicker.
 */
static void choose_kind(struct host_source *source, const char *path)
{
	int r = psi_trigger_open(source->files, path, &host_source_threshold, &source->trigger);

	set_kind(source, r == 0 ? HOST_SOURCE_TRIGGERS : HOST_SOURCE_TOTALS, path, r);
}

/* 0, or why none of the files can be read. */
static int choose(struct host_source *source)
{
	const char *const paths[] = {source->cgroup_path, "/proc/pressure/memory"};
	struct psi psi;
	int r = -ENOENT;

	source->opened_us = now_us();
	source->retry_us = source->opened_us + source->retry_delay_us;
	source->retry_delay_us = MIN(source->retry_delay_us * 2, RETRY_MOST_US);
	for (size_t i = 0; i < ELEMENTSOF(paths); i++) {
		if (!*paths[i])
			continue;
		r = read_path(source->files, paths[i], &psi);
		if (r == 0) {
			choose_kind(source, paths[i]);
			return 0;
		}
		log_debug(LOG_OBJECT, "Cannot read '%s': %s", paths[i], strerror(-r));
	}
	return r;
}

void host_source_init(struct host_source *source, const struct kernel_files *files,
		      const struct own_cgroup *cgroup)
{
	int r;

	*source = (struct host_source){.files = files,
				       .kind = HOST_SOURCE_AVAILABLE,
				       .trigger = PSI_TRIGGER_CLOSED,
				       .retry_delay_us = RETRY_FIRST_US};
	if (*cgroup->unified)
		snprintf(source->cgroup_path, sizeof(source->cgroup_path), "%s/memory.pressure",
			 cgroup->unified);
	r = choose(source);
	if (r == 0)
		return;
	set_kind(source, HOST_SOURCE_AVAILABLE, NULL, r);
	/* A kernel without PSI is not going to get it soon. */
	source->retry_delay_us = RETRY_MOST_US;
	source->retry_us = source->opened_us + RETRY_MOST_US;
}

void host_source_fini(struct host_source *source)
{
	psi_trigger_close(&source->trigger);
}

int host_source_read(const struct host_source *source, struct psi *ret)
{
	return source->path ? read_path(source->files, source->path, ret) : -ENODATA;
}

void host_source_lose(struct host_source *source, int error)
{
	uint64_t now = now_us();

	psi_trigger_close(&source->trigger);
	set_kind(source, HOST_SOURCE_AVAILABLE, NULL, error);
	if (now >= source->opened_us + STABLE_US) {
		source->retry_us = now;
		source->retry_delay_us = RETRY_FIRST_US;
	}
}

bool host_source_retry(struct host_source *source)
{
	if (!source->path && now_us() >= source->retry_us)
		choose(source);
	return source->path != NULL;
}
