/* SPDX-License-Identifier: Apache-2.0 */
/* The jail: its arguments, what a program sees inside, and a real QEMU. */
#include "daemon/vm/jail.h"

#include "base/stream.h"
#include "daemon/vm/argv.h"
#include "daemon/vm/qemu_argv.h"
#include "daemon/vm/qmp.h"
#include "tests/fake/unprivileged.h"
#include "tests/fake/wait.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define BUBBLEWRAP "/usr/bin/bwrap"
#define QEMU       "/usr/bin/qemu-system-x86_64"
#define SHELL      "/bin/sh"
#define DEADLINE   20000
#define OUTPUT_MAX 8192

static bool has_run(char *const *argv, const char *const *run)
{
	for (; *argv; argv++) {
		size_t i = 0;

		while (run[i] && argv[i] && strcmp(run[i], argv[i]) == 0)
			i++;
		if (!run[i])
			return true;
	}
	return false;
}

START_TEST(test_arguments)
{
	static const char *const namespaces[] = {
		"--unshare-user", "--unshare-ipc",    "--unshare-pid", "--unshare-net",
		"--unshare-uts",  "--unshare-cgroup", "--new-session", "--die-with-parent",
		"--clearenv",     "--as-pid-1"};
	static const char *const caps[] = {"--cap-drop", "ALL", NULL};
	static const char *const usr[] = {"--ro-bind", "/usr", "/usr", NULL};
	static const char *const root[] = {"--remount-ro", "/", NULL};
	static const char *const kvm[] = {"--dev-bind", "/dev/kvm", "/dev/kvm", NULL};
	static const char *const tail[] = {"--info-fd",     "8",  "--seccomp", "9", "--",
					   "/usr/bin/qemu", "-S", NULL};
	char *program[] = {(char *)"/usr/bin/qemu", (char *)"-S", NULL};
	struct jail jail = {.info_number = 8, .filter_number = 9};
	struct jail_config config = {.bubblewrap = BUBBLEWRAP, .uid = 1000};
	char **argv = NULL;

	ck_assert_int_eq(jail_argv(&config, &jail, program, &argv), 0);
	ck_assert_str_eq(argv[0], BUBBLEWRAP);
	for (size_t i = 0; i < ELEMENTSOF(namespaces); i++)
		ck_assert_msg(has_run(argv, (const char *const[]){namespaces[i], NULL}), "%s",
			      namespaces[i]);
	ck_assert(has_run(argv, caps) && has_run(argv, usr) && has_run(argv, root));
	ck_assert(has_run(argv, tail));
	ck_assert(!has_run(argv, kvm));
	argv_free(TAKE_PTR(argv));
	config.has_kvm = true;
	ck_assert_int_eq(jail_argv(&config, &jail, program, &argv), 0);
	ck_assert(has_run(argv, kvm));
	argv_free(TAKE_PTR(argv));
	config.uid = 0;
	ck_assert_int_eq(jail_argv(&config, &jail, program, &argv), -EPERM);
	ck_assert_ptr_null(argv);
}
END_TEST

START_TEST(test_stubs)
{
	static const char *const one[] = {"--symlink", "/proc/self/fd/5", "/stubs/libone.so.1",
					  NULL};
	static const char *const two[] = {"--symlink", "/proc/self/fd/5", "/stubs/libtwo.so.2",
					  NULL};
	static const char *const path[] = {"--setenv", "LD_LIBRARY_PATH", "/stubs", NULL};
	char *program[] = {(char *)"/usr/bin/qemu", NULL};
	struct stubs stubs = {.names = {(char *)"libone.so.1", (char *)"libtwo.so.2"}};
	struct jail_config config = {.bubblewrap = BUBBLEWRAP, .uid = 1000};
	struct proc_fds fds = {.len = 0};
	char **argv = NULL;
	struct jail jail;
	int filter_fd;

	ck_assert_int_eq(jail_filter_create(JAIL_PUNCH_HOLE_ALLOWED, &filter_fd), 0);
	ck_assert_int_eq(jail_open(&jail, filter_fd, &stubs, &fds), 0);
	ck_assert_int_eq(fds.len, 3);
	ck_assert_int_eq(jail_argv(&config, &jail, program, &argv), 0);
	ck_assert(has_run(argv, one) && has_run(argv, two) && has_run(argv, path));
	argv_free(argv);
	jail_close(&jail);
	fds.len = PROC_FDS_MAX - 2;
	ck_assert_int_eq(jail_open(&jail, filter_fd, &stubs, &fds), -ENOSPC);
	close(filter_fd);
}
END_TEST

