/* SPDX-License-Identifier: Apache-2.0 */
/* PSI triggers: a descriptor that becomes readable when tasks wait for memory. */
#include "daemon/memory/psi_trigger.h"

#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

/* One trigger: a descriptor in the set, or -errno. */
static int open_one(const struct kernel_files *files, const char *path, int epoll_fd,
		    const char *text)
{
	_cleanup_close_ int fd = files->open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	/* By its edges: a descriptor that stays in a state wakes the loop once, whatever it is. */
	struct epoll_event event = {.events = EPOLLPRI | EPOLLET};
	int r;

	if (fd < 0)
		return fd;
	/* With its NUL: the kernel puts one over the last byte of what is written. */
	r = files->write(fd, text, strlen(text) + 1);
	if (r < 0)
		return r;
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0)
		return -errno;
	return TAKE_FD(fd);
}

int psi_trigger_open(const struct kernel_files *files, const char *path,
		     const struct psi_threshold *threshold, struct psi_trigger *ret)
{
	static const char *const kinds[PSI_TRIGGERS] = {"some", "full"};
	const unsigned stalls_us[PSI_TRIGGERS] = {threshold->some_us, threshold->full_us};
	struct psi_trigger trigger = PSI_TRIGGER_CLOSED;

	trigger.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (trigger.epoll_fd < 0)
		return -errno;
	for (size_t i = 0; i < PSI_TRIGGERS; i++) {
		char text[64];

		snprintf(text, sizeof(text), "%s %u %u", kinds[i], stalls_us[i],
			 threshold->window_us);
		trigger.fds[i] = open_one(files, path, trigger.epoll_fd, text);
		if (trigger.fds[i] < 0) {
			int r = trigger.fds[i];

			psi_trigger_close(&trigger);
			return r;
		}
	}
	*ret = trigger;
	return 0;
}

void psi_trigger_close(struct psi_trigger *trigger)
{
	for (size_t i = 0; i < PSI_TRIGGERS; i++)
		trigger->fds[i] = close_fd(trigger->fds[i]);
	trigger->epoll_fd = close_fd(trigger->epoll_fd);
}

int psi_trigger_take(const struct psi_trigger *trigger)
{
	struct epoll_event events[PSI_TRIGGERS];
	int n = epoll_wait(trigger->epoll_fd, events, PSI_TRIGGERS, 0);

	for (int i = 0; i < n; i++)
		if (events[i].events & (EPOLLERR | EPOLLHUP))
			return -EIO;
	return n < 0 && errno != EINTR ? -EIO : 0;
}
