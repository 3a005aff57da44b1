/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the daemon are told of its configuration and its host. */
#include "daemon/derive.h"

#include "base/log.h"
#include "daemon/memory_owner.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>

/*
 * One QEMU besides the guest's memory and TCG's translated code: heap, libraries' data, tables of
 * the emulated TLB, the kernel's own, measured (docs/PERFORMANCE.md).
 */
#define VM_OVERHEAD_MB 32
/* A clone that waits, restored and stopped: docs/PERFORMANCE.md. */
#define SPARE_MB 16
/*
 * Descriptors of one VM: QMP, guest link, console and pidfd; the spools of a program's two streams,
 * and the directory that these and all its processes' rings lie in (base/kept_dir.h), which are
 * mapped: seven, however many processes it has. While it starts, when it has nothing of the latter:
 * our three ends and QEMU's, the jail's info pipe, directory and stand-ins, eleven.
 */
#define FDS_PER_VM 12
/* Listening sockets, images, log, and a client per VM with some to spare. */
#define FDS_OWN 256

/* Raises RLIMIT_NOFILE to its hard limit and says how many VMs that feeds. */
static size_t vms_by_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return 1;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		log_warning(NULL, "Cannot raise RLIMIT_NOFILE: %s", strerror(errno));
	return limit.rlim_cur > FDS_OWN + FDS_PER_VM
		       ? (size_t)(limit.rlim_cur - FDS_OWN) / FDS_PER_VM
		       : 1;
}

static size_t processors(void)
{
	return (size_t)MAX(sysconf(_SC_NPROCESSORS_ONLN), 1L);
}

static struct admission_limits derive_limits(struct daemon *daemon)
{
	const struct config *config = daemon->config;
	uint64_t limit_mb = memory_owner_limit_mb(daemon, memory_owner_reserve_mb(config));
	uint64_t budget_mb = (uint64_t)config->memory_budget_mb;
	uint64_t vms_mb = budget_mb > 0 ? MIN(limit_mb, budget_mb) : limit_mb;
	/* As many as are all spares: those that run are bounded by their memory. */
	size_t max_vms = config->max_vms ? (size_t)config->max_vms : (size_t)(vms_mb / SPARE_MB);

	return (struct admission_limits){
		.max_vms = MAX(MIN(max_vms, vms_by_descriptors()), (size_t)1),
		.max_running = processors() * (size_t)config->cpu_overcommit,
		.queue_max = (size_t)config->queue_max,
		.memory_mb = limit_mb,
		.uid_vms = (size_t)config->vms_per_uid,
		.uid_queue_max = (size_t)config->queue_per_uid,
		.uid_memory_mb = (uint64_t)config->memory_mb_per_uid,
	};
}

void derive_pool(struct daemon *daemon, struct pool_config *ret)
{
	const struct config *config = daemon->config;

	*ret = (struct pool_config){
		.host = &daemon->vm_host,
		.limits = derive_limits(daemon),
		.budget_mb = (uint64_t)config->memory_budget_mb,
		.overhead_mb = VM_OVERHEAD_MB,
		.spare_mb = SPARE_MB,
		/* Nothing is translated under KVM: rehearsing costs no memory. */
		.hot_max = daemon->vm_host.accel == ACCEL_KVM ? SIZE_MAX : (size_t)config->pool_hot,
		.memory_overcommit = (double)config->memory_overcommit_percent / 100,
		.vm_memory_max_mb = (uint64_t)config->max_memory_mb,
		.default_memory_mb = (uint64_t)config->default_memory_mb,
		.queue_timeout_seconds = config->queue_timeout_seconds,
		.boot_attempts = (unsigned)config->boot_attempts,
		.start_max = MAX(processors(), (size_t)2),
		.refill_max = MAX(processors() / 2, (size_t)1),
		.may_grant = memory_owner_may_grant,
		.user = daemon,
		.sizes = {{"python", (size_t)config->pool_python},
			  {"javascript", (size_t)config->pool_javascript},
			  {"shell", (size_t)config->pool_shell}},
	};
}

void derive_vm_host(struct daemon *daemon)
{
	const struct config *config = daemon->config;

	daemon->vm_host.disk_default_bytes = (uint64_t)config->disk_default_mb << 20;
	daemon->vm_host.boot_timeout_seconds = config->boot_timeout_seconds;
	daemon->vm_host.stats_interval_seconds = config->stats_interval_seconds;
}

struct rpc_limits derive_rpc_limits(const struct config *config)
{
	return (struct rpc_limits){.connections_per_uid = (size_t)config->connections_per_uid,
				   .uid_buffered_max_bytes = config->buffered_bytes_per_uid};
}
