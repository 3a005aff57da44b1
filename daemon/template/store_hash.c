/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 of stored files: of bytes at hand, and of memory while it is copied sparsely. */
#include "daemon/template/store_hash.h"

#include "base/util.h"

#include <errno.h>
#include <openssl/evp.h>
#include <string.h>
#include <unistd.h>

#define SHA256_BYTES 32
/* Stays in the second-level cache between reading, hashing and writing; no file has finer holes. */
#define BLOCK (64u * 1024)

_Static_assert(STORE_HASH_SIZE == 2 * SHA256_BYTES + 1, "hex and a NUL");

static const uint8_t zeros[BLOCK];

struct progress {
	struct store_copy *copy;
	EVP_MD_CTX *hash;
	uint8_t *block;
	uint64_t written;
};

int store_hash(const void *data, size_t len, char ret[STORE_HASH_SIZE])
{
	uint8_t digest[SHA256_BYTES];

	if (EVP_Digest(data, len, digest, NULL, EVP_sha256(), NULL) != 1)
		return -ENOMEM;
	hex_encode(digest, sizeof(digest), ret);
	return 0;
}

static int hash_zeros(struct progress *progress, uint64_t len)
{
	while (len > 0) {
		size_t n = (size_t)MIN(len, (uint64_t)BLOCK);

		if (EVP_DigestUpdate(progress->hash, zeros, n) != 1)
			return -ENOMEM;
		len -= n;
	}
	return 0;
}

static int read_block(struct progress *progress, uint64_t offset, size_t len)
{
	size_t have = 0;

	while (have < len) {
		ssize_t n = pread(progress->copy->from_fd, progress->block + have, len - have,
				  (off_t)(offset + have));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			progress->copy->has_from_failed = true;
			return n < 0 ? -errno : -ENODATA;
		}
		have += (size_t)n;
	}
	return 0;
}

static int write_block(struct progress *progress, uint64_t offset, size_t len)
{
	size_t done = 0;

	progress->written += len;
	if (progress->written > progress->copy->max_bytes)
		return -E2BIG;
	while (done < len) {
		ssize_t n = pwrite(progress->copy->to_fd, progress->block + done, len - done,
				   (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		done += (size_t)n;
	}
	return 0;
}

/* Blocks lie at multiples of their size, wherever the data begins. */
static int copy_data(struct progress *progress, uint64_t offset, uint64_t end)
{
	while (offset < end) {
		size_t len = (size_t)MIN(end - offset, BLOCK - offset % BLOCK);
		int r = read_block(progress, offset, len);

		if (r < 0)
			return r;
		if (EVP_DigestUpdate(progress->hash, progress->block, len) != 1)
			return -ENOMEM;
		if (memcmp(progress->block, zeros, len) != 0) {
			r = write_block(progress, offset, len);
			if (r < 0)
				return r;
		}
		offset += len;
	}
	return 0;
}

/* Where the next data (SEEK_DATA) or hole (SEEK_HOLE) begins: the end when there is none. */
static int seek_next(struct progress *progress, uint64_t offset, int whence, uint64_t *ret)
{
	off_t at = lseek(progress->copy->from_fd, (off_t)offset, whence);

	if (at >= 0) {
		*ret = MIN((uint64_t)at, progress->copy->size);
		return 0;
	}
	if (errno == ENXIO) {
		*ret = progress->copy->size;
		return 0;
	}
	progress->copy->has_from_failed = true;
	return -errno;
}

static int copy_all(struct progress *progress)
{
	uint64_t offset = 0, data, hole;
	int r;

	while (offset < progress->copy->size) {
		r = seek_next(progress, offset, SEEK_DATA, &data);
		if (r == 0)
			r = hash_zeros(progress, data - offset);
		if (r == 0)
			r = seek_next(progress, data, SEEK_HOLE, &hole);
		if (r == 0)
			r = copy_data(progress, data, hole);
		if (r < 0)
			return r;
		offset = hole;
	}
	return 0;
}

static int finish_hash(struct progress *progress)
{
	uint8_t digest[SHA256_BYTES];

	if (EVP_DigestFinal_ex(progress->hash, digest, NULL) != 1)
		return -ENOMEM;
	hex_encode(digest, sizeof(digest), progress->copy->hash);
	return 0;
}

int store_copy_run(struct store_copy *copy)
{
	struct progress progress = {.copy = copy};
	int r = -ENOMEM;

	copy->has_from_failed = false;
	if (ftruncate(copy->to_fd, (off_t)copy->size) < 0)
		return -errno;
	progress.hash = EVP_MD_CTX_new();
	progress.block = malloc(BLOCK);
	if (progress.hash && progress.block &&
	    EVP_DigestInit_ex(progress.hash, EVP_sha256(), NULL) == 1)
		r = copy_all(&progress);
	if (r == 0)
		r = finish_hash(&progress);
	EVP_MD_CTX_free(progress.hash);
	free(progress.block);
	return r;
}
