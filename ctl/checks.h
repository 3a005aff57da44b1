/* SPDX-License-Identifier: Apache-2.0 */
/* What a host must have to run VMs: the checks of doctor that need no daemon. */
#ifndef CTL_CHECKS_H
#define CTL_CHECKS_H

#include "base/util.h"

#include "conf/config.h"

enum verdict { VERDICT_OK, VERDICT_WARN, VERDICT_FAIL };

struct finding {
	enum verdict verdict;
	char detail[512]; /* what was found, for people */
	char mend[256];   /* the command that mends it; empty when there is nothing to do */
};

struct check {
	const char *name;
	void (*fn)(const struct config *config, struct finding *ret);
};

/* In the order they are shown, ended by a NULL name. */
extern const struct check host_checks[];

/* Fills a finding. `mend` may be NULL. */
void finding_set(struct finding *finding, enum verdict verdict, const char *mend,
		 const char *format, ...) PRINTF_LIKE(4, 5);

/*
 * Runs a program as `uid` and `gid` (-1: as we are) and keeps what it writes on both outputs in
 * `buf`, cut to its size. Its exit status; 128 + N for a signal; -ETIMEDOUT when it took over five
 * seconds and was killed; another -errno when it could not be started.
 */
int capture(const char *const *argv, uid_t uid, gid_t gid, char *buf, size_t size);

#endif
