/* SPDX-License-Identifier: Apache-2.0 */
/* execsandboxctl doctor: what this host lacks to run VMs, and the command that mends it. */
#include "ctl/checks.h"
#include "ctl/ctl.h"
#include "ctl/output.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* A daemon that does not answer `info` by then is ill. */
#define DAEMON_SECONDS 5.0

static const struct {
	const char *name;
	enum style style;
} verdicts[] = {
	[VERDICT_OK] = {"ok", STYLE_GOOD},
	[VERDICT_WARN] = {"warn", STYLE_WARNING},
	[VERDICT_FAIL] = {"fail", STYLE_BAD},
};

struct doctor {
	struct ctl *ctl;
	json_t *checks; /* with --json: the findings so far */
	bool has_failed;
	bool is_daemon_ready;
	char *state_dir; /* the daemon's, when it told */
};

static void show(struct doctor *doctor, const char *name, const struct finding *finding)
{
	const char *verdict = verdicts[finding->verdict].name;

	if (finding->verdict == VERDICT_FAIL)
		doctor->has_failed = true;
	if (doctor->checks) {
		json_array_append_new(doctor->checks,
				      json_pack("{s:s, s:s, s:s, s:s*}", "name", name, "verdict",
						verdict, "detail", finding->detail, "mend",
						*finding->mend ? finding->mend : NULL));
		return;
	}
	printf("%s%-4s%s  %-13s  %s\n",
	       style_start(STDOUT_FILENO, verdicts[finding->verdict].style), verdict,
	       style_stop(STDOUT_FILENO), name, finding->detail);
	if (*finding->mend)
		printf("%21s$ %s\n", "", finding->mend);
	fflush(stdout);
}

/* Health's checks that are not ok, as one line. */
static void describe_health(const json_t *health, struct finding *ret)
{
	const json_t *check;
	char text[256] = "";
	size_t i, len = 0;

	json_array_foreach (json_object_get(health, "checks"), i, check) {
		int n;

		if (json_is_true(json_object_get(check, "ok")) || len >= sizeof(text))
			continue;
		n = snprintf(text + len, sizeof(text) - len, "%s%s (%s)", len ? "; " : "",
			     json_string_value(json_object_get(check, "name")) ?: "?",
			     json_string_value(json_object_get(check, "detail")) ?: "no detail");
		len += n > 0 ? (size_t)n : 0;
	}
	if (json_is_true(json_object_get(health, "ready")))
		finding_set(ret, len ? VERDICT_WARN : VERDICT_OK, NULL, "it can run code%s%s",
			    len ? ", but: " : "", text);
	else
		finding_set(ret, VERDICT_FAIL, "journalctl -u execsandboxd",
			    "it cannot run code: %s", len ? text : "it does not say why");
}

static void check_socket(struct doctor *doctor, struct finding *ret)
{
	int r = ctl_connect(doctor->ctl);

	if (r < 0)
		finding_set(ret, VERDICT_FAIL,
			    r == -EACCES ? "usermod -aG execsandbox USER"
					 : "systemctl enable --now execsandboxd.socket",
			    "'%s': %s", doctor->ctl->socket_path, strerror(-r));
	else
		finding_set(ret, VERDICT_OK, NULL, "'%s' is reachable", doctor->ctl->socket_path);
}

static json_t *ask(struct doctor *doctor, const char *method)
{
	struct call_result call = ctl_call(doctor->ctl, method, NULL, DAEMON_SECONDS);

	if (call.outcome == CALL_RESULT)
		return call.value;
	json_decref(call.value);
	return NULL;
}

/* Appends "NAME (WHY)" of every template that failed, and counts those that are ready. */
static size_t list_templates(const json_t *templates, char *text, size_t size, size_t *ret_ready)
{
	const json_t *at;
	size_t i, len = 0;

	*ret_ready = 0;
	json_array_foreach (templates, i, at) {
		const char *state = json_string_value(json_object_get(at, "state")) ?: "";
		const char *error = json_string_value(json_object_get(at, "error"));
		int n;

		*ret_ready += strcmp(state, "ready") == 0;
		if (!error || len >= size)
			continue;
		n = snprintf(text + len, size - len, "%s%s (%s)", len ? "; " : "",
			     json_string_value(json_object_get(at, "name")) ?: "?", error);
		len += n > 0 ? (size_t)n : 0;
	}
	return len;
}

static void check_templates(struct doctor *doctor, const json_t *info, struct finding *ret)
{
	const json_t *templates = json_object_get(info, "templates");
	const char *mode = json_string_value(json_object_get(templates, "mode")) ?: "auto";
	const char *unsupported = json_string_value(json_object_get(templates, "unsupported"));
	json_auto_t *list = NULL;
	char failed[384] = "";
	size_t ready;

	if (strcmp(mode, "off") == 0) {
		finding_set(ret, VERDICT_OK, NULL, "off by configuration: every VM boots");
		return;
	}
	if (unsupported) {
		finding_set(ret, VERDICT_WARN, "apt-get install qemu-system-x86",
			    "this QEMU makes none, every VM boots: %s", unsupported);
		return;
	}
	list = ask(doctor, "template.list");
	if (list_templates(json_object_get(list, "templates"), failed, sizeof(failed), &ready))
		finding_set(ret, VERDICT_WARN, "execsandboxctl template build LANGUAGE",
			    "not made, VMs boot instead: %s", failed);
	else if (json_is_false(json_object_get(templates, "kept")))
		finding_set(ret, VERDICT_WARN, NULL,
			    "%zu ready; they are not kept on disk, and made at each start", ready);
	else
		finding_set(ret, VERDICT_OK, NULL, "%zu ready", ready);
}

