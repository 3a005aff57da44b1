/* SPDX-License-Identifier: Apache-2.0 */
/*
 * execsandboxctl completion: the script that completes our command line in bash.
 *
 * Theory of operation: the script is functions that answer by the verb table and the method table,
 * written here, and behind them completion.bash, which asks those and the daemon. What a place
 * takes is named by the word that the help text has for it: SESSION, LANGUAGE, FILE.
 */
#include "ctl/ctl.h"
#include "ctl/output.h"

#include "protocol/method.h"

#include <string.h>

/* The text of completion.bash. */
extern const char completion_engine[];
__asm__(".pushsection .rodata\n"
	".globl completion_engine\n"
	".hidden completion_engine\n"
	"completion_engine:\n"
	".incbin \"ctl/completion.bash\"\n"
	".byte 0\n"
	".popsection\n");

static void print_option_names(const struct verb_option *options)
{
	for (; options && options->name; options++)
		printf(" --%s", options->name);
}

/* Both names of the options that take a value, each with the kind of the value. */
static void print_option_values(const struct verb_option *options)
{
	for (; options && options->name; options++) {
		if (options->type == OPTION_FLAG)
			continue;
		printf(" --%s:%s", options->name, options->argument);
		if (options->letter)
			printf(" -%c:%s", options->letter, options->argument);
	}
}

static bool takes_value(const struct verb *verb, char letter)
{
	for (const struct verb_option *option = verb->options; option && option->name; option++) {
		if (option->letter == letter)
			return option->type != OPTION_FLAG;
	}
	return false;
}

/* One word of a synopsis without its brackets; those of "SESSION[:PATH]" go, too. */
static void print_operand(const char *word, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (!strchr("[]", word[i]))
			putchar(word[i]);
	}
}

/* The operands of a synopsis: a word for each place, with bars between what may stand in one. */
static void print_operands(const struct verb *verb)
{
	const char *at = verb->synopsis;
	const char *before = "";
	bool is_value = false;

	for (size_t len; *at && *at != '('; at += len + (at[len] == ' ')) {
		const char *word = at + (*at == '[');

		len = strcspn(at, " ");
		if (strncmp(word, "-- ", 3) == 0)
			break;
		if (*word == '|') {
			before = *before ? "|" : before;
		} else if (*word == '-') {
			is_value = takes_value(verb, word[1]);
		} else if (is_value) {
			is_value = false;
		} else {
			fputs(before, stdout);
			print_operand(at, len);
			before = " ";
		}
	}
}

static void print_verb_case(const char *name, const struct verb *verb)
{
	printf("\t'%s')\n\t\toptions='", name);
	print_option_names(verb ? verb->options : NULL);
	print_option_names(common_options);
	printf("'\n\t\tvalues='");
	print_option_values(verb ? verb->options : NULL);
	print_option_values(common_options);
	printf("'\n\t\toperands='");
	if (verb)
		print_operands(verb);
	else
		printf("VERB");
	printf("'\n\t\t;;\n");
}

static void print_verbs(void)
{
	printf("# Sets options, values and operands of a verb; of none for ''.\n"
	       "_execsandboxctl_verb()\n{\n\tcase $1 in\n");
	print_verb_case("", NULL);
	for (const struct verb *const *verb = verb_table; *verb; verb++)
		print_verb_case((*verb)->name, *verb);
	printf("\t*) return 1 ;;\n\tesac\n}\n\n");
}

/* Is `name` this word of `len` bytes, alone or with a second one behind it? */
static bool begins_with_word(const char *name, const char *word, size_t len)
{
	return strncmp(name, word, len) == 0 && (name[len] == '\0' || name[len] == ' ');
}

static bool is_first_of_word(const struct verb *const *verb, size_t len)
{
	const struct verb *const *at = verb_table;

	while (!begins_with_word((*at)->name, (*verb)->name, len))
		at++;
	return at == verb;
}

