/* SPDX-License-Identifier: Apache-2.0 */
/* Want of memory at one place after the other: the nth allocation of jansson fails; header only. */
#ifndef TESTS_UNIT_TEST_SCARCE_H
#define TESTS_UNIT_TEST_SCARCE_H

#include "base/util.h"

#include <jansson.h>
#include <stdlib.h>

/* Allocations until the one that fails; it counts on behind that. */
static long scarce_left;

static inline void *scarce_malloc(size_t size)
{
	return scarce_left-- == 0 ? NULL : malloc(size);
}

/* From here on. The first is 0. */
static inline void scarce_begin(long nth)
{
	scarce_left = nth;
	json_set_alloc_funcs(scarce_malloc, free);
}

/* Did one fail? If not, there are no more to try. */
static inline bool scarce_end(void)
{
	json_set_alloc_funcs(malloc, free);
	return scarce_left < 0;
}

#endif
