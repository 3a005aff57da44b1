/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Accounts, and giving up root for good.
 *
 * Theory of operation: a daemon that was started as root (by hand, in tests) opens what only root
 * can, then calls privileges_drop() before it talks to anybody. Under its unit it is started as
 * its user and nothing is dropped.
 */
#ifndef DAEMON_PRIVILEGES_H
#define DAEMON_PRIVILEGES_H

#include "base/util.h"

#include <sys/types.h>

struct account {
	uid_t uid;
	gid_t gid;
};

/* Looks a user up by name. 0; -ESRCH when there is none; other -errno of the name service. */
int account_find_user(const char *name, struct account *ret);

/* Looks a group up by name. 0; -ESRCH when there is none; other -errno of the name service. */
int account_find_group(const char *name, gid_t *ret);

/*
 * Started as root: changes to `user` with the groups the account database gives it (among them
 * kvm's), empties every capability set, forbids gaining any by exec (no_new_privs) and makes sure
 * that there is no way back. Started as anybody else: stays, whatever `user` says. 0; -ESRCH
 * without such a user; -EPERM when `user` is root itself or something was left; other -errno. After
 * an error the process may be half changed: it must exit.
 */
int privileges_drop(const char *user) WARN_UNUSED;

#endif
