/* SPDX-License-Identifier: Apache-2.0 */
/* The helper process: what it inherits, what it reports, how it dies. */
#include "daemon/template/worker.h"

#include "tests/fake/wait.h"
#include "tests/unit/suite.h"
#include "tests/unit/test_dir.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

static struct loop *loop;
static struct worker *worker;
static int done_count, done_result, fds_before, given_fd;
static char done_report[WORKER_REPORT_MAX];
static size_t done_len;
static bool must_start_again;

static void setup(void)
{
	worker = NULL;
	done_count = done_result = 0;
	must_start_again = false;
	fds_before = test_open_fds();
	ck_assert_int_eq(loop_create(&loop), 0);
}

static void teardown(void)
{
	worker_destroy(worker);
	loop_destroy(loop);
	ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
	ck_assert_int_eq(errno, ECHILD);
	ck_assert_int_eq(test_open_fds(), fds_before);
}

static int return_number(void *input, char report[WORKER_REPORT_MAX] UNUSED, size_t *ret_len UNUSED)
{
	return *(int *)input;
}

static void on_done(void *user UNUSED, int result, const char *report, size_t report_len)
{
	static int number = -EXDEV;

	worker = NULL;
	done_count++;
	done_result = result;
	done_len = report_len;
	memcpy(done_report, report, report_len);
	if (must_start_again) {
		must_start_again = false;
		ck_assert_int_eq(worker_start(loop, "again", NULL, 0, return_number, &number,
					      on_done, NULL, &worker),
				 0);
	}
}

static void start(worker_fn fn, void *input, const int *fds, size_t count)
{
	ck_assert_int_eq(
		worker_start(loop, "unit-worker", fds, count, fn, input, on_done, NULL, &worker),
		0);
}

static void expect_result(int result)
{
	ck_assert(WAIT_FOR(loop, done_count == 1));
	ck_assert_int_eq(done_result, result);
}

START_TEST(test_the_result_comes_back)
{
	int number = -ENOTTY;

	start(return_number, &number, NULL, 0);
	number = 0; /* the child has a copy */
	ck_assert_int_eq(done_count, 0);
	expect_result(-ENOTTY);
	ck_assert_uint_eq(done_len, 0);
	for (int i = 0; i < 3; i++)
		loop_run_once(loop, false);
	ck_assert_int_eq(done_count, 1);
}
END_TEST

static int fill_report(void *input UNUSED, char report[WORKER_REPORT_MAX], size_t *ret_len)
{
	memset(report, 'r', WORKER_REPORT_MAX);
	report[WORKER_REPORT_MAX - 1] = 'e';
	*ret_len = WORKER_REPORT_MAX;
	return 0;
}

START_TEST(test_a_full_report_comes_back)
{
	start(fill_report, NULL, NULL, 0);
	expect_result(0);
	ck_assert_uint_eq(done_len, WORKER_REPORT_MAX);
	ck_assert_int_eq(done_report[0], 'r');
	ck_assert_int_eq(done_report[WORKER_REPORT_MAX - 1], 'e');
}
END_TEST

/* Reports a letter for each of the first descriptors that is open. */
static int list_fds(void *input UNUSED, char report[WORKER_REPORT_MAX], size_t *ret_len)
{
	for (int fd = 0; fd < 200; fd++)
		report[fd] = fcntl(fd, F_GETFD) >= 0 ? 'x' : '.';
	*ret_len = 200;
	return 0;
}

START_TEST(test_only_what_is_given_stays_open)
{
	static const int targets[] = {150, 90, 91, 180}; /* in no order, two side by side */
	int fds[4], other = open("/dev/null", O_RDONLY | O_CLOEXEC), extra = 0;

	for (int i = 0; i < 4; i++)
		fds[i] = dup2(other, targets[i]);
	start(list_fds, NULL, fds, 3);
	expect_result(0);
	for (int fd = 3; fd < 200; fd++)
		extra += done_report[fd] == 'x';
	ck_assert_int_eq(extra, 4); /* ours, and the pipe */
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(done_report[targets[i]], 'x');
	ck_assert_int_eq(done_report[180], '.');
	ck_assert_int_eq(done_report[other], '.');
	ck_assert_int_eq(done_report[2], 'x');
	for (int i = 0; i < 4; i++)
		close(fds[i]);
	close(other);
}
END_TEST

