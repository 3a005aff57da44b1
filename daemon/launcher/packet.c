/* SPDX-License-Identifier: Apache-2.0 */
/* Packets between daemon and launcher: one JSON object each, and descriptors beside it. */
#include "daemon/launcher/packet.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

/* Room for the descriptors of a packet, aligned as the kernel wants it. */
union control {
	char bytes[CMSG_SPACE(PACKET_FDS_MAX * sizeof(int))];
	struct cmsghdr aligned;
};

void packet_clear(struct packet *packet)
{
	for (size_t i = 0; i < packet->n_fds; i++)
		close_fd(packet->fds[i]);
	packet->n_fds = 0;
	json_decref(packet->json);
	packet->json = NULL;
}

int packet_take_fd(struct packet *packet, size_t i)
{
	return i < packet->n_fds ? TAKE_FD(packet->fds[i]) : -1;
}

int packet_send(int fd, const json_t *json, const int *fds, size_t n_fds)
{
	_cleanup_free_ char *text = json_dumps(json, JSON_COMPACT);
	union control control = {.bytes = {0}};
	struct iovec bytes = {.iov_base = text};
	struct msghdr message = {.msg_iov = &bytes, .msg_iovlen = 1};
	struct cmsghdr *header;
	ssize_t n;

	if (!text)
		return -ENOMEM;
	bytes.iov_len = strlen(text);
	if (bytes.iov_len > PACKET_SIZE_MAX || n_fds > PACKET_FDS_MAX)
		return -EMSGSIZE;
	if (n_fds > 0) {
		message.msg_control = control.bytes;
		message.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(header), fds, n_fds * sizeof(int));
	}
	do {
		n = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

bool packet_is_scarcity(int error)
{
	return error == -ENOMEM || error == -ENOBUFS || error == -ETOOMANYREFS;
}

/* The buffer's alignment leaves room for one more than PACKET_FDS_MAX, and the kernel uses it. */
static void keep_fd(int fd, struct packet *ret)
{
	if (ret->n_fds < PACKET_FDS_MAX) {
		ret->fds[ret->n_fds++] = fd;
		return;
	}
	ret->is_cut = true;
	close_fd(fd);
}

static void take_fds(struct msghdr *message, struct packet *ret)
{
	for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header;
	     header = CMSG_NXTHDR(message, header)) {
		size_t n;

		if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
			continue;
		n = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(header) + i * sizeof(fd), sizeof(fd));
			keep_fd(fd, ret);
		}
	}
}

/* The length of the next packet, which stays where it is, and its beginning; or -errno. */
static ssize_t peek(int fd, char *text, size_t size)
{
	ssize_t n;

	do {
		n = recv(fd, text, size, MSG_DONTWAIT | MSG_PEEK | MSG_TRUNC);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

/* NULL in `ret` for what is none. -ENOMEM is all that jansson says nothing about. */
static int parse(const char *text, size_t len, json_t **ret)
{
	json_error_t error;

	*ret = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
	return *ret || error.text[0] ? 0 : -ENOMEM;
}

int packet_receive(int fd, struct packet *ret)
{
	char text[PACKET_SIZE_MAX];
	union control control;
	struct iovec bytes = {.iov_base = text, .iov_len = sizeof(text)};
	struct msghdr message = {.msg_iov = &bytes,
				 .msg_iovlen = 1,
				 .msg_control = control.bytes,
				 .msg_controllen = sizeof(control.bytes)};
	struct packet packet = PACKET_NONE;
	ssize_t n = peek(fd, text, sizeof(text));
	int r = 0;

	if (n > 0 && (size_t)n <= sizeof(text))
		r = parse(text, (size_t)n, &packet.json);
	if (n < 0 || r < 0)
		return n < 0 ? (int)n : r;
	do {
		n = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0) {
		r = -errno;
		packet_clear(&packet);
		return r;
	}
	take_fds(&message, &packet);
	packet.is_cut |= (message.msg_flags & MSG_CTRUNC) != 0;
	if (n == 0 && packet.n_fds == 0)
		return 0;
	if (!json_is_object(packet.json)) {
		packet_clear(&packet);
		return -EBADMSG;
	}
	*ret = packet;
	return 1;
}

const char *packet_string(const json_t *json, const char *key)
{
	return json_string_value(json_object_get(json, key));
}

json_int_t packet_number(const json_t *json, const char *key)
{
	return json_integer_value(json_object_get(json, key));
}
