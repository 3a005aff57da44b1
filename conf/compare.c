/* SPDX-License-Identifier: Apache-2.0 */
/* What is different between two configurations, and the taking over of what may be. */
#include "conf/compare.h"

#include <stdio.h>

void config_compare(const struct config *running, const struct config *wanted,
		    struct config_changes *ret)
{
	*ret = (struct config_changes){.live_count = 0};
	for (const struct config_option *option = config_schema; option->key; option++) {
		if (config_option_is_same(option, running, wanted))
			continue;
		if (option->is_live)
			ret->live[ret->live_count++] = option;
		else
			ret->fixed[ret->fixed_count++] = option;
	}
}

void config_take_live(struct config *running, const struct config *wanted,
		      const struct config_changes *changes)
{
	for (size_t i = 0; i < changes->live_count; i++)
		config_option_copy(changes->live[i], running, wanted);
}

char *config_keys(const struct config_option *const *options, size_t count)
{
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	for (size_t i = 0; i < count; i++)
		fprintf(out, "%s%s", i == 0 ? "" : ", ", options[i]->key);
	if (fclose(out) == 0)
		return text;
	free(text);
	return NULL;
}
