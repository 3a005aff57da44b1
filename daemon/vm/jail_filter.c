/* SPDX-License-Identifier: Apache-2.0 */
/* The seccomp filter of a jail: the system calls that QEMU makes, and no others. */
#include "daemon/vm/jail_filter.h"

#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/kvm.h>
#include <linux/sched.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>

/*
 * Whatever their arguments are. After the execve() all of them act on the process itself, on its
 * descriptors, or on files of a tree where nothing can be written.
 */
static const int allowed[] = {
	/* start: bubblewrap's execve(), the dynamic linker, the C library's first steps */
	SCMP_SYS(execve), SCMP_SYS(brk), SCMP_SYS(access), SCMP_SYS(arch_prctl),
	SCMP_SYS(set_tid_address), SCMP_SYS(set_robust_list), SCMP_SYS(rseq), SCMP_SYS(prlimit64),
	SCMP_SYS(getrandom), SCMP_SYS(sysinfo), SCMP_SYS(readlink),
	/* memory: PROT_EXEC cannot be refused, translated code is written and executed */
	SCMP_SYS(mmap), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(mprotect), SCMP_SYS(madvise),
	/* files and descriptors */
	SCMP_SYS(openat), SCMP_SYS(close), SCMP_SYS(read), SCMP_SYS(readv), SCMP_SYS(pread64),
	SCMP_SYS(preadv), SCMP_SYS(write), SCMP_SYS(writev), SCMP_SYS(lseek), SCMP_SYS(newfstatat),
	SCMP_SYS(fstatfs), SCMP_SYS(fadvise64), SCMP_SYS(fcntl),
	/* the same by other names, in C libraries older or younger than Debian 12's */
	SCMP_SYS(open), SCMP_SYS(stat), SCMP_SYS(fstat), SCMP_SYS(lstat), SCMP_SYS(statx),
	SCMP_SYS(faccessat), SCMP_SYS(faccessat2), SCMP_SYS(readlinkat), SCMP_SYS(getrlimit),
	/* sockets that were handed over: none can be made, bound or connected */
	SCMP_SYS(listen), SCMP_SYS(accept4), SCMP_SYS(getsockname), SCMP_SYS(getpeername),
	SCMP_SYS(getsockopt), SCMP_SYS(setsockopt), SCMP_SYS(recvmsg), SCMP_SYS(sendmsg),
	SCMP_SYS(shutdown),
	/* send() and recv(), as the tests' QEMU has them */
	SCMP_SYS(recvfrom), SCMP_SYS(sendto),
	/* waiting; epoll when there are many descriptors, poll when a reader is slow */
	SCMP_SYS(ppoll), SCMP_SYS(poll), SCMP_SYS(epoll_create1), SCMP_SYS(epoll_ctl),
	SCMP_SYS(epoll_wait), SCMP_SYS(epoll_pwait), SCMP_SYS(eventfd2), SCMP_SYS(signalfd4),
	SCMP_SYS(futex), SCMP_SYS(restart_syscall),
	/* time: the vDSO's fall-backs where the host's clock source has none */
	SCMP_SYS(clock_nanosleep), SCMP_SYS(nanosleep), SCMP_SYS(clock_gettime),
	SCMP_SYS(clock_getres), SCMP_SYS(gettimeofday), SCMP_SYS(time),
	/* threads (clone() has a rule of its own), signals to oneself, abort() */
	SCMP_SYS(exit), SCMP_SYS(exit_group), SCMP_SYS(gettid), SCMP_SYS(getpid), SCMP_SYS(tgkill),
	SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn),
	SCMP_SYS(sigaltstack), SCMP_SYS(sched_yield), SCMP_SYS(sched_getaffinity),
	SCMP_SYS(membarrier), SCMP_SYS(getcpu),
	/* who am I: libraries ask before they trust their environment */
	SCMP_SYS(getuid), SCMP_SYS(geteuid), SCMP_SYS(getgid), SCMP_SYS(getegid), SCMP_SYS(uname),
	/* QEMU's own filter on top; more filters can only take away */
	SCMP_SYS(seccomp),
	/* KVM's vCPU threads take the signal that kicks them */
	SCMP_SYS(rt_sigtimedwait), SCMP_SYS(rt_sigpending)};

