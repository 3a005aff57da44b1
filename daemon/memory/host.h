/* SPDX-License-Identifier: Apache-2.0 */
/* The host's memory as the kernel tells it: /proc/meminfo and pressure stall information. */
#ifndef DAEMON_MEMORY_HOST_H
#define DAEMON_MEMORY_HOST_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct kernel_files;

struct host_memory {
	uint64_t total_bytes, available_bytes;
	bool has_psi; /* false: the kernel was built or booted without it */
	double psi_some_avg10, psi_full_avg10; /* per cent */
};

/* Reads both files. 0, or -errno when /proc/meminfo cannot be read (-EBADMSG: not understood);
 * absent PSI is not an error. */
int host_memory_read(struct host_memory *ret);

/*
 * MemTotal and MemAvailable of /proc/meminfo: what programs could still have without swapping, by
 * the kernel's estimate. 0, -errno, or -EBADMSG when they are not there or impossible. Source:
 * Documentation/filesystems/proc.rst.
 */
int host_meminfo_read(const struct kernel_files *files, uint64_t *ret_total_bytes,
		      uint64_t *ret_available_bytes);

/* Memory of one process. */
struct process_memory {
	uint64_t rss_bytes, pss_bytes, anonymous_bytes;
};

/*
 * Reads /proc/<pid>/smaps_rollup: the kernel walks all page tables for it, so not more often than
 * needed (a few milliseconds for a VM). 0 or -errno. Source: Documentation/filesystems/proc.rst.
 */
int process_memory_read(pid_t pid, struct process_memory *ret);

/*
 * Anonymous memory of a process: resident less shared of /proc/<pid>/statm, which the kernel only
 * has to print (3 us, where status takes 20). 0, -errno or -EBADMSG.
 */
int process_anonymous_read(pid_t pid, uint64_t *ret_bytes);

/* Processor time of all threads of a process so far, microseconds. 0 or -errno. Source:
 * clock_getcpuclockid(3). */
int process_cpu_read(pid_t pid, uint64_t *ret_us);

#endif
