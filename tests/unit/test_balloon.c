/* SPDX-License-Identifier: Apache-2.0 */
/* The balloon: reached, replaced, refused, cancelled; and numbers that no guest may make believed.
 */
#include "daemon/vm/balloon.h"

#include "base/util.h"
#include "tests/fake/fake_qmp.h"
#include "tests/fake/wait.h"
#include "tests/unit/suite.h"
#include "tests/unit/test_json.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>

#define MIB    (UINT64_C(1) << 20)
#define SIZE   (256 * MIB)
#define RARELY 3600. /* no statistics during a test that does not want them */

static struct loop *loop;
static struct fake_qmp *fake;
static struct qmp *qmp;
static struct balloon balloon;
static bool is_ready;
static int done_count, done_error;
static uint64_t done_actual;

static void on_ready(void *user UNUSED)
{
	is_ready = true;
}

static void on_event(void *user UNUSED, const char *name UNUSED, const json_t *data UNUSED,
		     uint64_t time_us UNUSED)
{
}

static void on_end(void *user UNUSED, int error UNUSED)
{
}

static const struct qmp_ops ops = {.on_ready = on_ready, .on_event = on_event, .on_end = on_end};

static void on_done(void *user, int error, uint64_t actual_bytes)
{
	ck_assert_ptr_eq(user, &balloon);
	done_count++;
	done_error = error;
	done_actual = actual_bytes;
}

static void set_actual(uint64_t bytes)
{
	char text[64];

	snprintf(text, sizeof(text), "{\"actual\": %ju}", (uintmax_t)bytes);
	fake_qmp_answer(fake, "query-balloon", text);
}

static void start(double interval_seconds)
{
	balloon_start(&balloon, loop, qmp, SIZE, interval_seconds);
}

