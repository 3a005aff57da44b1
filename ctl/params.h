/* SPDX-License-Identifier: Apache-2.0 */
/* Words of a command line as parameters of a method: "key=text", "key:=JSON". */
#ifndef CTL_PARAMS_H
#define CTL_PARAMS_H

#include <jansson.h>

#define PARAMS_WHY_SIZE 256

/*
 * Adds one word to `params`. A dotted key (limits.memory_mb) makes nested objects. 0; -EINVAL with
 * a line for people in `why`; -ENOMEM.
 */
int params_add(json_t *params, const char *word, char why[PARAMS_WHY_SIZE]);

#endif
