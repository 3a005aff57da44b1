/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deadlines of a fuzz harness: they pass when its input says so, and never by themselves.
 *
 * loop_timer_start() and loop_timer_stop() are replaced by the linker's --wrap where a harness is
 * linked with this (Makefile.inc); all timers are of one loop.
 */
#ifndef TESTS_FUZZ_TIME_H
#define TESTS_FUZZ_TIME_H

#include "tests/fuzz/fuzz.h"

/* Forgets the timers of the input before. */
void fuzz_time_begin(void);

/* The next deadline passes. False: none is set. */
bool fuzz_time_pass(struct loop *loop);

#endif
