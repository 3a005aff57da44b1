/* SPDX-License-Identifier: Apache-2.0 */
/* `info` and `health`: what this daemon is, and whether it can work. */
#include "daemon/method/methods.h"

#include "protocol/message.h"
#include "protocol/method.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static json_t *limits(const struct daemon *daemon)
{
	const struct config *config = daemon->config;

	return json_pack("{s:I, s:I, s:I, s:f, s:f, s:I, s:I, s:I, s:I, s:I, s:I}",
			 "memory_mb_default", (json_int_t)config->default_memory_mb,
			 "memory_mb_min", (json_int_t)config->min_memory_mb, "memory_mb_max",
			 (json_int_t)pool_max_memory_mb(daemon->pool), "timeout_seconds_default",
			 config->default_timeout_seconds, "timeout_seconds_max",
			 config->max_timeout_seconds, "code_bytes_max",
			 (json_int_t)config->code_max_bytes, "stdin_bytes_max",
			 (json_int_t)config->stdin_max_bytes, "stdout_bytes_max",
			 (json_int_t)config->stdout_max_bytes, "stderr_bytes_max",
			 (json_int_t)config->stderr_max_bytes, "env_max",
			 (json_int_t)config->env_max, "args_max", (json_int_t)config->args_max);
}

static json_t *vms(const struct daemon *daemon)
{
	const struct admission *admission = pool_admission(daemon->pool);

	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "current",
			 (json_int_t)admission->vms, "running", (json_int_t)admission->running,
			 "running_max", (json_int_t)admission->limits.max_running, "spares",
			 (json_int_t)admission->spares, "max",
			 (json_int_t)admission->limits.max_vms, "queued",
			 (json_int_t)admission->waiting, "queue_max",
			 (json_int_t)admission->limits.queue_max);
}

/* Of each language's default size: the others come and go. */
static json_t *template_states(const struct daemon *daemon)
{
	json_t *states = json_object();

	for (const char *const *language = method_languages; *language; language++) {
		const struct template *template = method_default_template(daemon, *language);

		json_object_set_new(states, *language,
				    template ? json_string(template_state_name(template->state))
					     : json_null());
	}
	return states;
}

static json_t *templates(const struct daemon *daemon)
{
	const struct templates *all = daemon->templates;

	return json_pack("{s:s, s:s?, s:I, s:s, s:b, s:o}", "mode",
			 daemon->config->templates == CONFIG_TEMPLATES_OFF ? "off" : "auto",
			 "unsupported", all ? templates_unsupported(all) : NULL, "memory_mb",
			 (json_int_t)(all ? templates_memory_mb(all) : 0), "state_dir",
			 daemon->config->state_dir, "kept", daemon->store != NULL, "languages",
			 template_states(daemon));
}

static json_t *languages(void)
{
	json_t *names = json_array();

	for (const char *const *language = method_languages; *language; language++)
		json_array_append_new(names, json_string(*language));
	return names;
}

struct rpc_reply method_info(struct rpc_call *call, const json_t *params UNUSED)
{
	struct daemon *daemon = rpc_call_context(call);
	json_t *images =
		daemon->images.manifest ? json_incref(daemon->images.manifest) : json_null();

	return rpc_reply_result(
		call,
		json_pack("{s:s, s:s, s:i, s:s, s:{s:s, s:s}, s:s, s:o, s:o, s:o, s:o, s:o, s:f}",
			  "version", EXECSANDBOX_VERSION, "jsonrpc", "2.0", "guest_link",
			  LINK_VERSION, "node", daemon->config->node, "accelerator", "name",
			  accel_name(daemon->vm_host.accel), "kvm", daemon->kvm.text, "cgroups",
			  launcher_cgroup(daemon->vm_host.launcher), "languages", languages(),
			  "limits", limits(daemon), "vms", vms(daemon), "templates",
			  templates(daemon), "images", images, "uptime_seconds",
			  (double)(now_us() - daemon->started_us) / 1e6));
}

static bool add_check(json_t *checks, const char *name, bool is_ok, const char *detail)
{
	json_array_append_new(
		checks, json_pack("{s:s, s:b, s:s}", "name", name, "ok", is_ok, "detail", detail));
	return is_ok;
}

static bool check_program(json_t *checks, const char *name, const char *path)
{
	bool is_ok = access(path, X_OK) == 0;

	return add_check(checks, name, is_ok, is_ok ? path : strerror(errno));
}

/* What its state means for the runs of a language. */
static const char *template_effect(const struct template *template)
{
	switch (template->state) {
	case TEMPLATE_ABSENT:
		return "the next run has it made, and waits";
	case TEMPLATE_QUEUED:
	case TEMPLATE_LOADING:
	case TEMPLATE_BUILDING:
		/* As the pool has it: after a failure nobody waits for the next attempt. */
		return template->error ? "VMs boot meanwhile" : "runs wait for it";
	case TEMPLATE_READY:
		return "VMs are cloned from it";
	case TEMPLATE_FAILED:
		break;
	}
	return "VMs boot instead";
}

/*
 * A template that is missing is no fault while it is on its way, but runs wait for it: not ready.
 * Without one that failed they take longer, and are run.
 */
static bool check_template(json_t *checks, const struct daemon *daemon, const char *language)
{
	const struct template *template = method_default_template(daemon, language);
	char name[48], detail[384];
	const char *why;

	snprintf(name, sizeof(name), "template_%s", language);
	if (!template)
		return add_check(checks, name, true, "templates = off: every VM boots");
	why = template->error ? template->error->message : NULL;
	snprintf(detail, sizeof(detail), "%s is %s: %s%s%.255s", template->name,
		 template_state_name(template->state), template_effect(template), why ? ": " : "",
		 why ?: "");
	add_check(checks, name, template->state == TEMPLATE_READY && !why, detail);
	return !template_is_coming(template) || template->error;
}

static bool check_launcher(json_t *checks, struct launcher *launcher)
{
	char detail[160] = "VMs can be started";
	int r = launcher_check(launcher);

	if (r < 0)
		snprintf(detail, sizeof(detail), "cannot be reached: %s", strerror(-r));
	return add_check(checks, "launcher", r == 0, detail);
}

struct rpc_reply method_health(struct rpc_call *call, const json_t *params UNUSED)
{
	struct daemon *daemon = rpc_call_context(call);
	struct rpc_error *error = daemon_require_images(daemon);
	json_t *checks = json_array();
	char boots[80] = "no boot has failed since the last that did not";
	bool is_ready = add_check(checks, "images", !error,
				  error ? error->message : daemon->config->images_dir);

	is_ready &= check_program(checks, "qemu", daemon->config->qemu);
	is_ready &= check_program(checks, "bubblewrap", daemon->config->bubblewrap);
	is_ready &= check_launcher(checks, daemon->vm_host.launcher);
	is_ready &= add_check(checks, "accepting", !daemon->is_draining,
			      daemon->is_draining ? "draining" : "accepts new work");
	if (daemon->vm_host.failed_boots > 0)
		snprintf(boots, sizeof(boots), "the last %u VMs did not boot; the log says why",
			 daemon->vm_host.failed_boots);
	is_ready &= add_check(checks, "boot", daemon->vm_host.failed_boots == 0, boots);
	for (const char *const *language = method_languages; *language; language++)
		is_ready &= check_template(checks, daemon, *language);
	rpc_error_free(error);
	return rpc_reply_result(call, json_pack("{s:b, s:o}", "ready", is_ready, "checks", checks));
}
