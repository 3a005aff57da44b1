/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One list of file operations in one VM, from EXEC to EXIT.
 *
 * Theory of operation: to the guest link the VM's file server is an interpreter that stays, and a
 * list of operations is a program of it: its text is the list, its input what is written, its
 * output what is read, its error output the results. It runs beside the VM's other programs, one
 * list at a time. At its deadline, or when it is stopped, the guest is told to kill it; when there
 * is no EXIT then within 250 ms, the owner hears that (EXEC_UNREPORTED). What the guest sends over
 * what was asked for ends it as EXEC_BROKEN.
 *
 * What is read or written may go over a socket of the caller's instead of through memory: then no
 * more waits here than a window of the guest link, and it is the file server, or the caller, who
 * waits. A caller that ends its side early, or takes nothing for FILE_IO_SECONDS, ends it.
 *
 * The owner hands on what the VM says and hears of the end once, by on_done; it frees.
 */
#ifndef DAEMON_SESSION_FILE_IO_H
#define DAEMON_SESSION_FILE_IO_H

#include "daemon/session/exec.h"
#include "daemon/session/file_request.h"

/* For one list, or without progress of bytes over a socket. A guest that swaps writes some MB a
 * second. */
#define FILE_IO_SECONDS 60.

struct file_io;

struct file_io_ops {
	/* So many bytes more are kept. False refuses them, and ends it without results. NULL: they
	 * are bounded otherwise. */
	bool (*on_grow)(void *user, size_t len);
	/* From the loop or from file_io_on_ functions, never from inside the others. */
	void (*on_done)(void *user, struct file_io *io, enum exec_end end);
};

/* Where and as what it runs. */
struct file_io_target {
	struct loop *loop;
	struct vm *vm;
	uint32_t number;  /* that the VM has not seen */
	uint64_t disk_mb; /* of the user's home; 0: as it is */
	int socket_fd;    /* of the caller, taken; -1: none. Needed where the batch says so */
};

/* Sends the batch, of which it takes the contents. NULL when that cannot be sent: nothing was done.
 */
struct file_io *file_io_begin(const struct file_io_target *target, struct file_batch *batch,
			      const struct file_io_ops *ops, void *user);

/* Tells the guest to kill it; on_done comes. */
void file_io_stop(struct file_io *io);

/* What the VM says. False when it is about another program. */
bool file_io_on_message(struct file_io *io, const struct msg *msg);
bool file_io_on_output(struct file_io *io, uint32_t number, enum frame_substream sub,
		       const uint8_t *data, size_t len);

bool file_io_on_input(struct file_io *io, uint32_t number);

/* The results: borrowed, an array as long as the batch's of what the guest claims; or NULL with the
 * error. After on_done. */
const json_t *file_io_results(const struct file_io *io, struct rpc_error **ret_error);
/* What was read. Borrowed; of what went over a socket only the length. */
const char *file_io_data(const struct file_io *io, size_t *ret_len);

void file_io_free(struct file_io *io);

#endif
