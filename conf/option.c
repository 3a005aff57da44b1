/* SPDX-License-Identifier: Apache-2.0 */
/* One configuration key: the strict conversion between text and value. */
#include "conf/option.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define DIGITS "0123456789"
#define NAME_LETTERS                        \
	DIGITS "abcdefghijklmnopqrstuvwxyz" \
	       "ABCDEFGHIJKLMNOPQRSTUVWXYZ" \
	       "_.-"

#define DIGITS_MAX   15 /* 10^15 < 2^53: exact as an integer and as a double */
#define NUMBER_SIZE  40 /* a number in text */
#define FRACTION_MAX 6  /* microseconds */

/* A parsed value; which member counts is told by the option's type. */
union value {
	char *text;
	bool flag;
	int64_t integer;
	uint64_t bytes;
	double seconds;
	int choice;
};

static const struct {
	const char *name;
	bool value;
} bool_words[] = {
	{"yes", true},    {"no", false}, {"true", true},
	{"false", false}, {"on", true},  {"off", false},
};

static const struct {
	char suffix;
	unsigned shift;
} size_units[] = {{'G', 30}, {'M', 20}, {'K', 10}};

/* Any value goes into a message in quotes, whatever bytes it has: cut, and without control
 * characters. */
#define QUOTED_SIZE 64
static const char *quoted(const char *text, char buf[QUOTED_SIZE])
{
	size_t len = 0;

	for (; *text && len < QUOTED_SIZE - 4; text++)
		buf[len++] = *text >= ' ' && *text <= '~' ? *text : '?';
	snprintf(buf + len, QUOTED_SIZE - len, "%s", *text ? "..." : "");
	return buf;
}

static int refuse(const struct config_option *option, const char *text, const char *what,
		  char why[CONFIG_WHY_SIZE])
{
	char range[CONFIG_RANGE_SIZE], quote[QUOTED_SIZE];

	config_option_range(option, range);
	snprintf(why, CONFIG_WHY_SIZE, "'%s' %.40s: '%.40s' takes %s", quoted(text, quote), what,
		 option->key, range);
	return -EINVAL;
}

static bool is_printable(const char *text)
{
	for (; *text; text++)
		if (*text < ' ' || *text > '~')
			return false;
	return true;
}

static int parse_text(const struct config_option *option, const char *text, union value *ret,
		      char why[CONFIG_WHY_SIZE])
{
	size_t len = strlen(text);

	if (len < option->min)
		return refuse(option, text, len == 0 ? "is empty" : "is too short", why);
	if (len > option->max)
		return refuse(option, text, "is too long", why);
	if (!is_printable(text))
		return refuse(option, text, "is not printable ASCII", why);
	if (option->type == CONFIG_PATH && text[0] != '/')
		return refuse(option, text, "does not begin with '/'", why);
	if (option->type == CONFIG_NAME &&
	    (text[strspn(text, NAME_LETTERS)] || (len > 0 && strchr("-.", text[0]))))
		return refuse(option, text, "is not a name", why);
	ret->text = strdup(text);
	return ret->text ? 0 : -ENOMEM;
}

static int parse_bool(const struct config_option *option, const char *text, union value *ret,
		      char why[CONFIG_WHY_SIZE])
{
	for (size_t i = 0; i < ELEMENTSOF(bool_words); i++)
		if (strcmp(bool_words[i].name, text) == 0) {
			ret->flag = bool_words[i].value;
			return 0;
		}
	return refuse(option, text, "is neither yes nor no", why);
}

static int parse_choice(const struct config_option *option, const char *text, union value *ret,
			char why[CONFIG_WHY_SIZE])
{
	for (const struct config_choice *choice = option->choices; choice->name; choice++)
		if (strcmp(choice->name, text) == 0) {
			ret->choice = choice->value;
			return 0;
		}
	return refuse(option, text, "is not one of the choices", why);
}

/* Reads the digits at `*text` and moves behind them. False when there are none or too many. */
static bool read_digits(const char **text, size_t max, uint64_t *ret)
{
	size_t len = strspn(*text, DIGITS);
	uint64_t number = 0;

	if (len == 0 || len > max)
		return false;
	for (size_t i = 0; i < len; i++)
		number = number * 10 + (uint64_t)((*text)[i] - '0');
	*text += len;
	*ret = number;
	return true;
}

static bool is_in_range(const struct config_option *option, double number)
{
	return number >= option->min && number <= option->max;
}

