/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration's schema: the table of every key. */
#include "conf/schema.h"

#include "conf/config.h"

#include <assert.h>
#include <string.h>
#include <syslog.h>

#define PLACE(member) offsetof(struct config, member)

/* Choices are stored through an int. */
static_assert(sizeof(enum config_accel) == sizeof(int), "an enum of another size");
static_assert(sizeof(enum config_log_target) == sizeof(int), "an enum of another size");
static_assert(sizeof(enum config_templates) == sizeof(int), "an enum of another size");
static_assert(sizeof(enum config_memory) == sizeof(int), "an enum of another size");

#define PATH_LENGTH_MAX   4095 /* PATH_MAX without the NUL */
#define SOCKET_LENGTH_MAX 107  /* sun_path without the NUL: clients connect by this path */
#define NAME_LENGTH_MAX   32   /* useradd(8)'s limit for users and groups */
#define KIB               1024.
#define MIB               (1024. * KIB)
#define GIB               (1024. * MIB)
#define TIB_IN_MIB        (1024. * 1024.)
/* Whether a reload takes a new value over, or only a restart. */
#define LIVE    true
#define RESTART false

static const struct config_choice log_levels[] = {
	{"error", LOG_ERR}, {"warning", LOG_WARNING}, {"notice", LOG_NOTICE},
	{"info", LOG_INFO}, {"debug", LOG_DEBUG},     {NULL, 0},
};

static const struct config_choice log_targets[] = {
	{"auto", CONFIG_LOG_AUTO},
	{"journal", CONFIG_LOG_JOURNAL},
	{"stderr", CONFIG_LOG_STDERR},
	{NULL, 0},
};

static const struct config_choice accels[] = {
	{"auto", CONFIG_ACCEL_AUTO},
	{"kvm", CONFIG_ACCEL_KVM},
	{"tcg", CONFIG_ACCEL_TCG},
	{NULL, 0},
};

static const struct config_choice memory_controls[] = {
	{"auto", CONFIG_MEMORY_AUTO},
	{"off", CONFIG_MEMORY_OFF},
	{NULL, 0},
};

static const struct config_choice templates[] = {
	{"auto", CONFIG_TEMPLATES_AUTO},
	{"off", CONFIG_TEMPLATES_OFF},
	{NULL, 0},
};

/* Defaults that the public API names (timeouts, sizes of code and output, memory, env) are its
 * "Defaults and bounds"; where another value was chosen a comment says why. */
