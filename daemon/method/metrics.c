/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `metrics`: the daemon's numbers for Prometheus.
 *
 * Theory of operation: everything is counted already where it happens; here it is only written
 * down. VMs are summed: their ids come and go, and would be as many series. What they use is the
 * last look of memory control, once a second: a scrape makes the kernel walk no page tables.
 */
#include "daemon/method/methods.h"
#include "daemon/method/prometheus.h"

#include "daemon/memory/host.h"
#include "protocol/method.h"

#include <dirent.h>
#include <unistd.h>

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

static void add_daemon(struct prometheus *metrics, const struct daemon *daemon)
{
	uint64_t cpu_us = 0;
	struct process_memory memory = {0};

	prometheus_family(metrics, "execsandbox_build_info", PROMETHEUS_GAUGE,
			  "What this daemon is; always 1.");
	prometheus_sample(metrics, 1, "version", EXECSANDBOX_VERSION, "accelerator",
			  accel_name(daemon->vm_host.accel), NULL);
	gauge(metrics, "execsandbox_uptime_seconds", "Time since the daemon started.",
	      (double)(now_us() - daemon->started_us) / 1e6);
	gauge(metrics, "execsandbox_connections", "Open connections of clients.",
	      (double)rpc_server_connection_count(daemon->server));
	(void)process_cpu_read(getpid(), &cpu_us);
	(void)process_memory_read(getpid(), &memory);
	counter(metrics, "process_cpu_seconds_total", "Processor time of the daemon itself.",
		(double)cpu_us / 1e6);
	gauge(metrics, "process_resident_memory_bytes", "Resident memory of the daemon itself.",
	      (double)memory.rss_bytes);
	gauge(metrics, "process_open_fds", "Open descriptors of the daemon itself.", open_fds());
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

static void add_histogram(struct prometheus *metrics, const struct run_histogram *histogram,
			  const char *label, const char *value)
{
	prometheus_histogram(metrics, run_bucket_seconds, histogram->counts, RUN_BUCKETS,
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

/* --- VMs, pool, templates --- */

static void add_vms(struct prometheus *metrics, const struct daemon *daemon)
{
	double states[VM_GONE + 1] = {0};

	for (const struct vm *vm = daemon->vm_host.vms; vm; vm = vm_next(vm))
		states[vm_get_state(vm)]++;
	prometheus_family(metrics, "execsandbox_vms", PROMETHEUS_GAUGE, "VMs by state.");
	for (enum vm_state state = VM_STARTING; state < VM_GONE; state++)
		prometheus_sample(metrics, states[state], "state", vm_state_name(state), NULL);
	gauge(metrics, "execsandbox_failed_boots", "Boots that failed since the last that did not.",
	      daemon->vm_host.failed_boots);
}

static void add_pool(struct prometheus *metrics, const struct pool *pool)
{
	struct pool_status status;
	const char *language;

	prometheus_family(metrics, "execsandbox_pool_vms", PROMETHEUS_GAUGE,
			  "Spare VMs by language: waiting, rehearsed of these, starting, wanted.");
	for (size_t i = 0; (language = pool_language(pool, i)); i++) {
		if (!pool_get(pool, language, &status))
			continue;
		prometheus_sample(metrics, (double)status.warm, "language", language, "kind",
				  "warm", NULL);
		prometheus_sample(metrics, (double)status.hot, "language", language, "kind",
				  "rehearsed", NULL);
		prometheus_sample(metrics, (double)status.starting, "language", language, "kind",
				  "starting", NULL);
		prometheus_sample(metrics, (double)status.target, "language", language, "kind",
				  "target", NULL);
	}
}

static void add_admission(struct prometheus *metrics, const struct admission *admission)
{
	gauge(metrics, "execsandbox_admission_running", "VMs that run code or start for a run.",
	      (double)admission->running);
	gauge(metrics, "execsandbox_admission_running_limit", "Most of these.",
	      (double)admission->limits.max_running);
	gauge(metrics, "execsandbox_admission_queued", "Runs that wait for their share.",
	      (double)admission->waiting);
	gauge(metrics, "execsandbox_admission_memory_bytes", "Shares of memory that are given out.",
	      (double)(admission->memory_used_mb << 20));
	gauge(metrics, "execsandbox_admission_memory_limit_bytes", "Most of these.",
	      (double)(admission->limits.memory_mb << 20));
}

static void add_templates(struct prometheus *metrics, const struct templates *templates)
{
	double states[TEMPLATE_FAILED + 1] = {0};

	if (!templates)
		return;
	for (const struct template *at = templates_next(templates, NULL); at;
	     at = templates_next(templates, at))
		states[at->state]++;
	prometheus_family(metrics, "execsandbox_templates", PROMETHEUS_GAUGE,
			  "Templates by state.");
	for (enum template_state state = TEMPLATE_ABSENT; state <= TEMPLATE_FAILED; state++)
		prometheus_sample(metrics, states[state], "state", template_state_name(state),
				  NULL);
	gauge(metrics, "execsandbox_templates_memory_bytes", "Memory of all templates' images.",
	      (double)(templates_memory_mb(templates) << 20));
}

/* --- Memory --- */

static void add_host(struct prometheus *metrics, const struct daemon *daemon)
{
	const struct host_sample *sample = memory_control_sample(daemon->memory);
	const struct policy *policy = memory_control_policy(daemon->memory);

	gauge(metrics, "execsandbox_memory_managed_bytes", "Memory that VMs could have at most.",
	      (double)sample->managed_bytes);
	gauge(metrics, "execsandbox_memory_available_bytes", "What of that is left.",
	      (double)sample->available_bytes);
	prometheus_family(metrics, "execsandbox_memory_stall_ratio", PROMETHEUS_GAUGE,
			  "Part of the last 2 s that some, or all, tasks waited for memory.");
	prometheus_sample(metrics, sample->some_stall_percent / 100, "tasks", "some", NULL);
	prometheus_sample(metrics, sample->full_stall_percent / 100, "tasks", "all", NULL);
	prometheus_family(metrics, "execsandbox_memory_level", PROMETHEUS_GAUGE,
			  "1 for the level of memory pressure.");
	for (enum policy_level level = POLICY_GREEN; level <= POLICY_BLACK; level++)
		prometheus_sample(metrics, level == policy->level, "level",
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
	prometheus_sample(metrics, (double)counters->spares_dropped, "action", "drop_spare", NULL);
	prometheus_sample(metrics, (double)counters->vcpus_halted, "action", "halt_vcpu", NULL);
	prometheus_sample(metrics, (double)counters->kills, "action", "kill", NULL);
	gauge(metrics, "execsandbox_memory_reaction_seconds",
	      "From the last wake that found need to the first command; 0 when there was none.",
	      (double)counters->reaction_us / 1e6);
}

/* --- The method --- */

struct rpc_reply method_metrics(struct rpc_call *call, const json_t *params UNUSED)
{
	struct daemon *daemon = rpc_call_context(call);
	_cleanup_free_ char *text = NULL;
	struct prometheus metrics;

	if (prometheus_begin(&metrics) == 0) {
		add_daemon(&metrics, daemon);
		add_ended(&metrics, &daemon->run_counters);
		add_errors(&metrics, &daemon->run_counters);
		add_times(&metrics, &daemon->run_counters);
		add_vms(&metrics, daemon);
		add_pool(&metrics, daemon->pool);
		add_admission(&metrics, pool_admission(daemon->pool));
		add_templates(&metrics, daemon->templates);
		add_host(&metrics, daemon);
		add_vm_memory(&metrics, daemon);
		add_actions(&metrics, memory_control_counters(daemon->memory));
		text = prometheus_end(&metrics);
	}
	if (!text)
		return rpc_reply_error(
			call, rpc_error_new(RPC_INTERNAL_ERROR, "The daemon is out of memory"));
	return rpc_reply_result(call, json_pack("{s:s, s:s}", "content_type",
						PROMETHEUS_CONTENT_TYPE, "text", text));
}
