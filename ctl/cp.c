/* SPDX-License-Identifier: Apache-2.0 */
/* execsandboxctl cp: files and directories into a session and out of it. */
#include "ctl/beneath.h"
#include "ctl/copy.h"
#include "ctl/copy_path.h"
#include "ctl/output.h"
#include "protocol/utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

enum { CP_RECURSIVE };

static const struct verb_option options[] = {
	[CP_RECURSIVE] = {"recursive", 'r', OPTION_FLAG, NULL, 0, 0,
			  "Copy a directory with all that is in it"},
	{.name = NULL},
};

static bool is_stream(const char *path)
{
	return strcmp(path, "-") == 0;
}

static bool ends_with_slash(const char *path)
{
	size_t len = strlen(path);

	return len > 0 && path[len - 1] == '/';
}

static int local_error(const char *what, const char *path, int error)
{
	output_error("%s '%s': %s", what, path, strerror(-error));
	return EXIT_ERROR;
}

static int out_of_memory(void)
{
	output_error("No memory left");
	return EXIT_ERROR;
}

static int report(const struct ctl *ctl, const struct copy *copy)
{
	const struct plan *plan = copy->plan;
	json_auto_t *result = NULL;
	char bytes[BYTES_TEXT_SIZE];

	if (plan->left_out > 0)
		output_error("Left out, links and special files: %zu, the first is '%s'",
			     plan->left_out, plan->left_out_example);
	if (!ctl->is_json) {
		output_note("%zu file%s, %s in %.1f s", copy->progress.files,
			    copy->progress.files == 1 ? "" : "s",
			    format_bytes((double)copy->progress.bytes, bytes),
			    copy->progress.seconds);
		return EXIT_OK;
	}
	result =
		json_pack("{s:I, s:I, s:I, s:I}", "files", (json_int_t)plan->files, "directories",
			  (json_int_t)(plan->len - plan->files), "bytes",
			  (json_int_t)copy->progress.bytes, "left_out", (json_int_t)plan->left_out);
	return ctl_printed(output_json(result, false));
}

/* --- Into a session. --- */

static int no_directory(const char *path)
{
	output_error("'%s' is no directory", path);
	return EXIT_ERROR;
}

/* Where in the session a copy of `source` goes to. */
static int find_remote(struct ctl *ctl, const struct place_name *to, const char *source,
		       bool is_directory, char **ret_path, bool *ret_is_there)
{
	_cleanup_free_ char *base = is_stream(source) ? strdup("") : path_base(source);
	enum remote_type type;
	int status = remote_look(ctl, to->session, to->path, &type);

	if (status != EXIT_OK)
		return status;
	if (type != REMOTE_DIRECTORY && !is_directory && ends_with_slash(to->path))
		return no_directory(to->path);
	if (type == REMOTE_DIRECTORY && !is_directory && base && !*base) {
		output_error("'%s:%s' is a directory: name the file", to->session, to->path);
		return EXIT_ERROR;
	}
	*ret_is_there = type == REMOTE_DIRECTORY && base && !*base;
	*ret_path = type == REMOTE_DIRECTORY && base ? path_join(to->path, base) : strdup(to->path);
	return base && *ret_path ? EXIT_OK : out_of_memory();
}

static int copy_into(struct ctl *ctl, const char *source, int fd, const struct place_name *to,
		     const struct plan *plan)
{
	struct copy copy = {.ctl = ctl, .session = to->session, .local_name = source, .plan = plan};
	_cleanup_free_ char *path = NULL;
	bool is_there;
	int status = find_remote(ctl, to, source, plan->entries[0].is_directory, &path, &is_there);

	if (status == EXIT_OK)
		status = copy_up(&copy, fd, path, is_there);
	return status == EXIT_OK ? report(ctl, &copy) : status;
}

/* The session's word comes last: a pipe may be waited for without it. */
static int into(struct ctl *ctl, const char *source, const struct place_name *to, bool is_recursive)
{
	_cleanup_close_ int fd = is_stream(source) ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0)
						   : open(source, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	struct plan plan = {0};
	struct stat stat;
	int status;

	if (fd < 0 || fstat(fd, &stat) < 0)
		return local_error("Cannot open", source, -errno);
	if (S_ISDIR(stat.st_mode) && !is_recursive) {
		output_error("'%s' is a directory", source);
		output_hint("-r copies it with all that is in it");
		return EXIT_ERROR;
	}
	status = plan_local(source, fd, &plan);
	if (status == EXIT_OK && is_stream(source))
		plan.entries[0].mode = MODE_UNKNOWN;
	if (status == EXIT_OK)
		status = copy_into(ctl, source, fd, to, &plan);
	plan_fini(&plan);
	return status;
}

/* --- Out of a session. --- */

