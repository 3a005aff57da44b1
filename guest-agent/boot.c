/* SPDX-License-Identifier: Apache-2.0 */
/* What PID 1 does before it answers: mounts, kernel settings, loopback, its own protection. */
#include "guest-agent/boot.h"

#include "base/util.h"
#include "guest-agent/proctext.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* Files are charged by their pages and not by their number: without a limit of their own, empty
 * files would eat kernel memory that no size= counts. One inode costs about 1 KiB. */
#define INODES_MAX 32768

/* What programs inherit from PID 1, whose kernel gives it 4096 at the most: select(2) ends at 1024,
 * so that is where they start; Bun and servers raise it themselves. */
#define FILES_SOFT 1024
#define FILES_HARD 16384

struct mount_entry {
	const char *source, *target, *type;
	unsigned long flags;
	const char *options;
};

#define NO_DEV (MS_NOSUID | MS_NODEV)

/* hidepid: programs see their own processes only, not the agent. */
static const struct mount_entry kernel_mounts[] = {
	{"proc", "/proc", "proc", NO_DEV | MS_NOEXEC, "hidepid=invisible"},
	{"sysfs", "/sys", "sysfs", NO_DEV | MS_NOEXEC, NULL},
};

/* devtmpfs is there already when the kernel was built with DEVTMPFS_MOUNT: then it is EBUSY. */
static const struct mount_entry user_mounts[] = {
	{"devtmpfs", "/dev", "devtmpfs", MS_NOSUID | MS_NOEXEC, "mode=0755"},
	{"devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "gid=5,mode=620,ptmxmode=666"},
	{"cgroup2", BOOT_CGROUP_ROOT, "cgroup2", NO_DEV | MS_NOEXEC, "memory_recursiveprot"},
};

static const struct {
	const char *path, *target;
} device_links[] = {
	{"/dev/fd", "/proc/self/fd"},
	{"/dev/stdin", "/proc/self/fd/0"},
	{"/dev/stdout", "/proc/self/fd/1"},
	{"/dev/stderr", "/proc/self/fd/2"},
};

struct setting {
	const char *path, *value;
};

/* Why each has its value stands in docs/MEMORY.md. */
static const struct setting settings[] = {
	{"/proc/sys/vm/swappiness", "180"},
	{"/proc/sys/vm/page-cluster", "0"},
	{"/proc/sys/vm/overcommit_memory", "0"},
	{"/proc/sys/vm/watermark_boost_factor", "0"},
	/* Programs must not be able to fill the log that tells why a VM died. */
	{"/proc/sys/kernel/printk", "3 4 1 3"},
	{"/proc/sys/kernel/dmesg_restrict", "1"},
	/* Bind low ports without privilege, ping without a raw socket: what containers give. */
	{"/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"},
	/* Blocks of one page: at the default order (9) a small guest never has enough free blocks
	 * for reporting to start (mm/page_reporting.c; 80 MiB freed: 76 come back). */
	{"/sys/module/page_reporting/parameters/page_reporting_order", "0"},
};

/* Settings that a kernel without the feature has no file for, where missing means the same. */
static const struct setting optional_settings[] = {
	{"/sys/kernel/mm/transparent_hugepage/enabled", "never"},
};

static void remember(int *first, const char **ret_what, int r, const char *what)
{
	if (r >= 0 || *first < 0)
		return;
	*first = r;
	*ret_what = what;
}

static int mount_entry(const struct mount_entry *entry)
{
	/* Missing directories can only be made where there is a writable file system. */
	mkdir(entry->target, 0755);
	if (mount(entry->source, entry->target, entry->type, entry->flags, entry->options) < 0 &&
	    errno != EBUSY)
		return -errno;
	return 0;
}

int boot_mount_kernel(const char **ret_what)
{
	int first = 0;

	for (size_t i = 0; i < ELEMENTSOF(kernel_mounts); i++)
		remember(&first, ret_what, mount_entry(&kernel_mounts[i]), kernel_mounts[i].target);
	return first;
}

static uint64_t round_to_pages(uint64_t bytes)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);

	return (bytes + page - 1) / page * page;
}

