/* SPDX-License-Identifier: Apache-2.0 */
/* execsandbox-launcher: options, its socket; then the server. */
#include "base/log.h"
#include "daemon/launcher/message.h"
#include "daemon/launcher/server.h"
#include "daemon/launcher/start.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define EXIT_USAGE 64
#define NAME       LAUNCHER_PROGRAM
/* A daemon that crashed is back in seconds; one that is not after this has nobody who restarts it.
 */
#define ORPHAN_SECONDS 60.
#define LISTEN_FD      3 /* SD_LISTEN_FDS_START */
#define BACKLOG        8
/* More VMs than the daemon has descriptors for: 12 of the 524,288 that its unit allows. */
#define CHILDREN_MAX 65536

struct options {
	const char *runtime_dir;
	int runtime_fd, listen_fd, daemon_fd; /* of a daemon that started us */
	double orphan_seconds;
};

static const char usage[] =
	"Usage: " NAME " --runtime-dir DIR [OPTION]...\n"
	"Parent of execsandboxd's virtual machines, which outlives it. Its unit starts it, or the\n"
	"daemon does.\n\n"
	"  --runtime-dir DIR      the daemon's runtime_dir\n"
	"  --orphan-seconds S     without a daemon for so long, end all machines (60)\n"
	"  --log-level LEVEL      error, warning, notice, info or debug (info)\n"
	"  --runtime-fd N, --listen-fd N, --daemon-fd N\n"
	"                         that directory, the socket, and a daemon that is connected\n"
	"  --help, --version\n";

static const struct option long_options[] = {
	{"runtime-dir", required_argument, NULL, 'R'},
	{"runtime-fd", required_argument, NULL, 'r'},
	{"listen-fd", required_argument, NULL, 'l'},
	{"daemon-fd", required_argument, NULL, 'd'},
	{"orphan-seconds", required_argument, NULL, 'o'},
	{"log-level", required_argument, NULL, 'L'},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},
	{NULL, 0, NULL, 0},
};

/* A descriptor that was inherited. */
static bool take_number(const char *text, int *ret)
{
	char *end;
	long number = strtol(text, &end, 10);

	if (end == text || *end || number < 0 || number > 1024)
		return false;
	*ret = (int)number;
	return fcntl(*ret, F_SETFD, FD_CLOEXEC) == 0;
}

static bool take_seconds(const char *text, double *ret)
{
	char *end;

	*ret = strtod(text, &end);
	return end != text && !*end && isfinite(*ret) && *ret > 0;
}

static bool take_level(const char *name)
{
	int level = log_level_from_name(name);

	if (level >= 0)
		log_set_level(level);
	return level >= 0;
}

static bool take_option(int option, struct options *options)
{
	switch (option) {
	case 'R':
		options->runtime_dir = optarg;
		return true;
	case 'r':
		return take_number(optarg, &options->runtime_fd);
	case 'l':
		return take_number(optarg, &options->listen_fd);
	case 'd':
		return take_number(optarg, &options->daemon_fd);
	case 'o':
		return take_seconds(optarg, &options->orphan_seconds);
	case 'L':
		return take_level(optarg);
	default:
		return false;
	}
}

/* 0 to go on, otherwise the exit status plus one. */
static int parse_options(int argc, char **argv, struct options *options)
{
	int option;

	while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		if (option == 'h' || option == 'V') {
			fputs(option == 'h' ? usage : NAME " " EXECSANDBOX_VERSION "\n", stdout);
			return EXIT_SUCCESS + 1;
		}
		if (take_option(option, options))
			continue;
		fputs(NAME ": see --help\n", stderr);
		return EXIT_USAGE + 1;
	}
	if (optind == argc && (options->runtime_dir || options->runtime_fd >= 0))
		return 0;
	fputs(NAME ": needs --runtime-dir; see --help\n", stderr);
	return EXIT_USAGE + 1;
}

