/* SPDX-License-Identifier: Apache-2.0 */
/* Directories, lock and socket: made, refused, swept, and each refusal logged once. */
#include "daemon/setup.h"

#include "base/log.h"
#include "daemon/rpc/peer.h"
#include "tests/unit/suite.h"
#include "tests/unit/test_dir.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>

static char dir[TEST_DIR_SIZE];
static struct config config;
static struct setup prepared;
static char logged[4096];
static int logged_errors;

static void on_log(int level, const char *object UNUSED, const char *message)
{
	size_t len = strlen(logged);

	logged_errors += level == LOG_ERR;
	snprintf(logged + len, sizeof(logged) - len, "%s\n", message);
}

static void set_text(char **member, const char *text)
{
	free(*member);
	*member = strdup(text);
}

static void setup(void)
{
	test_dir_make(dir);
	ck_assert_int_eq(config_defaults(&config), 0);
	set_text(&config.socket, test_dir_path(dir, "sock"));
	set_text(&config.runtime_dir, test_dir_path(dir, "run"));
	set_text(&config.state_dir, test_dir_path(dir, "a/b/state"));
	/* As root the directories are given to a user; any one that surely exists will do. */
	set_text(&config.user, "nobody");
	set_text(&config.socket_group, "");
	prepared = (struct setup)SETUP_NONE;
	logged[0] = '\0';
	logged_errors = 0;
	log_set_sink(on_log);
}

static void teardown(void)
{
	setup_finish(&config, &prepared);
	config_fini(&config);
	log_set_sink(NULL);
	test_dir_remove(dir);
}

static void assert_refused(int error, const char *words)
{
	struct setup refused = SETUP_NONE;

	ck_assert_int_eq(setup_prepare(&config, true, &refused), error);
	setup_finish(&config, &refused);
	ck_assert_msg(strstr(logged, words), "'%s' is not in '%s'", words, logged);
	ck_assert_int_eq(logged_errors, 1);
}

START_TEST(test_fresh_start)
{
	struct stat st;

	ck_assert_int_eq(setup_prepare(&config, true, &prepared), 0);
	ck_assert_int_eq(logged_errors, 0);
	ck_assert(test_dir_has(dir, "run/vm"));
	ck_assert(test_dir_has(dir, "run/lock"));
	ck_assert(test_dir_has(dir, "a/b/state"));
	ck_assert_uint_eq(prepared.admin_gid, RPC_NO_GID);
	ck_assert_int_eq(stat(config.socket, &st), 0);
	ck_assert(S_ISSOCK(st.st_mode));
	ck_assert_int_eq(st.st_mode & 0777, 0660);
	ck_assert_int_eq(stat(test_dir_path(dir, "run/vm"), &st), 0);
	ck_assert_int_eq(st.st_mode & 0777, 0700);
	setup_finish(&config, &prepared);
	ck_assert(!test_dir_has(dir, "sock"));
	/* And once more over what stays. */
	ck_assert_int_eq(setup_prepare(&config, true, &prepared), 0);
}
END_TEST

START_TEST(test_given_socket_is_left_alone)
{
	ck_assert_int_eq(setup_prepare(&config, false, &prepared), 0);
	ck_assert_int_eq(prepared.listen_fd, -1);
	ck_assert(!test_dir_has(dir, "sock"));
	/* So is the launcher's, and who starts one. */
	ck_assert_int_eq(prepared.launcher_listen_fd, -1);
	ck_assert_int_eq(prepared.launcher_program_fd, -1);
	ck_assert(!test_dir_has(dir, "run/launcher.sock"));
	test_dir_write(dir, "sock", "x", 1);
	setup_finish(&config, &prepared);
	ck_assert(test_dir_has(dir, "sock"));
}
END_TEST

/* A socket file with or without somebody behind it. */
static int make_socket(bool is_live)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, config.socket);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	if (is_live)
		ck_assert_int_eq(listen(fd, 1), 0);
	return fd;
}

START_TEST(test_stale_socket_is_replaced)
{
	_cleanup_close_ int probe = -1;

	close_fd(make_socket(false));
	ck_assert_int_eq(setup_prepare(&config, true, &prepared), 0);
	probe = unix_connect_at(prepared.socket_dir_fd, "sock");
	ck_assert_int_ge(probe, 0);
}
END_TEST

START_TEST(test_live_socket_is_refused_and_stays)
{
	_cleanup_close_ int live = make_socket(true);

	assert_refused(-EADDRINUSE, "Another daemon listens on");
	ck_assert_ptr_nonnull(strstr(logged, config.socket));
	ck_assert_int_ge(live, 0);
	ck_assert(test_dir_has(dir, "sock"));
}
END_TEST

