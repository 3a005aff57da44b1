/* SPDX-License-Identifier: Apache-2.0 */
/* The jail's seccomp filter, call by call. */
#include "daemon/vm/jail.h"

#include "tests/fake/unprivileged.h"
#include "tests/unit/suite.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* From here on this process lives under the filter, as QEMU would. */
static void enter_filter(enum jail_punch_hole punch_hole)
{
	static struct sock_filter code[4096];
	struct sock_fprog program = {.filter = code};
	ssize_t len;
	int fd;

	CHECK(jail_filter_create(punch_hole, &fd) == 0);
	len = pread(fd, code, sizeof(code), 0);
	CHECK(len > 0 && (size_t)len < sizeof(code) && (size_t)len % sizeof(code[0]) == 0);
	program.len = (unsigned short)((size_t)len / sizeof(code[0]));
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
	close(fd);
}

static void expect_errno(long number, const char *name, int expected)
{
	/* Arguments that no call likes: what is let through fails with something else. */
	long r = syscall(number, -1L, -1L, -1L, -1L, -1L, -1L);

	if (r != -1 || errno != expected) {
		fprintf(stderr, "%s: %ld, errno %d\n", name, r, errno);
		_exit(1);
	}
}

#define DENIED(name) expect_errno(SYS_##name, #name, EPERM)

/* Dangerous calls answer EPERM also to an unprivileged caller with arguments that would have been
 * EINVAL, EFAULT, EBADF or ENOSYS. */
static void denied_calls(void)
{
	enter_filter(JAIL_PUNCH_HOLE_ALLOWED);
	DENIED(ptrace);
	DENIED(process_vm_readv);
	DENIED(process_vm_writev);
	DENIED(pidfd_getfd);
	DENIED(kcmp);
	DENIED(init_module);
	DENIED(finit_module);
	DENIED(delete_module);
	DENIED(kexec_load);
	DENIED(kexec_file_load);
	DENIED(reboot);
	DENIED(swapon);
	DENIED(swapoff);
	DENIED(acct);
	DENIED(quotactl);
	DENIED(mount);
	DENIED(umount2);
	DENIED(pivot_root);
	DENIED(chroot);
	DENIED(move_mount);
	DENIED(open_tree);
	DENIED(fsopen);
	DENIED(setns);
	DENIED(unshare);
	DENIED(open_by_handle_at);
	DENIED(name_to_handle_at);
	DENIED(bpf);
	DENIED(perf_event_open);
	DENIED(userfaultfd);
	DENIED(io_uring_setup);
	DENIED(io_uring_enter);
	DENIED(io_uring_register);
	DENIED(keyctl);
	DENIED(add_key);
	DENIED(request_key);
	DENIED(personality);
	DENIED(vmsplice);
	expect_errno(SYS_clone3, "clone3", ENOSYS);
}

START_TEST(test_filter_denies_what_is_dangerous)
{
	ck_assert_int_eq(run_unprivileged(denied_calls), 0);
}
END_TEST

static void allowed_calls(void)
{
	int fds[2];
	pid_t child;

	enter_filter(JAIL_PUNCH_HOLE_ALLOWED);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
	CHECK(socket(AF_UNIX, SOCK_STREAM, 0) >= 0);
	CHECK(socket(AF_INET, SOCK_STREAM, 0) < 0 && errno == EAFNOSUPPORT);
	CHECK(socket(AF_NETLINK, SOCK_RAW, 0) < 0 && errno == EAFNOSUPPORT);
	CHECK(socket(AF_VSOCK, SOCK_STREAM, 0) < 0 && errno == EAFNOSUPPORT);
	CHECK(open("/proc/self/status", O_RDONLY) >= 0);
	CHECK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) !=
	      MAP_FAILED);
	/* A process, yes; a namespace, no. */
	child = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
	CHECK(child >= 0);
	if (child == 0)
		_exit(0);
	CHECK(waitpid(child, NULL, 0) == child);
	CHECK(syscall(SYS_clone, SIGCHLD | CLONE_NEWUSER, NULL, NULL, NULL, NULL) < 0 &&
	      errno == EPERM);
	CHECK(syscall(SYS_clone, SIGCHLD | CLONE_NEWUSER | CLONE_NEWNET, NULL, NULL, NULL, NULL) <
		      0 &&
	      errno == EPERM);
}

START_TEST(test_filter_allows_what_is_needed)
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

static int punch(int fd)
{
	return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096);
}

static void punching_works(void)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	CHECK(write(fd, "x", 1) == 1);
	enter_filter(JAIL_PUNCH_HOLE_ALLOWED);
	CHECK(punch(fd) == 0);
	CHECK(first_byte(fd) == '\0');
}

static void punching_is_faked(void)
{
	int fd = memfd_create("test", MFD_CLOEXEC);
	struct stat st;

	CHECK(write(fd, "x", 1) == 1);
	enter_filter(JAIL_PUNCH_HOLE_FAKED);
	CHECK(punch(fd) == 0);
	CHECK(first_byte(fd) == 'x');
	CHECK(punch(-1) == 0); /* not even looked at */
	/* Any other fallocate() is done. */
	CHECK(fallocate(fd, 0, 0, 8192) == 0);
	CHECK(fstat(fd, &st) == 0 && st.st_size == 8192);
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

	tcase_add_test(all, test_filter_denies_what_is_dangerous);
	tcase_add_test(all, test_filter_allows_what_is_needed);
	tcase_add_test(all, test_punch_hole_is_faked_only_when_asked);
	suite_add_tcase(suite, all);
	return suite;
}
