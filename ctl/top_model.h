/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `execsandboxctl top` shows, without a screen: rows, their order, and what is computed of
 * them.
 *
 * Theory of operation: each answer of memory.stats replaces the rows; processor use is the
 * difference to the row of the same VM before. The selection follows its VM, not its line. Texts of
 * the daemon are made printable here, and numbers bounded.
 */
#ifndef CTL_TOP_MODEL_H
#define CTL_TOP_MODEL_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Looks that are remembered: as many as the widest terminal has columns. */
#define TOP_HISTORY   512
#define TOP_TEXT_SIZE 64

enum top_column {
	TOP_VM,
	TOP_LANGUAGE,
	TOP_STATE,
	TOP_SIZE,
	TOP_USED,
	TOP_TARGET,
	TOP_ACTUAL,
	TOP_ZRAM,
	TOP_PSS,
	TOP_CPU,
	TOP_AGE,
	TOP_COLUMNS,
};

struct top_column_info {
	const char *title;
	int width;    /* of its cells, unless a text is longer */
	int priority; /* the least goes first where there is no room */
};
extern const struct top_column_info top_columns[TOP_COLUMNS];

/* One VM; a number that is not known is negative. */
struct top_row {
	char vm[TOP_TEXT_SIZE], language[TOP_TEXT_SIZE], state[TOP_TEXT_SIZE];
	double numbers[TOP_COLUMNS]; /* bytes, a ratio, per cent, milliseconds; by column */
	double cpu_us;
	bool is_moving, is_pinned;
	bool is_spare;
	bool is_silent; /* it runs code, and its guest has not spoken for some seconds */
};

struct top_host {
	double total, available, managed, managed_available, reserve, budget; /* bytes */
	double some, full;                                                    /* per cent */
	char level[TOP_TEXT_SIZE], state[TOP_TEXT_SIZE];
};

struct top_model {
	struct top_host host;
	struct top_row *rows;
	size_t count;
	uint64_t taken_us; /* when the rows were taken; 0: never */
	enum top_column sort;
	bool is_reversed;
	size_t selected;             /* a row, if there is one */
	double history[TOP_HISTORY]; /* of the managed memory's use, 0 to 1, newest last */
	size_t history_count;
};

/*
 * The result of memory.stats, taken at now_us. 0, -EBADMSG when it is none, -ENOMEM; then the model
 * is as before.
 */
int top_model_take(struct top_model *model, const json_t *stats, uint64_t now_us);
void top_model_fini(struct top_model *model);

/* Another order; the selection stays with its VM. */
void top_model_sort(struct top_model *model, enum top_column sort, bool is_reversed);

/* Moves the selection, as far as there are rows. */
void top_model_select(struct top_model *model, long step);

/* The selected row, or NULL. */
const struct top_row *top_model_selected(const struct top_model *model);

/* Sums over all rows of what is known. */
struct top_totals {
	double size, actual, pss;
	double overcommit; /* sizes over PSS; 0: not known */
};
struct top_totals top_model_totals(const struct top_model *model);

/* What a VM may be squeezed to, in MiB: what it uses and a quarter more. */
unsigned top_row_target_mb(const struct top_row *row);

/* --- Texts --- */

/* What is not ASCII, and what steers a terminal, becomes '?'. */
void top_printable(char *text);

/* One cell as text, without blanks in numbers: "-" when it is not known, sizes as 221M. */
void top_cell(const struct top_row *row, enum top_column column, char buf[TOP_TEXT_SIZE]);

/*
 * Which columns fit into `width`, one blank between them; returns the width they take. The VM and
 * the column that is sorted by stay longest.
 */
int top_columns_fit(int width, enum top_column sort, bool ret_is_shown[TOP_COLUMNS]);

/*
 * The last `width` values of the history as one character each, in eighths of blocks or, with
 * `is_ascii`, in " .:-=+*#@". `buf` needs 3 * width + 1 bytes. Returns how many there are.
 */
size_t top_sparkline(const struct top_model *model, size_t width, bool is_ascii, char *buf);

/*
 * A VM's size as `width` characters: first what the guest uses, then what it could still use, then
 * blanks for what its balloon holds. `buf` needs 3 * width + 1 bytes; "" when it is not known.
 */
void top_bar(const struct top_row *row, size_t width, bool is_ascii, char *buf);

#endif
