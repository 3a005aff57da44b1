/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is different between the configuration a daemon runs with and another, and the taking over
 * of what a running daemon can take (is_live in the schema's table).
 */
#ifndef CONF_COMPARE_H
#define CONF_COMPARE_H

#include "conf/config.h"
#include "conf/schema.h"

/* Keys that differ, in the order of the schema. */
struct config_changes {
	const struct config_option *live[CONFIG_OPTIONS_MAX];
	size_t live_count;
	const struct config_option *fixed[CONFIG_OPTIONS_MAX]; /* only a restart takes these */
	size_t fixed_count;
};

void config_compare(const struct config *running, const struct config *wanted,
		    struct config_changes *ret);

/* Makes the live keys of `running` those of `wanted`. Cannot fail, and leaves every string where it
 * is: whoever borrowed one goes on with it. */
void config_take_live(struct config *running, const struct config *wanted,
		      const struct config_changes *changes);

/* "a, b, c": keys as a list for people, in a new string (free()). NULL: no memory. */
char *config_keys(const struct config_option *const *options, size_t count);

#endif
