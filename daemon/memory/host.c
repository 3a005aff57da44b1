/* SPDX-License-Identifier: Apache-2.0 */
/* The host's memory as the kernel tells it. */
#include "daemon/memory/host.h"

#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* /proc/meminfo has about 60 lines, smaps_rollup about 25. */
#define PROC_FILE_MAX 8192

/* The number behind `key` at the start of a line, in bytes; the files count in kB. 0 when absent.
 */
static uint64_t kb_field(const char *text, const char *key)
{
	size_t len = strlen(key);

	for (const char *line = text; line; line = strchr(line, '\n')) {
		if (*line == '\n')
			line++;
		if (strncmp(line, key, len) == 0)
			return strtoull(line + len, NULL, 10) * 1024;
	}
	return 0;
}

static void read_psi(struct host_memory *ret)
{
	_cleanup_free_ char *text = NULL;
	const char *full;

	if (read_file_at(AT_FDCWD, "/proc/pressure/memory", PROC_FILE_MAX, &text) < 0)
		return;
	full = strstr(text, "full ");
	ret->has_psi = full && sscanf(text, "some avg10=%lf", &ret->psi_some_avg10) == 1 &&
		       sscanf(full, "full avg10=%lf", &ret->psi_full_avg10) == 1;
}

int host_memory_read(struct host_memory *ret)
{
	_cleanup_free_ char *text = NULL;
	ssize_t len = read_file_at(AT_FDCWD, "/proc/meminfo", PROC_FILE_MAX, &text);

	if (len < 0)
		return (int)len;
	*ret = (struct host_memory){
		.total_bytes = kb_field(text, "MemTotal:"),
		.available_bytes = kb_field(text, "MemAvailable:"),
	};
	read_psi(ret);
	return 0;
}

int process_memory_read(pid_t pid, struct process_memory *ret)
{
	_cleanup_free_ char *text = NULL;
	char path[64];
	ssize_t len;

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
	len = read_file_at(AT_FDCWD, path, PROC_FILE_MAX, &text);
	if (len < 0)
		return (int)len;
	*ret = (struct process_memory){
		.rss_bytes = kb_field(text, "Rss:"),
		.pss_bytes = kb_field(text, "Pss:"),
		.anonymous_bytes = kb_field(text, "Anonymous:"),
	};
	return 0;
}
