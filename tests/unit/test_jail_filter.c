/* SPDX-License-Identifier: Apache-2.0 */
/* The jail's seccomp filter: every call there is, its program interpreted and the kernel asked. */
#include "daemon/vm/jail_filter.h"

#include "base/util.h"
#include "tests/fake/unprivileged.h"
#include "tests/unit/suite.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/falloc.h>
#include <linux/filter.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* Beyond the last call of any kernel yet: 6.18 has 470. */
#define CALLS_MAX 600
#define X32_BIT   0x40000000

/* Linux 6.14 asks no filter about these two, which raise SIGILL but in a probe's own code. */
#define URETPROBE 335
#define UPROBE    336

#define REFUSED (SECCOMP_RET_ERRNO | ENOSYS)
#define FAKED   (SECCOMP_RET_ERRNO | 0)
#define ANY     (-1L)

/* clang-format off */
/*
 * The written list. What is let through must be added here as well as in the filter: by someone who
 * has thought about it twice.
 */
static const long allowed[] = {
	SYS_read, SYS_write, SYS_open, SYS_close, SYS_stat, SYS_fstat, SYS_lstat, SYS_poll,
	SYS_lseek, SYS_mmap, SYS_mprotect, SYS_munmap, SYS_brk, SYS_rt_sigaction,
	SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_pread64, SYS_readv, SYS_writev, SYS_access,
	SYS_sched_yield, SYS_mremap, SYS_madvise, SYS_nanosleep, SYS_getpid, SYS_sendto, SYS_recvfrom,
	SYS_sendmsg, SYS_recvmsg, SYS_shutdown, SYS_listen, SYS_getsockname, SYS_getpeername,
	SYS_setsockopt,
	SYS_getsockopt, SYS_execve, SYS_exit, SYS_uname, SYS_fcntl, SYS_readlink, SYS_gettimeofday,
	SYS_getrlimit, SYS_sysinfo, SYS_getuid, SYS_getgid, SYS_geteuid, SYS_getegid,
	SYS_rt_sigpending, SYS_rt_sigtimedwait, SYS_sigaltstack, SYS_fstatfs, SYS_arch_prctl,
	SYS_gettid, SYS_time, SYS_futex, SYS_sched_getaffinity, SYS_set_tid_address,
	SYS_restart_syscall, SYS_fadvise64, SYS_clock_gettime, SYS_clock_getres,
	SYS_clock_nanosleep, SYS_exit_group, SYS_epoll_wait, SYS_epoll_ctl, SYS_tgkill, SYS_openat,
	SYS_newfstatat, SYS_readlinkat, SYS_faccessat, SYS_ppoll, SYS_set_robust_list,
	SYS_epoll_pwait, SYS_accept4, SYS_signalfd4, SYS_eventfd2, SYS_epoll_create1, SYS_preadv,
	SYS_prlimit64, SYS_getcpu, SYS_seccomp, SYS_getrandom, SYS_membarrier, SYS_statx, SYS_rseq,
	SYS_faccessat2};

/* Those that end the process. */
static const long fatal[] = {
	SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev, SYS_process_madvise,
	SYS_pidfd_getfd, SYS_pidfd_open, SYS_kcmp, SYS_mount, SYS_umount2, SYS_pivot_root,
	SYS_chroot, SYS_move_mount, SYS_open_tree, SYS_fsopen, SYS_fsconfig, SYS_fsmount,
	SYS_fspick, SYS_mount_setattr, SYS_setns, SYS_unshare, SYS_open_by_handle_at,
	SYS_name_to_handle_at, SYS_init_module, SYS_finit_module, SYS_delete_module, SYS_kexec_load,
	SYS_kexec_file_load, SYS_reboot, SYS_swapon, SYS_swapoff, SYS_iopl, SYS_ioperm,
	SYS_settimeofday, SYS_clock_settime, SYS_sethostname, SYS_setdomainname, SYS_bpf,
	SYS_perf_event_open, SYS_execveat, SYS_modify_ldt};
/* clang-format on */

/* A filter's program, as the kernel gets it. */
struct program {
	struct sock_filter code[4096];
	size_t len;
};

