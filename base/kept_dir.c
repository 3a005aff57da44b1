/* SPDX-License-Identifier: Apache-2.0 */
/* A directory that many files are removed from later: one descriptor for all of them. */
#include "base/kept_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/queue.h>
#include <sys/stat.h>

/* Known by its inode, whose number is nobody else's while we have it open. */
struct kept_dir {
	LIST_ENTRY(kept_dir) link;
	dev_t dev;
	ino_t ino;
	int fd;
	size_t refs;
};

/* Of the process, as descriptors are: those who share one do not know each other. As many as there
 * are VMs that run something. */
static LIST_HEAD(, kept_dir) dirs = LIST_HEAD_INITIALIZER(dirs);

static struct kept_dir *find(const struct stat *st)
{
	struct kept_dir *dir;

	LIST_FOREACH(dir, &dirs, link)
	if (dir->dev == st->st_dev && dir->ino == st->st_ino)
		return dir;
	return NULL;
}

int kept_dir_get(int dir_fd, struct kept_dir **ret)
{
	_cleanup_close_ int fd = -1;
	struct kept_dir *dir;
	struct stat st;

	if (fstat(dir_fd, &st) < 0)
		return -errno;
	dir = find(&st);
	if (!dir) {
		fd = fcntl(dir_fd, F_DUPFD_CLOEXEC, 0);
		if (fd < 0)
			return -errno;
		dir = calloc(1, sizeof(*dir));
		if (!dir)
			return -ENOMEM;
		dir->dev = st.st_dev;
		dir->ino = st.st_ino;
		dir->fd = TAKE_FD(fd);
		LIST_INSERT_HEAD(&dirs, dir, link);
	}
	dir->refs++;
	*ret = dir;
	return 0;
}

int kept_dir_fd(const struct kept_dir *dir)
{
	return dir->fd;
}

void kept_dir_put(struct kept_dir *dir)
{
	if (!dir || --dir->refs > 0)
		return;
	LIST_REMOVE(dir, link);
	close_fd(dir->fd);
	free(dir);
}
