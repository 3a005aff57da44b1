/* SPDX-License-Identifier: Apache-2.0 */
/* The screen of `execsandboxctl top`: draws a model with ncurses. */
#include "ctl/top_screen.h"

#include "base/util.h"
#include "ctl/output.h"

#include <errno.h>
#include <langinfo.h>
#include <ncurses.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <term.h>

enum { PAIR_GOOD = 1, PAIR_WARNING, PAIR_BAD };

/* Host, totals, history, an empty line, the titles; a low terminal has only the first and last. */
#define HEAD_LINES     5
#define HEAD_LINES_LOW 2
#define LOW            10

/* A bar that is shorter says nothing, a longer one no more. */
#define BAR_MIN 8
#define BAR_MAX 40

/* "In use " before the sparkline, " 100 %" behind it. */
#define SPARK_FROM 7
#define SPARK_TAIL 6

static bool is_started;

/* newterm() finds it out as well, but leaks when it fails. */
static bool is_known_terminal(void)
{
	const char *name = getenv("TERM");
	int error;

	if (!name || !*name || strcmp(name, "dumb") == 0 ||
	    setupterm(name, STDOUT_FILENO, &error) == ERR)
		return false;
	del_curterm(cur_term);
	return true;
}

int top_screen_start(struct top_view *view)
{
	const char *no_color = getenv("NO_COLOR");

	view->is_ascii = strcmp(nl_langinfo(CODESET), "UTF-8") != 0;
	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO) || !is_known_terminal() ||
	    !newterm(NULL, stdout, stdin))
		return -ENOTTY;
	is_started = true;
	cbreak();
	noecho();
	nonl();
	keypad(stdscr, true);
	nodelay(stdscr, true);
	set_escdelay(25); /* Escape alone is a key too: it need not wait a second for more */
	curs_set(0);
	view->has_colours = has_colors() && !(no_color && *no_color);
	if (view->has_colours) {
		start_color();
		use_default_colors();
		init_pair(PAIR_GOOD, COLOR_GREEN, -1);
		init_pair(PAIR_WARNING, COLOR_YELLOW, -1);
		init_pair(PAIR_BAD, COLOR_RED, -1);
	}
	return 0;
}

void top_screen_stop(void)
{
	if (is_started)
		endwin();
	is_started = false;
}

void top_screen_resize(void)
{
	struct winsize size;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 && size.ws_col > 0)
		resizeterm(size.ws_row, size.ws_col);
	clear();
}

/* --- Lines --- */

/* ASCII, cut at the edge. */
static void put(int y, int x, const char *text)
{
	if (y >= 0 && y < LINES && x < COLS)
		mvaddnstr(y, x, text, COLS - x);
}

static attr_t colour(const struct top_view *view, int pair)
{
	return view->has_colours ? (attr_t)COLOR_PAIR(pair) : A_BOLD;
}

/* A line that grows by parts. One that does not fit is left out, and all that follow it. */
struct line {
	int y, x;
};

static void add(struct line *line, attr_t attribute, const char *format, ...) PRINTF_LIKE(3, 4);
static void add(struct line *line, attr_t attribute, const char *format, ...)
{
	char text[128];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (line->x + (int)strlen(text) > COLS) {
		line->x = COLS;
		return;
	}
	attron(attribute);
	put(line->y, line->x, text);
	attroff(attribute);
	line->x += (int)strlen(text) + 3;
}

static int pair_of_level(const char *level)
{
	if (strcmp(level, "green") == 0)
		return PAIR_GOOD;
	return strcmp(level, "red") == 0 || strcmp(level, "black") == 0 ? PAIR_BAD : PAIR_WARNING;
}

static const char *bytes(double number, char buf[BYTES_TEXT_SIZE])
{
	return number < 0 ? "-" : format_bytes(number, buf);
}

