/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of admission share: tickets and spares, and who was granted or reclaimed. */
#ifndef TESTS_UNIT_TEST_ADMISSION_H
#define TESTS_UNIT_TEST_ADMISSION_H

#include "daemon/pool/admission.h"

#include "base/util.h"
#include "tests/unit/suite.h"

#define TICKETS 64
#define SPARES  16

static const int python, bash; /* kinds */

static struct admission admission;
static struct admission_ticket tickets[TICKETS];
static struct admission_spare spares[SPARES];
static enum admission_refusal refusal;
static size_t granted[TICKETS]; /* indexes of tickets, in the order of on_granted */
static size_t granted_count;
static size_t reclaimed[SPARES]; /* indexes of spares, in the order of on_reclaim */
static size_t reclaimed_count;

static void on_granted(void *user)
{
	struct admission_ticket *ticket = user;

	ck_assert_int_eq(ticket->state, ADMISSION_GRANTED);
	ck_assert_uint_lt(granted_count, TICKETS);
	granted[granted_count++] = (size_t)(ticket - tickets);
}

static void on_reclaim(void *user, struct admission_spare *spare)
{
	ck_assert_ptr_eq(user, &admission);
	ck_assert_int_eq(spare->state, ADMISSION_SPARE_RECLAIMED);
	ck_assert_uint_lt(reclaimed_count, SPARES);
	reclaimed[reclaimed_count++] = (size_t)(spare - spares);
}

static void start_with(struct admission_limits limits)
{
	admission_init(&admission, &limits);
	admission.on_reclaim = on_reclaim;
	admission.user = &admission;
	granted_count = reclaimed_count = 0;
	for (size_t i = 0; i < TICKETS; i++)
		tickets[i] = (struct admission_ticket){
			.kind = &python, .on_granted = on_granted, .user = &tickets[i]};
	for (size_t i = 0; i < SPARES; i++)
		spares[i] = (struct admission_spare){.kind = &python};
}

static void start(size_t max_vms, size_t queue_max, uint64_t memory_mb)
{
	start_with((struct admission_limits){.max_vms = max_vms,
					     .max_running = max_vms,
					     .queue_max = queue_max,
					     .memory_mb = memory_mb});
}

static enum admission_state ask_as(uid_t uid, size_t i, uint64_t memory_mb)
{
	tickets[i].uid = uid;
	tickets[i].memory_mb = memory_mb;
	return admission_request(&admission, &tickets[i], 0, &refusal);
}

static enum admission_state ask(size_t i, uint64_t memory_mb)
{
	return ask_as(1000, i, memory_mb);
}

static void release(size_t i)
{
	admission_release(&admission, &tickets[i], 0);
}

static bool begin(size_t i, const int *kind, uint64_t memory_mb)
{
	spares[i].kind = kind;
	spares[i].memory_mb = memory_mb;
	return admission_spare_begin(&admission, &spares[i]);
}

/* A spare that waits. */
static void stock(size_t i, const int *kind, uint64_t memory_mb)
{
	ck_assert(begin(i, kind, memory_mb));
	admission_spare_ready(&admission, &spares[i], 0);
	ck_assert_int_eq(spares[i].state, ADMISSION_SPARE_READY);
}

static void expect_grants(size_t count, const size_t *expected)
{
	ck_assert_uint_eq(granted_count, count);
	for (size_t i = 0; i < count; i++)
		ck_assert_uint_eq(granted[i], expected[i]);
	granted_count = 0;
}

#define EXPECT_GRANTS(...)                                              \
	expect_grants(sizeof((size_t[]){__VA_ARGS__}) / sizeof(size_t), \
		      (const size_t[]){__VA_ARGS__})

/* Everything given back: nothing is counted, and nothing is leaked (valgrind and ASan look). */
static void finish(void)
{
	struct admission_limits all = {SIZE_MAX, SIZE_MAX, SIZE_MAX, UINT64_MAX, 0, 0, 0};

	admission_set_limits(&admission, &all, 0);
	for (size_t i = 0; i < SPARES; i++)
		admission_spare_end(&admission, &spares[i], 0);
	for (size_t i = 0; i < TICKETS; i++) {
		ck_assert_int_ne(tickets[i].state, ADMISSION_WAITING);
		release(i);
	}
	ck_assert_uint_eq(admission.vms, 0);
	ck_assert_uint_eq(admission.running, 0);
	ck_assert_uint_eq(admission.spares, 0);
	ck_assert_uint_eq(admission.waiting, 0);
	ck_assert_uint_eq(admission.memory_used_mb, 0);
	ck_assert_uint_eq(admission.spares_mb, 0);
	ck_assert_uint_eq(admission.reclaimed, 0);
	ck_assert_uint_eq(admission.reclaimed_mb, 0);
	ck_assert(TAILQ_EMPTY(&admission.uids));
	ck_assert(TAILQ_EMPTY(&admission.kinds));
	admission_fini(&admission);
}

#endif
