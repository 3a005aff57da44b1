/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's configuration: its values, and how they are loaded, set, checked and shown. */
#include "conf/config.h"

#include "conf/file.h"
#include "conf/schema.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define FILE_NAME   "execsandboxd.conf"
#define DROPINS_DIR FILE_NAME ".d"

/* More drop-ins than anybody writes; each may have CONFIG_FILE_MAX bytes. */
#define DROPINS_MAX 256

int config_defaults(struct config *ret)
{
	struct config config = {0};
	char why[CONFIG_WHY_SIZE];

	for (const struct config_option *option = config_schema; option->key; option++) {
		int r = config_option_set(option, option->fallback, &config, why);

		if (r < 0) {
			config_fini(&config);
			return r;
		}
	}
	*ret = config;
	return 0;
}

void config_fini(struct config *config)
{
	for (const struct config_option *option = config_schema; option->key; option++)
		if (config_option_is_string(option))
			free_charp((char **)((char *)config + option->offset));
}

static int is_dropin_name(const struct dirent *entry)
{
	size_t len = strlen(entry->d_name), suffix = strlen(".conf");

	return entry->d_name[0] != '.' && len > suffix &&
	       strcmp(entry->d_name + len - suffix, ".conf") == 0;
}

/* Bytes, not the locale's order: the same on every host. */
static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