START_TEST(test_each_jail_reads_its_own_filter)
{
	struct proc_fds fds = {.len = 0};
	struct jail first, second;
	char byte;
	int filter_fd;

	ck_assert_int_eq(jail_filter_create(JAIL_PUNCH_HOLE_ALLOWED, &filter_fd), 0);
	ck_assert_int_eq(jail_open(&first, filter_fd, NULL, &fds), 0);
	ck_assert_int_eq(jail_open(&second, filter_fd, NULL, &fds), 0);
	ck_assert_int_eq(fds.len, 4);
	ck_assert_int_eq(first.info_number, 3);
	ck_assert_int_eq(second.filter_number, 6);
	ck_assert_int_eq(read(first.child_filter_fd, &byte, 1), 1);
	ck_assert_int_eq(lseek(first.child_filter_fd, 0, SEEK_CUR), 1);
	ck_assert_int_eq(lseek(second.child_filter_fd, 0, SEEK_CUR), 0);
	ck_assert_int_lt(write(filter_fd, &byte, 1), 0);
	jail_close(&first);
	jail_close(&first);
	jail_close(&second);
	fds.len = PROC_FDS_MAX - 1;
	ck_assert_int_eq(jail_open(&first, filter_fd, NULL, &fds), -ENOSPC);
	ck_assert_int_eq(first.info_fd, -1);
	ck_assert_int_eq(jail_open(&first, 1000, NULL, &fds), -ENOENT);
	close(filter_fd);
}
END_TEST

/* What the callbacks saw. */
struct seen {
	pid_t pid;
	bool has_ended, is_gone, is_ready, is_done;
	struct proc_status status;
	char console; /* the last byte that came out of it */
};

static void on_pid(void *user, pid_t pid)
{
	((struct seen *)user)->pid = pid;
}

static void on_end(void *user)
{
	((struct seen *)user)->has_ended = true;
}

static void on_gone(void *user, const struct proc_status *status)
{
	struct seen *seen = user;

	seen->is_gone = true;
	seen->status = *status;
}

static const struct proc_ops proc_callbacks = {
	.on_pid = on_pid, .on_end = on_end, .on_gone = on_gone};

/* A shell makes more calls than QEMU: scripts that look around run under a filter of nothing. */
static int open_filter(char *const *program)
{
	scmp_filter_ctx filter;
	int fd;

	if (strcmp(program[0], SHELL) != 0) {
		CHECK(jail_filter_create(JAIL_PUNCH_HOLE_ALLOWED, &fd) == 0);
		return fd;
	}
	filter = seccomp_init(SCMP_ACT_ALLOW);
	fd = memfd_create("test-filter", MFD_CLOEXEC);
	CHECK(filter && fd >= 0 && seccomp_export_bpf(filter, fd) == 0);
	seccomp_release(filter);
	return fd;
}

static struct proc *spawn_jailed(struct loop *loop, char *const *program, struct proc_fds *fds,
				 struct seen *seen)
{
	struct jail_config config = {.bubblewrap = BUBBLEWRAP, .uid = geteuid()};
	struct proc_spec spec = {.fds = fds};
	struct proc *proc = NULL;
	struct jail jail;
	char **argv = NULL;
	int filter_fd = open_filter(program);

