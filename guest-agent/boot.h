/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What PID 1 does before it answers: mounts, kernel settings, loopback, its own protection.
 *
 * Each function does everything it can and returns 0 or the first -errno, naming the culprit in
 * `ret_what` (static text): one setting that a kernel lacks must not keep a VM from running.
 */
#ifndef GUEST_AGENT_BOOT_H
#define GUEST_AGENT_BOOT_H

#include <stdint.h>
#include <sys/types.h>

#define BOOT_CGROUP_ROOT "/sys/fs/cgroup"

/* The first mounts: /proc and /sys, which everything after needs. */
int boot_mount_kernel(const char **ret_what);

/*
 * /dev with pts and shm, cgroup2, /run, and /tmp and `home` as tmpfs with limits of size (parts of
 * `mem_total` bytes) and inodes; `home` belongs to `uid`.
 */
int boot_mount_user(const char *home, uid_t uid, uint64_t mem_total, const char **ret_what);

/* Gives the tmpfs `home` another size in bytes, rounded up to pages. 0 or -errno. */
int boot_resize_home(const char *home, uint64_t bytes);

/* Kernel settings of the memory contract (docs/MEMORY.md). */
int boot_settings(uint64_t mem_total, const char **ret_what);

/* Brings `lo` up; the kernel gives it 127.0.0.1 and ::1. 0 or -errno. */
int boot_loopback(void);

/*
 * Keeps the agent answering whatever user code does: real-time scheduling that children do not
 * inherit, memory locked, never chosen by the OOM killer, not traceable. Also sets the number of
 * files programs may open, which they do inherit.
 */
int boot_protect(const char **ret_what);

/* MemTotal in bytes, 0 when /proc is not there. */
uint64_t boot_mem_total(void);

#endif
