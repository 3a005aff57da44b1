/* SPDX-License-Identifier: Apache-2.0 */
/* The event hub: order, patterns, who sees what, repeating, and slow readers. */
#include "base/log.h"
#include "tests/unit/test_rpc_fixture.h"

#define SUBSCRIBE(params) \
	"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"events.subscribe\",\"params\":{" params "}}"
#define PING "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"rpc.ping\"}"
#define PONG "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":\"pong\"}"

static struct events_hub *hub(void)
{
	return rpc_server_events(world.server);
}

static void publish(const char *type)
{
	events_publish(hub(), type, getuid(),
		       json_pack("{s:s, s:{s:i}}", "vm", "vm_1", "data", "pid", 7));
}

/* Subscribes and gives back the id. */
static void subscribe(struct line_client *client, const char *request, char id[32])
{
	json_auto_t *reply = NULL;
	const json_t *result;

	fx_send(client, request);
	reply = fx_receive(client);
	result = json_object_get(reply, "result");
	ck_assert_msg(result, "%s", json_dumps(reply, 0));
	snprintf(id, 32, "%s", json_string_value(json_object_get(result, "subscription")));
	ck_assert_uint_eq(json_integer_value(json_object_get(result, "seq")), events_seq(hub()));
}

/* The next message is an event of this type and number, of this subscription. */
static void expect_event(struct line_client *client, const char *id, const char *type, uint64_t seq)
{
	json_auto_t *message = fx_receive(client);
	const json_t *params = json_object_get(message, "params");

	ck_assert_str_eq(json_string_value(json_object_get(message, "method")), "event");
	ck_assert_str_eq(json_string_value(json_object_get(params, "subscription")), id);
	ck_assert_str_eq(json_string_value(json_object_get(params, "type")), type);
	ck_assert_uint_eq(json_integer_value(json_object_get(params, "seq")), seq);
	ck_assert_uint_eq(json_string_length(json_object_get(params, "time")), 24);
}

static void expect_silence(struct line_client *client)
{
	for (int i = 0; i < 10; i++)
		fx_pump(NULL);
	fx_send(client, PING);
	fx_expect(client, PONG);
}

START_TEST(test_shape_of_an_event)
{
	struct line_client client = fx_client();
	json_auto_t *message = NULL;
	json_t *params;
	char id[32];

	subscribe(&client, SUBSCRIBE(""), id);
	publish("vm.started");
	message = fx_receive(&client);
	params = json_object_get(message, "params");
	ck_assert_str_eq(json_string_value(json_object_get(params, "vm")), "vm_1");
	ck_assert_int_eq(
		json_integer_value(json_object_get(json_object_get(params, "data"), "pid")), 7);
	ck_assert_ptr_null(json_object_get(params, "session"));
	ck_assert_uint_eq(json_object_size(params), 6);
	events_publish(hub(), "daemon.ready", getuid(), NULL);
	json_decref(message);
	message = fx_receive(&client);
	ck_assert(json_is_object(json_object_get(json_object_get(message, "params"), "data")));
	line_client_close(&client);
}
END_TEST

START_TEST(test_patterns)
{
	struct line_client client = fx_client();
	char vms[32], exact[32], all[32], both[32];

	subscribe(&client, SUBSCRIBE("\"types\":[\"vm.*\"]"), vms);
	publish("vm.started");
	expect_event(&client, vms, "vm.started", 1);
	publish("vmx.started");
	publish("session.closed");
	expect_silence(&client);
	publish("vm.memory.high");
	expect_event(&client, vms, "vm.memory.high", 4);
	line_client_close(&client);
	client = fx_client();
	subscribe(&client, SUBSCRIBE("\"types\":[\"vm.started\"]"), exact);
	publish("vm.started2");
	publish("vm.started");
	expect_event(&client, exact, "vm.started", 6);
	line_client_close(&client);
	client = fx_client();
	subscribe(&client, SUBSCRIBE("\"types\":[\"*\"]"), all);
	publish("x");
	expect_event(&client, all, "x", 7);
	line_client_close(&client);
	client = fx_client();
	subscribe(&client, SUBSCRIBE("\"types\":[\"a.*\",\"b.c\",\"*\"]"), both);
	publish("b.c");
	expect_event(&client, both, "b.c", 8); /* once, although two patterns match */
	expect_silence(&client);
	line_client_close(&client);
}
END_TEST

