/* SPDX-License-Identifier: Apache-2.0 */
/* Compressed swap of the guest: sets up /dev/zram0 and switches it on. */
#ifndef GUEST_AGENT_ZRAM_H
#define GUEST_AGENT_ZRAM_H

#include <stddef.h>
#include <stdint.h>

/*
 * Algorithm lz4, disksize half of `mem_total` bytes, mem_limit a quarter of it, swap header for the
 * run-time page size, swapon with priority 100. Every step is checked; on failure returns -errno
 * and names the step in `ret_step` (static text). Wants /sys, /proc and /dev mounted. Source:
 * Documentation/admin-guide/blockdev/zram.rst, swapon(2).
 */
int zram_setup(uint64_t mem_total, const char **ret_step);

/* Builds the first page of a swap area of `area` bytes (mkswap's version 1, include/linux/swap.h).
 */
void zram_swap_header(uint8_t *page, size_t page_size, uint64_t area);

#endif
