/* SPDX-License-Identifier: Apache-2.0 */
/* From a VM's description to a QEMU process in its jail. */
#include "daemon/vm/vm_spawn.h"

#include "base/log.h"
#include "daemon/launcher/vm_dir.h"
#include "daemon/vm/argv.h"
#include "daemon/vm/jail.h"
#include "daemon/vm/qemu_argv.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define QMP_SOCKET   "qmp.sock"
#define AGENT_SOCKET "agent.sock"

/*
 * Connections that may wait at a QEMU whose main loop is busy. A daemon that is killed leaves its
 * own there, and the third was refused: QEMU itself, when it opens a socket, sets the backlog to 1,
 * with which the kernel lets two wait (listen(2) and, in QEMU, chardev/char-socket.c).
 */
#define BACKLOG 8

/* Above the daemon (0), below nothing: when the host runs out of memory a VM goes before it. */
#define QEMU_OOM_SCORE_ADJ 500

/*
 * What a VM's control group may hold besides guest memory and translated code, by its
 * memory.max_usage_in_bytes: 256 MiB that boot and are filled to the guest's own end took 9 MiB
 * (Python) and 25 MiB (JavaScript) more than the sum of both, so this is two and a half times the
 * worst. Tables of pages grow with the memory: LEAF_TABLES_SHARE of it.
 *
 * A limit that a VM of good behaviour meets is an outage; one that is too high costs nothing,
 * because it is admission that shares the host out.
 */
#define LEAF_OVERHEAD_MB  64
#define LEAF_TABLES_SHARE 64
/* One vCPU, and QEMU's main loop beside it. */
#define LEAF_CPU_PERCENT 200
/* QEMU has 4 to 8 threads, and a pool for I/O that grows to 64. */
#define LEAF_PIDS_MAX 256

void vm_sockets_close(struct vm_sockets *sockets)
{
	sockets->qmp_fd = close_fd(sockets->qmp_fd);
	sockets->agent_fd = close_fd(sockets->agent_fd);
	sockets->console_fd = close_fd(sockets->console_fd);
	for (size_t i = 0; i < VM_LISTENING; i++)
		close_fdp(&sockets->listening_fds[i]);
}

void vm_widen_queues(int fds[VM_LISTENING])
{
	for (size_t i = 0; i < VM_LISTENING; i++) {
		if (fds[i] >= 0)
			(void)listen(fds[i], BACKLOG);
		close_fdp(&fds[i]);
	}
}

/* What QEMU inherits; closed here once it has. */
struct child_ends {
	int qmp_fd, agent_fd, console_fd;
};

static void child_ends_close(struct child_ends *ends)
{
	close_fd(ends->qmp_fd);
	close_fd(ends->agent_fd);
	close_fd(ends->console_fd);
}

static int listen_and_connect(int dir_fd, const char *name, int *ret_listen, int *ret_connected)
{
	_cleanup_close_ int listening = unix_listen_at(dir_fd, name, BACKLOG);
	int connected;

	if (listening < 0)
		return listening;
	connected = unix_connect_at(dir_fd, name);
	if (connected < 0)
		return connected;
	*ret_listen = TAKE_FD(listening);
	*ret_connected = connected;
	return 0;
}

int vm_open_dir(const struct vm_host *host, const char *id)
{
	return vm_dir_open(host->vms_fd, id);
}

int vm_connect(const struct vm_host *host, const char *id, struct vm_sockets *ret)
{
	_cleanup_(vm_sockets_close) struct vm_sockets sockets = VM_SOCKETS_NONE;
	_cleanup_close_ int dir_fd = vm_open_dir(host, id);

	if (dir_fd < 0)
		return dir_fd;
	sockets.qmp_fd = unix_connect_at(dir_fd, QMP_SOCKET);
	if (sockets.qmp_fd < 0)
		return sockets.qmp_fd;
	sockets.agent_fd = unix_connect_at(dir_fd, AGENT_SOCKET);
	if (sockets.agent_fd < 0)
		return sockets.agent_fd;
	*ret = sockets;
	sockets = (struct vm_sockets)VM_SOCKETS_NONE;
	return 0;
}

