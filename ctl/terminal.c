/* SPDX-License-Identifier: Apache-2.0 */
/* The terminal we run on: its size, and raw mode with the way back. */
#include "ctl/terminal.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>

/* There is one terminal, and atexit(3) takes no argument. */
static struct {
	bool is_raw;
	int fd;
	struct termios before;
} raw;

json_t *terminal_size(int fd)
{
	struct winsize size = {0};

	ioctl(fd, TIOCGWINSZ, &size);
	return json_pack("{s:i, s:i}", "rows", size.ws_row > 0 ? size.ws_row : 24, "columns",
			 size.ws_col > 0 ? size.ws_col : 80);
}

void terminal_restore(void)
{
	if (!raw.is_raw)
		return;
	raw.is_raw = false;
	/* What was shown last is shown first. */
	tcsetattr(raw.fd, TCSADRAIN, &raw.before);
}

int terminal_make_raw(int fd)
{
	struct termios settings;

	if (tcgetattr(fd, &raw.before) < 0)
		return -errno;
	settings = raw.before;
	cfmakeraw(&settings);
	if (tcsetattr(fd, TCSADRAIN, &settings) < 0)
		return -errno;
	raw.fd = fd;
	raw.is_raw = true;
	atexit(terminal_restore);
	return 0;
}
