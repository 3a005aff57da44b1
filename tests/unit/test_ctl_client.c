/* SPDX-License-Identifier: Apache-2.0 */
/* The JSON-RPC client of execsandboxctl over a socketpair, and what it makes of code and output. */
#include "tests/unit/suite.h"

#include "ctl/client.h"
#include "ctl/output.h"
#include "ctl/source.h"
#include "ctl/table.h"

#include "base/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

/* A loop that has not got there by then never will. */
#define DEADLINE_US 10000000u

static struct loop *loop;
static struct client *client;
static struct stream peer;
static char sent[4096]; /* what the client wrote */
static size_t sent_len;
static int replies, failures, ends, end_error, notifications;
static bool destroys_itself;
static char last[64]; /* of a result, an error's message or a notification's method */

static void on_peer_data(void *user UNUSED, const uint8_t *data, size_t len)
{
	len = MIN(len, sizeof(sent) - sent_len - 1);
	memcpy(sent + sent_len, data, len);
	sent_len += len;
	sent[sent_len] = '\0';
}

static void on_peer_end(void *user UNUSED, int error UNUSED)
{
}

static void on_notification(void *user UNUSED, const char *method, const json_t *params)
{
	notifications++;
	ck_assert(!params || json_is_object(params));
	snprintf(last, sizeof(last), "%s", method);
}

static void on_end(void *user UNUSED, int error)
{
	ends++;
	end_error = error;
}

static void on_reply(void *user, const json_t *result, const json_t *error)
{
	const char *text = json_string_value(result ?: json_object_get(error, "message"));

	ck_assert_ptr_eq(user, &replies);
	replies++;
	if (!result && !error)
		failures++;
	snprintf(last, sizeof(last), "%s", text ?: "-");
	if (destroys_itself)
		client_destroy(client);
}

static void start(void)
{
	static const struct client_ops ops = {.on_notification = on_notification, .on_end = on_end};
	static const struct stream_ops peer_ops = {.on_data = on_peer_data, .on_end = on_peer_end};
	int ends_of_pair[2];

	ck_assert_int_eq(loop_create(&loop), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends_of_pair), 0);
	ck_assert_int_eq(client_create(loop, ends_of_pair[0], &ops, NULL, &client), 0);
	stream_init(&peer, loop, ends_of_pair[1], 1 << 20, &peer_ops, NULL);
	sent_len = 0;
	replies = failures = ends = notifications = 0;
	destroys_itself = false;
}

static void finish(void)
{
	client_destroy(client);
	stream_close(&peer);
	loop_destroy(loop);
}

static void until(const int *count, int wanted)
{
	uint64_t deadline = now_us() + DEADLINE_US;

	while (*count < wanted) {
		ck_assert_uint_lt(now_us(), deadline);
		loop_run_once(loop, true);
	}
	ck_assert_int_eq(*count, wanted);
}

static void answer(const char *text)
{
	ck_assert_int_eq(stream_write(&peer, text, strlen(text)), 0);
}

static json_int_t request(void)
{
	json_int_t id = 0;

	ck_assert_int_eq(client_request(client, "m", NULL, on_reply, &replies, &id), 0);
	return id;
}

START_TEST(test_request_line)
{
	json_int_t id;
	uint64_t deadline = now_us() + DEADLINE_US;

	ck_assert_int_eq(client_request(client, "a", json_pack("{s:s}", "x", "line\n"), on_reply,
					&replies, &id),
			 0);
	ck_assert_int_eq(id, 1);
	ck_assert_int_eq(client_notify(client, "b", NULL), 0);
	while (!strchr(sent, '\n') || strchr(sent, '\n')[1] == '\0') {
		ck_assert_uint_lt(now_us(), deadline);
		loop_run_once(loop, true);
	}
	ck_assert_str_eq(sent, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a\",\"params\":{\"x\":"
			       "\"line\\n\"}}\n{\"jsonrpc\":\"2.0\",\"method\":\"b\"}\n");
}
END_TEST

/* Replies in another order than the requests find theirs. */
START_TEST(test_out_of_order)
{
	ck_assert_int_eq(request(), 1);
	ck_assert_int_eq(request(), 2);
	answer("{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":\"two\"}\n");
	until(&replies, 1);
	ck_assert_str_eq(last, "two");
	answer("{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":\"nobody's\"}\n"
	       "{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":\"again\"}\n"
	       "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":1,\"message\":\"one\"}}\n");
	until(&replies, 2);
	ck_assert_str_eq(last, "one");
}
END_TEST

