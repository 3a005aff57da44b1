/* SPDX-License-Identifier: Apache-2.0 */
/* The server: who connects, how many, how much they may keep waiting, and the end. */
#include "base/log.h"
#include "daemon/rpc/conn.h"
#include "daemon/rpc/dispatch.h"
#include "daemon/rpc/wire.h"
#include "tests/unit/test_rpc_fixture.h"

#include <errno.h>
#include <grp.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define PING "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"rpc.ping\"}"
#define PONG "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":\"pong\"}"
#define HOLD "{\"jsonrpc\":\"2.0\",\"id\":\"h\",\"method\":\"hold\"}"

/* Ids that belong to nobody on a test machine. */
#define OTHER_UID 54321
#define OTHER_GID 54322
#define ADMIN_GID 54323

static char last_line[512];
static size_t lines_logged;

static void keep_line(int level UNUSED, const char *object UNUSED, const char *message)
{
	snprintf(last_line, sizeof(last_line), "%s", message);
	lines_logged++;
}

static void setup(void)
{
	fx_setup();
	log_set_sink(keep_line);
}

static void setup_small(void)
{
	lines_logged = 0;
	fx_open((struct rpc_limits){
		.connections_per_uid = 2,
		.unsent_max_bytes = 3u << 20,
		.uid_buffered_max_bytes = 4u << 20,
	});
	log_set_sink(keep_line);
}

static void teardown(void)
{
	fx_teardown();
	log_set_sink(NULL);
}

/*
 * Calls a method as another user and answers with the error's code, 0 for a result, from a child
 * process: credentials are taken when a process connects.
 */
