/* SPDX-License-Identifier: Apache-2.0 */
/* The start after another daemon. */
#include "daemon/recovery.h"

#include "base/log.h"
#include "daemon/launcher/vm_dir.h"
#include "daemon/vm/vm_spawn.h"

#include <string.h>

static void remove_dir(void *user, const char *id)
{
	const int *vms_fd = user;

	vm_remove_files(*vms_fd, id);
}

/* Nobody has a use for the VMs of a daemon that is gone. The lock is ours: no other one lives. */
static int end_the_rest(struct launcher *launcher, int vms_fd)
{
	int r;

	for (size_t i = 0; launcher_list(launcher, i); i++)
		log_notice(launcher_list(launcher, i), "Ending it: its daemon is gone");
	r = launcher_kill_rest(launcher);
	if (r < 0) {
		log_error(NULL, "VMs of another daemon do not end: %s", strerror(-r));
		return r;
	}
	r = vm_dir_walk(vms_fd, remove_dir, &vms_fd);
	if (r < 0)
		log_error(NULL, "Cannot list the VMs' directory: %s", strerror(-r));
	return r;
}

int recovery_start(struct daemon *daemon, const struct daemon_fds *fds)
{
	struct launcher_config config = {.runtime_fd = fds->runtime_fd,
					 .runtime_dir = daemon->config->runtime_dir,
					 .listen_fd_take = fds->launcher_listen_fd_take,
					 .program_fd_take = fds->launcher_program_fd_take};
	int r = launcher_connect(daemon->loop, &config, NULL, NULL, &daemon->vm_host.launcher);

	if (r < 0) {
		log_error(NULL, "Cannot use execsandbox-launcher, the parent of all VMs: %s",
			  strerror(-r));
		return r;
	}
	return end_the_rest(daemon->vm_host.launcher, fds->vms_fd);
}
