/* SPDX-License-Identifier: Apache-2.0 */
/* Which accelerator QEMU uses, and whether this host's KVM is any good. */
#include "daemon/vm/accel.h"

#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

/* When the child is killed: the probe's budget, plus what creating a VM takes. */
#define DEADLINE_MS 400
/*
 * KVM proper runs the loop at native speed, 1.0 to 1.3 also when nested. TCG runs it 4 to 10 times
 * slower; a KVM that is slower than that is worse than none.
 */
#define SLOW_FACTOR 8.0

#if defined(__x86_64__)
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#define GUEST_MEMORY 0x10000u
#define GUEST_CODE   0x1000u
#define GUEST_PORT   0x10u
/* FNV's prime: any odd multiplier makes a chain that cannot be skipped or folded. */
#define MULTIPLIER 0x01000193u
/* From a millisecond under one-by-one emulation to some 15 ms native: each step ten times more. */
#define ROUNDS_FIRST 1000u
#define ROUNDS_LAST  10000000u
/* No step is started that is expected to end later than this. */
#define BUDGET_US 200000u
/* Of steps shorter than this the cost of entering the guest is a large part: no judgement yet. */
#define JUDGED_FROM_US 1000u

/*
 * The guest, 32-bit flat protected mode (real mode is emulated on processors, and nested hosts,
 * without "unrestricted guest"): eax = start, ecx = rounds; the result leaves through a port.
 */
static const uint8_t guest_code[] = {
	0x01, 0xc8,                               /* loop: add eax, ecx */
	0x69, 0xc0,       0x93, 0x01, 0x00, 0x01, /* imul eax, eax, MULTIPLIER */
	0x49,                                     /* dec ecx */
	0x75, 0xf5,                               /* jnz loop */
	0xe7, GUEST_PORT,                         /* out GUEST_PORT, eax */
	0xf4,                                     /* hlt */
};

/* The same loop outside; the empty asm keeps the compiler from being clever. */
static uint32_t run_native(uint32_t rounds)
{
	uint32_t value = 0;

	for (uint32_t i = rounds; i > 0; i--) {
		value = (value + i) * MULTIPLIER;
		__asm__ volatile("" : "+r"(value));
	}
	return value;
}

struct guest {
	int kvm_fd, vm_fd, vcpu_fd;
	uint8_t *memory;
	struct kvm_run *run;
	const char *step; /* what was being tried, for the text */
};

