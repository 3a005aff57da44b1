/* SPDX-License-Identifier: Apache-2.0 */
/* Flow control of one data stream: credit as absolute offsets, and resending. */
#include "protocol/flow.h"

#include "base/util.h"

#include <errno.h>
#include <string.h>

void flow_sender_init(struct flow_sender *sender)
{
	*sender = (struct flow_sender){.limit = FLOW_WINDOW};
}

void flow_sender_init_at(struct flow_sender *sender, uint64_t offset)
{
	*sender = (struct flow_sender){
		.taken = offset, .sent = offset, .written = offset, .limit = offset};
}

void flow_sender_fini(struct flow_sender *sender)
{
	free(sender->ring);
	*sender = (struct flow_sender){0};
}

size_t flow_sender_room(const struct flow_sender *sender)
{
	return sender->is_ended ? 0 : FLOW_WINDOW - (size_t)(sender->written - sender->taken);
}

int flow_sender_write(struct flow_sender *sender, const void *data, size_t len)
{
	size_t at = (size_t)(sender->written % FLOW_WINDOW);
	size_t first = MIN(len, FLOW_WINDOW - at);

	if (len > flow_sender_room(sender))
		return -ENOBUFS;
	if (len == 0)
		return 0;
	if (!sender->ring) {
		sender->ring = malloc(FLOW_WINDOW);
		if (!sender->ring)
			return -ENOMEM;
	}
	memcpy(sender->ring + at, data, first);
	memcpy(sender->ring, (const uint8_t *)data + first, len - first);
	sender->written += len;
	return 0;
}

void flow_sender_end(struct flow_sender *sender)
{
	sender->is_ended = true;
}

size_t flow_sender_next(struct flow_sender *sender, size_t max, uint64_t *ret_offset,
			const uint8_t **ret_data)
{
	uint64_t until = MIN(sender->written, sender->limit);
	size_t at = (size_t)(sender->sent % FLOW_WINDOW);
	size_t len;

	if (until <= sender->sent)
		return 0;
	len = MIN((size_t)(until - sender->sent), MIN(max, FLOW_WINDOW - at));
	*ret_offset = sender->sent;
	*ret_data = sender->ring + at;
	sender->sent += len;
	return len;
}

bool flow_sender_end_due(struct flow_sender *sender)
{
	if (!sender->is_ended || sender->is_end_sent || sender->sent < sender->written)
		return false;
	sender->is_end_sent = true;
	return true;
}

int flow_sender_credit(struct flow_sender *sender, uint64_t taken, uint64_t limit)
{
	if (taken > sender->sent || limit < sender->limit || limit < taken ||
	    limit - taken > FLOW_WINDOW)
		return -EPROTO;
	/* Behind a resume the receiver's `received` counts as taken, which its own `taken` trails.
	 */
	sender->taken = MAX(sender->taken, taken);
	sender->limit = limit;
	return 0;
}

int flow_sender_resume(struct flow_sender *sender, uint64_t offset)
{
	if (offset < sender->taken || offset > sender->written)
		return -EPROTO;
	sender->taken = offset;
	sender->sent = offset;
	sender->is_end_sent = false;
	sender->limit = MAX(sender->limit, offset);
	return 0;
}

bool flow_sender_is_done(const struct flow_sender *sender)
{
	return sender->is_end_sent && sender->taken == sender->written;
}

void flow_receiver_init(struct flow_receiver *receiver)
{
	*receiver = (struct flow_receiver){.limit = FLOW_WINDOW};
}

void flow_receiver_init_at(struct flow_receiver *receiver, uint64_t offset)
{
	*receiver = (struct flow_receiver){
		.received = offset, .taken = offset, .limit = offset + FLOW_WINDOW};
}

int flow_receiver_data(struct flow_receiver *receiver, uint64_t offset, size_t len,
		       size_t *ret_skip)
{
	uint64_t end;

	if (__builtin_add_overflow(offset, len, &end))
		return -EPROTO;
	if (offset > receiver->received || end > receiver->limit)
		return -EPROTO;
	if (receiver->is_ended && end > receiver->received)
		return -EPROTO;
	*ret_skip = (size_t)MIN((uint64_t)len, receiver->received - offset);
	receiver->received = MAX(receiver->received, end);
	return 0;
}

int flow_receiver_end(struct flow_receiver *receiver, uint64_t offset)
{
	if (offset != receiver->received)
		return -EPROTO;
	receiver->is_ended = true;
	return 0;
}

bool flow_receiver_take(struct flow_receiver *receiver, size_t len)
{
	receiver->taken += len;
	/* Half a window at a time: the sender never runs dry, and credits stay few. */
	if (receiver->taken + FLOW_WINDOW - receiver->limit < FLOW_WINDOW / 2)
		return false;
	receiver->limit = receiver->taken + FLOW_WINDOW;
	return true;
}

void flow_receiver_take_told(struct flow_receiver *receiver, size_t len)
{
	receiver->taken += len;
	receiver->limit = receiver->taken + FLOW_WINDOW;
}
