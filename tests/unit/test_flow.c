/* SPDX-License-Identifier: Apache-2.0 */
/* Flow control: nothing lost, nothing doubled, nothing sent without credit. */
#include "protocol/flow.h"

#include "base/util.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <string.h>

START_TEST(test_sender_stops_at_its_limit)
{
	struct flow_sender sender;
	const uint8_t *data;
	uint64_t offset;
	size_t sent = 0, n;
	char chunk[1000];

	flow_sender_init(&sender);
	memset(chunk, 'x', sizeof(chunk));
	while (flow_sender_room(&sender) >= sizeof(chunk))
		ck_assert_int_eq(flow_sender_write(&sender, chunk, sizeof(chunk)), 0);
	ck_assert_int_eq(flow_sender_write(&sender, chunk, sizeof(chunk)), -ENOBUFS);
	while ((n = flow_sender_next(&sender, 4096, &offset, &data)) > 0) {
		ck_assert_uint_eq(offset, sent);
		sent += n;
	}
	ck_assert_uint_eq(sent, sender.written);
	ck_assert_int_eq(flow_sender_credit(&sender, sent, sent + FLOW_WINDOW), 0);
	ck_assert_uint_eq(flow_sender_room(&sender), FLOW_WINDOW);
	flow_sender_fini(&sender);
}
END_TEST

START_TEST(test_impossible_credits_are_refused)
{
	struct flow_sender sender;

	flow_sender_init(&sender);
	flow_sender_write(&sender, "abc", 3);
	ck_assert_int_eq(flow_sender_credit(&sender, 1, FLOW_WINDOW + 1), -EPROTO); /* not sent */
	ck_assert_int_eq(flow_sender_credit(&sender, 0, FLOW_WINDOW - 1), -EPROTO); /* shrinks */
	ck_assert_int_eq(flow_sender_credit(&sender, 0, UINT64_MAX), -EPROTO); /* over a window */
	ck_assert_int_eq(flow_sender_resume(&sender, 4), -EPROTO);
	flow_sender_fini(&sender);
}
END_TEST

START_TEST(test_receiver_refuses_gaps_and_floods)
{
	struct flow_receiver receiver;
	size_t skip;

	flow_receiver_init(&receiver);
	ck_assert_int_eq(flow_receiver_data(&receiver, 1, 1, &skip), -EPROTO);
	ck_assert_int_eq(flow_receiver_data(&receiver, 0, FLOW_WINDOW + 1, &skip), -EPROTO);
	ck_assert_int_eq(flow_receiver_data(&receiver, UINT64_MAX, 2, &skip), -EPROTO);
	ck_assert_int_eq(flow_receiver_data(&receiver, 0, 10, &skip), 0);
	ck_assert_int_eq(flow_receiver_end(&receiver, 11), -EPROTO);
	ck_assert_int_eq(flow_receiver_data(&receiver, 5, 10, &skip), 0);
	ck_assert_uint_eq(skip, 5);
	ck_assert_int_eq(flow_receiver_end(&receiver, 15), 0);
	ck_assert_int_eq(flow_receiver_data(&receiver, 15, 1, &skip), -EPROTO);
}
END_TEST

/* A long stream in random pieces over connections that break at random: the receiver gets it
 * exactly once. */
START_TEST(test_random_breaks_lose_nothing)
{
	struct flow_sender sender;
	struct flow_receiver receiver;
	uint64_t produced = 0, got = 0;
	const uint64_t total = 4 * FLOW_WINDOW + 12345;

	srandom((unsigned)_i);
	flow_sender_init(&sender);
	flow_receiver_init(&receiver);
	while (got < total) {
		uint8_t chunk[5000];
		uint64_t wanted = 1 + (uint64_t)random() % sizeof(chunk);
		uint64_t most = MIN(total - produced, flow_sender_room(&sender));
		size_t len = (size_t)MIN(wanted, most);
		const uint8_t *data;
		uint64_t offset;
		size_t skip, n;

		for (size_t i = 0; i < len; i++)
			chunk[i] = (uint8_t)((produced + i) * 31 >> 3);
		ck_assert_int_eq(flow_sender_write(&sender, chunk, len), 0);
		produced += len;
		if (produced == total)
			flow_sender_end(&sender);
		n = flow_sender_next(&sender, 1 + (size_t)(random() % 9000), &offset, &data);
		if (random() % 10 == 0) { /* the connection breaks: this piece may be lost */
			ck_assert_int_eq(flow_sender_resume(&sender, receiver.received), 0);
			continue;
		}
		if (n == 0)
			continue;
		ck_assert_int_eq(flow_receiver_data(&receiver, offset, n, &skip), 0);
		for (size_t i = skip; i < n; i++)
			ck_assert_uint_eq(data[i], (uint8_t)((offset + i) * 31 >> 3));
		got += n - skip;
		if (flow_receiver_take(&receiver, n - skip))
			ck_assert_int_eq(
				flow_sender_credit(&sender, receiver.taken, receiver.limit), 0);
	}
	ck_assert(flow_sender_end_due(&sender));
	ck_assert(!flow_sender_end_due(&sender));
	ck_assert_int_eq(flow_receiver_end(&receiver, total), 0);
	ck_assert_int_eq(flow_sender_credit(&sender, total, total + FLOW_WINDOW), 0);
	ck_assert(flow_sender_is_done(&sender));
	flow_sender_fini(&sender);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("flow");
	TCase *tests = tcase_create("flow");

	tcase_set_timeout(tests, 60);
	tcase_add_test(tests, test_sender_stops_at_its_limit);
	tcase_add_test(tests, test_impossible_credits_are_refused);
	tcase_add_test(tests, test_receiver_refuses_gaps_and_floods);
	tcase_add_loop_test(tests, test_random_breaks_lose_nothing, 1, 9);
	suite_add_tcase(suite, tests);
	return suite;
}
