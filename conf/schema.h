/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration's schema: the table of every key.
 *
 * It makes the loader's checks, the shipped execsandboxd.conf, the man page's list and
 * --check-config's output.
 */
#ifndef CONF_SCHEMA_H
#define CONF_SCHEMA_H

#include "conf/option.h"

#define CONFIG_OPTIONS_MAX 64 /* room for per-key arrays, checked where the table is */

/* Grouped by section, ended by a NULL key. Offsets are in struct config. */
extern const struct config_option config_schema[];

/* The option of that name, or NULL. `section` NULL: in any section (keys are unique). */
const struct config_option *config_schema_find(const char *section, const char *key);

bool config_schema_has_section(const char *section);

#endif
