/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a copy consists of: a file, or all that is in a tree, each behind its directory.
 *
 * Theory of operation: a plan is made before anything is copied, so that a tree with a name that
 * cannot be, or must not be, on the other side leaves nothing behind. Regular files and directories
 * are planned; links, which may lead anywhere on the other side, and special files are counted
 * only.
 */
#ifndef CTL_COPY_PLAN_H
#define CTL_COPY_PLAN_H

#include "ctl/ctl.h"

#include <sys/stat.h>
#include <time.h>

/* Of one plan; and directories inside each other. */
#define PLAN_ENTRIES_MAX (1u << 20)
#define PLAN_DEPTH_MAX   128

/* Of a pipe, and of what a link leads to. */
#define MODE_UNKNOWN ((mode_t)-1)

struct plan_entry {
	char *path; /* below the root; "" is the root itself */
	bool is_directory;
	mode_t mode; /* permissions only, or MODE_UNKNOWN */
	uint64_t size;
	struct timespec mtime; /* tv_nsec is UTIME_OMIT when it is not known */
};

struct plan {
	struct plan_entry *entries;
	size_t len, size;
	uint64_t bytes;
	size_t files;
	size_t left_out;
	char *left_out_example;
};

void plan_fini(struct plan *plan);

/* Adds an entry, of which it takes the path. 0, -ENOMEM or -E2BIG. */
int plan_add(struct plan *plan, const struct plan_entry *entry_take);
int plan_leave_out(struct plan *plan, const char *path);

/*
 * Plans what `root_fd` is: a directory with all that is in it, or a file, which may be a pipe.
 * `name` is what messages call it. EXIT_OK, or an exit status after the reason was printed.
 */
int plan_local(const char *name, int root_fd, struct plan *ret);

/*
 * Plans what is at a path of a session: with `is_recursive` a directory, too. What the guest says
 * is a claim: paths are such that path_refusal() passes. EXIT_OK, or an exit status after the
 * reason was printed.
 */
int plan_remote(struct ctl *ctl, const char *session, const char *path, bool is_recursive,
		struct plan *ret);

/* What stands at a path of a session, links followed. Exit status as above. */
enum remote_type { REMOTE_NOTHING, REMOTE_DIRECTORY, REMOTE_OTHER };
int remote_look(struct ctl *ctl, const char *session, const char *path, enum remote_type *ret);

#endif
