/* SPDX-License-Identifier: Apache-2.0 */
/* Readers for the small text files of /proc, sysfs and cgroupfs: values in, numbers out, no I/O. */
#ifndef GUEST_AGENT_PROCTEXT_H
#define GUEST_AGENT_PROCTEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The largest of them we read is /proc/vmstat, about 5 KiB in 6.1. */
#define PROCTEXT_MAX (32u * 1024)

/*
 * Finds the line "key value" or "key: value" (meminfo, vmstat, memory.events, cpu.stat). False when
 * there is none. The unit is the file's: meminfo's kB are not converted.
 */
bool proctext_keyed(const char *text, const char *key, uint64_t *ret);

/* Reads up to `max` numbers divided by blanks (mm_stat). Returns how many there were. */
size_t proctext_numbers(const char *text, uint64_t *ret, size_t max);

/*
 * One line of a pressure file (Documentation/accounting/psi.rst): `kind` is "some" or "full". False
 * when the line is missing or malformed; results are then untouched.
 */
bool proctext_pressure(const char *text, const char *kind, uint64_t *ret_avg10_centi,
		       uint64_t *ret_total_us);

/* Reads a file of one number; "max" is UINT64_MAX. False when it is missing or something else. */
bool proctext_read_u64(int dir_fd, const char *path, uint64_t *ret);

#endif
