/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Background execs of the fake guest.
 *
 * Their text is lines, done when all of it is there: out TEXT, err TEXT, fill BYTES, size (of the
 * terminal), exit N, signal N, failed TEXT (instead of STARTED), mute (never STARTED), trap (goes
 * on at signals but SIGKILL, and says so), deaf (takes no input). One that has not ended by then
 * lives: it writes what it reads until its input ends, and ends by a signal or KILL.
 */
#ifndef TESTS_FAKE_QEMU_BACKGROUND_H
#define TESTS_FAKE_QEMU_BACKGROUND_H

#include "protocol/message.h"
#include "tests/fake/fake_agent.h"

/* A list of them. */
struct background;

void background_exec(struct background **list, struct fake_agent *agent,
		     const struct msg_exec *exec);

/* False when it is about none of them. */
bool background_message(struct background **list, const struct msg *msg);
bool background_data(struct background *list, uint32_t stream, uint64_t offset, const uint8_t *data,
		     size_t len);
bool background_end(struct background *list, uint32_t stream);
bool background_credit(struct background *list, uint32_t stream, uint64_t taken, uint64_t limit);

#endif
