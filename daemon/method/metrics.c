/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `metrics`: the daemon's numbers for Prometheus.
 *
 * Theory of operation: everything is counted already where it happens; here it is only written
 * down. VMs are summed: their ids come and go, and would be as many series; no label has values
 * from outside. What VMs use is the last look of memory control, once a second: a scrape makes the
 * kernel walk no page tables of theirs. Every family is always there, in docs/METRICS.md too: a
 * test compares.
 */
#include "daemon/method/methods.h"
#include "daemon/method/prometheus.h"

#include "daemon/memory/host.h"
#include "protocol/method.h"

#include <dirent.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define LANGUAGES POOL_LANGUAGES_MAX

static void gauge(struct prometheus *metrics, const char *name, const char *help, double value)
{
	prometheus_family(metrics, name, PROMETHEUS_GAUGE, help);
	prometheus_sample(metrics, value, NULL);
}

static void counter(struct prometheus *metrics, const char *name, const char *help, double value)
{
	prometheus_family(metrics, name, PROMETHEUS_COUNTER, help);
	prometheus_sample(metrics, value, NULL);
}

/* The place in method_languages; of one that is not there its end. */
static size_t language_index(const char *language)
{
	size_t i = 0;

	while (method_languages[i] && strcmp(method_languages[i], language) != 0)
		i++;
	return i;
}

/* --- The daemon --- */

static double open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	double count = 0;

	if (!dir)
		return 0;
	while (readdir(dir))
		count++;
	closedir(dir);
	return count - 3; /* ".", "..", and the directory itself */
}

/* Named as everywhere with Prometheus. */
static void add_process(struct prometheus *metrics, const struct daemon *daemon)
{
	uint64_t cpu_us = 0;
	struct process_memory memory = {0};
	struct rlimit fds = {0};

	(void)process_cpu_read(getpid(), &cpu_us);
	(void)process_memory_read(getpid(), &memory);
	(void)getrlimit(RLIMIT_NOFILE, &fds);
	gauge(metrics, "process_start_time_seconds", "When the daemon started, since the epoch.",
	      (double)(daemon->started_ns / 1000000) / 1e3);
	counter(metrics, "process_cpu_seconds_total", "Processor time of the daemon itself.",
		(double)cpu_us / 1e6);
	gauge(metrics, "process_resident_memory_bytes", "Resident memory of the daemon itself.",
	      (double)memory.rss_bytes);
	gauge(metrics, "process_open_fds", "Open descriptors of the daemon itself.", open_fds());
	gauge(metrics, "process_max_fds", "Most of these.", (double)fds.rlim_cur);
}

static void add_daemon(struct prometheus *metrics, const struct daemon *daemon)
{
	prometheus_family(metrics, "execsandbox_build_info", PROMETHEUS_GAUGE,
			  "What this daemon is; always 1.");
	prometheus_sample(metrics, 1, "version", EXECSANDBOX_VERSION, "accelerator",
			  accel_name(daemon->vm_host.accel), NULL);
	gauge(metrics, "execsandbox_connections", "Open connections of clients.",
	      (double)rpc_server_connection_count(daemon->server));
	gauge(metrics, "execsandbox_draining", "1 while the daemon stops and takes no new work.",
	      daemon->is_draining);
}

/* --- Runs --- */

static void add_ended(struct prometheus *metrics, const struct run_counters *counters)
{
	prometheus_family(metrics, "execsandbox_runs_total", PROMETHEUS_COUNTER,
			  "Runs that ended, by language and status.");
	for (size_t i = 0; method_languages[i]; i++)
		for (size_t k = 0; run_statuses[k]; k++)
			prometheus_sample(metrics, (double)counters->ended[i][k], "language",
					  method_languages[i], "status", run_statuses[k], NULL);
}

