/* SPDX-License-Identifier: Apache-2.0 */
/* Admission: how many VMs may exist at once, and who waits for the next one. */
#include "daemon/pool/admission.h"

#include "base/util.h"

/* Before anything was measured: a cold boot and a short run. */
#define HOLD_GUESS_US 5000000u
/* One eighth of each new value: follows a change of load within a few dozen runs. */
#define HOLD_WEIGHT 8

void admission_init(struct admission *admission, const struct admission_limits *limits)
{
	*admission = (struct admission){.limits = *limits, .mean_hold_us = HOLD_GUESS_US};
	admission->last = &admission->first;
}

static bool fits(const struct admission *admission, uint64_t memory_mb)
{
	return admission->vms < admission->limits.max_vms &&
	       memory_mb <= admission->limits.memory_mb - admission->memory_used_mb;
}

static void grant(struct admission *admission, struct admission_ticket *ticket, uint64_t now_us)
{
	ticket->state = ADMISSION_GRANTED;
	ticket->granted_us = now_us;
	admission->vms++;
	admission->memory_used_mb += ticket->memory_mb;
}

enum admission_state admission_request(struct admission *admission, struct admission_ticket *ticket,
				       uint64_t memory_mb, uint64_t now_us)
{
	ticket->memory_mb = memory_mb;
	ticket->next = NULL;
	ticket->state = ADMISSION_IDLE;
	if (memory_mb > admission->limits.memory_mb)
		return ticket->state;
	if (admission->waiting == 0 && fits(admission, memory_mb)) {
		grant(admission, ticket, now_us);
	} else if (admission->waiting < admission->limits.queue_max) {
		ticket->state = ADMISSION_WAITING;
		*admission->last = ticket;
		admission->last = &ticket->next;
		admission->waiting++;
	}
	return ticket->state;
}

static void grant_waiting(struct admission *admission, uint64_t now_us)
{
	while (admission->first && fits(admission, admission->first->memory_mb)) {
		struct admission_ticket *ticket = admission->first;

		admission->first = ticket->next;
		if (!admission->first)
			admission->last = &admission->first;
		admission->waiting--;
		grant(admission, ticket, now_us);
		ticket->on_granted(ticket->user);
	}
}

void admission_cancel(struct admission *admission, struct admission_ticket *ticket, uint64_t now_us)
{
	struct admission_ticket **at = &admission->first;

	if (ticket->state != ADMISSION_WAITING)
		return;
	while (*at != ticket)
		at = &(*at)->next;
	*at = ticket->next;
	if (!ticket->next)
		admission->last = at;
	admission->waiting--;
	ticket->state = ADMISSION_IDLE;
	grant_waiting(admission, now_us);
}

void admission_release(struct admission *admission, struct admission_ticket *ticket,
		       uint64_t now_us)
{
	uint64_t held_us = now_us - ticket->granted_us;

	if (ticket->state != ADMISSION_GRANTED)
		return;
	ticket->state = ADMISSION_IDLE;
	admission->vms--;
	admission->memory_used_mb -= ticket->memory_mb;
	admission->mean_hold_us += held_us / HOLD_WEIGHT - admission->mean_hold_us / HOLD_WEIGHT;
	grant_waiting(admission, now_us);
}

uint64_t admission_retry_after_ms(const struct admission *admission)
{
	uint64_t rounds = admission->waiting / MAX(admission->limits.max_vms, (size_t)1) + 1;

	return rounds * admission->mean_hold_us / 1000;
}
