/* SPDX-License-Identifier: Apache-2.0 */
/* The screen of `execsandboxctl top`: draws a model with ncurses. */
#ifndef CTL_TOP_SCREEN_H
#define CTL_TOP_SCREEN_H

#include "ctl/top_model.h"

struct top_view {
	const char *status; /* the last line: what happened, or the question that is asked */
	bool is_bad;        /* an error */
	bool shows_help;
	bool is_ascii;    /* the locale has no block characters */
	bool has_colours; /* terminal and NO_COLOR allow them */
	size_t first;     /* the row at the top: kept by top_screen_draw() */
};

/* Takes the terminal. 0, or -ENOTTY when it cannot show a screen. */
int top_screen_start(struct top_view *view);

/* Gives it back as it was. Harmless when it was never taken. */
void top_screen_stop(void);

/* The terminal has another size. */
void top_screen_resize(void);

void top_screen_draw(struct top_view *view, const struct top_model *model);

#endif
