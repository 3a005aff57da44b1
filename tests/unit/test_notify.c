/* SPDX-License-Identifier: Apache-2.0 */
/* The service manager's side, played: messages, watchdog, socket activation. */
#include "daemon/notify.h"

#include "tests/unit/suite.h"
#include "tests/unit/test_child.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>

static char root[64], path[128];
static int manager = -1; /* what $NOTIFY_SOCKET names */

static void setup(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	strcpy(root, "/tmp/test_notify.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(root));
	snprintf(path, sizeof(path), "%s/socket", root);
	strcpy(address.sun_path, path);
	manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	ck_assert_int_ge(manager, 0);
	ck_assert_int_eq(bind(manager, (struct sockaddr *)&address, sizeof(address)), 0);
	setenv("NOTIFY_SOCKET", path, 1);
}

static void teardown(void)
{
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
	manager = close_fd(manager);
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(rmdir(root), 0);
}

/* Datagrams of a Unix socket are there when the sender returns. */
static void assert_message(const char *expected)
{
	char message[2048];
	ssize_t len = recv(manager, message, sizeof(message) - 1, 0);

	ck_assert_int_ge(len, 0);
	message[len] = '\0';
	ck_assert_str_eq(message, expected);
}

START_TEST(test_states)
{
	char message[256];
	uint64_t before = now_us(), time;
	ssize_t len;

	notify_ready("Serving");
	assert_message("READY=1\nSTATUS=Serving");
	notify_status("%d VMs", 3);
	assert_message("STATUS=3 VMs");
	notify_stopping("Waiting for 2 runs", 2.5);
	assert_message("STOPPING=1\nEXTEND_TIMEOUT_USEC=2500000\nSTATUS=Waiting for 2 runs");
	notify_stopping("Waiting", 3615); /* more than 32 bits */
	assert_message("STOPPING=1\nEXTEND_TIMEOUT_USEC=3615000000\nSTATUS=Waiting");
	notify_reloading();
	len = recv(manager, message, sizeof(message) - 1, 0);
	ck_assert_int_gt(len, 0);
	message[len] = '\0';
	ck_assert_int_eq(sscanf(message, "RELOADING=1\nMONOTONIC_USEC=%" SCNu64, &time), 1);
	ck_assert(time >= before && time <= now_us());
}
END_TEST

START_TEST(test_status_is_one_line)
{
	char expected[600] = "STATUS=";

	notify_status("a\nMAINPID=%d", 1);
	assert_message("STATUS=a MAINPID=1");
	notify_status("%1000d", 1);
	memset(expected + 7, ' ', 511);
	assert_message(expected);
}
END_TEST

START_TEST(test_no_manager)
{
	unsetenv("NOTIFY_SOCKET");
	notify_ready("Serving");
	ck_assert_int_lt(recv(manager, root, 0, 0), 0);
	ck_assert_int_eq(errno, EAGAIN);
}
END_TEST

static void set_watchdog(int usec, pid_t pid)
{
	char text[32];

	snprintf(text, sizeof(text), "%d", usec);
	setenv("WATCHDOG_USEC", text, 1);
	snprintf(text, sizeof(text), "%d", (int)pid);
	setenv("WATCHDOG_PID", text, 1);
}

static void on_nothing(struct ev_loop *ev UNUSED, ev_io *watcher UNUSED, int events UNUSED)
{
}

START_TEST(test_watchdog)
{
	struct notify notify = {0};
	uint64_t start = now_us(), deadline = start + 10000000;
	struct loop *loop;
	ev_io reader; /* wakes the loop */
	char message[64];
	int count = 0;

	set_watchdog(40000, getpid());
	ck_assert_int_eq(loop_create(&loop), 0);
	ev_io_init(&reader, on_nothing, manager, EV_READ);
	ev_io_start(loop_ev(loop), &reader);
	notify_init(&notify, loop);
	while (count < 3 && now_us() < deadline) {
		ssize_t len;

		loop_run_once(loop, true);
		len = recv(manager, message, sizeof(message), 0);
		if (len < 0)
			continue;
		ck_assert_int_eq(len, strlen("WATCHDOG=1"));
		ck_assert_int_eq(memcmp(message, "WATCHDOG=1", 10), 0);
		count++;
	}
	ck_assert_int_eq(count, 3);
	/* Every 20 ms, half of what was asked: never early, though a busy host may be late. */
	ck_assert_uint_ge(now_us() - start, 55000);
	ck_assert(notify.watchdog.repeat == 0.02);
	notify_fini(&notify);
	ck_assert(!ev_is_active(&notify.watchdog));
	ev_io_stop(loop_ev(loop), &reader);
	loop_destroy(loop);
}
END_TEST

START_TEST(test_no_watchdog)
{
	struct notify notify = {0};
	struct loop *loop;

	notify_fini(&notify);
	ck_assert_int_eq(loop_create(&loop), 0);
	notify_init(&notify, loop);
	ck_assert(!ev_is_active(&notify.watchdog));
	notify_fini(&notify);
	set_watchdog(40000, getppid()); /* meant for another process */
	notify_init(&notify, loop);
	ck_assert(!ev_is_active(&notify.watchdog));
	notify_fini(&notify);
	loop_destroy(loop);
}
END_TEST

/* A copy of `fd` is the i-th descriptor handed over. */
static void hand_over(int fd, int i)
{
	EXPECT(fd > SD_LISTEN_FDS_START + 16);
	EXPECT(dup2(fd, SD_LISTEN_FDS_START + i) == SD_LISTEN_FDS_START + i);
}

static void announce(int count)
{
	char text[32];

	snprintf(text, sizeof(text), "%d", count);
	setenv("LISTEN_FDS", text, 1);
	snprintf(text, sizeof(text), "%d", (int)getpid());
	setenv("LISTEN_PID", text, 1);
}

/* A blocking Unix socket, out of the way of the numbers that are handed over. */
static int make_socket(int family, int type, bool listens)
{
	int fd = socket(family, type, 0), high;

	high = fcntl(fd, F_DUPFD, 64);
	EXPECT(high >= 64);
	close(fd);
	EXPECT(!listens || listen(high, 1) == 0);
	return high;
}

static int make_listener(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = make_socket(AF_UNIX, SOCK_STREAM, false);

	/* A family alone: the kernel chooses an abstract name. */
	EXPECT(bind(fd, (struct sockaddr *)&address, sizeof(address.sun_family)) == 0);
	EXPECT(listen(fd, 1) == 0);
	return fd;
}

static void body_listeners(void)
{
	int fds[NOTIFY_LISTENERS_MAX];

	hand_over(make_listener(), 0);
	hand_over(make_listener(), 1);
	announce(2);
	EXPECT(notify_take_listeners(fds) == 2);
	for (int i = 0; i < 2; i++) {
		EXPECT(fds[i] == SD_LISTEN_FDS_START + i);
		EXPECT(fcntl(fds[i], F_GETFD) & FD_CLOEXEC);
		EXPECT(fcntl(fds[i], F_GETFL) & O_NONBLOCK);
		EXPECT(accept(fds[i], NULL, NULL) < 0 && errno == EAGAIN);
	}
	EXPECT(!getenv("LISTEN_FDS") && !getenv("LISTEN_PID"));
	EXPECT(notify_take_listeners(fds) == 0);
}

START_TEST(test_listeners)
{
	in_child(body_listeners);
}
END_TEST

static void refused(int wrong)
{
	int fds[NOTIFY_LISTENERS_MAX] = {-7, -7};

	hand_over(make_listener(), 0);
	hand_over(wrong, 1);
	announce(2);
	EXPECT(notify_take_listeners(fds) == -ENOTSOCK);
	EXPECT(fds[0] == -7 && fds[1] == -7);
	EXPECT(fcntl(SD_LISTEN_FDS_START, F_GETFD) < 0);
	EXPECT(fcntl(SD_LISTEN_FDS_START + 1, F_GETFD) < 0);
}

static void body_wrong_kinds(void)
{
	refused(make_socket(AF_UNIX, SOCK_STREAM, false)); /* does not listen */
	refused(make_socket(AF_UNIX, SOCK_DGRAM, false));
	refused(make_socket(AF_UNIX, SOCK_SEQPACKET, false));
	refused(fcntl(open("/dev/null", O_RDWR), F_DUPFD, 64));
}

START_TEST(test_wrong_kinds)
{
	in_child(body_wrong_kinds);
}
END_TEST

static void body_too_many(void)
{
	int fds[NOTIFY_LISTENERS_MAX], fd = make_listener();

	for (int i = 0; i <= NOTIFY_LISTENERS_MAX; i++)
		hand_over(fd, i);
	announce(NOTIFY_LISTENERS_MAX + 1);
	EXPECT(notify_take_listeners(fds) == -E2BIG);
	for (int i = 0; i <= NOTIFY_LISTENERS_MAX; i++)
		EXPECT(fcntl(SD_LISTEN_FDS_START + i, F_GETFD) < 0);
}

START_TEST(test_too_many_listeners)
{
	in_child(body_too_many);
}
END_TEST

static void body_meant_for_another(void)
{
	int fds[NOTIFY_LISTENERS_MAX];

	hand_over(make_listener(), 0);
	announce(1);
	setenv("LISTEN_PID", "1", 1);
	EXPECT(notify_take_listeners(fds) == 0);
}

START_TEST(test_meant_for_another)
{
	in_child(body_meant_for_another);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("notify");
	TCase *tcase = tcase_create("notify");

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_set_timeout(tcase, 30);
	tcase_add_test(tcase, test_states);
	tcase_add_test(tcase, test_status_is_one_line);
	tcase_add_test(tcase, test_no_manager);
	tcase_add_test(tcase, test_watchdog);
	tcase_add_test(tcase, test_no_watchdog);
	tcase_add_test(tcase, test_listeners);
	tcase_add_test(tcase, test_wrong_kinds);
	tcase_add_test(tcase, test_too_many_listeners);
	tcase_add_test(tcase, test_meant_for_another);
	suite_add_tcase(suite, tcase);
	return suite;
}
