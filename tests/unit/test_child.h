/* SPDX-License-Identifier: Apache-2.0 */
/* Tests that change the process for ever (ids, descriptors, variables) do it in a child. */
#ifndef TESTS_UNIT_TEST_CHILD_H
#define TESTS_UNIT_TEST_CHILD_H

#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
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

/* Ends this process like a SIGKILL, wherever it is then, within so many microseconds. */
static inline void die_within(long us)
{
	struct itimerval timer = {.it_value = {.tv_usec = 1 + random() % us}};

	/* The test runner has a handler of its own. */
	signal(SIGALRM, SIG_DFL);
	EXPECT(setitimer(ITIMER_REAL, &timer, NULL) == 0);
}

/* Runs `body` in a child that dies by die_within(). */
static inline void in_dying_child(void (*body)(unsigned seed), unsigned seed)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		srandom(seed);
		body(seed);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status));
}

#endif