/* Several messages in one piece, and one message in many. */
START_TEST(test_splits)
{
	static const char text[] = "{\"jsonrpc\":\"2.0\",\"method\":\"n\",\"params\":{}}\r\n"
				   "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":\"done\"}\n";

	request();
	for (size_t i = 0; i < strlen(text); i++) {
		answer((char[]){text[i], '\0'});
		loop_run_once(loop, true);
	}
	until(&replies, 1);
	ck_assert_int_eq(notifications, 1);
	ck_assert_str_eq(last, "done");
}
END_TEST

START_TEST(test_id_null)
{
	request();
	answer("{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":1011,\"message\":\"full\"}}"
	       "\n");
	until(&replies, 1);
	ck_assert_str_eq(last, "full");
}
END_TEST

/* Every open request hears of the end, before the owner does. */
START_TEST(test_end)
{
	request();
	request();
	stream_close(&peer);
	until(&ends, 1);
	ck_assert_int_eq(replies, 2);
	ck_assert_int_eq(failures, 2);
	ck_assert_int_eq(end_error, 0);
	ck_assert_int_eq(client_request(client, "m", NULL, on_reply, &replies, NULL), -EPIPE);
}
END_TEST

static const char *const no_json_rpc[] = {
	"hello\n",
	"[]\n",
	"{\"jsonrpc\":\"2.0\",\"id\":1}\n",
	"{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":\"text\"}\n",
	"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":1} {}\n",
	"\n",
};

START_TEST(test_protocol_errors)
{
	request();
	answer(no_json_rpc[_i]);
	until(&ends, 1);
	ck_assert_int_eq(end_error, -EPROTO);
	ck_assert_int_eq(failures, 1);
}
END_TEST

/* Destroyed inside a reply: nothing more is called, although more is there. */
START_TEST(test_destroy_in_reply)
{
	request();
	request();
	destroys_itself = true;
	answer("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":\"one\"}\n"
	       "{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":\"two\"}\n"
	       "{\"jsonrpc\":\"2.0\",\"method\":\"n\"}\n");
	until(&replies, 1);
	client = NULL;
	loop_run_once(loop, false);
	ck_assert_int_eq(replies, 1);
	ck_assert_int_eq(notifications + ends, 0);
}
END_TEST

START_TEST(test_limits)
{
	_cleanup_free_ char *big = malloc(CLIENT_REQUEST_MAX + 1);

	memset(big, 'x', CLIENT_REQUEST_MAX);
	big[CLIENT_REQUEST_MAX] = '\0';
	ck_assert_int_eq(
		client_request(client, "m", json_pack("{s:s}", "x", big), on_reply, &replies, NULL),
		-EMSGSIZE);
	for (int i = 0; i < CLIENT_PENDING_MAX; i++)
		request();
	ck_assert_int_eq(client_request(client, "m", NULL, on_reply, &replies, NULL), -EBUSY);
}
END_TEST

START_TEST(test_connect_errors)
{
	static const struct client_ops ops = {.on_end = on_end};
	struct client *none;

	ck_assert_int_eq(client_connect(loop, "/nonexistent/socket", &ops, NULL, &none), -ENOENT);
	ck_assert_int_eq(client_connect(loop, "/dev/null", &ops, NULL, &none), -ECONNREFUSED);
	ck_assert_int_eq(client_connect(loop, "nonexistent-socket", &ops, NULL, &none), -ENOENT);
}
END_TEST

START_TEST(test_language)
{
	static const struct {
		const char *name, *code, *language;
	} cases[] = {
		{"a.py", "", "python"},
		{"/x.d/a.b.mjs", "", "javascript"},
		{"a.ts", "", "javascript"},
		{"a.bash", "", "shell"},
		{"a.txt", "", NULL},
		{"a", "#!/bin/sh", "shell"},
		{NULL, "#!/usr/bin/env -S python3.11 -u\n", "python"},
		{NULL, "#! /usr/local/bin/node\r\n", "javascript"},
		{NULL, "#!/usr/bin/perl\nsh\n", NULL},
		{NULL, "#!", NULL},
		{NULL, "#", NULL},
		{NULL, "", NULL},
		{"a.py", "#!/bin/sh\n", "python"},
	};

	for (size_t i = 0; i < ELEMENTSOF(cases); i++)
		ck_assert_pstr_eq(
			source_language(cases[i].name, cases[i].code, strlen(cases[i].code)),
			cases[i].language);
}
END_TEST

