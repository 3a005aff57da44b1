/* SPDX-License-Identifier: Apache-2.0 */
/* The jail around one QEMU: bubblewrap's arguments, a seccomp filter, resource limits. */
#include "daemon/vm/jail.h"

#include "daemon/vm/argv.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/sched.h>
#include <seccomp.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>

/* Where the dynamic linker of a jail finds the stand-ins. */
#define STUBS_DIR "/stubs"

/*
 * System calls that QEMU with this machine never makes, by what they would be good for to someone
 * who broke into it. EPERM, not a kill: a library that only tries must find its fall-back.
 */
static const char *const denied_calls[] = {
	/* other processes */
	"ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "pidfd_getfd", "kcmp",
	"move_pages", "migrate_pages",
	/* the kernel's own code and state */
	"init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot",
	"swapon", "swapoff", "acct", "syslog", "quotactl", "quotactl_fd", "settimeofday",
	"clock_settime", "adjtimex", "clock_adjtime", "sethostname", "setdomainname", "iopl",
	"ioperm", "vhangup", "lookup_dcookie", "nfsservctl", "uselib", "_sysctl", "sysfs", "ustat",
	/* mounts and namespaces: the way out of the jail's own */
	"mount", "umount2", "pivot_root", "chroot", "move_mount", "open_tree", "fsopen", "fsconfig",
	"fsmount", "fspick", "mount_setattr", "setns", "unshare", "open_by_handle_at",
	"name_to_handle_at",
	/* large, young or often broken interfaces */
	"bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter",
	"io_uring_register", "keyctl", "add_key", "request_key", "fanotify_init", "vmsplice",
	"modify_ldt", "personality", "memfd_secret"};

/* clone() with one of these makes a namespace. */
static const scmp_datum_t namespace_flags[] = {CLONE_NEWUSER,  CLONE_NEWNS,  CLONE_NEWPID,
					       CLONE_NEWNET,   CLONE_NEWIPC, CLONE_NEWUTS,
					       CLONE_NEWCGROUP};

/*
 * NOFILE: QEMU holds about 30. CORE, FSIZE: it has no file to write; memory and images are mapped
 * or read. No limit of address space (TCG and malloc arenas reserve), and none of processes: that
 * counts all of the uid's, over all VMs; TasksMax= of the service bounds them together.
 */
static const struct proc_limit limits[] = {
	{.resource = RLIMIT_CORE, .value = 0},
	{.resource = RLIMIT_FSIZE, .value = 0},
	{.resource = RLIMIT_NOFILE, .value = 256},
	{.resource = RLIMIT_MEMLOCK, .value = 0},
};

const struct proc_limit *jail_limits(size_t *ret_len)
{
	*ret_len = ELEMENTSOF(limits);
	return limits;
}

static int add_denied_calls(scmp_filter_ctx filter)
{
	for (size_t i = 0; i < ELEMENTSOF(denied_calls); i++) {
		int number = seccomp_syscall_resolve_name(denied_calls[i]);
		int r;

		/* Not known to this libseccomp, or not on this architecture. */
		if (number == __NR_SCMP_ERROR || number < 0)
			continue;
		r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), number, 0);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Threads, yes; namespaces, no. clone3() hides its flags in memory, so it "does not exist", and the
 * C library falls back to clone(). */
static int add_clone_rules(scmp_filter_ctx filter)
{
	for (size_t i = 0; i < ELEMENTSOF(namespace_flags); i++) {
		int r = seccomp_rule_add(
			filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
			SCMP_A0(SCMP_CMP_MASKED_EQ, namespace_flags[i], namespace_flags[i]));

		if (r < 0)
			return r;
	}
	return seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
}

/* Unix sockets are all that QEMU accepts connections on. Others reach protocol code in the kernel,
 * and vsock is not even confined by a network namespace. */
static int add_socket_rules(scmp_filter_ctx filter)
{
	return seccomp_rule_add(filter, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket), 1,
				SCMP_A0(SCMP_CMP_NE, AF_UNIX));
}

/* An errno of 0 is a success that did nothing. */
static int add_punch_hole_rule(scmp_filter_ctx filter)
{
	return seccomp_rule_add(
		filter, SCMP_ACT_ERRNO(0), SCMP_SYS(fallocate), 1,
		SCMP_A1(SCMP_CMP_MASKED_EQ, FALLOC_FL_PUNCH_HOLE, FALLOC_FL_PUNCH_HOLE));
}

static int build_filter(scmp_filter_ctx filter, enum jail_punch_hole punch_hole, int fd)
{
	int r = add_denied_calls(filter);

	if (r == 0)
		r = add_clone_rules(filter);
	if (r == 0)
		r = add_socket_rules(filter);
	if (r == 0 && punch_hole == JAIL_PUNCH_HOLE_FAKED)
		r = add_punch_hole_rule(filter);
	if (r == 0)
		r = seccomp_export_bpf(filter, fd);
	return r;
}

