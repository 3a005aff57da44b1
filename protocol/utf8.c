/* SPDX-License-Identifier: Apache-2.0 */
/* Strict UTF-8 (RFC 3629). */
#include "protocol/utf8.h"

#include <stdint.h>
#include <string.h>

/* Returned for bytes that are the beginning of a sequence which ends behind `len`. */
#define INCOMPLETE (-1)
#define INVALID    (-2)

/* The bytes a lead byte asks for, and the range of its second byte (RFC 3629, section 4): it is
 * there that overlong forms, surrogates and values over U+10FFFF show. */
static int lead_byte(uint8_t lead, uint8_t *ret_low, uint8_t *ret_high)
{
	*ret_low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
	*ret_high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
	if (lead < 0x80)
		return 1;
	if (lead >= 0xc2 && lead <= 0xdf)
		return 2;
	if (lead >= 0xe0 && lead <= 0xef)
		return 3;
	if (lead >= 0xf0 && lead <= 0xf4)
		return 4;
	return INVALID;
}

/* Length of the sequence at `p`, of which `len` >= 1 bytes are there; INCOMPLETE or INVALID. */
static int sequence(const uint8_t *p, size_t len)
{
	uint8_t low, high;
	int wanted = lead_byte(p[0], &low, &high);

	for (int i = 1; i < wanted; i++) {
		if ((size_t)i == len)
			return INCOMPLETE;
		if (p[i] < low || p[i] > high)
			return INVALID;
		low = 0x80;
		high = 0xbf;
	}
	return wanted;
}

bool utf8_is_valid(const void *data, size_t len)
{
	/* No bytes may come without a place, to which nothing can be added. */
	const uint8_t *p = data, *end = len > 0 ? p + len : p;

	while (p < end) {
		uint64_t eight;
		int n;

		/* Most text is ASCII: eight bytes at a time. */
		if (end - p >= 8) {
			memcpy(&eight, p, 8);
			if (!(eight & 0x8080808080808080u)) {
				p += 8;
				continue;
			}
		}
		n = sequence(p, (size_t)(end - p));
		if (n < 0)
			return false;
		p += n;
	}
	return true;
}

size_t utf8_cut(const void *data, size_t len)
{
	const uint8_t *p = data;

	/* An unfinished sequence has at most three bytes, the first of them its lead byte. */
	for (size_t back = 1; back <= 3 && back <= len; back++) {
		if ((p[len - back] & 0xc0) == 0x80)
			continue;
		return sequence(p + len - back, back) == INCOMPLETE ? len - back : len;
	}
	return len;
}
