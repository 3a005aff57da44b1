/* SPDX-License-Identifier: Apache-2.0 */
/* execsandboxctl events: what happens to VMs, as it happens. */
#include "ctl/ctl.h"
#include "ctl/output.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { EVENTS_SINCE, EVENTS_COUNT };

static const struct verb_option options[] = {
	[EVENTS_SINCE] = {"since", 0, OPTION_INTEGER, "SEQ", 0, 9e15,
			  "First repeat kept events behind this sequence number"},
	[EVENTS_COUNT] = {"count", 'n', OPTION_INTEGER, "N", 1, 1e9, "End after N events"},
	{.name = NULL},
};

struct listener {
	struct ctl *ctl;
	double remaining; /* events to print; negative: no end */
	int status;
	bool is_subscribed; /* the loop runs for us, and no longer for the reply */
};

static int print_event(const struct ctl *ctl, const json_t *event)
{
	const char *time = json_string_value(json_object_get(event, "time"));
	const char *type = json_string_value(json_object_get(event, "type"));
	const char *vm = json_string_value(json_object_get(event, "vm"));
	const json_t *data = json_object_get(event, "data");
	_cleanup_free_ char *details = NULL;

	if (ctl->is_json)
		return output_json(event, true);
	if (json_object_size(data) > 0)
		details = json_dumps(data, JSON_COMPACT | JSON_REAL_PRECISION(15));
	printf("%s  %s%-20s%s  %s%s%s\n", time ?: "-", style_start(STDOUT_FILENO, STYLE_TITLE),
	       type ?: "?", style_stop(STDOUT_FILENO), vm ?: "-", details ? "  " : "",
	       details ?: "");
	return fflush(stdout) == 0 ? 0 : -errno;
}

static void on_notification(void *user, const char *method, const json_t *params)
{
	struct listener *listener = user;

	if (strcmp(method, "event") != 0 || listener->remaining == 0)
		return;
	listener->status = ctl_printed(print_event(listener->ctl, params));
	if (listener->remaining > 0)
		listener->remaining--;
	if (listener->is_subscribed && (listener->remaining == 0 || listener->status != EXIT_OK))
		loop_stop(listener->ctl->loop);
}

static json_t *make_params(const struct arguments *arguments)
{
	json_t *params = json_object(), *types = json_array();

	for (size_t i = 0; i < arguments->operand_count; i++)
		json_array_append_new(types, json_string(arguments->operands[i]));
	if (arguments->operand_count > 0)
		json_object_set(params, "types", types);
	json_decref(types);
	if (arguments->options[EVENTS_SINCE].is_set)
		json_object_set_new(
			params, "since_seq",
			json_integer((json_int_t)arguments->options[EVENTS_SINCE].number));
	return params;
}

static int events(struct ctl *ctl, const struct arguments *arguments)
{
	const struct option_value *count = &arguments->options[EVENTS_COUNT];
	struct listener listener = {.ctl = ctl, .remaining = count->is_set ? count->number : -1};
	json_auto_t *subscription = NULL;
	int status;

	ctl->on_notification = on_notification;
	ctl->notification_user = &listener;
	status = ctl_fetch(ctl, "events.subscribe", make_params(arguments), &subscription);
	if (status != EXIT_OK)
		return status;
	listener.is_subscribed = true;
	/* Kept events may have come, and been enough, together with the reply. */
	if (listener.remaining != 0 && listener.status == EXIT_OK && ctl->client)
		loop_run(ctl->loop);
	if (listener.status != EXIT_OK || listener.remaining == 0)
		return listener.status;
	if (ctl->interrupted)
		return EXIT_OK; /* Ctrl-C is how listening ends */
	output_error("The daemon closed the connection");
	return EXIT_NO_DAEMON;
}

const struct verb verb_events = {
	.name = "events",
	.synopsis = "[TYPE...]",
	.summary = "Print events as they happen, until Ctrl-C",
	.details = "TYPE is a type of event such as vm.started or a pattern such as 'vm.*'. With "
		   "--json every event is one line.",
	.options = options,
	.operands_max = 32, /* what events.subscribe takes */
	.usage_status = EXIT_USAGE,
	.handler = events,
};
