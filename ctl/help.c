/* SPDX-License-Identifier: Apache-2.0 */
/* execsandboxctl help and version: texts made from the verb table and the method table. */
#include "ctl/help.h"

#include "ctl/ctl.h"
#include "ctl/output.h"

#include "protocol/message.h"
#include "protocol/method.h"

#include <string.h>

/* Fits a terminal of 80 columns. */
#define TEXT_COLUMNS 78
#define NAME_COLUMNS 26

void help_wrap(FILE *out, const char *text, int indent, bool has_indent)
{
	int column = has_indent ? indent : 0;
	bool is_line_start = true;

	while (*text) {
		size_t word = strcspn(text, " \n");

		if (!is_line_start && column + 1 + (int)word > TEXT_COLUMNS) {
			fputc('\n', out);
			column = 0;
			is_line_start = true;
		}
		if (word > 0) {
			int blanks = is_line_start ? indent - column : 1;

			column += fprintf(out, "%*s%.*s", blanks, "", (int)word, text);
			is_line_start = false;
		}
		text += word;
		if (*text == '\n') {
			fputc('\n', out);
			column = 0;
			is_line_start = true;
		}
		text += *text != '\0';
	}
	fputc('\n', out);
}

static void print_options(FILE *out, const struct verb_option *options)
{
	for (; options && options->name; options++) {
		char name[NAME_COLUMNS * 2];
		char letter[] = {'-', options->letter, ',', ' ', '\0'};

		snprintf(name, sizeof(name), "  %s--%s%s%s", options->letter ? letter : "    ",
			 options->name, options->argument ? " " : "", options->argument ?: "");
		fprintf(out, "%-*s", NAME_COLUMNS, name);
		help_wrap(out, options->help, NAME_COLUMNS, true);
	}
}

void help_print_all(FILE *out)
{
	fprintf(out, "Usage: execsandboxctl [--socket PATH] [--json] VERB ...\n"
		     "Runs untrusted code in microVMs, by the execsandboxd daemon.\n\n");
	for (const struct verb *const *verb = verb_table; *verb; verb++)
		fprintf(out, "  %-16s %s\n", (*verb)->name, (*verb)->summary);
	fprintf(out, "\nOptions of every verb:\n");
	print_options(out, common_options);
	fprintf(out, "\n'execsandboxctl help VERB' tells more. Try: execsandboxctl run -c "
		     "'print(6 * 7)'\n");
}

static void print_methods(FILE *out)
{
	fprintf(out, "\nMethods:\n");
	for (const struct method *method = method_table; method->name; method++) {
		fprintf(out, "  %-*s", NAME_COLUMNS - 2, method->name);
		help_wrap(out, method->help, NAME_COLUMNS, true);
	}
}

void help_print_verb(FILE *out, const struct verb *verb)
{
	fprintf(out, "Usage: execsandboxctl %s%s%s%s\n%s.\n", verb->name,
		verb->options ? " [OPTION...]" : "", *verb->synopsis ? " " : "", verb->synopsis,
		verb->summary);
	if (verb->details) {
		fputc('\n', out);
		help_wrap(out, verb->details, 0, false);
	}
	fputc('\n', out);
	print_options(out, verb->options);
	print_options(out, common_options);
	if (verb == &verb_call)
		print_methods(out);
}

static void print_params(FILE *out, const struct param *params, int indent)
{
	for (const struct param *param = params; param->name; param++) {
		fprintf(out, "%*s%-*s %-8s %s%s\n", indent, "", 20 - indent, param->name,
			param_type_name(param->type), param->help,
			param->is_required ? " (required)" : "");
		if (param->fields)
			print_params(out, param->fields, indent + 2);
	}
}

static void print_method(FILE *out, const struct method *method)
{
	fprintf(out, "Method %s%s\n%s.\nResult: %s\n", method->name,
		method->access == ACCESS_ADMIN ? " (admin)" : "", method->help, method->result);
	if (method->params->name)
		fprintf(out, "\nParameters:\n");
	print_params(out, method->params, 2);
}

enum { HELP_MAN };

static const struct verb_option help_options[] = {
	[HELP_MAN] = {"man", 0, OPTION_FLAG, NULL, 0, 0, "Write the manual page, as roff"},
	{.name = NULL},
};

static int help(struct ctl *ctl UNUSED, const struct arguments *arguments)
{
	char **words = (char **)arguments->operands;
	int used = 0;
	bool is_group;
	const struct verb *verb = verb_find(words, (int)arguments->operand_count, &used, &is_group);
	const struct method *method = arguments->operand_count ? method_find(words[0]) : NULL;

	if (arguments->options[HELP_MAN].is_set) {
		help_print_man(stdout);
	} else if (arguments->operand_count == 0) {
		help_print_all(stdout);
	} else if (verb) {
		help_print_verb(stdout, verb);
	} else if (is_group) {
		help_print_all(stdout);
	} else if (method) {
		print_method(stdout, method);
	} else {
		output_error("There is no verb or method '%s'", words[0]);
		output_hint("execsandboxctl help");
		return EXIT_USAGE;
	}
	return EXIT_OK;
}

const struct verb verb_help = {
	.name = "help",
	.synopsis = "[VERB | METHOD]",
	.summary = "Show help about a verb, or about a method of the API",
	.options = help_options,
	.operands_max = 2,
	.usage_status = EXIT_USAGE,
	.handler = help,
};

static int version(struct ctl *ctl, const struct arguments *arguments UNUSED)
{
	json_auto_t *versions = json_pack("{s:s, s:i}", "version", EXECSANDBOX_VERSION,
					  "link_version", LINK_VERSION);

	if (ctl->is_json)
		return ctl_printed(output_json(versions, false));
	printf("execsandboxctl %s\n", EXECSANDBOX_VERSION);
	return EXIT_OK;
}

const struct verb verb_version = {
	.name = "version",
	.synopsis = "",
	.summary = "Show the version of execsandboxctl; 'status' shows the daemon's",
	.usage_status = EXIT_USAGE,
	.handler = version,
};
