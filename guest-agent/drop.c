/* SPDX-License-Identifier: Apache-2.0 */
/* Drops the guest's page cache, in a child process. */
#include "guest-agent/drop.h"

#include "base/log.h"
#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

pid_t drop_start(const char *path)
{
	/* Page cache and slab; the slab's shrinkers also compact zram's pool, and so this gives
	 * more than the page cache alone. Opened here: the child only writes. */
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
	pid_t pid = fd < 0 ? -1 : fork();

	if (pid < 0) {
		log_warning("memory", "Cannot drop caches: %s", strerror(errno));
		return 0;
	}
	if (pid == 0)
		_exit(write(fd, "3", 1) == 1 ? 0 : 1);
	return pid;
}
