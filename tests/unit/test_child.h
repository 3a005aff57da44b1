/* SPDX-License-Identifier: Apache-2.0 */
/* Tests that change the process for ever (ids, descriptors, variables) do it in a child. */
#ifndef TESTS_UNIT_TEST_CHILD_H
#define TESTS_UNIT_TEST_CHILD_H

#include <check.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

/* ck_assert() of a child: says where on standard error and fails the parent's in_child(). */
#define EXPECT(condition)                                                               \
	do {                                                                            \
		if (!(condition)) {                                                     \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
			_exit(1);                                                       \
		}                                                                       \
	} while (0)

/* Runs `body` in a child; every EXPECT in it must hold. */
static inline void in_child(void (*body)(void))
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		body();
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
}

#endif
