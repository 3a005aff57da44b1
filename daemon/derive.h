/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of the daemon are told of its configuration and its host: at their start, and
 * again after a reload (daemon/reload.c).
 */
#ifndef DAEMON_DERIVE_H
#define DAEMON_DERIVE_H

#include "daemon/daemon.h"

/* Everything but the templates, which are made between. */
void derive_pool(struct daemon *daemon, struct pool_config *ret);

/* The values of daemon->vm_host that come from live keys. */
void derive_vm_host(struct daemon *daemon);

struct rpc_limits derive_rpc_limits(const struct config *config);

#endif