static void add_errors(struct prometheus *metrics, const struct run_counters *counters)
{
	const char *name, *help;
	int code;

	prometheus_family(metrics, "execsandbox_run_errors_total", PROMETHEUS_COUNTER,
			  "Runs that were answered with an error, by its name.");
	for (size_t i = 0; i < RUN_CODES && rpc_code_at(i, &code, &name, &help); i++)
		prometheus_sample(metrics, (double)counters->errors[i], "error", name, NULL);
}

static void add_histogram(struct prometheus *metrics, const struct histogram *histogram,
			  const char *label, const char *value)
{
	prometheus_histogram(metrics, histogram_bounds, histogram->counts, HISTOGRAM_BUCKETS,
			     histogram->sum_seconds, label, value);
}

static void add_times(struct prometheus *metrics, const struct run_counters *counters)
{
	prometheus_family(metrics, "execsandbox_run_queue_seconds", PROMETHEUS_HISTOGRAM,
			  "Time that runs waited for their share of the host.");
	add_histogram(metrics, &counters->queue, NULL, NULL);
	prometheus_family(
		metrics, "execsandbox_run_start_seconds", PROMETHEUS_HISTOGRAM,
		"Time from the grant to the program's dispatch, by how the VM came to be.");
	for (enum pool_start start = POOL_START_WARM; start <= POOL_START_BOOT; start++)
		add_histogram(metrics, &counters->start[start], "start", pool_start_name(start));
	prometheus_family(metrics, "execsandbox_run_execute_seconds", PROMETHEUS_HISTOGRAM,
			  "Time from the dispatch to the outcome.");
	add_histogram(metrics, &counters->execute, NULL, NULL);
}

static void add_runs(struct prometheus *metrics, const struct run_counters *counters)
{
	add_ended(metrics, counters);
	add_errors(metrics, counters);
	add_times(metrics, counters);
}

static void add_sessions(struct prometheus *metrics, const struct sessions *sessions)
{
	const struct sessions_counters *counters = sessions_counters(sessions);

	prometheus_family(metrics, "execsandbox_sessions", PROMETHEUS_GAUGE,
			  "Open sessions by state.");
	for (size_t i = 0; session_open_states[i]; i++)
		prometheus_sample(metrics,
				  (double)sessions_in_state(sessions, session_open_states[i]),
				  "state", session_open_states[i], NULL);
	counter(metrics, "execsandbox_sessions_created_total", "Sessions that got a VM.",
		(double)counters->created);
	prometheus_family(metrics, "execsandbox_sessions_closed_total", PROMETHEUS_COUNTER,
			  "Sessions that closed, by reason.");
	for (enum session_reason reason = 0; reason < SESSION_REASONS; reason++)
		prometheus_sample(metrics, (double)counters->closed[reason], "reason",
				  session_reason_name(reason), NULL);
	prometheus_family(metrics, "execsandbox_processes", PROMETHEUS_GAUGE,
			  "Background processes of sessions that live.");
	prometheus_sample(metrics, (double)sessions_processes(sessions), NULL);
	counter(metrics, "execsandbox_processes_started_total",
		"Background processes that were sent to their guests.",
		(double)counters->processes_started);
}

/* --- VMs, pool, templates --- */

static void add_vms(struct prometheus *metrics, const struct vm_host *host)
{
	double states[LANGUAGES + 1][VM_GONE + 1] = {0};

	for (const struct vm *vm = host->vms; vm; vm = vm_next(vm))
		states[language_index(vm_get_spec(vm)->language)][vm_get_state(vm)]++;
	prometheus_family(metrics, "execsandbox_vms", PROMETHEUS_GAUGE,
			  "VMs by language and state.");
	for (size_t i = 0; method_languages[i]; i++)
		for (enum vm_state state = VM_STARTING; state < VM_GONE; state++)
			prometheus_sample(metrics, states[i][state], "language",
					  method_languages[i], "state", vm_state_name(state), NULL);
}

