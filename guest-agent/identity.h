/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What makes a VM differ from the others of its template: entropy, clock, host name, machine id.
 *
 * Sources: random(4) (RNDADDENTROPY, RNDRESEEDCRNG), machine-id(5).
 */
#ifndef GUEST_AGENT_IDENTITY_H
#define GUEST_AGENT_IDENTITY_H

#include "protocol/message.h"

/* Puts the files that identity_apply() writes in /run in place of the image's. 0 or -errno. */
int identity_prepare(void);

/*
 * Applies all of it. 0, or the first -errno with the culprit in `ret_what` (static text); entropy
 * goes first, and a VM whose identity was not applied must not be used.
 */
int identity_apply(const struct msg_identity *identity, const char **ret_what);

/* Sets CLOCK_REALTIME. 0 or -errno. */
int identity_set_clock(uint64_t realtime_ns);

#endif