	CHECK(jail_open(&jail, filter_fd, NULL, fds) == 0);
	CHECK(jail_argv(&config, &jail, program, &argv) == 0);
	spec.argv = argv;
	spec.limits = jail_limits(&spec.n_limits);
	spec.info_fd_take = TAKE_FD(jail.info_fd);
	CHECK(proc_spawn(loop, "test", &spec, &proc_callbacks, seen, &proc) == 0);
	jail_close(&jail);
	argv_free(argv);
	close(filter_fd);
	return proc;
}

/* Runs a shell script in a jail; what it writes to descriptor 3 is `ret`. */
static void jailed_output(const char *script, char ret[OUTPUT_MAX])
{
	char *program[] = {(char *)SHELL, (char *)"-c", (char *)script, NULL};
	struct proc_fds fds = {.len = 0};
	struct seen seen = {.pid = 0};
	struct loop *loop;
	struct proc *proc;
	ssize_t n;
	int out[2];

	CHECK(loop_create(&loop) == 0);
	CHECK(pipe2(out, O_CLOEXEC | O_NONBLOCK) == 0);
	CHECK(proc_fds_add(&fds, out[1]) == 3);
	proc = spawn_jailed(loop, program, &fds, &seen);
	close(out[1]);
	CHECK(WAIT_FOR(loop, seen.is_gone));
	if (seen.status.end != PROC_END_EXITED || seen.status.code != 0) {
		fprintf(stderr, "Ended %d %d: %s\n", (int)seen.status.end, seen.status.code,
			proc_stderr(proc));
		_exit(1);
	}
	n = read(out[0], ret, OUTPUT_MAX - 1);
	CHECK(n >= 0);
	ret[n] = '\0';
	close(out[0]);
	proc_destroy(proc);
	loop_destroy(loop);
}

static void expect_inside(const char *script, const char *expected)
{
	char text[OUTPUT_MAX];

	jailed_output(script, text);
	if (strcmp(text, expected) != 0) {
		fprintf(stderr, "%s\ngave '%s' instead of '%s'\n", script, text, expected);
		_exit(1);
	}
}

static void look_around(void)
{
	expect_inside("cd /; echo * >&3", "bin dev lib lib64 proc usr\n");
	expect_inside("cd /dev; echo * >&3", "urandom\n");
	/* Of all that procfs tells: its own descriptors. */
	expect_inside("cd /proc; echo * self/* >&3", "self self/fd\n");
	expect_inside("for d in / /dev /usr /tmp /proc /proc/self; do 2>&- >$d/x && echo $d; done "
		      ">&3; true",
		      "");
	expect_inside("echo $$ $(uname -n) >&3", "1 vm\n");
	expect_inside("ulimit -n >&3; ulimit -c >&3; ulimit -f >&3", "256\n0\n0\n");
	expect_inside("env | grep -v ^PWD= >&3; true", "");
	expect_inside("mount -t tmpfs x /dev 2>&- || echo denied >&3", "denied\n");
	expect_inside("exec ls /proc/self/fd >&3", "0\n1\n2\n3\n4\n"); /* 4: the listing */
}

START_TEST(test_inside)
{
	ck_assert_int_eq(run_unprivileged(look_around), 0);
}
END_TEST

static void expect_in_file(pid_t pid, const char *name, const char *expected)
{
	_cleanup_free_ char *text = NULL;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	CHECK(read_file_at(AT_FDCWD, path, OUTPUT_MAX, &text) > 0);
	if (!strstr(text, expected)) {
		fprintf(stderr, "%s has no '%s':\n%s\n", path, expected, text);
		_exit(1);
	}
}

