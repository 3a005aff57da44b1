/* SPDX-License-Identifier: Apache-2.0 */
/* Strict UTF-8 (RFC 3629): what may travel as text, and where a chunk of text may be cut. */
#ifndef PROTOCOL_UTF8_H
#define PROTOCOL_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Whether all of `data` is UTF-8: no surrogates, no overlong forms, nothing over U+10FFFF, no
 * sequence cut at the end. NUL is valid. */
bool utf8_is_valid(const void *data, size_t len);

/*
 * Length of the longest prefix of `data` that does not end inside a sequence: `len`, or up to 3
 * less when the last bytes are the beginning of a sequence that more bytes could complete. Bytes
 * that no continuation could make valid are not waited for, so a chunk is never held back for ever.
 */
size_t utf8_cut(const void *data, size_t len);

#endif
