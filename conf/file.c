/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One configuration file: strict reading of its lines, values by libeconf.
 *
 * Theory of operation: libeconf (0.5) is lenient where a typing error should be heard of: a line
 * without '=' becomes part of the value before it, of two lines with one key the second is not
 * seen, neither is a section without keys, and its first syntax error is also its last. So the
 * text is read once (capped), a scan goes over its lines, says what is wrong with each, and hands
 * only the good ones on, with the others blanked so that lines keep their numbers. libeconf parses
 * those from a memfd: what was checked is what is parsed, whatever happens to the file meanwhile.
 */
#include "conf/file.h"

#include "conf/schema.h"

#include <errno.h>
#include <fcntl.h>
#include <libeconf.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define COMMENT    '#'
#define WHITESPACE " \t\r"
#define NAME_SHOWN 64 /* bytes of a wrong line that a message repeats */

struct scan {
	const char *file;
	struct config_report *report;
	unsigned line;
	const char *section;               /* of the schema; NULL outside of a known one */
	bool is_in_unknown_section;        /* which has been reported */
	unsigned seen[CONFIG_OPTIONS_MAX]; /* per option: the line it stands in, 0 for none */
	char *clean;                       /* the good lines */
	size_t clean_len;
};

/* The part of [start, end) without white space around it, as a new string. */
static char *trimmed(const char *start, const char *end)
{
	while (start < end && strchr(WHITESPACE, *start))
		start++;
	while (start < end && strchr(WHITESPACE, end[-1]))
		end--;
	return strndup(start, (size_t)(end - start));
}

/* A line like "[name]". */
static bool scan_section(struct scan *scan, const char *text)
{
	size_t len = strlen(text);
	_cleanup_free_ char *name = NULL;
	const struct config_option *option;

	scan->section = NULL;
	scan->is_in_unknown_section = true;
	if (text[len - 1] != ']') {
		config_report_add(scan->report, scan->file, scan->line,
				  "Section '%.*s' has no ']' at its end", NAME_SHOWN, text);
		return false;
	}
	name = strndup(text + 1, len - 2);
	for (option = config_schema; name && option->key; option++)
		if (strcmp(option->section, name) == 0)
			break;
	if (!name || !option->key) {
		config_report_add(scan->report, scan->file, scan->line, "Unknown section '%.*s'",
				  NAME_SHOWN, text);
		return false;
	}
	scan->section = option->section;
	scan->is_in_unknown_section = false;
	return true;
}

static void report_unknown_key(struct scan *scan, const char *key)
{
	const struct config_option *elsewhere = config_schema_find(NULL, key);

	if (elsewhere)
		config_report_add(scan->report, scan->file, scan->line,
				  "Key '%s' belongs into section [%s]", key, elsewhere->section);
	else
		config_report_add(scan->report, scan->file, scan->line,
				  "Unknown key '%.*s' in section [%s]", NAME_SHOWN, key,
				  scan->section);
}

/* A line like "key = value", `equals` being where its '=' is. */
static bool scan_assignment(struct scan *scan, const char *text, const char *equals)
{
	_cleanup_free_ char *key = trimmed(text, equals);
	const struct config_option *option;
	unsigned *seen;

	if (scan->is_in_unknown_section || !key)
		return false;
	if (!scan->section) {
		config_report_add(scan->report, scan->file, scan->line,
				  "Key '%.*s' stands before any section", NAME_SHOWN, key);
		return false;
	}
	option = config_schema_find(scan->section, key);
	if (!option) {
		report_unknown_key(scan, key);
		return false;
	}
	seen = &scan->seen[option - config_schema];
	if (*seen) {
		config_report_add(scan->report, scan->file, scan->line,
				  "Key '%s' is set already in line %u", key, *seen);
		return false;
	}
	*seen = scan->line;
	return true;
}

/* Whether the line, without its comment and white space, is for libeconf to see. */
static bool scan_line(struct scan *scan, const char *text)
{
	const char *equals = strchr(text, '=');

	if (text[0] == '\0')
		return false;
	if (text[0] == '[')
		return scan_section(scan, text);
	if (!equals) {
		config_report_add(scan->report, scan->file, scan->line, "Line '%.*s' has no '='",
				  NAME_SHOWN, text);
		return false;
	}
	return scan_assignment(scan, text, equals);
}

