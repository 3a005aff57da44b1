/* SPDX-License-Identifier: Apache-2.0 */
/* A batch: collects the replies of its calls into one array. */
#include "daemon/rpc/batch.h"

#include "base/log.h"
#include "daemon/rpc/internal.h"

#include <stdlib.h>

struct rpc_batch {
	struct rpc_conn *conn; /* outlives it: a connection frees its calls before itself */
	size_t holds;
	struct text replies; /* "[reply,reply" */
};

struct rpc_batch *rpc_batch_create(struct rpc_conn *conn)
{
	struct rpc_batch *batch = calloc(1, sizeof(*batch));

	if (!batch)
		return NULL;
	batch->conn = conn;
	batch->holds = 1;
	return batch;
}

void rpc_batch_hold(struct rpc_batch *batch)
{
	batch->holds++;
}

void rpc_batch_add(struct rpc_batch *batch, const char *reply, size_t len)
{
	const size_t before = batch->replies.len;

	if (!rpc_conn_is_writable(batch->conn))
		return;
	text_add_string(&batch->replies, before == 0 ? "[" : ",");
	text_add(&batch->replies, reply, len);
	rpc_conn_park(batch->conn, (ptrdiff_t)(batch->replies.len - before));
}

static void send_array(struct rpc_batch *batch)
{
	struct text *replies = &batch->replies;

	if (replies->len == 0)
		return;
	rpc_conn_park(batch->conn, -(ptrdiff_t)replies->len);
	text_add_string(replies, "]\n");
	if (replies->is_failed)
		rpc_conn_end(batch->conn, LOG_WARNING, "No memory for the replies of a batch");
	else
		rpc_conn_send(batch->conn, replies->data, replies->len);
}

void rpc_batch_release(struct rpc_batch *batch)
{
	if (--batch->holds > 0)
		return;
	send_array(batch);
	text_fini(&batch->replies);
	free(batch);
}
