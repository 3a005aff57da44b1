/* SPDX-License-Identifier: Apache-2.0 */
/* Readers for the small text files of /proc, sysfs and cgroupfs. */
#include "guest-agent/proctext.h"

#include "base/util.h"

#include <inttypes.h>
#include <stdio.h>
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

bool proctext_keyed(const char *text, const char *key, uint64_t *ret)
{
	const char *value = find_key(text, key);

	return value && sscanf(value, "%" SCNu64, ret) == 1;
}

size_t proctext_numbers(const char *text, uint64_t *ret, size_t max)
{
	size_t n = 0;
	int used;

	while (n < max && sscanf(text, "%" SCNu64 "%n", &ret[n], &used) == 1) {
		text += used;
		n++;
	}
	return n;
}

bool proctext_pressure(const char *text, const char *kind, uint64_t *ret_avg10_centi,
		       uint64_t *ret_total_us)
{
	const char *line = find_key(text, kind);
	uint64_t whole, centi, total;

	if (!line ||
	    sscanf(line, "avg10=%" SCNu64 ".%2" SCNu64 " avg60=%*s avg300=%*s total=%" SCNu64,
		   &whole, &centi, &total) != 3)
		return false;
	*ret_avg10_centi = whole * 100 + centi;
	*ret_total_us = total;
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