START_TEST(test_too_many_descriptors_are_refused)
{
	int fds[WORKER_FDS_MAX + 1] = {0};

	ck_assert_int_eq(worker_start(loop, "x", fds, WORKER_FDS_MAX + 1, fill_report, NULL,
				      on_done, NULL, &worker),
			 -E2BIG);
	start(fill_report, NULL, fds, WORKER_FDS_MAX);
	expect_result(0);
}
END_TEST

static int write_given(void *input UNUSED, char report[WORKER_REPORT_MAX], size_t *ret_len)
{
	prctl(PR_GET_NAME, report);
	*ret_len = strlen(report);
	return write_all(given_fd, "hi", 2);
}

START_TEST(test_a_given_descriptor_is_the_same_file)
{
	int pipe_fds[2];
	char text[3] = "";

	ck_assert_int_eq(pipe2(pipe_fds, O_CLOEXEC), 0);
	given_fd = pipe_fds[1];
	start(write_given, NULL, &given_fd, 1);
	close(pipe_fds[1]);
	expect_result(0);
	ck_assert_int_eq(read(pipe_fds[0], text, 3), 2);
	ck_assert_int_eq(read(pipe_fds[0], text, 3), 0);
	ck_assert_uint_eq(done_len, strlen("unit-worker"));
	ck_assert_mem_eq(done_report, "unit-worker", done_len);
	close(pipe_fds[0]);
}
END_TEST

static int exit_silently(void *input UNUSED, char report[WORKER_REPORT_MAX] UNUSED,
			 size_t *ret_len UNUSED)
{
	_exit(0);
}

static int crash(void *input UNUSED, char report[WORKER_REPORT_MAX] UNUSED, size_t *ret_len UNUSED)
{
	raise(SIGKILL);
	return 0;
}

START_TEST(test_dying_without_a_word_is_told)
{
	start(exit_silently, NULL, NULL, 0);
	expect_result(-ECHILD);
	ck_assert_uint_eq(done_len, 0);
	done_count = 0;
	start(crash, NULL, NULL, 0);
	expect_result(-ECHILD);
	ck_assert_uint_eq(done_len, 0);
}
END_TEST

/* Waits for good; what ends it is a signal. */
static int hang(void *input UNUSED, char report[WORKER_REPORT_MAX] UNUSED, size_t *ret_len UNUSED)
{
	int r = given_fd >= 0 ? write_all(given_fd, "!", 1) : 0;

	while (r == 0)
		poll(NULL, 0, -1);
	return r;
}

static volatile sig_atomic_t caught;

static void catch_signal(int number UNUSED)
{
	caught = 1;
}

/* SIGTERM goes to all of a service: the daemon's handler must not run in the worker. */
START_TEST(test_signals_are_at_their_defaults)
{
	struct sigaction action = {.sa_handler = catch_signal}, before;
	char children[32] = "";
	char *text = NULL;
	char path[64], byte;
	int pipe_fds[2];

	ck_assert_int_eq(sigaction(SIGTERM, &action, &before), 0);
	ck_assert_int_eq(pipe2(pipe_fds, O_CLOEXEC), 0);
	given_fd = pipe_fds[1];
	start(hang, NULL, &given_fd, 1);
	ck_assert_int_eq(read(pipe_fds[0], &byte, 1), 1); /* it has reset them */
	snprintf(path, sizeof(path), "/proc/self/task/%d/children", getpid());
	ck_assert_int_gt(read_file_at(AT_FDCWD, path, sizeof(children), &text), 0);
	ck_assert_int_eq(kill((pid_t)strtol(text, NULL, 10), SIGTERM), 0);
	expect_result(-ECHILD);
	ck_assert_int_eq(caught, 0);
	free(text);
	sigaction(SIGTERM, &before, NULL);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
}
END_TEST