/* Whatever the bytes, they come back from the text that carries them. */
START_TEST(test_bytes_round_trip)
{
	static const struct {
		const char *bytes;
		size_t len;
		bool is_text;
	} cases[] = {{"", 0, true},          {"a\0b", 3, true},         {"\xc3\xbc", 2, true},
		     {"\xff", 1, false},     {"\xc3", 1, false},        {"a\xff\0b", 4, false},
		     {"\x80\x81", 2, false}, {"\xed\xa0\x80", 3, false}};

	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		json_auto_t *object = json_object();
		const char *encoding;
		uint8_t *back = NULL;

		ck_assert_int_eq(source_set_bytes(object, "x", "e", cases[i].bytes, cases[i].len),
				 0);
		encoding = json_string_value(json_object_get(object, "e"));
		ck_assert_pstr_eq(encoding, cases[i].is_text ? NULL : "base64");
		ck_assert_int_eq(source_get_bytes(json_object_get(object, "x"), encoding, &back),
				 (ssize_t)cases[i].len);
		ck_assert_mem_eq(back, cases[i].bytes, cases[i].len);
		free(back);
		json_object_clear(object);
		ck_assert_int_eq(source_set_bytes(object, "x", NULL, cases[i].bytes, cases[i].len),
				 cases[i].is_text ? 0 : -EILSEQ);
	}
}
END_TEST

START_TEST(test_bytes_refused)
{
	json_auto_t *text = json_string("not base64!");
	uint8_t *bytes;

	ck_assert_int_eq(source_get_bytes(text, "base64", &bytes), -EINVAL);
	ck_assert_int_eq(source_get_bytes(text, "rot13", &bytes), -EINVAL);
	ck_assert_int_eq(source_get_bytes(NULL, NULL, &bytes), -EINVAL);
}
END_TEST

START_TEST(test_read_is_capped)
{
	_cleanup_close_ int fd = memfd_create("input", MFD_CLOEXEC);
	char *text = NULL;

	ck_assert_int_eq(ftruncate(fd, INPUT_MAX), 0);
	ck_assert_int_eq(source_read(fd, &text), INPUT_MAX);
	free(text);
	ck_assert_int_eq(ftruncate(fd, INPUT_MAX + 1), 0);
	ck_assert_int_eq(lseek(fd, 0, SEEK_SET), 0);
	ck_assert_int_eq(source_read(fd, &text), -EFBIG);
}
END_TEST

START_TEST(test_format)
{
	static const struct {
		double bytes;
		const char *text;
	} cases[] = {{0, "0 B"},
		     {1023, "1023 B"},
		     {1024, "1 KiB"},
		     {1536, "1.5 KiB"},
		     {268435456, "256 MiB"}};
	char buf[BYTES_TEXT_SIZE], cell[CELL_SIZE];
	json_auto_t *number = json_real(0.25), *large = json_integer(1500);

	for (size_t i = 0; i < ELEMENTSOF(cases); i++)
		ck_assert_str_eq(format_bytes(cases[i].bytes, buf), cases[i].text);
	ck_assert_uint_lt(strlen(format_bytes(1e300, buf)), BYTES_TEXT_SIZE);
	ck_assert_str_eq(cell_format(CELL_NUMBER, number, cell), "0.25");
	ck_assert_str_eq(cell_format(CELL_MILLIS, large, cell), "1.5 s");
	ck_assert_str_eq(cell_format(CELL_TEXT, NULL, cell), "-");
	ck_assert_str_eq(cell_format(CELL_TEXT, json_true(), cell), "yes");
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("ctl client");
	TCase *connection = tcase_create("connection"), *values = tcase_create("values");

	tcase_add_checked_fixture(connection, start, finish);
	tcase_add_test(connection, test_request_line);
	tcase_add_test(connection, test_out_of_order);
	tcase_add_test(connection, test_splits);
	tcase_add_test(connection, test_id_null);
	tcase_add_test(connection, test_end);
	tcase_add_loop_test(connection, test_protocol_errors, 0, ELEMENTSOF(no_json_rpc));
	tcase_add_test(connection, test_destroy_in_reply);
	tcase_add_test(connection, test_limits);
	tcase_add_test(connection, test_connect_errors);
	suite_add_tcase(suite, connection);
	tcase_add_test(values, test_language);
	tcase_add_test(values, test_bytes_round_trip);
	tcase_add_test(values, test_bytes_refused);
	tcase_add_test(values, test_read_is_capped);
	tcase_add_test(values, test_format);
	suite_add_tcase(suite, values);
	return suite;
}
