/* SPDX-License-Identifier: Apache-2.0 */
/* Pressure stall information: the kernel's text, and stalls over a stretch of time. */
#include "daemon/memory/psi.h"

#include "base/kernel_file.h"
#include "base/util.h"

#include <errno.h>
#include <string.h>

/* Two readings for each quarter of a second would double the room for no use. */
#define READING_MIN_US 200000u
/* How much younger than asked a reading may be: timers of one second come a little early or late.
 */
#define WINDOW_SLACK_US 125000u

/* --- The text. --- */

/* "12.34" at `text`, as a share of 100. Where it ends, or NULL. */
static const char *parse_per_cent(const char *text, double *ret)
{
	uint64_t whole, hundredths;
	const char *point = kernel_number(text, &whole), *end;

	if (!point || *point != '.')
		return NULL;
	end = kernel_number(point + 1, &hundredths);
	if (!end || end != point + 3 || whole * 100 + hundredths > 10000 || whole > 100)
		return NULL;
	*ret = (double)whole + (double)hundredths / 100.;
	return end;
}

/* The line that begins with `head`: "some avg10=0.00 avg60=0.00 avg300=0.00 total=0". */
static int parse_line(const char *text, const char *head, struct psi_line *ret)
{
	const char *line = strstr(text, head), *total, *end;

	if (!line || (line != text && line[-1] != '\n'))
		return -EBADMSG;
	end = parse_per_cent(line + strlen(head), &ret->avg10);
	if (!end || *end != ' ')
		return -EBADMSG;
	total = strstr(end, " total=");
	if (!total || memchr(end, '\n', (size_t)(total - end)))
		return -EBADMSG;
	end = kernel_number(total + strlen(" total="), &ret->total_us);
	return end && (*end == '\n' || *end == '\0') ? 0 : -EBADMSG;
}

int psi_parse(const char *text, struct psi *ret)
{
	struct psi psi;

	if (parse_line(text, "some avg10=", &psi.some) < 0 ||
	    parse_line(text, "full avg10=", &psi.full) < 0)
		return -EBADMSG;
	*ret = psi;
	return 0;
}

/* --- Stalls. --- */

/* The reading that was noted `back` before the last one. */
static const struct psi_reading *reading(const struct psi_history *history, unsigned back)
{
	return &history->readings[(history->next + PSI_HISTORY_MAX - 1 - back) % PSI_HISTORY_MAX];
}

void psi_history_add(struct psi_history *history, uint64_t us, const struct psi *psi)
{
	if (history->count > 0 && us < reading(history, 0)->us + READING_MIN_US)
		return;
	history->readings[history->next] = (struct psi_reading){
		.us = us, .some_us = psi->some.total_us, .full_us = psi->full.total_us};
	history->next = (history->next + 1) % PSI_HISTORY_MAX;
	history->count = MIN(history->count + 1, (unsigned)PSI_HISTORY_MAX);
}

/* A total that fell tells nothing; none can have grown by more than the time that went by. */
static uint64_t waited(uint64_t before, uint64_t now, uint64_t elapsed_us)
{
	return now > before ? MIN(now - before, elapsed_us) : 0;
}

struct psi_stall psi_history_stall(const struct psi_history *history, uint64_t us,
				   const struct psi *psi, uint64_t window_us)
{
	const struct psi_reading *since = NULL;
	uint64_t elapsed_us;

	for (unsigned back = 0; back < history->count; back++) {
		since = reading(history, back);
		if (since->us + window_us <= us + WINDOW_SLACK_US)
			break;
	}
	if (!since || since->us >= us)
		return (struct psi_stall){.window_us = window_us};
	elapsed_us = us - since->us;
	return (struct psi_stall){
		.some_us = waited(since->some_us, psi->some.total_us, elapsed_us),
		.full_us = waited(since->full_us, psi->full.total_us, elapsed_us),
		.window_us = MAX(elapsed_us, window_us),
	};
}