static void add_vm_counters(struct prometheus *metrics, const struct vm_host *host)
{
	static const char *const starts[] = {
		[QEMU_BOOT] = "boot", [QEMU_TEMPLATE] = "template", [QEMU_CLONE] = "clone"};

	prometheus_family(metrics, "execsandbox_vm_starts_total", PROMETHEUS_COUNTER,
			  "VMs that were started, by how.");
	for (enum qemu_start start = QEMU_BOOT; start <= QEMU_CLONE; start++)
		prometheus_sample(metrics, (double)host->counters.starts[start], "start",
				  starts[start], NULL);
	prometheus_family(metrics, "execsandbox_vm_failures_total", PROMETHEUS_COUNTER,
			  "VMs that failed or were ended for memory, by the state they were in.");
	for (enum vm_state state = VM_STARTING; state < VM_STOPPING; state++)
		prometheus_sample(metrics, (double)host->counters.failures[state], "state",
				  vm_state_name(state), NULL);
	gauge(metrics, "execsandbox_vm_failed_starts",
	      "Starts that failed since the last that did not.", host->failed_boots);
}

static void add_spares(struct prometheus *metrics, const struct pool *pool)
{
	struct pool_status status;
	const char *language;

	prometheus_family(metrics, "execsandbox_pool_spares", PROMETHEUS_GAUGE,
			  "Spare VMs by language and state.");
	for (size_t i = 0; (language = pool_language(pool, i)); i++) {
		if (!pool_get(pool, language, &status))
			continue;
		prometheus_sample(metrics, (double)status.starting, "language", language, "state",
				  "starting", NULL);
		prometheus_sample(metrics, (double)(status.warm - status.hot), "language", language,
				  "state", "loaded", NULL);
		prometheus_sample(metrics, (double)status.hot, "language", language, "state",
				  "rehearsed", NULL);
	}
}

static void add_spares_target(struct prometheus *metrics, const struct pool *pool)
{
	struct pool_status status;
	const char *language;

	prometheus_family(metrics, "execsandbox_pool_spares_target", PROMETHEUS_GAUGE,
			  "Spare VMs that shall wait, by language.");
	for (size_t i = 0; (language = pool_language(pool, i)); i++)
		if (pool_get(pool, language, &status))
			prometheus_sample(metrics, (double)status.target, "language", language,
					  NULL);
}

static void add_admission(struct prometheus *metrics, const struct admission *admission)
{
	gauge(metrics, "execsandbox_admission_vms", "VMs that exist, spares included.",
	      (double)admission->vms);
	gauge(metrics, "execsandbox_admission_vms_limit", "Most of these.",
	      (double)admission->limits.max_vms);
	gauge(metrics, "execsandbox_admission_running", "VMs that run code or start for a run.",
	      (double)admission->running);
	gauge(metrics, "execsandbox_admission_running_limit", "Most of these.",
	      (double)admission->limits.max_running);
	gauge(metrics, "execsandbox_admission_queued", "Runs that wait for their share.",
	      (double)admission->waiting);
	gauge(metrics, "execsandbox_admission_queue_limit", "Most of these.",
	      (double)admission->limits.queue_max);
	gauge(metrics, "execsandbox_admission_memory_bytes", "Shares of memory that are given out.",
	      (double)(admission->memory_used_mb << 20));
	gauge(metrics, "execsandbox_admission_memory_limit_bytes", "Most of these.",
	      (double)(admission->limits.memory_mb << 20));
}

