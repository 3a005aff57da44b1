/* SPDX-License-Identifier: Apache-2.0 */
/* Log lines in a journal that the test plays, and on standard error. */
#include "daemon/log_sink.h"

#include "base/log.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#define JOURNAL "/run/systemd/journal/socket"

static int complaints = -1; /* the runner's standard error; a child's own one is under test */

#define EXPECT(condition)                                                                   \
	do {                                                                                \
		if (!(condition)) {                                                         \
			dprintf(complaints, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
			_exit(1);                                                           \
		}                                                                           \
	} while (0)

/* Mounts of our own: who is not root is root of a user namespace first. */
static void own_mounts(void)
{
	char users[32], groups[32];

	snprintf(users, sizeof(users), "0 %u 1", getuid());
	snprintf(groups, sizeof(groups), "0 %u 1", getgid());
	if (getuid() == 0) {
		EXPECT(unshare(CLONE_NEWNS) == 0);
		return;
	}
	EXPECT(unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0);
	EXPECT(write_file_at(AT_FDCWD, "/proc/self/uid_map", users) == 0);
	EXPECT(write_file_at(AT_FDCWD, "/proc/self/setgroups", "deny") == 0);
	EXPECT(write_file_at(AT_FDCWD, "/proc/self/gid_map", groups) == 0);
}

/* A child with a /run of its own, empty, and a pipe as standard error. */
static int enter_own_run(void)
{
	int ends[2];

	complaints = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 64);
	EXPECT(complaints >= 0);
	own_mounts();
	EXPECT(mount("none", "/", "none", MS_REC | MS_PRIVATE, "") == 0);
	EXPECT(mount("none", "/run", "tmpfs", 0, "") == 0);
	EXPECT(pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0);
	EXPECT(dup2(ends[1], STDERR_FILENO) == STDERR_FILENO);
	unsetenv("JOURNAL_STREAM");
	return ends[0];
}

static int play_journal(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = JOURNAL};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	EXPECT(mkdir("/run/systemd", 0755) == 0 && mkdir("/run/systemd/journal", 0755) == 0);
	EXPECT(bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	return fd;
}

