/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A scriptable QMP server for tests, on one end of a socket pair and the test's own loop.
 *
 * Theory of operation: commands with a canned answer are answered as they come, in order; all
 * others wait for the test to take and answer them, late, twice or never, as it likes. Nothing is
 * sent that the test did not ask for, the greeting included. Trouble of the fake itself aborts.
 */
#ifndef TESTS_FAKE_FAKE_QMP_H
#define TESTS_FAKE_FAKE_QMP_H

#include "base/loop.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* QEMU 7.2's own words, with its line end. */
#define FAKE_QMP_GREETING                                                   \
	"{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, " \
	"\"major\": 7}, \"package\": \"Debian\"}, \"capabilities\": [\"oob\"]}}\r\n"

struct fake_qmp;

/* Serves on `fd_take`. */
struct fake_qmp *fake_qmp_create(struct loop *loop, int fd_take);

/* Closes the connection; memory goes with loop_defer. NULL is fine. */
void fake_qmp_destroy(struct fake_qmp *fake);

/* Hangs up; the object stays. */
void fake_qmp_close(struct fake_qmp *fake);

/* Every `command` is answered {"return": <json>} at once, from now on; the last word counts. */
void fake_qmp_answer(struct fake_qmp *fake, const char *command, const char *json);

/* Greets and answers qmp_capabilities when it comes. */
void fake_qmp_handshake(struct fake_qmp *fake);

/* Raw bytes. */
void fake_qmp_send(struct fake_qmp *fake, const void *data, size_t len);
void fake_qmp_send_text(struct fake_qmp *fake, const char *text);

/* How many commands came, canned ones included, and how many of them wait to be taken. */
size_t fake_qmp_received(const struct fake_qmp *fake);
size_t fake_qmp_waiting(const struct fake_qmp *fake);

/* The oldest waiting command (json_decref() it), or NULL. */
json_t *fake_qmp_take(struct fake_qmp *fake);

/* Answers a command that was taken. */
void fake_qmp_reply(struct fake_qmp *fake, const json_t *command, const char *json);
void fake_qmp_fail(struct fake_qmp *fake, const json_t *command, const char *class,
		   const char *desc);

/* Every command that has no canned answer goes to `serve`, to be answered there or later,
 * instead of waiting to be taken. */
void fake_qmp_serve(struct fake_qmp *fake, void (*serve)(void *user, const json_t *command),
		    void *user);

/* The descriptor that came last (SCM_RIGHTS), the caller's now; -1 when there is none. */
int fake_qmp_take_fd(struct fake_qmp *fake);

/* True once the other side has closed. */
bool fake_qmp_is_closed(const struct fake_qmp *fake);

#endif