static int write_beyond(void *input UNUSED, char report[WORKER_REPORT_MAX] UNUSED,
			size_t *ret_len UNUSED)
{
	struct rlimit limit = {.rlim_cur = 0, .rlim_max = 0};

	setrlimit(RLIMIT_FSIZE, &limit);
	return pwrite(given_fd, "x", 1, 0) < 0 ? -errno : 0;
}

START_TEST(test_a_file_size_limit_is_an_error)
{
	FILE *file = tmpfile();

	given_fd = fileno(file);
	start(write_beyond, NULL, &given_fd, 1);
	expect_result(-EFBIG);
	fclose(file);
}
END_TEST

START_TEST(test_destroying_kills_without_a_callback)
{
	given_fd = -1;
	start(hang, NULL, NULL, 0);
	worker_destroy(TAKE_PTR(worker));
	ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
	ck_assert_int_eq(errno, ECHILD);
	for (int i = 0; i < 3; i++)
		loop_run_once(loop, false);
	ck_assert_int_eq(done_count, 0);
	worker_destroy(NULL);
}
END_TEST

START_TEST(test_a_callback_may_start_the_next)
{
	int number = 0;

	must_start_again = true;
	start(return_number, &number, NULL, 0);
	ck_assert(WAIT_FOR(loop, done_count == 2));
	ck_assert_int_eq(done_result, -EXDEV);
}
END_TEST

/* A middle process starts a worker and is killed: the pipe that only the worker still holds ends.
 */
START_TEST(test_it_dies_with_its_parent)
{
	int pipe_fds[2];
	char byte;
	pid_t middle;
	struct pollfd poll_fd;

	ck_assert_int_eq(pipe2(pipe_fds, O_CLOEXEC), 0);
	given_fd = pipe_fds[1];
	middle = fork();
	if (middle == 0) {
		if (worker_start(loop, "x", &given_fd, 1, hang, NULL, on_done, NULL, &worker) < 0)
			_exit(1);
		for (;;)
			poll(NULL, 0, -1);
	}
	close(pipe_fds[1]);
	ck_assert_int_eq(read(pipe_fds[0], &byte, 1), 1);
	ck_assert_int_eq(kill(middle, SIGKILL), 0);
	ck_assert_int_eq(waitpid(middle, NULL, 0), middle);
	poll_fd = (struct pollfd){.fd = pipe_fds[0], .events = POLLIN};
	ck_assert_int_eq(poll(&poll_fd, 1, WAIT_SECONDS * 1000), 1);
	ck_assert_int_eq(read(pipe_fds[0], &byte, 1), 0);
	close(pipe_fds[0]);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("worker");
	TCase *tcase = tcase_create("all");

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, test_the_result_comes_back);
	tcase_add_test(tcase, test_a_full_report_comes_back);
	tcase_add_test(tcase, test_only_what_is_given_stays_open);
	tcase_add_test(tcase, test_too_many_descriptors_are_refused);
	tcase_add_test(tcase, test_a_given_descriptor_is_the_same_file);
	tcase_add_test(tcase, test_dying_without_a_word_is_told);
	tcase_add_test(tcase, test_signals_are_at_their_defaults);
	tcase_add_test(tcase, test_a_file_size_limit_is_an_error);
	tcase_add_test(tcase, test_destroying_kills_without_a_callback);
	tcase_add_test(tcase, test_a_callback_may_start_the_next);
	tcase_add_test(tcase, test_it_dies_with_its_parent);
	suite_add_tcase(suite, tcase);
	return suite;
}
