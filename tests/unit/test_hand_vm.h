/* SPDX-License-Identifier: Apache-2.0 */
/* A VM made by hand: a directory, and a link to a guest that hears and says nothing; header only.
 */
#ifndef TESTS_UNIT_TEST_HAND_VM_H
#define TESTS_UNIT_TEST_HAND_VM_H

#include "daemon/vm/vm_internal.h"
#include "tests/unit/suite.h"

#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define HAND_VM "vm_1"

static struct vm_host hand_host;
static struct vm hand_vm;
static int hand_guest_fd;

static void hand_on_failed(void *user UNUSED, int error, const char *why)
{
	ck_abort_msg("The link failed: %d %s", error, why);
}

static const struct agent_link_ops hand_link_ops = {.on_failed = hand_on_failed};

/* Its directory is made in that of `vms_fd`, which is borrowed. */
static void hand_vm_make(struct loop *loop, int vms_fd)
{
	int fds[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds),
			 0);
	ck_assert_int_eq(mkdirat(vms_fd, HAND_VM, 0700), 0);
	hand_guest_fd = fds[1];
	hand_host = (struct vm_host){.loop = loop, .vms_fd = vms_fd, .node = ""};
	hand_vm = (struct vm){.host = &hand_host,
			      .id = HAND_VM,
			      .language = "python",
			      .spec = {.memory_mb = 256},
			      .state = VM_RUNNING};
	hand_vm.spec.language = hand_vm.language;
	ck_assert_int_eq(
		agent_link_create(loop, fds[0], HAND_VM, NULL, &hand_link_ops, NULL, &hand_vm.link),
		0);
}

static void hand_vm_end(void)
{
	agent_link_destroy(hand_vm.link);
	close_fd(hand_guest_fd);
}

/* What its guest says to the next daemon: it knows these execs. */
static inline struct msg_hello_reply hand_hello(json_t *execs)
{
	return (struct msg_hello_reply){
		.version = LINK_VERSION, .received = json_object(), .execs = execs};
}

static inline void hand_hello_end(struct msg_hello_reply *hello)
{
	json_decref(hello->received);
	json_decref(hello->execs);
}

#endif
