/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One VM: its QEMU process in its jail, its QMP and guest links, its state.
 *
 * Theory of operation: vm_create() makes the VM's directory and sockets and spawns QEMU; both links
 * connect at once, because the daemon itself listens on the sockets QEMU inherits. A VM that boots
 * runs its kernel from the start; a clone loads the devices of a saved machine (vm_image.h), maps
 * its memory privately, and continues where that was stopped. Either is READY when QMP is
 * negotiated and the agent has answered HELLO and taken its identity (entropy, clock, host name): a
 * clone that was not told apart from its siblings is never handed out.
 *
 * A clone may wait before that, LOADED: it has cost the start of a QEMU and nothing has run in it.
 *
 * A READY VM is given to a client that runs code in it, or stopped with vm_pause() until then: it
 * costs no CPU and continues with the client's first message. A template's VM is saved instead,
 * with vm_save(), and is of no use afterwards. A client in whose VM no code runs says so with
 * vm_rest(): memory control may then take the VM's memory, and halt its vCPU when it has nothing
 * left to do; vm_work() wakes it.
 *
 * A VM that a client uses outlives the daemon if its record is written (vm_record.h): vm_adopt()
 * connects to it anew. It is READY when QMP is negotiated, its vCPU runs, and the agent has said
 * what it knows.
 *
 * Whatever goes wrong, and vm_stop(), leads to STOPPING: QEMU is killed, and when its processes are
 * confirmed dead, the directory is removed and the owner's on_gone comes, last; the VM frees itself
 * behind it.
 *
 * States:                         what is allowed
 *   STARTING  boots, loads, or is adopted   vm_stop
 *   LOADED    a clone that waits    vm_wake, vm_stop
 *   READY     nobody's code runs    vm_attach, vm_pause, vm_save, vm_stop
 *   PAUSED    its vCPU is stopped   vm_attach, vm_stop
 *   RUNNING   a client is attached  link, memory, vm_rest, vm_work, vm_halt, vm_detach, vm_stop
 *   SAVING    goes into an image    vm_stop
 *   STOPPING  QEMU is being killed  nothing
 *   GONE      all reaped            nothing; freed in this iteration
 */
#ifndef DAEMON_VM_VM_H
#define DAEMON_VM_VM_H

#include "base/loop.h"
#include "daemon/launcher/client.h"
#include "daemon/vm/accel.h"
#include "daemon/vm/agent_link.h"
#include "daemon/vm/balloon.h"
#include "daemon/vm/qemu_argv.h"
#include "daemon/vm/stubs.h"
#include "daemon/vm/vm_image.h"
#include "protocol/rpc_error.h"

#include <stdint.h>
#include <sys/types.h>

#define VM_ID_SIZE 64

struct memory_vm;

enum vm_state {
	VM_STARTING,
	VM_LOADED,
	VM_READY,
	VM_PAUSED,
	VM_RUNNING,
	VM_SAVING,
	VM_STOPPING,
	VM_GONE,
};

struct vm;

/* What became of VMs since the start: for `metrics`. */
struct vm_counters {
	uint64_t starts[QEMU_CLONE + 1];
	uint64_t adoptions;
	uint64_t failures[VM_STOPPING]; /* by the state it was in */
};

/* What all VMs of a daemon share. Borrowed for the life of every VM. */
struct vm_host {
	struct loop *loop;
	struct launcher *launcher;
	const char *qemu, *bubblewrap; /* absolute paths */
	const char *node;              /* prefix of ids; may be empty */
	enum accel accel;
	uint32_t tsc_khz;
	int vms_fd;    /* directory that holds one directory per VM */
	int kernel_fd; /* images, opened for reading */
	int rootfs_fd;
	struct stubs stubs;             /* of this QEMU's libraries, or none */
	int filter_fd, clone_filter_fd; /* jail_filter_create(), punching allowed and faked */
	double boot_timeout_seconds;
	uint64_t disk_default_bytes; /* of the guest's home directory, for rehearsals */
	double stats_interval_seconds;
	/* A VM changed state (also to its first one). May be NULL. */
	void (*on_state)(void *user, struct vm *vm, enum vm_state old);
	/* Its guest has told of its memory: vm_telemetry(). May be NULL. */
	void (*on_memory)(void *user, struct vm *vm);
	/* Code is about to run in it, after a rest. May be NULL. */
	void (*on_work)(void *user, struct vm *vm);
	void *user;
	struct vm *vms;        /* all of them, newest first: vm_next() */
	bool has_left_files;   /* of a VM that is gone: vm_spawn.h */
	unsigned failed_boots; /* in a row; for `health` */
	struct vm_counters counters;
};

/* The uid of a VM that is nobody's yet. */
#define VM_UID_NONE ((uid_t)-1)

struct vm_spec {
	enum qemu_start start;
	bool is_waiting; /* a clone stays LOADED until vm_wake() */
	uint64_t memory_mb;
	uid_t uid; /* who it is for */
	const char *language;
	/* Of a clone: what it is made from, until on_ready or the end. Of a template: ram_fd alone,
	 * where its memory will be. */
	const struct vm_image *image;
};