/* Maps the code and the vCPU's shared page. The child exits: nothing is unmapped. */
static int guest_map(struct guest *guest)
{
	struct kvm_userspace_memory_region region = {.memory_size = GUEST_MEMORY};
	int size;

	guest->step = "KVM_SET_USER_MEMORY_REGION";
	guest->memory = mmap(NULL, GUEST_MEMORY, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (guest->memory == MAP_FAILED)
		return -errno;
	memcpy(guest->memory + GUEST_CODE, guest_code, sizeof(guest_code));
	region.userspace_addr = (uintptr_t)guest->memory;
	if (ioctl(guest->vm_fd, KVM_SET_USER_MEMORY_REGION, &region) < 0)
		return -errno;
	guest->step = "KVM_CREATE_VCPU";
	guest->vcpu_fd = ioctl(guest->vm_fd, KVM_CREATE_VCPU, 0);
	if (guest->vcpu_fd < 0)
		return -errno;
	size = ioctl(guest->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (size < (int)sizeof(*guest->run))
		return size < 0 ? -errno : -EINVAL;
	guest->run =
		mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, guest->vcpu_fd, 0);
	return guest->run == MAP_FAILED ? -errno : 0;
}

/* Flat segments and CR0.PE: the least that is not real mode. */
static int guest_set_mode(struct guest *guest)
{
	struct kvm_segment flat = {.limit = UINT32_MAX,
				   .selector = 8,
				   .type = 11, /* code, read, accessed */
				   .present = 1,
				   .db = 1,
				   .s = 1,
				   .g = 1};
	struct kvm_sregs sregs;

	guest->step = "KVM_SET_SREGS";
	if (ioctl(guest->vcpu_fd, KVM_GET_SREGS, &sregs) < 0)
		return -errno;
	sregs.cs = flat;
	flat.selector = 16;
	flat.type = 3; /* data, write, accessed */
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = flat;
	sregs.cr0 |= 1;
	return ioctl(guest->vcpu_fd, KVM_SET_SREGS, &sregs) < 0 ? -errno : 0;
}

static int guest_create(struct guest *guest)
{
	int r;

	guest->step = "KVM_GET_API_VERSION";
	if (ioctl(guest->kvm_fd, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
		return -ENOTTY;
	guest->step = "KVM_CREATE_VM";
	guest->vm_fd = ioctl(guest->kvm_fd, KVM_CREATE_VM, 0);
	if (guest->vm_fd < 0)
		return -errno;
	r = guest_map(guest);
	return r < 0 ? r : guest_set_mode(guest);
}

/* Runs the loop in the guest. 0 and its result, or -errno; -EPROTO for an exit that is not ours. */
static int guest_run(struct guest *guest, uint32_t rounds, uint32_t *ret_value)
{
	struct kvm_regs regs = {.rip = GUEST_CODE, .rcx = rounds, .rflags = 2};
	const struct kvm_run *run = guest->run;

	guest->step = "KVM_RUN";
	if (ioctl(guest->vcpu_fd, KVM_SET_REGS, &regs) < 0 || ioctl(guest->vcpu_fd, KVM_RUN, 0) < 0)
		return -errno;
	/* The analyzer takes a step that failed with errno 0 for possible. */
	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference) */
	if (run->exit_reason != KVM_EXIT_IO || run->io.port != GUEST_PORT || run->io.size != 4)
		return -EPROTO;
	memcpy(ret_value, (const uint8_t *)run + run->io.data_offset, sizeof(*ret_value));
	return 0;
}

static void judge(struct accel_probe *probe)
{
	probe->kvm = probe->slowdown > SLOW_FACTOR ? ACCEL_KVM_SLOW : ACCEL_KVM_USABLE;
	snprintf(
		probe->text, sizeof(probe->text),
		probe->kvm == ACCEL_KVM_SLOW
			? "KVM runs guest code %.0f times slower than the processor: it is emulated"
			: "KVM runs guest code at %.1f times the processor's own time",
		probe->slowdown);
}

/* Longer and longer loops until the budget is spent; the longest one counts. */
static int measure(struct guest *guest, struct accel_probe *ret)
{
	uint64_t start = now_us(), guest_us = 0, native_us;

	for (uint32_t rounds = ROUNDS_FIRST; rounds <= ROUNDS_LAST; rounds *= 10) {
		uint64_t before = now_us(), between;
		uint32_t expected = run_native(rounds), value = 0;
		int r;

		between = now_us();
		r = guest_run(guest, rounds, &value);
		if (r < 0)
			return r;
		if (value != expected)
			return -EILSEQ;
		guest_us = now_us() - between;
		native_us = MAX(between - before, 1u);
		ret->slowdown = (double)guest_us / (double)native_us;
		if (guest_us > JUDGED_FROM_US && now_us() - start + guest_us * 10 > BUDGET_US)
			break;
	}
	judge(ret);
	return 0;
}

static void set_broken(struct accel_probe *ret, const char *step, int error)
{
	ret->kvm = ACCEL_KVM_BROKEN;
	if (error == -EPROTO)
		snprintf(ret->text, sizeof(ret->text), "KVM stopped the probe guest unexpectedly");
	else if (error == -EILSEQ)
		snprintf(ret->text, sizeof(ret->text), "KVM's probe guest computed a wrong result");
	else
		snprintf(ret->text, sizeof(ret->text), "%s failed: %s", step, strerror(-error));
}

/* In the child: probes and writes the verdict. */
static void __attribute__((noreturn)) run_probe(int kvm_fd, int result_fd)
{
	struct guest guest = {.kvm_fd = kvm_fd};
	struct accel_probe result = {0};
	int r;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	r = guest_create(&guest);
	if (r == 0)
		r = measure(&guest, &result);
	if (r < 0)
		set_broken(&result, guest.step, r);
	_exit(write_all(result_fd, &result, sizeof(result)) == 0 ? 0 : 1);
}

/* Waits for the verdict until the deadline; the child is gone afterwards in any case. */
static void await_probe(pid_t child, int result_fd, struct accel_probe *ret)
{
	struct pollfd poll_fd = {.fd = result_fd, .events = POLLIN};
	struct accel_probe result;
	int ready;

	do {
		ready = poll(&poll_fd, 1, DEADLINE_MS);
	} while (ready < 0 && errno == EINTR);
	if (ready > 0 && read(result_fd, &result, sizeof(result)) == sizeof(result)) {
		*ret = result;
	} else if (ready > 0) {
		ret->kvm = ACCEL_KVM_BROKEN;
		snprintf(ret->text, sizeof(ret->text), "The KVM probe died");
	} else {
		ret->kvm = ACCEL_KVM_SLOW;
		snprintf(ret->text, sizeof(ret->text),
			 "KVM did not run a few thousand instructions in %d ms: it is emulated",
			 DEADLINE_MS);
	}
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

static void probe_device(int kvm_fd, struct accel_probe *ret)
{
	_cleanup_close_ int result_read = -1, result_write = -1;
	int pipe_fds[2];
	pid_t child = -1;

	if (pipe2(pipe_fds, O_CLOEXEC) == 0) {
		result_read = pipe_fds[0];
		result_write = pipe_fds[1];
		child = fork();
	}
	if (child < 0) {
		set_broken(ret, "Starting the probe", -errno);
		return;
	}
	if (child == 0)
		run_probe(kvm_fd, result_write);
	close_fdp(&result_write);
	await_probe(child, result_read, ret);
}

#else

static void probe_device(int kvm_fd UNUSED, struct accel_probe *ret)
{
	ret->kvm = ACCEL_KVM_BROKEN;
	snprintf(ret->text, sizeof(ret->text), "The KVM probe knows only x86-64");
}

#endif

void accel_probe(const char *path, struct accel_probe *ret)
{
	_cleanup_close_ int kvm_fd = open(path, O_RDWR | O_CLOEXEC);

	*ret = (struct accel_probe){0};
	if (kvm_fd >= 0) {
		probe_device(kvm_fd, ret);
		return;
	}
	ret->kvm = errno == EACCES || errno == EPERM ? ACCEL_KVM_DENIED : ACCEL_KVM_ABSENT;
	snprintf(ret->text, sizeof(ret->text), "%s cannot be opened: %s", path, strerror(errno));
}

int accel_choose(enum accel_mode mode, const struct accel_probe *probe, enum accel *ret)
{
	bool is_usable = probe->kvm == ACCEL_KVM_USABLE;

	switch (mode) {
	case ACCEL_MODE_KVM:
		if (!is_usable)
			return -ENODEV;
		*ret = ACCEL_KVM;
		return 0;
	case ACCEL_MODE_TCG:
		*ret = ACCEL_TCG;
		return 0;
	case ACCEL_MODE_AUTO:
		*ret = is_usable ? ACCEL_KVM : ACCEL_TCG;
		return 0;
	}
	return -EINVAL;
}

const char *accel_name(enum accel accel)
{
	return accel == ACCEL_KVM ? "kvm" : "tcg";
}
