/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One configuration key: its type and bounds, and the strict conversion between text and value.
 *
 * Values are printable ASCII text; numbers are decimal and without sign.
 */
#ifndef CONF_OPTION_H
#define CONF_OPTION_H

#include "base/util.h"

enum config_type {
	CONFIG_NAME,    /* char *: letters, digits, '_', '.', '-'; min and max are its length */
	CONFIG_PATH,    /* char *: absolute; min and max are its length */
	CONFIG_BOOL,    /* bool: yes, no, true, false, on, off */
	CONFIG_INTEGER, /* int64_t: digits alone, in the unit the option names */
	CONFIG_SIZE,    /* uint64_t, bytes: digits, then K, M, G (powers of 1024) or nothing */
	CONFIG_SECONDS, /* double: digits, and up to six more behind a point */
	CONFIG_CHOICE,  /* int: one of `choices` */
};

struct config_choice {
	const char *name; /* NULL ends the list */
	int value;
};

struct config_option {
	const char *section, *key;
	enum config_type type;
	const char *unit;     /* of an integer, for people; NULL where there is none */
	double min, max;      /* bounds of numbers, lengths of text; exact up to 2^53 */
	const char *fallback; /* the default, as it would stand in a file */
	const struct config_choice *choices;
	size_t offset;    /* of the value in its struct */
	const char *help; /* one sentence without a full stop */
	bool is_live;     /* a running daemon can take another value; never a string */
};

#define CONFIG_WHY_SIZE   320 /* why a value was refused, for people */
#define CONFIG_RANGE_SIZE 128 /* what would be taken, for people */

/*
 * Parses `text` into the struct at `values`; a string there is freed and replaced. 0; -EINVAL with
 * the reason in `why`, or -ENOMEM: then nothing changed.
 */
int config_option_set(const struct config_option *option, const char *text, void *values,
		      char why[CONFIG_WHY_SIZE]);

/* The value in canonical text, which parses to the same value, in a new string. NULL: no memory. */
char *config_option_format(const struct config_option *option, const void *values);

/* Whether the two structs hold the same value. */
bool config_option_is_same(const struct config_option *option, const void *a, const void *b);

/* Copies the value, which is no string, from one struct to the other. */
void config_option_copy(const struct config_option *option, void *to, const void *from);

/* What is allowed, for people: "0 to 5000 ms", "auto, kvm or tcg", "an absolute path". */
void config_option_range(const struct config_option *option, char range[CONFIG_RANGE_SIZE]);

/* Whether the value is a string that its struct owns. */
bool config_option_is_string(const struct config_option *option);

#endif
