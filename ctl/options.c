/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of one verb: getopt_long driven by the verb's table of options. */
#include "ctl/options.h"

#include "base/util.h"

#include <errno.h>
#include <getopt.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

const struct verb_option common_options[] = {
	[COMMON_SOCKET] = {.name = "socket",
			   .letter = 's',
			   .type = OPTION_TEXT,
			   .argument = "PATH",
			   .help = "Socket of the daemon (else EXECSANDBOX_SOCKET, else the "
				   "configured one)"},
	[COMMON_JSON] = {.name = "json", .type = OPTION_FLAG, .help = "Print JSON on stdout"},
	[COMMON_HELP] = {.name = "help", .letter = 'h', .type = OPTION_FLAG, .help = "Show help"},
	[COMMON_COUNT] = {.name = NULL},
};

/* What getopt_long returns for a long option: beyond every character, common ones first. */
#define LONG_BASE 256

struct parser {
	const struct verb_option *options;
	struct arguments *arguments;
	struct option longs[OPTIONS_MAX + COMMON_COUNT + 1];
	char shorts[3 + 2 * (OPTIONS_MAX + COMMON_COUNT)]; /* zeroed: always ends in NUL */
	size_t shorts_len;
	char *why;
};

static size_t add_options(struct parser *parser, const struct verb_option *options, size_t count,
			  int base)
{
	for (size_t i = 0; i < OPTIONS_MAX && options[i].name; i++) {
		bool has_value = options[i].type != OPTION_FLAG;

		parser->longs[count++] = (struct option){
			.name = options[i].name,
			.has_arg = has_value ? required_argument : no_argument,
			.val = base + (int)i,
		};
		if (!options[i].letter)
			continue;
		parser->shorts[parser->shorts_len++] = options[i].letter;
		if (has_value)
			parser->shorts[parser->shorts_len++] = ':';
	}
	return count;
}

/* The option that getopt's return value means, and where its value goes. */
static const struct verb_option *find_option(struct parser *parser, int code,
					     struct option_value **ret_value)
{
	const struct verb_option *tables[] = {common_options, parser->options};
	struct option_value *values[] = {parser->arguments->common, parser->arguments->options};
	int bases[] = {LONG_BASE, LONG_BASE + COMMON_COUNT};

	for (size_t t = 0; t < ELEMENTSOF(tables); t++) {
		for (size_t i = 0; i < OPTIONS_MAX && tables[t][i].name; i++) {
			if (code != bases[t] + (int)i && code != tables[t][i].letter)
				continue;
			*ret_value = &values[t][i];
			return &tables[t][i];
		}
	}
	return NULL;
}

int parse_number(const char *text, double *ret)
{
	char *end;
	double number;

	if (!*text || strspn(text, "0123456789.eE+-") != strlen(text))
		return -EINVAL;
	errno = 0;
	number = strtod(text, &end);
	if (errno || *end || !isfinite(number))
		return -EINVAL;
	*ret = number;
	return 0;
}

int parse_integer(const char *text, json_int_t *ret)
{
	double number;

	if (parse_number(text, &number) < 0 || fabs(number) >= 0x1p53 || number != trunc(number))
		return -EINVAL;
	*ret = (json_int_t)number;
	return 0;
}

int parse_size(const char *text, double *ret_bytes)
{
	static const char letters[] = "KMGT";
	size_t len = strspn(text, "0123456789.");
	_cleanup_free_ char *number_text = strndup(text, len);
	const char *unit = text + len, *letter = *unit ? strchr(letters, *unit) : NULL;
	double number;

	if (!number_text || parse_number(number_text, &number) < 0)
		return -EINVAL;
	if (*unit && (!letter || (strcmp(unit + 1, "") != 0 && strcmp(unit + 1, "iB") != 0)))
		return -EINVAL;
	for (long power = letter ? letter - letters : -1; power >= 0; power--)
		number *= 1024;
	number = trunc(number);
	if (number < 1 || number > (double)(1ull << 50))
		return -EINVAL;
	*ret_bytes = number;
	return 0;
}

static int refuse(struct parser *parser, const char *format, ...) PRINTF_LIKE(2, 3);

static int refuse(struct parser *parser, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	vsnprintf(parser->why, OPTIONS_WHY_SIZE, format, list);
	va_end(list);
	return -EINVAL;
}

static int set_number(struct parser *parser, const struct verb_option *option,
		      struct option_value *value, const char *text)
{
	const char *kind = option->type == OPTION_INTEGER ? "an integer" : "a number";
	double number;

