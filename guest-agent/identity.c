/* SPDX-License-Identifier: Apache-2.0 */
/* What makes a VM differ from the others of its template: entropy, clock, host name, machine id. */
#include "guest-agent/identity.h"

#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <time.h>
#include <unistd.h>

#define HOSTNAME_FILE   "/run/hostname"
#define HOSTS_FILE      "/run/hosts"
#define MACHINE_ID_FILE "/run/machine-id"

static int write_text(const char *path, const char *text)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0)
		return -errno;
	return write_all(fd, text, strlen(text));
}

static int write_names(const char *hostname)
{
	char text[256];
	int r;

	snprintf(text, sizeof(text), "%s\n", hostname);
	r = write_text(HOSTNAME_FILE, text);
	if (r < 0)
		return r;
	snprintf(text, sizeof(text), "127.0.0.1 localhost %s\n::1 localhost %s\n", hostname,
		 hostname);
	return write_text(HOSTS_FILE, text);
}

int identity_prepare(void)
{
	int r = write_names("sandbox");

	if (r < 0)
		return r;
	/* The image links /etc/machine-id to /run; these two it has as files. */
	if (mount(HOSTNAME_FILE, "/etc/hostname", NULL, MS_BIND, NULL) < 0 ||
	    mount(HOSTS_FILE, "/etc/hosts", NULL, MS_BIND, NULL) < 0)
		return -errno;
	return 0;
}

static int add_entropy(const struct msg_identity *identity)
{
	_cleanup_close_ int fd = open("/dev/urandom", O_RDWR | O_CLOEXEC);
	_Alignas(struct rand_pool_info) uint8_t
		buffer[sizeof(struct rand_pool_info) + sizeof(((struct msg_identity *)0)->entropy)];
	struct rand_pool_info *pool = (struct rand_pool_info *)buffer;

	if (fd < 0)
		return -errno;
	pool->entropy_count = (int)(sizeof(identity->entropy) * 8);
	pool->buf_size = (int)sizeof(identity->entropy);
	memcpy(pool->buf, identity->entropy, sizeof(identity->entropy));
	/* The pool alone is not what getrandom() draws from: the generator must take it in now. */
	if (ioctl(fd, RNDADDENTROPY, pool) < 0 || ioctl(fd, RNDRESEEDCRNG) < 0)
		return -errno;
	return 0;
}

int identity_set_clock(uint64_t realtime_ns)
{
	struct timespec ts = {.tv_sec = (time_t)(realtime_ns / 1000000000u),
			      .tv_nsec = (long)(realtime_ns % 1000000000u)};

	return clock_settime(CLOCK_REALTIME, &ts) < 0 ? -errno : 0;
}

static int set_machine_id(const uint8_t id[16])
{
	char text[34];

	hex_encode(id, 16, text);
	text[32] = '\n';
	text[33] = '\0';
	return write_text(MACHINE_ID_FILE, text);
}

int identity_apply(const struct msg_identity *identity, const char **ret_what)
{
	int r;

	*ret_what = "entropy";
	r = add_entropy(identity);
	if (r < 0)
		return r;
	*ret_what = "clock";
	r = identity_set_clock(identity->realtime_ns);
	if (r < 0)
		return r;
	*ret_what = "hostname";
	if (sethostname(identity->hostname, strlen(identity->hostname)) < 0)
		return -errno;
	r = write_names(identity->hostname);
	if (r < 0)
		return r;
	*ret_what = "machine-id";
	return set_machine_id(identity->machine_id);
}
