/* SPDX-License-Identifier: Apache-2.0 */
/* The host's line of memory.stats, as a table. */
#ifndef CTL_MEMORY_HOST_H
#define CTL_MEMORY_HOST_H

#include <jansson.h>

/* `stats` is the result of memory.stats. 0 or -ENOMEM. */
int memory_host_print(const json_t *stats);

#endif