static void load_program(enum jail_punch_hole punch_hole, struct program *ret)
{
	ssize_t bytes;
	int fd;

	CHECK(jail_filter_create(punch_hole, &fd) == 0);
	bytes = pread(fd, ret->code, sizeof(ret->code), 0);
	CHECK(bytes > 0 && (size_t)bytes < sizeof(ret->code));
	CHECK((size_t)bytes % sizeof(ret->code[0]) == 0);
	ret->len = (size_t)bytes / sizeof(ret->code[0]);
	close(fd);
}

static bool jump_is_taken(const struct sock_filter *at, uint32_t value)
{
	switch (BPF_OP(at->code)) {
	case BPF_JEQ:
		return value == at->k;
	case BPF_JGT:
		return value > at->k;
	case BPF_JGE:
		return value >= at->k;
	case BPF_JSET:
		return value & at->k;
	default:
		ck_abort_msg("jump 0x%x", at->code);
	}
}

/* What the kernel would answer. Only the instructions that libseccomp makes. */
static uint32_t answer(const struct program *program, const struct seccomp_data *data,
		       size_t *steps)
{
	uint32_t value = 0;

	*steps = 0;
	for (size_t i = 0; i < program->len; i++) {
		const struct sock_filter *at = &program->code[i];

		(*steps)++;
		switch (at->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			ck_assert_uint_le(at->k + sizeof(value), sizeof(*data));
			memcpy(&value, (const char *)data + at->k, sizeof(value));
			break;
		case BPF_ALU | BPF_AND | BPF_K:
			value &= at->k;
			break;
		case BPF_JMP | BPF_JA:
			i += at->k;
			break;
		case BPF_RET | BPF_K:
			return at->k;
		default:
			ck_assert_uint_eq(BPF_CLASS(at->code), BPF_JMP);
			i += jump_is_taken(at, value) ? at->jt : at->jf;
		}
	}
	ck_abort_msg("ran over its end");
}

static uint32_t ask(const struct program *program, long number, long first, long second)
{
	struct seccomp_data data = {
		.nr = (int)number,
		.arch = AUDIT_ARCH_X86_64,
		.args = {(uint64_t)first, (uint64_t)second, -1UL, -1UL, -1UL, -1UL},
	};
	size_t steps;

	return answer(program, &data, &steps);
}

static bool is_among(long number, const long *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (list[i] == number)
			return true;
	return false;
}

static uint32_t expected_answer(long number)
{
	if (is_among(number, allowed, ELEMENTSOF(allowed)))
		return SECCOMP_RET_ALLOW;
	if (is_among(number, fatal, ELEMENTSOF(fatal)))
		return SECCOMP_RET_KILL_PROCESS;
	return REFUSED;
}

START_TEST(test_every_call_is_as_written)
{
	static struct program program;

	for (int punch_hole = JAIL_PUNCH_HOLE_ALLOWED; punch_hole <= JAIL_PUNCH_HOLE_FAKED;
	     punch_hole++) {
		load_program((enum jail_punch_hole)punch_hole, &program);
		for (long number = 0; number < CALLS_MAX; number++)
			ck_assert_msg(ask(&program, number, ANY, ANY) == expected_answer(number),
				      "call %ld: 0x%x instead of 0x%x", number,
				      ask(&program, number, ANY, ANY), expected_answer(number));
		ck_assert_uint_eq(ask(&program, -1, ANY, ANY), REFUSED);
	}
}
END_TEST

/* The numbers of i386 and x32 mean other calls: whoever makes one looks for a hole. */
START_TEST(test_calls_of_other_architectures_end_the_process)
{
	static struct program program;
	struct seccomp_data data = {.arch = AUDIT_ARCH_I386};
	size_t steps;

	load_program(JAIL_PUNCH_HOLE_ALLOWED, &program);
	for (int number = 0; number < CALLS_MAX; number++) {
		data.nr = number;
		ck_assert_uint_eq(answer(&program, &data, &steps), SECCOMP_RET_KILL_PROCESS);
		ck_assert_uint_eq(ask(&program, number | X32_BIT, ANY, ANY),
				  SECCOMP_RET_KILL_PROCESS);
	}
}
END_TEST

