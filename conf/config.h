/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's configuration: its values, and how they are loaded, set, checked and shown.
 *
 * Theory of operation: config_load() starts from the schema's defaults and applies, in this order,
 * execsandboxd.conf of the administrator's directory (or, only when there is none, the vendor's)
 * and the drop-ins execsandboxd.conf.d/NAME.conf of both directories in the order of their names,
 * where the administrator's drop-in hides the vendor's of the same name (an empty file or a link to
 * /dev/null switches one off). Command-line overrides follow by config_set(), then config_check()
 * looks at values that only make sense together.
 */
#ifndef CONF_CONFIG_H
#define CONF_CONFIG_H

#include "conf/report.h"

#include <stdint.h>

#define CONFIG_VENDOR_DIR "/usr/lib/execsandbox"
#define CONFIG_ADMIN_DIR  "/etc/execsandbox"

/* The longest JSON-RPC message, which the API fixes (daemon/rpc/wire.h). */
#define CONFIG_MESSAGE_BYTES (16u << 20)

enum config_accel {
	CONFIG_ACCEL_AUTO, /* KVM when the probe finds it usable, else TCG */
	CONFIG_ACCEL_KVM,
	CONFIG_ACCEL_TCG,
};

enum config_memory {
	CONFIG_MEMORY_AUTO,
	CONFIG_MEMORY_OFF, /* looked at, not acted on */
};

enum config_templates {
	CONFIG_TEMPLATES_AUTO, /* VMs are clones wherever this QEMU can make them */
	CONFIG_TEMPLATES_OFF,  /* every VM boots */
};

enum config_log_target {
	CONFIG_LOG_AUTO, /* the journal when standard error leads there, else standard error */
	CONFIG_LOG_JOURNAL,
	CONFIG_LOG_STDERR,
};

/* The values, in the order of conf/schema.c, which has their meaning, bounds and defaults. Strings
 * are never NULL and belong to the struct. */
struct config {
	/* [daemon] */
	char *socket;
	char *runtime_dir;
	char *state_dir;
	char *images_dir;
	char *user;
	char *socket_group;
	char *admin_group; /* empty: root alone is admin */
	char *node;        /* empty: ids have no prefix */
	int log_level;     /* LOG_ERR to LOG_DEBUG */
	enum config_log_target log_target;
	double drain_timeout_seconds;

	/* [vm] */
	enum config_accel accel;
	char *qemu;
	char *bubblewrap;
	int64_t max_vms; /* 0: from memory */
	int64_t queue_max;
	double queue_timeout_seconds;
	double boot_timeout_seconds;
	int64_t boot_attempts;
	int64_t kill_grace_ms;
	int64_t cpu_overcommit;    /* running VMs per processor of the host */
	int64_t vms_per_uid;       /* 0: no limit of its own */
	int64_t queue_per_uid;     /* 0: no limit of its own */
	int64_t memory_mb_per_uid; /* 0: no limit of its own */

	/* [pool] */
	enum config_templates templates;
	int64_t pool_python, pool_javascript, pool_shell;
	int64_t pool_hot;           /* of one language */
	int64_t template_memory_mb; /* 0: a quarter of what VMs may use */
	int64_t template_disk_mb;

	/* [limits] */
	double default_timeout_seconds;
	double max_timeout_seconds;
	double session_idle_seconds;
	double max_session_seconds;
	double result_seconds;
	uint64_t result_bytes_per_uid;
	uint64_t code_max_bytes;
	uint64_t stdin_max_bytes;
	uint64_t stdout_max_bytes;
	uint64_t stderr_max_bytes;
	uint64_t file_max_bytes;
	int64_t env_max;
	int64_t args_max;
	int64_t pids_default;
	int64_t disk_default_mb;
	int64_t connections_per_uid;
	uint64_t buffered_bytes_per_uid;

	/* [memory] */
	int64_t default_memory_mb;
	int64_t min_memory_mb;
	int64_t max_memory_mb;    /* 0: what the host has */
	int64_t host_reserve_mb;  /* 0: 8 % of the host's memory, at least 512 MiB */
	int64_t memory_budget_mb; /* 0: none */
	double stats_interval_seconds;
	int64_t memory_overcommit_percent;
	enum config_memory memory_control;
};

/* Where to read from. */
struct config_sources {
	const char *file;       /* --config: this file alone, and it must exist */
	const char *vendor_dir; /* NULL: CONFIG_VENDOR_DIR */
	const char *admin_dir;  /* NULL: CONFIG_ADMIN_DIR */
};

/* The schema's defaults. 0, or -ENOMEM. Release with config_fini(). */
int config_defaults(struct config *ret);

/*
 * Defaults and files as described above. All problems of all files are added to `report`. 0;
 * -EINVAL when there were problems (`ret` is not written); -ENOMEM.
 */
int config_load(const struct config_sources *sources, struct config *ret,
		struct config_report *report);

/*
 * Sets one value, for the command line: `name` is a key or "section.key". Problems are added to
 * `report` without a location. 0; -ENOENT for no such key; -EINVAL for a bad value; -ENOMEM.
 */
int config_set(struct config *config, const char *name, const char *text,
	       struct config_report *report);

/* Values that contradict each other. 0, or -EINVAL with problems added to `report`. */
int config_check(const struct config *config, struct config_report *report);

/* All values as a file that loads to the same values, in a new string (free()). 0 or -ENOMEM. */
int config_dump(const struct config *config, char **ret);

/* Frees the strings; a zero-initialised struct is fine. */
void config_fini(struct config *config);

#endif