/* Goes over all lines. 0 or -ENOMEM. */
static int scan_text(struct scan *scan, const char *text, size_t len)
{
	const char *end = text + len;

	scan->clean = malloc(len + 2); /* each line's newline, also that of a last line without */
	if (!scan->clean)
		return -ENOMEM;
	while (text < end) {
		const char *stop = memchr(text, '\n', (size_t)(end - text));
		const char *comment;
		_cleanup_free_ char *line = NULL;

		stop = stop ? stop : end;
		scan->line++;
		comment = memchr(text, COMMENT, (size_t)(stop - text));
		line = trimmed(text, comment ? comment : stop);
		if (!line)
			return -ENOMEM;
		if (strlen(line) > CONFIG_LINE_MAX)
			config_report_add(scan->report, scan->file, scan->line,
					  "Line is longer than %d bytes", CONFIG_LINE_MAX);
		else if (scan_line(scan, line))
			scan->clean_len += (size_t)(stpcpy(scan->clean + scan->clean_len, line) -
						    (scan->clean + scan->clean_len));
		scan->clean[scan->clean_len++] = '\n';
		text = stop + 1;
	}
	return 0;
}

/* Has libeconf parse the good lines, from a descriptor because it takes file names alone. */
static int parse_clean(const struct scan *scan, econf_file **ret)
{
	_cleanup_close_ int fd = memfd_create("configuration", MFD_CLOEXEC);
	char path[64];
	econf_err error;
	int r;

	if (fd < 0)
		return -errno;
	r = write_all(fd, scan->clean, scan->clean_len);
	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	error = econf_readFile(ret, path, "=", "#");
	if (error == ECONF_NOMEM)
		return -ENOMEM;
	if (error != ECONF_SUCCESS)
		config_report_add(scan->report, scan->file, 0, "%s", econf_errString(error));
	return 0;
}

/* Stores one key's value. 0, also when it is bad; or -ENOMEM. */
static int apply_value(const struct scan *scan, econf_file *parsed,
		       const struct config_option *option, void *values)
{
	_cleanup_free_ char *text = NULL;
	char why[CONFIG_WHY_SIZE];
	econf_err error = econf_getStringValue(parsed, option->section, option->key, &text);
	int r;

	if (error == ECONF_NOMEM)
		return -ENOMEM;
	/* A key with nothing behind its '=' has the empty value. */
	r = config_option_set(option, error == ECONF_SUCCESS && text ? text : "", values, why);
	if (r == -EINVAL)
		config_report_add(scan->report, scan->file, scan->seen[option - config_schema],
				  "%s", why);
	return r == -EINVAL ? 0 : r;
}

int config_text_apply(const char *name, const char *text, size_t len, void *values,
		      struct config_report *report)
{
	struct scan scan = {.file = name, .report = report};
	econf_file *parsed = NULL;
	int r;

	if (memchr(text, '\0', len)) {
		config_report_add(report, name, 0, "File has a NUL byte and is no text");
		return 0;
	}
	r = scan_text(&scan, text, len);
	if (r >= 0)
		r = parse_clean(&scan, &parsed);
	for (size_t i = 0; parsed && r >= 0 && config_schema[i].key; i++)
		if (scan.seen[i])
			r = apply_value(&scan, parsed, &config_schema[i], values);
	econf_freeFile(parsed);
	free(scan.clean);
	return r;
}

/* Regular files, and /dev/null as what switches a drop-in off; opening others could block. */
static int check_kind(const char *path, struct config_report *report)
{
	struct stat st;

	if (stat(path, &st) < 0) {
		config_report_add(report, path, 0, "Cannot read: %s", strerror(errno));
		return -EINVAL;
	}
	if (!S_ISREG(st.st_mode) && !S_ISCHR(st.st_mode)) {
		config_report_add(report, path, 0, "Cannot read: Not a regular file");
		return -EINVAL;
	}
	return 0;
}

int config_file_apply(const char *path, void *values, struct config_report *report)
{
	_cleanup_free_ char *text = NULL;
	ssize_t len;

	if (check_kind(path, report) < 0)
		return 0;
	len = read_file_at(AT_FDCWD, path, CONFIG_FILE_MAX, &text);
	if (len == -ENOMEM)
		return -ENOMEM;
	if (len == -EFBIG) {
		config_report_add(report, path, 0, "File is larger than %d bytes", CONFIG_FILE_MAX);
		return 0;
	}
	if (len < 0) {
		config_report_add(report, path, 0, "Cannot read: %s", strerror((int)-len));
		return 0;
	}
	return config_text_apply(path, text, (size_t)len, values, report);
}
