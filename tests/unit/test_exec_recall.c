/* SPDX-License-Identifier: Apache-2.0 */
/* A program that an earlier daemon began, in a VM made by hand: how it goes on, and that it never
 * runs again. */
#include "daemon/session/exec_recall.h"

#include "base/kept.h"
#include "daemon/session/exec_internal.h"
#include "tests/unit/test_hand_vm.h"
#include "tests/unit/test_results_fixture.h"
#include "tests/unit/test_scarce.h"

/* Of `place`. */
#define NUMBER 7
/* More than a program's end takes. */
#define ALLOCATIONS_MAX 150

static char vms[TEST_DIR_SIZE];
static int vms_fd;
static struct run_counters counters;
static struct exec_env env;
static struct exec *exec;
static enum exec_end last_end;
static int ends;

static void on_done(void *user UNUSED, struct exec *done, enum exec_end end)
{
	ck_assert_ptr_eq(done, exec);
	last_end = end;
	ends++;
}

static const struct exec_ops exec_ops = {.on_done = on_done};

static void write_kept(const char *name, const char *text)
{
	_cleanup_close_ int fd = vm_open_dir(&hand_host, HAND_VM);

	ck_assert_int_eq(kept_write(fd, name, text, strlen(text)), 0);
}

static void load_results(void)
{
	running = NULL;
	json_decref(TAKE_PTR(running_saved));
	ck_assert_int_eq(load(&load_ops), 0);
}

static void setup_recall(void)
{
	setup();
	test_dir_make(vms);
	vms_fd = open(vms, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_ge(vms_fd, 0);
	hand_vm_make(world.loop, vms_fd);
	write_kept("7.out", "");
	write_kept("7.err", "");
	ends = 0;
	/* A daemon sends the program to its VM, and is killed. */
	results_dispatched(begin(ONE), &place);
	end_at_once();
	json_decref(reply());
	load_results();
	ck_assert_ptr_nonnull(running);
}

static void teardown_recall(void)
{
	json_decref(TAKE_PTR(running_saved));
	hand_vm_end();
	teardown();
	close(vms_fd);
	test_dir_remove(vms);
}

/* The next one recalls it. */
static void recall(void)
{
	struct run_request request = {.language = "python", .stdout_limit = 100};
	struct exec_config exec_config = {
		.env = &env, .is_shared = true, .session = "ses_1", .ops = &exec_ops};

	env = (struct exec_env){
		.loop = world.loop, .config = &config, .counters = &counters, .results = results};
	exec = exec_recall(&exec_config, &request, running, running_saved, vms_fd);
	ck_assert_ptr_nonnull(exec);
}

/* Its VM has answered: its guest knows these. */
static void take_up(json_t *execs)
{
	struct msg_hello_reply hello = hand_hello(execs);

	exec_take_up(exec, &hand_vm, &hello);
	hand_hello_end(&hello);
}

/* The deadline had passed, or somebody had cancelled it, before the guest had it. */
START_TEST(test_verdict_of_what_never_arrived)
{
	static const char *const names[] = {"timeout", "cancelled"};

	write_kept("7.verdict", names[_i]);
	recall();
	take_up(json_array());
	ck_assert_int_eq(ends, 1);
	ck_assert_int_eq(last_end, EXEC_REPORTED);
	ck_assert(!test_dir_has(vms, HAND_VM "/7.verdict"));
	if (_i == 0) {
		json_auto_t *result = call("get", GET);

		ck_assert_json_str(result, "status", "timeout");
		ck_assert_json_int(result, "exit_code", 124);
	} else {
		assert_code("get", GET, RPC_CANCELLED);
	}
}
END_TEST

START_TEST(test_what_never_arrived_is_begun)
{
	recall();
	take_up(json_array());
	ck_assert_int_eq(ends, 0);
	ck_assert_int_eq(exec->state, EXEC_RUNNING);
	exec_fail(exec, rpc_error_no_memory());
	ck_assert_int_eq(ends, 1);
}
END_TEST

/* Whatever of its result there is no memory for: it has ended, and no daemon runs it again. */
START_TEST(test_end_without_memory)
{
	const struct msg receipt = {.type = FRAME_EXIT,
				    .exit = {.exec = NUMBER, .reason = MSG_REASON_EXITED}};
	json_auto_t *result = NULL;
	bool has_failed, is_error;

	recall();
	take_up(json_pack("[i]", NUMBER));
	scarce_begin(_i);
	exec_client_ops.on_message(exec, &receipt);
	has_failed = scarce_end();
	/* The first lacks something, and the last nothing: all that there is is tried. */
	ck_assert(_i > 0 || has_failed);
	ck_assert(_i < ALLOCATIONS_MAX - 1 || !has_failed);
	ck_assert_int_eq(ends, 1);
	ck_assert_int_eq(last_end, EXEC_REPORTED);
	loop_run_once(world.loop, false);
	result = call("get", GET);
	is_error = json_object_get(result, "code") != NULL;
	if (!is_error)
		ck_assert_json_str(result, "status", "ok");
	else
		ck_assert_json_int(result, "code", RPC_INTERNAL_ERROR);
	end_at_once();
	load_results();
	ck_assert_ptr_null(running);
	if (is_error)
		assert_code("get", GET, RPC_INTERNAL_ERROR);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("exec_recall");
	TCase *tests = tcase_create("exec_recall");

	tcase_add_checked_fixture(tests, setup_recall, teardown_recall);
	tcase_set_timeout(tests, 20);
	tcase_add_loop_test(tests, test_verdict_of_what_never_arrived, 0, 2);
	tcase_add_test(tests, test_what_never_arrived_is_begun);
	tcase_add_loop_test(tests, test_end_without_memory, 0, ALLOCATIONS_MAX);
	suite_add_tcase(suite, tests);
	return suite;
}
