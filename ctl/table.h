/* SPDX-License-Identifier: Apache-2.0 */
/* JSON objects as rows of a table for people, by libsmartcols. */
#ifndef CTL_TABLE_H
#define CTL_TABLE_H

#include <jansson.h>

enum cell_type {
	CELL_TEXT,
	CELL_NUMBER,
	CELL_BYTES,  /* as 1.5 MiB */
	CELL_MILLIS, /* milliseconds as 1.5 s */
};

struct column {
	const char *title;
	const char *key; /* member of the row's object */
	enum cell_type type;
};

/*
 * Prints `rows` (an array of objects) on stdout with `columns` (ended by a NULL title); what a row
 * lacks is "-". Not cut when stdout is no terminal. 0 or -ENOMEM.
 */
int table_print(const struct column *columns, const json_t *rows);

/* Prints the members of `object` on stdout, one per line; those of inner objects behind the name of
 * theirs. */
void members_print(const json_t *object);

/* One value as text into `buf`: numbers by `type`, strings as they are, null and absent as "-". */
#define CELL_SIZE 128
const char *cell_format(enum cell_type type, const json_t *value, char buf[CELL_SIZE]);

#endif
