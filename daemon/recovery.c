/* SPDX-License-Identifier: Apache-2.0 */
/* The start after another daemon. */
#include "daemon/recovery.h"

#include "base/log.h"

#include <string.h>

int recovery_start(struct daemon *daemon, const struct daemon_fds *fds)
{
	struct launcher_config config = {.runtime_fd = fds->runtime_fd,
					 .runtime_dir = daemon->config->runtime_dir,
					 .listen_fd_take = fds->launcher_listen_fd_take,
					 .program_fd_take = fds->launcher_program_fd_take,
					 .has_manager = fds->has_manager};
	int r = launcher_connect(daemon->loop, &config, &daemon->vm_host.launcher);

	if (r < 0)
		log_error(NULL, "Cannot use execsandbox-launcher, the parent of all VMs%s: %s",
			  fds->has_manager ? LAUNCHER_ADVICE : "", strerror(-r));
	return r;
}
