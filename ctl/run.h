/* SPDX-License-Identifier: Apache-2.0 */
/* What verbs that run a program share: its output as it comes, its exit status as our own. */
#ifndef CTL_RUN_H
#define CTL_RUN_H

#include "ctl/ctl.h"

/* Calls a method that answers with a RunResult and runs until it has; returns our exit status. */
int run_call(struct ctl *ctl, const char *method, json_t *params_take);

/* Puts what waits on standard input into `params`, unless that is a terminal. 0, or -errno after
 * the reason was printed. */
int run_add_stdin(json_t *params);

#endif
