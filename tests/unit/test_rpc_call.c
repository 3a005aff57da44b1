/* SPDX-License-Identifier: Apache-2.0 */
/* Calls: answered exactly once, whatever happens to their connection. */
#include "tests/unit/test_rpc_fixture.h"

#include <signal.h>
#include <sys/socket.h>

#define PING  "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"rpc.ping\"}"
#define PONG  "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":\"pong\"}"
#define HOLD  "{\"jsonrpc\":\"2.0\",\"id\":\"h\",\"method\":\"hold\"}"
#define HELD  "{\"jsonrpc\":\"2.0\",\"id\":\"h\",\"result\":\"held\"}"
#define FLOOD "{\"jsonrpc\":\"2.0\",\"id\":\"f\",\"method\":\"flood\",\"params\":{\"count\":5000}}"

START_TEST(test_pending_is_finished_later)
{
	struct line_client client = fx_client();

	fx_send(&client, HOLD);
	fx_send(&client, PING);
	fx_expect(&client, PONG);
	ck_assert(!rpc_server_is_idle(world.server));
	fx_release_all();
	fx_expect(&client, HELD);
	ck_assert(rpc_server_is_idle(world.server));
	line_client_close(&client);
}
END_TEST

START_TEST(test_finished_inside_the_handler)
{
	struct line_client client = fx_client();

	fx_send(&client, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"at_once\"}");
	fx_expect(&client, "{\"jsonrpc\":\"2.0\",\"method\":\"note\",\"params\":{\"before\":1}}");
	fx_expect(&client, "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":true}");
	line_client_close(&client);
}
END_TEST

START_TEST(test_no_result_is_an_internal_error)
{
	struct line_client client = fx_client();

	fx_send(&client, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"broken\"}");
	fx_expect_error(&client, RPC_INTERNAL_ERROR);
	line_client_close(&client);
}
END_TEST

START_TEST(test_cancel_comes_once)
{
	struct line_client client = fx_client();

	world.is_cancel_slow = true;
	fx_send(&client, HOLD);
	fx_send(&client,
		"{\"jsonrpc\":\"2.0\",\"method\":\"$/cancelRequest\",\"params\":{\"id\":\"h\"}}");
	fx_send(&client,
		"{\"jsonrpc\":\"2.0\",\"method\":\"$/cancelRequest\",\"params\":{\"id\":\"h\"}}");
	fx_send(&client, PING);
	fx_expect(&client, PONG);
	ck_assert_uint_eq(world.cancelled, 1);
	fx_release_all();
	fx_expect(&client, HELD);
	line_client_close(&client);
}
END_TEST

START_TEST(test_gone_while_pending)
{
	struct line_client client = fx_client();

	fx_send(&client, HOLD);
	fx_send(&client, "{\"jsonrpc\":\"2.0\",\"method\":\"hold\"}");
	fx_send(&client, "[{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"hold\"},"
			 "{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":\"rpc.ping\"}]");
	fx_wait(world.held_count == 3);
	line_client_close(&client);
	fx_wait(world.gone == 3);
	ck_assert_uint_eq(rpc_server_connection_count(world.server), 0);
	ck_assert(rpc_server_is_idle(world.server));
}
END_TEST

/* A client that sends and is gone before we have read anything. */
START_TEST(test_gone_before_it_was_read)
{
	struct line_client client = fx_client();

	client.pump = NULL;
	fx_send(&client, HOLD);
	line_client_close(&client);
	fx_wait(world.gone == 1);
}
END_TEST

START_TEST(test_half_closed_gets_its_replies)
{
	struct line_client client = fx_client();

	fx_send(&client, HOLD);
	fx_send(&client, PING);
	shutdown(client.fd, SHUT_WR);
	fx_expect(&client, PONG);
	fx_wait(world.held_count == 1);
	/* Some more turns of the loop: the connection must not take its end for a reason to go. */
	for (int i = 0; i < 20; i++)
		fx_pump(NULL);
	ck_assert_uint_eq(world.gone, 0);
	fx_release_all();
	fx_expect(&client, HELD);
	fx_expect_closed(&client);
	line_client_close(&client);
	fx_wait(rpc_server_connection_count(world.server) == 0);
}
END_TEST

START_TEST(test_half_closed_then_closed)
{
	struct line_client client = fx_client();
	uint64_t started;

	fx_send(&client, HOLD);
	shutdown(client.fd, SHUT_WR);
	fx_wait(world.held_count == 1);
	for (int i = 0; i < 20; i++)
		fx_pump(NULL);
	ck_assert_uint_eq(world.gone, 0);
	line_client_close(&client);
	started = now_us();
	loop_run_once(world.loop, true); /* blocks: the end itself must wake the loop */
	fx_wait(world.gone == 1);
	ck_assert_uint_lt(now_us() - started, 1000000);
	ck_assert_uint_eq(rpc_server_connection_count(world.server), 0);
}
END_TEST

START_TEST(test_half_closed_with_unsent_bytes)
{
	struct line_client client = fx_client();
	json_t *message;
	size_t count = 0;

	fx_send(&client, FLOOD);
	shutdown(client.fd, SHUT_WR);
	while (message = fx_receive(&client), !json_object_get(message, "id")) {
		json_decref(message);
		count++;
	}
	json_decref(message);
	ck_assert_uint_eq(count, 5000);
	fx_expect_closed(&client);
	line_client_close(&client);
}
END_TEST