/* Root of the host is nowhere: not as the process's uid, not behind its inside uid. */
static void look_from_outside(void)
{
	char *program[] = {(char *)SHELL, (char *)"-c", (char *)"echo >&3; exec sleep 1000 3>&-",
			   NULL};
	struct proc_fds fds = {.len = 0};
	struct seen seen = {.pid = 0};
	_cleanup_free_ char *map = NULL;
	unsigned inside, outside, len;
	struct loop *loop;
	struct proc *proc;
	char path[64], byte;
	int out[2];

	CHECK(loop_create(&loop) == 0);
	CHECK(pipe2(out, O_CLOEXEC) == 0);
	CHECK(proc_fds_add(&fds, out[1]) == 3);
	proc = spawn_jailed(loop, program, &fds, &seen);
	CHECK(WAIT_FOR(loop, seen.pid > 0));
	/* The pid is known before the jail is set up: wait for the program's first word. */
	CHECK(read(out[0], &byte, 1) == 1);
	CHECK(proc_pid(proc) == seen.pid);
	snprintf(path, sizeof(path), "/proc/%d/uid_map", (int)seen.pid);
	CHECK(read_file_at(AT_FDCWD, path, 4096, &map) > 0);
	CHECK(sscanf(map, "%u %u %u", &inside, &outside, &len) == 3);
	CHECK(outside == geteuid() && outside != 0 && len == 1);
	expect_in_file(seen.pid, "status",
		       "CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\n"
		       "CapEff:\t0000000000000000\nCapBnd:\t0000000000000000\n"
		       "CapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n");
	proc_kill(proc);
	CHECK(WAIT_FOR(loop, seen.is_gone));
	CHECK(seen.has_ended && seen.status.end == PROC_END_SIGNALED &&
	      seen.status.code == SIGKILL);
	CHECK(kill(seen.pid, 0) < 0 && errno == ESRCH);
	proc_destroy(proc);
	loop_destroy(loop);
	close(out[0]);
	close(out[1]);
}

START_TEST(test_outside)
{
	ck_assert_int_eq(run_unprivileged(look_from_outside), 0);
}
END_TEST

static void missing_program(void)
{
	char *program[] = {(char *)"/usr/bin/no-such-qemu", NULL};
	struct proc_fds fds = {.len = 0};
	struct seen seen = {.pid = 0};
	struct loop *loop;
	struct proc *proc;

	CHECK(loop_create(&loop) == 0);
	proc = spawn_jailed(loop, program, &fds, &seen);
	CHECK(WAIT_FOR(loop, seen.is_gone));
	CHECK(seen.status.end == PROC_END_EXITED && seen.status.code == 1);
	CHECK(strstr(proc_stderr(proc), "no-such-qemu"));
	proc_destroy(proc);
	loop_destroy(loop);
}

/* Also process 1 of a namespace, which ordinary signals do not reach. */
static void fatal_call(void)
{
	char *program[] = {(char *)"/usr/sbin/chroot", (char *)"/", (char *)"/usr/bin/true", NULL};
	struct proc_fds fds = {.len = 0};
	struct seen seen = {.pid = 0};
	struct loop *loop;
	struct proc *proc;

	CHECK(loop_create(&loop) == 0);
	proc = spawn_jailed(loop, program, &fds, &seen);
	CHECK(WAIT_FOR(loop, seen.is_gone));
	CHECK(seen.has_ended && seen.status.end == PROC_END_SIGNALED && seen.status.code == SIGSYS);
	proc_destroy(proc);
	loop_destroy(loop);
}

START_TEST(test_a_fatal_call_ends_the_jail)
{
	ck_assert_int_eq(run_unprivileged(fatal_call), 0);
}
END_TEST

START_TEST(test_a_missing_program_is_named)
{
	ck_assert_int_eq(run_unprivileged(missing_program), 0);
}
END_TEST

/*
 * A kernel of a few bytes that QEMU starts by PVH: says "K" on the serial port, then halts for
 * ever. ELF64 with one loaded segment and the Xen note that names the 32-bit entry point.
 */