/* As a name that need not be there, in a directory that must. */
static int land_beside(const char *target, struct landing *ret)
{
	_cleanup_free_ char *folder = strdup(target);
	char *name = path_base(target);
	size_t len = strlen(target);

	if (!folder || !name) {
		free(name);
		return -ENOMEM;
	}
	while (len > 0 && folder[len - 1] == '/')
		len--;
	while (len > 0 && folder[len - 1] != '/')
		len--;
	folder[len] = '\0';
	ret->name = name;
	ret->dir_fd = *name ? open(*folder ? folder : ".", O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
	if (!*name)
		return -ENOENT;
	return ret->dir_fd < 0 ? -errno : 0;
}

static int land(const char *target, const char *base, bool is_directory, struct landing *ret)
{
	struct stat stat_;
	int r = stat(target, &stat_) < 0 ? -errno : 0;

	if (r == -ENOENT)
		return ends_with_slash(target) && !is_directory ? -ENOTDIR
								: land_beside(target, ret);
	if (r < 0)
		return r;
	if (S_ISDIR(stat_.st_mode)) {
		ret->dir_fd = open(target, O_PATH | O_DIRECTORY | O_CLOEXEC);
		ret->name = strdup(base);
		return ret->dir_fd < 0 ? -errno : ret->name ? 0 : -ENOMEM;
	}
	if (S_ISREG(stat_.st_mode) || is_directory)
		return land_beside(target, ret);
	/* A device or a pipe is written to and not replaced. */
	ret->stream_fd = open(target, O_WRONLY | O_CLOEXEC | O_NOCTTY);
	return ret->stream_fd < 0 ? -errno : 0;
}

static int copy_out(struct ctl *ctl, const struct place_name *from, const char *target,
		    const struct plan *plan)
{
	struct copy copy = {
		.ctl = ctl, .session = from->session, .local_name = target, .plan = plan};
	struct landing landing = {.dir_fd = -1, .stream_fd = -1};
	_cleanup_free_ char *base = path_base(from->path);
	int status = EXIT_OK, r = base ? 0 : -ENOMEM;

	if (is_stream(target))
		landing.stream_fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0);
	else if (r == 0)
		r = land(target, base, plan->entries[0].is_directory, &landing);
	if (r < 0)
		status = local_error("Cannot write to", target, r);
	if (status == EXIT_OK)
		status = copy_down(&copy, from->path, &landing);
	close_fd(landing.dir_fd);
	close_fd(landing.stream_fd);
	free(landing.name);
	return status == EXIT_OK ? report(ctl, &copy) : status;
}

static int out_of(struct ctl *ctl, const struct place_name *from, const char *target,
		  bool is_recursive)
{
	struct plan plan = {0};
	int status = plan_remote(ctl, from->session, from->path, is_recursive && !is_stream(target),
				 &plan);

	if (status == EXIT_OK)
		status = copy_out(ctl, from, target, &plan);
	plan_fini(&plan);
	return status;
}

/* --- The command line. --- */

static int check(const struct ctl *ctl, const struct place_name *from, const struct place_name *to)
{
	const char *path = from->session ? from->path : to->path;

	if (!from->session == !to->session) {
		output_error(from->session ? "Both '%s' and '%s' are in a session"
					   : "Neither '%s' nor '%s' is in a session",
			     from->path, to->path);
		output_hint("one of them is SESSION:PATH, the other one a local path or '-'; a "
			    "local path with a colon is written './a:b'");
		return EXIT_USAGE;
	}
	if (ctl->is_json && is_stream(to->path) && !to->session) {
		output_error("Standard output cannot have both the file and --json");
		return EXIT_USAGE;
	}
	if (!utf8_is_valid(path, strlen(path))) {
		output_error("The path in the session is not UTF-8 text");
		return EXIT_USAGE;
	}
	return EXIT_OK;
}

static int cp(struct ctl *ctl, const struct arguments *arguments)
{
	_cleanup_(place_name_fini) struct place_name from = {0}, to = {0};
	bool is_recursive = arguments->options[CP_RECURSIVE].is_set;
	int status;

	if (place_name_parse(arguments->operands[0], &from) < 0 ||
	    place_name_parse(arguments->operands[1], &to) < 0)
		return out_of_memory();
	status = check(ctl, &from, &to);
	if (status != EXIT_OK)
		return status;
	return to.session ? into(ctl, from.path, &to, is_recursive)
			  : out_of(ctl, &from, to.path, is_recursive);
}

const struct verb verb_cp = {
	.name = "cp",
	.synopsis = "[-r] SOURCE TARGET",
	.summary = "Copy files into a session, or out of it",
	.details =
		"One of SOURCE and TARGET is SESSION:PATH, a path below /home/user; the other one "
		"is a local path, or '-' for standard input or output. A TARGET that is a "
		"directory gets SOURCE under its own name, and what is in SOURCE when that ends "
		"with '/.' or is the home, 'SESSION:'. In a session missing directories are "
		"made.\n"
		"\n"
		"A file is replaced when its copy is complete, and not at all otherwise. Modes are "
		"kept, within the umask here; so are times of files that come from a session. "
		"Links and special files in a directory are left out, which is said. The first "
		"error ends the copy; what was complete by then stays.\n"
		"\n"
		"What comes out of a session stays below TARGET, whatever its guest says: names "
		"that lead elsewhere, or are not UTF-8 text, are refused before anything is "
		"copied.",
	.options = options,
	.operands_min = 2,
	.operands_max = 2,
	.usage_status = EXIT_USAGE,
	.handler = cp,
};
