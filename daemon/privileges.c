/* SPDX-License-Identifier: Apache-2.0 */
/* Accounts, and giving up root for good. */
#include "daemon/privileges.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

/* NGROUPS_MAX is 65536; nobody gives a service account more than a handful. */
#define GROUPS_MAX 256

/* getpwnam(3) leaves errno alone when there is no entry, or sets one of several. */
static int lookup_error(int error)
{
	switch (error) {
	case 0:
	case ENOENT:
	case ESRCH:
	case EBADF:
	case EPERM:
		return -ESRCH;
	default:
		return -error;
	}
}

int account_find_user(const char *name, struct account *ret)
{
	const struct passwd *entry;

	errno = 0;
	entry = getpwnam(name);
	if (!entry)
		return lookup_error(errno);
	*ret = (struct account){.uid = entry->pw_uid, .gid = entry->pw_gid};
	return 0;
}

int account_find_group(const char *name, gid_t *ret)
{
	const struct group *entry;

	errno = 0;
	entry = getgrnam(name);
	if (!entry)
		return lookup_error(errno);
	*ret = entry->gr_gid;
	return 0;
}

static int change_ids(const char *user, const struct account *account)
{
	gid_t groups[GROUPS_MAX];
	int n = ELEMENTSOF(groups);

	if (getgrouplist(user, account->gid, groups, &n) < 0)
		return -E2BIG;
	if (setgroups((size_t)n, groups) < 0)
		return -errno;
	if (setresgid(account->gid, account->gid, account->gid) < 0)
		return -errno;
	if (setresuid(account->uid, account->uid, account->uid) < 0)
		return -errno;
	return 0;
}

/* setresuid() empties the effective and permitted sets unless securebits say otherwise, and leaves
 * the inheritable one. By system call, for the C library has no wrapper. */
static int clear_capabilities(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3] = {0};

	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		return -errno;
	if (syscall(SYS_capset, &header, sets) < 0)
		return -errno;
	if (syscall(SYS_capget, &header, sets) < 0)
		return -errno;
	for (size_t i = 0; i < ELEMENTSOF(sets); i++)
		if (sets[i].effective || sets[i].permitted || sets[i].inheritable)
			return -EPERM;
	/* No file with capabilities or set-uid bit gives any back. bubblewrap needs neither. */
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;
}

/* Trying is the proof. */
static int verify_no_way_back(const struct account *account)
{
	uid_t real, effective, saved;
	gid_t group_real, group_effective, group_saved;

	if (setresuid((uid_t)-1, 0, (uid_t)-1) == 0 || setresgid((gid_t)-1, 0, (gid_t)-1) == 0)
		return -EPERM;
	if (getresuid(&real, &effective, &saved) < 0 ||
	    getresgid(&group_real, &group_effective, &group_saved) < 0)
		return -errno;
	if (real != account->uid || effective != account->uid || saved != account->uid)
		return -EPERM;
	if (group_real != account->gid || group_effective != account->gid ||
	    group_saved != account->gid)
		return -EPERM;
	return 0;
}

/* A process that changed its ids is not dumpable, and its files in /proc belong to root: a child
 * could not set its own oom_score_adj before it becomes QEMU (/proc/self/fd would work). Started by
 * its unit the daemon is dumpable as well; QEMU, of the same uid, has another pid namespace and so
 * nothing to trace. */
static int make_dumpable(void)
{
	return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) < 0 ? -errno : 0;
}

int privileges_drop(const char *user)
{
	struct account account = {0}; /* root, which is refused below */
	int r;

	if (geteuid() != 0 && getuid() != 0)
		return 0;
	r = account_find_user(user, &account);
	if (r < 0)
		return r;
	if (account.uid == 0 || account.gid == 0)
		return -EPERM;
	r = change_ids(user, &account);
	if (r >= 0)
		r = clear_capabilities();
	if (r >= 0)
		r = verify_no_way_back(&account);
	return r < 0 ? r : make_dumpable();
}