/* The drop-ins of one directory, sorted. A directory that is not there has none. */
static int list_dropins(const char *dir, struct dirent ***ret, struct config_report *report)
{
	_cleanup_free_ char *path = NULL;
	int n;

	*ret = NULL;
	if (asprintf(&path, "%s/" DROPINS_DIR, dir) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	n = scandir(path, ret, is_dropin_name, by_name);
	if (n >= 0)
		return n;
	*ret = NULL;
	if (errno == ENOMEM)
		return -ENOMEM;
	if (errno != ENOENT)
		config_report_add(report, path, 0, "Cannot read: %s", strerror(errno));
	return 0;
}

static void free_dropins(struct dirent **list, int count)
{
	for (int i = 0; i < count; i++)
		free(list[i]);
	free(list);
}

static int apply_in(const char *dir, const char *subdir, const char *name, struct config *config,
		    struct config_report *report)
{
	_cleanup_free_ char *path = NULL;

	if (asprintf(&path, "%s/%s%s", dir, subdir, name) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	return config_file_apply(path, config, report);
}

/* The administrator's file, or else the vendor's; neither need be there. */
static int apply_main(const char *vendor, const char *admin, struct config *config,
		      struct config_report *report)
{
	const char *dirs[] = {admin, vendor};

	for (size_t i = 0; i < ELEMENTSOF(dirs); i++) {
		_cleanup_free_ char *path = NULL;

		if (asprintf(&path, "%s/" FILE_NAME, dirs[i]) < 0) {
			path = NULL;
			return -ENOMEM;
		}
		if (access(path, F_OK) == 0 || errno != ENOENT)
			return config_file_apply(path, config, report);
	}
	return 0;
}

/* Both directories' drop-ins merged by name; of two with one name the administrator's counts. */
static int apply_dropins(const char *vendor, const char *admin, struct config *config,
			 struct config_report *report)
{
	struct dirent **vendors = NULL, **admins = NULL;
	int n_vendor = list_dropins(vendor, &vendors, report);
	int n_admin = list_dropins(admin, &admins, report);
	int r = MIN(n_vendor, n_admin), v = 0, a = 0;

	if (r >= 0 && n_vendor + n_admin > DROPINS_MAX) {
		config_report_add(report, NULL, 0, "There are more than %d drop-in files",
				  DROPINS_MAX);
		r = -EINVAL;
	}
	while (r >= 0 && (v < n_vendor || a < n_admin)) {
		int order = v == n_vendor  ? 1
			    : a == n_admin ? -1
					   : strcmp(vendors[v]->d_name, admins[a]->d_name);

		if (order < 0)
			r = apply_in(vendor, DROPINS_DIR "/", vendors[v]->d_name, config, report);
		else
			r = apply_in(admin, DROPINS_DIR "/", admins[a]->d_name, config, report);
		v += order <= 0;
		a += order >= 0;
	}
	free_dropins(vendors, n_vendor);
	free_dropins(admins, n_admin);
	return r == -EINVAL ? 0 : r;
}

static int apply_sources(const struct config_sources *sources, struct config *config,
			 struct config_report *report)
{
	const char *vendor = sources->vendor_dir ? sources->vendor_dir : CONFIG_VENDOR_DIR;
	const char *admin = sources->admin_dir ? sources->admin_dir : CONFIG_ADMIN_DIR;
	int r;

	if (sources->file)
		return config_file_apply(sources->file, config, report);
	r = apply_main(vendor, admin, config, report);
	return r < 0 ? r : apply_dropins(vendor, admin, config, report);
}

int config_load(const struct config_sources *sources, struct config *ret,
		struct config_report *report)
{
	size_t before = report->count + report->omitted;
	struct config config;
	int r = config_defaults(&config);

	if (r < 0)
		return r;
	r = apply_sources(sources, &config, report);
	if (r >= 0 && report->count + report->omitted > before)
		r = -EINVAL;
	if (r < 0) {
		config_fini(&config);
		return r;
	}
	*ret = config;
	return 0;
}

int config_set(struct config *config, const char *name, const char *text,
	       struct config_report *report)
{
	const char *point = strchr(name, '.');
	_cleanup_free_ char *section = point ? strndup(name, (size_t)(point - name)) : NULL;
	const struct config_option *option;
	char why[CONFIG_WHY_SIZE];
	int r;

	if (point && !section)
		return -ENOMEM;
	option = config_schema_find(section, point ? point + 1 : name);
	if (!option) {
		config_report_add(report, NULL, 0, "Unknown configuration key '%.64s'", name);
		return -ENOENT;
	}
	r = config_option_set(option, text, config, why);
	if (r == -EINVAL)
		config_report_add(report, NULL, 0, "%s", why);
	return r;
}

int config_check(const struct config *config, struct config_report *report)
{
	size_t before = report->count + report->omitted;

	if (config->min_memory_mb > config->default_memory_mb)
		config_report_add(report, NULL, 0, "min_memory_mb is over default_memory_mb");
	if (config->max_memory_mb > 0 && config->max_memory_mb < config->default_memory_mb)
		config_report_add(report, NULL, 0, "max_memory_mb is under default_memory_mb");
	if (config->max_timeout_seconds < config->default_timeout_seconds)
		config_report_add(report, NULL, 0,
				  "max_timeout_seconds is under default_timeout_seconds");
	if (config->max_session_seconds < config->session_idle_seconds)
		config_report_add(report, NULL, 0,
				  "max_session_seconds is under session_idle_seconds");
	/* A run with the longest code and input must fit into a message; input may come as base64,
	 * 4 bytes for 3. */
	if (CONFIG_MESSAGE_BYTES < config->code_max_bytes + config->stdin_max_bytes / 3 * 4)
		config_report_add(
			report, NULL, 0,
			"code_max_bytes and stdin_max_bytes in base64 together are over a "
			"message, which is 16 MiB at most");
	if (config->buffered_bytes_per_uid < CONFIG_MESSAGE_BYTES)
		config_report_add(report, NULL, 0,
				  "buffered_bytes_per_uid is under a message, 16 MiB");
	return report->count + report->omitted > before ? -EINVAL : 0;
}

int config_dump(const struct config *config, char **ret)
{
	const char *section = "";
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);
	bool is_whole = out;

	for (const struct config_option *option = config_schema; is_whole && option->key;
	     option++) {
		_cleanup_free_ char *value = config_option_format(option, config);

		if (strcmp(option->section, section) != 0)
			fprintf(out, "%s[%s]\n", *section ? "\n" : "", option->section);
		section = option->section;
		is_whole = value &&
			   fprintf(out, "%s =%s%s\n", option->key, *value ? " " : "", value) >= 0;
	}
	if (out && fclose(out) != 0)
		is_whole = false;
	if (!is_whole) {
		free(text);
		return -ENOMEM;
	}
	*ret = text;
	return 0;
}
