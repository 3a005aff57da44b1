/* SPDX-License-Identifier: Apache-2.0 */
/* Moments as results carry them. */
#ifndef PROTOCOL_MOMENT_H
#define PROTOCOL_MOMENT_H

#include <jansson.h>
#include <stdint.h>

/* Nanoseconds since the epoch as RFC 3339 UTC; null for 0, which is never. NULL without memory. */
json_t *moment_json(uint64_t ns);

#endif
