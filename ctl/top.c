/* SPDX-License-Identifier: Apache-2.0 */
/*
 * execsandboxctl top: the memory of host and VMs, live.
 *
 * Theory of operation: every interval memory.stats is asked, its answer goes into the model
 * (top_model.h), and that is drawn (top_screen.h). Keys change the model at once. `s` and `r` send
 * memory.balloon, whose answer comes when the guest has followed; the screen goes on meanwhile. A
 * daemon that goes away is said and tried again with each interval.
 */
#include "ctl/ctl.h"
#include "ctl/output.h"
#include "ctl/top_model.h"
#include "ctl/top_once.h"
#include "ctl/top_screen.h"

#include "base/util.h"

#include <errno.h>
#include <ncurses.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* The daemon measures a VM once a second at most. */
#define INTERVAL_SECONDS 2.
#define INTERVAL_MIN     0.25
#define INTERVAL_MAX     60.

enum { TOP_ONCE, TOP_INTERVAL };

static const struct verb_option options[] = {
	[TOP_ONCE] = {"once", 0, OPTION_FLAG, NULL, 0, 0,
		      "Print the figures once, without a screen"},
	[TOP_INTERVAL] = {"interval", 'i', OPTION_NUMBER, "SECONDS", INTERVAL_MIN, INTERVAL_MAX,
			  "Time between two looks; 2 by default"},
	{.name = NULL},
};

#define KEYS          "q quit   ? help   s squeeze   r release   < > sort   R reverse"
#define KEY_ESCAPE    27
#define KEY_DELETE    127
#define KEY_CONTROL_H 8

/* How long the outcome of a key is shown. */
#define SAID_US (10 * 1000000ull)
/* memory.stats is answered at once; a daemon that takes longer is in trouble. */
#define ANSWER_US (5 * 1000000ull)

#define LINE_SIZE 256

struct top {
	struct ctl *ctl;
	struct top_model model;
	struct top_view view;
	double interval;
	bool is_over;

	bool is_asking;    /* for memory.stats */
	uint64_t asked_us; /* since when */

	/* The last line, the first of these that there is. */
	bool has_question;
	char question[LINE_SIZE];
	char trouble[LINE_SIZE]; /* with the daemon; "": none */
	char said[LINE_SIZE];    /* what came of a key */
	bool is_said_bad;
	uint64_t said_us;

	char squeezed_vm[TOP_TEXT_SIZE]; /* whom the question is about */
	char digits[8];

	ev_timer tick;
	ev_io keys;
	ev_signal winch;
};

/* --- The last line --- */

static void write_line(char line[LINE_SIZE], const char *format, ...) PRINTF_LIKE(2, 3);
static void write_line(char line[LINE_SIZE], const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(line, LINE_SIZE, format, args);
	va_end(args);
	top_printable(line);
}

/* write_line(say(top, is_bad), …) */
static char *say(struct top *top, bool is_bad)
{
	top->is_said_bad = is_bad;
	top->said_us = now_us();
	return top->said;
}

static const char *error_message(const json_t *error)
{
	return json_string_value(json_object_get(error, "message")) ?: "The daemon refuses";
}

static void draw(struct top *top)
{
	bool is_said = top->said_us > 0 && now_us() - top->said_us < SAID_US;

	top->view.is_bad = false;
	top->view.status = KEYS;
	if (top->has_question) {
		top->view.status = top->question;
	} else if (*top->trouble) {
		top->view.status = top->trouble;
		top->view.is_bad = true;
	} else if (is_said) {
		top->view.status = top->said;
		top->view.is_bad = top->is_said_bad;
	}
	top_screen_draw(&top->view, &top->model);
}

/* --- memory.stats --- */

static void on_stats(void *user, const json_t *result, const json_t *error)
{
	struct top *top = user;

	top->is_asking = false;
	if (!result && !error)
		return; /* live() says that the connection ended */
	*top->trouble = '\0';
	if (error)
		write_line(top->trouble, "%s", error_message(error));
	else if (top_model_take(&top->model, result, now_us()) < 0)
		write_line(top->trouble, "The daemon's answer is not understood");
	draw(top);
}

static void ask(struct top *top)
{
	int r = ctl_connect(top->ctl);

	if (r < 0) {
		write_line(top->trouble, "No daemon at '%s': %s; trying again",
			   top->ctl->socket_path, strerror(-r));
	} else if (!top->is_asking) {
		top->is_asking = client_request(top->ctl->client, "memory.stats", NULL, on_stats,
						top, NULL) == 0;
		top->asked_us = now_us();
	} else if (now_us() - top->asked_us > ANSWER_US) {
		write_line(top->trouble, "The daemon does not answer");
	}
}