/* The kernel remembers which calls always pass; the others are looked up in a tree. */
START_TEST(test_no_call_is_looked_up_long)
{
	static struct program program;
	size_t most = 0;

	load_program(JAIL_PUNCH_HOLE_FAKED, &program);
	for (int number = 0; number < CALLS_MAX; number++) {
		struct seccomp_data data = {.nr = number, .arch = AUDIT_ARCH_X86_64};
		size_t steps;

		answer(&program, &data, &steps);
		most = MAX(most, steps);
	}
	ck_assert_uint_le(most, 24);
}
END_TEST

#define THREAD                                                                              \
	(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | \
	 CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID)

START_TEST(test_arguments)
{
	static const long made_by_prctl[] = {PR_SET_NAME, PR_SET_TIMERSLACK, PR_MCE_KILL,
					     PR_SET_NO_NEW_PRIVS};
	static const long not_threads[] = {SIGCHLD,
					   CLONE_VM | CLONE_VFORK | SIGCHLD,
					   THREAD & ~CLONE_THREAD,
					   THREAD | CLONE_NEWUSER,
					   THREAD | CLONE_NEWNET,
					   THREAD | CLONE_PTRACE,
					   THREAD | CLONE_PARENT,
					   CLONE_NEWUSER | SIGCHLD,
					   THREAD | 1L << 32};
	static struct program program;

	load_program(JAIL_PUNCH_HOLE_ALLOWED, &program);
	ck_assert_uint_eq(ask(&program, SYS_clone, THREAD, ANY), SECCOMP_RET_ALLOW);
	for (size_t i = 0; i < ELEMENTSOF(not_threads); i++)
		ck_assert_uint_eq(ask(&program, SYS_clone, not_threads[i], ANY), REFUSED);
	for (long option = 0; option < 128; option++)
		ck_assert_uint_eq(ask(&program, SYS_prctl, option, ANY),
				  is_among(option, made_by_prctl, ELEMENTSOF(made_by_prctl))
					  ? SECCOMP_RET_ALLOW
					  : REFUSED);
	ck_assert_uint_eq(ask(&program, SYS_ioctl, ANY, KVM_RUN), SECCOMP_RET_ALLOW);
	ck_assert_uint_eq(ask(&program, SYS_ioctl, ANY, (long)KVM_CREATE_VM), SECCOMP_RET_ALLOW);
	ck_assert_uint_eq(ask(&program, SYS_ioctl, ANY, TIOCSTI), REFUSED);
	ck_assert_uint_eq(ask(&program, SYS_ioctl, ANY, FIONREAD), REFUSED);
}
END_TEST

START_TEST(test_only_holes_are_punched)
{
	static const long punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	static const long others[] = {0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE,
				      FALLOC_FL_ZERO_RANGE, FALLOC_FL_COLLAPSE_RANGE};
	static struct program program;

	for (int kind = JAIL_PUNCH_HOLE_ALLOWED; kind <= JAIL_PUNCH_HOLE_FAKED; kind++) {
		load_program((enum jail_punch_hole)kind, &program);
		ck_assert_uint_eq(ask(&program, SYS_fallocate, 0, punch),
				  kind == JAIL_PUNCH_HOLE_FAKED ? FAKED : SECCOMP_RET_ALLOW);
		for (size_t i = 0; i < ELEMENTSOF(others); i++)
			ck_assert_uint_eq(ask(&program, SYS_fallocate, 0, others[i]), REFUSED);
	}
}
END_TEST

/* From here on this process lives under the filter, as QEMU would. */
static void enter_filter(enum jail_punch_hole punch_hole)
{
	static struct program program;
	struct sock_fprog loaded = {.filter = program.code};

	load_program(punch_hole, &program);
	loaded.len = (unsigned short)program.len;
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &loaded) == 0);
}

/* Makes every call that is refused, with arguments that none likes: the kernel's own word. */
static void refused_calls(void)
{
	enter_filter(JAIL_PUNCH_HOLE_ALLOWED);
	for (long number = 0; number < CALLS_MAX; number++) {
		if (expected_answer(number) != REFUSED || number == URETPROBE || number == UPROBE)
			continue;
		errno = 0;
		if (syscall(number, ANY, ANY, ANY, ANY, ANY, ANY) == -1 && errno == ENOSYS)
			continue;
		fprintf(stderr, "Call %ld: errno %d\n", number, errno);
		_exit(1);
	}
}

