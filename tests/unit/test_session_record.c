/* SPDX-License-Identifier: Apache-2.0 */
/* What a session leaves for the next daemon: whole or not at all, on a full disk, without memory.
 */
#include "daemon/session/session_record.h"

#include "base/kept.h"
#include "daemon/session/process_record.h"
#include "daemon/session/session_internal.h"
#include "daemon/vm/vm_record.h"
#include "tests/unit/test_dir.h"
#include "tests/unit/test_hand_vm.h"
#include "tests/unit/test_json.h"
#include "tests/unit/test_scarce.h"
#include "tests/unit/test_small_disk.h"

#define RECORD  HAND_VM "/record.json"
#define RUNNING 3
#define ENDED   4

static char dir[TEST_DIR_SIZE];
static int vms_fd;
static struct loop *loop;
static struct config config;
static const struct exec_env *env;
static struct sessions sessions;
static struct session *session;

/* Without a command, which is for people: it is left out where there is no memory for it. */
static void add_process(uint32_t number)
{
	struct process *process = process_new(&session->processes);

	ck_assert_ptr_nonnull(process);
	snprintf(process->id, sizeof(process->id), "proc_%u", number);
	process->number = number;
	process->vm = &hand_vm;
	process->state = PROCESS_RUNNING;
	for (size_t i = 0; i < PROCESS_STREAMS; i++)
		ring_init(&process->rings[i], 65536);
	process_keep(process);
	ck_assert(process->is_kept);
	TAILQ_INSERT_TAIL(&session->processes.list, process, link);
	session->processes.living++;
}

static void end_process(uint32_t number)
{
	const struct msg msg = {.type = FRAME_EXIT,
				.exit = {.exec = number, .reason = MSG_REASON_EXITED}};

	ck_assert(processes_on_message(&session->processes, &msg));
}

/* With a VM, though it has not heard of it: it asks no pool for anything. */
static struct session *make_session(void)
{
	struct session *made = session_new(&sessions, 0);

	ck_assert_ptr_nonnull(made);
	strcpy(made->id, "ses_1");
	strcpy(made->request.language, "python");
	made->vm = &hand_vm;
	return made;
}

static void setup(void)
{
	static struct exec_env made;

	test_dir_make(dir);
	vms_fd = test_small_disk(dir, "size=1m,mode=700");
	ck_assert_int_eq(loop_create(&loop), 0);
	ck_assert_int_eq(config_defaults(&config), 0);
	made = (struct exec_env){.loop = loop, .config = &config};
	env = &made;
	sessions = (struct sessions){.config = {.exec = env, .node = ""}};
	TAILQ_INIT(&sessions.open);
	hand_vm_make(loop, vms_fd);
	session = make_session();
	session->request.env = JSON({"WHO" : "me"});
	json_object_set_new(session->metadata, "a", json_string("b"));
}

static void teardown(void)
{
	session_free(session);
	loop_run_once(loop, false);
	hand_vm_end();
	loop_destroy(loop);
	config_fini(&config);
	close(vms_fd);
	test_dir_remove(dir);
}

/* What it has written; NULL when that is nothing. */
static char *read_record(void)
{
	_cleanup_close_ int dir_fd = vm_open_dir(&hand_host, HAND_VM);
	char *text = NULL;

	return kept_read(dir_fd, "record.json", VM_RECORD_MAX, &text) < 0 ? NULL : text;
}

/* Whichever piece of it there is no memory for: it is not written, which is told. Jansson does not
 * look whether a key found room in the text that it makes: that is no JSON then. */
START_TEST(test_without_memory)
{
	_cleanup_free_ char *whole = NULL;
	bool has_failed = true;

	add_process(RUNNING);
	session_save(session);
	ck_assert(!session->is_unsaved);
	whole = read_record();
	ck_assert_ptr_nonnull(whole);
	for (long nth = 0; has_failed; nth++) {
		_cleanup_free_ char *text = NULL;
		json_auto_t *read = NULL;

		(void)unlinkat(vms_fd, RECORD, 0);
		scarce_begin(nth);
		session_save(session);
		has_failed = scarce_end();
		text = read_record();
		ck_assert_int_eq(session->is_unsaved, text == NULL);
		read = text ? json_loads(text, 0, NULL) : NULL;
		if (read)
			ck_assert_str_eq(text, whole);
	}
	ck_assert(!session->is_unsaved);
}
END_TEST

