/* SPDX-License-Identifier: Apache-2.0 */
/* RunResult: one typed outcome and a receipt for every run. */
#include "daemon/session/result.h"

#include "base/util.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

/* What a shell reports for a program that a signal ended, timeout(1)'s code, and SIGKILL's. */
#define EXIT_BY_SIGNAL 128
#define EXIT_TIMEOUT   124
#define EXIT_OOM       137
/* What wait(2) can tell (a byte, and seven bits). The receipt is the guest's word: larger numbers
 * are cut, so that none wraps round to success. */
#define EXIT_CODE_MAX 255u
#define SIGNAL_MAX    127u

struct verdict {
	const char *status;
	int exit_code;
	int signal;
};

static struct verdict judge(const struct run_outcome *outcome)
{
	const struct msg_exit *exit = outcome->exit;
	int exit_code, signal;

	if (outcome->verdict == VERDICT_CANCELLED)
		return (struct verdict){"cancelled", EXIT_BY_SIGNAL + SIGTERM, 0};
	/* The guest's memory running out is worth knowing even when the deadline came meanwhile. */
	if (exit && strcmp(exit->reason, MSG_REASON_OOM) == 0)
		return (struct verdict){"oom", EXIT_OOM, SIGKILL};
	if (outcome->verdict == VERDICT_TIMEOUT)
		return (struct verdict){"timeout", EXIT_TIMEOUT, 0};
	if (!exit)
		return (struct verdict){"error", 1, 0};
	if (strcmp(exit->reason, MSG_REASON_OUTPUT_LIMIT) == 0)
		return (struct verdict){"output_limit", EXIT_BY_SIGNAL + SIGKILL, SIGKILL};
	exit_code = (int)MIN(exit->exit_code, (uint64_t)EXIT_CODE_MAX);
	signal = (int)MIN(exit->signal, (uint64_t)SIGNAL_MAX);
	if (strcmp(exit->reason, MSG_REASON_SIGNALED) == 0)
		return (struct verdict){"signal", EXIT_BY_SIGNAL + signal, signal};
	return (struct verdict){exit_code == 0 ? "ok" : "error", exit_code, 0};
}

static json_t *signal_name(int number)
{
	const char *name = number > 0 ? sigabbrev_np(number) : NULL;
	char text[32];

	if (number <= 0)
		return json_null();
	if (name)
		snprintf(text, sizeof(text), "SIG%s", name);
	else
		snprintf(text, sizeof(text), "SIG%d", number);
	return json_string(text);
}

/* The interpreter's claim, limited to the three members the API knows. */
static json_t *error_of(const struct msg_exit *exit)
{
	static const char *const members[] = {"name", "value", "traceback"};
	json_t *error;

	if (!exit || !exit->error)
		return json_null();
	error = json_object();
	for (size_t i = 0; i < ELEMENTSOF(members); i++) {
		json_t *value = json_object_get(exit->error, members[i]);

		if (json_object_set(error, members[i], value ? value : json_null()) < 0) {
			json_decref(error);
			return NULL;
		}
	}
	return error;
}

static json_t *ms(uint64_t us)
{
	/* NOLINTNEXTLINE(bugprone-integer-division) ; hundredths, cut */
	return json_real((double)(us / 10) / 100);
}

static json_t *timing(const struct run_outcome *outcome)
{
	return json_pack("{s:o, s:o, s:o, s:o}", "queue_ms", ms(outcome->queue_us), "start_ms",
			 ms(outcome->start_us), "execute_ms", ms(outcome->execute_us), "total_ms",
			 ms(outcome->total_us));
}

static json_t *usage(const struct msg_exit *exit)
{
	static const struct msg_exit nothing;

	if (!exit)
		exit = &nothing;
	return json_pack("{s:o, s:o, s:I, s:I, s:I, s:I}", "cpu_user_ms", ms(exit->cpu_user_us),
			 "cpu_system_ms", ms(exit->cpu_system_us), "memory_peak_bytes",
			 (json_int_t)exit->memory_peak_bytes, "page_faults_major",
			 (json_int_t)exit->page_faults_major, "oom_kills",
			 (json_int_t)exit->oom_kills, "swap_peak_bytes",
			 (json_int_t)exit->swap_peak_bytes);
}

struct rpc_error *run_start_error(const char *detail)
{
	return rpc_error_new(RPC_VM_TRANSIENT, "The guest could not start the program: %.200s",
			     detail);
}

/* Did memory last? An encoding is there, or its output is not (output.h). */
static bool is_whole(const json_t *result)
{
	static const char *const members[] = {"stdout",
					      "stdout_truncated",
					      "stdout_bytes",
					      "stderr",
					      "stderr_truncated",
					      "stderr_bytes",
					      "error",
					      "files",
					      "timing",
					      "usage"};

	for (size_t i = 0; i < ELEMENTSOF(members); i++)
		if (!json_object_get(result, members[i]))
			return false;
	return true;
}

/* What there is not, as the VM of a background process, is left out. False without memory. */
static bool set_texts(json_t *result, const struct run_outcome *outcome)
{
	const struct {
		const char *name, *text;
	} members[] = {{"vm", outcome->vm},
		       {"session", outcome->session},
		       {"language", outcome->language},
		       {"start", outcome->start}};

	for (size_t i = 0; i < ELEMENTSOF(members); i++)
		if (members[i].text &&
		    json_object_set_new(result, members[i].name, json_string(members[i].text)) < 0)
			return false;
	return true;
}

json_t *run_result(const struct run_outcome *outcome)
{
	struct verdict verdict = judge(outcome);
	const struct msg_exit *exit = outcome->exit;
	json_auto_t *result = json_pack("{s:s, s:i, s:o}", "status", verdict.status, "exit_code",
					verdict.exit_code, "signal", signal_name(verdict.signal));

	if (!result)
		return NULL;
	output_to_result(outcome->out, "stdout", exit ? exit->stdout_bytes : 0, result);
	output_to_result(outcome->err, "stderr", exit ? exit->stderr_bytes : 0, result);
	json_object_set_new(result, "error", error_of(exit));
	json_object_set_new(result, "files",
			    outcome->files ? json_incref(outcome->files) : json_array());
	json_object_set_new(result, "timing", timing(outcome));
	json_object_set_new(result, "usage", usage(exit));
	return set_texts(result, outcome) && is_whole(result) ? json_incref(result) : NULL;
}
