/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the next daemon needs to know of a VM: record.json in the VM's directory.
 *
 * Theory of operation: a VM whose client shall outlive the daemon is recorded before the client's
 * code runs in it, with what its owner (a session, or a run with an exec_id) needs besides. A VM
 * without a record has nothing that anybody could come back for: the next daemon ends it. The file
 * is replaced as a whole, so it is of one moment. It lies in the runtime directory, in memory: a
 * power cut that loses it ends the VM, too.
 *
 * Only the daemon's own user can write there; it is read like any input all the same.
 */
#ifndef DAEMON_VM_VM_RECORD_H
#define DAEMON_VM_VM_RECORD_H

#include "daemon/vm/vm.h"

/* A session's variables, metadata, and the names of 32 processes. */
#define VM_RECORD_MAX (1024u * 1024)

struct vm_record {
	char id[VM_ID_SIZE];
	char language[32];
	uint64_t memory_mb;
	uid_t uid;
	bool is_clone;
	uint64_t created_ns; /* wall clock */
	uint64_t start_us;
	uint8_t sync[FRAME_MARKER_SIZE];
};

/* Writes the record of a VM that was attached. `owner_take` is for who adopts it. 0 or -errno. */
int vm_record_write(const struct vm *vm, json_t *owner_take);

/* The next daemon shall not go on with it. */
void vm_record_remove(const struct vm *vm);

/* Reads that of the directory `id`. 0 with a new reference to the owner's part; -ENOENT when there
 * is none, -EINVAL when it is none. */
int vm_record_read(int vms_fd, const char *id, struct vm_record *ret, json_t **ret_owner);

/* The same from its text: for the above, and for those who check it. 0 or -EINVAL. */
int vm_record_parse(const char *text, size_t len, struct vm_record *ret, json_t **ret_owner);

#endif
