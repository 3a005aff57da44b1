/* SPDX-License-Identifier: Apache-2.0 */
/* The guest images, opened once and handed to every QEMU by descriptor. */
#include "daemon/vm/images.h"

#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define KERNEL   "vmlinux"
#define ROOTFS   "rootfs.erofs"
#define MANIFEST "manifest.json"
/* The manifest is about 1 KiB. */
#define MANIFEST_MAX 65536

/* EROFS superblock: at byte 1024, magic 0xe0f5e1e2, little-endian (kernel: fs/erofs/erofs_fs.h). */
#define EROFS_OFFSET 1024
static const uint8_t elf_magic[] = {0x7f, 'E', 'L', 'F'};
static const uint8_t erofs_magic[] = {0xe2, 0xe1, 0xf5, 0xe0};

/* Opens a file and looks whether it is what its name says; a wrong one would fail late and darkly.
 */
static int open_image(int dir_fd, const char *name, off_t offset, const uint8_t magic[4])
{
	/* NONBLOCK: a pipe of that name must not hold the daemon up. */
	_cleanup_close_ int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	uint8_t found[4];

	if (fd < 0)
		return -errno;
	if (pread(fd, found, sizeof(found), offset) != (ssize_t)sizeof(found) ||
	    memcmp(found, magic, sizeof(found)) != 0)
		return -EINVAL;
	return TAKE_FD(fd);
}

static int read_manifest(int dir_fd, json_t **ret)
{
	_cleanup_free_ char *text = NULL;
	struct stat st;
	ssize_t len;

	if (fstatat(dir_fd, MANIFEST, &st, 0) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	len = read_file_at(dir_fd, MANIFEST, MANIFEST_MAX, &text);
	if (len < 0)
		return (int)len;
	*ret = json_loadb(text, (size_t)len, JSON_REJECT_DUPLICATES, NULL);
	return *ret ? 0 : -EINVAL;
}

int images_open(int dir_fd, const char *path, struct images *ret, const char **ret_what)
{
	_cleanup_close_ int opened_fd = -1;
	_cleanup_(images_close) struct images images = IMAGES_NONE;
	int r;

	*ret_what = path;
	if (dir_fd < 0)
		dir_fd = opened_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir_fd < 0)
		return -errno;
	*ret_what = KERNEL;
	images.kernel_fd = open_image(dir_fd, KERNEL, 0, elf_magic);
	if (images.kernel_fd < 0)
		return images.kernel_fd;
	*ret_what = ROOTFS;
	images.rootfs_fd = open_image(dir_fd, ROOTFS, EROFS_OFFSET, erofs_magic);
	if (images.rootfs_fd < 0)
		return images.rootfs_fd;
	*ret_what = MANIFEST;
	r = read_manifest(dir_fd, &images.manifest);
	if (r < 0)
		return r;
	*ret = images;
	images = (struct images)IMAGES_NONE;
	return 0;
}

void images_close(struct images *images)
{
	images->kernel_fd = close_fd(images->kernel_fd);
	images->rootfs_fd = close_fd(images->rootfs_fd);
	json_decref(images->manifest);
	images->manifest = NULL;
}