/* A tmpfs of `part` hundredths of the memory, rounded up to pages as tmpfs itself would do. */
static int mount_tmpfs(const char *target, uint64_t mem_total, unsigned part, unsigned mode,
		       uid_t uid)
{
	char options[128];

	snprintf(options, sizeof(options), "size=%" PRIu64 ",nr_inodes=%d,mode=%o,uid=%u,gid=%u",
		 round_to_pages(mem_total * part / 100), INODES_MAX, mode, uid, uid);
	return mount_entry(&(struct mount_entry){"tmpfs", target, "tmpfs", NO_DEV, options});
}

int boot_mount_user(const char *home, uid_t uid, uint64_t mem_total, const char **ret_what)
{
	int first = 0;

	for (size_t i = 0; i < ELEMENTSOF(user_mounts); i++)
		remember(&first, ret_what, mount_entry(&user_mounts[i]), user_mounts[i].target);
	for (size_t i = 0; i < ELEMENTSOF(device_links); i++)
		if (symlink(device_links[i].target, device_links[i].path) < 0 && errno != EEXIST)
			remember(&first, ret_what, -errno, device_links[i].path);

	/* Half of the memory is what a run may keep in files; swap stands behind it. */
	remember(&first, ret_what, mount_tmpfs("/run", mem_total, 5, 0755, 0), "/run");
	remember(&first, ret_what, mount_tmpfs("/dev/shm", mem_total, 50, 01777, 0), "/dev/shm");
	remember(&first, ret_what, mount_tmpfs("/tmp", mem_total, 50, 01777, 0), "/tmp");
	remember(&first, ret_what, mount_tmpfs(home, mem_total, 50, 0755, uid), home);
	return first;
}

int boot_resize_home(const char *home, uint64_t bytes)
{
	char options[64];

	snprintf(options, sizeof(options), "size=%" PRIu64, round_to_pages(bytes));
	if (mount("tmpfs", home, "tmpfs", MS_REMOUNT | NO_DEV, options) < 0)
		return -errno;
	return 0;
}

static int reserve_memory(uint64_t mem_total)
{
	/* 4 % of the memory, at least 5632 KiB (docs/MEMORY.md). */
	uint64_t kib = MAX(mem_total / 1024 * 4 / 100, (uint64_t)5632);
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, kib);
	return write_file_at(AT_FDCWD, "/proc/sys/vm/min_free_kbytes", text);
}

int boot_settings(uint64_t mem_total, const char **ret_what)
{
	int first = 0;

	for (size_t i = 0; i < ELEMENTSOF(settings); i++)
		remember(&first, ret_what,
			 write_file_at(AT_FDCWD, settings[i].path, settings[i].value),
			 settings[i].path);
	for (size_t i = 0; i < ELEMENTSOF(optional_settings); i++) {
		int r = write_file_at(AT_FDCWD, optional_settings[i].path,
				      optional_settings[i].value);

		if (r != -ENOENT)
			remember(&first, ret_what, r, optional_settings[i].path);
	}
	remember(&first, ret_what, reserve_memory(mem_total), "vm.min_free_kbytes");
	return first;
}

int boot_loopback(void)
{
	_cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};

	if (fd < 0)
		return -errno;
	return ioctl(fd, SIOCSIFFLAGS, &request) < 0 ? -errno : 0;
}

int boot_protect(const char **ret_what)
{
	struct sched_param param = {.sched_priority = 1};
	struct rlimit files = {.rlim_cur = FILES_SOFT, .rlim_max = FILES_HARD};
	int first = 0;

	remember(&first, ret_what, write_file_at(AT_FDCWD, "/proc/self/oom_score_adj", "-1000"),
		 "oom_score_adj");
	if (sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &param) < 0)
		remember(&first, ret_what, -errno, "SCHED_RR");
	/* On fault: what was never touched need not be in memory to be safe. */
	if (mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) < 0)
		remember(&first, ret_what, -errno, "mlockall");
	if (prctl(PR_SET_DUMPABLE, 0) < 0)
		remember(&first, ret_what, -errno, "PR_SET_DUMPABLE");
	if (setrlimit(RLIMIT_NOFILE, &files) < 0)
		remember(&first, ret_what, -errno, "RLIMIT_NOFILE");
	return first;
}

uint64_t boot_mem_total(void)
{
	_cleanup_free_ char *text = NULL;
	uint64_t kib = 0;

	if (read_file_at(AT_FDCWD, "/proc/meminfo", PROCTEXT_MAX, &text) > 0)
		proctext_keyed(text, "MemTotal", &kib);
	return kib * 1024;
}