START_TEST(test_the_kernel_refuses)
{
	ck_assert_int_eq(run_unprivileged(refused_calls), 0);
}
END_TEST

static long fatal_call;

static void make_fatal_call(void)
{
	enter_filter(JAIL_PUNCH_HOLE_ALLOWED);
	syscall(fatal_call, ANY, ANY, ANY, ANY, ANY, ANY);
}

START_TEST(test_the_kernel_ends_who_tries)
{
	for (size_t i = 0; i < ELEMENTSOF(fatal); i++) {
		int status;

		fatal_call = fatal[i];
		status = run_unprivileged(make_fatal_call);
		ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS, "call %ld: 0x%x",
			      fatal_call, (unsigned)status);
	}
	fatal_call = SYS_getpid | X32_BIT;
	ck_assert_int_eq(WTERMSIG(run_unprivileged(make_fatal_call)), SIGSYS);
}
END_TEST

static void *in_thread(void *user)
{
	*(bool *)user = syscall(SYS_gettid) != getpid();
	return NULL;
}

static void allowed_calls(void)
{
	bool has_run = false;
	pthread_t thread;

	enter_filter(JAIL_PUNCH_HOLE_ALLOWED);
	CHECK(open("/dev/urandom", O_RDONLY) >= 0);
	CHECK(mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		   0) != MAP_FAILED);
	/* By clone3() first, which is not there. */
	CHECK(pthread_create(&thread, NULL, in_thread, &has_run) == 0);
	CHECK(pthread_join(thread, NULL) == 0 && has_run);
	CHECK(prctl(PR_SET_NAME, "renamed") == 0);
	CHECK(prctl(PR_SET_DUMPABLE, 1) < 0 && errno == ENOSYS);
	CHECK(fork() < 0 && errno == ENOSYS);
	CHECK(socket(AF_UNIX, SOCK_STREAM, 0) < 0 && errno == ENOSYS);
	/* QEMU comes in by it: the program runs, under the same filter. */
	execl("/usr/bin/true", "true", NULL);
	_exit(1);
}

START_TEST(test_the_kernel_allows)
{
	ck_assert_int_eq(run_unprivileged(allowed_calls), 0);
}
END_TEST

static char first_byte(int fd)
{
	char byte = '?';

	CHECK(pread(fd, &byte, 1, 0) == 1);
	return byte;
}

static int punch_first_page(int fd)
{
	return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096);
}

static void punching_works(void)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	CHECK(write(fd, "x", 1) == 1);
	enter_filter(JAIL_PUNCH_HOLE_ALLOWED);
	CHECK(punch_first_page(fd) == 0);
	CHECK(first_byte(fd) == '\0');
}

static void punching_is_faked(void)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	CHECK(write(fd, "x", 1) == 1);
	enter_filter(JAIL_PUNCH_HOLE_FAKED);
	CHECK(punch_first_page(fd) == 0);
	CHECK(first_byte(fd) == 'x');
	CHECK(punch_first_page(-1) == 0); /* not even looked at */
	CHECK(fallocate(fd, 0, 0, 8192) < 0 && errno == ENOSYS);
}

START_TEST(test_punch_hole_is_faked_only_when_asked)
{
	ck_assert_int_eq(run_unprivileged(punching_works), 0);
	ck_assert_int_eq(run_unprivileged(punching_is_faked), 0);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("jail_filter");
	TCase *all = tcase_create("all");

	tcase_add_test(all, test_every_call_is_as_written);
	tcase_add_test(all, test_calls_of_other_architectures_end_the_process);
	tcase_add_test(all, test_no_call_is_looked_up_long);
	tcase_add_test(all, test_arguments);
	tcase_add_test(all, test_only_holes_are_punched);
	tcase_add_test(all, test_the_kernel_refuses);
	tcase_add_test(all, test_the_kernel_ends_who_tries);
	tcase_add_test(all, test_the_kernel_allows);
	tcase_add_test(all, test_punch_hole_is_faked_only_when_asked);
	suite_add_tcase(suite, all);
	return suite;
}
