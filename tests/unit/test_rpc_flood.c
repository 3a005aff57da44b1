/* SPDX-License-Identifier: Apache-2.0 */
/* Many bytes in many pieces: random splits, floods, many clients, random input, and the pace. */
#include "base/log.h"
#include "tests/unit/test_rpc_fixture.h"

#include <inttypes.h>
#include <sys/socket.h>

#define SPLITS 10000

static unsigned seed;

/* The same pieces on every run, unless RPC_FLOOD_SEED says otherwise. */
static unsigned draw(unsigned below)
{
	return (unsigned)rand_r(&seed) % below;
}

static void setup(void)
{
	const char *given = getenv("RPC_FLOOD_SEED");

	seed = given ? (unsigned)strtoul(given, NULL, 10) : 1;
	fx_setup();
	log_set_level(LOG_ERR);
}

/* Sends in pieces of random size with turns of the loop between, reading what comes. */
static void send_in_pieces(struct line_client *client, const char *data, size_t len, unsigned max)
{
	while (len > 0) {
		const size_t drawn = 1 + (size_t)draw(max), piece = MIN(len, drawn);

		ck_assert_int_eq(line_client_send(client, data, piece), 0);
		fx_pump(NULL);
		line_client_read(client);
		data += piece;
		len -= piece;
	}
}

START_TEST(test_ten_thousand_splits)
{
	struct line_client client = fx_client();

	for (int i = 0; i < SPLITS; i++) {
		char text[200] = "", line[512], reply[512];
		const unsigned words = draw(8);

		for (unsigned w = 0; w < words; w++)
			strcat(text,
			       (const char *[]){"x", "\xe2\x82\xac", "[{", "\\n", "\\\""}[draw(5)]);
		snprintf(line, sizeof(line),
			 "{\"jsonrpc\":\"2.0\",\"id\":%d,\"method\":\"echo\","
			 "\"params\":{\"text\":\"%s\"}}%s%s",
			 i, text, draw(4) ? "\n" : "\r\n", draw(5) ? "" : "\n");
		send_in_pieces(&client, line, strlen(line), draw(2) ? 8 : 200);
		snprintf(reply, sizeof(reply), "{\"jsonrpc\":\"2.0\",\"id\":%d,\"result\":\"%s\"}",
			 i, text);
		fx_expect(&client, reply);
	}
	line_client_close(&client);
}
END_TEST

/* All requests are on their way before any reply is read: none is lost, order is kept. */
START_TEST(test_pipeline)
{
	struct line_client client = fx_client();
	int sent = 0;

	for (; sent < 20000; sent++) {
		char line[100];

		snprintf(line, sizeof(line),
			 "{\"jsonrpc\":\"2.0\",\"id\":%d,\"method\":\"rpc.ping\"}", sent);
		/* One that never reads would stop here for ever, as the API says; so read a bit. */
		if (sent % 1000 == 0)
			line_client_read(&client);
		fx_send(&client, line);
	}
	for (int i = 0; i < sent; i++) {
		char reply[100];

		snprintf(reply, sizeof(reply),
			 "{\"jsonrpc\":\"2.0\",\"id\":%d,\"result\":\"pong\"}", i);
		fx_expect(&client, reply);
	}
	line_client_close(&client);
}
END_TEST

/* Bytes that are mostly no requests: the server answers errors and serves the next client. */
START_TEST(test_random_bytes)
{
	static const char alphabet[] =
		"{}[]\":,\\u0019ae.-\n\n\r \"jsonrpc\"\"2.0\"\"id\"\"method\"";
	const size_t before = fx_descriptors();

	for (int round = 0; round < 200; round++) {
		struct line_client client = fx_client();
		char bytes[4096];

		for (size_t i = 0; i < sizeof(bytes); i++)
			bytes[i] =
				draw(50) ? alphabet[draw(sizeof(alphabet) - 1)] : (char)draw(256);
		send_in_pieces(&client, bytes, sizeof(bytes), 1000);
		/* The rest of a line may be there yet. */
		fx_send(&client, "");
		fx_send(&client, "{\"jsonrpc\":\"2.0\",\"id\":\"alive\",\"method\":\"rpc.ping\"}");
		for (;;) {
			_cleanup_free_ char *line = NULL;

			ck_assert_int_eq(line_client_receive(&client, &line), 1);
			if (strcmp(line,
				   "{\"jsonrpc\":\"2.0\",\"id\":\"alive\",\"result\":\"pong\"}") ==
			    0)
				break;
			ck_assert_ptr_nonnull(strstr(line, "\"error\""));
		}
		line_client_close(&client);
	}
	fx_wait(rpc_server_connection_count(world.server) == 0);
	ck_assert_uint_eq(fx_descriptors(), before);
}
END_TEST

