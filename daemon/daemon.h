/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon: what it is made of, and how it starts, drains and stops.
 *
 * Theory of operation: daemon_start() wires the modules over one loop: images and accelerator make
 * the VM host, templates are loaded or built on it, the pool clones VMs from them, the RPC server's
 * handlers (daemon/method) call the session layer. SIGTERM drains: new work is refused with 1001,
 * running work may end within drain_timeout_seconds. SIGINT, a second SIGTERM or the end of that
 * time stop at once: connections close, VMs are killed and waited for. SIGUSR1 hands over: it
 * drains, too, but leaves sessions and programs with an exec_id to the next daemon, as a daemon
 * that is killed does (session/adoption.h), and exits with DAEMON_EXIT_HANDOVER. After READY
 * nothing makes the daemon exit but these signals and `daemon.drain`. SIGHUP and `daemon.reload`
 * read the configuration again (daemon/reload.c).
 */
#ifndef DAEMON_DAEMON_H
#define DAEMON_DAEMON_H

#include "conf/config.h"
#include "daemon/memory/control.h"
#include "daemon/notify.h"
#include "daemon/pool/pool.h"
#include "daemon/rpc/events.h"
#include "daemon/rpc/server.h"
#include "daemon/session/adoption.h"
#include "daemon/session/run.h"
#include "daemon/session/sessions.h"
#include "daemon/template/templates.h"
#include "daemon/vm/images.h"

/* Where the configuration comes from: the files and command line of the start, read again. */
struct config_source {
	/* As config_load(), checked by config_check() too. */
	int (*load)(void *user, struct config *ret, struct config_report *report);
	void *user;
};

struct daemon {
	struct config *config; /* only daemon_reload() writes to it, and to live keys alone */
	struct config_source config_source;
	struct loop *loop;
	struct accel_probe kvm;
	struct images images;
	int images_dir_fd; /* borrowed, or -1 */
	struct vm_host vm_host;
	struct store *store;
	struct templates *templates; /* NULL with templates = off, and before there are images */
	struct pool *pool;
	struct memory_control *memory;
	uint64_t available_mb; /* the host had this at the start, besides VMs */
	struct rpc_server *server;
	struct notify notify;
	struct exec_env exec_env;
	struct run_env run_env;
	struct results *results;
	struct sessions *sessions;
	struct adoption *adoption;
	struct run_counters run_counters;
	uint64_t started_us, started_ns; /* monotonic; wall clock */
	ev_signal sigterm, sigint, sighup, sigusr1;
	ev_timer drain_deadline;
	double drain_seconds; /* until then */
	bool is_draining;
	bool is_handing_over; /* what goes on without us is left to the next daemon */
};

/* EX_TEMPFAIL of sysexits.h: the unit starts the next daemon at once. */
#define DAEMON_EXIT_HANDOVER 75

/* So long calls may take at a hand-over; connections are lost then. */
#define DAEMON_HANDOVER_SECONDS 5.

struct daemon_fds {
	const int *listen_fds; /* borrowed */
	size_t listen_count;
	int runtime_fd;              /* borrowed */
	int vms_fd;                  /* borrowed: runtime directory's vm/ */
	int results_fd;              /* borrowed: its results/ */
	int launcher_listen_fd_take; /* as setup.h has them */
	int launcher_program_fd_take;
	bool has_manager; /* systemd has made the sockets, the launcher's too */
	int images_fd; /* borrowed: images_dir, held since before privileges were dropped; or -1 */
	int templates_fd; /* borrowed: the store of templates */
	gid_t admin_gid;
	struct config_source config_source;
};

/* Wires everything up. `config` is borrowed, and changed by reloads. 0, or -errno after the reason
 * was logged. daemon_fini() in both cases. */
int daemon_start(struct daemon *daemon, struct config *config, const struct daemon_fds *fds);

/* Tells systemd that it is ready, and serves until stopped. True when the process shall just exit,
 * with DAEMON_EXIT_HANDOVER: everything is the next daemon's. */
bool daemon_run(struct daemon *daemon);

/* Refuses new work from now on, lets what runs end within drain_timeout_seconds, then stops. */
void daemon_drain(struct daemon *daemon);

/*
 * Reads, checks and takes over, and logs which. NULL with `{changed: [{key, from, to}]}` in
 * `ret_result`; or CONFIG_REFUSED with `reason` "invalid" and `problems`, or "restart" and `keys`;
 * or DRAINING.
 */
struct rpc_error *daemon_reload(struct daemon *daemon, json_t **ret_result) WARN_UNUSED;

/* Ends every VM and frees everything. */
void daemon_fini(struct daemon *daemon);

/* Opens the images if they are not open yet. NULL, or 3005 saying what is missing. */
struct rpc_error *daemon_require_images(struct daemon *daemon) WARN_UNUSED;

#endif
