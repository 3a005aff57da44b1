/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Admission: how many VMs may exist and run at once, who waits for the next one, and who is next.
 *
 * Theory of operation: a ticket asks for one VM: memory, one vCPU, for one uid, of one kind
 * (language and size). It is granted when the host and its uid have room; otherwise it waits in its
 * uid's queue. Uids take turns: a uid that begins to wait takes the last place, each grant goes to
 * the head of the first uid that is within its own quota, and that uid takes the last place again.
 * So one uid's flood delays others by one run each and no more. A head whose turn it is and which
 * the host has no room for is not overtaken, not even by one that could take a spare at once: so
 * large requests do not starve. A uid whose head is over its quota, or larger than limits that were
 * lowered, keeps its place but does not hold up others.
 *
 * Spares are idle VMs of the pool. They exist (vms, memory at their own smaller cost) but run
 * nothing (no vCPU) and belong to nobody. A grant takes the oldest ready spare of its kind when
 * there is one: the spare's share becomes the ticket's, grown to the full cost, in one step, which
 * serves a run on a host full of spares without destroying one. When the head does not fit only
 * because of spares, on_reclaim names spares to destroy, oldest first, and stops once those that
 * are on their way out suffice; their shares are free once admission_spare_end() says that they are
 * dead. So the sum of what exists never exceeds a limit, not for a moment. A head that does not fit
 * waits for a starting spare of its own kind rather than have it destroyed and start the same VM
 * anew: so a spare that has begun must become ready or end by itself, never wait for a ticket.
 *
 * A granted ticket holds its share until admission_release(), which its owner calls only when the
 * VM's processes are confirmed dead. Grants of waiting tickets come from inside any function here
 * that takes the time; one that is called by a callback leaves them to the outer one. No I/O and no
 * clock of its own: time is passed in.
 */
#ifndef DAEMON_POOL_ADMISSION_H
#define DAEMON_POOL_ADMISSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

struct admission_limits {
	size_t max_vms;         /* VMs at once, spares included; at least 1 */
	size_t max_running;     /* VMs that run code or start for a run: the vCPUs; at least 1 */
	size_t queue_max;       /* tickets that may wait */
	uint64_t memory_mb;     /* all VMs together, spares and overhead included */
	size_t uid_vms;         /* of one uid at once; 0 = no limit of its own */
	size_t uid_queue_max;   /* of one uid waiting; 0 = no limit of its own */
	uint64_t uid_memory_mb; /* of one uid; 0 = no limit of its own */
};

enum admission_state {
	ADMISSION_IDLE,    /* not asked, cancelled or released */
	ADMISSION_WAITING, /* in a queue: admission_cancel() takes it out */
	ADMISSION_GRANTED, /* holds a share: admission_release() gives it back */
};

enum admission_refusal {
	ADMISSION_FITS,      /* not refused */
	ADMISSION_TOO_LARGE, /* never fits this host, or this uid's quota */
	ADMISSION_QUEUE_FULL,
	ADMISSION_UID_QUEUE_FULL,
};

/* All but NONE hold a share. */
enum admission_spare_state {
	ADMISSION_SPARE_NONE,      /* not begun, ended, or a ticket's: nobody's spare */
	ADMISSION_SPARE_STARTING,  /* admission_spare_begin() let it */
	ADMISSION_SPARE_READY,     /* may be given to a ticket */
	ADMISSION_SPARE_RECLAIMED, /* on_reclaim named it, or it leaves: admission_spare_end() */
};

struct admission_uid;  /* the queue and the shares of one uid; exists while it has any */
struct admission_kind; /* the spares of one kind; exists while there are any */

/* A pool VM that waits. Embedded in its owner, who fills in kind, memory_mb and user;
 * zero-initialised it is none. */
struct admission_spare {
	TAILQ_ENTRY(admission_spare) by_age, by_kind; /* admission's */
	struct admission_kind *in_kind;               /* admission's */
	enum admission_spare_state state;             /* admission's */
	const void *kind;                             /* compared by address */
	uint64_t memory_mb;                           /* what it holds while it waits */
	bool is_preferred;                            /* READY, it goes before others of its kind */
	void *user;
};

/* One request, embedded in its owner; zero-initialised it is idle. */
struct admission_ticket {
	TAILQ_ENTRY(admission_ticket) in_queue; /* admission's */
	struct admission_uid *holder;           /* admission's */
	enum admission_state state;             /* admission's */
	uint64_t granted_us;                    /* admission's */
	bool is_resting;                        /* admission's */
	/* The grant's, or NULL: start a VM. Its share is the ticket's now, and its owner forgets
	 * it: its state is NONE. NULL again after admission_release(). */
	struct admission_spare *spare;
	const void *kind;
	uint64_t memory_mb;
	uid_t uid;
	/* The share was granted after waiting. Not called for the ticket of the admission_request()
	 * that is running: that returns it. May call any function here but admission_fini(). */
	void (*on_granted)(void *user);
	void *user;
};