START_TEST(test_bad_patterns)
{
	static const char *const bad[] = {
		"[]",
		"[\"\"]",
		"[\"vm*\"]",
		"[\"*.vm\"]",
		"[\"vm.*.x\"]",
		"[\"VM\"]",
		"[\"**\"]",
		"[\"vm.started\\u0000\"]",
		"[\"vm started\"]",
		"[\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"]",
	};
	struct line_client client = fx_client();

	for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
		char request[256];

		snprintf(request, sizeof(request), SUBSCRIBE("\"types\":%s"), bad[i]);
		fx_send(&client, request);
		fx_expect_error(&client, RPC_INVALID_PARAMS);
	}
	publish("vm.started");
	expect_silence(&client);
	line_client_close(&client);
}
END_TEST

START_TEST(test_repeating_from_a_number)
{
	struct line_client client = fx_client();
	char id[32];

	for (int i = 0; i < 5; i++)
		publish("vm.started");
	subscribe(&client, SUBSCRIBE("\"since_seq\":3"), id);
	publish("vm.stopped");
	expect_event(&client, id, "vm.started", 4);
	expect_event(&client, id, "vm.started", 5);
	expect_event(&client, id, "vm.stopped", 6);
	line_client_close(&client);
	client = fx_client();
	subscribe(&client, SUBSCRIBE("\"since_seq\":0"), id);
	for (uint64_t seq = 1; seq <= 5; seq++)
		expect_event(&client, id, "vm.started", seq);
	line_client_close(&client);
	/* A number of an earlier life of the daemon. */
	client = fx_client();
	subscribe(&client, SUBSCRIBE("\"since_seq\":4000,\"types\":[\"vm.stopped\"]"), id);
	expect_event(&client, id, "vm.stopped", 6);
	expect_silence(&client);
	line_client_close(&client);
}
END_TEST

static void expect_gap(struct line_client *client, uint64_t first, uint64_t last)
{
	json_auto_t *message = fx_receive(client);
	const json_t *params = json_object_get(message, "params");
	const json_t *data = json_object_get(params, "data");

	ck_assert_str_eq(json_string_value(json_object_get(params, "type")), "events.dropped");
	ck_assert_uint_eq(json_integer_value(json_object_get(params, "seq")), last);
	ck_assert_uint_eq(json_integer_value(json_object_get(data, "first_seq")), first);
	ck_assert_uint_eq(json_integer_value(json_object_get(data, "last_seq")), last);
}

START_TEST(test_what_is_no_longer_kept)
{
	struct line_client client = fx_client();
	char id[32];

	for (uint64_t i = 0; i < EVENTS_KEPT + 10; i++)
		publish("vm.started");
	subscribe(&client, SUBSCRIBE("\"since_seq\":3"), id);
	expect_gap(&client, 4, 10);
	for (uint64_t seq = 11; seq <= EVENTS_KEPT + 10; seq++)
		expect_event(&client, id, "vm.started", seq);
	expect_silence(&client);
	line_client_close(&client);
}
END_TEST

/* Events of 10 KiB, read by nobody: the subscription stands still, then hears of its gap. */
START_TEST(test_slow_reader_hears_of_its_gap)
{
	struct line_client client = fx_client();
	uint64_t seq = 0, gap_first = 0;
	char id[32];
	static char big[10000];

	memset(big, 'x', sizeof(big) - 1);
	subscribe(&client, SUBSCRIBE(""), id);
	for (uint64_t i = 0; i < 3 * EVENTS_KEPT; i++) {
		events_publish(hub(), "vm.noise", getuid(),
			       json_pack("{s:{s:s}}", "data", "text", big));
		fx_pump(NULL);
	}
	while (seq < 3 * EVENTS_KEPT) {
		json_auto_t *message = fx_receive(&client);
		const json_t *params = json_object_get(message, "params");
		const json_t *data = json_object_get(params, "data");
		const json_t *first = json_object_get(data, "first_seq");

		if (first) {
			ck_assert_uint_eq(gap_first, 0); /* one gap, not many */
			gap_first = (uint64_t)json_integer_value(first);
			ck_assert_uint_eq(gap_first, seq + 1);
			seq = (uint64_t)json_integer_value(json_object_get(data, "last_seq"));
			ck_assert_uint_eq(seq, 2 * EVENTS_KEPT);
		} else {
			ck_assert_uint_eq(json_integer_value(json_object_get(params, "seq")),
					  ++seq);
		}
	}
	ck_assert_uint_gt(gap_first, 0);
	expect_silence(&client);
	line_client_close(&client);
}
END_TEST

