/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A batch: collects the replies of its calls into one array, sent when the last call has ended.
 *
 * Theory of operation: a batch is held once by whoever reads its elements and once by each of its
 * calls; each lets go once. The last one to let go sends the array, if there is any reply, and
 * frees the batch.
 */
#ifndef DAEMON_RPC_BATCH_H
#define DAEMON_RPC_BATCH_H

#include <stddef.h>

struct rpc_batch;
struct rpc_conn;

/* A batch held once. NULL without memory. */
struct rpc_batch *rpc_batch_create(struct rpc_conn *conn);

void rpc_batch_hold(struct rpc_batch *batch);

/* Adds one reply, without line end. */
void rpc_batch_add(struct rpc_batch *batch, const char *reply, size_t len);

void rpc_batch_release(struct rpc_batch *batch);

#endif
