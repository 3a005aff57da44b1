/* SPDX-License-Identifier: Apache-2.0 */
/* A pseudo-terminal for a program: its end is standard input and both outputs. */
#include "guest-agent/terminal.h"

#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

void terminal_resize(int ours, const struct terminal_size *size)
{
	struct winsize window = {
		.ws_row = (unsigned short)MIN(size->rows, (uint64_t)TERMINAL_SIZE_MAX),
		.ws_col = (unsigned short)MIN(size->columns, (uint64_t)TERMINAL_SIZE_MAX)};

	if (ours >= 0)
		ioctl(ours, TIOCSWINSZ, &window);
}

/* Erasing a character then takes all of its bytes. */
static void expect_utf8(int fd)
{
	struct termios settings;

	if (tcgetattr(fd, &settings) < 0)
		return;
	settings.c_iflag |= IUTF8;
	tcsetattr(fd, TCSANOW, &settings);
}

int terminal_open(const struct terminal_size *size, const struct agent_config *config,
		  int *ret_ours, int *ret_theirs)
{
	_cleanup_close_ int ours = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), theirs = -1;

	if (ours < 0 || unlockpt(ours) < 0)
		return -errno;
	/* By the descriptor: a path could lead elsewhere. */
	theirs = ioctl(ours, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (theirs < 0 || fcntl(ours, F_SETFL, O_NONBLOCK) < 0)
		return -errno;
	if (config->change_user && fchown(theirs, config->uid, (gid_t)-1) < 0)
		return -errno;
	expect_utf8(theirs);
	terminal_resize(ours, size);
	*ret_ours = TAKE_FD(ours);
	*ret_theirs = TAKE_FD(theirs);
	return 0;
}
