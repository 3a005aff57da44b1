/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading the configuration again while the daemon serves: SIGHUP and `daemon.reload`.
 *
 * Theory of operation: all or nothing. The same files and the same command line make a whole new
 * configuration, which is checked as at the start. If there is any mistake in it, or a key that
 * only a restart can change has another value, it is refused and nothing changes. Otherwise the
 * keys that a running daemon can take (is_live in conf/schema.c) are taken over in one step that
 * cannot fail: they are numbers, read from the daemon's struct config whenever they are needed, and
 * the few copies of them are renewed here. What a call changed until the daemon's end (pool.set,
 * memory.policy) stays unless its key has another value now than before.
 */
#include "daemon/daemon.h"

#include "base/log.h"
#include "conf/compare.h"
#include "daemon/derive.h"
#include "daemon/memory_owner.h"

#include <errno.h>
#include <string.h>

/* --- What is refused. --- */

static struct rpc_error *invalid(const struct config_report *report)
{
	size_t more = report->count + report->omitted - 1;
	json_t *problems = json_array();
	struct rpc_error *error;

	if (report->count == 0) {
		json_decref(problems);
		return rpc_error_no_memory();
	}
	for (size_t i = 0; i < report->count; i++)
		json_array_append_new(problems, json_string(report->problems[i]));
	error = more == 0 ? rpc_error_new(RPC_CONFIG_REFUSED, "%s", report->problems[0])
			  : rpc_error_new(RPC_CONFIG_REFUSED, "%s (and %zu more)",
					  report->problems[0], more);
	rpc_error_set(error, "reason", json_string("invalid"));
	rpc_error_set(error, "problems", problems);
	return rpc_error_hint(error, "nothing was changed; 'execsandboxd --check-config' shows all "
				     "that is wrong");
}

static struct rpc_error *needs_restart(const struct config_changes *changes)
{
	_cleanup_free_ char *names = config_keys(changes->fixed, changes->fixed_count);
	json_t *keys = json_array();
	struct rpc_error *error;

	for (size_t i = 0; i < changes->fixed_count; i++)
		json_array_append_new(keys, json_string(changes->fixed[i]->key));
	error = rpc_error_new(RPC_CONFIG_REFUSED, "A reload cannot change %s",
			      names ?: "some keys that differ");
	rpc_error_set(error, "reason", json_string("restart"));
	rpc_error_set(error, "keys", keys);
	return rpc_error_hint(error, "nothing was changed; restart the daemon for these keys, or "
				     "set them back and reload again");
}

/* --- What is taken over. --- */

static bool is_among(const struct config_changes *changes, const char *key)
{
	for (size_t i = 0; i < changes->live_count; i++)
		if (strcmp(changes->live[i]->key, key) == 0)
			return true;
	return false;
}

static json_t *describe(const struct config_changes *changes, const struct config *from,
			const struct config *to)
{
	json_t *list = json_array();

	for (size_t i = 0; i < changes->live_count; i++) {
		const struct config_option *option = changes->live[i];
		_cleanup_free_ char *old = config_option_format(option, from);
		_cleanup_free_ char *new = config_option_format(option, to);

		json_array_append_new(list, json_pack("{s:s, s:s*, s:s*}", "key", option->key,
						      "from", old, "to", new));
	}
	return json_pack("{s:o}", "changed", list);
}

/* Its settings are also memory.policy's: those whose keys are as before are left alone. */
static void renew_memory(struct daemon *daemon, const struct config_changes *changes)
{
	const struct config *config = daemon->config;
	struct memory_settings settings;

	if (!is_among(changes, "host_reserve_mb") && !is_among(changes, "memory_budget_mb") &&
	    !is_among(changes, "memory_control"))
		return;
	memory_control_get(daemon->memory, &settings);
	if (is_among(changes, "host_reserve_mb"))
		settings.reserve_bytes = memory_owner_reserve_mb(config) << 20;
	if (is_among(changes, "memory_budget_mb"))
		settings.budget_bytes = (uint64_t)config->memory_budget_mb << 20;
	if (is_among(changes, "memory_control"))
		settings.is_off = config->memory_control == CONFIG_MEMORY_OFF;
	memory_control_set(daemon->memory, &settings);
}

/* Those who hold a copy of a value, or something that was made from values. */
static void renew_copies(struct daemon *daemon, const struct config_changes *changes)
{
	struct pool_config pool_config;

	log_set_level(daemon->config->log_level);
	derive_vm_host(daemon);
	derive_pool(daemon, &pool_config);
	pool_reconfigure(daemon->pool, &pool_config);
	rpc_server_set_limits(daemon->server, derive_rpc_limits(daemon->config));
	renew_memory(daemon, changes);
}

static json_t *take_over(struct daemon *daemon, const struct config *wanted,
			 const struct config_changes *changes)
{
	json_t *result = describe(changes, daemon->config, wanted);
	_cleanup_free_ char *keys = config_keys(changes->live, changes->live_count);

	config_take_live(daemon->config, wanted, changes);
	renew_copies(daemon, changes);
	log_notice(NULL, "Configuration read again: %s%s",
		   changes->live_count ? "changed " : "nothing has changed", keys ?: "");
	return result;
}

static struct rpc_error *reload(struct daemon *daemon, json_t **ret_result)
{
	_cleanup_(config_fini) struct config wanted = {.socket = NULL};
	struct config_report report = {.count = 0};
	struct config_changes changes;
	struct rpc_error *error = NULL;
	int r = daemon->config_source.load(daemon->config_source.user, &wanted, &report);

	if (r < 0)
		error = r == -ENOMEM ? rpc_error_no_memory() : invalid(&report);
	config_report_clear(&report);
	if (error)
		return error;
	config_compare(daemon->config, &wanted, &changes);
	if (changes.fixed_count > 0)
		return needs_restart(&changes);
	*ret_result = take_over(daemon, &wanted, &changes);
	return NULL;
}

struct rpc_error *daemon_reload(struct daemon *daemon, json_t **ret_result)
{
	struct rpc_error *error;

	if (daemon->is_draining)
		return rpc_error_new(RPC_DRAINING, "The daemon is stopping and reads no "
						   "configuration");
	notify_reloading();
	error = reload(daemon, ret_result);
	if (error)
		log_error(NULL, "Configuration not taken over: %s", error->message);
	notify_ready(error ? "Serving, with the configuration as before: the new one was refused"
			   : "Serving");
	return error;
}
