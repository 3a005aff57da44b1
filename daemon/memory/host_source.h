/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the daemon learns of memory pressure from: the best source that this host allows.
 *
 * Theory of operation: the first PSI file that can be read is taken: that of the VMs' cgroup, else
 * the host's. Without the kernel's triggers on it its totals are read often; without PSI only free
 * memory is left. A source that fails is closed and, at most as often as a delay allows that
 * doubles with each attempt, chosen anew from the start.
 */
#ifndef DAEMON_MEMORY_HOST_SOURCE_H
#define DAEMON_MEMORY_HOST_SOURCE_H

#include "base/own_cgroup.h"
#include "daemon/memory/psi.h"
#include "daemon/memory/psi_trigger.h"

enum host_source_kind {
	HOST_SOURCE_TRIGGERS,  /* triggers over 1 s: needs CAP_SYS_RESOURCE */
	HOST_SOURCE_TOTALS,    /* `total=` is to be read every 250 ms */
	HOST_SOURCE_AVAILABLE, /* no PSI: MemAvailable is all there is */
};

struct host_source {
	const struct kernel_files *files;
	enum host_source_kind kind;
	const char *path;           /* of the PSI file; NULL without one */
	struct psi_trigger trigger; /* closed unless the kind has triggers */

	char cgroup_path[PATH_MAX + 32];
	uint64_t opened_us, retry_us; /* CLOCK_MONOTONIC: last choice, earliest next */
	uint64_t retry_delay_us;
};

/* What a wake means: 5 % of a second. What the kernel is asked for, and what totals are compared
 * with. */
extern const struct psi_threshold host_source_threshold;

/* "triggers", "totals", "available". */
const char *host_source_kind_name(enum host_source_kind kind);

/* Chooses and opens; what was chosen is logged. `cgroup` has the VMs, `files` must live as long. */
void host_source_init(struct host_source *source, const struct kernel_files *files,
		      const struct own_cgroup *cgroup);
void host_source_fini(struct host_source *source);

/* Reads the PSI file. 0; -ENODATA without PSI; -errno or -EBADMSG: call host_source_lose(). */
int host_source_read(const struct host_source *source, struct psi *ret);

/* Closes what has failed with `error` (-errno). A watcher of the trigger must be stopped before. */
void host_source_lose(struct host_source *source, int error);

/* Chooses anew if there is no PSI file and the delay is over. Whether there is one now. */
bool host_source_retry(struct host_source *source);

#endif
