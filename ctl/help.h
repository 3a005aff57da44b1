/* SPDX-License-Identifier: Apache-2.0 */
/* Help texts, made from the verb table and the method table. */
#ifndef CTL_HELP_H
#define CTL_HELP_H

#include "ctl/verb.h"

#include <stdio.h>

/* Usage, all verbs, the common options. */
void help_print_all(FILE *out);

/* One verb: usage, details, options. */
void help_print_verb(FILE *out, const struct verb *verb);

/* The manual page execsandboxctl(1) as roff, man-pages(7). */
void help_print_man(FILE *out);

/*
 * Writes `text` in lines of at most 78 columns, each behind `indent` blanks; blank lines stay. The
 * first line's indent is there already when `has_indent`.
 */
void help_wrap(FILE *out, const char *text, int indent, bool has_indent);

#endif
