/* SPDX-License-Identifier: Apache-2.0 */
/* What a run changes of the whole machine before it starts: the clock, the size of the home. */
#include "guest-agent/machine.h"

#include "guest-agent/boot.h"
#include "guest-agent/identity.h"

int machine_prepare(const struct agent_config *config, const struct msg_exec *request,
		    uint64_t *home_bytes)
{
	uint64_t bytes = request->disk_max_bytes;
	int r = 0;

	if (!config->is_init)
		return 0;
	if (request->realtime_ns > 0)
		r = identity_set_clock(request->realtime_ns);
	if (r < 0 || bytes == 0 || bytes == *home_bytes)
		return r;
	r = boot_resize_home(config->home, bytes);
	if (r == 0)
		*home_bytes = bytes;
	return r;
}
