/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program that the daemon takes for QEMU: same words, same descriptors, no machine.
 *
 * Theory of operation: the numbers of the inherited sockets are read from the words of `-chardev`;
 * the scenario is what follows the first '-' of the program's own name (the daemon clears the
 * environment), "normal" when nothing does. It ends by being killed, or where its scenario, its
 * plan (plan.h) or the "code" it is given (guest.h) says so. Templates and clones are machine.h's.
 * Scenarios:
 *
 *   normal            agent-silent       agent-garbage     agent-oversized   agent-malformed
 *   agent-version     agent-early        no-identity       dies-at-start     dies-after-hello
 *   dies-when-ready   dies-after-exec    qmp-silent        qmp-garbage
 */
#include "base/util.h"
#include "tests/fake/qemu/guest.h"
#include "tests/fake/qemu/machine.h"
#include "tests/fake/qemu/plan.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* Of a VM of 256 MiB, as query-balloon tells it. */
#define BALLOON "{\"actual\": 268435456}"

static struct loop *loop;
static const char *scenario = "normal";
static struct guest *guest;
static struct machine *machine;
static struct fake_qmp *qmp;
static ev_io qmp_watch, agent_watch;
static ev_signal release_watch;

/* The descriptor in "socket,id=NAME,fd=N,…" among the words. */
static int chardev_fd(int argc, char **argv, const char *name)
{
	char prefix[64];

	snprintf(prefix, sizeof(prefix), "socket,id=%s,fd=", name);
	for (int i = 1; i < argc; i++)
		if (strncmp(argv[i], prefix, strlen(prefix)) == 0)
			return (int)strtol(argv[i] + strlen(prefix), NULL, 10);
	fprintf(stderr, "fake: there is no chardev %s\n", name);
	exit(1);
}

static int accept_once(struct ev_loop *ev, ev_io *watch)
{
	int fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	ev_io_stop(ev, watch);
	return fd;
}

static void on_qmp_client(struct ev_loop *ev, ev_io *watch, int events UNUSED)
{
	qmp = fake_qmp_create(loop, accept_once(ev, watch));
	machine_connect(machine, qmp);
	plan_at("greeting");
	if (strcmp(scenario, "qmp-silent") == 0)
		return;
	if (strcmp(scenario, "qmp-garbage") == 0) {
		fake_qmp_send_text(qmp, "{\"QMP\": nonsense}\r\n");
		return;
	}
	fake_qmp_answer(qmp, "qom-set", "{}");
	fake_qmp_answer(qmp, "qom-get", "{\"last-update\": 0, \"stats\": {}}");
	fake_qmp_answer(qmp, "query-balloon", BALLOON);
	fake_qmp_answer(qmp, "balloon", "{}");
	fake_qmp_handshake(qmp);
}

static void on_agent_client(struct ev_loop *ev, ev_io *watch, int events UNUSED)
{
	guest_connect(guest, accept_once(ev, watch));
}

static void on_release(struct ev_loop *ev UNUSED, ev_signal *watch UNUSED, int events UNUSED)
{
	guest_release(guest);
}

int main(int argc, char **argv)
{
	static const char boot_log[] = "fake: booting\n";
	const char *name = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
	const char *dash = strchr(name, '-');
	int qmp_fd = chardev_fd(argc, argv, "qmp"), agent_fd = chardev_fd(argc, argv, "agent");

	if (dash)
		scenario = dash + 1;
	plan_init(argv[0], machine_role(argc, argv));
	signal(SIGPIPE, SIG_IGN);
	if (write_all(chardev_fd(argc, argv, "console"), boot_log, strlen(boot_log)) < 0)
		return 1;
	if (strcmp(scenario, "dies-at-start") == 0)
		plan_die("cannot start the machine");
	plan_at("spawn");
	if (loop_create(&loop) < 0)
		return 1;
	guest = guest_create(loop, scenario, &qmp);
	machine = machine_create(loop, argc, argv, guest);
	/* As QEMU, whatever backlog there was. */
	if (listen(qmp_fd, 1) < 0 || listen(agent_fd, 1) < 0)
		return 1;
	ev_io_init(&qmp_watch, on_qmp_client, qmp_fd, EV_READ);
	ev_io_init(&agent_watch, on_agent_client, agent_fd, EV_READ);
	ev_io_start(loop_ev(loop), &qmp_watch);
	ev_io_start(loop_ev(loop), &agent_watch);
	ev_signal_init(&release_watch, on_release, SIGUSR1);
	ev_signal_start(loop_ev(loop), &release_watch);
	loop_run(loop);
	return 0;
}