static void setup(void)
{
	int fds[2];

	is_ready = false;
	done_count = 0;
	balloon = (struct balloon){0};
	ck_assert_int_eq(loop_create(&loop), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	fake = fake_qmp_create(loop, fds[0]);
	fake_qmp_handshake(fake);
	fake_qmp_answer(fake, "qom-set", "{}");
	fake_qmp_answer(fake, "qom-get", "{\"last-update\": 0, \"stats\": {}}");
	set_actual(SIZE);
	ck_assert_int_eq(qmp_create(loop, "test", fds[1], 20000, &ops, NULL, &qmp), 0);
	ck_assert(WAIT_FOR(loop, is_ready));
}

static void teardown(void)
{
	balloon_stop(&balloon);
	qmp_destroy(qmp);
	fake_qmp_destroy(fake);
	loop_destroy(loop);
}

static int set(uint64_t target)
{
	return balloon_set(&balloon, target, on_done, &balloon);
}

/* Waits for a `balloon` command and returns its value. */
static uint64_t take_target(json_t **ret_command)
{
	json_t *command;
	uint64_t value;

	ck_assert(WAIT_FOR(loop, fake_qmp_waiting(fake) > 0));
	command = fake_qmp_take(fake);
	ck_assert_json_str(command, "execute", "balloon");
	value = (uint64_t)json_integer_value(json_need(json_need(command, "arguments"), "value"));
	*ret_command = command;
	return value;
}

static void grant_target(uint64_t expected)
{
	json_t *command;

	ck_assert_uint_eq(take_target(&command), expected);
	fake_qmp_reply(fake, command, "{}");
	json_decref(command);
}

START_TEST(test_reached_by_asking)
{
	start(RARELY);
	ck_assert_int_eq(set(128 * MIB), 0);
	ck_assert_uint_eq(balloon.target_bytes, 128 * MIB);
	grant_target(128 * MIB);
	set_actual(128 * MIB + 4096);
	ck_assert(WAIT_FOR(loop, done_count == 1));
	ck_assert_int_eq(done_error, 0);
	ck_assert_uint_eq(done_actual, 128 * MIB + 4096);
}
END_TEST

START_TEST(test_reached_by_events)
{
	start(RARELY);
	ck_assert_int_eq(set(128 * MIB), 0);
	grant_target(128 * MIB);
	for (uint64_t actual = SIZE; actual > 128 * MIB; actual -= 16 * MIB) {
		balloon_changed(&balloon, actual);
		ck_assert_int_eq(done_count, 0);
	}
	balloon_changed(&balloon, 128 * MIB);
	ck_assert_int_eq(done_count, 1);
	ck_assert_int_eq(done_error, 0);
	balloon_changed(&balloon, 64 * MIB); /* later ones are nobody's */
	ck_assert_int_eq(done_count, 1);
	ck_assert_uint_eq(balloon.actual_bytes, 64 * MIB);
}
END_TEST

/* Another target takes the place of the one that is under way: its owner hears of it inside. */
START_TEST(test_replaced)
{
	start(RARELY);
	ck_assert_int_eq(set(128 * MIB), 0);
	ck_assert_int_eq(set(200 * MIB), 0);
	ck_assert_int_eq(done_count, 1);
	ck_assert_int_eq(done_error, -ECANCELED);
	ck_assert_uint_eq(balloon.target_bytes, 200 * MIB);
	grant_target(128 * MIB);
	grant_target(200 * MIB);
	balloon_changed(&balloon, 128 * MIB);
	ck_assert_int_eq(done_count, 1);
	balloon_changed(&balloon, 200 * MIB);
	ck_assert_int_eq(done_count, 2);
	ck_assert_int_eq(done_error, 0);
}
END_TEST

/* What QEMU says of a target that was replaced says nothing of the next. */
START_TEST(test_replaced_and_refused)
{
	json_t *command;

	start(RARELY);
	ck_assert_int_eq(set(128 * MIB), 0);
	ck_assert_int_eq(set(200 * MIB), 0);
	take_target(&command);
	fake_qmp_fail(fake, command, "GenericError", "no");
	json_decref(command);
	grant_target(200 * MIB);
	set_actual(200 * MIB);
	ck_assert(WAIT_FOR(loop, done_count == 2));
	ck_assert_int_eq(done_error, 0);
	ck_assert_uint_eq(balloon.target_bytes, 200 * MIB);
}
END_TEST

START_TEST(test_cancel)
{
	start(RARELY);
	ck_assert_int_eq(set(128 * MIB), 0);
	balloon_cancel(&balloon);
	ck_assert_int_eq(done_count, 1);
	ck_assert_int_eq(done_error, -ECANCELED);
	balloon_cancel(&balloon);
	ck_assert_int_eq(done_count, 1);
	grant_target(128 * MIB);
	/* And the next operation works. */
	ck_assert_int_eq(set(SIZE), 0);
	grant_target(SIZE);
	set_actual(SIZE);
	ck_assert(WAIT_FOR(loop, done_count == 2));
	ck_assert_int_eq(done_error, 0);
}
END_TEST

START_TEST(test_qemu_refuses)
{
	json_t *command;

	start(RARELY);
	ck_assert_int_eq(set(128 * MIB), 0);
	take_target(&command);
	fake_qmp_fail(fake, command, "GenericError", "no balloon");
	json_decref(command);
	ck_assert(WAIT_FOR(loop, done_count == 1));
	ck_assert_int_eq(done_error, -EREMOTEIO);
}
END_TEST

START_TEST(test_qemu_does_not_answer)
{
	start(RARELY);
	ck_assert_int_eq(set(128 * MIB), 0);
	ck_assert(WAIT_FOR(loop, done_count == 1));
	ck_assert_int_eq(done_error, -ETIMEDOUT);
}
END_TEST

START_TEST(test_end_of_the_vm_cancels)
{
	start(RARELY);
	ck_assert_int_eq(set(128 * MIB), 0);
	balloon_stop(&balloon);
	ck_assert_int_eq(done_count, 1);
	ck_assert_int_eq(done_error, -ECANCELED);
	balloon_stop(&balloon);
	ck_assert_int_eq(done_count, 1);
	/* The same when the link goes first, and when nothing ever started. */
	start(RARELY);
	ck_assert_int_eq(set(128 * MIB), 0);
	qmp_destroy(qmp);
	qmp = NULL;
	balloon_stop(&balloon);
	ck_assert_int_eq(done_count, 2);
	ck_assert_int_eq(done_error, -ECANCELED);
	balloon = (struct balloon){0};
	balloon_stop(&balloon);
}
END_TEST

/* What an earlier daemon has taken shows; a target of our own holds. */
START_TEST(test_adopted)
{
	set_actual(100 * MIB);
	start(RARELY);
	balloon_adopt(&balloon);
	ck_assert_uint_eq(balloon.target_bytes, SIZE);
	ck_assert(WAIT_FOR(loop, balloon.actual_bytes == 100 * MIB));
	ck_assert_uint_eq(balloon.target_bytes, 100 * MIB);
	/* It was on its way when that daemon ended. */
	balloon_changed(&balloon, 80 * MIB);
	ck_assert_uint_eq(balloon.target_bytes, 80 * MIB);
	balloon_changed(&balloon, UINT64_MAX);
	ck_assert_uint_eq(balloon.target_bytes, SIZE);
	balloon_changed(&balloon, 80 * MIB);
	ck_assert_int_eq(set(200 * MIB), 0);
	balloon_changed(&balloon, 90 * MIB);
	ck_assert_uint_eq(balloon.target_bytes, 200 * MIB);
	grant_target(200 * MIB);
	balloon_changed(&balloon, 200 * MIB);
	ck_assert_int_eq(done_count, 1);
	balloon_changed(&balloon, 190 * MIB);
	ck_assert_uint_eq(balloon.target_bytes, 200 * MIB);
}
END_TEST

/* The answer to the first question comes when a target was set: that is the one. */
START_TEST(test_adopted_and_set_at_once)
{
	set_actual(100 * MIB);
	start(RARELY);
	balloon_adopt(&balloon);
	ck_assert_int_eq(set(200 * MIB), 0);
	ck_assert(WAIT_FOR(loop, balloon.actual_bytes == 100 * MIB));
	ck_assert_uint_eq(balloon.target_bytes, 200 * MIB);
	grant_target(200 * MIB);
}
END_TEST

/* QEMU computes `actual` from a number the guest writes. */
START_TEST(test_hostile_actual)
{
	static const char *const answers[] = {"{\"actual\": 9223372036854775807}",
					      "{\"actual\": -1}", "{\"actual\": \"x\"}", "{}",
					      "[]"};

	start(RARELY);
	ck_assert_int_eq(set(128 * MIB), 0);
	grant_target(128 * MIB);
	for (size_t i = 0; i < ELEMENTSOF(answers); i++) {
		size_t before = fake_qmp_received(fake);

		fake_qmp_answer(fake, "query-balloon", answers[i]);
		ck_assert(WAIT_FOR(loop, fake_qmp_received(fake) >= before + 2));
		ck_assert_uint_le(balloon.actual_bytes, SIZE);
	}
	balloon_changed(&balloon, UINT64_MAX);
	ck_assert_uint_eq(balloon.actual_bytes, SIZE);
	ck_assert_int_eq(done_count, 0);
	balloon_changed(&balloon, 128 * MIB);
	ck_assert_int_eq(done_error, 0);
}
END_TEST

START_TEST(test_statistics)
{
	fake_qmp_answer(
		fake, "qom-get",
		"{\"last-update\": 77, \"stats\": {\"stat-total-memory\": 240000000,"
		"\"stat-free-memory\": 1.8446744073709552e19, \"stat-available-memory\": -5,"
		"\"stat-disk-caches\": \"x\", \"stat-swap-in\": 4096}}");
	start(0.01);
	ck_assert(WAIT_FOR(loop, balloon.stats.updated_s == 77));
	ck_assert_uint_eq(balloon.stats.total, 240000000);
	ck_assert_uint_eq(balloon.stats.free, 0); /* "not reported" */
	ck_assert_uint_eq(balloon.stats.available, 0);
	ck_assert_uint_eq(balloon.stats.caches, 0);
	ck_assert_uint_eq(balloon.stats.swap_in, 4096);
	ck_assert_uint_eq(balloon.stats.swap_out, 0);
	fake_qmp_answer(fake, "qom-get", "{\"last-update\": 78}");
	ck_assert(WAIT_FOR(loop, balloon.stats.updated_s == 78));
	ck_assert_uint_eq(balloon.stats.total, 0);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("balloon");
	TCase *tests = tcase_create("balloon");

	tcase_set_timeout(tests, 60);
	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, test_reached_by_asking);
	tcase_add_test(tests, test_reached_by_events);
	tcase_add_test(tests, test_replaced);
	tcase_add_test(tests, test_replaced_and_refused);
	tcase_add_test(tests, test_cancel);
	tcase_add_test(tests, test_qemu_refuses);
	tcase_add_test(tests, test_qemu_does_not_answer);
	tcase_add_test(tests, test_end_of_the_vm_cancels);
	tcase_add_test(tests, test_adopted);
	tcase_add_test(tests, test_adopted_and_set_at_once);
	tcase_add_test(tests, test_hostile_actual);
	tcase_add_test(tests, test_statistics);
	suite_add_tcase(suite, tests);
	return suite;
}
