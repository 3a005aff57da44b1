/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making a template: boot a VM in a memfd, rehearse, save, seal.
 *
 * Theory of operation: the steps in time order are BOOTING (vm.h), REHEARSING (rehearsal.h), SAVING
 * (the vCPU stops, QEMU writes its devices' state), ENDING (its processes die: only then nobody
 * maps the memory for writing), SEALING (a worker fills the holes and seals, which takes a quarter
 * of a millisecond per MiB). Any failure ends the VM, and is told when it is gone.
 */
#ifndef DAEMON_TEMPLATE_BUILDER_H
#define DAEMON_TEMPLATE_BUILDER_H

#include "daemon/vm/vm.h"

struct builder;

/* Where the time went; microseconds. */
struct builder_times {
	uint64_t boot_us, rehearsal_us, save_us, seal_us;
};

/* error NULL: the image is the callee's. Comes from the loop, once; the builder is gone behind it.
 */
typedef void (*builder_done_fn)(void *user, struct rpc_error *error_take,
				struct vm_image *image_take, const struct builder_times *times);

/* NULL when it is on its way, or the error. */
struct rpc_error *builder_start(struct vm_host *host, const char *language, uint64_t memory_mb,
				builder_done_fn on_done, void *user,
				struct builder **ret) WARN_UNUSED;

/* Ends it without a callback. Its VM, if any, must be gone (vm_destroy_all()). NULL is fine. */
void builder_destroy(struct builder *builder);

#endif
