/* SPDX-License-Identifier: Apache-2.0 */
/* Files that come in pieces: each is without a name until it is complete. */
#include "guest-agent/files/uploads.h"

#include "base/util.h"
#include "guest-agent/files/content.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct upload {
	char id[UPLOAD_ID_SIZE]; /* empty: none */
	struct place place;
	int fd;
	mode_t mode;
	uint64_t expires_us;
};

static struct upload uploads[UPLOADS_MAX];

static struct upload *find(const char *id)
{
	for (size_t i = 0; i < UPLOADS_MAX; i++)
		if (strcmp(uploads[i].id, id) == 0)
			return &uploads[i];
	return NULL;
}

static void drop(struct upload *upload)
{
	place_close(&upload->place);
	upload->fd = close_fd(upload->fd);
	*upload->id = '\0';
}

static void touch(struct upload *upload)
{
	upload->expires_us = now_us() + UPLOAD_SECONDS * UINT64_C(1000000);
}

int upload_open(const char *id, struct place *place_take, mode_t mode)
{
	struct upload *upload = find("");
	int fd = upload ? content_new(place_take) : -EMFILE;

	if (fd < 0) {
		place_close(place_take);
		return fd;
	}
	snprintf(upload->id, sizeof(upload->id), "%s", id);
	upload->place = *place_take;
	*place_take = PLACE_NONE;
	upload->fd = fd;
	upload->mode = mode;
	touch(upload);
	return 0;
}

int upload_write(const char *id, uint64_t offset, int in_fd, uint64_t size)
{
	struct upload *upload = *id ? find(id) : NULL;
	int r;

	if (!upload || lseek(upload->fd, (off_t)offset, SEEK_SET) < 0) {
		r = upload ? -errno : -ESTALE;
		(void)content_fill(-1, in_fd, size);
		return r;
	}
	r = content_fill(upload->fd, in_fd, size);
	/* A file that lacks a piece never gets its name. */
	if (r < 0)
		drop(upload);
	else
		touch(upload);
	return r;
}

int upload_commit(const char *id, uint64_t *ret_size)
{
	struct upload *upload = *id ? find(id) : NULL;
	struct stat stat;
	int r;

	if (!upload)
		return -ESTALE;
	r = fstat(upload->fd, &stat) < 0 ? -errno
					 : content_commit(upload->fd, &upload->place, upload->mode);
	*ret_size = r < 0 ? 0 : (uint64_t)stat.st_size;
	drop(upload);
	return r;
}

int uploads_expire(void)
{
	uint64_t now = now_us(), next = UINT64_MAX;

	for (size_t i = 0; i < UPLOADS_MAX; i++) {
		if (!*uploads[i].id)
			continue;
		if (uploads[i].expires_us <= now)
			drop(&uploads[i]);
		else
			next = MIN(next, uploads[i].expires_us);
	}
	return next == UINT64_MAX ? -1 : (int)((next - now) / 1000 + 1);
}
