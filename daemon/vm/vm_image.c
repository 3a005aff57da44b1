/* SPDX-License-Identifier: Apache-2.0 */
/* A saved machine: what a clone is made from. */
#include "daemon/vm/vm_image.h"

#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

/* A file's size is a signed 64-bit number of bytes. */
#define MEMORY_MAX_MB ((uint64_t)INT64_MAX >> 20)

void vm_image_fini(struct vm_image *image)
{
	close_fd(image->ram_fd);
	free(image->state);
	*image = (struct vm_image)VM_IMAGE_NONE;
}

/* tmpfs takes a signal as a reason to undo and give up. */
static int fill_holes(int fd, off_t size)
{
	while (fallocate(fd, 0, 0, size) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

int vm_image_seal(int ram_fd, uint64_t memory_mb)
{
	struct stat st;
	int r;

	if (fstat(ram_fd, &st) < 0)
		return -errno;
	if (memory_mb == 0 || memory_mb > MEMORY_MAX_MB || (uint64_t)st.st_size != memory_mb << 20)
		return -EINVAL;
	r = fill_holes(ram_fd, st.st_size);
	if (r < 0)
		return r;
	if (fcntl(ram_fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) <
	    0)
		return -errno;
	return 0;
}

int vm_image_create_ram(const char *name, uint64_t memory_mb)
{
	_cleanup_close_ int fd = -1;

	if (memory_mb == 0 || memory_mb > MEMORY_MAX_MB)
		return -EINVAL;
	fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)(memory_mb << 20)) < 0)
		return -errno;
	return TAKE_FD(fd);
}
