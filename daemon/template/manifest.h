/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The manifest of a stored template: what it is, what it depends on, and the hashes of its files.
 *
 * Pure. Parsing hostile bytes is safe: length is capped, duplicate keys are refused, every field is
 * checked for type and range, unknown ones are refused (another version wrote it). A checksum over
 * the other fields tells a flipped bit in those that nothing else would contradict (the marker).
 */
#ifndef DAEMON_TEMPLATE_MANIFEST_H
#define DAEMON_TEMPLATE_MANIFEST_H

#include "daemon/template/store.h"

#define MANIFEST_VERSION 1
/* Bytes. Ours are 1-2 KiB, most of it identity. */
#define MANIFEST_MAX (64u * 1024)
/* A terabyte: beyond any guest, and far from where a size in bytes overflows. */
#define MANIFEST_MEMORY_MAX_MB (1024u * 1024)

struct manifest {
	json_t *identity; /* owned */
	uint64_t memory_mb;
	uint64_t state_bytes;
	uint8_t sync[FRAME_MARKER_SIZE];
	struct store_hashes hashes;
};

/* Drops the identity; the manifest is zeroed afterwards. A zeroed one is fine. */
void manifest_clear(struct manifest *manifest);

/* 0, or -EINVAL with what is wrong in `ret_why` (static text), -ENOMEM. */
int manifest_parse(const char *text, size_t len, struct manifest *ret, const char **ret_why);

/* Indented JSON with a newline at its end (free() it), NULL without memory. */
char *manifest_format(const struct manifest *manifest);

/* The name of a stored template's directory behind NAME-: the first 16 hex digits of the SHA-256 of
 * the identity in its canonical form (sorted keys, compact). 0 or -ENOMEM. */
int manifest_key(const json_t *identity, char ret[STORE_KEY_SIZE]);

#endif
