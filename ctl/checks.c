/* SPDX-License-Identifier: Apache-2.0 */
/* What a host must have to run VMs: the checks of doctor that need no daemon. */
#include "ctl/checks.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/magic.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>

/* "qemu -M help" is the longest: 6 KiB in QEMU 7.2. */
#define OUTPUT_SIZE 32768

/* What the daemon counts on: of one VM that starts, and of its own (daemon/daemon.c). */
#define FDS_PER_VM 12u
#define FDS_OWN    256u
/* Without max_vms in the configuration: a thousand VMs. */
#define VMS_WANTED 1000u

/* A template of 256 MiB takes about 60 MB; below this even a few languages' do not fit. */
#define STATE_FREE_MIN_MB 512u

/* Who runs VMs on a host without the user of sysusers.d: the kernel's overflow uid, "nobody". */
#define UID_NOBODY 65534

void finding_set(struct finding *finding, enum verdict verdict, const char *mend,
		 const char *format, ...)
{
	va_list list;

	finding->verdict = verdict;
	snprintf(finding->mend, sizeof(finding->mend), "%s", mend ?: "");
	va_start(list, format);
	vsnprintf(finding->detail, sizeof(finding->detail), format, list);
	va_end(list);
}

/* Cuts a program's output to its first line. */
static const char *first_line(char *text)
{
	text[strcspn(text, "\n")] = '\0';
	return text;
}

static long read_number(const char *path, long fallback)
{
	_cleanup_free_ char *text = NULL;

	return read_file_at(AT_FDCWD, path, 64, &text) > 0 ? strtol(text, NULL, 10) : fallback;
}

static void check_configuration(const struct config *config UNUSED, struct finding *ret)
{
	struct config loaded = {0};
	struct config_report report = {0};

	if (config_load(&(struct config_sources){0}, &loaded, &report) == 0 &&
	    config_check(&loaded, &report) == 0)
		finding_set(ret, VERDICT_OK, NULL, "no mistakes");
	else
		finding_set(ret, VERDICT_FAIL, "execsandboxd --check-config", "%s",
			    report.count ? report.problems[0] : "cannot be loaded");
	config_fini(&loaded);
	config_report_clear(&report);
}

static void check_kvm(const struct config *config UNUSED, struct finding *ret)
{
	_cleanup_close_ int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		finding_set(ret, VERDICT_OK, NULL,
			    "/dev/kvm opens; the daemon's probe tells whether it is of use");
	else if (errno == EACCES || errno == EPERM)
		finding_set(ret, VERDICT_WARN, "usermod -aG kvm execsandbox-vm",
			    "/dev/kvm may not be opened by this user");
	else
		finding_set(ret, VERDICT_WARN, NULL,
			    "no /dev/kvm: QEMU emulates the CPU (TCG), which works, but slower");
}

static void check_qemu(const struct config *config, struct finding *ret)
{
	const char *const version[] = {config->qemu, "--version", NULL};
	const char *const machines[] = {config->qemu, "-M", "help", NULL};
	static const char mend[] = "apt-get install qemu-system-x86";
	char text[128];
	_cleanup_free_ char *list = malloc(OUTPUT_SIZE);
	int r = capture(version, (uid_t)-1, (gid_t)-1, text, sizeof(text));

	if (r != 0 || !list)
		finding_set(ret, VERDICT_FAIL, mend, "'%s' does not run (%s)", config->qemu,
			    r < 0      ? strerror(-r)
			    : r == 127 ? "not found"
				       : first_line(text));
	else if (capture(machines, (uid_t)-1, (gid_t)-1, list, OUTPUT_SIZE) != 0 ||
		 !strstr(list, "microvm"))
		finding_set(ret, VERDICT_FAIL, mend, "'%s' has no machine type microvm",
			    config->qemu);
	else
		finding_set(ret, VERDICT_OK, NULL, "%s, with microvm", first_line(text));
}