/* The next verb from `verb` on that is this word and a second one, or NULL. */
static const struct verb *const *find_in_group(const struct verb *const *verb, const char *word,
					       size_t len)
{
	while (*verb && (!begins_with_word((*verb)->name, word, len) || !(*verb)->name[len]))
		verb++;
	return *verb ? verb : NULL;
}

static void print_groups(void)
{
	printf("# Sets the second words of the verbs that begin with this one.\n"
	       "_execsandboxctl_group()\n{\n\tcase $1 in\n");
	for (const struct verb *const *verb = verb_table; *verb; verb++) {
		size_t len = strcspn((*verb)->name, " ");
		const struct verb *const *at = find_in_group(verb_table, (*verb)->name, len);

		if (!is_first_of_word(verb, len) || !at)
			continue;
		printf("\t%.*s) seconds='", (int)len, (*verb)->name);
		for (; at; at = find_in_group(at + 1, (*verb)->name, len))
			printf(" %s", (*at)->name + len + 1);
		printf("' ;;\n");
	}
	printf("\t*) return 1 ;;\n\tesac\n}\n\n");
}

/* The keys of parameters as `call` takes them: name= for texts, name:= for JSON. */
static void print_keys(const struct param *params, const char *group)
{
	for (const struct param *param = params; param->name; param++) {
		bool is_text = param->type == PARAM_STRING;

		if (param->type == PARAM_OBJECT && param->fields && !*group)
			print_keys(param->fields, param->name);
		else
			printf(" %s%s%s%s", group, *group ? "." : "", param->name,
			       is_text ? "=" : ":=");
	}
}

static void print_methods(void)
{
	printf("# Sets the keys of a method's parameters.\n"
	       "_execsandboxctl_method()\n{\n\tcase $1 in\n");
	for (const struct method *method = method_table; method->name; method++) {
		printf("\t%s) keys='", method->name);
		print_keys(method->params, "");
		printf("' ;;\n");
	}
	printf("\t*) return 1 ;;\n\tesac\n}\n\n");
}

static void print_lists(void)
{
	printf("_execsandboxctl_verbs='");
	for (const struct verb *const *verb = verb_table; *verb; verb++) {
		size_t len = strcspn((*verb)->name, " ");

		if (is_first_of_word(verb, len))
			printf(" %.*s", (int)len, (*verb)->name);
	}
	printf("'\n_execsandboxctl_methods='");
	for (const struct method *method = method_table; method->name; method++)
		printf(" %s", method->name);
	printf("'\n_execsandboxctl_languages='");
	for (const char *const *language = method_languages; *language; language++)
		printf(" %s", *language);
	printf("'\n\n");
}

static int completion(struct ctl *ctl UNUSED, const struct arguments *arguments)
{
	if (strcmp(arguments->operands[0], "bash") != 0) {
		output_error("completion: There is none for '%.64s'", arguments->operands[0]);
		output_hint("execsandboxctl completion bash");
		return EXIT_USAGE;
	}
	printf("# SPDX-License-Identifier: Apache-2.0\n"
	       "# Completion of execsandboxctl %s for bash, made by 'execsandboxctl completion "
	       "bash'.\n# shellcheck shell=bash\n\n",
	       EXECSANDBOX_VERSION);
	print_lists();
	print_verbs();
	print_groups();
	print_methods();
	fputs(completion_engine, stdout);
	return EXIT_OK;
}

const struct verb verb_completion = {
	.name = "completion",
	.synopsis = "bash",
	.summary = "Print the script that completes command lines of execsandboxctl in bash",
	.details = "It is installed beside execsandboxctl; without that, put 'source "
		   "<(execsandboxctl completion bash)' into ~/.bashrc. It completes verbs, "
		   "options, methods and their keys, files, and the ids of sessions and VMs where "
		   "a daemon answers.",
	.operands_min = 1,
	.operands_max = 1,
	.usage_status = EXIT_USAGE,
	.handler = completion,
};
