/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The last bytes of a stream that goes on for ever, by their offsets from its beginning.
 *
 * Theory of operation: a ring grows with what comes up to its limit; from then on the oldest bytes
 * make room for new ones. `start` and `end` are the offsets of what is kept.
 *
 * A ring that is kept lies in a mapped file (ring_file.h) and nowhere else, so that the next daemon
 * finds it however this one ends. The old bytes are given up before they are overwritten, and the
 * new ones are there before they are counted: between any two instructions the file is whole. To
 * another size it goes by way of a new file, which replaces the old one by its name. The first is
 * made with some room, so that a disk that is full later takes no stream's end. Once nothing more
 * comes the mapping is given up, of which a process may have some ten thousands only
 * (vm.max_map_count): the few who read it then read the file.
 */
#ifndef DAEMON_SESSION_RING_H
#define DAEMON_SESSION_RING_H

#include "base/util.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ring_file;

struct ring {
	uint8_t *data; /* byte `o` lives at o % size; NULL in a file that was trimmed */
	size_t size, limit;
	uint64_t start, end;
	struct ring_file *file; /* NULL: in memory */
};

void ring_init(struct ring *ring, size_t limit);

/* Keeps a ring in a new file of that name (kept.h) in the directory; an old one is replaced. 0 or
 * -errno: then it stays in memory. */
int ring_keep(struct ring *ring, int dir_fd, const char *name) WARN_UNUSED;

/* Instead of ring_init(): goes on with the file that another process has left. 0 or -errno, -EINVAL
 * when it is none or of another limit; then it is an empty ring in memory. */
int ring_load(struct ring *ring, size_t limit, int dir_fd, const char *name) WARN_UNUSED;

/* Removes the file, too. */
void ring_fini(struct ring *ring);

/* Adds bytes; the ring allocates at most `room` more for it. Never fails: where the disk is full,
 * or memory, the last bytes are kept in the size it has. */
void ring_add(struct ring *ring, const uint8_t *data, size_t len, size_t room);

/* Gives back what was allocated ahead, and the mapping: nothing more may be added. */
void ring_trim(struct ring *ring);

/*
 * The next bytes from `*offset` on, at most `max`, as {"data", "encoding"?} in a new reference, and
 * moves the offset behind them; first to the oldest byte kept, if it lies before that. Unless
 * `is_end` an unfinished UTF-8 sequence is left for the next time. NULL when there is nothing.
 */
json_t *ring_next_chunk(const struct ring *ring, uint64_t *offset, size_t max, bool is_end);

/*
 * Sets `<name>`, `<name>_encoding`, `<name>_offset` (where it begins), `<name>_bytes` (all there
 * were so far) and `<name>_truncated` (some behind `offset` are not kept any more).
 */
void ring_to_result(const struct ring *ring, const char *name, uint64_t offset, bool is_end,
		    json_t *result);

#endif
