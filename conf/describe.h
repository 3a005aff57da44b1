/* SPDX-License-Identifier: Apache-2.0 */
/* The schema as documents for people. */
#ifndef CONF_DESCRIBE_H
#define CONF_DESCRIBE_H

#include <stdio.h>

/* The shipped execsandboxd.conf: every key commented out, with its help, bounds and default. */
void config_describe_example(FILE *out);

/* The option list of execsandboxd.conf(5), in man(7) macros. */
void config_describe_man(FILE *out);

#endif