const struct config_option config_schema[] = {
	{"daemon", "socket", CONFIG_PATH, NULL, 2, SOCKET_LENGTH_MAX, "/run/execsandbox.sock", NULL,
	 PLACE(socket), "Socket to listen on, unless systemd hands one over", RESTART},
	{"daemon", "runtime_dir", CONFIG_PATH, NULL, 2, PATH_LENGTH_MAX, "/run/execsandbox", NULL,
	 PLACE(runtime_dir), "Directory of sockets and other things of running VMs", RESTART},
	{"daemon", "state_dir", CONFIG_PATH, NULL, 2, PATH_LENGTH_MAX, "/var/lib/execsandbox", NULL,
	 PLACE(state_dir), "Directory of what outlives a restart of the host", RESTART},
	{"daemon", "images_dir", CONFIG_PATH, NULL, 2, PATH_LENGTH_MAX,
	 "/usr/lib/execsandbox/images", NULL, PLACE(images_dir),
	 "Directory of the guest kernel and root filesystem", RESTART},
	{"daemon", "user", CONFIG_NAME, NULL, 1, NAME_LENGTH_MAX, "execsandbox-vm", NULL,
	 PLACE(user), "User that a daemon started as root changes to; QEMU runs as this user",
	 RESTART},
	{"daemon", "socket_group", CONFIG_NAME, NULL, 1, NAME_LENGTH_MAX, "execsandbox", NULL,
	 PLACE(socket_group), "Group that may connect to a socket the daemon makes itself",
	 RESTART},
	{"daemon", "admin_group", CONFIG_NAME, NULL, 0, NAME_LENGTH_MAX, "", NULL,
	 PLACE(admin_group), "Group whose members are admins beside root; empty for root alone",
	 RESTART},
	{"daemon", "node", CONFIG_NAME, NULL, 0, NAME_LENGTH_MAX, "", NULL, PLACE(node),
	 "Name of this host that ids begin with; empty for none", RESTART},
	{"daemon", "log_level", CONFIG_CHOICE, NULL, 0, 0, "info", log_levels, PLACE(log_level),
	 "Least important messages that are logged", LIVE},
	{"daemon", "log_target", CONFIG_CHOICE, NULL, 0, 0, "auto", log_targets, PLACE(log_target),
	 "Where messages go; auto is the journal where standard error leads there", RESTART},
	{"daemon", "drain_timeout_seconds", CONFIG_SECONDS, NULL, 0, 3600, "30", NULL,
	 PLACE(drain_timeout_seconds), "How long a stopping daemon waits for runs to end", LIVE},

	{"vm", "accel", CONFIG_CHOICE, NULL, 0, 0, "auto", accels, PLACE(accel),
	 "Accelerator; auto is KVM where a probe finds it usable, else TCG", RESTART},
	{"vm", "qemu", CONFIG_PATH, NULL, 2, PATH_LENGTH_MAX, "/usr/bin/qemu-system-x86_64", NULL,
	 PLACE(qemu), "QEMU program", RESTART},
	{"vm", "bubblewrap", CONFIG_PATH, NULL, 2, PATH_LENGTH_MAX, "/usr/bin/bwrap", NULL,
	 PLACE(bubblewrap), "bubblewrap program, which puts QEMU into its jail", RESTART},
	{"vm", "max_vms", CONFIG_INTEGER, "VMs", 0, 10000, "0", NULL, PLACE(max_vms),
	 "Most VMs at a time; 0 for what the host's available memory holds", LIVE},
	{"vm", "queue_max", CONFIG_INTEGER, "runs", 0, 65536, "1024", NULL, PLACE(queue_max),
	 "Most runs that wait for a VM; more are refused with a time to come back", LIVE},
	{"vm", "queue_timeout_seconds", CONFIG_SECONDS, NULL, 0.1, 3600, "60", NULL,
	 PLACE(queue_timeout_seconds), "How long a run waits for a VM", LIVE},
	/* TCG on a busy host: a boot measured 4.9 s idle. */
	{"vm", "boot_timeout_seconds", CONFIG_SECONDS, NULL, 1, 600, "60", NULL,
	 PLACE(boot_timeout_seconds), "How long one attempt to start a VM may take", LIVE},
	{"vm", "boot_attempts", CONFIG_INTEGER, "attempts", 1, 10, "2", NULL, PLACE(boot_attempts),
	 "Attempts to start a VM before its run fails", LIVE},
	{"vm", "kill_grace_ms", CONFIG_INTEGER, "ms", 0, 5000, "50", NULL, PLACE(kill_grace_ms),
	 "Time between SIGTERM and SIGKILL for a run at its timeout", LIVE},
	/* Most runs wait for something most of the time; more than this only take turns. */
	{"vm", "cpu_overcommit", CONFIG_INTEGER, "VMs per processor", 1, 1024, "8", NULL,
	 PLACE(cpu_overcommit), "Most VMs that run code at a time, per processor of the host",
	 LIVE},
	{"vm", "vms_per_uid", CONFIG_INTEGER, "VMs", 0, 10000, "0", NULL, PLACE(vms_per_uid),
	 "Most VMs of one user at a time; 0 for no limit but the host's", LIVE},
	{"vm", "queue_per_uid", CONFIG_INTEGER, "runs", 0, 65536, "512", NULL, PLACE(queue_per_uid),
	 "Most runs of one user that wait for a VM; 0 for no limit but queue_max", LIVE},
	{"vm", "memory_mb_per_uid", CONFIG_INTEGER, "MiB", 0, TIB_IN_MIB, "0", NULL,
	 PLACE(memory_mb_per_uid),
	 "Most memory of one user's VMs together; 0 for no limit but the host's", LIVE},

	{"pool", "templates", CONFIG_CHOICE, NULL, 0, 0, "auto", templates, PLACE(templates),
	 "Whether VMs are clones of templates (auto), or each boots its kernel (off)", RESTART},
	{"pool", "pool_python", CONFIG_INTEGER, "VMs", 0, 10000, "4", NULL, PLACE(pool_python),
	 "Warm VMs that wait for Python runs", LIVE},
	{"pool", "pool_javascript", CONFIG_INTEGER, "VMs", 0, 10000, "1", NULL,
	 PLACE(pool_javascript), "Warm VMs that wait for JavaScript runs", LIVE},
	{"pool", "pool_shell", CONFIG_INTEGER, "VMs", 0, 10000, "2", NULL, PLACE(pool_shell),
	 "Warm VMs that wait for shell runs", LIVE},
	{"pool", "pool_hot", CONFIG_INTEGER, "VMs", 0, 10000, "4", NULL, PLACE(pool_hot),
	 "Warm VMs of a language that are rehearsed: 120 ms quicker, for three times the memory",
	 LIVE},
	{"pool", "template_memory_mb", CONFIG_INTEGER, "MiB", 0, TIB_IN_MIB, "0", NULL,
	 PLACE(template_memory_mb),
	 "Most memory of all templates together; 0 for a quarter of what VMs may use", RESTART},
	{"pool", "template_disk_mb", CONFIG_INTEGER, "MiB", 64, TIB_IN_MIB, "4096", NULL,
	 PLACE(template_disk_mb), "Most disk space of stored templates; the least used go first",
	 RESTART},

	{"limits", "default_timeout_seconds", CONFIG_SECONDS, NULL, 0.1, 86400, "30", NULL,
	 PLACE(default_timeout_seconds), "Timeout of a run that asks for none", LIVE},
	{"limits", "max_timeout_seconds", CONFIG_SECONDS, NULL, 0.1, 86400, "3600", NULL,
	 PLACE(max_timeout_seconds), "Longest timeout a run may ask for", LIVE},
	{"limits", "session_idle_seconds", CONFIG_SECONDS, NULL, 1, 2592000, "300", NULL,
	 PLACE(session_idle_seconds),
	 "How long a session that asks for nothing else may do nothing", LIVE},
	{"limits", "max_session_seconds", CONFIG_SECONDS, NULL, 1, 2592000, "86400", NULL,
	 PLACE(max_session_seconds), "Longest idle time and lifetime a session may ask for", LIVE},
	{"limits", "result_seconds", CONFIG_SECONDS, NULL, 0, 86400, "600", NULL,
	 PLACE(result_seconds), "How long the result of a program with an exec_id is kept", LIVE},
	{"limits", "result_bytes_per_uid", CONFIG_SIZE, NULL, 0, 16 * GIB, "64M", NULL,
	 PLACE(result_bytes_per_uid), "Most bytes of such results kept for one user", LIVE},
	{"limits", "code_max_bytes", CONFIG_SIZE, NULL, 1, 16 * MIB, "1M", NULL,
	 PLACE(code_max_bytes), "Most code in one run", LIVE},
	{"limits", "stdin_max_bytes", CONFIG_SIZE, NULL, 0, 64 * MIB, "4M", NULL,
	 PLACE(stdin_max_bytes), "Most standard input in one run, decoded", LIVE},
	{"limits", "stdout_max_bytes", CONFIG_SIZE, NULL, 0, 64 * MIB, "1M", NULL,
	 PLACE(stdout_max_bytes),
	 "Most standard output kept in a result; what is beyond it is only counted", LIVE},
	{"limits", "stderr_max_bytes", CONFIG_SIZE, NULL, 0, 64 * MIB, "1M", NULL,
	 PLACE(stderr_max_bytes),
	 "Most standard error kept in a result; what is beyond it is only counted", LIVE},
	{"limits", "file_max_bytes", CONFIG_SIZE, NULL, 0, 16 * GIB, "500M", NULL,
	 PLACE(file_max_bytes), "Largest file that clients write into a session", LIVE},
	{"limits", "env_max", CONFIG_INTEGER, "names", 0, 1024, "100", NULL, PLACE(env_max),
	 "Most environment variables in one run", LIVE},
	{"limits", "args_max", CONFIG_INTEGER, "arguments", 0, 1024, "100", NULL, PLACE(args_max),
	 "Most arguments in one run", LIVE},
	/* Room for a JavaScript runtime's threads and a build, far under what a fork bomb needs. */
	{"limits", "pids_default", CONFIG_INTEGER, "tasks", 16, 32768, "256", NULL,
	 PLACE(pids_default), "Most processes and threads of a run that asks for no limit", LIVE},
	/* Half of the default memory, as tmpfs itself chooses. */
	{"limits", "disk_default_mb", CONFIG_INTEGER, "MiB", 1, TIB_IN_MIB, "128", NULL,
	 PLACE(disk_default_mb),
	 "Size of the home directory of a run that asks for none; it lies in VM memory", LIVE},
	{"limits", "connections_per_uid", CONFIG_INTEGER, "connections", 1, 65536, "64", NULL,
	 PLACE(connections_per_uid), "Most connections of one user at a time", LIVE},
	{"limits", "buffered_bytes_per_uid", CONFIG_SIZE, NULL, MIB, 16 * GIB, "64M", NULL,
	 PLACE(buffered_bytes_per_uid), "Most bytes the daemon keeps for one user's connections",
	 LIVE},

	{"memory", "default_memory_mb", CONFIG_INTEGER, "MiB", 64, TIB_IN_MIB, "256", NULL,
	 PLACE(default_memory_mb), "Memory of a VM whose run asks for none", RESTART},
	{"memory", "min_memory_mb", CONFIG_INTEGER, "MiB", 64, TIB_IN_MIB, "128", NULL,
	 PLACE(min_memory_mb), "Least memory a run may ask for", LIVE},
	{"memory", "max_memory_mb", CONFIG_INTEGER, "MiB", 0, TIB_IN_MIB, "0", NULL,
	 PLACE(max_memory_mb), "Most memory a run may ask for; 0 for what the host has", LIVE},
	{"memory", "host_reserve_mb", CONFIG_INTEGER, "MiB", 0, TIB_IN_MIB, "0", NULL,
	 PLACE(host_reserve_mb), "Memory kept free for the host; 0 for 8 % of it, at least 512",
	 LIVE},
	{"memory", "memory_budget_mb", CONFIG_INTEGER, "MiB", 0, TIB_IN_MIB, "0", NULL,
	 PLACE(memory_budget_mb),
	 "Memory for VMs besides templates, as if the host had no more; 0 for all but its reserve",
	 LIVE},
	/* A sample older than 10 s is not used to take memory. */
	{"memory", "stats_interval_seconds", CONFIG_SECONDS, NULL, 0.5, 10, "2", NULL,
	 PLACE(stats_interval_seconds), "Time between two looks at a VM's memory", LIVE},
	{"memory", "memory_overcommit_percent", CONFIG_INTEGER, "per cent", 100, 6400, "100", NULL,
	 PLACE(memory_overcommit_percent),
	 "Sizes and overheads of running VMs together over the memory they may use", LIVE},
	{"memory", "memory_control", CONFIG_CHOICE, NULL, 0, 0, "auto", memory_controls,
	 PLACE(memory_control),
	 "Whether VMs give memory back when the host runs short (auto), or keep it (off)", LIVE},
	{0},
};

static_assert(ELEMENTSOF(config_schema) <= CONFIG_OPTIONS_MAX, "CONFIG_OPTIONS_MAX is too small");

const struct config_option *config_schema_find(const char *section, const char *key)
{
	for (const struct config_option *option = config_schema; option->key; option++)
		if (strcmp(option->key, key) == 0 &&
		    (!section || strcmp(option->section, section) == 0))
			return option;
	return NULL;
}

bool config_schema_has_section(const char *section)
{
	for (const struct config_option *option = config_schema; option->key; option++)
		if (strcmp(option->section, section) == 0)
			return true;
	return false;
}
