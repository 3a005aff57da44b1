/* SPDX-License-Identifier: Apache-2.0 */
/* What the store's worker process does: reading and checking a template, writing one. */
#ifndef DAEMON_TEMPLATE_STORE_WORK_H
#define DAEMON_TEMPLATE_STORE_WORK_H

#include "daemon/template/store.h"
#include "daemon/template/worker.h"

/* A sentence with a path or two in it. */
#define STORE_WHY_SIZE 512

/* The order. */
struct store_work {
	int dir_fd;
	const char *path;
	uint64_t max_bytes;
	const char *name, *key;
	json_t *identity;
	uint64_t memory_mb;
	int ram_fd;                   /* loading: an empty memfd, from vm_image_create_ram() */
	int state_fd;                 /* loading: an empty memfd for the devices' state */
	const struct vm_image *image; /* saving */
};

/* The report's bytes. */
struct store_report {
	struct store_hashes hashes;
	uint8_t sync[FRAME_MARKER_SIZE]; /* loading */
	char why[STORE_WHY_SIZE];        /* of an error, else "" */
};

_Static_assert(sizeof(struct store_report) <= WORKER_REPORT_MAX, "a report must fit");

/* worker_fn, `input` is a struct store_work: fills and seals ram_fd, writes the state to state_fd.
 */
int store_work_load(void *input, char report[WORKER_REPORT_MAX], size_t *ret_report_len);

/* worker_fn, `input` is a struct store_work: writes and publishes `image`. */
int store_work_save(void *input, char report[WORKER_REPORT_MAX], size_t *ret_report_len);

#endif
