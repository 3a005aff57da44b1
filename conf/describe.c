/* SPDX-License-Identifier: Apache-2.0 */
/* The schema as documents for people. */
#include "conf/describe.h"

#include "conf/schema.h"

#include <string.h>

static bool begins_section(const struct config_option *option)
{
	return option == config_schema || strcmp(option[-1].section, option->section) != 0;
}

void config_describe_example(FILE *out)
{
	char range[CONFIG_RANGE_SIZE];

	fputs("# Configuration of execsandboxd, see execsandboxd.conf(5).\n"
	      "# SPDX-License-Identifier: Apache-2.0\n"
	      "#\n"
	      "# Made from the schema by 'make conf-example'. Every key is shown with its "
	      "default.\n"
	      "# Settings of your own go into /etc/execsandbox/execsandboxd.conf.d/NAME.conf.\n",
	      out);
	for (const struct config_option *option = config_schema; option->key; option++) {
		if (begins_section(option))
			fprintf(out, "\n[%s]\n", option->section);
		config_option_range(option, range);
		fprintf(out, "\n# %s.\n# Takes %s.\n#%s =%s%s\n", option->help, range, option->key,
			option->fallback[0] ? " " : "", option->fallback);
	}
}

/* Text in roff: a leading '.' or ''' would be a request, '\' an escape, '-' a hyphen. */
static void put_roff(FILE *out, const char *text)
{
	if (*text == '.' || *text == '\'')
		fputs("\\&", out);
	for (; *text; text++) {
		if (*text == '\\')
			fputs("\\e", out);
		else if (*text == '-')
			fputs("\\-", out);
		else if (*text == '\'')
			fputs("\\(aq", out);
		else
			fputc(*text, out);
	}
}

void config_describe_man(FILE *out)
{
	char range[CONFIG_RANGE_SIZE];

	for (const struct config_option *option = config_schema; option->key; option++) {
		if (begins_section(option))
			fprintf(out, ".SS [%s]\n", option->section);
		config_option_range(option, range);
		fprintf(out, ".TP\n.B %s\n", option->key);
		put_roff(out, option->help);
		fputs(".\nTakes ", out);
		put_roff(out, range);
		fputs(option->fallback[0] ? "; default " : "; empty by default", out);
		put_roff(out, option->fallback);
		fputs(option->is_live ? "; a reload takes it over.\n" : ".\n", out);
	}
}