/* Clients that come, start something and go at any moment: nothing is left of them. */
START_TEST(test_clients_come_and_go)
{
	static const char *const requests[] = {
		"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"hold\"}\n",
		"[{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"hold\"},{\"jsonrpc\":\"2.0\",\"id\":3,"
		"\"method\":\"rpc.ping\"}]\n",
		"{\"jsonrpc\":\"2.0\",\"id\":4,\"method\":\"events.subscribe\"}\n",
		"{\"jsonrpc\":\"2.0\",\"id\":5,\"method\":\"rpc.discover\"}\n",
		"{\"jsonrpc\":\"2.0\",\"method\":\"$/cancelRequest\",\"params\":{\"id\":1}}\n",
		"{\"jsonrpc\":\"2.0\",\"id\":6,\"method\":\"release\"}\n",
		"not json\n",
		"half a line",
	};
	struct line_client clients[16];
	const size_t before = fx_descriptors();

	for (size_t i = 0; i < ELEMENTSOF(clients); i++)
		clients[i] = fx_client();
	for (int step = 0; step < 10000; step++) {
		struct line_client *client = &clients[draw(ELEMENTSOF(clients))];
		const unsigned what = draw(16);

		if (world.held_count > HELD_MAX - 4)
			fx_release_all();
		if (what < ELEMENTSOF(requests)) {
			/* Fails when this client has shut its side down: so do real ones. */
			line_client_send(client, requests[what], strlen(requests[what]));
		} else if (what == 8) {
			shutdown(client->fd, SHUT_WR);
		} else if (what == 9) {
			line_client_close(client);
			*client = fx_client();
		} else if (what == 10) {
			events_publish(rpc_server_events(world.server), "vm.started", 0, NULL);
		} else if (what < 14) {
			line_client_read(client);
			client->len = 0;
		}
		fx_pump(NULL);
	}
	for (size_t i = 0; i < ELEMENTSOF(clients); i++)
		line_client_close(&clients[i]);
	fx_wait(rpc_server_connection_count(world.server) == 0);
	ck_assert(rpc_server_is_idle(world.server));
	ck_assert_uint_eq(fx_descriptors(), before);
}
END_TEST

/* A figure to look at, with a bound that only a blunder breaks (a delay, a copy per byte). */
START_TEST(test_pace_of_ping)
{
	static const char request[] = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"rpc.ping\"}\n";
	struct line_client client = fx_client();
	const int count = 20000;
	const uint64_t started = now_us();
	uint64_t took;
	char reply[128];

	for (int i = 0; i < count; i++) {
		ck_assert_int_eq(send(client.fd, request, strlen(request), 0), strlen(request));
		while (recv(client.fd, reply, sizeof(reply), MSG_DONTWAIT) < 0)
			fx_pump(NULL);
	}
	took = now_us() - started;
	printf("rpc.ping: %.1f us a round trip, client included\n", (double)took / count);
	ck_assert_uint_lt(took / (unsigned)count, 2000);
	line_client_close(&client);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("rpc_flood");
	TCase *tcase = tcase_create("flood");

	tcase_set_timeout(tcase, 300);
	tcase_add_checked_fixture(tcase, setup, fx_teardown);
	tcase_add_test(tcase, test_ten_thousand_splits);
	tcase_add_test(tcase, test_pipeline);
	tcase_add_test(tcase, test_random_bytes);
	tcase_add_test(tcase, test_clients_come_and_go);
	tcase_add_test(tcase, test_pace_of_ping);
	suite_add_tcase(suite, tcase);
	return suite;
}
