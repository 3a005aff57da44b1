/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine inside the fake QEMU: its memory, whether its vCPU runs, saving and loading.
 *
 * Theory of operation: the words tell what it is. A template maps its memory shared and writes a
 * pattern of its own into it; `migrate` sends a state that holds the pattern's secret and what the
 * guest knows, with a checksum. A clone maps the same memory privately; `migrate-incoming` takes a
 * state, and ends the machine unless each byte of it is as it was saved, the memory is sealed, has
 * the pattern and keeps it when a hole is punched. Its guest is deaf until `cont`.
 */
#ifndef TESTS_FAKE_QEMU_MACHINE_H
#define TESTS_FAKE_QEMU_MACHINE_H

#include "tests/fake/fake_qmp.h"
#include "tests/fake/qemu/guest.h"

struct machine;

/* "boot", "template" or "clone". */
const char *machine_role(int argc, char **argv);

struct machine *machine_create(struct loop *loop, int argc, char **argv, struct guest *guest);

/* Serves commands on it. */
void machine_connect(struct machine *machine, struct fake_qmp *qmp);

#endif