static int parse_integer(const struct config_option *option, const char *text, union value *ret,
			 char why[CONFIG_WHY_SIZE])
{
	const char *p = text;
	uint64_t number;

	if (!read_digits(&p, DIGITS_MAX, &number) || *p)
		return refuse(option, text, "is not a whole number without a unit", why);
	if (!is_in_range(option, (double)number))
		return refuse(option, text, "is out of range", why);
	ret->integer = (int64_t)number;
	return 0;
}

static int parse_size(const struct config_option *option, const char *text, union value *ret,
		      char why[CONFIG_WHY_SIZE])
{
	const char *p = text;
	uint64_t number;
	unsigned shift = 0;

	if (!read_digits(&p, DIGITS_MAX, &number))
		return refuse(option, text, "is not a size", why);
	for (size_t i = 0; i < ELEMENTSOF(size_units) && shift == 0; i++)
		if (*p == size_units[i].suffix)
			shift = size_units[i].shift;
	if (shift > 0)
		p++;
	if (*p)
		return refuse(option, text, "is not a size", why);
	/* Compared as a double first, because the shift could lose bits. */
	if (!is_in_range(option, ldexp((double)number, (int)shift)))
		return refuse(option, text, "is out of range", why);
	ret->bytes = number << shift;
	return 0;
}

static int parse_seconds(const struct config_option *option, const char *text, union value *ret,
			 char why[CONFIG_WHY_SIZE])
{
	const char *p = text;
	uint64_t whole, fraction = 0;
	double scale = 1;

	/* Not strtod(): it takes signs, exponents, "inf" and the locale's comma. */
	if (!read_digits(&p, DIGITS_MAX - FRACTION_MAX, &whole))
		return refuse(option, text, "is not a number of seconds", why);
	if (*p == '.') {
		const char *digits = ++p;

		if (!read_digits(&p, FRACTION_MAX, &fraction))
			return refuse(option, text, "is not a number of seconds", why);
		for (; digits < p; digits++)
			scale *= 10;
	}
	if (*p)
		return refuse(option, text, "is not a number of seconds", why);
	ret->seconds = (double)whole + (double)fraction / scale;
	if (!is_in_range(option, ret->seconds))
		return refuse(option, text, "is out of range", why);
	return 0;
}

static int parse(const struct config_option *option, const char *text, union value *ret,
		 char why[CONFIG_WHY_SIZE])
{
	switch (option->type) {
	case CONFIG_NAME:
	case CONFIG_PATH:
		return parse_text(option, text, ret, why);
	case CONFIG_BOOL:
		return parse_bool(option, text, ret, why);
	case CONFIG_INTEGER:
		return parse_integer(option, text, ret, why);
	case CONFIG_SIZE:
		return parse_size(option, text, ret, why);
	case CONFIG_SECONDS:
		return parse_seconds(option, text, ret, why);
	case CONFIG_CHOICE:
		return parse_choice(option, text, ret, why);
	}
	abort();
}

int config_option_set(const struct config_option *option, const char *text, void *values,
		      char why[CONFIG_WHY_SIZE])
{
	void *place = (char *)values + option->offset;
	union value value = {0};
	int r = parse(option, text, &value, why);

	if (r < 0)
		return r;
	switch (option->type) {
	case CONFIG_NAME:
	case CONFIG_PATH:
		free(*(char **)place);
		*(char **)place = value.text;
		break;
	case CONFIG_BOOL:
		*(bool *)place = value.flag;
		break;
	case CONFIG_INTEGER:
		*(int64_t *)place = value.integer;
		break;
	case CONFIG_SIZE:
		*(uint64_t *)place = value.bytes;
		break;
	case CONFIG_SECONDS:
		*(double *)place = value.seconds;
		break;
	case CONFIG_CHOICE:
		*(int *)place = value.choice;
		break;
	}
	return 0;
}

/* With the largest unit that loses nothing. */
static void format_size(uint64_t bytes, char buf[NUMBER_SIZE])
{
	for (size_t i = 0; i < ELEMENTSOF(size_units); i++) {
		unsigned shift = size_units[i].shift;

		if (bytes == 0 || bytes & ((UINT64_C(1) << shift) - 1))
			continue;
		snprintf(buf, NUMBER_SIZE, "%" PRIu64 "%c", bytes >> shift, size_units[i].suffix);
		return;
	}
	snprintf(buf, NUMBER_SIZE, "%" PRIu64, bytes);
}

/* Without the locale's comma and without zeros at the end. */
static void format_seconds(double seconds, char buf[NUMBER_SIZE])
{
	long long micros = llround(seconds * 1e6);
	int len = snprintf(buf, NUMBER_SIZE, "%lld.%06lld", micros / 1000000, micros % 1000000);

	while (buf[len - 1] == '0')
		buf[--len] = '\0';
	if (buf[len - 1] == '.')
		buf[--len] = '\0';
}