static int make_sockets(const struct vm_host *host, const char *id, struct vm_sockets *ours,
			struct child_ends *theirs)
{
	_cleanup_close_ int dir_fd = -1;
	int console[2], r;

	if (mkdirat(host->vms_fd, id, 0700) < 0)
		return -errno;
	dir_fd = vm_open_dir(host, id);
	if (dir_fd < 0)
		return dir_fd;
	r = listen_and_connect(dir_fd, QMP_SOCKET, &theirs->qmp_fd, &ours->qmp_fd);
	if (r < 0)
		return r;
	r = listen_and_connect(dir_fd, AGENT_SOCKET, &theirs->agent_fd, &ours->agent_fd);
	if (r < 0)
		return r;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, console) < 0)
		return -errno;
	ours->console_fd = console[0];
	theirs->console_fd = console[1];
	return 0;
}

/* Gives QEMU's descriptors their numbers in the child and builds QEMU's words. */
static int build_qemu(const struct vm_host *host, const char *id, const struct vm_spec *spec,
		      const struct child_ends *ends, struct proc_fds *fds, char ***ret)
{
	struct qemu_config config = {
		.program = host->qemu,
		.start = spec->start,
		.name = id,
		.accel = host->accel,
		.memory_mb = (unsigned)spec->memory_mb,
		.translation_mb = vm_translation_mb(host, spec->language),
		.tsc_khz = host->tsc_khz,
		.qmp_fd = proc_fds_add(fds, ends->qmp_fd),
		.agent_fd = proc_fds_add(fds, ends->agent_fd),
		.console_fd = proc_fds_add(fds, ends->console_fd),
		.rootfs_fd = proc_fds_add(fds, host->rootfs_fd),
	};

	if (spec->start != QEMU_BOOT)
		config.ram_fd = proc_fds_add(fds, spec->image->ram_fd);
	if (spec->start != QEMU_CLONE)
		config.kernel_fd = proc_fds_add(fds, host->kernel_fd);
	return qemu_argv(&config, ret);
}

static struct leaf_limits leaf_limits(const struct vm_host *host, const struct vm_spec *spec)
{
	uint64_t mb = spec->memory_mb + spec->memory_mb / LEAF_TABLES_SHARE + LEAF_OVERHEAD_MB +
		      vm_translation_mb(host, spec->language);

	/* Who writes where the template has a hole pays for two pages: its own, and the one that
	 * the kernel then makes in the template for all. */
	if (spec->start == QEMU_CLONE)
		mb += spec->memory_mb;
	return (struct leaf_limits){.memory_max_bytes = mb << 20,
				    .cpu_percent = LEAF_CPU_PERCENT,
				    .pids_max = LEAF_PIDS_MAX};
}

/* --- Spawning. --- */

/* Where a spawn is, for who reads why it failed there. */
struct spawn_step {
	const char *what;
	bool is_launcher; /* which could not be reached */
};

static int spawn_jailed(const struct vm_host *host, const char *id, const struct vm_spec *vm_spec,
			char *const *qemu, struct proc_fds *fds, const struct proc_ops *ops,
			void *user, struct launch **ret, struct spawn_step *step)
{
	const struct stubs *stubs = stubs_fit(&host->stubs, host->qemu) ? &host->stubs : NULL;
	struct jail_config config = {.bubblewrap = host->bubblewrap,
				     .uid = geteuid(),
				     .has_kvm = host->accel == ACCEL_KVM};
	_cleanup_(argv_freep) char **argv = NULL;
	struct proc_spec spec = {
		.fds = fds, .oom_score_adj = QEMU_OOM_SCORE_ADJ, .has_no_huge_pages = true};
	const struct leaf_limits limits = leaf_limits(host, vm_spec);
	struct jail jail;
	int r = jail_open(&jail,
			  vm_spec->start == QEMU_CLONE ? host->clone_filter_fd : host->filter_fd,
			  stubs, fds);

	if (r < 0)
		return r;
	r = jail_argv(&config, &jail, qemu, &argv);
	if (r == 0) {
		spec.argv = argv;
		spec.limits = jail_limits(&spec.n_limits);
		spec.info_fd_take = TAKE_FD(jail.info_fd);
		r = launch_spawn(host->launcher, id, &spec, &limits, ops, user, ret);
		step->is_launcher = r < 0 && launcher_error(host->launcher) < 0;
		step->what = step->is_launcher ? launcher_name(host->launcher)
					       : "handing it to the launcher";
	}
	jail_close(&jail);
	return r;
}