int jail_filter_create(enum jail_punch_hole punch_hole, int *ret_fd)
{
	_cleanup_close_ int fd = -1;
	scmp_filter_ctx filter;
	int r;

	fd = memfd_create("execsandbox-seccomp", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	/* Calls of a foreign architecture (x32, i386) kill: libseccomp's own default. */
	filter = seccomp_init(SCMP_ACT_ALLOW);
	if (!filter)
		return -ENOMEM;
	r = build_filter(filter, punch_hole, fd);
	seccomp_release(filter);
	if (r < 0)
		return r;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
		return -errno;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

void jail_close(struct jail *jail)
{
	jail->info_fd = close_fd(jail->info_fd);
	jail->child_info_fd = close_fd(jail->child_info_fd);
	jail->child_filter_fd = close_fd(jail->child_filter_fd);
}

int jail_open(struct jail *jail, int filter_fd, const struct stubs *stubs, struct proc_fds *fds)
{
	char path[32];
	int pipe_fds[2], r;

	*jail = (struct jail){.info_fd = -1, .child_info_fd = -1, .child_filter_fd = -1};
	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return -errno;
	jail->info_fd = pipe_fds[0];
	jail->child_info_fd = pipe_fds[1];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", filter_fd);
	jail->child_filter_fd = open(path, O_RDONLY | O_CLOEXEC);
	r = jail->child_filter_fd < 0 ? -errno : proc_fds_add(fds, jail->child_info_fd);
	jail->info_number = r;
	if (r >= 0)
		jail->filter_number = r = proc_fds_add(fds, jail->child_filter_fd);
	if (r >= 0 && stubs && stubs->names[0]) {
		jail->stubs = stubs;
		jail->stubs_number = r = proc_fds_add(fds, stubs->fd);
	}
	if (r < 0) {
		jail_close(jail);
		return r;
	}
	return 0;
}

/* Namespaces: the strict forms; a host that lacks one is told so by bubblewrap, not run without. */
static void add_namespaces(struct argv *argv)
{
	static const char *const words[] = {
		"--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net",
		"--unshare-uts", "--unshare-cgroup", "--hostname", "vm",
		/* QEMU itself is process 1: it starts no others, so no reaper is needed (half a
		 * megabyte a VM), and killing it ends the namespace. */
		"--as-pid-1", "--new-session", "--die-with-parent", NULL};

	argv_add_all(argv, words);
}

/* All names lead to one file, which the linker maps once. */
static void add_stubs(struct argv *argv, const struct stubs *stubs, int number)
{
	argv_add(argv, "--dir");
	argv_add(argv, STUBS_DIR);
	for (char *const *name = stubs->names; *name; name++) {
		argv_add(argv, "--symlink");
		argv_addf(argv, "/proc/self/fd/%d", number);
		argv_addf(argv, STUBS_DIR "/%s", *name);
	}
	argv_add(argv, "--setenv");
	argv_add(argv, "LD_LIBRARY_PATH");
	argv_add(argv, STUBS_DIR);
}

/* Merged /usr as Debian has it. /dev without bubblewrap's --dev: that is a writable tmpfs with
 * terminals. Nothing here can be written. */
static void add_files(struct argv *argv, bool has_kvm)
{
	static const char *const before[] = {
		"--ro-bind",    "/usr",         "/usr",      "--symlink", "usr/bin",
		"/bin",         "--symlink",    "usr/lib",   "/lib",      "--symlink",
		"usr/lib64",    "/lib64",       "--proc",    "/proc",     "--dir",
		"/dev",         "--dev-bind",   "/dev/null", "/dev/null", "--dev-bind",
		"/dev/urandom", "/dev/urandom", NULL};
	static const char *const kvm[] = {"--dev-bind", "/dev/kvm", "/dev/kvm", NULL};
	static const char *const after[] = {"--remount-ro", "/", "--chdir", "/", NULL};

	argv_add_all(argv, before);
	if (has_kvm)
		argv_add_all(argv, kvm);
	argv_add_all(argv, after);
}

int jail_argv(const struct jail_config *config, const struct jail *jail, char *const *program,
	      char ***ret)
{
	static const char *const rights[] = {"--cap-drop", "ALL", "--clearenv", NULL};
	struct argv argv = {0};

	if (config->uid == 0)
		return -EPERM;
	argv_add(&argv, config->bubblewrap);
	add_namespaces(&argv);
	argv_add_all(&argv, rights);
	/* Before the root is read-only. */
	if (jail->stubs)
		add_stubs(&argv, jail->stubs, jail->stubs_number);
	add_files(&argv, config->has_kvm);
	argv_add(&argv, "--info-fd");
	argv_addf(&argv, "%d", jail->info_number);
	argv_add(&argv, "--seccomp");
	argv_addf(&argv, "%d", jail->filter_number);
	argv_add(&argv, "--");
	argv_add_all(&argv, (const char *const *)program);
	return argv_finish(&argv, ret);
}