static int call_as(uid_t uid, gid_t gid, const gid_t *groups, size_t group_count,
		   const char *method)
{
	pid_t child;
	int status = 0;

	ck_assert_int_eq(chmod(world.dir, 0755), 0);
	child = fork();
	if (child == 0) {
		struct line_client client = {.fd = -1};
		char path[128], request[256], *line = NULL;
		json_t *message;

		snprintf(path, sizeof(path), "%s/socket", world.dir);
		snprintf(request, sizeof(request),
			 "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"%s\"}\n", method);
		if (setgroups(group_count, groups) < 0 || setgid(gid) < 0 || setuid(uid) < 0)
			_exit(100);
		client.fd = unix_connect_at(AT_FDCWD, path);
		if (client.fd < 0 || line_client_send(&client, request, strlen(request)) < 0 ||
		    line_client_receive(&client, &line) != 1)
			_exit(101);
		message = json_loads(line, 0, NULL);
		if (json_object_get(message, "result"))
			_exit(0);
		_exit(json_integer_value(json_object_get(json_object_get(message, "error"),
							 "code")) == RPC_UNAUTHORIZED
			      ? 1
			      : 102);
	}
	while (waitpid(child, &status, WNOHANG) == 0)
		loop_run_once(world.loop, false);
	ck_assert(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void reopen(gid_t admin_gid)
{
	char path[128];

	rpc_server_destroy(world.server);
	world.config.admin_gid = admin_gid;
	ck_assert_int_eq(rpc_server_create(&world.config, &world.server), 0);
	snprintf(path, sizeof(path), "%s/socket", world.dir);
	ck_assert_int_eq(chmod(path, 0666), 0);
}

START_TEST(test_who_is_admin)
{
	gid_t many[300] = {0};

	for (size_t i = 0; i < ELEMENTSOF(many); i++)
		many[i] = 60000 + (gid_t)i;
	if (getuid() != 0) {
		/* Without root there are no other users to be: our own uid is no admin. */
		struct line_client client = fx_client();

		fx_send(&client, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"admin\"}");
		fx_expect_error(&client, RPC_UNAUTHORIZED);
		line_client_close(&client);
		return;
	}
	reopen(ADMIN_GID);
	ck_assert_int_eq(call_as(0, 0, NULL, 0, "admin"), 0);
	ck_assert_int_eq(call_as(OTHER_UID, OTHER_GID, NULL, 0, "admin"), 1);
	ck_assert_int_eq(call_as(OTHER_UID, OTHER_GID, NULL, 0, "rpc.ping"), 0);
	ck_assert_int_eq(call_as(OTHER_UID, ADMIN_GID, NULL, 0, "admin"), 0);
	ck_assert_int_eq(call_as(OTHER_UID, OTHER_GID, (gid_t[]){7, ADMIN_GID}, 2, "admin"), 0);
	ck_assert_int_eq(call_as(OTHER_UID, OTHER_GID, many, 300, "admin"), 1);
	many[299] = ADMIN_GID;
	ck_assert_int_eq(call_as(OTHER_UID, OTHER_GID, many, 300, "admin"), 0);
	reopen(RPC_NO_GID);
	ck_assert_int_eq(call_as(OTHER_UID, ADMIN_GID, NULL, 0, "admin"), 1);
	ck_assert_int_eq(call_as(OTHER_UID, OTHER_GID, (gid_t[]){(gid_t)-2}, 1, "admin"), 1);
}
END_TEST

START_TEST(test_connections_per_uid)
{
	struct line_client first = fx_client(), second = fx_client(), third, fourth;

	fx_send(&first, PING);
	fx_expect(&first, PONG);
	fx_send(&second, PING);
	fx_expect(&second, PONG);
	third = fx_client();
	fx_expect_error(&third, RPC_TOO_MANY_REQUESTS);
	fx_expect_closed(&third);
	/* One place free again: it is given, although the refused one still lingers. */
	line_client_close(&first);
	fx_wait(rpc_server_connection_count(world.server) == 2);
	fourth = fx_client();
	fx_send(&fourth, PING);
	fx_expect(&fourth, PONG);
	/* The one that was refused is gone and forgotten: it makes no room for a third. */
	line_client_close(&third);
	fx_wait(rpc_server_connection_count(world.server) == 2);
	third = fx_client();
	fx_expect_error(&third, RPC_TOO_MANY_REQUESTS);
	line_client_close(&second);
	line_client_close(&third);
	line_client_close(&fourth);
	fx_wait(rpc_server_connection_count(world.server) == 0);
}
END_TEST

/* Refused clients that send before they read still read why. */
START_TEST(test_refused_client_that_talks_first)
{
	struct line_client first = fx_client(), second = fx_client(), third;

	third = fx_client();
	fx_send(&third, PING);
	fx_expect_error(&third, RPC_TOO_MANY_REQUESTS);
	fx_expect_closed(&third);
	line_client_close(&first);
	line_client_close(&second);
	line_client_close(&third);
}
END_TEST

/* One that was refused and never goes by itself is closed after RPC_LINGER_SECONDS. */
START_TEST(test_refused_client_that_stays)
{
	struct line_client first = fx_client(), second = fx_client(), third = fx_client();
	const uint64_t started = now_us();

	fx_expect_error(&third, RPC_TOO_MANY_REQUESTS);
	ck_assert_uint_eq(rpc_server_connection_count(world.server), 3);
	while (rpc_server_connection_count(world.server) == 3)
		loop_run_once(world.loop, true);
	ck_assert_uint_ge(now_us() - started, (uint64_t)(RPC_LINGER_SECONDS * 900000));
	line_client_close(&first);
	line_client_close(&second);
	line_client_close(&third);
}
END_TEST

START_TEST(test_flood_of_refused_connections)
{
	struct line_client clients[60];

	for (size_t i = 0; i < ELEMENTSOF(clients); i++)
		clients[i] = fx_client();
	for (size_t i = 2; i < ELEMENTSOF(clients); i++) {
		fx_expect_error(&clients[i], RPC_TOO_MANY_REQUESTS);
		fx_expect_closed(&clients[i]);
	}
	/* Two served, sixteen lingering, the others closed at once. */
	ck_assert_uint_eq(rpc_server_connection_count(world.server), 18);
	fx_send(&clients[0], PING);
	fx_expect(&clients[0], PONG);
	for (size_t i = 0; i < ELEMENTSOF(clients); i++)
		line_client_close(&clients[i]);
	fx_wait(rpc_server_connection_count(world.server) == 0);
}
END_TEST

/* "hold" does not hold notifications back: they are as if nobody asked rpc_call_is_congested(). */
START_TEST(test_unsent_bytes_are_capped)
{
	struct line_client client = fx_client();
	struct rpc_call *call;

	fx_send(&client, HOLD);
	fx_wait(world.held_count == 1);
	call = world.held[0].call;
	for (size_t i = 0; i < 5000 && world.gone == 0; i++) {
		char text[1024];

		memset(text, 'x', sizeof(text));
		rpc_call_notify(call, "note", json_pack("{s:s#}", "text", text, (int)sizeof(text)));
	}
	/* The call is still ours inside this iteration, and dead at the end of it. */
	ck_assert_uint_eq(world.gone, 0);
	fx_wait(world.gone == 1);
	ck_assert_str_eq(last_line, "Closed: it does not read what it asked for");
	line_client_close(&client);
}
END_TEST

START_TEST(test_reply_over_the_cap_is_an_error)
{
	struct line_client client = fx_client();

	fx_send(&client,
		"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"big\",\"params\":{\"bytes\":3145700}}");
	fx_expect_error(&client, RPC_MESSAGE_TOO_LARGE);
	fx_send(&client, PING);
	fx_expect(&client, PONG);
	line_client_close(&client);
}
END_TEST

START_TEST(test_batch_replies_are_capped)
{
	struct line_client client = fx_client();
	char batch[1024] = "[";

	for (int i = 0; i < 4; i++)
		snprintf(batch + strlen(batch), sizeof(batch) - strlen(batch),
			 "{\"jsonrpc\":\"2.0\",\"id\":%d,\"method\":\"big\","
			 "\"params\":{\"bytes\":1000000}}%s",
			 i, i < 3 ? "," : "]");
	fx_send(&client, batch);
	fx_expect_closed(&client);
	ck_assert_str_eq(last_line, "Closed: the replies of its batches are too large");
	line_client_close(&client);
}
END_TEST

/* Two connections of one user, each within its own cap. */
START_TEST(test_bytes_per_uid_are_capped)
{
	static const char big[] =
		"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"big\",\"params\":{\"bytes\":2900000}}";
	struct line_client first = fx_client(), second = fx_client();

	fx_send(&first, big);
	fx_send(&second, big);
	fx_wait(rpc_server_connection_count(world.server) == 1);
	ck_assert_str_eq(last_line, "Closed: the buffers of its user are full");
	line_client_close(&first);
	line_client_close(&second);
	/* Nothing of it is still charged. */
	for (int i = 0; i < 10; i++) {
		struct line_client client = fx_client();
		json_t *reply;

		fx_send(&client, big);
		reply = fx_receive(&client);
		ck_assert_uint_eq(json_string_length(json_object_get(reply, "result")), 2900000);
		json_decref(reply);
		line_client_close(&client);
	}
}
END_TEST

/* What a slow reader has taken meanwhile counts no more, although its connection has not drained.
 */
START_TEST(test_bytes_that_were_sent_are_free_again)
{
	static const char big[] =
		"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"big\",\"params\":{\"bytes\":2900000}}";
	struct line_client first = fx_client(), second = fx_client();

	fx_send(&first, big);
	while (first.len < 2000000) {
		fx_pump(NULL);
		line_client_read(&first);
	}
	fx_send(&second, big);
	for (size_t i = 0; i < 2; i++) {
		json_t *reply = fx_receive(i == 0 ? &second : &first);

		ck_assert_uint_eq(json_string_length(json_object_get(reply, "result")), 2900000);
		json_decref(reply);
	}
	ck_assert_uint_eq(lines_logged, 0);
	line_client_close(&first);
	line_client_close(&second);
}
END_TEST

START_TEST(test_half_lines_per_uid_are_capped)
{
	struct line_client first = fx_client(), second = fx_client();
	static char half[3u << 20];

	memset(half, 'x', sizeof(half));
	ck_assert_int_eq(line_client_send(&first, half, sizeof(half)), 0);
	fx_pump(NULL);
	line_client_send(&second, half, sizeof(half));
	fx_wait(lines_logged > 0);
	ck_assert_str_eq(last_line, "Closed: the buffers of its user are full");
	line_client_close(&first);
	line_client_close(&second);
}
END_TEST

START_TEST(test_out_of_descriptors_and_back)
{
	struct rlimit limit, none;
	struct line_client client = {.fd = -1, .pump = fx_pump};
	uint64_t started;
	size_t logged, turns = 0;

	client.fd = fx_connect(NULL);
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = limit;
	none.rlim_cur = 0;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	fx_wait(lines_logged > 0);
	logged = lines_logged;
	/* It rests instead of spinning: turns of the loop that may block are few. */
	for (started = now_us(); now_us() - started < 500000; turns++)
		loop_run_once(world.loop, true);
	ck_assert_uint_lt(turns, 20);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	ck_assert_uint_eq(lines_logged, logged);
	fx_send(&client, PING);
	fx_expect(&client, PONG);
	line_client_close(&client);
}
END_TEST

START_TEST(test_draining_hears_when_idle)
{
	struct line_client client = fx_client();

	fx_send(&client, HOLD);
	fx_wait(world.held_count == 1);
	ck_assert(!rpc_server_is_draining(world.server));
	rpc_server_set_draining(world.server, true);
	ck_assert(rpc_server_is_draining(world.server));
	for (int i = 0; i < 20; i++)
		fx_pump(NULL);
	ck_assert_uint_eq(world.idle, 0);
	fx_release_all();
	fx_wait(world.idle > 0);
	ck_assert(rpc_server_is_idle(world.server));
	line_client_close(&client);
}
END_TEST

START_TEST(test_draining_when_idle_already)
{
	rpc_server_set_draining(world.server, true);
	fx_wait(world.idle == 1);
}
END_TEST

/* As the daemon ends: whoever waits is answered, then the server goes. */
START_TEST(test_stop_calls)
{
	struct line_client client = fx_client(), idle = fx_client();

	fx_send(&client, HOLD);
	fx_send(&idle, PING);
	fx_expect(&idle, PONG);
	fx_wait(world.held_count == 1);
	rpc_server_stop_calls(world.server);
	ck_assert_uint_eq(world.gone, 0);
	fx_expect_error(&client, RPC_DRAINING);
	line_client_close(&client);
	line_client_close(&idle);
}
END_TEST

/* Many requests in one piece: others are answered between them, and each is answered. */
START_TEST(test_turns)
{
	struct line_client greedy = fx_client(), other = fx_client();
	enum { COUNT = 10 * CONN_LINES_PER_TURN + 1 };
	char *flood = malloc(COUNT * (strlen(PING) + 1) + 1), *end = flood;

	ck_assert_ptr_nonnull(flood);
	for (int i = 0; i < COUNT; i++)
		end = stpcpy(stpcpy(end, PING), "\n");
	ck_assert_int_eq(write_all(greedy.fd, flood, (size_t)(end - flood)), 0);
	fx_send(&other, PING);
	fx_expect(&other, PONG);
	for (int i = 0; i < COUNT; i++)
		fx_expect(&greedy, PONG);
	free(flood);
	line_client_close(&greedy);
	line_client_close(&other);
}
END_TEST

/* With calls pending, a batch half answered, a subscription and unsent bytes. */
START_TEST(test_destroy_in_the_middle)
{
	const size_t before = fx_descriptors();
	struct line_client client = fx_client();
	static const char subscribe[] =
		"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"events.subscribe\"}";

	fx_send(&client, subscribe);
	fx_send(&client, "[" HOLD ",{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"get_data\"}]");
	fx_send(&client,
		"{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":\"flood\",\"params\":{\"count\":9000}}");
	fx_wait(world.is_flood_stopped);
	shutdown(client.fd, SHUT_WR);
	events_publish(rpc_server_events(world.server), "vm.started", 0, NULL);
	rpc_server_destroy(world.server);
	ck_assert_uint_eq(world.gone, 2);
	line_client_close(&client);
	ck_assert_uint_eq(fx_descriptors(), before);
	ck_assert_int_eq(rpc_server_create(&world.config, &world.server), 0);
}
END_TEST

START_TEST(test_table_and_handlers_must_agree)
{
	static const struct method two[] = {{"a", "", ACCESS_ANY, fx_none, ""},
					    {"rpc.ping", "", ACCESS_ANY, fx_none, ""},
					    {.name = NULL}};
	static const struct {
		struct rpc_handler handlers[3];
		size_t count;
		int wanted;
		const char *says;
	} cases[] = {
		{{{"a", fx_null}}, 1, 0, NULL},
		{{{"a", fx_null}, {"rpc.ping", fx_null}}, 2, 0, NULL},
		{{{"b", fx_null}}, 0, -EINVAL, "Method 'a' has no handler"},
		{{{"a", fx_null}, {"b", fx_null}},
		 2,
		 -EINVAL,
		 "Handler 'b' has no method in the table"},
		{{{"a", fx_null}, {"a", fx_null}}, 2, -EINVAL, "Method 'a' has two handlers"},
	};
	static const struct rpc_handler ping = {"rpc.ping", fx_null};

	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		struct dispatch_table *table = NULL;

		ck_assert_int_eq(dispatch_table_create(two, cases[i].handlers, cases[i].count,
						       &ping, 1, &table),
				 cases[i].wanted);
		if (cases[i].says)
			ck_assert_str_eq(last_line, cases[i].says);
		dispatch_table_destroy(table);
	}
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("rpc_server");
	TCase *tcase = tcase_create("server"), *small = tcase_create("small limits");

	tcase_set_timeout(tcase, 120);
	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, test_who_is_admin);
	/* valgrind fakes this limit: it accepts, closes, and says EMFILE. */
	if (!getenv("CK_FORK") || strcmp(getenv("CK_FORK"), "no") != 0)
		tcase_add_test(tcase, test_out_of_descriptors_and_back);
	tcase_add_test(tcase, test_draining_hears_when_idle);
	tcase_add_test(tcase, test_draining_when_idle_already);
	tcase_add_test(tcase, test_stop_calls);
	tcase_add_test(tcase, test_turns);
	tcase_add_test(tcase, test_destroy_in_the_middle);
	tcase_add_test(tcase, test_table_and_handlers_must_agree);
	suite_add_tcase(suite, tcase);
	tcase_set_timeout(small, 120);
	tcase_add_checked_fixture(small, setup_small, teardown);
	tcase_add_test(small, test_connections_per_uid);
	tcase_add_test(small, test_refused_client_that_talks_first);
	tcase_add_test(small, test_refused_client_that_stays);
	tcase_add_test(small, test_flood_of_refused_connections);
	tcase_add_test(small, test_unsent_bytes_are_capped);
	tcase_add_test(small, test_reply_over_the_cap_is_an_error);
	tcase_add_test(small, test_batch_replies_are_capped);
	tcase_add_test(small, test_bytes_per_uid_are_capped);
	tcase_add_test(small, test_bytes_that_were_sent_are_free_again);
	tcase_add_test(small, test_half_lines_per_uid_are_capped);
	suite_add_tcase(suite, small);
	return suite;
}
