/* SPDX-License-Identifier: Apache-2.0 */
/* Memory telemetry: fills MEMORY messages from /proc, zram's mm_stat and the user cgroup. */
#include "guest-agent/memory.h"

#include "base/util.h"
#include "guest-agent/proctext.h"

#include <fcntl.h>
#include <string.h>

#define MM_STAT "/sys/block/zram0/mm_stat"

static uint64_t keyed_bytes(const char *text, const char *key)
{
	uint64_t kib;

	return proctext_keyed(text, key, &kib) ? kib * 1024 : 0;
}

static uint64_t minus(uint64_t a, uint64_t b)
{
	return a - MIN(a, b);
}

/*
 * What dropping caches frees, and what could be compressed. Cached has the pages of tmpfs in it,
 * which are swapped and not dropped, and those that programs map, which are not dropped either;
 * locked memory (the agent's own) goes nowhere. Source: Documentation/filesystems/proc.rst.
 */
static void parse_kinds(const char *text, struct msg_memory *memory)
{
	uint64_t shmem = keyed_bytes(text, "Shmem");
	uint64_t pages = keyed_bytes(text, "Buffers") + keyed_bytes(text, "Cached");

	memory->mem_caches = minus(pages, shmem + keyed_bytes(text, "Mapped")) +
			     keyed_bytes(text, "SReclaimable");
	memory->mem_anonymous =
		minus(keyed_bytes(text, "AnonPages") + shmem, keyed_bytes(text, "Mlocked"));
}

void memory_parse_meminfo(const char *text, struct msg_memory *memory)
{
	memory->mem_total = keyed_bytes(text, "MemTotal");
	memory->mem_free = keyed_bytes(text, "MemFree");
	memory->mem_available = keyed_bytes(text, "MemAvailable");
	memory->swap_total = keyed_bytes(text, "SwapTotal");
	memory->swap_free = keyed_bytes(text, "SwapFree");
	parse_kinds(text, memory);
}

void memory_parse_vmstat(const char *text, struct msg_memory *memory)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), pages;

	if (proctext_keyed(text, "pswpin", &pages))
		memory->swap_in = pages * page;
	if (proctext_keyed(text, "pswpout", &pages))
		memory->swap_out = pages * page;
}

void memory_parse_mm_stat(const char *text, struct msg_memory *memory)
{
	uint64_t *const fields[] = {
		&memory->zram_orig_data_size,  &memory->zram_compr_data_size,
		&memory->zram_mem_used_total,  &memory->zram_mem_limit,
		&memory->zram_mem_used_max,    &memory->zram_same_pages,
		&memory->zram_pages_compacted, &memory->zram_huge_pages,
	};
	uint64_t numbers[ELEMENTSOF(fields)];
	size_t n = proctext_numbers(text, numbers, ELEMENTSOF(fields));

	for (size_t i = 0; i < n; i++)
		*fields[i] = numbers[i];
}

static void read_and_parse(const char *path, struct msg_memory *memory,
			   void (*parse)(const char *text, struct msg_memory *memory))
{
	_cleanup_free_ char *text = NULL;

	if (read_file_at(AT_FDCWD, path, PROCTEXT_MAX, &text) > 0)
		parse(text, memory);
}

static void parse_pressure(const char *text, struct msg_memory *memory)
{
	proctext_pressure(text, "some", &memory->psi_some_avg10_centi, &memory->psi_some_total_us);
	proctext_pressure(text, "full", &memory->psi_full_avg10_centi, &memory->psi_full_total_us);
}

static void read_user(const struct cgroup *cgroup, struct msg_memory *memory)
{
	_cleanup_free_ char *events = NULL, *pressure = NULL;
	uint64_t avg10_centi;

	if (!cgroup_is_there(cgroup))
		return;
	if (read_file_at(cgroup->user_fd, "memory.pressure", PROCTEXT_MAX, &pressure) > 0)
		proctext_pressure(pressure, "full", &avg10_centi, &memory->user_stall_us);
	proctext_read_u64(cgroup->user_fd, "memory.current", &memory->user_current);
	proctext_read_u64(cgroup->user_fd, "memory.peak", &memory->user_peak);
	proctext_read_u64(cgroup->user_fd, "pids.current", &memory->user_processes);
	if (read_file_at(cgroup->user_fd, "memory.events", PROCTEXT_MAX, &events) > 0)
		proctext_keyed(events, "oom_kill", &memory->user_oom_kill);
}

void memory_read(const struct cgroup *cgroup, struct msg_memory *ret)
{
	*ret = (struct msg_memory){0};
	read_and_parse("/proc/meminfo", ret, memory_parse_meminfo);
	read_and_parse("/proc/vmstat", ret, memory_parse_vmstat);
	read_and_parse(MM_STAT, ret, memory_parse_mm_stat);
	read_and_parse("/proc/pressure/memory", ret, parse_pressure);
	read_user(cgroup, ret);
}

/* Pages that the balloon has of the guest, by the kernel's counts. */
static uint64_t ballooned_bytes(void)
{
	_cleanup_free_ char *text = NULL;
	uint64_t in = 0, out = 0;

	if (read_file_at(AT_FDCWD, "/proc/vmstat", PROCTEXT_MAX, &text) > 0) {
		proctext_keyed(text, "balloon_inflate", &in);
		proctext_keyed(text, "balloon_deflate", &out);
	}
	return minus(in, out) * (uint64_t)sysconf(_SC_PAGESIZE);
}

bool memory_read_pressure(const struct cgroup *cgroup, struct guard_sample *ret)
{
	struct msg_memory memory = {0};
	_cleanup_free_ char *text = NULL;
	uint64_t avg10_centi;

	if (!cgroup_is_there(cgroup) ||
	    read_file_at(cgroup->user_fd, "memory.pressure", PROCTEXT_MAX, &text) <= 0 ||
	    !proctext_pressure(text, "full", &avg10_centi, &ret->full_total_us))
		return false;
	read_and_parse(MM_STAT, &memory, memory_parse_mm_stat);
	read_and_parse("/proc/meminfo", &memory, memory_parse_meminfo);
	ret->now_us = now_us();
	ret->zram_used = memory.zram_mem_used_total;
	ret->zram_limit = memory.zram_mem_limit;
	ret->swap_free = memory.swap_free;
	ret->swap_total = memory.swap_total;
	ret->ballooned = ballooned_bytes();
	return true;
}
