/* SPDX-License-Identifier: Apache-2.0 */
/* The receipt of a run: why it ended and what it used, as the EXIT message says it. */
#include "guest-agent/receipt.h"

#include "base/util.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>

/* Of the interpreter's report as JSON: half of the largest payload. */
#define ERROR_TEXT_MAX (FRAME_PAYLOAD_MAX / 2)

static uint64_t microseconds(const struct timeval *time)
{
	return (uint64_t)time->tv_sec * 1000000u + (uint64_t)time->tv_usec;
}

/* The kernel's figures are rounded: a later one may be the smaller by a little. */
static uint64_t since(uint64_t now, uint64_t before)
{
	return now > before ? now - before : 0;
}

static void set_reason(struct msg_exit *receipt, const char *reason)
{
	strncpy(receipt->reason, reason, sizeof(receipt->reason) - 1);
}

static void fill_reason(struct msg_exit *receipt, const struct receipt_facts *facts)
{
	bool was_killed = WIFSIGNALED(facts->status) && WTERMSIG(facts->status) == SIGKILL;

	if (WIFSIGNALED(facts->status))
		receipt->signal = (uint64_t)WTERMSIG(facts->status);
	else
		receipt->exit_code = (uint64_t)WEXITSTATUS(facts->status);

	/* A program that ended by itself before it could be killed for memory has ended by itself.
	 */
	if (was_killed && (facts->verdict == VERDICT_OOM || facts->usage.oom_kills > 0))
		set_reason(receipt, MSG_REASON_OOM);
	else if (facts->verdict == VERDICT_OUTPUT_LIMIT)
		set_reason(receipt, MSG_REASON_OUTPUT_LIMIT);
	else if (WIFSIGNALED(facts->status))
		set_reason(receipt, MSG_REASON_SIGNALED);
	else
		set_reason(receipt, MSG_REASON_EXITED);
}

void receipt_fill(struct msg_exit *receipt, const struct receipt_facts *facts)
{
	const struct rusage *rusage = &facts->rusage, *rusage_before = &facts->rusage_before;
	const struct cgroup_usage *usage = &facts->usage, *before = &facts->usage_before;

	fill_reason(receipt, facts);
	/* The cgroup counts the whole tree, also processes nobody waited for. */
	receipt->cpu_user_us = usage->has_cpu ? since(usage->cpu_user_us, before->cpu_user_us)
					      : since(microseconds(&rusage->ru_utime),
						      microseconds(&rusage_before->ru_utime));
	receipt->cpu_system_us = usage->has_cpu ? since(usage->cpu_system_us, before->cpu_system_us)
						: since(microseconds(&rusage->ru_stime),
							microseconds(&rusage_before->ru_stime));
	receipt->memory_peak_bytes = usage->memory_peak_bytes > 0
					     ? usage->memory_peak_bytes
					     : (uint64_t)rusage->ru_maxrss * 1024;
	receipt->page_faults_major =
		since((uint64_t)rusage->ru_majflt, (uint64_t)rusage_before->ru_majflt);
	receipt->oom_kills = usage->oom_kills;
	receipt->swap_peak_bytes = MAX(facts->swap_peak_bytes, usage->swap_bytes);
	receipt->execute_us = facts->execute_us;
}

json_t *receipt_parse_report(const char *report, size_t len)
{
	static const char *const names[] = {"name", "value", "traceback"};
	json_auto_t *error = json_object();
	size_t at = 0;

	if (len == 0 || len > RECEIPT_REPORT_MAX)
		return NULL;
	for (size_t i = 0; i < ELEMENTSOF(names); i++) {
		bool is_last = i == ELEMENTSOF(names) - 1;
		const char *end = memchr(report + at, '\0', len - at);
		size_t text_len = end ? (size_t)(end - report) - at : len - at;

		/* Exactly two dividers. Text that is not UTF-8 makes json_stringn() fail. */
		if (is_last != !end ||
		    json_object_set_new(error, names[i], json_stringn(report + at, text_len)) < 0)
			return NULL;
		at += text_len + 1;
	}
	/* JSON writes a control byte as six: what would not fit into EXIT is not worth the EXIT. */
	if (json_dumpb(error, NULL, 0, JSON_COMPACT) > ERROR_TEXT_MAX)
		return NULL;
	return TAKE_PTR(error);
}