static void point_stderr_at_journal(void)
{
	struct stat st;
	char text[64];

	EXPECT(fstat(STDERR_FILENO, &st) == 0);
	snprintf(text, sizeof(text), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
	setenv("JOURNAL_STREAM", text, 1);
}

/* What a descriptor has now; empty when there is nothing. */
static const char *received(int fd)
{
	static char buf[8192];
	ssize_t len = read(fd, buf, sizeof(buf) - 1);

	buf[MAX(len, 0)] = '\0';
	return buf;
}

static void in_child(void (*body)(void))
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

/* The native protocol: a line a field while the values have no line breaks. */
static void body_fields(void)
{
	int errors = enter_own_run(), journal = play_journal();

	EXPECT(log_sink_choose(CONFIG_LOG_JOURNAL) == 0);
	log_warning("vm_1 qmp", "Cannot connect: %s", "why");
	EXPECT(strcmp(received(journal), "MESSAGE=vm_1 qmp: Cannot connect: why\nPRIORITY=4\n"
					 "SYSLOG_IDENTIFIER=execsandboxd\n"
					 "EXECSANDBOX_OBJECT=vm_1 qmp\n") == 0);
	log_info(NULL, "Serving");
	EXPECT(strcmp(received(journal), "MESSAGE=Serving\nPRIORITY=6\n"
					 "SYSLOG_IDENTIFIER=execsandboxd\n") == 0);
	EXPECT(*received(errors) == '\0');
}

START_TEST(test_fields)
{
	in_child(body_fields);
}
END_TEST

/* What comes from outside makes no field of its own. */
static void body_hostile(void)
{
	char text[4000];
	const char *entry;
	int journal;

	enter_own_run();
	journal = play_journal();
	EXPECT(log_sink_choose(CONFIG_LOG_JOURNAL) == 0);
	log_info(NULL, "'%s'", "a\nPRIORITY=0\n_UID=0");
	EXPECT(strcmp(received(journal), "MESSAGE='a PRIORITY=0 _UID=0'\nPRIORITY=6\n"
					 "SYSLOG_IDENTIFIER=execsandboxd\n") == 0);
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	log_info(text, "%s", text);
	entry = received(journal);
	EXPECT(strncmp(entry, "MESSAGE=xxxx", 12) == 0);
	EXPECT(strstr(entry, "\nPRIORITY=6\n") && strstr(entry, "\nEXECSANDBOX_OBJECT=xxxx"));
}

START_TEST(test_hostile)
{
	in_child(body_hostile);
}
END_TEST

static void body_stderr(void)
{
	int errors = enter_own_run(), journal = play_journal();

	point_stderr_at_journal();
	EXPECT(log_sink_choose(CONFIG_LOG_STDERR) == 0);
	log_info("vm_1", "Started");
	EXPECT(strcmp(received(errors), "<6>vm_1: Started\n") == 0);
	EXPECT(*received(journal) == '\0');
}

START_TEST(test_stderr)
{
	in_child(body_stderr);
}
END_TEST

static void body_auto(void)
{
	int errors = enter_own_run(), journal = play_journal();

	EXPECT(log_sink_choose(CONFIG_LOG_AUTO) == 0);
	log_info(NULL, "One");
	EXPECT(strcmp(received(errors), "One\n") == 0 && *received(journal) == '\0');

	/* The variable is inherited, too, by what redirects its standard error elsewhere. */
	setenv("JOURNAL_STREAM", "1:2", 1);
	EXPECT(log_sink_choose(CONFIG_LOG_AUTO) == 0);
	log_info(NULL, "Two");
	EXPECT(strstr(received(errors), "Two\n") && *received(journal) == '\0');
	setenv("JOURNAL_STREAM", "rubbish", 1);
	EXPECT(log_sink_choose(CONFIG_LOG_AUTO) == 0);
	log_info(NULL, "Three");
	EXPECT(strstr(received(errors), "Three\n") && *received(journal) == '\0');

	point_stderr_at_journal();
	EXPECT(log_sink_choose(CONFIG_LOG_AUTO) == 0);
	log_info(NULL, "Four");
	EXPECT(*received(errors) == '\0' && strstr(received(journal), "MESSAGE=Four\n"));
}

START_TEST(test_auto)
{
	in_child(body_auto);
}
END_TEST

static void body_no_journal(void)
{
	int errors = enter_own_run();

	EXPECT(log_sink_choose(CONFIG_LOG_JOURNAL) == -ENXIO);
	log_info("vm_1", "Started");
	EXPECT(strcmp(received(errors), "vm_1: Started\n") == 0);
	point_stderr_at_journal();
	EXPECT(log_sink_choose(CONFIG_LOG_AUTO) == 0);
	log_info(NULL, "Two");
	EXPECT(strcmp(received(errors), "<6>Two\n") == 0);
}

START_TEST(test_no_journal)
{
	in_child(body_no_journal);
}
END_TEST

/* A journal that refuses a line does not lose it. */
static void body_journal_goes(void)
{
	int errors = enter_own_run(), journal = play_journal();

	EXPECT(log_sink_choose(CONFIG_LOG_JOURNAL) == 0);
	close(journal);
	log_info("vm_1", "Started");
	EXPECT(strcmp(received(errors), "vm_1: Started\n") == 0);
}

START_TEST(test_journal_goes)
{
	in_child(body_journal_goes);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("log_sink");
	TCase *tcase = tcase_create("log_sink");

	tcase_add_test(tcase, test_fields);
	tcase_add_test(tcase, test_hostile);
	tcase_add_test(tcase, test_stderr);
	tcase_add_test(tcase, test_auto);
	tcase_add_test(tcase, test_no_journal);
	tcase_add_test(tcase, test_journal_goes);
	suite_add_tcase(suite, tcase);
	return suite;
}