/* Read the numbers, call the functions. Stays where it was initialised. */
struct admission {
	struct admission_limits limits;
	size_t vms;     /* exist: granted and spare */
	size_t running; /* granted, and not at rest */
	size_t spares;  /* of vms */
	size_t waiting;
	uint64_t memory_used_mb;
	uint64_t mean_hold_us; /* moving average of how long a share is held */
	/* The last word before a grant that fits: false while the host's memory does not allow it,
	 * then its head waits, and nobody overtakes it, until admission_retry(). `has_spare`: it
	 * would get one. May be NULL. */
	bool (*may_grant)(void *user, const struct admission_ticket *ticket, bool has_spare);
	/* This spare has to go, now: destroy its VM, then admission_spare_end() (at once, if it is
	 * dead at once). May call any function here but admission_fini(). */
	void (*on_reclaim)(void *user, struct admission_spare *spare);
	void *user;

	uint64_t spares_mb; /* of memory_used_mb */
	size_t reclaimed;   /* of spares: on their way out */
	uint64_t reclaimed_mb;
	TAILQ_HEAD(admission_uids, admission_uid) uids; /* in the order of their turns */
	TAILQ_HEAD(admission_ages, admission_spare)
	spares_old; /* starting and ready, oldest first */
	TAILQ_HEAD(admission_kinds, admission_kind) kinds;
	const struct admission_ticket *requested; /* of the running admission_request() */
	bool is_granting;                         /* grants do not nest */
};

/* may_grant, on_reclaim and user are set afterwards; on_reclaim before the first spare. */
void admission_init(struct admission *admission, const struct admission_limits *limits);

/* No ticket may wait or hold a share any more; spares that are left are forgotten. */
void admission_fini(struct admission *admission);

/*
 * Asks for a share for `ticket` (kind, memory_mb, uid, on_granted and user are filled in and stay
 * as they are until it is idle again). Returns its state: GRANTED, WAITING (on_granted follows), or
 * IDLE, with the reason in `ret_refusal` (no memory counts as QUEUE_FULL). Where the queue is full,
 * one ticket more may wait if only spares hold it up: a host full of spares refuses nobody.
 */
enum admission_state admission_request(struct admission *admission, struct admission_ticket *ticket,
				       uint64_t now_us, enum admission_refusal *ret_refusal);

/* Grants a share without asking for room: its VM is there already, of an earlier daemon. Over the
 * limits others wait. False when there is no memory. */
bool admission_take(struct admission *admission, struct admission_ticket *ticket, uint64_t now_us);

/* Leaves the queue; grants whom that lets through. Other states are left alone. */
void admission_cancel(struct admission *admission, struct admission_ticket *ticket,
		      uint64_t now_us);

/*
 * No code runs behind a granted ticket: its place among those that run is for others, the rest of
 * its share stays. And code runs again: it takes a place, though there may be none free: `running`
 * can be over max_running then, and who waits waits longer. Each harmless when it is so already.
 */
void admission_rest(struct admission *admission, struct admission_ticket *ticket, uint64_t now_us);
void admission_work(struct admission *admission, struct admission_ticket *ticket);

/* Gives a share back; grants whom that lets through. Other states are left alone. */
void admission_release(struct admission *admission, struct admission_ticket *ticket,
		       uint64_t now_us);

/*
 * May this spare (state NONE) be started now? Only when it fits and nobody waits for the host; who
 * waits for their own quota does not count. If so it takes its share and is STARTING.
 */
bool admission_spare_begin(struct admission *admission, struct admission_spare *spare);

/* STARTING to READY: a ticket of its kind that waits gets it at once (if it is its turn). Other
 * states are left alone. */
void admission_spare_ready(struct admission *admission, struct admission_spare *spare,
			   uint64_t now_us);

/*
 * May a READY spare be made better, at the cost of memory_mb from now on? Under the same condition
 * as a new one. If so it is STARTING again.
 */
bool admission_spare_improve(struct admission *admission, struct admission_spare *spare,
			     uint64_t memory_mb);

/* Its VM is on its way out by itself: no ticket gets it, and its share counts as coming free until
 * admission_spare_end(). Left alone when no longer a spare. */
void admission_spare_leave(struct admission *admission, struct admission_spare *spare);

/* Its VM is dead, in whatever state: its share is free. Left alone when no longer a spare. */
void admission_spare_end(struct admission *admission, struct admission_spare *spare,
			 uint64_t now_us);

/* New limits hold from now on; who is over them is not thrown out. */
void admission_set_limits(struct admission *admission, const struct admission_limits *limits,
			  uint64_t now_us);

/* may_grant may answer otherwise now. */
void admission_retry(struct admission *admission, uint64_t now_us);

/* When it makes sense for this uid to come back, in milliseconds: the length of the queue that is
 * in its way times how long shares are held. At least 1, at most 5 minutes. */
uint64_t admission_retry_after_ms(const struct admission *admission, uid_t uid);

#endif
