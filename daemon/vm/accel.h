/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which accelerator QEMU uses, and whether this host's KVM is any good.
 *
 * Theory of operation: a /dev/kvm that opens proves nothing: some nested hosts create a VM and then
 * emulate it one instruction at a time, or fail at the first instruction. So a child process runs a
 * guest of a few dozen bytes, a loop of arithmetic, for a bounded time, checks its result, and
 * compares its speed with the same loop outside.
 */
#ifndef DAEMON_VM_ACCEL_H
#define DAEMON_VM_ACCEL_H

enum accel {
	ACCEL_TCG,
	ACCEL_KVM,
};

enum accel_kvm {
	ACCEL_KVM_USABLE,
	ACCEL_KVM_ABSENT, /* no /dev/kvm */
	ACCEL_KVM_DENIED, /* no permission to open it */
	ACCEL_KVM_BROKEN, /* a step failed, or the guest computed nonsense */
	ACCEL_KVM_SLOW,   /* slower than TCG would be, or not done in time */
};

#define ACCEL_TEXT_MAX 160

struct accel_probe {
	enum accel_kvm kvm;
	double slowdown;           /* against native, where it was measured, else 0 */
	char text[ACCEL_TEXT_MAX]; /* one line for people */
};

/* What the configuration says: `accel = auto | kvm | tcg`. */
enum accel_mode {
	ACCEL_MODE_AUTO,
	ACCEL_MODE_KVM,
	ACCEL_MODE_TCG,
};

/*
 * Probes the KVM device at `path` (/dev/kvm). Blocks for at most half a second, so call it once
 * before the daemon serves. Always fills `ret`; what went wrong is its content.
 */
void accel_probe(const char *path, struct accel_probe *ret);

/* The accelerator to use. Pure. 0, or -ENODEV when KVM is demanded and not usable. */
int accel_choose(enum accel_mode mode, const struct accel_probe *probe, enum accel *ret);

/* "tcg", "kvm". */
const char *accel_name(enum accel accel);

#endif
