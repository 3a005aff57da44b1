/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon: what it is made of, and how it starts, drains and stops. */
#include "daemon/daemon.h"

#include "base/log.h"
#include "daemon/derive.h"
#include "daemon/memory_owner.h"
#include "daemon/method/methods.h"
#include "daemon/recovery.h"
#include "daemon/vm/jail.h"
#include "daemon/vm/tsc.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>

/* From the drain's end: the last VMs are killed and waited for. What the unit's TimeoutStopSec= has
 * beyond the drain that is shipped. */
#define STOP_SECONDS 15.

/* --- Parts. --- */

/* They only save time: without them VMs start as well. */
static void open_stubs(struct daemon *daemon)
{
	const struct config *config = daemon->config;
	_cleanup_close_ int dir_fd = -1;
	int r;

	if (daemon->images_dir_fd < 0)
		dir_fd = open(config->images_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	r = stubs_open(dir_fd < 0 ? daemon->images_dir_fd : dir_fd, config->qemu,
		       &daemon->vm_host.stubs);
	if (r < 0)
		log_notice(NULL, "QEMU starts with all its libraries, which is slower: %s",
			   r == -ESTALE
				   ? "their stand-ins are of another QEMU, 'make images' mends it"
				   : strerror(-r));
}

struct rpc_error *daemon_require_images(struct daemon *daemon)
{
	const char *what;
	struct rpc_error *error;
	int r;

	if (daemon->images.kernel_fd >= 0)
		return NULL;
	r = images_open(daemon->images_dir_fd, daemon->config->images_dir, &daemon->images, &what);
	if (r == 0) {
		daemon->vm_host.kernel_fd = daemon->images.kernel_fd;
		daemon->vm_host.rootfs_fd = daemon->images.rootfs_fd;
		open_stubs(daemon);
		return NULL;
	}
	error = rpc_error_new(RPC_VM_CONFIG, "No usable guest image in '%s': %s: %s",
			      daemon->config->images_dir, what,
			      r == -EINVAL ? "not a guest image" : strerror(-r));
	rpc_error_set(error, "reason", json_string(what));
	return rpc_error_hint(error, "build it with 'make images', or set images_dir");
}

static void on_vm_state(void *user, struct vm *vm, enum vm_state old UNUSED)
{
	struct daemon *daemon = user;
	const struct vm_spec *spec = vm_get_spec(vm);
	char type[32] = "vm.";

	if (daemon->memory && vm_get_state(vm) == VM_STOPPING)
		memory_control_vm_stops(daemon->memory, vm);
	if (daemon->memory && vm_get_state(vm) == VM_GONE)
		memory_control_vm_ends(daemon->memory, vm);
	/* VMs end after the server at the daemon's own end. */
	if (!daemon->server)
		return;
	if (!daemon->is_draining)
		notify_status("%zu VMs of %zu, %zu requests wait",
			      pool_admission(daemon->pool)->vms,
			      pool_admission(daemon->pool)->limits.max_vms,
			      pool_admission(daemon->pool)->waiting);
	strncat(type, vm_state_name(vm_get_state(vm)), sizeof(type) - sizeof("vm."));
	events_publish(rpc_server_events(daemon->server), type, spec->uid,
		       json_pack("{s:s, s:{s:s, s:I}}", "vm", vm_id(vm), "data", "language",
				 spec->language, "memory_mb", (json_int_t)spec->memory_mb));
}

static int choose_accelerator(struct daemon *daemon)
{
	enum accel_mode mode = (enum accel_mode)daemon->config->accel;
	int r;

	if (mode == ACCEL_MODE_TCG)
		daemon->kvm = (struct accel_probe){.kvm = ACCEL_KVM_ABSENT,
						   .text = "not probed: accel = tcg"};
	else
		accel_probe("/dev/kvm", &daemon->kvm);
	r = accel_choose(mode, &daemon->kvm, &daemon->vm_host.accel);
	if (r < 0)
		log_error(NULL, "accel = kvm, but KVM cannot be used: %s", daemon->kvm.text);
	else
		log_info(NULL, "Accelerator %s (KVM: %s)", accel_name(daemon->vm_host.accel),
			 daemon->kvm.text);
	return r;
}

static int start_vm_host(struct daemon *daemon, const struct daemon_fds *fds)
{
	const struct config *config = daemon->config;
	int r;

	daemon->vm_host.loop = daemon->loop;
	daemon->vm_host.qemu = config->qemu;
	daemon->vm_host.bubblewrap = config->bubblewrap;
	daemon->vm_host.node = config->node;
	daemon->vm_host.vms_fd = fds->vms_fd;
	derive_vm_host(daemon);
	daemon->vm_host.on_state = on_vm_state;
	daemon->vm_host.on_memory = memory_owner_vm_memory;
	daemon->vm_host.on_work = memory_owner_vm_work;
	daemon->vm_host.user = daemon;
	r = recovery_start(daemon, fds);
	if (r == 0)
		r = choose_accelerator(daemon);
	if (r < 0)
		return r;
	r = tsc_measure(&daemon->vm_host.tsc_khz);
	if (r < 0)
		log_warning(NULL, "TSC rate not known (%s): guests find out, which may hang",
			    strerror(-r));
	r = jail_filter_create(JAIL_PUNCH_HOLE_ALLOWED, &daemon->vm_host.filter_fd);
	if (r == 0)
		r = jail_filter_create(JAIL_PUNCH_HOLE_FAKED, &daemon->vm_host.clone_filter_fd);
	if (r < 0)
		log_error(NULL, "Cannot make the seccomp filter: %s", strerror(-r));
	return r;
}

static void on_template_change(void *user, struct template *template)
{
	struct daemon *daemon = user;

	if (daemon->pool)
		pool_template_changed(daemon->pool, template);
}

static uint64_t template_memory_mb(const struct config *config, uint64_t budget_mb)
{
	/* The default sizes of all languages are wanted at once. */
	uint64_t pinned_mb = POOL_LANGUAGES_MAX * (uint64_t)config->default_memory_mb;

	return config->template_memory_mb ? (uint64_t)config->template_memory_mb
					  : MAX(budget_mb / 4, pinned_mb);
}

/* A store that cannot be used costs a build at each start, nothing else. */
static int start_templates(struct daemon *daemon, uint64_t budget_mb, int templates_fd)
{
	const struct config *config = daemon->config;
	struct store_config store_config = {.loop = daemon->loop,
					    .dir_fd = templates_fd,
					    .path = config->state_dir,
					    .max_bytes = (uint64_t)config->template_disk_mb << 20};
	struct templates_config templates_config = {
		.host = &daemon->vm_host,
		.images_manifest = &daemon->images.manifest,
		.memory_mb = template_memory_mb(config, budget_mb),
		.on_change = on_template_change,
		.user = daemon,
	};
	int r;

	if (config->templates == CONFIG_TEMPLATES_OFF)
		return 0;
	r = store_create(&store_config, &daemon->store);
	if (r < 0)
		log_warning(NULL, "Templates are not kept in '%s': %s", config->state_dir,
			    strerror(-r));
	templates_config.store = daemon->store;
	return templates_create(&templates_config, &daemon->templates);
}

static int start_pool(struct daemon *daemon, int templates_fd)
{
	struct pool_config pool_config;
	int r;

	derive_pool(daemon, &pool_config);
	r = start_templates(daemon, pool_config.limits.memory_mb, templates_fd);
	pool_config.templates = daemon->templates;
	if (r == 0)
		r = pool_create(&pool_config, &daemon->pool);
	if (r == 0)
		log_info(NULL, "At most %zu VMs, %zu running, in %ju MiB",
			 pool_config.limits.max_vms, pool_config.limits.max_running,
			 (uintmax_t)pool_admission(daemon->pool)->limits.memory_mb);
	return r;
}

static void on_session_event(void *user, const char *type, const char *session, uid_t uid,
			     const char *reason)
{
	struct daemon *daemon = user;
	json_t *fields;

	/* Sessions end after the server at the daemon's own end. */
	if (!daemon->server)
		return;
	fields = json_pack("{s:s, s:{}}", "session", session, "data");
	if (reason)
		json_object_set_new(json_object_get(fields, "data"), "reason", json_string(reason));
	events_publish(rpc_server_events(daemon->server), type, uid, fields);
}

static int start_sessions(struct daemon *daemon, const struct daemon_fds *fds)
{
	struct sessions_config config = {.exec = &daemon->exec_env,
					 .pool = daemon->pool,
					 .node = daemon->config->node,
					 .on_event = on_session_event,
					 .user = daemon};
	int r;

	daemon->exec_env = (struct exec_env){
		.loop = daemon->loop, .config = daemon->config, .counters = &daemon->run_counters};
	r = results_create(daemon->loop, daemon->config, fds->results_fd, &daemon->results);
	if (r < 0)
		return r;
	daemon->exec_env.results = daemon->results;
	daemon->run_env = (struct run_env){
		.exec = &daemon->exec_env, .pool = daemon->pool, .vms_fd = fds->vms_fd};
	return sessions_create(&config, &daemon->sessions);
}

static void on_idle(void *context)
{
	struct daemon *daemon = context;

	if (daemon->is_draining)
		loop_stop(daemon->loop);
}

static int start_server(struct daemon *daemon, const struct daemon_fds *fds)
{
	struct rpc_server_config config = {
		.loop = daemon->loop,
		.listen_fds = fds->listen_fds,
		.listen_count = fds->listen_count,
		.methods = method_table,
		.handlers = method_handlers,
		.handler_count = method_handler_count,
		.admin_gid = fds->admin_gid,
		.limits = derive_rpc_limits(daemon->config),
		.is_waiting = true,
		.context = daemon,
		.on_idle = on_idle,
	};

	return rpc_server_create(&config, &daemon->server);
}

static void on_adopted(void *user)
{
	struct daemon *daemon = user;

	if (daemon->server)
		rpc_server_accept(daemon->server);
}

/* What an earlier daemon has left goes on before anybody is let in. */
static int adopt(struct daemon *daemon)
{
	const struct adoption_config config = {.run = &daemon->run_env,
					       .sessions = daemon->sessions,
					       .host = &daemon->vm_host,
					       .on_done = on_adopted,
					       .user = daemon};

	return adoption_start(&config, &daemon->adoption);
}

/* --- Signals. --- */

static void on_drain_deadline(struct ev_loop *ev UNUSED, ev_timer *timer, int events UNUSED)
{
	struct daemon *daemon = timer->data;

	log_warning(NULL, "Not idle after %g s, stopping anyway", daemon->drain_seconds);
	loop_stop(daemon->loop);
}

static void drain(struct daemon *daemon, const char *what, double seconds)
{
	log_notice(NULL, "%s: %zu VMs in use", what, pool_admission(daemon->pool)->vms);
	daemon->is_draining = true;
	for (size_t i = 0; pool_language(daemon->pool, i); i++)
		(void)pool_set(daemon->pool, pool_language(daemon->pool, i), 0);
	rpc_server_set_draining(daemon->server, true);
	notify_stopping(what, seconds + STOP_SECONDS);
	daemon->drain_seconds = seconds;
	loop_timer_start(daemon->loop, &daemon->drain_deadline, seconds);
}

void daemon_drain(struct daemon *daemon)
{
	if (!daemon->is_draining)
		drain(daemon, "Draining", daemon->config->drain_timeout_seconds);
}

static void on_sigterm(struct ev_loop *ev UNUSED, ev_signal *watcher, int events UNUSED)
{
	struct daemon *daemon = watcher->data;

	daemon->is_handing_over = false;
	if (daemon->is_draining || rpc_server_is_idle(daemon->server))
		loop_stop(daemon->loop);
	else
		daemon_drain(daemon);
}

static void on_sigusr1(struct ev_loop *ev UNUSED, ev_signal *watcher, int events UNUSED)
{
	struct daemon *daemon = watcher->data;

	if (daemon->is_draining)
		return;
	daemon->is_handing_over = true;
	if (rpc_server_is_idle(daemon->server))
		loop_stop(daemon->loop);
	else
		drain(daemon, "Handing over", DAEMON_HANDOVER_SECONDS);
}

static void on_sigint(struct ev_loop *ev UNUSED, ev_signal *watcher, int events UNUSED)
{
	struct daemon *daemon = watcher->data;

	daemon->is_handing_over = false;
	loop_stop(daemon->loop);
}

/* Nobody waits for the answer: the log and systemctl status have it. */
static void on_sighup(struct ev_loop *ev UNUSED, ev_signal *watcher, int events UNUSED)
{
	json_t *result = NULL;

	rpc_error_free(daemon_reload(watcher->data, &result));
	json_decref(result);
}

static void watch_signal(struct daemon *daemon, ev_signal *watcher, int number,
			 void (*fn)(struct ev_loop *, ev_signal *, int))
{
	ev_signal_init(watcher, fn, number);
	watcher->data = daemon;
	ev_signal_start(loop_ev(daemon->loop), watcher);
}

/* Before anything is started, which may take seconds after another daemon: a signal that comes
 * meanwhile is answered by the loop, with everything there. By default it would leave the VMs to
 * the launcher. */
static void watch_signals(struct daemon *daemon)
{
	ev_timer_init(&daemon->drain_deadline, on_drain_deadline, 0., 0.);
	daemon->drain_deadline.data = daemon;
	watch_signal(daemon, &daemon->sigterm, SIGTERM, on_sigterm);
	watch_signal(daemon, &daemon->sigint, SIGINT, on_sigint);
	watch_signal(daemon, &daemon->sighup, SIGHUP, on_sighup);
	watch_signal(daemon, &daemon->sigusr1, SIGUSR1, on_sigusr1);
}

/* --- Life. --- */

int daemon_start(struct daemon *daemon, struct config *config, const struct daemon_fds *fds)
{
	struct rpc_error *missing;
	int r;

	*daemon = (struct daemon){.config = config,
				  .config_source = fds->config_source,
				  .images = IMAGES_NONE,
				  .images_dir_fd = fds->images_fd,
				  .vm_host = {.kernel_fd = -1,
					      .rootfs_fd = -1,
					      .stubs = STUBS_NONE,
					      .filter_fd = -1,
					      .clone_filter_fd = -1},
				  .started_us = now_us(),
				  .started_ns = realtime_ns()};
	signal(SIGPIPE, SIG_IGN);
	r = loop_create(&daemon->loop);
	if (r == 0) {
		watch_signals(daemon);
		r = start_vm_host(daemon, fds);
	}
	if (r == 0) {
		missing = daemon_require_images(daemon);
		if (missing)
			log_error(NULL, "%s; runs answer VM_CONFIG until it is there",
				  missing->message);
		rpc_error_free(missing);
		r = start_pool(daemon, fds->templates_fd);
	}
	if (r == 0)
		r = start_sessions(daemon, fds);
	if (r == 0)
		r = start_server(daemon, fds);
	/* Its callbacks come from the loop, with a server to publish events. */
	if (r == 0)
		r = memory_owner_start(daemon);
	if (r == 0)
		r = adopt(daemon);
	if (r < 0)
		return r;
	notify_init(&daemon->notify, daemon->loop);
	return 0;
}

bool daemon_run(struct daemon *daemon)
{
	notify_ready("Serving");
	log_info(NULL, "Serving, version %s", EXECSANDBOX_VERSION);
	loop_run(daemon->loop);
	if (daemon->is_handing_over) {
		log_notice(NULL, "Handed over: %zu VMs", pool_admission(daemon->pool)->vms);
		return true;
	}
	notify_stopping("Stopping", STOP_SECONDS);
	log_info(NULL, "Stopping");
	return false;
}

void daemon_fini(struct daemon *daemon)
{
	struct rpc_server *server = TAKE_PTR(daemon->server);

	memory_control_destroy(TAKE_PTR(daemon->memory));
	/* Runs are answered, hand their VMs back, and then these are destroyed. */
	if (server)
		rpc_server_stop_calls(server);
	results_destroy(daemon->results);
	sessions_destroy(TAKE_PTR(daemon->sessions));
	/* Behind the sessions and runs that tell it that they are settled. */
	adoption_destroy(TAKE_PTR(daemon->adoption));
	rpc_server_destroy(server);
	pool_destroy(TAKE_PTR(daemon->pool));
	templates_destroy(daemon->templates);
	store_destroy(daemon->store);
	launcher_destroy(TAKE_PTR(daemon->vm_host.launcher));
	/* Only now: an impatient second signal must not end us with VMs alive and files left. */
	if (daemon->loop) {
		ev_signal_stop(loop_ev(daemon->loop), &daemon->sigterm);
		ev_signal_stop(loop_ev(daemon->loop), &daemon->sigint);
		ev_signal_stop(loop_ev(daemon->loop), &daemon->sighup);
		ev_signal_stop(loop_ev(daemon->loop), &daemon->sigusr1);
		loop_timer_stop(daemon->loop, &daemon->drain_deadline);
	}
	notify_fini(&daemon->notify);
	loop_destroy(daemon->loop);
	images_close(&daemon->images);
	stubs_close(&daemon->vm_host.stubs);
	close_fd(daemon->vm_host.filter_fd);
	close_fd(daemon->vm_host.clone_filter_fd);
}
