/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What execsandboxctl prints: data on stdout, errors on stderr, notes on stderr only when a person
 * looks at it.
 */
#ifndef CTL_OUTPUT_H
#define CTL_OUTPUT_H

#include "base/util.h"

#include <jansson.h>

/* Writes all bytes, waiting when the descriptor is non-blocking and full. 0 or -errno (-EPIPE: the
 * reader is gone). */
int output_bytes(int fd, const void *data, size_t len);

/* Prints a value indented (or on one line with `is_line`) and a newline on stdout. 0 or -errno. */
int output_json(const json_t *value, bool is_line);

/* One line on stderr: "execsandboxctl: MESSAGE". */
void output_error(const char *format, ...) PRINTF_LIKE(1, 2);

/* A second line behind an error: "hint: NEXT STEP". */
void output_hint(const char *format, ...) PRINTF_LIKE(1, 2);

/* A line on stderr for people: nothing is written when stderr is no terminal. */
void output_note(const char *format, ...) PRINTF_LIKE(1, 2);

enum style { STYLE_GOOD, STYLE_WARNING, STYLE_BAD, STYLE_TITLE, STYLE_PLAIN };

/* The escape sequence that starts a style on `fd`; "" when it is no terminal, NO_COLOR is set
 * (no-color.org) or TERM is dumb. */
const char *style_start(int fd, enum style style);

/* Ends any style that was started on `fd`. */
const char *style_stop(int fd);

#define BYTES_TEXT_SIZE 16
/* "0 B", "1.5 MiB", … into `buf`; returns it. */
const char *format_bytes(double bytes, char buf[BYTES_TEXT_SIZE]);

#endif
