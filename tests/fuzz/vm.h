/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one VM of a fuzz harness, and the pool that hands it out: of a VM there is the guest link and
 * its directory.
 *
 * What is asked of daemon/vm and daemon/pool is replaced by the linker's --wrap where a harness is
 * linked with this (FUZZ_VM in Makefile.inc). Who asks the pool waits until the harness calls what
 * its wish says.
 */
#ifndef TESTS_FUZZ_VM_H
#define TESTS_FUZZ_VM_H

#include "daemon/pool/pool.h"
#include "tests/fuzz/guest.h"

/* Its id, and the name of its directory. */
#define FUZZ_VM_ID "vm_1"

struct fuzz_vm {
	struct fuzz_guest guest;
	/* For the harness to set: */
	void (*on_ready)(void);                 /* the guest has said hello; may be NULL */
	void (*on_record)(const json_t *owner); /* what its record says of it; may be NULL */
	const struct msg_hello_reply *hello;    /* what vm_hello() answers */
	bool is_gone;                           /* it cannot be adopted */
	/* For it to look at: */
	struct pool_request *wish; /* the one that the VM is adopted for; NULL: none */
	bool is_lost;
	int error;
	/* Who has it. */
	const struct vm_client_ops *client_ops;
	void *user;
	struct defer lost;
};
extern struct fuzz_vm fuzz_vm;

/* Stands for the VM; nobody looks into it. */
struct vm *fuzz_vm_get(void);

/* A fresh one with its loop. It has not said hello yet. */
void fuzz_vm_start(void);

/* Frees it, and the files in its directory. Its client has gone. */
void fuzz_vm_end(void);

/* The directory of all VMs' directories, and this one's; made once, removed when the process exits.
 */
int fuzz_vms_fd(void);
int fuzz_vm_dir_fd(void);

#endif