struct tiny_kernel {
	uint8_t ident[16];
	uint16_t type, machine;
	uint32_t version;
	uint64_t entry, phoff, shoff;
	uint32_t flags;
	uint16_t ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
	struct {
		uint32_t type, flags;
		uint64_t offset, vaddr, paddr, filesz, memsz, align;
	} segments[2];
	uint32_t note_namesz, note_descsz, note_type;
	char note_name[4];
	uint64_t note_entry;
	uint8_t code[16];
	uint8_t padding[16384]; /* QEMU reads a header of 8 KiB before it looks */
};

#define KERNEL_BASE 0x100000u

static void make_kernel(struct tiny_kernel *kernel)
{
	static const uint8_t code[] = {
		0x66, 0xba, 0xf8, 0x03, /* mov dx, 0x3f8 */
		0xb0, 'K',              /* mov al, 'K' */
		0xee,                   /* out dx, al */
		0xfa,                   /* cli */
		0xf4,                   /* hlt */
		0xeb, 0xfd,             /* jmp to hlt */
	};
	uint64_t entry = KERNEL_BASE + offsetof(struct tiny_kernel, code);

	*kernel = (struct tiny_kernel){
		.ident = "\177ELF\2\1\1",
		.type = 2,
		.machine = 62,
		.version = 1,
		.entry = entry,
		.phoff = offsetof(struct tiny_kernel, segments),
		.ehsize = 64,
		.phentsize = 56,
		.phnum = 2,
		.segments = {{.type = 1,
			      .flags = 7,
			      .vaddr = KERNEL_BASE,
			      .paddr = KERNEL_BASE,
			      .filesz = sizeof(*kernel),
			      .memsz = sizeof(*kernel),
			      .align = 4096},
			     {.type = 4,
			      .offset = offsetof(struct tiny_kernel, note_namesz),
			      .filesz = 24,
			      .memsz = 24,
			      .align = 4}},
		.note_namesz = 4,
		.note_descsz = 8,
		.note_type = 18, /* XEN_ELFNOTE_PHYS32_ENTRY */
		.note_name = "Xen",
		.note_entry = entry,
	};
	memcpy(kernel->code, code, sizeof(code));
}

/* A file for all to read, in a directory that is not for all to enter. */
static int image_open(int dir_fd, const char *name, const void *data, size_t len)
{
	int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fchmod(fd, 0644), 0);
	ck_assert_int_eq(write_all(fd, data, len), 0);
	close(fd);
	fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	return fd;
}

static void on_ready(void *user)
{
	((struct seen *)user)->is_ready = true;
}

static void on_event(void *user UNUSED, const char *name UNUSED, const json_t *data UNUSED,
		     uint64_t time_us UNUSED)
{
}

static void on_qmp_end(void *user UNUSED, int error UNUSED)
{
}

static const struct qmp_ops qmp_callbacks = {
	.on_ready = on_ready, .on_event = on_event, .on_end = on_qmp_end};

static void on_balloon(void *user, const json_t *ret, const struct qmp_error *error)
{
	CHECK(!error);
	CHECK(json_integer_value(json_object_get(ret, "actual")) == 64 << 20);
	((struct seen *)user)->is_done = true;
}

static void on_console(void *user, const uint8_t *data, size_t len)
{
	((struct seen *)user)->console = (char)data[len - 1];
}

static void on_console_end(void *user UNUSED, int error UNUSED)
{
}

static const struct stream_ops console_callbacks = {.on_data = on_console,
						    .on_end = on_console_end};

static int kernel_fd, rootfs_fd;

static int listen_on(int *ret_connected)
{
	char path[] = "/tmp/execsandbox-jail-XXXXXX";
	int dir_fd, fd;

	CHECK(mkdtemp(path));
	dir_fd = open(path, O_PATH | O_CLOEXEC);
	fd = unix_listen_at(dir_fd, "s", 1);
	CHECK(fd >= 0);
	*ret_connected = unix_connect_at(dir_fd, "s");
	CHECK(*ret_connected >= 0);
	CHECK(unlinkat(dir_fd, "s", 0) == 0 && rmdir(path) == 0);
	close(dir_fd);
	return fd;
}

