/* SPDX-License-Identifier: Apache-2.0 */
/* execsandboxd: options, configuration, privileges; then the daemon. */
#include "base/log.h"
#include "daemon/daemon.h"
#include "daemon/log_sink.h"
#include "daemon/notify.h"
#include "daemon/privileges.h"
#include "daemon/setup.h"

#include <errno.h>
#include <getopt.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>

/* EX_USAGE and EX_CONFIG of sysexits.h, which systemd shows by name. */
#define EXIT_USAGE  64
#define EXIT_CONFIG 78

#define OVERRIDES_MAX 64

/* Between what there is much of (chunks, requests) and what there is little of. */
#define MMAP_THRESHOLD (512 * 1024)

struct options {
	const char *config_file;
	bool is_check;
	const char *overrides[OVERRIDES_MAX][2]; /* key, value */
	size_t override_count;
};

static const char usage[] =
	"Usage: execsandboxd [OPTION]...\n"
	"Run untrusted Python, JavaScript and shell code in QEMU microVMs, for clients on a Unix\n"
	"socket.\n\n"
	"  --config FILE        read this file instead of /etc/execsandbox/execsandboxd.conf\n"
	"  --check-config       check the configuration, print it and exit\n"
	"  --set KEY=VALUE      override one key of the configuration; may be repeated\n"
	"  --socket PATH        --set socket=PATH\n"
	"  --runtime-dir DIR    --set runtime_dir=DIR\n"
	"  --state-dir DIR      --set state_dir=DIR\n"
	"  --images-dir DIR     --set images_dir=DIR\n"
	"  --help, --version\n\n"
	"See execsandboxd(8) and execsandboxd.conf(5).\n";

static const struct option long_options[] = {
	{"config", required_argument, NULL, 'c'},      {"check-config", no_argument, NULL, 'k'},
	{"set", required_argument, NULL, 's'},         {"socket", required_argument, NULL, 'S'},
	{"runtime-dir", required_argument, NULL, 'R'}, {"state-dir", required_argument, NULL, 'T'},
	{"images-dir", required_argument, NULL, 'I'},  {"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},           {NULL, 0, NULL, 0},
};

static const char *override_key(int option)
{
	switch (option) {
	case 'S':
		return "socket";
	case 'R':
		return "runtime_dir";
	case 'T':
		return "state_dir";
	case 'I':
		return "images_dir";
	default:
		return NULL;
	}
}

/* Paths of the command line are relative to where it was typed; the configuration knows only
 * absolute ones. */
static const char *absolute(const char *path)
{
	_cleanup_free_ char *here = *path == '/' ? NULL : getcwd(NULL, 0);
	char *joined;

	/* Lives as long as the options that point at it. */
	return here && asprintf(&joined, "%s/%s", here, path) > 0 ? joined : path;
}

static bool add_override(struct options *options, const char *key, const char *value)
{
	if (options->override_count == OVERRIDES_MAX) {
		fprintf(stderr, "execsandboxd: more than %d overrides; use a file\n",
			OVERRIDES_MAX);
		return false;
	}
	options->overrides[options->override_count][0] = key;
	options->overrides[options->override_count][1] = value;
	options->override_count++;
	return true;
}

/* --set KEY=VALUE, split in place. */
static bool add_setting(struct options *options, char *text)
{
	char *equals = strchr(text, '=');

	if (!equals) {
		fprintf(stderr, "execsandboxd: --set takes KEY=VALUE, not '%s'\n", text);
		return false;
	}
	*equals = '\0';
	return add_override(options, text, equals + 1);
}

/* 0 to go on, otherwise the process's exit status plus one. */
static int parse_options(int argc, char **argv, struct options *options)
{
	int option;

	while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		bool is_good = true;

		if (option == 'h' || option == 'V') {
			fputs(option == 'h' ? usage : "execsandboxd " EXECSANDBOX_VERSION "\n",
			      stdout);
			return EXIT_SUCCESS + 1;
		}
		if (option == 'c')
			options->config_file = absolute(optarg);
		else if (option == 'k')
			options->is_check = true;
		else if (option == 's')
			is_good = add_setting(options, optarg);
		else if (override_key(option))
			is_good = add_override(options, override_key(option), absolute(optarg));
		else
			is_good = false;
		if (!is_good)
			return EXIT_USAGE + 1;
	}
	if (optind == argc)
		return 0;
	fprintf(stderr, "execsandboxd: unexpected argument '%s'; see --help\n", argv[optind]);
	return EXIT_USAGE + 1;
}