START_TEST(test_other_file_is_refused_and_stays)
{
	test_dir_write(dir, "sock", "precious", 8);
	assert_refused(-ENOTSOCK, "Cannot replace the old socket");
	ck_assert(test_dir_has(dir, "sock"));
}
END_TEST

START_TEST(test_link_is_not_followed)
{
	test_dir_write(dir, "target", "precious", 8);
	ck_assert_int_eq(symlink("target", config.socket), 0);
	assert_refused(-ENOTSOCK, "Cannot replace the old socket");
	ck_assert(test_dir_has(dir, "target"));
}
END_TEST

START_TEST(test_second_daemon_is_refused)
{
	char *first = strdup(config.socket);

	ck_assert_int_eq(setup_prepare(&config, true, &prepared), 0);
	set_text(&config.socket, test_dir_path(dir, "other"));
	assert_refused(-EBUSY, "Another daemon runs in");
	ck_assert_ptr_nonnull(strstr(logged, config.runtime_dir));
	ck_assert_ptr_nonnull(strstr(logged, "runtime_dir"));
	ck_assert(!test_dir_has(dir, "other"));
	/* The first one's things are untouched. */
	set_text(&config.socket, first);
	free(first);
	ck_assert(test_dir_has(dir, "sock"));
	ck_assert(test_dir_has(dir, "run/vm"));
}
END_TEST

/* What a daemon that was killed left is recovery's: its VMs may live. */
START_TEST(test_vms_of_another_daemon_are_left_alone)
{
	mkdir(test_dir_path(dir, "run"), 0755);
	mkdir(test_dir_path(dir, "run/vm"), 0700);
	mkdir(test_dir_path(dir, "run/vm/vm_0123456789abcdef"), 0700);
	ck_assert_int_eq(setup_prepare(&config, true, &prepared), 0);
	ck_assert(test_dir_has(dir, "run/vm/vm_0123456789abcdef"));
	ck_assert_str_eq(logged, "");
}
END_TEST

/* A launcher of that daemon keeps its socket; one that nobody listens on is made anew. */
START_TEST(test_launcher_socket)
{
	struct stat st;

	ck_assert_int_eq(setup_prepare(&config, true, &prepared), 0);
	ck_assert_int_ge(prepared.launcher_listen_fd, 0);
	ck_assert_int_eq(stat(test_dir_path(dir, "run/launcher.sock"), &st), 0);
	ck_assert_int_eq(st.st_mode & 07777, 0600);
	{
		_cleanup_close_ int listening = TAKE_FD(prepared.launcher_listen_fd);

		setup_finish(&config, &prepared);
		ck_assert_int_eq(setup_prepare(&config, true, &prepared), 0);
		ck_assert_int_eq(prepared.launcher_listen_fd, -1);
	}
	setup_finish(&config, &prepared);
	ck_assert_int_eq(setup_prepare(&config, true, &prepared), 0);
	ck_assert_int_ge(prepared.launcher_listen_fd, 0);
}
END_TEST

START_TEST(test_unreachable_places)
{
	test_dir_write(dir, "file", "", 0);
	switch (_i) {
	case 0:
		set_text(&config.runtime_dir, test_dir_path(dir, "file/run"));
		assert_refused(-ENOTDIR, "Cannot make directory");
		break;
	case 1:
		set_text(&config.state_dir, test_dir_path(dir, "file"));
		assert_refused(-ENOTDIR, "Cannot open directory");
		break;
	case 2:
		set_text(&config.socket, test_dir_path(dir, "nowhere/sock"));
		assert_refused(-ENOENT, "Cannot open the directory of");
		break;
	case 3:
		set_text(&config.admin_group, "no-such-group-here");
		assert_refused(-ESRCH, "There is no group 'no-such-group-here'");
		break;
	}
	ck_assert(!test_dir_has(dir, "sock"));
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("setup");
	TCase *tests = tcase_create("setup");

	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, test_fresh_start);
	tcase_add_test(tests, test_given_socket_is_left_alone);
	tcase_add_test(tests, test_stale_socket_is_replaced);
	tcase_add_test(tests, test_live_socket_is_refused_and_stays);
	tcase_add_test(tests, test_other_file_is_refused_and_stays);
	tcase_add_test(tests, test_link_is_not_followed);
	tcase_add_test(tests, test_second_daemon_is_refused);
	tcase_add_test(tests, test_vms_of_another_daemon_are_left_alone);
	tcase_add_test(tests, test_launcher_socket);
	tcase_add_loop_test(tests, test_unreachable_places, 0, 4);
	suite_add_tcase(suite, tests);
	return suite;
}