START_TEST(test_congestion_is_told_and_taken_back)
{
	struct line_client client = fx_client();
	uint64_t expected = 5000;

	fx_send(&client, HOLD);
	fx_send(&client, FLOOD);
	fx_wait(world.congested >= 2); /* both calls */
	ck_assert_uint_eq(world.uncongested, 0);
	ck_assert_uint_gt(world.flood_left, 3000);
	ck_assert(world.is_flood_stopped);
	while (expected > 0) {
		json_auto_t *message = fx_receive(&client);
		const json_t *params = json_object_get(message, "params");

		ck_assert_int_eq(json_integer_value(json_object_get(params, "seq")), expected);
		expected--;
	}
	fx_expect(&client, "{\"jsonrpc\":\"2.0\",\"id\":\"f\",\"result\":\"flooded\"}");
	ck_assert_uint_ge(world.uncongested, 2);
	ck_assert_uint_eq(world.congested, world.uncongested);
	line_client_close(&client);
}
END_TEST

/* A client that does not read its replies cannot make more of them. */
START_TEST(test_congested_connection_is_not_read)
{
	static const char request[] =
		"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"rpc.discover\"}\n";
	struct line_client client = fx_client();
	size_t sent = 0, received = 0;

	/* Until two thousand turns of the loop in a row took nothing. */
	for (size_t idle = 0; idle < 2000; idle++) {
		if (send(client.fd, request, strlen(request), MSG_DONTWAIT | MSG_NOSIGNAL) ==
		    (ssize_t)strlen(request)) {
			sent++;
			idle = 0;
		}
		fx_pump(NULL);
		ck_assert_uint_lt(sent, 1000000);
	}
	while (received < sent) {
		json_auto_t *message = fx_receive(&client);

		ck_assert(json_is_object(json_object_get(message, "result")));
		received++;
	}
	fx_send(&client, PING);
	fx_expect(&client, PONG);
	line_client_close(&client);
}
END_TEST

START_TEST(test_gone_while_congested)
{
	struct line_client client = fx_client();

	fx_send(&client, FLOOD);
	fx_wait(world.is_flood_stopped);
	line_client_close(&client);
	fx_wait(world.gone == 1);
}
END_TEST

START_TEST(test_second_finish_aborts)
{
	struct line_client client = fx_client();
	struct rpc_call *call;

	fx_send(&client, HOLD);
	fx_wait(world.held_count == 1);
	fx_remove_socket();
	call = world.held[0].call;
	rpc_call_finish_result(call, json_true());
	rpc_call_finish_result(call, json_true());
}
END_TEST

static struct rpc_reply reply_twice(struct rpc_call *call, const json_t *params UNUSED)
{
	struct rpc_reply first = rpc_reply_result(call, json_true());

	(void)first;
	return rpc_reply_result(call, json_true());
}

static struct rpc_reply reply_forged(struct rpc_call *call UNUSED, const json_t *params UNUSED)
{
	return (struct rpc_reply){0};
}

static const struct method one_method[] = {{"m", "h", ACCESS_ANY, fx_none, "r"}, {.name = NULL}};

static void run_one(rpc_handler_fn fn)
{
	const struct rpc_handler handler = {"m", fn};
	struct line_client client;

	rpc_server_destroy(world.server);
	world.config.methods = one_method;
	world.config.handlers = &handler;
	world.config.handler_count = 1;
	ck_assert_int_eq(rpc_server_create(&world.config, &world.server), 0);
	client = fx_client();
	fx_remove_socket();
	fx_send(&client, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\"}");
	fx_expect_closed(&client);
}

START_TEST(test_two_replies_abort)
{
	run_one(reply_twice);
}
END_TEST

START_TEST(test_forged_reply_aborts)
{
	run_one(reply_forged);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("rpc_call");
	TCase *tcase = tcase_create("call"), *aborts;

	tcase_set_timeout(tcase, 120);
	tcase_add_checked_fixture(tcase, fx_setup, fx_teardown);
	tcase_add_test(tcase, test_pending_is_finished_later);
	tcase_add_test(tcase, test_finished_inside_the_handler);
	tcase_add_test(tcase, test_no_result_is_an_internal_error);
	tcase_add_test(tcase, test_cancel_comes_once);
	tcase_add_test(tcase, test_gone_while_pending);
	tcase_add_test(tcase, test_gone_before_it_was_read);
	tcase_add_test(tcase, test_half_closed_gets_its_replies);
	tcase_add_test(tcase, test_half_closed_then_closed);
	tcase_add_test(tcase, test_half_closed_with_unsent_bytes);
	tcase_add_test(tcase, test_congestion_is_told_and_taken_back);
	tcase_add_test(tcase, test_congested_connection_is_not_read);
	tcase_add_test(tcase, test_gone_while_congested);
	suite_add_tcase(suite, tcase);
	/* These end their process: only where each test has one of its own. */
	if (!getenv("CK_FORK") || strcmp(getenv("CK_FORK"), "no") != 0) {
		aborts = tcase_create("aborts");
		tcase_add_checked_fixture(aborts, fx_setup, fx_teardown);
		tcase_add_test_raise_signal(aborts, test_second_finish_aborts, SIGABRT);
		tcase_add_test_raise_signal(aborts, test_two_replies_abort, SIGABRT);
		tcase_add_test_raise_signal(aborts, test_forged_reply_aborts, SIGABRT);
		suite_add_tcase(suite, aborts);
	}
	return suite;
}