START_TEST(test_large_data_is_left_out)
{
	struct line_client client = fx_client();
	json_auto_t *message = NULL;
	static char big[EVENTS_TEXT_MAX_BYTES + 1];
	char id[32];

	memset(big, 'x', sizeof(big) - 1);
	log_set_level(LOG_ERR);
	subscribe(&client, SUBSCRIBE(""), id);
	events_publish(hub(), "vm.noise", getuid(),
		       json_pack("{s:s, s:{s:s}}", "vm", "vm_1", "data", "text", big));
	message = fx_receive(&client);
	ck_assert_str_eq(
		json_string_value(json_object_get(json_object_get(message, "params"), "vm")),
		"vm_1");
	ck_assert_uint_eq(
		json_object_size(json_object_get(json_object_get(message, "params"), "data")), 0);
	line_client_close(&client);
}
END_TEST

/* The peer of a connection is what SO_PEERCRED says: here always ourselves, an admin when root. */
START_TEST(test_only_own_events)
{
	struct line_client client = fx_client();
	const uid_t other = getuid() + 1;
	char id[32];

	subscribe(&client, SUBSCRIBE(""), id);
	events_publish(hub(), "vm.started", other, NULL);
	events_publish(hub(), "daemon.reloaded", EVENTS_FOR_ADMINS, NULL);
	publish("vm.started");
	if (getuid() == 0) {
		expect_event(&client, id, "vm.started", 1);
		expect_event(&client, id, "daemon.reloaded", 2);
	}
	expect_event(&client, id, "vm.started", 3);
	line_client_close(&client);
}
END_TEST

START_TEST(test_unsubscribe)
{
	struct line_client client = fx_client(), other = fx_client();
	char id[32], request[256];

	subscribe(&client, SUBSCRIBE(""), id);
	snprintf(request, sizeof(request),
		 "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"events.unsubscribe\","
		 "\"params\":{\"subscription\":\"%s\"}}",
		 id);
	/* Not another connection's to end. */
	fx_send(&other, request);
	fx_expect_error(&other, RPC_INVALID_PARAMS);
	publish("vm.started");
	expect_event(&client, id, "vm.started", 1);
	fx_send(&client, request);
	fx_expect(&client, "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}");
	publish("vm.started");
	expect_silence(&client);
	fx_send(&client, request);
	fx_expect_error(&client, RPC_INVALID_PARAMS);
	line_client_close(&client);
	line_client_close(&other);
}
END_TEST

START_TEST(test_subscriptions_are_capped_and_die_with_their_connection)
{
	struct line_client client = fx_client();
	char id[32];

	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < EVENTS_SUBSCRIPTIONS_PER_CONN; i++)
			subscribe(&client, SUBSCRIBE(""), id);
		fx_send(&client, SUBSCRIBE(""));
		fx_expect_error(&client, RPC_QUOTA_EXCEEDED);
		line_client_close(&client);
		fx_wait(rpc_server_connection_count(world.server) == 0);
		publish("vm.started");
		fx_pump(NULL);
		client = fx_client();
	}
	line_client_close(&client);
}
END_TEST

/* 'echo subscribe | socat' keeps listening, until it really goes. */
START_TEST(test_half_closed_subscriber_stays)
{
	struct line_client client = fx_client();
	char id[32];

	subscribe(&client, SUBSCRIBE(""), id);
	shutdown(client.fd, SHUT_WR);
	for (int i = 0; i < 20; i++)
		fx_pump(NULL);
	publish("vm.started");
	expect_event(&client, id, "vm.started", 1);
	line_client_close(&client);
	fx_wait(rpc_server_connection_count(world.server) == 0);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("rpc_events");
	TCase *tcase = tcase_create("events");

	tcase_set_timeout(tcase, 120);
	tcase_add_checked_fixture(tcase, fx_setup, fx_teardown);
	tcase_add_test(tcase, test_shape_of_an_event);
	tcase_add_test(tcase, test_patterns);
	tcase_add_test(tcase, test_bad_patterns);
	tcase_add_test(tcase, test_repeating_from_a_number);
	tcase_add_test(tcase, test_what_is_no_longer_kept);
	tcase_add_test(tcase, test_slow_reader_hears_of_its_gap);
	tcase_add_test(tcase, test_large_data_is_left_out);
	tcase_add_test(tcase, test_only_own_events);
	tcase_add_test(tcase, test_unsubscribe);
	tcase_add_test(tcase, test_subscriptions_are_capped_and_die_with_their_connection);
	tcase_add_test(tcase, test_half_closed_subscriber_stays);
	suite_add_tcase(suite, tcase);
	return suite;
}