/* Which kernel setting forbids user namespaces, as the command that allows them. */
static const char *userns_mend(void)
{
	if (read_number("/proc/sys/user/max_user_namespaces", 1) == 0)
		return "sysctl -w user.max_user_namespaces=15000";
	if (read_number("/proc/sys/kernel/unprivileged_userns_clone", 1) == 0)
		return "sysctl -w kernel.unprivileged_userns_clone=1";
	if (read_number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", 0) == 1)
		return "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0";
	return NULL;
}

/* Tries a jail the way the daemon makes it: never as root. */
static void check_bubblewrap(const struct config *config, struct finding *ret)
{
	const char *const version[] = {config->bubblewrap, "--version", NULL};
	const char *const jail[] = {config->bubblewrap,
				    "--unshare-all",
				    "--unshare-user",
				    "--as-pid-1",
				    "--cap-drop",
				    "ALL",
				    "--ro-bind",
				    "/usr",
				    "/usr",
				    "--symlink",
				    "usr/lib",
				    "/lib",
				    "--symlink",
				    "usr/lib64",
				    "/lib64",
				    "--ro-bind",
				    "/proc/self/fd",
				    "/proc/self/fd",
				    "/usr/bin/true",
				    NULL};
	const struct passwd *user = getpwnam(config->user);
	bool is_root = geteuid() == 0;
	uid_t uid = !is_root ? (uid_t)-1 : user ? user->pw_uid : UID_NOBODY;
	gid_t gid = !is_root ? (gid_t)-1 : user ? user->pw_gid : UID_NOBODY;
	char name[64], text[256];
	int r = capture(version, (uid_t)-1, (gid_t)-1, name, sizeof(name));

	if (r != 0) {
		finding_set(ret, VERDICT_FAIL, "apt-get install bubblewrap", "'%s' does not run",
			    config->bubblewrap);
		return;
	}
	r = capture(jail, uid, gid, text, sizeof(text));
	if (r == 0)
		finding_set(ret, VERDICT_OK, NULL, "%s, user namespaces work", first_line(name));
	else
		finding_set(ret, VERDICT_FAIL, userns_mend(),
			    "%s cannot make its namespaces without root: %s", first_line(name),
			    r == -ETIMEDOUT ? "it hung" : first_line(text));
}

static void check_memfd(const struct config *config UNUSED, struct finding *ret)
{
	_cleanup_close_ int fd =
		memfd_create("execsandbox-doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int seals = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;

	if (fd >= 0 && fcntl(fd, F_ADD_SEALS, seals) == 0 && fcntl(fd, F_GET_SEALS) == seals)
		finding_set(ret, VERDICT_OK, NULL, "memory files can be sealed");
	else
		finding_set(ret, VERDICT_FAIL, NULL, "memory files cannot be sealed: %s",
			    strerror(errno));
}

static void check_psi(const struct config *config UNUSED, struct finding *ret)
{
	_cleanup_free_ char *text = NULL;
	ssize_t len = read_file_at(AT_FDCWD, "/proc/pressure/memory", 4096, &text);

	if (len > 0)
		finding_set(ret, VERDICT_OK, NULL, "memory pressure can be read");
	else
		finding_set(ret, VERDICT_WARN, "add psi=1 to the kernel's command line, reboot",
			    "/proc/pressure/memory: %s; available memory is watched instead",
			    strerror((int)-len));
}

static void check_cgroup(const struct config *config UNUSED, struct finding *ret)
{
	static const char mend[] =
		"add systemd.unified_cgroup_hierarchy=1 to the kernel's command line, reboot";
	struct statfs fs;

	if (statfs("/sys/fs/cgroup", &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC)
		finding_set(ret, VERDICT_OK, NULL, "version 2");
	else if (access("/sys/fs/cgroup/unified", F_OK) == 0)
		finding_set(ret, VERDICT_WARN, mend,
			    "hybrid: VMs have cgroups only where version 1 is delegated");
	else
		finding_set(ret, VERDICT_WARN, mend,
			    "no version 2: VMs have cgroups only where version 1 is delegated");
}

static void check_overcommit(const struct config *config UNUSED, struct finding *ret)
{
	if (read_number("/proc/sys/vm/overcommit_memory", 0) == 2)
		finding_set(ret, VERDICT_WARN, "sysctl -w vm.overcommit_memory=0",
			    "vm.overcommit_memory=2 counts every VM and template at its full size"
			    ", and fails the large mappings of interpreters");
	else
		finding_set(ret, VERDICT_OK, NULL, "memory may be overcommitted");
}

static void check_nofile(const struct config *config, struct finding *ret)
{
	struct rlimit limit = {0};
	rlim_t wanted = config->max_vms ? (rlim_t)config->max_vms : VMS_WANTED, vms;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		limit.rlim_max = 0;
	vms = limit.rlim_max > FDS_OWN ? (limit.rlim_max - FDS_OWN) / FDS_PER_VM : 0;
	if (vms >= wanted)
		finding_set(ret, VERDICT_OK, NULL, "%ju descriptors", (uintmax_t)limit.rlim_max);
	else
		finding_set(ret, VERDICT_WARN, "ulimit -Hn 65536",
			    "%ju descriptors in this shell allow %ju VMs to a daemon started "
			    "here, not %ju",
			    (uintmax_t)limit.rlim_max, (uintmax_t)vms, (uintmax_t)wanted);
}

/* May the daemon's user write there? Root may everywhere, and is not who the daemon is. */
static bool is_writable(const char *path, const struct config *config)
{
	const struct passwd *user = getpwnam(config->user);
	struct stat st;

	/* One that an ordinary user starts runs as that user. */
	if ((geteuid() != 0 || !user) && access(path, W_OK) == 0)
		return true;
	return user && stat(path, &st) == 0 && st.st_uid == user->pw_uid && (st.st_mode & S_IWUSR);
}

static void check_state(const struct config *config, struct finding *ret)
{
	const char *path = config->state_dir;
	struct statvfs fs;
	uint64_t free_mb, total_mb;

	if (statvfs(path, &fs) < 0 && errno == ENOENT) {
		finding_set(ret, VERDICT_OK, NULL, "'%s' is made when the daemon starts", path);
		return;
	}
	if (statvfs(path, &fs) < 0 || (fs.f_flag & ST_RDONLY) || !is_writable(path, config)) {
		finding_set(ret, VERDICT_WARN, "systemctl restart execsandboxd",
			    "user '%s' cannot write to '%s': templates are made at each start",
			    config->user, path);
		return;
	}
	free_mb = (uint64_t)fs.f_bavail * fs.f_frsize >> 20;
	total_mb = (uint64_t)fs.f_blocks * fs.f_frsize >> 20;
	if (free_mb < STATE_FREE_MIN_MB)
		finding_set(ret, VERDICT_WARN, "execsandboxctl template remove NAME",
			    "'%s' has %ju MiB free of %ju: templates may not fit", path,
			    (uintmax_t)free_mb, (uintmax_t)total_mb);
	else
		finding_set(ret, VERDICT_OK, NULL, "'%s' has %ju MiB free", path,
			    (uintmax_t)free_mb);
}

/*
 * May who runs VMs change this file, or let itself change it? A QEMU that fell is that user, and
 * can open anew, for writing, what was opened for it for reading (docs/SECURITY.md).
 */
static bool is_exposed(int dir_fd, const char *name, const struct config *config)
{
	const struct passwd *user = getpwnam(config->user);
	struct stat st;

	if (fstatat(dir_fd, name, &st, 0) < 0)
		return false;
	/* As with is_writable(): one that an ordinary user starts runs as that user. */
	return (user && st.st_uid == user->pw_uid) || (geteuid() != 0 && st.st_uid == geteuid()) ||
	       (st.st_mode & (S_IWGRP | S_IWOTH));
}

static void check_images(const struct config *config, struct finding *ret)
{
	static const char *const names[] = {"vmlinux", "rootfs.erofs"};
	/* Those that a QEMU has open. */
	static const char *const opened[] = {"vmlinux", "rootfs.erofs", "qemu-stubs.so"};
	_cleanup_close_ int dir_fd = open(config->images_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);

	for (size_t i = 0; i < ELEMENTSOF(names); i++) {
		if (dir_fd >= 0 && faccessat(dir_fd, names[i], R_OK, 0) == 0)
			continue;
		finding_set(ret, VERDICT_FAIL, "make images && make install", "'%s/%s': %s",
			    config->images_dir, names[i], strerror(errno));
		return;
	}
	for (size_t i = 0; i < ELEMENTSOF(opened); i++) {
		char mend[sizeof(ret->mend)];

		if (!is_exposed(dir_fd, opened[i], config))
			continue;
		snprintf(mend, sizeof(mend), "cd %s && chown root: * && chmod 0444 *",
			 config->images_dir);
		finding_set(ret, VERDICT_WARN, mend,
			    "'%s/%s' belongs to who runs VMs, or more than its owner may write it",
			    config->images_dir, opened[i]);
		return;
	}
	finding_set(ret, VERDICT_OK, NULL, "'%s' has kernel and root filesystem",
		    config->images_dir);
}

/* The list's first line names the QEMU they are for: daemon/vm/stubs.h. */
static void check_stubs(const struct config *config, struct finding *ret)
{
	static const char mend[] = "make images && make install";
	_cleanup_close_ int dir_fd = open(config->images_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	_cleanup_free_ char *list = NULL;
	intmax_t bytes, mtime_ns;
	struct stat st;

	if (dir_fd < 0 || faccessat(dir_fd, "qemu-stubs.so", R_OK, 0) < 0 ||
	    read_file_at(dir_fd, "qemu-stubs.list", 4096, &list) <= 0)
		finding_set(ret, VERDICT_WARN, mend,
			    "none in '%s': QEMU starts with all its libraries, which is slower",
			    config->images_dir);
	else if (stat(config->qemu, &st) < 0 || sscanf(list, "%jd %jd", &bytes, &mtime_ns) != 2 ||
		 bytes != st.st_size ||
		 mtime_ns != (intmax_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec)
		finding_set(ret, VERDICT_WARN, mend,
			    "made for another build of '%s', which starts slower without",
			    config->qemu);
	else
		finding_set(ret, VERDICT_OK, NULL, "made for this QEMU");
}

static void check_accounts(const struct config *config, struct finding *ret)
{
	static const char mend[] = "systemd-sysusers /usr/lib/sysusers.d/execsandbox.conf";

	if (!getpwnam(config->user))
		finding_set(ret, VERDICT_FAIL, mend, "there is no user '%s' to run VMs as",
			    config->user);
	else if (!getgrnam(config->socket_group))
		finding_set(ret, VERDICT_FAIL, mend, "there is no group '%s' for the socket",
			    config->socket_group);
	else
		finding_set(ret, VERDICT_OK, NULL, "user '%s', group '%s'", config->user,
			    config->socket_group);
}

const struct check host_checks[] = {
	{"configuration", check_configuration},
	{"kvm", check_kvm},
	{"qemu", check_qemu},
	{"bubblewrap", check_bubblewrap},
	{"sealing", check_memfd},
	{"pressure", check_psi},
	{"cgroups", check_cgroup},
	{"overcommit", check_overcommit},
	{"descriptors", check_nofile},
	{"state", check_state},
	{"images", check_images},
	{"stand-ins", check_stubs},
	{"accounts", check_accounts},
	{.name = NULL},
};