static void on_tick(struct ev_loop *ev UNUSED, ev_timer *timer, int events UNUSED)
{
	struct top *top = timer->data;

	ask(top);
	draw(top);
	loop_timer_start(top->ctl->loop, &top->tick, top->interval);
}

/* --- memory.balloon --- */

static void on_balloon(void *user, const json_t *result, const json_t *error)
{
	struct top *top = user;
	bool is_reached = json_is_true(json_object_get(result, "reached"));
	char actual[BYTES_TEXT_SIZE];

	if (!result && !error)
		return;
	if (error)
		write_line(say(top, true), "%s", error_message(error));
	else
		write_line(say(top, !is_reached), "%s has %s%s",
			   json_string_value(json_object_get(result, "vm")) ?: "?",
			   format_bytes(json_number_value(json_object_get(result, "actual_bytes")),
					actual),
			   is_reached ? "" : " and does not follow");
	draw(top);
}

static void set_target(struct top *top, const char *vm, json_int_t target_mb)
{
	json_t *params = json_pack("{s:s, s:I}", "vm", vm, "target_mb", target_mb);

	if (!top->ctl->client)
		json_decref(params);
	if (!top->ctl->client ||
	    client_request(top->ctl->client, "memory.balloon", params, on_balloon, top, NULL) < 0)
		write_line(say(top, true), "The daemon cannot be asked now");
	else
		write_line(say(top, false), "%s to %lld MiB ...", vm, (long long)target_mb);
}

/* --- The question how far to squeeze --- */

static void write_question(struct top *top)
{
	write_line(top->question, "Squeeze %s to how many MiB: %s_   (Enter; Esc: not at all)",
		   top->squeezed_vm, top->digits);
}

static void begin_question(struct top *top)
{
	const struct top_row *row = top_model_selected(&top->model);

	if (!row)
		return;
	top->has_question = true;
	snprintf(top->squeezed_vm, sizeof(top->squeezed_vm), "%s", row->vm);
	snprintf(top->digits, sizeof(top->digits), "%u", top_row_target_mb(row) % 10000000);
	write_question(top);
}

static void on_answer(struct top *top, int key)
{
	size_t len = strlen(top->digits);

	if (key == KEY_ESCAPE || key == 'q') {
		top->has_question = false;
	} else if ((key == '\r' || key == '\n' || key == KEY_ENTER) && len > 0) {
		top->has_question = false;
		set_target(top, top->squeezed_vm, strtol(top->digits, NULL, 10));
	} else if ((key == KEY_BACKSPACE || key == KEY_DELETE || key == KEY_CONTROL_H) && len > 0) {
		top->digits[len - 1] = '\0';
	} else if (key >= '0' && key <= '9' && len < sizeof(top->digits) - 1) {
		top->digits[len] = (char)key;
		top->digits[len + 1] = '\0';
	}
	write_question(top);
}

/* --- Keys --- */

static void release(struct top *top)
{
	const struct top_row *row = top_model_selected(&top->model);

	if (row && row->numbers[TOP_SIZE] > 0)
		set_target(top, row->vm, (json_int_t)(row->numbers[TOP_SIZE] / 1048576));
}

static void sort_by(struct top *top, int step)
{
	int column = ((int)top->model.sort + step + TOP_COLUMNS) % TOP_COLUMNS;

	top_model_sort(&top->model, (enum top_column)column, top->model.is_reversed);
}

static void set_interval(struct top *top, double seconds)
{
	top->interval = MIN(MAX(seconds, INTERVAL_MIN), INTERVAL_MAX);
	write_line(say(top, false), "Every %g s", top->interval);
	loop_timer_start(top->ctl->loop, &top->tick, top->interval);
}

/* How far a key moves the selection; 0: it does not. */
static long step_of(int key)
{
	switch (key) {
	case KEY_UP:
	case 'k':
		return -1;
	case KEY_DOWN:
	case 'j':
		return 1;
	case KEY_PPAGE:
		return -MAX(LINES / 2, 1);
	case KEY_NPAGE:
		return MAX(LINES / 2, 1);
	case KEY_HOME:
		return -(1 << 20);
	case KEY_END:
		return 1 << 20;
	default:
		return 0;
	}
}