/* The service manager's socket (sd_listen_fds(3)): one, and for us. */
static bool is_activated(void)
{
	const char *pid = getenv("LISTEN_PID"), *n = getenv("LISTEN_FDS");

	return pid && n && strtol(pid, NULL, 10) == getpid() && strtol(n, NULL, 10) == 1;
}

static int open_runtime(struct options *options)
{
	if (options->runtime_fd < 0)
		options->runtime_fd =
			open(options->runtime_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return options->runtime_fd < 0 ? -errno : 0;
}

static int open_socket(struct options *options)
{
	if (options->listen_fd >= 0)
		return 0;
	if (is_activated()) {
		options->listen_fd = LISTEN_FD;
		return fcntl(LISTEN_FD, F_SETFD, FD_CLOEXEC) < 0 ? -errno : 0;
	}
	options->listen_fd = unix_listen_packets_at(options->runtime_fd, LAUNCHER_SOCKET, BACKLOG);
	return MIN(options->listen_fd, 0);
}

/* Each VM has a pipe, two pidfds and, on their way, the descriptors of its QEMU. */
static void raise_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
}

static void on_signal(struct ev_loop *ev UNUSED, ev_signal *watcher, int events UNUSED)
{
	server_end(watcher->data);
}

/* The socket's name in the runtime directory, while nobody has made another of that name. */
static bool find_socket(const struct options *options, struct stat *ret)
{
	return fstatat(options->runtime_fd, LAUNCHER_SOCKET, ret, AT_SYMLINK_NOFOLLOW) == 0;
}

/* A daemon that lives goes on to use the socket, for the next launcher: only the last one's
 * farewell says that nobody does. What is left otherwise the next daemon replaces. */
static void remove_socket(const struct options *options, const struct stat *made)
{
	struct stat now;

	if (find_socket(options, &now) && now.st_dev == made->st_dev && now.st_ino == made->st_ino)
		(void)unlinkat(options->runtime_fd, LAUNCHER_SOCKET, 0);
}

static int serve(const struct options *options)
{
	struct server_config config = {.runtime_fd = options->runtime_fd,
				       .listen_fd = options->listen_fd,
				       .daemon_fd_take = options->daemon_fd,
				       .is_by_daemon = options->daemon_fd >= 0,
				       .orphan_seconds = options->orphan_seconds,
				       .children_max = CHILDREN_MAX};
	static const int numbers[] = {SIGTERM, SIGINT};
	ev_signal signals[ELEMENTSOF(numbers)];
	struct server *server = NULL;
	struct stat made = {0};
	bool is_ours = config.is_by_daemon && find_socket(options, &made);
	int r = loop_create(&config.loop);

	if (r < 0)
		return r;
	r = server_create(&config, &server);
	if (r == 0) {
		for (size_t i = 0; i < ELEMENTSOF(numbers); i++) {
			ev_signal_init(&signals[i], on_signal, numbers[i]);
			signals[i].data = server;
			ev_signal_start(loop_ev(config.loop), &signals[i]);
		}
		loop_run(config.loop);
		is_ours = is_ours && server_is_bidden(server);
	}
	server_destroy(server);
	loop_destroy(config.loop);
	if (is_ours)
		remove_socket(options, &made);
	return r;
}

int main(int argc, char **argv)
{
	struct options options = {.runtime_fd = -1,
				  .listen_fd = -1,
				  .daemon_fd = -1,
				  .orphan_seconds = ORPHAN_SECONDS};
	int r = parse_options(argc, argv, &options);

	if (r != 0)
		return r - 1;
	/* Executed by descriptor we would be called like its number. */
	prctl(PR_SET_NAME, NAME);
	/* bubblewrap needs no set-uid bit. */
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	signal(SIGPIPE, SIG_IGN);
	umask(0077);
	raise_descriptors();
	r = open_runtime(&options);
	if (r == 0)
		r = open_socket(&options);
	if (r == 0)
		r = serve(&options);
	if (r < 0)
		log_error(NULL, "Launcher: cannot serve: %s", strerror(-r));
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