static void draw_host(const struct top_view *view, const struct top_host *host, int y)
{
	char available[BYTES_TEXT_SIZE], total[BYTES_TEXT_SIZE];
	struct line line = {y, SPARK_FROM};

	put(y, 0, "Host");
	add(&line, colour(view, pair_of_level(host->level)) | A_BOLD, "%.16s (%.16s)", host->level,
	    host->state);
	add(&line, A_NORMAL, "%s of %s available", bytes(host->available, available),
	    bytes(host->total, total));
	if (host->some >= 0)
		add(&line, A_NORMAL, "PSI some %.1f full %.1f", host->some, host->full);
	if (host->budget > 0)
		add(&line, A_NORMAL, "budget %s", bytes(host->budget, total));
	add(&line, A_NORMAL, "reserve %s", bytes(host->reserve, total));
}

static void draw_totals(const struct top_model *model, int y)
{
	struct top_totals totals = top_model_totals(model);
	char text[BYTES_TEXT_SIZE];
	struct line line = {y, SPARK_FROM};

	put(y, 0, "VMs");
	add(&line, A_NORMAL, "%zu of %s", model->count, format_bytes(totals.size, text));
	add(&line, A_NORMAL, "balloons leave %s", format_bytes(totals.actual, text));
	add(&line, A_NORMAL, "PSS %s", format_bytes(totals.pss, text));
	if (totals.overcommit > 0)
		add(&line, A_NORMAL, "overcommit %.1f x", totals.overcommit);
}

/* The newest value is at the right. */
static void draw_history(const struct top_view *view, const struct top_model *model, int y)
{
	int width = MIN(COLS - SPARK_FROM - SPARK_TAIL, TOP_HISTORY);
	char text[3 * TOP_HISTORY + 1];
	int count;

	if (width <= 0 || model->history_count == 0)
		return;
	count = (int)top_sparkline(model, (size_t)width, view->is_ascii, text);
	put(y, 0, "In use");
	attron(colour(view, pair_of_level(model->host.level)));
	mvaddstr(y, SPARK_FROM + width - count, text);
	attroff(colour(view, pair_of_level(model->host.level)));
	snprintf(text, sizeof(text), "%4.0f %%", 100 * model->history[model->history_count - 1]);
	put(y, COLS - SPARK_TAIL, text);
}

/* --- The table --- */

struct table {
	bool is_shown[TOP_COLUMNS];
	int bar_from, bar_width; /* 0: none */
	int rows_from, room;
};

static struct table arrange(const struct top_model *model)
{
	struct table table;

	table.bar_from = top_columns_fit(COLS, model->sort, table.is_shown) + 2;
	table.bar_width = MIN(COLS - table.bar_from, BAR_MAX);
	if (table.bar_width < BAR_MIN)
		table.bar_width = 0;
	table.rows_from = LINES < LOW ? HEAD_LINES_LOW : HEAD_LINES;
	table.room = MAX(LINES - table.rows_from - 1, 0);
	return table;
}

/* Texts to the left, numbers to the right. Returns the column behind it. */
static int put_cell(int y, int x, enum top_column column, const char *cell)
{
	char text[2 * TOP_TEXT_SIZE];
	int width = top_columns[column].width;

	snprintf(text, sizeof(text), "%*.*s", column <= TOP_STATE ? -width : width, width, cell);
	put(y, x, text);
	return x + width + 1;
}

static void draw_titles(const struct table *table, const struct top_model *model)
{
	int x = 0, y = table->rows_from - 1;

	for (enum top_column column = TOP_VM; column < TOP_COLUMNS; column++) {
		attr_t attribute = A_BOLD | (column == model->sort ? A_UNDERLINE : 0);

		if (!table->is_shown[column])
			continue;
		attron(attribute);
		x = put_cell(y, x, column, top_columns[column].title);
		attroff(attribute);
	}
	attron(A_BOLD);
	if (table->bar_width > 0)
		put(y, table->bar_from, "MEMORY");
	attroff(A_BOLD);
}

