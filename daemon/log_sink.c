/* SPDX-License-Identifier: Apache-2.0 */
/* Where the daemon's log lines go: the journal with fields of our own, or standard error. */
#include "daemon/log_sink.h"

#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>

#define SD_JOURNAL_SUPPRESS_LOCATION /* this file's lines would be shown for every message */
#include <systemd/sd-journal.h>

/* Of systemd's journal protocol; libsystemd sends into the void when it is not there. */
#define JOURNAL_SOCKET "/run/systemd/journal/socket"

#define FIELD_SIZE 4096 /* base/log's lines are shorter */

static struct iovec field(char buf[FIELD_SIZE], const char *name, const char *object,
			  const char *text)
{
	int len = snprintf(buf, FIELD_SIZE, "%s=%s%s%s", name, object ? object : "",
			   object ? ": " : "", text);

	return (struct iovec){buf, (size_t)MIN(len, FIELD_SIZE - 1)};
}

static void sink_journal(int level, const char *object, const char *message)
{
	char message_field[FIELD_SIZE], object_field[FIELD_SIZE], level_field[FIELD_SIZE];
	char level_text[16];
	struct iovec fields[4] = {field(message_field, "MESSAGE", object, message)};
	int n = 1, r;

	snprintf(level_text, sizeof(level_text), "%d", level);
	fields[n++] = field(level_field, "PRIORITY", NULL, level_text);
	fields[n++] = (struct iovec){(char *)"SYSLOG_IDENTIFIER=execsandboxd",
				     strlen("SYSLOG_IDENTIFIER=execsandboxd")};
	if (object)
		fields[n++] = field(object_field, "EXECSANDBOX_OBJECT", NULL, object);
	r = sd_journal_sendv(fields, n);
	if (r < 0) /* a line that the journal does not take is not lost */
		fprintf(stderr, "%s%s%s\n", object ? object : "", object ? ": " : "", message);
}

/* Whether standard error is the very stream that systemd connected to the journal. */
static bool is_stderr_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	uintmax_t device, inode;
	struct stat st;

	return stream && sscanf(stream, "%" SCNuMAX ":%" SCNuMAX, &device, &inode) == 2 &&
	       fstat(STDERR_FILENO, &st) == 0 && st.st_dev == device && st.st_ino == inode;
}

int log_sink_choose(enum config_log_target target)
{
	bool wants_journal = false;
	struct stat st;

	switch (target) {
	case CONFIG_LOG_AUTO:
		wants_journal = is_stderr_journal();
		break;
	case CONFIG_LOG_JOURNAL:
		wants_journal = true;
		break;
	case CONFIG_LOG_STDERR:
		break;
	}
	log_set_sink(NULL);
	if (!wants_journal)
		return 0;
	if (stat(JOURNAL_SOCKET, &st) < 0 || !S_ISSOCK(st.st_mode))
		return target == CONFIG_LOG_JOURNAL ? -ENXIO : 0;
	log_set_sink(sink_journal);
	return 0;
}