/* The owner: hears of the VM's life. */
struct vm_ops {
	/* A clone that waits is LOADED: nothing of it has run yet. Needed with is_waiting. */
	void (*on_loaded)(void *user);
	void (*on_ready)(void *user);
	/* vm_pause() or vm_save() is done. Needed by who calls these. */
	void (*on_paused)(void *user);
	void (*on_saved)(void *user, uint8_t *state_take, size_t len);
	/* It could not start, pause or be saved, or died without a client. on_gone follows. */
	void (*on_failed)(void *user, struct rpc_error *error_take);
	/* Its processes are dead, its files removed. Last. */
	void (*on_gone)(void *user);
};

/* The client: runs code in it. */
struct vm_client_ops {
	void (*on_message)(void *user, const struct msg *msg);
	void (*on_output)(void *user, uint32_t exec, enum frame_substream sub, const uint8_t *data,
			  size_t len);
	/* As of the link (agent_link.h). May be NULL. */
	void (*on_input)(void *user, uint32_t exec, uint64_t taken);
	/* The VM died or broke the protocol: 3004 or 3006. The client is detached. */
	void (*on_lost)(void *user, struct rpc_error *error_take);
};

/* The guest's last word about its memory, and when it came. */
struct vm_telemetry {
	struct msg_memory memory;
	uint64_t received_us; /* now_us(); 0 = never */
};

/* The most memory that translated code takes in a VM of this language; 0 under KVM. MiB. */
unsigned vm_translation_mb(const struct vm_host *host, const char *language);

/*
 * Starts a VM. NULL when it is on its way (callbacks come from the loop), or the error: 3005 when
 * this host cannot run VMs as it is, 3003 otherwise.
 */
struct rpc_error *vm_create(struct vm_host *host, const struct vm_spec *spec,
			    const struct vm_ops *ops, void *user, struct vm **ret) WARN_UNUSED;

struct vm_record;

/*
 * Takes up a VM that an earlier daemon has left, as `record` says, with what is here of the outputs
 * of its execs (as in HELLO; taken). Callbacks and results as of vm_create(); 3004 when it is not
 * there any more.
 */
struct rpc_error *vm_adopt(struct vm_host *host, const struct vm_record *record,
			   json_t *received_take, const struct vm_ops *ops, void *user,
			   struct vm **ret) WARN_UNUSED;

/* What the agent of an adopted VM has said; NULL of others. Valid in on_ready. */
const struct msg_hello_reply *vm_hello(const struct vm *vm);

/* Has a LOADED clone go on to READY. */
void vm_wake(struct vm *vm);

/* Gives a READY or PAUSED VM, which continues, to a client who runs code for `uid`; VM_UID_NONE is
 * the daemon itself. */
void vm_attach(struct vm *vm, uid_t uid, const struct vm_client_ops *ops, void *user);

/* Takes a RUNNING VM from its client: READY. */
void vm_detach(struct vm *vm);

/* No code of its client runs in a RUNNING VM from now on, and code is about to run again: then its
 * vCPU continues if it was halted. */
void vm_rest(struct vm *vm);
void vm_work(struct vm *vm);

/* Stops the vCPU of a RUNNING VM that rests, and has it go on though it still rests. Harmless when
 * that is so already. */
void vm_halt(struct vm *vm);
void vm_resume(struct vm *vm);

/* Since when it rests, now_us(); 0: code runs. */
uint64_t vm_rest_us(const struct vm *vm);
bool vm_is_halted(const struct vm *vm);

/* Ends a VM because the host's memory is short: its client hears 3002 with data.dispatched true, an
 * owner without one a failure. */
void vm_end_for_memory(struct vm *vm);

/* Stops the vCPU of a READY VM: PAUSED at once, on_paused when QEMU has done it. */
void vm_pause(struct vm *vm);

/* Stops a READY template and saves its devices: on_saved. The memory is complete in its memfd when
 * the VM is gone. */
void vm_save(struct vm *vm);

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
uint64_t vm_start_us(const struct vm *vm);   /* from spawn to READY; 0 before */

/* The guest link, for the client: closed, and deaf to everything, once the VM is STOPPING. */
struct agent_link *vm_link(struct vm *vm);

const struct vm_telemetry *vm_telemetry(const struct vm *vm);

/* What memory control keeps of this VM (memory/memory_vm.h): its own. NULL until it is set. */
struct memory_vm *vm_memory(const struct vm *vm);
void vm_set_memory(struct vm *vm, struct memory_vm *memory);

/* The balloon, which a user's client has: NULL unless RUNNING for one. */
struct balloon *vm_balloon(struct vm *vm);

/* Can it be handed out: asks the kernel too, because its end may not have been noticed yet. */
bool vm_is_alive(const struct vm *vm);

/* Walks host->vms. */
struct vm *vm_next(const struct vm *vm);

/* The directory of a VM of this id, O_PATH, or -errno: for files that shall be there for who adopts
 * it, and go with it. */
int vm_open_dir(const struct vm_host *host, const char *id);

struct vm_host *vm_get_host(const struct vm *vm);

/* NULL when there is none of that id. */
struct vm *vm_find(struct vm_host *host, const char *id);

#endif
