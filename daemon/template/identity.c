/* SPDX-License-Identifier: Apache-2.0 */
/* What a saved machine depends on. */
#include "daemon/template/identity.h"

#include "base/util.h"
#include "daemon/template/rehearsal.h"
#include "daemon/vm/qemu_argv.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/*
 * The guest knows the TSC's rate since it booted. Two hosts that differ by less than half of this
 * (0.1 % of 2.5 GHz) count as the same, so that what one measures twice is one value.
 */
#define TSC_QUANTUM_KHZ 5000

/* Size and time of change tell one build of a file from the next. Hashing QEMU at every start would
 * cost more than loading a template. */
static json_t *describe_file(const struct stat *st)
{
	return json_pack("{s:I, s:I}", "bytes", (json_int_t)st->st_size, "mtime_ns",
			 (json_int_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec);
}

static json_t *describe_fd(int fd)
{
	struct stat st;

	return fstat(fd, &st) < 0 ? NULL : describe_file(&st);
}

static json_t *describe_path(const char *path)
{
	struct stat st;

	return stat(path, &st) < 0 ? NULL : describe_file(&st);
}

/* Under KVM the guest sees the host's processor, and keeps what it found. */
static json_t *describe_processor(enum accel accel)
{
	_cleanup_free_ char *text = NULL;
	const char *name;

	if (accel == ACCEL_TCG)
		return json_string("max");
	if (read_file_at(AT_FDCWD, "/proc/cpuinfo", 16384, &text) < 0)
		return NULL;
	name = strstr(text, "model name");
	return name ? json_stringn(name, strcspn(name, "\n")) : json_string("host");
}

json_t *identity_describe(const struct vm_host *host, const json_t *images_manifest,
			  const char *language, uint64_t memory_mb, int *ret_error)
{
	/* The clock is apart: the line has it to the kHz. */
	const struct qemu_config boot = {.accel = host->accel};
	_cleanup_free_ char *line = NULL, *kernel_line = NULL;
	json_int_t tsc_khz =
		(host->tsc_khz + TSC_QUANTUM_KHZ / 2) / TSC_QUANTUM_KHZ * TSC_QUANTUM_KHZ;
	json_t *qemu = describe_path(host->qemu), *kernel = describe_fd(host->kernel_fd),
	       *rootfs = describe_fd(host->rootfs_fd), *identity = NULL;
	int r = qemu && kernel && rootfs ? 0 : -errno;

	if (r == 0)
		r = qemu_machine_line(host->accel, (unsigned)memory_mb, &line);
	if (r == 0)
		r = qemu_kernel_line(&boot, &kernel_line);
	if (r == 0) {
		identity = json_pack("{s:s, s:I, s:o, s:O, s:O, s:O, s:O?, s:o, s:I, s:s, s:s}",
				     "language", language, "memory_mb", (json_int_t)memory_mb,
				     "recipe", rehearsal_recipe(language), "qemu", qemu, "kernel",
				     kernel, "rootfs", rootfs, "images", images_manifest,
				     "processor", describe_processor(host->accel), "tsc_khz",
				     tsc_khz, "machine", line, "kernel_line", kernel_line);
		r = identity ? 0 : -ENOMEM;
	}
	json_decref(qemu);
	json_decref(kernel);
	json_decref(rootfs);
	*ret_error = r;
	return identity;
}
