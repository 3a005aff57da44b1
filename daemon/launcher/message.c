/* SPDX-License-Identifier: Apache-2.0 */
/* What daemon and launcher say to each other. */
#include "daemon/launcher/message.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

json_t *message_new(const char *type, const char *id)
{
	return json_pack("{s:s, s:s}", "type", type, "id", id);
}

/* JSON has no number for RLIM_INFINITY: -1, which setrlimit(2) takes for it. */
static json_t *limits_json(const struct proc_spec *spec)
{
	json_t *limits = json_array();

	for (size_t i = 0; i < spec->n_limits; i++)
		json_array_append_new(limits, json_pack("[i, I]", spec->limits[i].resource,
							(json_int_t)spec->limits[i].value));
	return limits;
}

json_t *message_spawn(const char *id, const struct proc_spec *spec, const struct leaf_limits *leaf)
{
	json_t *argv = json_array();

	for (char *const *word = spec->argv; *word; word++) {
		if (json_array_append_new(argv, json_string(*word)) < 0) {
			json_decref(argv);
			return NULL;
		}
	}
	return json_pack("{s:s, s:s, s:o, s:o, s:i, s:b, s:b, s:{s:I, s:i, s:i}}", "type", "spawn",
			 "id", id, "argv", argv, "limits", limits_json(spec), "oom_score_adj",
			 spec->oom_score_adj, "no_huge_pages", spec->has_no_huge_pages,
			 "has_info_fd", spec->info_fd_take >= 0, "cgroup", "memory_max_bytes",
			 (json_int_t)leaf->memory_max_bytes, "cpu_percent", (int)leaf->cpu_percent,
			 "pids_max", (int)leaf->pids_max);
}

static int read_argv(const json_t *json, char ***ret)
{
	const json_t *words = json_object_get(json, "argv");
	size_t len = json_array_size(words);

	if (len == 0)
		return -EBADMSG;
	*ret = calloc(len + 1, sizeof(**ret));
	if (!*ret)
		return -ENOMEM;
	for (size_t i = 0; i < len; i++) {
		(*ret)[i] = (char *)json_string_value(json_array_get(words, i));
		if (!(*ret)[i])
			return -EBADMSG;
	}
	return (*ret)[0][0] == '/' ? 0 : -EBADMSG;
}

static int read_limits(const json_t *json, struct spawn_request *ret)
{
	const json_t *limits = json_object_get(json, "limits");

	ret->spec.n_limits = json_array_size(limits);
	if (ret->spec.n_limits > MESSAGE_LIMITS_MAX)
		return -EBADMSG;
	for (size_t i = 0; i < ret->spec.n_limits; i++) {
		const json_t *pair = json_array_get(limits, i);

		if (!json_is_integer(json_array_get(pair, 0)) ||
		    !json_is_integer(json_array_get(pair, 1)))
			return -EBADMSG;
		ret->limits[i] = (struct proc_limit){
			.resource = (int)json_integer_value(json_array_get(pair, 0)),
			.value = (rlim_t)json_integer_value(json_array_get(pair, 1))};
	}
	return 0;
}

/* A limit of nothing would be an error of the daemon, found out by a VM that cannot start. */
static int read_leaf(const json_t *json, struct leaf_limits *ret)
{
	const json_t *leaf = json_object_get(json, "cgroup");
	json_int_t memory = packet_number(leaf, "memory_max_bytes"),
		   cpu = packet_number(leaf, "cpu_percent"), pids = packet_number(leaf, "pids_max");

	if (memory <= 0 || cpu <= 0 || cpu > INT_MAX / 1000 || pids <= 0 || pids > INT_MAX)
		return -EBADMSG;
	*ret = (struct leaf_limits){.memory_max_bytes = (uint64_t)memory,
				    .cpu_percent = (unsigned)cpu,
				    .pids_max = (unsigned)pids};
	return 0;
}

static int read_fds(struct packet *packet, struct spawn_request *ret)
{
	bool has_info = json_is_true(json_object_get(packet->json, "has_info_fd"));
	size_t n = packet->n_fds;

	if (has_info && n == 0)
		return -EBADMSG;
	n -= has_info;
	for (size_t i = 0; i < n; i++)
		if (proc_fds_add(&ret->fds, packet->fds[i]) < 0)
			return -EBADMSG;
	if (has_info)
		ret->spec.info_fd_take = packet_take_fd(packet, n);
	return 0;
}

int message_read_spawn(struct packet *packet, struct spawn_request *ret)
{
	const char *id = packet_string(packet->json, "id");
	json_int_t oom_score_adj = packet_number(packet->json, "oom_score_adj");
	int r;

	*ret = (struct spawn_request){.spec = {.info_fd_take = -1}};
	if (!id || !vm_dir_is_id(id) || oom_score_adj < 0 || oom_score_adj > 1000)
		return -EBADMSG;
	snprintf(ret->id, sizeof(ret->id), "%s", id);
	ret->spec.oom_score_adj = (int)oom_score_adj;
	ret->spec.has_no_huge_pages = json_is_true(json_object_get(packet->json, "no_huge_pages"));
	r = read_argv(packet->json, &ret->argv);
	if (r == 0)
		r = read_limits(packet->json, ret);
	if (r == 0)
		r = read_leaf(packet->json, &ret->leaf);
	if (r == 0)
		r = read_fds(packet, ret);
	ret->spec.argv = ret->argv;
	ret->spec.fds = &ret->fds;
	ret->spec.limits = ret->limits;
	return r;
}

void spawn_request_fini(struct spawn_request *request)
{
	request->spec.info_fd_take = close_fd(request->spec.info_fd_take);
	free(request->argv);
	request->argv = NULL;
}

json_t *message_text(const char *text)
{
	_cleanup_free_ char *copy = strdup(text);

	if (!copy)
		return json_string("");
	for (char *p = copy; *p; p++)
		if (*p < 0 || (*p < ' ' && *p != '\n' && *p != '\t') || *p == 0x7f)
			*p = '?';
	return json_string(copy);
}
