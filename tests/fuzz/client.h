/* SPDX-License-Identifier: Apache-2.0 */
/* A JSON-RPC server with the real method table, and a client of it that reads all answers. */
#ifndef TESTS_FUZZ_CLIENT_H
#define TESTS_FUZZ_CLIENT_H

#include "daemon/rpc/server.h"
#include "tests/fuzz/fuzz.h"

#include <sys/socket.h>
#include <sys/un.h>

struct fuzz_client {
	struct loop *loop; /* borrowed */
	struct rpc_server *server;
	struct sockaddr_un address;
	socklen_t address_len;
	int listen_fd, fd;
	char *reply; /* the unfinished line */
	size_t reply_len;
};

/* Starts a server; `handler_of` names the handler of a method that is not built in. */
void fuzz_client_start(struct fuzz_client *client, struct loop *loop,
		       rpc_handler_fn (*handler_of)(const char *method), void *context);

/* Connects: at the start, and again when it has hung up. */
void fuzz_client_connect(struct fuzz_client *client);
void fuzz_client_hang_up(struct fuzz_client *client);

/* Reads what came. Aborts when a line is not what a client could read. */
void fuzz_client_read(struct fuzz_client *client);

/* Has no more to say, reads to the end, and frees the server, which has no connection any more. */
void fuzz_client_end(struct fuzz_client *client);

#endif