/* Of use to someone who broke in, never made or probed for by QEMU: the process ends. */
static const int fatal[] = {
	/* other processes */
	SCMP_SYS(ptrace), SCMP_SYS(process_vm_readv), SCMP_SYS(process_vm_writev),
	SCMP_SYS(process_madvise), SCMP_SYS(pidfd_getfd), SCMP_SYS(pidfd_open), SCMP_SYS(kcmp),
	/* the way out of the jail's own mounts and namespaces */
	SCMP_SYS(mount), SCMP_SYS(umount2), SCMP_SYS(pivot_root), SCMP_SYS(chroot),
	SCMP_SYS(move_mount), SCMP_SYS(open_tree), SCMP_SYS(fsopen), SCMP_SYS(fsconfig),
	SCMP_SYS(fsmount), SCMP_SYS(fspick), SCMP_SYS(mount_setattr), SCMP_SYS(setns),
	SCMP_SYS(unshare), SCMP_SYS(open_by_handle_at), SCMP_SYS(name_to_handle_at),
	/* the kernel's own code and state */
	SCMP_SYS(init_module), SCMP_SYS(finit_module), SCMP_SYS(delete_module),
	SCMP_SYS(kexec_load), SCMP_SYS(kexec_file_load), SCMP_SYS(reboot), SCMP_SYS(swapon),
	SCMP_SYS(swapoff), SCMP_SYS(iopl), SCMP_SYS(ioperm), SCMP_SYS(settimeofday),
	SCMP_SYS(clock_settime), SCMP_SYS(sethostname), SCMP_SYS(setdomainname),
	/* large interfaces with a history of holes */
	SCMP_SYS(bpf), SCMP_SYS(perf_event_open), SCMP_SYS(execveat), SCMP_SYS(modify_ldt)};

/* The flags of pthread_create(): a thread, never a process or a namespace. */
#define THREAD_FLAGS                                                                        \
	(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | \
	 CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID)

/* Names of threads, exact timers, early SIGBUS of bad memory, and what `-sandbox` begins with. */
static const scmp_datum_t prctl_options[] = {PR_SET_NAME, PR_SET_TIMERSLACK, PR_MCE_KILL,
					     PR_SET_NO_NEW_PRIVS};

/* The bits of an ioctl's number that say whose it is. */
#define IOCTL_TYPE_MASK ((scmp_datum_t)_IOC_TYPEMASK << _IOC_TYPESHIFT)

static int add_calls(scmp_filter_ctx filter, uint32_t action, const int *calls, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int r = 0;

		/* Negative: not on this architecture. */
		if (calls[i] >= 0)
			r = seccomp_rule_add(filter, action, calls[i], 0);
		if (r < 0)
			return r;
	}
	return 0;
}

/* clone3() hides its flags in memory: it stays off the list, and the C library takes clone(). */
static int add_clone_rule(scmp_filter_ctx filter)
{
	return seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
				SCMP_A0(SCMP_CMP_EQ, THREAD_FLAGS));
}

static int add_prctl_rules(scmp_filter_ctx filter)
{
	for (size_t i = 0; i < ELEMENTSOF(prctl_options); i++) {
		int r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1,
					 SCMP_A0(SCMP_CMP_EQ, prctl_options[i]));

		if (r < 0)
			return r;
	}
	return 0;
}

/* KVM's alone. Under TCG no descriptor answers to them, so there QEMU reaches no driver at all. */
static int add_ioctl_rule(scmp_filter_ctx filter)
{
	return seccomp_rule_add(
		filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
		SCMP_A1(SCMP_CMP_MASKED_EQ, IOCTL_TYPE_MASK, KVMIO << _IOC_TYPESHIFT));
}

/* An errno of 0 is a success that did nothing. */
static int add_punch_hole_rule(scmp_filter_ctx filter, enum jail_punch_hole punch_hole)
{
	uint32_t action = punch_hole == JAIL_PUNCH_HOLE_FAKED ? SCMP_ACT_ERRNO(0) : SCMP_ACT_ALLOW;

	return seccomp_rule_add(filter, action, SCMP_SYS(fallocate), 1,
				SCMP_A1(SCMP_CMP_EQ, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE));
}

static int build_filter(scmp_filter_ctx filter, enum jail_punch_hole punch_hole, int fd)
{
	/* i386's and x32's calls have other numbers. Nothing here is of those. */
	int r = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);

	/* A tree of comparisons: 7 for any call, instead of up to 140. */
	if (r == 0)
		r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (r == 0)
		r = add_calls(filter, SCMP_ACT_ALLOW, allowed, ELEMENTSOF(allowed));
	if (r == 0)
		r = add_calls(filter, SCMP_ACT_KILL_PROCESS, fatal, ELEMENTSOF(fatal));
	if (r == 0)
		r = add_clone_rule(filter);
	if (r == 0)
		r = add_prctl_rules(filter);
	if (r == 0)
		r = add_ioctl_rule(filter);
	if (r == 0)
		r = add_punch_hole_rule(filter, punch_hole);
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
	filter = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
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
