/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest agent of a hostile guest: the real one, linked with --wrap=memory_read, so that its
 * word on memory passes through here. It lies as files in /tmp tell, which code in the VM makes:
 *
 *   lies-plenty      everything is free, nothing is used
 *   lies-nothing     nothing is free and nothing could be given
 *   lies-impossible  more is free than there is
 *   lies-stalled     its programs wait for memory all the time
 *   lies-deaf        the balloon's driver is gone: it never inflates
 *
 * and two in /home/user, where file.write can put them beside any program:
 *
 *   lies-dead        the agent ends, and its guest with it
 *   lies-garbage     bytes that are no frame go to the host
 */
#include "guest-agent/memory.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* As much as the protocol lets pass and no VM has. */
#define IMPOSSIBLE (UINT64_C(1) << 50)
#define DRIVER     "/sys/bus/virtio/drivers/virtio_balloon"
#define PORT       "/dev/vport"
#define FDS_MAX    64

void __real_memory_read(const struct cgroup *cgroup, struct msg_memory *ret);
void __wrap_memory_read(const struct cgroup *cgroup, struct msg_memory *ret);

static bool is_told(const char *path)
{
	return access(path, F_OK) == 0;
}

static void write_to(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		perror(path);
	if (fd >= 0)
		close(fd);
}

/* Its devices are links named virtioN. */
static void unbind_balloon(void)
{
	DIR *driver = opendir(DRIVER);
	struct dirent *entry;

	while (driver && (entry = readdir(driver)))
		if (strncmp(entry->d_name, "virtio", strlen("virtio")) == 0)
			write_to(DRIVER "/unbind", entry->d_name);
	if (driver)
		closedir(driver);
}

/* Into whatever the agent has open there. */
static void write_garbage(void)
{
	char path[32], target[sizeof(PORT)], garbage[256];

	memset(garbage, 0xff, sizeof(garbage));
	for (int fd = 3; fd < FDS_MAX; fd++) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		if (readlink(path, target, sizeof(target)) < (ssize_t)strlen(PORT) ||
		    strncmp(target, PORT, strlen(PORT)) != 0)
			continue;
		if (write(fd, garbage, sizeof(garbage)) < 0)
			perror(path);
	}
}

void __wrap_memory_read(const struct cgroup *cgroup, struct msg_memory *ret)
{
	__real_memory_read(cgroup, ret);
	if (is_told("/home/user/lies-dead"))
		_exit(1);
	if (is_told("/home/user/lies-garbage"))
		write_garbage();
	if (is_told("/tmp/lies-plenty")) {
		ret->mem_free = ret->mem_available = ret->mem_total;
		ret->mem_caches = ret->mem_anonymous = 0;
	} else if (is_told("/tmp/lies-nothing")) {
		ret->mem_free = ret->mem_available = ret->mem_caches = ret->mem_anonymous = 0;
		ret->swap_free = 0;
	} else if (is_told("/tmp/lies-impossible")) {
		ret->mem_available = ret->mem_free = ret->mem_caches = IMPOSSIBLE;
		ret->mem_total = 1;
		ret->zram_orig_data_size = ret->zram_mem_used_total = IMPOSSIBLE;
	} else if (is_told("/tmp/lies-stalled")) {
		ret->user_stall_us = (uint64_t)time(NULL) * 1000000;
	} else if (is_told("/tmp/lies-deaf")) {
		unbind_balloon();
	}
}