static void on_key(struct top *top, int key)
{
	switch (key) {
	case 'q':
		top->is_over = true;
		break;
	case '?':
	case 'h':
		top->view.shows_help = !top->view.shows_help;
		break;
	case KEY_ESCAPE:
		top->view.shows_help = false;
		break;
	case 's':
		begin_question(top);
		break;
	case 'r':
		release(top);
		break;
	case '<':
	case KEY_LEFT:
		sort_by(top, -1);
		break;
	case '>':
	case KEY_RIGHT:
		sort_by(top, 1);
		break;
	case 'R':
		top_model_sort(&top->model, top->model.sort, !top->model.is_reversed);
		break;
	case '+':
		set_interval(top, top->interval / 2);
		break;
	case '-':
		set_interval(top, top->interval * 2);
		break;
	default:
		top_model_select(&top->model, step_of(key));
	}
}

static bool is_hung_up(void)
{
	struct pollfd pollfd = {.fd = STDIN_FILENO, .events = POLLIN};

	return poll(&pollfd, 1, 0) > 0 && (pollfd.revents & (POLLHUP | POLLERR | POLLNVAL));
}

static void on_input(struct ev_loop *ev UNUSED, ev_io *io, int events UNUSED)
{
	struct top *top = io->data;
	int key;

	while (!top->is_over && (key = getch()) != ERR)
		if (top->has_question)
			on_answer(top, key);
		else
			on_key(top, key);
	if (is_hung_up())
		top->is_over = true;
	if (top->is_over)
		loop_stop(top->ctl->loop);
	else
		draw(top);
}

static void on_winch(struct ev_loop *ev UNUSED, ev_signal *signal, int events UNUSED)
{
	top_screen_resize();
	draw(signal->data);
}

/* --- Life --- */

static void start_watchers(struct top *top)
{
	struct ev_loop *ev = loop_ev(top->ctl->loop);

	ev_timer_init(&top->tick, on_tick, 0., 0.);
	ev_io_init(&top->keys, on_input, STDIN_FILENO, EV_READ);
	ev_signal_init(&top->winch, on_winch, SIGWINCH);
	top->tick.data = top->keys.data = top->winch.data = top;
	ev_io_start(ev, &top->keys);
	ev_signal_start(ev, &top->winch);
	loop_timer_start(top->ctl->loop, &top->tick, top->interval);
}

static void stop_watchers(struct top *top)
{
	struct ev_loop *ev = loop_ev(top->ctl->loop);

	ev_io_stop(ev, &top->keys);
	ev_signal_stop(ev, &top->winch);
	loop_timer_stop(top->ctl->loop, &top->tick);
}

/* The loop also ends with the connection: then it is run again, and the next tick connects. */
static void live(struct top *top)
{
	start_watchers(top);
	ask(top);
	draw(top);
	while (!top->is_over && !top->ctl->interrupted) {
		loop_run(top->ctl->loop);
		if (top->is_over || top->ctl->interrupted || top->ctl->client)
			continue;
		write_line(top->trouble, "The daemon closed the connection; trying again");
		draw(top);
	}
	stop_watchers(top);
}

static int top(struct ctl *ctl, const struct arguments *arguments)
{
	const struct option_value *interval = &arguments->options[TOP_INTERVAL];
	struct top state = {.ctl = ctl,
			    .model = {.sort = TOP_PSS},
			    .interval = interval->is_set ? interval->number : INTERVAL_SECONDS};
	int r;

	if (arguments->options[TOP_ONCE].is_set || ctl->is_json)
		return top_once(ctl);
	/* A daemon that is not there at the start is an error like any other verb's. */
	r = ctl_connect(ctl);
	if (r < 0)
		return ctl_report_connect(ctl, r);
	if (top_screen_start(&state.view) < 0) {
		output_error("top: this is no terminal that can show a screen");
		output_hint("execsandboxctl top --once prints the figures");
		return EXIT_USAGE;
	}
	live(&state);
	top_screen_stop();
	top_model_fini(&state.model);
	return EXIT_OK;
}

const struct verb verb_top = {
	.name = "top",
	.synopsis = "",
	.summary = "Watch the memory of host and VMs, and move balloons",
	.details =
		"USED is what the guest says it uses, TARGET what its balloon is to leave it, "
		"ACTUAL "
		"what that leaves, ZRAM how well it compresses, PSS what its QEMU takes of the "
		"host, "
		"CPU% its share of one processor since the last look (at the first one since its "
		"start). '~' behind a state: memory moves; '!': the target was set by hand. "
		"Columns "
		"for which a terminal has no room are left out.\n\n"
		"Keys: up, down, j, k select; < > sort by another column, R the other way round; s "
		"squeezes the selected VM, r gives it all back (admin); + - change the interval; ? "
		"helps; q quits.\n\n"
		"--once and --json are for scripts: a table, or the result of memory.stats.",
	.options = options,
	.usage_status = EXIT_USAGE,
	.handler = top,
};
