/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the fake QEMU does wrong, and when: a file that a test writes at any time.
 *
 * The file `plan` beside the program has lines "ROLE MOMENT ACTION", read anew at each moment; the
 * first that fits counts. Roles are boot, template and clone. At every moment the actions "die"
 * (QEMU exits with a word on its standard error) and "hang" (it does nothing any more) are done
 * here; what else a moment knows is its caller's:
 *
 *   spawn, greeting           (QMP: before the greeting)
 *   capabilities refuse       getfd refuse            migrate refuse
 *   state                     die and hang in the middle of it; saving: broken, endless, large
 *   completed failed never early late                 after-completed
 *   hello                     identity ignore         ack ignore
 *   prepare fewer             rehearsal wrong ignore  run
 *   stop refuse               stopped close (QMP; behind the reply)        cont refuse
 */
#ifndef TESTS_FAKE_QEMU_PLAN_H
#define TESTS_FAKE_QEMU_PLAN_H

#include <stdbool.h>

/* `program` is argv[0]; `role` outlives the plan. */
void plan_init(const char *program, const char *role);

/* Does die and hang; returns the action of this moment, "" when there is none. Valid until the next
 * call. */
const char *plan_at(const char *moment);

/* Is `action` planned for this moment? Does nothing. */
bool plan_has(const char *moment, const char *action);

/* Ends as QEMU does when something is wrong: a line on standard error, status 1. */
_Noreturn void plan_die(const char *why);

#endif