/* QEMU with our own command line: QMP answers, the guest's console comes out, a kill ends it. */
static void run_qemu(void)
{
	struct proc_fds fds = {.len = 0};
	struct seen seen = {.pid = 0};
	int qmp_fd, agent_fd, console[2], qmp_listen = listen_on(&qmp_fd),
					  agent_listen = listen_on(&agent_fd);
	struct qemu_config config = {.program = QEMU, .name = "vm_test", .memory_mb = 64};
	struct stream boot_log;
	char **argv = NULL;
	struct loop *loop;
	struct proc *proc;
	struct qmp *qmp;

	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, console) == 0);
	CHECK(loop_create(&loop) == 0);
	config.qmp_fd = proc_fds_add(&fds, qmp_listen);
	config.agent_fd = proc_fds_add(&fds, agent_listen);
	config.console_fd = proc_fds_add(&fds, console[1]);
	config.kernel_fd = proc_fds_add(&fds, kernel_fd);
	config.rootfs_fd = proc_fds_add(&fds, rootfs_fd);
	CHECK(qemu_argv(&config, &argv) == 0);
	proc = spawn_jailed(loop, argv, &fds, &seen);
	argv_free(argv);
	close(qmp_listen);
	close(agent_listen);
	close(console[1]);
	stream_init(&boot_log, loop, console[0], 1, &console_callbacks, &seen);
	CHECK(qmp_create(loop, "test", qmp_fd, DEADLINE, &qmp_callbacks, &seen, &qmp) == 0);
	CHECK(WAIT_FOR(loop, seen.is_ready || seen.is_gone));
	if (seen.is_gone) {
		fprintf(stderr, "QEMU said: %s\n", proc_stderr(proc));
		_exit(1);
	}
	CHECK(qmp_command(qmp, "query-balloon", NULL, DEADLINE, on_balloon, &seen) == 0);
	CHECK(WAIT_FOR(loop, seen.is_done));
	CHECK(WAIT_FOR(loop, seen.console == 'K'));
	CHECK(seen.pid > 0);
	proc_kill(proc);
	CHECK(WAIT_FOR(loop, seen.is_gone));
	CHECK(kill(seen.pid, 0) < 0 && errno == ESRCH);
	CHECK(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD);
	qmp_destroy(qmp);
	proc_destroy(proc);
	stream_close(&boot_log);
	loop_destroy(loop);
	close(agent_fd);
}

START_TEST(test_qemu_runs_inside)
{
	static struct tiny_kernel kernel;
	static const char rootfs[65536];
	char dir[] = "/tmp/execsandbox-images-XXXXXX";
	int dir_fd;

	make_kernel(&kernel);
	ck_assert_ptr_nonnull(mkdtemp(dir)); /* 0700 */
	dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_ge(dir_fd, 0);
	kernel_fd = image_open(dir_fd, "kernel", &kernel, sizeof(kernel));
	rootfs_fd = image_open(dir_fd, "rootfs", rootfs, sizeof(rootfs));
	ck_assert_int_eq(run_unprivileged(run_qemu), 0);
	close(kernel_fd);
	close(rootfs_fd);
	ck_assert_int_eq(unlinkat(dir_fd, "kernel", 0), 0);
	ck_assert_int_eq(unlinkat(dir_fd, "rootfs", 0), 0);
	close(dir_fd);
	ck_assert_int_eq(rmdir(dir), 0);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("jail");
	TCase *all = tcase_create("all");

	tcase_set_timeout(all, 120);
	tcase_add_test(all, test_arguments);
	tcase_add_test(all, test_stubs);
	tcase_add_test(all, test_each_jail_reads_its_own_filter);
	tcase_add_test(all, test_inside);
	tcase_add_test(all, test_outside);
	tcase_add_test(all, test_a_fatal_call_ends_the_jail);
	tcase_add_test(all, test_a_missing_program_is_named);
	tcase_add_test(all, test_qemu_runs_inside);
	suite_add_tcase(suite, all);
	return suite;
}
