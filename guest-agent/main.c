/* SPDX-License-Identifier: Apache-2.0 */
/* The guest agent's start: as PID 1 of a VM, or as an ordinary process for tests. */
#include "base/log.h"
#include "base/util.h"
#include "guest-agent/agent.h"
#include "guest-agent/boot.h"
#include "guest-agent/drop.h"
#include "guest-agent/identity.h"
#include "guest-agent/zram.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define GUEST_HOME    "/home/user"
#define GUEST_RUNNERS "/usr/lib/execsandbox/runners"
#define GUEST_UID     1000

/* Descriptors 0 to 2 must not become something else's: the console may be missing. */
static void ensure_standard_descriptors(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR);
	} while (fd >= 0 && fd <= STDERR_FILENO);
	close_fd(fd);
}

static void report(int r, const char *what)
{
	if (r < 0)
		log_warning("boot", "Cannot set up %s: %s", what, strerror(-r));
}

/* A VM that lacks something of this is still of use; what it lacks stands on its console. */
static void boot(const struct agent_config *config)
{
	const char *what = NULL;
	uint64_t mem_total;

	report(boot_mount_kernel(&what), what);
	mem_total = boot_mem_total();
	report(boot_mount_user(config->home, config->uid, mem_total, &what), what);
	report(boot_settings(mem_total, &what), what);
	report(zram_setup(mem_total, &what), what);
	report(identity_prepare(), "/run");
	report(boot_loopback(), "lo");
	report(boot_protect(&what), what);
}

static int run(const struct agent_config *config)
{
	struct agent *agent;
	int r = agent_create(&agent, config);

	if (r < 0) {
		log_error(NULL, "Cannot start the agent: %s", strerror(-r));
		return EXIT_FAILURE;
	}
	agent_run(agent);
	agent_destroy(agent);
	return EXIT_SUCCESS;
}

static int run_as_init(void)
{
	const struct agent_config config = {
		.is_init = true,
		.fd = -1,
		.home = GUEST_HOME,
		.runners = GUEST_RUNNERS,
		.drop_path = DROP_CACHES_PATH,
		.cgroup_root = BOOT_CGROUP_ROOT,
		.change_user = true,
		.uid = GUEST_UID,
	};

	/* What is said goes to the serial line, a slow one. */
	log_set_level(LOG_NOTICE);
	boot(&config);
	return run(&config);
}

static int usage(const char *program)
{
	fprintf(stderr,
		"usage: %s --no-init (--socket PATH | --fd N) --root DIR [--runners DIR]\n"
		"       [--cgroup DIR] [--uid N] [--debug]\n"
		"Serves the guest link as an ordinary process, programs in DIR/home/user.\n",
		program);
	return 2;
}

/* DIR/home/user, made when it is not there; it belongs to whom programs run as. */
static int make_home(const char *root, const struct agent_config *config, char **ret)
{
	_cleanup_free_ char *parent = NULL, *home = NULL;

	if (asprintf(&parent, "%s/home", root) < 0 || asprintf(&home, "%s/user", parent) < 0)
		return -ENOMEM;
	if ((mkdir(parent, 0755) < 0 && errno != EEXIST) ||
	    (mkdir(home, 0755) < 0 && errno != EEXIST))
		return -errno;
	if (config->change_user && chown(home, config->uid, config->uid) < 0)
		return -errno;
	*ret = TAKE_PTR(home);
	return 0;
}

static bool parse_number(const char *text, unsigned max, unsigned *ret)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	if (end == text || *end || value > max)
		return false;
	*ret = (unsigned)value;
	return true;
}

static bool parse_options(int argc, char **argv, struct agent_config *config, const char **ret_root)
{
	static const struct option options[] = {
		{"no-init", no_argument, NULL, 'n'},
		{"socket", required_argument, NULL, 's'},
		{"fd", required_argument, NULL, 'f'},
		{"root", required_argument, NULL, 'r'},
		{"runners", required_argument, NULL, 'R'},
		{"cgroup", required_argument, NULL, 'c'},
		{"uid", required_argument, NULL, 'u'},
		{"debug", no_argument, NULL, 'd'},
		{NULL, 0, NULL, 0},
	};
	unsigned number;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 's')
			config->socket_path = optarg;
		else if (option == 'f' && parse_number(optarg, INT32_MAX, &number))
			config->fd = (int)number;
		else if (option == 'r')
			*ret_root = optarg;
		else if (option == 'R')
			config->runners = optarg;
		else if (option == 'c')
			config->cgroup_root = optarg;
		else if (option == 'u' && parse_number(optarg, INT32_MAX, &number))
			config->uid = number, config->change_user = true;
		else if (option == 'd')
			log_set_level(LOG_DEBUG);
		else if (option != 'n')
			return false;
	}
	return optind == argc && *ret_root && (config->fd >= 0) != (config->socket_path != NULL);
}

static int run_as_process(int argc, char **argv)
{
	struct agent_config config = {.fd = -1, .runners = GUEST_RUNNERS};
	_cleanup_free_ char *home = NULL;
	const char *root = NULL;
	int r;

	if (!parse_options(argc, argv, &config, &root))
		return usage(argv[0]);
	r = make_home(root, &config, &home);
	if (r < 0) {
		log_error(NULL, "Cannot make '%s/home/user': %s", root, strerror(-r));
		return EXIT_FAILURE;
	}
	config.home = home;
	return run(&config);
}

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	ensure_standard_descriptors();
	/* The kernel hands options it does not know to PID 1: they are not ours. The first argument
	 * tells a container's PID 1 from a VM's. */
	if (getpid() == 1 && !(argc > 1 && strcmp(argv[1], "--no-init") == 0))
		return run_as_init();
	return run_as_process(argc, argv);
}