static void keep_state_dir(struct doctor *doctor, const json_t *info)
{
	const json_t *templates = json_object_get(info, "templates");
	const char *path = json_string_value(json_object_get(templates, "state_dir"));

	doctor->state_dir = path ? strdup(path) : NULL;
}

/* False from an older daemon, which says nothing of it. */
static bool describe_launcher(const json_t *health, struct finding *ret)
{
	const json_t *check;
	size_t i;

	json_array_foreach (json_object_get(health, "checks"), i, check) {
		bool is_ok = json_is_true(json_object_get(check, "ok"));
		const char *name = json_string_value(json_object_get(check, "name"));

		if (!name || strcmp(name, "launcher") != 0)
			continue;
		finding_set(ret, is_ok ? VERDICT_OK : VERDICT_FAIL,
			    is_ok ? NULL
				  : "systemctl reset-failed 'execsandbox*'; systemctl start "
				    "execsandbox-launcher.socket",
			    "%s",
			    json_string_value(json_object_get(check, "detail")) ?: "no detail");
		return true;
	}
	return false;
}

static void describe_cgroups(const char *kind, struct finding *ret)
{
	if (strcmp(kind, "none") == 0)
		finding_set(ret, VERDICT_WARN, "systemctl enable --now execsandbox-launcher.socket",
			    "VMs have no limits of their own: no control group is delegated");
	else
		finding_set(ret, VERDICT_OK, NULL, "each VM has a control group of its own (%s)",
			    kind);
}

static void check_daemon(struct doctor *doctor)
{
	json_auto_t *info = ask(doctor, "info"), *health = ask(doctor, "health");
	const json_t *accelerator = json_object_get(info, "accelerator");
	const char *name = json_string_value(json_object_get(accelerator, "name"));
	const char *reason = json_string_value(json_object_get(accelerator, "kvm"));
	const char *cgroups = json_string_value(json_object_get(info, "cgroups"));
	struct finding finding;

	if (!info || !health) {
		finding_set(&finding, VERDICT_FAIL, "journalctl -u execsandboxd",
			    "it does not answer");
		show(doctor, "daemon", &finding);
		return;
	}
	doctor->is_daemon_ready = json_is_true(json_object_get(health, "ready"));
	describe_health(health, &finding);
	show(doctor, "daemon", &finding);
	if (describe_launcher(health, &finding))
		show(doctor, "launcher", &finding);
	finding_set(&finding, VERDICT_OK, NULL, "%s%s%s", name ?: "not told",
		    reason ? "; the probe of KVM says: " : "", reason ?: "");
	show(doctor, "accelerator", &finding);
	if (cgroups) {
		describe_cgroups(cgroups, &finding);
		show(doctor, "limits of VMs", &finding);
	}
	/* An older daemon knows of none. */
	if (!json_object_get(info, "templates"))
		return;
	check_templates(doctor, info, &finding);
	show(doctor, "templates", &finding);
	keep_state_dir(doctor, info);
}

static void check_host(struct doctor *doctor, const struct config *config)
{
	for (const struct check *check = host_checks; check->name; check++) {
		struct finding finding = {.verdict = VERDICT_OK};

		check->fn(config, &finding);
		/* A daemon that runs code has images, wherever its command line says they are. */
		if (finding.verdict == VERDICT_FAIL && doctor->is_daemon_ready &&
		    strcmp(check->name, "images") == 0)
			finding_set(&finding, VERDICT_OK, NULL, "the daemon has them");
		show(doctor, check->name, &finding);
	}
}

static int doctor(struct ctl *ctl, const struct arguments *arguments UNUSED)
{
	struct doctor doctor = {.ctl = ctl, .checks = ctl->is_json ? json_array() : NULL};
	struct config_sources sources = {0};
	struct config_report report = {0};
	struct config config = {0};
	json_auto_t *result = NULL;
	struct finding finding;

	/* A faulty configuration is a finding; the other checks then use the defaults. */
	if (config_load(&sources, &config, &report) < 0 && config_defaults(&config) < 0)
		return EXIT_ERROR;
	config_report_clear(&report);
	check_socket(&doctor, &finding);
	show(&doctor, "socket", &finding);
	if (ctl->client)
		check_daemon(&doctor);
	/* The daemon's command line may say otherwise. */
	if (doctor.state_dir) {
		free(config.state_dir);
		config.state_dir = TAKE_PTR(doctor.state_dir);
	}
	check_host(&doctor, &config);
	config_fini(&config);
	if (ctl->is_json) {
		result = json_pack("{s:b, s:o}", "ok", !doctor.has_failed, "checks", doctor.checks);
		if (ctl_printed(output_json(result, false)) != EXIT_OK)
			return EXIT_ERROR;
	}
	return doctor.has_failed ? EXIT_ERROR : EXIT_OK;
}

const struct verb verb_doctor = {
	.name = "doctor",
	.synopsis = "",
	.summary = "Check what this host needs to run VMs, with or without a daemon",
	.details = "Every line says ok, warn or fail, and shows the command that mends it. The "
		   "exit status is 1 when a check failed.",
	.usage_status = EXIT_USAGE,
	.handler = doctor,
};
