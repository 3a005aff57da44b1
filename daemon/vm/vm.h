/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One VM: its QEMU process in its jail, its QMP and guest links, its state.
 *
 * Theory of operation: vm_create() makes the VM's directory and sockets and spawns QEMU; both links
 * connect at once, because the daemon itself listens on the sockets QEMU inherits. When QMP is
 * negotiated and the agent has answered HELLO and taken its identity (entropy, clock, host name),
 * the VM is READY and its owner may attach a client that runs code. Whatever goes wrong, and
 * vm_stop(), leads to STOPPING: QEMU is killed, and when its processes are confirmed dead, the
 * directory is removed and the owner's on_gone comes, last; the VM frees itself behind it.
 *
 * States:                         what is allowed
 *   STARTING  QEMU boots            vm_stop
 *   READY     nobody's code ran     vm_attach, vm_stop, memory
 *   RUNNING   a client is attached  link, memory, vm_stop
 *   STOPPING  QEMU is being killed  nothing
 *   GONE      all reaped            nothing; freed in this iteration
 */
#ifndef DAEMON_VM_VM_H
#define DAEMON_VM_VM_H

#include "base/loop.h"
#include "daemon/vm/accel.h"
#include "daemon/vm/agent_link.h"
#include "daemon/vm/balloon.h"
#include "protocol/rpc_error.h"

#include <stdint.h>
#include <sys/types.h>

#define VM_ID_SIZE 64

enum vm_state {
	VM_STARTING,
	VM_READY,
	VM_RUNNING,
	VM_STOPPING,
	VM_GONE,
};

struct vm;

/* What all VMs of a daemon share. Borrowed for the life of every VM. */
struct vm_host {
	struct loop *loop;
	const char *qemu, *bubblewrap; /* absolute paths */
	const char *node;              /* prefix of ids; may be empty */
	enum accel accel;
	uint32_t tsc_khz;
	int vms_fd;    /* directory that holds one directory per VM */
	int kernel_fd; /* images, opened for reading */
	int rootfs_fd;
	int filter_fd; /* jail_filter_create() */
	double boot_timeout_seconds;
	double stats_interval_seconds;
	/* A VM changed state (also to its first one). May be NULL. */
	void (*on_state)(void *user, const struct vm *vm, enum vm_state old);
	void *user;
	struct vm *vms;        /* all of them, newest first: vm_next() */
	unsigned failed_boots; /* in a row; for `health` */
};

struct vm_spec {
	uint64_t memory_mb;
	uid_t uid; /* who it is for */
	const char *language;
};

/* The owner: hears of the VM's life. */
struct vm_ops {
	void (*on_ready)(void *user);
	/* It could not start, or died without a client. on_gone follows. */
	void (*on_failed)(void *user, struct rpc_error *error_take);
	/* Its processes are dead, its files removed. Last. */
	void (*on_gone)(void *user);
};

/* The client: runs code in it. */
struct vm_client_ops {
	void (*on_message)(void *user, const struct msg *msg);
	void (*on_output)(void *user, uint32_t exec, enum frame_substream sub, const uint8_t *data,
			  size_t len);
	/* The VM died or broke the protocol: 3004 or 3006. The client is detached. */
	void (*on_lost)(void *user, struct rpc_error *error_take);
};

/* The guest's last word about its memory, and when it came. */
struct vm_telemetry {
	struct msg_memory memory;
	uint64_t received_us; /* now_us(); 0 = never */
};

/*
 * Starts a VM. NULL when it is on its way (callbacks come from the loop), or the error: 3005 when
 * this host cannot run VMs as it is, 3003 otherwise.
 */
struct rpc_error *vm_create(struct vm_host *host, const struct vm_spec *spec,
			    const struct vm_ops *ops, void *user, struct vm **ret) WARN_UNUSED;

/* Gives a READY VM to a client. */
void vm_attach(struct vm *vm, const struct vm_client_ops *ops, void *user);

/* Ends the VM: no callback but on_gone comes any more. Harmless when it is ending. */
void vm_stop(struct vm *vm);

/* Ends VMs at once and waits for their processes: for the end of the daemon. */
void vm_destroy_all(struct vm_host *host);

const char *vm_id(const struct vm *vm);
enum vm_state vm_get_state(const struct vm *vm);
const char *vm_state_name(enum vm_state state);
const struct vm_spec *vm_get_spec(const struct vm *vm);
pid_t vm_pid(const struct vm *vm);           /* of QEMU, as the host sees it; 0 when not known */
uint64_t vm_created_ns(const struct vm *vm); /* wall clock */
uint64_t vm_boot_us(const struct vm *vm);    /* from spawn to READY; 0 before */

/* The guest link, for the client: closed, and deaf to everything, once the VM is STOPPING. */
struct agent_link *vm_link(struct vm *vm);

const struct vm_telemetry *vm_telemetry(const struct vm *vm);

/* What the host last measured of its QEMU; filled by memory/stats, which says how old it may be. */
struct vm_footprint {
	uint64_t rss_bytes, pss_bytes, anonymous_bytes;
	uint64_t measured_us; /* now_us(); 0 = never */
};
struct vm_footprint *vm_footprint(struct vm *vm);

/* The balloon; NULL before READY and after STOPPING. */
struct balloon *vm_balloon(struct vm *vm);

/* Walks host->vms. */
struct vm *vm_next(const struct vm *vm);

/* NULL when there is none of that id. */
struct vm *vm_find(struct vm_host *host, const char *id);

#endif