	if (parse_number(text, &number) < 0 ||
	    (option->type == OPTION_INTEGER && number != trunc(number)))
		return refuse(parser, "--%s wants %s, not '%s'", option->name, kind, text);
	if ((option->min || option->max) && (number < option->min || number > option->max))
		return refuse(parser, "--%s wants %s from %g to %g, not '%s'", option->name, kind,
			      option->min, option->max, text);
	value->number = number;
	return 0;
}

static int add_pair(struct parser *parser, const struct verb_option *option,
		    struct option_value *value, const char *text)
{
	const char *equals = strchr(text, '=');
	_cleanup_free_ char *name = NULL;

	if (!equals || equals == text)
		return refuse(parser, "--%s wants NAME=VALUE, not '%s'", option->name, text);
	name = strndup(text, (size_t)(equals - text));
	if (!value->pairs)
		value->pairs = json_object();
	if (!name || !value->pairs)
		return -ENOMEM;
	if (json_object_set_new(value->pairs, name, json_string(equals + 1)) < 0)
		return refuse(parser, "--%s: '%s' is not UTF-8", option->name, text);
	return 0;
}

static int set_value(struct parser *parser, const struct verb_option *option,
		     struct option_value *value, const char *text)
{
	value->is_set = true;
	switch (option->type) {
	case OPTION_FLAG:
		return 0;
	case OPTION_TEXT:
		value->text = text;
		return 0;
	case OPTION_NUMBER:
	case OPTION_INTEGER:
		return set_number(parser, option, value, text);
	case OPTION_PAIR:
		return add_pair(parser, option, value, text);
	}
	return 0;
}

/* Reports what getopt refused; `word` is the word it stood at. */
static int refuse_word(struct parser *parser, int code, const char *word)
{
	struct option_value *value;
	const struct verb_option *option = optopt ? find_option(parser, optopt, &value) : NULL;

	if (code == ':' && option)
		return refuse(parser, "--%s wants %s", option->name, option->argument);
	if (option && option->type == OPTION_FLAG)
		return refuse(parser, "--%s takes no value", option->name);
	if (optopt > 0 && optopt < LONG_BASE)
		return refuse(parser, "Unknown option '-%c'", optopt);
	return refuse(parser, "Unknown option '%s'", word);
}

static int parse_words(struct parser *parser, int argc, char **argv)
{
	struct arguments *arguments = parser->arguments;
	const struct verb_option *option;
	struct option_value *value;
	int code, r;

	optind = 0; /* GNU getopt starts afresh */
	opterr = 0;
	while ((code = getopt_long(argc, argv, parser->shorts, parser->longs, NULL)) != -1) {
		if (code == 1) { /* an operand, in its place: the leading '-' of shorts */
			arguments->operands[arguments->operand_count++] = optarg;
			continue;
		}
		option = code == '?' || code == ':' ? NULL : find_option(parser, code, &value);
		if (!option)
			return refuse_word(parser, code, argv[MAX(optind - 1, 1)]);
		r = set_value(parser, option, value, optarg);
		if (r < 0)
			return r;
	}
	return 0;
}

int options_parse(const struct verb_option *options, int argc, char **argv, bool stop_at_operand,
		  struct arguments *ret, int *ret_used, char why[OPTIONS_WHY_SIZE])
{
	static const struct verb_option none[] = {{.name = NULL}};
	struct parser parser = {.options = options ?: none, .arguments = ret, .why = why};
	size_t count;
	int r;

	*ret = (struct arguments){0};
	snprintf(why, OPTIONS_WHY_SIZE, "No memory left");
	ret->operands = calloc((size_t)argc + 1, sizeof(*ret->operands));
	if (!ret->operands)
		return -ENOMEM;
	/* '+' stops at the first operand, '-' hands operands over in order; ':' tells a missing
	 * value from an unknown option. */
	parser.shorts[parser.shorts_len++] = stop_at_operand ? '+' : '-';
	parser.shorts[parser.shorts_len++] = ':';
	count = add_options(&parser, common_options, 0, LONG_BASE);
	add_options(&parser, parser.options, count, LONG_BASE + COMMON_COUNT);
	r = parse_words(&parser, argc, argv);
	if (r < 0)
		return r;
	if (ret_used)
		*ret_used = optind;
	ret->rest = argv + optind;
	ret->rest_count = (size_t)(argc - optind);
	return 0;
}

void arguments_clear(struct arguments *arguments)
{
	for (size_t i = 0; i < OPTIONS_MAX; i++)
		json_decref(arguments->options[i].pairs);
	free(arguments->operands);
	*arguments = (struct arguments){0};
}
