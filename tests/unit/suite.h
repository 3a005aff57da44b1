/* SPDX-License-Identifier: Apache-2.0 */
/* What every unit test file provides: its suite (check owns the name suite_create). */
#ifndef TESTS_UNIT_SUITE_H
#define TESTS_UNIT_SUITE_H

#include <check.h>

Suite *unit_suite(void);

#endif
