/* SPDX-License-Identifier: Apache-2.0 */
/* execsandboxctl: finds the verb, parses its command line, runs its handler. */
#include "ctl/ctl.h"
#include "ctl/help.h"
#include "ctl/output.h"

#include "conf/config.h"

#include <fcntl.h>
#include <locale.h>
#include <string.h>

static int refuse(const struct verb *verb, const char *why)
{
	output_error("%s%s%s", verb ? verb->name : "", verb ? ": " : "", why);
	output_hint("execsandboxctl help%s%s", verb ? " " : "", verb ? verb->name : "");
	return verb ? verb->usage_status : EXIT_USAGE;
}

/* The option, else the environment, else the daemon's configuration, else its default. */
static char *find_socket(const struct arguments *global, const struct arguments *arguments)
{
	struct config config = {0};
	struct config_report report = {0};
	const char *path = arguments->common[COMMON_SOCKET].text;
	char *found;

	path = path ?: global->common[COMMON_SOCKET].text;
	path = path ?: getenv("EXECSANDBOX_SOCKET");
	if (path && *path)
		return strdup(path);
	/* Problems of the daemon's configuration are its own and doctor's to report. */
	if (config_load(&(struct config_sources){0}, &config, &report) < 0 &&
	    config_defaults(&config) < 0)
		return NULL;
	found = strdup(config.socket);
	config_fini(&config);
	config_report_clear(&report);
	return found;
}

static int run_verb(const struct verb *verb, const struct arguments *global,
		    const struct arguments *arguments)
{
	_cleanup_free_ char *path = find_socket(global, arguments);
	bool is_json = global->common[COMMON_JSON].is_set || arguments->common[COMMON_JSON].is_set;
	struct ctl ctl;
	int status;

	if (!path || ctl_init(&ctl, path, is_json) < 0) {
		output_error("No memory left");
		return verb->usage_status;
	}
	status = verb->handler(&ctl, arguments);
	ctl_fini(&ctl);
	if (fflush(stdout) != 0 && status == EXIT_OK)
		status = EXIT_ERROR;
	return status;
}

/* argv[0] is the verb's last word. */
static int start_verb(const struct verb *verb, const struct arguments *global, int argc,
		      char **argv)
{
	struct arguments arguments;
	char why[OPTIONS_WHY_SIZE];
	int r = options_parse(verb->options, argc, argv, false, &arguments, NULL, why);
	int status = EXIT_OK;

	if (r < 0)
		status = refuse(verb, why);
	else if (arguments.common[COMMON_HELP].is_set)
		help_print_verb(stdout, verb);
	else if (arguments.operand_count < verb->operands_min)
		status = refuse(verb, "An operand is missing");
	else if (arguments.operand_count > verb->operands_max)
		status = refuse(verb, verb->takes_rest ? "Too many operands; put the program's "
							 "arguments behind '--'"
						       : "Too many operands");
	else if (arguments.rest_count > 0 && !verb->takes_rest)
		status = refuse(verb, "Nothing may stand behind '--'");
	else
		status = run_verb(verb, global, &arguments);
	arguments_clear(&arguments);
	return status;
}

static int start(int argc, char **argv, struct arguments *global)
{
	const struct verb *verb;
	char why[OPTIONS_WHY_SIZE];
	int words, used = 0;
	bool is_group;
	int r = options_parse(NULL, argc, argv, true, global, &words, why);

	if (r < 0)
		return refuse(NULL, why);
	if (words == argc && !global->common[COMMON_HELP].is_set) {
		help_print_all(stderr);
		return EXIT_USAGE;
	}
	if (words == argc) {
		help_print_all(stdout);
		return EXIT_OK;
	}
	verb = verb_find(argv + words, argc - words, &used, &is_group);
	if (!verb) {
		snprintf(why, sizeof(why), "%s '%.64s'",
			 is_group ? "This verb needs a second word:" : "There is no verb",
			 argv[words]);
		return refuse(NULL, why);
	}
	if (global->common[COMMON_HELP].is_set) {
		help_print_verb(stdout, verb);
		return EXIT_OK;
	}
	return start_verb(verb, global, argc - words - used + 1, argv + words + used - 1);
}

/* A standard descriptor that is closed would be given to the socket, and printed to. */
static void fill_standard_fds(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR);
	} while (fd >= 0 && fd <= STDERR_FILENO);
	close_fd(fd);
}

int main(int argc, char **argv)
{
	struct arguments global;
	int status;

	fill_standard_fds();
	/* libsmartcols draws and measures text in the caller's character set. */
	setlocale(LC_CTYPE, "");
	signal(SIGPIPE, SIG_IGN);
	status = start(argc, argv, &global);
	arguments_clear(&global);
	return status;
}
