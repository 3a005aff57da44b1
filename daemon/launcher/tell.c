/* SPDX-License-Identifier: Apache-2.0 */
/* What the launcher tells the daemon, packet by packet. */
#include "daemon/launcher/message.h"
#include "daemon/launcher/server_internal.h"

#include <errno.h>

/* Tells one thing of a child; the pidfd goes with its pid. */
static int tell(const struct child *child, enum owed what, json_t *json_take)
{
	json_auto_t *json = json_take;
	int pidfd = child->proc ? proc_pidfd(child->proc) : -1, r = 0;
	bool has_pid = (what == OWES_PID || what == OWES_VM) && pidfd >= 0;

	if (what == OWES_PID || what == OWES_VM)
		r |= json_object_set_new(json, "pid",
					 json_integer(has_pid ? proc_pid(child->proc) : 0));
	if (what == OWES_FAILED)
		r |= json_object_set_new(json, "errno", json_integer(-child->error));
	if (what == OWES_END || what == OWES_GONE) {
		r |= json_object_set_new(json, "stderr", message_text(proc_stderr(child->proc)));
		r |= json_object_set_new(json, "oom_kill", json_boolean(child->is_oom_kill));
	}
	if (what == OWES_GONE) {
		r |= json_object_set_new(json, "end", json_integer((json_int_t)child->status.end));
		r |= json_object_set_new(json, "code", json_integer(child->status.code));
	}
	if (!json || r < 0)
		return -ENOMEM;
	return packet_send(child->server->daemon_fd, json, &pidfd, has_pid);
}

int tell_child(struct child *child)
{
	static const struct {
		enum owed what;
		const char *type;
	} order[] = {{OWES_VM, "vm"},   {OWES_SPAWNED, "spawned"}, {OWES_FAILED, "failed"},
		     {OWES_PID, "pid"}, {OWES_END, "end"},         {OWES_GONE, "gone"}};

	for (size_t i = 0; i < ELEMENTSOF(order); i++) {
		int r = 0;

		if (!(child->owed & order[i].what))
			continue;
		/* One that has ended meanwhile: nothing is left to hold. */
		if (order[i].what != OWES_PID || proc_pidfd(child->proc) >= 0)
			r = tell(child, order[i].what, message_new(order[i].type, child->id));
		if (r < 0)
			return r;
		child->owed &= ~(unsigned)order[i].what;
	}
	return 0;
}

int tell_hello(struct server *server)
{
	json_auto_t *hello =
		json_pack("{s:s, s:i, s:s, s:i}", "type", "hello", "version", LAUNCHER_VERSION,
			  "cgroup", leaf_kind_name(server->leaves.kind), "pid", (int)getpid());

	return packet_send(server->daemon_fd, hello, &server->config.listen_fd,
			   server->config.is_by_daemon);
}

int tell_synced(struct server *server)
{
	json_auto_t *synced = json_pack("{s:s}", "type", "synced");

	return packet_send(server->daemon_fd, synced, NULL, 0);
}
