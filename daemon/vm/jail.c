/* SPDX-License-Identifier: Apache-2.0 */
/* The jail around one QEMU: bubblewrap's arguments, its descriptors, resource limits. */
#include "daemon/vm/jail.h"

#include "daemon/vm/argv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

/* Where the dynamic linker of a jail finds the stand-ins. */
#define STUBS_DIR "/stubs"

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

/*
 * Merged /usr as Debian has it. /dev without bubblewrap's --dev: that is a writable tmpfs with
 * terminals. No procfs but QEMU's own descriptors, which it opens its images by: bound from the
 * host's, where they are the process's that sets the jail up, and it is that one that becomes QEMU
 * (--as-pid-1). The rest tells about the host, and a container whose own /proc is covered in places
 * may not mount another. Nothing here can be written, but a descriptor's link leads to the host's
 * own mount of an image: there its mode decides, which is nobody's to write (images/build).
 */
static void add_files(struct argv *argv, bool has_kvm)
{
	static const char *const before[] = {
		"--ro-bind", "/usr",      "/usr",       "--symlink",     "usr/bin",
		"/bin",      "--symlink", "usr/lib",    "/lib",          "--symlink",
		"usr/lib64", "/lib64",    "--ro-bind",  "/proc/self/fd", "/proc/self/fd",
		"--dir",     "/dev",      "--dev-bind", "/dev/urandom",  "/dev/urandom",
		NULL};
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
