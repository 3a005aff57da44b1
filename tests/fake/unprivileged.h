/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a part of a test in a child process without root's rights. */
#ifndef TESTS_FAKE_UNPRIVILEGED_H
#define TESTS_FAKE_UNPRIVILEGED_H

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOBODY 65534

/* In such a child, where check's own assertions would go astray. */
#define CHECK(condition)                                                                          \
	do {                                                                                      \
		if (!(condition)) {                                                               \
			fprintf(stderr, "%s:%d: %s (errno %d)\n", __FILE__, __LINE__, #condition, \
				errno);                                                           \
			_exit(1);                                                                 \
		}                                                                                 \
	} while (0)

/* Runs `fn` as nobody if we are root, else as we are. The child's wait status: 0 when it returned,
 * -1 when there was no child. */
static inline int run_unprivileged(void (*fn)(void))
{
	int status = -1;
	pid_t child = fork();

	if (child == 0) {
		if (geteuid() == 0) {
			CHECK(setgroups(0, NULL) == 0);
			CHECK(setresgid(NOBODY, NOBODY, NOBODY) == 0);
			CHECK(setresuid(NOBODY, NOBODY, NOBODY) == 0);
		}
		/* Changing uids takes /proc/self/fd away, which a jail is opened through. */
		CHECK(prctl(PR_SET_DUMPABLE, 1) == 0);
		fn();
		_exit(0);
	}
	if (child > 0 && waitpid(child, &status, 0) != child)
		status = -1;
	return status;
}

#endif