/* Files, then the command line, then the whole: at the start, and at each reload. */
static int load_config(void *user, struct config *ret, struct config_report *report)
{
	const struct options *options = user;
	struct config_sources sources = {.file = options->config_file};
	struct config config;
	int r = config_load(&sources, &config, report);

	if (r < 0)
		return r;
	for (size_t i = 0; r == 0 && i < options->override_count; i++)
		r = config_set(&config, options->overrides[i][0], options->overrides[i][1], report);
	if (r == 0)
		r = config_check(&config, report);
	if (r < 0) {
		config_fini(&config);
		return r;
	}
	*ret = config;
	return 0;
}

static int load_first_config(struct options *options, struct config *ret)
{
	struct config_report report = {.count = 0};
	int r = load_config(options, ret, &report);

	config_report_print(&report, stderr);
	config_report_clear(&report);
	return r;
}

static int print_config(const struct config *config)
{
	_cleanup_free_ char *text = NULL;
	int r = config_dump(config, &text);

	if (r == 0)
		fputs(text, stdout);
	return r;
}

static int serve(struct config *config, struct options *options)
{
	int listen_fds[NOTIFY_LISTENERS_MAX];
	int listen_count = notify_take_listeners(listen_fds);
	bool has_manager = listen_count > 0;
	struct setup setup = SETUP_NONE;
	struct daemon daemon;
	int r;

	if (listen_count < 0) {
		log_error(NULL, "The service manager passed unusable sockets: %s",
			  strerror(-listen_count));
		return listen_count;
	}
	r = setup_prepare(config, !has_manager, &setup);
	if (r == 0 && !has_manager) {
		listen_fds[0] = setup.listen_fd;
		listen_count = 1;
	}
	if (r == 0) {
		r = privileges_drop(config->user);
		if (r < 0)
			log_error(NULL, "Cannot change to user '%s': %s", config->user,
				  strerror(-r));
	}
	if (r == 0) {
		struct daemon_fds fds = {
			.listen_fds = listen_fds,
			.listen_count = (size_t)listen_count,
			.runtime_fd = setup.runtime_fd,
			.vms_fd = setup.vms_fd,
			.results_fd = setup.results_fd,
			.launcher_listen_fd_take = TAKE_FD(setup.launcher_listen_fd),
			.launcher_program_fd_take = TAKE_FD(setup.launcher_program_fd),
			.has_manager = has_manager,
			.images_fd = setup.images_fd,
			.templates_fd = setup.templates_fd,
			.admin_gid = setup.admin_gid,
			.config_source = {load_config, options}};

		r = daemon_start(&daemon, config, &fds);
		/* As if killed: whatever is taken down here the next daemon would miss. */
		if (r == 0 && daemon_run(&daemon))
			_exit(DAEMON_EXIT_HANDOVER);
		daemon_fini(&daemon);
	}
	setup_finish(config, &setup);
	return r;
}

int main(int argc, char **argv)
{
	_cleanup_(config_fini) struct config config = {.socket = NULL};
	static struct options options; /* as long as the process: so live the paths it joined */
	int r = parse_options(argc, argv, &options);

	if (r != 0)
		return r - 1;
	/* Outputs and replies of megabytes grow in place and go back to the kernel: left alone,
	 * malloc takes them into its heap from the second on, copies them to grow and keeps them.
	 */
	mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD);
	if (load_first_config(&options, &config) < 0)
		return EXIT_CONFIG;
	if (options.is_check)
		return print_config(&config) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
	log_set_level(config.log_level);
	if (log_sink_choose(config.log_target) < 0)
		log_warning(NULL, "There is no journal: logging to standard error");
	return serve(&config, &options) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
