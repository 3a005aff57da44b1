/* SPDX-License-Identifier: Apache-2.0 */
/* Readers for the small text files of /proc, sysfs and cgroupfs. */
#include "guest-agent/proctext.h"

#include "base/util.h"

#include <errno.h>
#include <string.h>

/* The text behind `key` at the start of a line, or NULL. */
static const char *find_key(const char *text, const char *key)
{
	size_t len = strlen(key);

	for (const char *line = text; line; line = strchr(line, '\n')) {
		if (*line == '\n')
			line++;
		if (strncmp(line, key, len) == 0 && (line[len] == ' ' || line[len] == ':'))
			return line + len + 1;
	}
	return NULL;
}

/* Reads the number at `*text`, behind blanks, and moves behind it. */
static bool take_number(const char **text, uint64_t *ret)
{
	const char *digits = *text + strspn(*text, " \t");
	uint64_t value;
	char *end;

	if (*digits < '0' || *digits > '9')
		return false;
	errno = 0;
	value = strtoull(digits, &end, 10);
	if (errno != 0)
		return false;
	*ret = value;
	*text = end;
	return true;
}

bool proctext_keyed(const char *text, const char *key, uint64_t *ret)
{
	const char *value = find_key(text, key);

	return value && take_number(&value, ret);
}

size_t proctext_numbers(const char *text, uint64_t *ret, size_t max)
{
	size_t n = 0;

	while (n < max && take_number(&text, &ret[n]))
		n++;
	return n;
}

/* The text behind `name` in the line that starts at `line`, or NULL. */
static const char *find_in_line(const char *line, const char *name)
{
	const char *found = strstr(line, name), *end = strchr(line, '\n');

	return found && (!end || found < end) ? found + strlen(name) : NULL;
}

bool proctext_pressure(const char *text, const char *kind, uint64_t *ret_avg10_centi,
		       uint64_t *ret_total_us)
{
	const char *line = find_key(text, kind);
	const char *avg10 = line ? find_in_line(line, "avg10=") : NULL;
	const char *total = line ? find_in_line(line, "total=") : NULL;
	uint64_t whole, centi, total_us;

	/* The kernel prints exactly two digits behind the point. */
	if (!avg10 || !total || !take_number(&avg10, &whole) || *avg10++ != '.' ||
	    !take_number(&avg10, &centi) || !take_number(&total, &total_us))
		return false;
	*ret_avg10_centi = whole * 100 + centi;
	*ret_total_us = total_us;
	return true;
}

bool proctext_read_u64(int dir_fd, const char *path, uint64_t *ret)
{
	_cleanup_free_ char *text = NULL;

	if (read_file_at(dir_fd, path, PROCTEXT_MAX, &text) <= 0)
		return false;
	if (strcmp(text, "max\n") == 0) {
		*ret = UINT64_MAX;
		return true;
	}
	return proctext_numbers(text, ret, 1) == 1;
}
