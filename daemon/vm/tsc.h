/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rate of the host's time stamp counter, which a guest is told instead of measuring it.
 *
 * Without it the guest calibrates against an emulated timer at boot, which under TCG on a loaded
 * host is slow, wrong or never ends.
 */
#ifndef DAEMON_VM_TSC_H
#define DAEMON_VM_TSC_H

#include <stdint.h>

/*
 * The TSC's rate in kHz: from CPUID where the processor tells it, else measured against
 * CLOCK_MONOTONIC_RAW, which takes about 20 ms (call it once, at start). 0; -ENOTSUP when the
 * counter is not invariant or this is not an x86 processor; -ERANGE when no sane rate was found.
 * Source: Intel SDM vol. 3, 18.7.3 (CPUID leaves 0x15 and 0x80000007).
 */
int tsc_measure(uint32_t *ret_khz);

/* The kernel's `lpj=` (loops per jiffy) for a delay loop that counts TSC ticks, as the guest's
 * does when it knows the rate (arch/x86/kernel/tsc.c: lpj_fine = tsc_khz * 1000 / HZ). */
static inline uint64_t tsc_loops_per_jiffy(uint32_t khz, unsigned hz)
{
	return (uint64_t)khz * 1000 / hz;
}

#endif
