/* SPDX-License-Identifier: Apache-2.0 */
/* The host's memory as the kernel tells it. */
#include "daemon/memory/host.h"

#include "base/kernel_file.h"
#include "base/util.h"
#include "daemon/memory/psi.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static int kb_field(const char *text, const char *key, uint64_t *ret)
{
	uint64_t kb;

	if (!kernel_field(text, key, &kb) || kb > UINT64_MAX / 1024)
		return -EBADMSG;
	*ret = kb * 1024;
	return 0;
}

static uint64_t kb_field_or_0(const char *text, const char *key)
{
	uint64_t bytes;

	return kb_field(text, key, &bytes) < 0 ? 0 : bytes;
}

int host_meminfo_read(const struct kernel_files *files, uint64_t *ret_total_bytes,
		      uint64_t *ret_available_bytes)
{
	_cleanup_free_ char *text = NULL;
	ssize_t len = kernel_file_read(files, "/proc/meminfo", &text);
	uint64_t total, available;

	if (len < 0)
		return (int)len;
	if (kb_field(text, "MemTotal:", &total) < 0 ||
	    kb_field(text, "MemAvailable:", &available) < 0 || total == 0 || available > total)
		return -EBADMSG;
	*ret_total_bytes = total;
	*ret_available_bytes = available;
	return 0;
}

static void read_psi(struct host_memory *ret)
{
	_cleanup_free_ char *text = NULL;
	struct psi psi;

	if (kernel_file_read(&kernel_files_system, "/proc/pressure/memory", &text) < 0 ||
	    psi_parse(text, &psi) < 0)
		return;
	ret->has_psi = true;
	ret->psi_some_avg10 = psi.some.avg10;
	ret->psi_full_avg10 = psi.full.avg10;
}

int host_memory_read(struct host_memory *ret)
{
	struct host_memory memory = {0};
	int r = host_meminfo_read(&kernel_files_system, &memory.total_bytes,
				  &memory.available_bytes);

	if (r < 0)
		return r;
	read_psi(&memory);
	*ret = memory;
	return 0;
}

int process_memory_read(pid_t pid, struct process_memory *ret)
{
	_cleanup_free_ char *text = NULL;
	char path[64];
	ssize_t len;

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
	len = kernel_file_read(&kernel_files_system, path, &text);
	if (len < 0)
		return (int)len;
	*ret = (struct process_memory){
		.rss_bytes = kb_field_or_0(text, "Rss:"),
		.pss_bytes = kb_field_or_0(text, "Pss:"),
		.anonymous_bytes = kb_field_or_0(text, "Anonymous:"),
	};
	return 0;
}

int process_anonymous_read(pid_t pid, uint64_t *ret_bytes)
{
	_cleanup_free_ char *text = NULL;
	uint64_t resident, shared;
	char path[64];
	ssize_t len;

	snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid);
	len = kernel_file_read(&kernel_files_system, path, &text);
	if (len < 0)
		return (int)len;
	if (sscanf(text, "%*u %" SCNu64 " %" SCNu64, &resident, &shared) != 2 || shared > resident)
		return -EBADMSG;
	*ret_bytes = (resident - shared) * (uint64_t)sysconf(_SC_PAGESIZE);
	return 0;
}

int process_cpu_read(pid_t pid, uint64_t *ret_us)
{
	struct timespec time;
	clockid_t clock;
	int r = clock_getcpuclockid(pid, &clock);

	if (r != 0)
		return -r;
	if (clock_gettime(clock, &time) < 0)
		return -errno;
	*ret_us = (uint64_t)time.tv_sec * 1000000 + (uint64_t)time.tv_nsec / 1000;
	return 0;
}
