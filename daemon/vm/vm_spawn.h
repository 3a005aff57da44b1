/* SPDX-License-Identifier: Apache-2.0 */
/* From a VM's description to a QEMU process in its jail: directory, sockets, descriptors, argv. */
#ifndef DAEMON_VM_VM_SPAWN_H
#define DAEMON_VM_VM_SPAWN_H

#include "daemon/launcher/client.h"
#include "daemon/vm/vm.h"

/* Where one QEMU listens: for QMP and the agent. */
#define VM_LISTENING 2

/* Our connected ends of one QEMU's sockets; of one just spawned where it listens, too. */
struct vm_sockets {
	int qmp_fd, agent_fd, console_fd;
	int listening_fds[VM_LISTENING];
};

#define VM_SOCKETS_NONE                                                                     \
	{                                                                                   \
		.qmp_fd = -1, .agent_fd = -1, .console_fd = -1, .listening_fds = { -1, -1 } \
	}

void vm_sockets_close(struct vm_sockets *sockets);

/*
 * Makes the directory `id` under host->vms_fd with the listening sockets qmp.sock and agent.sock in
 * it (a restarted daemon finds them there), connects to both, and has host->launcher spawn QEMU.
 * NULL, or why it cannot, which is logged: 3005 when the host lacks something, else 3003; files may
 * be left then for vm_remove_files().
 */
struct rpc_error *vm_spawn(const struct vm_host *host, const char *id, const struct vm_spec *spec,
			   const struct proc_ops *ops, void *user, struct launch **ret,
			   struct vm_sockets *ret_sockets);

/* Once QEMU has opened its sockets: makes room for the connections of daemons to come, and closes
 * what is ours of where it listens. What is -1 is fine. */
void vm_widen_queues(int fds[VM_LISTENING]);

/* Connects to the sockets of a VM that an earlier daemon has left; it has no console any more. 0 or
 * -errno. */
int vm_connect(const struct vm_host *host, const char *id, struct vm_sockets *ret);

/* Removes a VM's directory and the files in it. What is absent is fine; what cannot be removed is
 * tried again with the next one. */
void vm_remove_files(struct vm_host *host, const char *id);

/* Removes the directories that are no VM's. */
void vm_remove_left_files(struct vm_host *host);

#endif
