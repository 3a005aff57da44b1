/* SPDX-License-Identifier: Apache-2.0 */
/* The boot log of one VM: what its serial console says, the last bytes kept. */
#include "daemon/vm/console.h"

#include "base/util.h"

/* We only read; nothing is ever queued. */
#define QUEUE_MAX 0

static void on_data(void *user, const uint8_t *data, size_t len)
{
	struct console *console = user;

	for (size_t i = 0; i < len; i++)
		console->ring[console->written++ % CONSOLE_SIZE] = (char)data[i];
}

static void on_end(void *user UNUSED, int error UNUSED)
{
	/* QEMU is ending; who watches its process says why. */
}

static const struct stream_ops ops = {.on_data = on_data, .on_end = on_end};

void console_init(struct console *console, struct loop *loop, int fd_take)
{
	console->written = 0;
	stream_init(&console->stream, loop, fd_take, QUEUE_MAX, &ops, console);
}

void console_close(struct console *console)
{
	if (console->stream.loop)
		stream_close(&console->stream);
}

char *console_tail(const struct console *console, size_t max)
{
	uint64_t kept = MIN(console->written, MIN((uint64_t)max, (uint64_t)CONSOLE_SIZE));
	char *text = malloc((size_t)kept + 1), *out = text;

	if (!text)
		return NULL;
	for (uint64_t at = console->written - kept; at < console->written; at++) {
		char c = console->ring[at % CONSOLE_SIZE];

		if (c == '\n' || (c >= ' ' && c < 0x7f))
			*out++ = c;
	}
	*out = '\0';
	return text;
}
