/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line of one verb: getopt_long driven by the verb's table of options.
 *
 * Theory of operation: a verb declares an array of `struct verb_option`; the values come back in an
 * array of the same order, so a verb names its options by an enum of indices. Options may stand
 * before and behind operands; the words behind `--` are kept apart, because they belong to the
 * program that is run.
 */
#ifndef CTL_OPTIONS_H
#define CTL_OPTIONS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum option_type {
	OPTION_FLAG,    /* no value */
	OPTION_TEXT,    /* any text */
	OPTION_NUMBER,  /* integer or fraction within min and max */
	OPTION_INTEGER, /* integer within min and max */
	OPTION_PAIR,    /* NAME=VALUE, may be repeated */
};

struct verb_option {
	const char *name; /* long name, without dashes */
	char letter;      /* 0: none */
	enum option_type type;
	const char *argument; /* how help names the value, e.g. "SECONDS" */
	double min, max;      /* for numbers; both 0: not bounded here */
	const char *help;     /* one line */
};

/* More than any verb has; the table's own options count too. */
#define OPTIONS_MAX 24

/* Options that every verb takes, by index into `common_options`. */
enum { COMMON_SOCKET, COMMON_JSON, COMMON_HELP, COMMON_COUNT };
extern const struct verb_option common_options[]; /* ended by a NULL name */

struct option_value {
	bool is_set;
	const char *text;
	double number;
	json_t *pairs; /* object of strings, for OPTION_PAIR */
};

struct arguments {
	struct option_value common[COMMON_COUNT];
	struct option_value options[OPTIONS_MAX];
	const char **operands; /* ended by NULL */
	size_t operand_count;
	char **rest; /* the words behind `--`, in argv */
	size_t rest_count;
};

/* Room for the reason of a usage error. */
#define OPTIONS_WHY_SIZE 256

/*
 * Parses argv[1..] (argv[0] is skipped). With `stop_at_operand` parsing ends at the first word that
 * is no option; *ret_used then says how many words were taken. Texts point into argv. 0; -EINVAL
 * with a line for people in `why`; -ENOMEM. `ret` must be released by arguments_clear() either way.
 */
int options_parse(const struct verb_option *options, int argc, char **argv, bool stop_at_operand,
		  struct arguments *ret, int *ret_used, char why[OPTIONS_WHY_SIZE]);

void arguments_clear(struct arguments *arguments);

/* Parses the whole of `text` as a finite number. 0 or -EINVAL. */
int parse_number(const char *text, double *ret);

/* A whole number that a double holds exactly. 0 or -EINVAL. */
int parse_integer(const char *text, json_int_t *ret);

/*
 * Parses the whole of `text` as a size: a number, and K, M, G or T for that many times 1024, with
 * or without iB behind it. 0 and whole bytes, of which there is at least one and at most 2^50;
 * -EINVAL.
 */
int parse_size(const char *text, double *ret_bytes);

#endif
