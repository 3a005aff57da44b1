/* SPDX-License-Identifier: Apache-2.0 */
/* The verb table. */
#include "ctl/verb.h"

#include <string.h>

const struct verb *const verb_table[] = {
	&verb_run,
	&verb_shell,
	&verb_session_create,
	&verb_session_exec,
	&verb_session_result,
	&verb_session_ps,
	&verb_session_wait,
	&verb_session_write,
	&verb_session_kill,
	&verb_session_list,
	&verb_session_info,
	&verb_session_update,
	&verb_session_close,
	&verb_cp,
	&verb_ls,
	&verb_list,
	&verb_status,
	&verb_top,
	&verb_memory_stats,
	&verb_memory_balloon,
	&verb_memory_reclaim,
	&verb_memory_policy,
	&verb_pool,
	&verb_pool_get,
	&verb_pool_set,
	&verb_template_list,
	&verb_template_info,
	&verb_template_build,
	&verb_template_remove,
	&verb_reload,
	&verb_drain,
	&verb_events,
	&verb_metrics,
	&verb_call,
	&verb_doctor,
	&verb_completion,
	&verb_help,
	&verb_version,
	NULL,
};

const struct verb *verb_find(char **words, int count, int *ret_used, bool *ret_is_group)
{
	const struct verb *alone = NULL;

	*ret_is_group = false;
	for (const struct verb *const *at = verb_table; *at && count > 0; at++) {
		const char *space = strchr((*at)->name, ' ');
		size_t len = space ? (size_t)(space - (*at)->name) : strlen((*at)->name);

		if (strlen(words[0]) != len || strncmp(words[0], (*at)->name, len) != 0)
			continue;
		if (space)
			*ret_is_group = true;
		if (space && (count < 2 || strcmp(words[1], space + 1) != 0))
			continue;
		*ret_used = space ? 2 : 1;
		if (space)
			return *at;
		alone = *at;
	}
	return alone;
}
