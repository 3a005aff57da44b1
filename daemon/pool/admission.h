/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Admission: how many VMs may exist at once, and who waits for the next one.
 *
 * Theory of operation: a ticket asks for one VM of some memory. It is granted at once when fewer
 * than max_vms exist and the memory fits, otherwise it waits in strict FIFO order (a large request
 * is not overtaken by small ones, so it cannot starve). A granted ticket holds its share until
 * admission_release(), which its owner calls only when the VM's processes are confirmed dead.
 * Grants of waiting tickets come from admission_release() and admission_cancel(), one by one in
 * order. No I/O and no clock of its own: time is passed in.
 */
#ifndef DAEMON_POOL_ADMISSION_H
#define DAEMON_POOL_ADMISSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct admission_limits {
	size_t max_vms;     /* VMs at once, at least 1 */
	size_t queue_max;   /* tickets that may wait */
	uint64_t memory_mb; /* all VMs together, overhead included */
};

enum admission_state {
	ADMISSION_IDLE,    /* not asked, cancelled or released */
	ADMISSION_WAITING, /* in the queue: admission_cancel() takes it out */
	ADMISSION_GRANTED, /* holds a share: admission_release() gives it back */
};

/* One request, embedded in its owner; zero-initialised it is idle. */
struct admission_ticket {
	struct admission_ticket *next;
	enum admission_state state;
	uint64_t memory_mb;
	uint64_t granted_us;
	/* The share was granted after waiting. Not called for admission_request() that grants at
	 * once. */
	void (*on_granted)(void *user);
	void *user;
};

struct admission {
	struct admission_limits limits;
	size_t vms, waiting;
	uint64_t memory_used_mb;
	struct admission_ticket *first, **last;
	uint64_t mean_hold_us; /* moving average of how long a share is held */
};

void admission_init(struct admission *admission, const struct admission_limits *limits);

/*
 * Asks for a share. Returns the ticket's state: GRANTED, WAITING (on_granted follows), or IDLE when
 * the queue is full or the memory can never fit.
 */
enum admission_state admission_request(struct admission *admission, struct admission_ticket *ticket,
				       uint64_t memory_mb, uint64_t now_us);

/* Leaves the queue; grants whom that lets through. Other states are left alone. */
void admission_cancel(struct admission *admission, struct admission_ticket *ticket,
		      uint64_t now_us);

/* Gives a share back; grants whom that lets through. */
void admission_release(struct admission *admission, struct admission_ticket *ticket,
		       uint64_t now_us);

/* When it makes sense to come back, in milliseconds: the queue's length times how long shares are
 * held. */
uint64_t admission_retry_after_ms(const struct admission *admission);

#endif