static void add_templates(struct prometheus *metrics, const struct templates *templates)
{
	double states[LANGUAGES + 1][TEMPLATE_FAILED + 1] = {0};
	const struct template *at = templates ? templates_next(templates, NULL) : NULL;

	for (; at; at = templates_next(templates, at))
		states[language_index(at->language)][at->state]++;
	prometheus_family(metrics, "execsandbox_templates", PROMETHEUS_GAUGE,
			  "Templates by language and state.");
	for (size_t i = 0; method_languages[i]; i++)
		for (enum template_state state = TEMPLATE_ABSENT; state <= TEMPLATE_FAILED; state++)
			prometheus_sample(metrics, states[i][state], "language",
					  method_languages[i], "state", template_state_name(state),
					  NULL);
	gauge(metrics, "execsandbox_templates_memory_bytes", "Memory of all templates' images.",
	      templates ? (double)(templates_memory_mb(templates) << 20) : 0);
}

/* --- Memory --- */

static void add_host(struct prometheus *metrics, const struct memory_control *control)
{
	const struct host_sample *sample = memory_control_sample(control);
	struct memory_settings settings;

	memory_control_get(control, &settings);
	gauge(metrics, "execsandbox_memory_managed_bytes", "Memory that VMs could have at most.",
	      (double)sample->managed_bytes);
	gauge(metrics, "execsandbox_memory_available_bytes", "What of that is left.",
	      (double)sample->available_bytes);
	gauge(metrics, "execsandbox_memory_reserve_bytes", "Memory that is kept for the host.",
	      (double)settings.reserve_bytes);
	gauge(metrics, "execsandbox_memory_budget_bytes",
	      "What VMs may have together by configuration; 0 is all but the reserve.",
	      (double)settings.budget_bytes);
	prometheus_family(metrics, "execsandbox_memory_stall_ratio", PROMETHEUS_GAUGE,
			  "Part of the last 2 s that some, or all, tasks waited for memory.");
	prometheus_sample(metrics, sample->some_stall_percent / 100, "tasks", "some", NULL);
	prometheus_sample(metrics, sample->full_stall_percent / 100, "tasks", "all", NULL);
	gauge(metrics, "execsandbox_memory_control_enabled",
	      "1 while memory control acts, 0 while it only watches.", !settings.is_off);
}

static void add_pressure(struct prometheus *metrics, const struct memory_control *control)
{
	const struct policy *policy = memory_control_policy(control);
	const struct memory_counters *counters = memory_control_counters(control);

	prometheus_family(metrics, "execsandbox_memory_pressure_level", PROMETHEUS_GAUGE,
			  "1 for the level of memory pressure.");
	for (enum policy_level level = POLICY_GREEN; level <= POLICY_BLACK; level++)
		prometheus_sample(metrics, level == policy->level, "level",
				  policy_level_name(level), NULL);
	prometheus_family(metrics, "execsandbox_memory_pressure_changes_total", PROMETHEUS_COUNTER,
			  "How often each level was entered.");
	for (enum policy_level level = POLICY_GREEN; level <= POLICY_BLACK; level++)
		prometheus_sample(metrics, (double)counters->levels[level], "level",
				  policy_level_name(level), NULL);
	gauge(metrics, "execsandbox_memory_need_bytes", "What the policy wants to take.",
	      (double)policy->need_bytes);
	gauge(metrics, "execsandbox_memory_credit_bytes", "What runs may start on.",
	      (double)policy->credit_bytes);
}

struct sums {
	double size, anonymous, actual, zram_orig, zram_used;
};

static struct sums sum_vms(const struct daemon *daemon)
{
	struct sums sums = {0};

	for (const struct vm *vm = daemon->vm_host.vms; vm; vm = vm_next(vm)) {
		const struct memory_vm *memory = vm_memory(vm);

		if (!memory)
			continue;
		sums.size += (double)memory->sample.size_bytes;
		sums.anonymous += (double)memory->sample.private_bytes;
		sums.actual += (double)memory->sample.actual_bytes;
		sums.zram_orig += (double)memory->sample.guest.zram_orig_bytes;
		sums.zram_used += (double)memory->sample.guest.zram_used_bytes;
	}
	return sums;
}

