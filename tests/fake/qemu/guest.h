/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest inside the fake QEMU: boots as its scenario says, and runs "code" that is a list of
 * things to do, one a line, so that a test plays any guest through an ordinary `run`:
 *
 *   out TEXT, err TEXT   a line of output          fill N       N bytes of standard output
 *   cat                  standard input again      words TEXT   a line on QEMU's standard error
 *   exit N, signal N, oom, failed TEXT             ends the run (exit 0 when nothing does)
 *   hang                 until KILL comes, or      ignore       whatever comes
 *                        SIGUSR1: then exit 0
 *   die N                QEMU exits                close        hangs the guest link up
 *   event NAME           a QMP event               abuse NAME   breaks the protocol: guest.c
 *   entropy              the start of what the identity brought, as hex
 *   standby              "waited" when an interpreter waited for this run, else "started"
 *
 * A rehearsal prints what the daemon expects. Nothing runs before IDENTITY; a clone must get other
 * entropy than its template had.
 */
#ifndef TESTS_FAKE_QEMU_GUEST_H
#define TESTS_FAKE_QEMU_GUEST_H

#include "base/loop.h"
#include "protocol/frame.h"
#include "tests/fake/fake_qmp.h"

struct guest;

/* What a guest knows when it is saved. */
struct guest_state {
	uint8_t sync[FRAME_MARKER_SIZE];
	uint8_t entropy[64];
	uint32_t waiting;    /* interpreters */
	uint32_t unfinished; /* an exec whose EXIT was not acknowledged */
};

/* `scenario` is borrowed; `qmp` may still be NULL behind the pointer when QMP never connected. */
struct guest *guest_create(struct loop *loop, const char *scenario, struct fake_qmp **qmp);

/* The host has connected to the agent's port. */
void guest_connect(struct guest *guest, int fd_take);

/* Its vCPU runs, or not: then it hears nothing. */
void guest_set_running(struct guest *guest, bool is_running);

void guest_save(const struct guest *guest, struct guest_state *ret);

/* It is what was saved, and waits for its marker. */
void guest_load(struct guest *guest, const struct guest_state *state);

/* SIGUSR1 came: a run that hangs ends well. */
void guest_release(struct guest *guest);

#endif