static int spawn(const struct vm_host *host, const char *id, const struct vm_spec *spec,
		 const struct proc_ops *ops, void *user, struct launch **ret,
		 struct vm_sockets *ret_sockets, struct spawn_step *step)
{
	_cleanup_(child_ends_close) struct child_ends theirs = {-1, -1, -1};
	_cleanup_(vm_sockets_close) struct vm_sockets ours = VM_SOCKETS_NONE;
	_cleanup_(argv_freep) char **qemu = NULL;
	struct proc_fds fds = {.len = 0};
	int r;

	step->what = host->qemu;
	if (access(host->qemu, X_OK) < 0)
		return -errno;
	step->what = "its sockets in the runtime directory";
	r = make_sockets(host, id, &ours, &theirs);
	if (r < 0)
		return r;
	step->what = "QEMU's arguments";
	r = build_qemu(host, id, spec, &theirs, &fds, &qemu);
	if (r < 0)
		return r;
	step->what = host->bubblewrap;
	r = access(host->bubblewrap, X_OK) < 0
		    ? -errno
		    : spawn_jailed(host, id, spec, qemu, &fds, ops, user, ret, step);
	if (r < 0)
		return r;
	ours.listening_fds[0] = TAKE_FD(theirs.qmp_fd);
	ours.listening_fds[1] = TAKE_FD(theirs.agent_fd);
	*ret_sockets = ours;
	ours = (struct vm_sockets)VM_SOCKETS_NONE;
	return 0;
}

/* A launcher that is missing is no mistake of the host's configuration: its socket comes back. */
static struct rpc_error *spawn_error(const char *id, const struct spawn_step *step, int error)
{
	bool is_missing =
		!step->is_launcher && (error == -ENOENT || error == -EACCES || error == -EPERM);
	struct rpc_error *rpc_error =
		rpc_error_new(is_missing ? RPC_VM_CONFIG : RPC_VM_TRANSIENT,
			      "Cannot start a VM: %s: %s", step->what, strerror(-error));

	log_error(id, "Cannot start: %s: %s", step->what, strerror(-error));
	if (step->is_launcher)
		return rpc_error_hint(rpc_error,
				      "'execsandboxctl doctor' says whether the launcher can be "
				      "reached; try again when it can");
	return rpc_error_hint(rpc_error, is_missing
						 ? "'execsandboxctl doctor' names what is missing"
						 : "try again; the daemon's log has details");
}

struct rpc_error *vm_spawn(const struct vm_host *host, const char *id, const struct vm_spec *spec,
			   const struct proc_ops *ops, void *user, struct launch **ret,
			   struct vm_sockets *ret_sockets)
{
	struct spawn_step step = {.what = "memory"};
	int r = spawn(host, id, spec, ops, user, ret, ret_sockets, &step);

	return r < 0 ? spawn_error(id, &step, r) : NULL;
}

/* --- Files. --- */

static void remove_dir(struct vm_host *host, const char *id)
{
	int r = vm_dir_remove(host->vms_fd, id);

	if (r < 0)
		log_warning(id, "Cannot remove its directory: %s", strerror(-r));
	host->has_left_files |= r < 0;
}

static void remove_left_dir(void *user, const char *id)
{
	struct vm_host *host = user;

	if (!vm_find(host, id))
		remove_dir(host, id);
}

void vm_remove_left_files(struct vm_host *host)
{
	int r;

	host->has_left_files = false;
	r = vm_dir_walk(host->vms_fd, remove_left_dir, host);
	if (r < 0)
		log_warning(NULL, "Cannot list the VMs' directory: %s", strerror(-r));
	host->has_left_files |= r < 0;
}

void vm_remove_files(struct vm_host *host, const char *id)
{
	bool is_again = host->has_left_files;

	remove_dir(host, id);
	if (is_again)
		vm_remove_left_files(host);
}
