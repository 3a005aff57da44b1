/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The jail around one QEMU: bubblewrap's arguments, its descriptors, resource limits.
 *
 * Theory of operation: bubblewrap gives namespaces of every kind, a file system of read-only /usr,
 * /dev/urandom, QEMU's own descriptors and nothing writable, no capabilities and the filter
 * (daemon/vm/jail_filter.h); QEMU adds its own `-sandbox` on top. Everything QEMU reads or answers
 * on comes as an inherited descriptor, so that no path of the host has to be visible. What is left
 * is written down in docs/SECURITY.md ("What QEMU can see"), and a test compares a live QEMU with
 * that list.
 */
#ifndef DAEMON_VM_JAIL_H
#define DAEMON_VM_JAIL_H

#include "daemon/launcher/proc.h"
#include "daemon/vm/jail_filter.h"
#include "daemon/vm/stubs.h"

#include <sys/types.h>

struct jail_config {
	const char *bubblewrap; /* absolute path */
	uid_t uid;              /* geteuid() of the process that starts it */
	bool has_kvm;           /* /dev/kvm is needed inside */
};

/* The descriptors of one jail, all closed by jail_close(); -1 where handed over. */
struct jail {
	int info_fd;                        /* our end of the info pipe: proc_spec.info_fd_take */
	int child_info_fd, child_filter_fd; /* borrowed by the proc_fds until the spawn */
	int info_number, filter_number;     /* their numbers in the child */
	const struct stubs *stubs;          /* borrowed, for the dynamic linker; NULL: none */
	int stubs_number;                   /* of their file, where there are any */
};

/*
 * Opens the descriptors of a jail and adds what the child needs to `fds`, which borrows them.
 * `filter_fd` is from jail_filter_create(); each jail gets an open file description of its own,
 * because bubblewrap reads it from where its offset stands. `stubs` may be NULL or have none. 0 or
 * -errno.
 */
int jail_open(struct jail *jail, int filter_fd, const struct stubs *stubs, struct proc_fds *fds);

/* After the spawn, or instead of it: closes what is still ours. */
void jail_close(struct jail *jail);

/*
 * The words that run `program` inside the jail (argv_free() them). Pure. 0; -EPERM for uid 0, whose
 * inside uid bubblewrap would map to the host's root: QEMU never runs as root; -ENOMEM.
 */
int jail_argv(const struct jail_config *config, const struct jail *jail, char *const *program,
	      char ***ret);

/* Resource limits of a jailed QEMU, for proc_spec. */
const struct proc_limit *jail_limits(size_t *ret_len);

#endif