static void draw_bar(const struct top_view *view, const struct table *table, int y,
		     const struct top_row *row)
{
	char text[3 * BAR_MAX + 1];

	if (row->is_silent) {
		attron(colour(view, PAIR_WARNING));
		put(y, table->bar_from, "silent");
		attroff(colour(view, PAIR_WARNING));
		return;
	}
	top_bar(row, (size_t)table->bar_width, view->is_ascii, text);
	attron(colour(view, PAIR_GOOD));
	mvaddstr(y, table->bar_from, text);
	attroff(colour(view, PAIR_GOOD));
}

static attr_t row_attribute(const struct top_view *view, const struct top_row *row)
{
	if (row->is_moving)
		return colour(view, PAIR_WARNING);
	return row->is_spare || row->is_silent ? A_DIM : A_NORMAL;
}

static void draw_row(const struct top_view *view, const struct table *table, int y,
		     const struct top_row *row, bool is_selected)
{
	attr_t attribute = row_attribute(view, row) | (is_selected ? A_REVERSE : 0);
	int x = 0;

	attron(attribute);
	mvhline(y, 0, ' ', table->bar_from - 2);
	for (enum top_column column = TOP_VM; column < TOP_COLUMNS; column++) {
		char cell[TOP_TEXT_SIZE];

		if (!table->is_shown[column])
			continue;
		top_cell(row, column, cell);
		x = put_cell(y, x, column, cell);
	}
	attroff(attribute);
	if (table->bar_width > 0)
		draw_bar(view, table, y, row);
}

static void draw_rows(struct top_view *view, const struct table *table,
		      const struct top_model *model)
{
	size_t room = (size_t)table->room;

	if (model->selected < view->first)
		view->first = model->selected;
	if (room > 0 && model->selected >= view->first + room)
		view->first = model->selected - room + 1;
	if (view->first + room > model->count)
		view->first = model->count - MIN(room, model->count);
	for (size_t i = 0; i < room && view->first + i < model->count; i++)
		draw_row(view, table, table->rows_from + (int)i, &model->rows[view->first + i],
			 view->first + i == model->selected);
}

static void draw_help(const struct top_view *view, const struct table *table)
{
	static const char *const texts[] = {
		"up down j k   select a VM; Home, End, Page up, Page down",
		"< >           sort by another column     R   the other way round",
		"s             squeeze: set what the VM keeps; it holds until released",
		"r             release: give the VM all of its size back",
		"+ -           look more or less often    q   quit",
		"",
		"~ behind a state: its memory moves.  ! : its target was set by hand.",
		"Dim rows are spares, which wait for a run, and guests that are silent.",
	};

	for (int i = 0; i < (int)ELEMENTSOF(texts) && i < table->room; i++)
		put(table->rows_from + i, 2, texts[i]);
	if (table->room > (int)ELEMENTSOF(texts))
		put(table->rows_from + (int)ELEMENTSOF(texts), 2,
		    view->is_ascii
			    ? "MEMORY is a VM's size: # used, - free in the guest, blank: "
			      "ballooned."
			    : "MEMORY is a VM's size: full: used, grey: free, blank: ballooned.");
}

static void draw_status(const struct top_view *view)
{
	attr_t attribute = view->is_bad ? colour(view, PAIR_BAD) : A_DIM;

	move(LINES - 1, 0);
	clrtoeol();
	attron(attribute);
	put(LINES - 1, 0, view->status);
	attroff(attribute);
}

void top_screen_draw(struct top_view *view, const struct top_model *model)
{
	struct table table = arrange(model);

	erase();
	if (model->taken_us > 0) {
		draw_host(view, &model->host, 0);
		if (table.rows_from == HEAD_LINES) {
			draw_totals(model, 1);
			draw_history(view, model, 2);
		}
		draw_titles(&table, model);
	}
	if (view->shows_help)
		draw_help(view, &table);
	else
		draw_rows(view, &table, model);
	draw_status(view);
	refresh();
}
