/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every verb works with: the daemon's connection, and the plain call-and-wait.
 *
 * Theory of operation: main.c owns the one `struct ctl`. The connection is made when a verb first
 * needs it. ctl_call() runs the loop until the reply is there; verbs that listen (run, events) set
 * handlers of their own and run the loop themselves.
 */
#ifndef CTL_CTL_H
#define CTL_CTL_H

#include "ctl/client.h"
#include "ctl/verb.h"

#include <signal.h>

struct ctl {
	const char *socket_path;
	bool is_json;
	struct loop *loop;
	struct client *client; /* NULL until needed */
	void (*on_notification)(void *user, const char *method, const json_t *params);
	void *notification_user;
	int end_error;   /* why the connection ended */
	int interrupted; /* the signal that a waiting verb was told to stop by, else 0 */
	void (*on_interrupt)(void *user, int signal_number); /* NULL: stop the loop */
	void *interrupt_user;
	ev_signal interrupt[2];
};

/* Prepares the loop and signal watchers. 0 or -ENOMEM. */
int ctl_init(struct ctl *ctl, const char *socket_path, bool is_json);
void ctl_fini(struct ctl *ctl);

/* Connects unless connected. 0 or -errno; says nothing. */
int ctl_connect(struct ctl *ctl);

/* Says why the daemon cannot be reached and what to do: exit status EXIT_NO_DAEMON. */
int ctl_report_connect(const struct ctl *ctl, int error);

/* How a call ended. */
enum call_outcome {
	CALL_RESULT,
	CALL_ERROR,       /* `value` is the error object */
	CALL_NO_DAEMON,   /* `error` says why */
	CALL_LOST,        /* connected, but the connection ended before the reply */
	CALL_TIMEOUT,     /* no reply within the deadline */
	CALL_INTERRUPTED, /* SIGINT or SIGTERM */
};

struct call_result {
	enum call_outcome outcome;
	json_t *value; /* result or error object; owned by the caller */
	int error;
};

/*
 * Connects if need be, sends the request and waits at most `seconds` (0: without limit). Nothing is
 * printed.
 */
struct call_result ctl_call(struct ctl *ctl, const char *method, json_t *params_take,
			    double seconds);

/*
 * Prints what a call that gave no result means (an error reply with its hint; as JSON on stdout
 * with --json) and returns the exit status of a verb.
 */
int ctl_report(const struct ctl *ctl, const struct call_result *call);

/* ctl_call() with the usual deadline and ctl_report(): EXIT_OK with *ret, or an exit status. */
int ctl_fetch(struct ctl *ctl, const char *method, json_t *params_take, json_t **ret);

/* Prints an error object of the daemon for people: message and hint. */
void ctl_print_error(const json_t *error);

/* EXIT_OK, or EXIT_ERROR said on stderr: the end of verbs that printed with `r`. */
int ctl_printed(int r);

#endif