static const char *choice_name(const struct config_option *option, int value)
{
	for (const struct config_choice *choice = option->choices; choice->name; choice++)
		if (choice->value == value)
			return choice->name;
	return option->fallback;
}

char *config_option_format(const struct config_option *option, const void *values)
{
	const void *place = (const char *)values + option->offset;
	char buf[NUMBER_SIZE];

	switch (option->type) {
	case CONFIG_NAME:
	case CONFIG_PATH:
		return strdup(*(char *const *)place);
	case CONFIG_BOOL:
		return strdup(*(const bool *)place ? "yes" : "no");
	case CONFIG_CHOICE:
		return strdup(choice_name(option, *(const int *)place));
	case CONFIG_INTEGER:
		snprintf(buf, sizeof(buf), "%" PRId64, *(const int64_t *)place);
		break;
	case CONFIG_SIZE:
		format_size(*(const uint64_t *)place, buf);
		break;
	case CONFIG_SECONDS:
		format_seconds(*(const double *)place, buf);
		break;
	}
	return strdup(buf);
}

static size_t value_size(const struct config_option *option)
{
	switch (option->type) {
	case CONFIG_NAME:
	case CONFIG_PATH:
		return sizeof(char *);
	case CONFIG_BOOL:
		return sizeof(bool);
	case CONFIG_INTEGER:
		return sizeof(int64_t);
	case CONFIG_SIZE:
		return sizeof(uint64_t);
	case CONFIG_SECONDS:
		return sizeof(double);
	case CONFIG_CHOICE:
		return sizeof(int);
	}
	abort();
}

bool config_option_is_same(const struct config_option *option, const void *a, const void *b)
{
	const void *left = (const char *)a + option->offset;
	const void *right = (const char *)b + option->offset;

	if (config_option_is_string(option))
		return strcmp(*(char *const *)left, *(char *const *)right) == 0;
	/* Both come from the same parser: the same number has the same bytes. */
	return memcmp(left, right, value_size(option)) == 0;
}

void config_option_copy(const struct config_option *option, void *to, const void *from)
{
	assert(!config_option_is_string(option));
	memcpy((char *)to + option->offset, (const char *)from + option->offset,
	       value_size(option));
}

/* "auto, kvm or tcg" */
static void choices_range(const struct config_choice *choices, char range[CONFIG_RANGE_SIZE])
{
	size_t len = 0;

	range[0] = '\0';
	for (const struct config_choice *choice = choices; choice->name; choice++) {
		const char *joint = choice == choices ? "" : choice[1].name ? ", " : " or ";

		len += (size_t)snprintf(range + len, CONFIG_RANGE_SIZE - len, "%s%s", joint,
					choice->name);
		if (len >= CONFIG_RANGE_SIZE)
			return;
	}
}

void config_option_range(const struct config_option *option, char range[CONFIG_RANGE_SIZE])
{
	char low[NUMBER_SIZE], high[NUMBER_SIZE];

	switch (option->type) {
	case CONFIG_NAME:
		snprintf(range, CONFIG_RANGE_SIZE,
			 "a name of %.0f to %.0f letters, digits, '_', '.' or '-'", option->min,
			 option->max);
		return;
	case CONFIG_PATH:
		snprintf(range, CONFIG_RANGE_SIZE, "an absolute path of at most %.0f bytes",
			 option->max);
		return;
	case CONFIG_BOOL:
		snprintf(range, CONFIG_RANGE_SIZE, "yes or no");
		return;
	case CONFIG_CHOICE:
		choices_range(option->choices, range);
		return;
	case CONFIG_INTEGER:
		snprintf(range, CONFIG_RANGE_SIZE, "%.0f to %.0f%s%s", option->min, option->max,
			 option->unit ? " " : "", option->unit ? option->unit : "");
		return;
	case CONFIG_SIZE:
		format_size((uint64_t)option->min, low);
		format_size((uint64_t)option->max, high);
		snprintf(range, CONFIG_RANGE_SIZE, "%s to %s bytes (with K, M, G or nothing)", low,
			 high);
		return;
	case CONFIG_SECONDS:
		format_seconds(option->min, low);
		format_seconds(option->max, high);
		snprintf(range, CONFIG_RANGE_SIZE, "%s to %s seconds", low, high);
		return;
	}
}

bool config_option_is_string(const struct config_option *option)
{
	return option->type == CONFIG_NAME || option->type == CONFIG_PATH;
}
