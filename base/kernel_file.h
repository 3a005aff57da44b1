/* SPDX-License-Identifier: Apache-2.0 */
/* Files by which the kernel tells figures: /proc, /sys/fs/cgroup. Tests put their own in place. */
#ifndef BASE_KERNEL_FILE_H
#define BASE_KERNEL_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct kernel_files {
	/* open(2) with O_CLOEXEC added: a descriptor, or -errno. */
	int (*open)(const char *path, int flags);
	/* write(2), whole: 0, or -errno. */
	int (*write)(int fd, const char *data, size_t len);
};

/* Those of the running kernel. */
extern const struct kernel_files kernel_files_system;

/* /proc/meminfo has 1.5 kB, a cgroup's memory.stat 2 to 4 kB. */
#define KERNEL_FILE_MAX 16384

/*
 * Reads a whole file into a new string (free()). Its length, or -errno; -EFBIG when there are more
 * than KERNEL_FILE_MAX bytes.
 */
ssize_t kernel_file_read(const struct kernel_files *files, const char *path, char **ret);

/* A file that holds one number; "max", as cgroups write it, is UINT64_MAX. 0, or -errno; -EBADMSG
 * when it holds anything else. */
int kernel_file_number(const struct kernel_files *files, const char *path, uint64_t *ret);

/* Parses the decimal number at the start of `text`. Where it ends, or NULL when there is none or it
 * is over 64 bits: signs and white space are not taken. */
const char *kernel_number(const char *text, uint64_t *ret);

/* The number behind `key` and white space at the start of a line ("MemTotal:  123 kB"). Whether
 * there is one; `ret` is only written then. */
bool kernel_field(const char *text, const char *key, uint64_t *ret);

#endif