static void add_vm_memory(struct prometheus *metrics, const struct daemon *daemon)
{
	struct sums sums = sum_vms(daemon);

	gauge(metrics, "execsandbox_vm_memory_size_bytes", "Sizes of all VMs.", sums.size);
	gauge(metrics, "execsandbox_vm_memory_anonymous_bytes",
	      "Memory of all VMs' QEMUs that is shared with nobody.", sums.anonymous);
	gauge(metrics, "execsandbox_vm_memory_balloon_bytes",
	      "What balloons leave to their guests.", sums.actual);
	gauge(metrics, "execsandbox_vm_memory_zram_orig_bytes",
	      "Data in the guests' zram, as the guests claim.", sums.zram_orig);
	gauge(metrics, "execsandbox_vm_memory_zram_used_bytes",
	      "Memory that takes, as the guests claim.", sums.zram_used);
}

static void add_actions(struct prometheus *metrics, const struct memory_counters *counters)
{
	prometheus_family(metrics, "execsandbox_memory_actions_total", PROMETHEUS_COUNTER,
			  "What memory control did.");
	prometheus_sample(metrics, (double)counters->squeezes, "action", "squeeze", NULL);
	prometheus_sample(metrics, (double)counters->releases, "action", "release", NULL);
	prometheus_sample(metrics, (double)counters->stalls, "action", "stall", NULL);
	prometheus_sample(metrics, (double)counters->failures, "action", "failure", NULL);
	prometheus_sample(metrics, (double)counters->cache_drops, "action", "drop_caches", NULL);
	prometheus_sample(metrics, (double)counters->spares_dropped, "action", "drop_spare", NULL);
	prometheus_sample(metrics, (double)counters->vcpus_halted, "action", "halt_vcpu", NULL);
	prometheus_sample(metrics, (double)counters->kills, "action", "kill", NULL);
	prometheus_family(metrics, "execsandbox_memory_moved_bytes_total", PROMETHEUS_COUNTER,
			  "Memory that balloons took from VMs and gave back to them.");
	prometheus_sample(metrics, (double)counters->taken_bytes, "direction", "taken", NULL);
	prometheus_sample(metrics, (double)counters->given_bytes, "direction", "given", NULL);
	prometheus_family(metrics, "execsandbox_memory_reaction_seconds", PROMETHEUS_HISTOGRAM,
			  "Time from a wake that finds need to the first command.");
	add_histogram(metrics, &counters->reaction, NULL, NULL);
}

static void add_memory(struct prometheus *metrics, const struct daemon *daemon)
{
	add_host(metrics, daemon->memory);
	add_pressure(metrics, daemon->memory);
	add_vm_memory(metrics, daemon);
	add_actions(metrics, memory_control_counters(daemon->memory));
}

/* --- The method --- */

struct rpc_reply method_metrics(struct rpc_call *call, const json_t *params UNUSED)
{
	struct daemon *daemon = rpc_call_context(call);
	_cleanup_free_ char *text = NULL;
	struct prometheus metrics;

	if (prometheus_begin(&metrics) == 0) {
		add_process(&metrics, daemon);
		add_daemon(&metrics, daemon);
		add_runs(&metrics, &daemon->run_counters);
		add_sessions(&metrics, daemon->sessions);
		add_vms(&metrics, &daemon->vm_host);
		add_vm_counters(&metrics, &daemon->vm_host);
		add_spares(&metrics, daemon->pool);
		add_spares_target(&metrics, daemon->pool);
		add_admission(&metrics, pool_admission(daemon->pool));
		add_templates(&metrics, daemon->templates);
		add_memory(&metrics, daemon);
		text = prometheus_end(&metrics);
	}
	if (!text)
		return rpc_reply_error(
			call, rpc_error_new(RPC_INTERNAL_ERROR, "The daemon is out of memory"));
	return rpc_reply_result(call, json_pack("{s:s, s:s}", "content_type",
						PROMETHEUS_CONTENT_TYPE, "text", text));
}