/* Its processes, as the daemon behind this one recalls them. */
static struct session *recall_processes(void)
{
	_cleanup_close_ int dir_fd = vm_open_dir(&hand_host, HAND_VM);
	struct session *next = make_session();
	struct vm_record vm;
	json_t *owner;

	ck_assert_int_eq(vm_record_read(vms_fd, HAND_VM, &vm, &owner), 0);
	ck_assert(processes_recall(&next->processes, json_object_get(owner, "processes"), dir_fd));
	json_decref(owner);
	return next;
}

static void assert_not_found(const struct session *in, const char *process)
{
	json_auto_t *params = json_pack("{s:s}", "process", process);
	struct rpc_error *error = NULL;

	ck_assert_ptr_null(processes_find(&in->processes, params, &error));
	ck_assert_int_eq(error->code, RPC_PROCESS_NOT_FOUND);
	rpc_error_free(error);
}

/* The guest has told a daemon of its end, and forgotten it, and the disk did not take that: the
 * next daemon forgets it too, and its session goes on with the others. */
START_TEST(test_end_on_a_full_disk)
{
	struct msg_hello_reply hello = hand_hello(json_pack("[i]", RUNNING));
	struct session *next;

	add_process(RUNNING);
	add_process(ENDED);
	session_save(session);
	ck_assert(!session->is_unsaved);
	test_fill_disk(vms_fd);
	end_process(ENDED);
	ck_assert(session->is_unsaved);
	next = recall_processes();
	ck_assert_uint_eq(processes_living(&next->processes), 2);
	ck_assert_int_eq(processes_take_up(&next->processes, &hand_vm, &hello), 0);
	ck_assert_uint_eq(processes_living(&next->processes), 1);
	ck_assert(processes_has_number(&next->processes, RUNNING));
	assert_not_found(next, "proc_4");
	hand_hello_end(&hello);
	session_free(next);
}
END_TEST

/* One whose end was written down is known, though its guest knows it no longer. */
START_TEST(test_end_that_was_written_down)
{
	struct msg_hello_reply hello = hand_hello(json_array());
	struct session *next;

	add_process(ENDED);
	end_process(ENDED);
	next = recall_processes();
	ck_assert_int_eq(processes_take_up(&next->processes, &hand_vm, &hello), 0);
	ck_assert_uint_eq(next->processes.ended, 1);
	hand_hello_end(&hello);
	session_free(next);
}
END_TEST

static char *expiry_of(const struct session *of)
{
	json_auto_t *told = session_describe(of);

	return strdup(json_string_value(json_need(told, "expires_at")));
}

/* Some time from now, so many seconds behind a whole minute. */
static void expire_at_second(uint64_t second)
{
	const uint64_t minute_us = 60000000, second_us = 1000000;

	session->timeout_seconds = 3000;
	session_set_timeout(session);
	session->expires_us -= session->expires_ns / 1000 % minute_us;
	session->expires_us += second * second_us;
	session->expires_ns -= session->expires_ns % (minute_us * 1000);
	session->expires_ns += second * second_us * 1000;
}

/* Two clocks that are read one behind the other would be a millisecond further now and then. */
START_TEST(test_expiry_is_the_same_each_time)
{
	_cleanup_free_ char *first = NULL;

	expire_at_second(0);
	first = expiry_of(session);
	for (int i = 0; i < 2000; i++) {
		_cleanup_free_ char *again = expiry_of(session);

		ck_assert_str_eq(again, first);
	}
}
END_TEST

START_TEST(test_expiry_when_the_wall_clock_is_set)
{
	_cleanup_free_ char *before = NULL, *behind = NULL;
	char text[RFC3339_SIZE];

	expire_at_second(30);
	before = expiry_of(session);
	/* It was an hour behind when the timeout was set. */
	format_rfc3339(session->expires_ns, text);
	ck_assert_str_eq(before, text);
	session->expires_ns -= UINT64_C(3600) * 1000000000;
	behind = expiry_of(session);
	format_rfc3339(session->expires_ns, text);
	ck_assert_str_ne(behind, text);
	/* By the minute, for the same reason. */
	ck_assert_int_eq(strncmp(behind, before, strlen("2026-01-01T00:00")), 0);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("session_record");
	TCase *tests = tcase_create("session_record");

	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, test_without_memory);
	tcase_add_test(tests, test_end_on_a_full_disk);
	tcase_add_test(tests, test_end_that_was_written_down);
	tcase_add_test(tests, test_expiry_is_the_same_each_time);
	tcase_add_test(tests, test_expiry_when_the_wall_clock_is_set);
	suite_add_tcase(suite, tests);
	return suite;
}
