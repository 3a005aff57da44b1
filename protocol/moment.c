/* SPDX-License-Identifier: Apache-2.0 */
/* Moments as results carry them. */
#include "protocol/moment.h"

#include "base/util.h"

json_t *moment_json(uint64_t ns)
{
	char text[RFC3339_SIZE];

	if (ns == 0)
		return json_null();
	format_rfc3339(ns, text);
	return json_string(text);
}
