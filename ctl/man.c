/* SPDX-License-Identifier: Apache-2.0 */
/* The manual page execsandboxctl(1), made from the verb table. */
#include "ctl/help.h"

#include "base/util.h"

/* Text of ours as roff: what roff would take as a request or an escape is masked. */
static void print_text(FILE *out, const char *text)
{
	for (const char *at = text; *at; at++) {
		bool is_line_start = at == text || at[-1] == '\n';

		if (is_line_start && (*at == '.' || *at == '\''))
			fputs("\\&", out);
		if (*at == '\\')
			fputs("\\e", out);
		else if (*at == '-')
			fputs("\\-", out);
		else if (*at == '\n' && at[1] == '\n')
			fputs("\n.PP", out);
		else if (*at != '\n' || at == text || at[-1] != '\n')
			fputc(*at, out);
		else
			fputc('\n', out);
	}
	fputc('\n', out);
}

static void print_options(FILE *out, const struct verb_option *options)
{
	for (; options && options->name; options++) {
		fputs(".TP\n", out);
		if (options->letter)
			fprintf(out, "\\fB\\-%c\\fR, ", options->letter);
		fputs("\\fB\\-\\-", out);
		for (const char *at = options->name; *at; at++)
			fprintf(out, *at == '-' ? "\\-" : "%c", *at);
		fprintf(out, "\\fR%s\\fI%s\\fR\n", options->argument ? " " : "",
			options->argument ?: "");
		print_text(out, options->help);
	}
}

static void print_verb(FILE *out, const struct verb *verb)
{
	fprintf(out, ".SS \"%s", verb->name);
	if (*verb->synopsis)
		fprintf(out, " %s", verb->synopsis);
	fputs("\"\n", out);
	print_text(out, verb->summary);
	if (verb->details) {
		fputs(".PP\n", out);
		print_text(out, verb->details);
	}
	print_options(out, verb->options);
}

static const char *const tail =
	".SH EXIT STATUS\n"
	"\\fBrun\\fR exits with the program's own status; see above. Other verbs:\n"
	".TP\n0\nDone.\n"
	".TP\n1\nThe daemon answered with an error, or a check failed.\n"
	".TP\n2\nThe command line is wrong.\n"
	".TP\n3\nThere is no such VM, session, process or file.\n"
	".TP\n4\nThe daemon cannot be reached, or the connection was lost.\n"
	".SH ENVIRONMENT\n"
	".TP\n\\fBEXECSANDBOX_SOCKET\\fR\nSocket of the daemon; \\fB\\-\\-socket\\fR goes before "
	"it.\n"
	".TP\n\\fBNO_COLOR\\fR, \\fBTERM\\fR\nNo colours are used when NO_COLOR is set or TERM "
	"is \"dumb\".\n"
	".SH EXAMPLES\n.nf\n"
	"execsandboxctl run \\-c 'print(6 * 7)'\n"
	"echo 'console.log(process.argv)' | execsandboxctl run \\-l javascript \\-\\- a b\n"
	"execsandboxctl run script.sh < input \\-t 5 \\-m 128 \\-e MODE=fast\n"
	"execsandboxctl cp \\-r project $SESSION: && execsandboxctl cp $SESSION:project/report.pdf "
	".\n"
	"execsandboxctl call run language=python code='print(1)' limits.memory_mb:=128\n"
	".fi\n"
	".SH SEE ALSO\n"
	"\\fBexecsandboxd\\fR(8)\n";

void help_print_man(FILE *out)
{
	fprintf(out,
		".\\\" SPDX-License-Identifier: Apache-2.0\n"
		".\\\" Made by 'make man-ctl' from the verb table; do not edit.\n"
		".TH EXECSANDBOXCTL 1 \"\" \"execsandbox %s\" \"User Commands\"\n"
		".SH NAME\n"
		"execsandboxctl \\- run untrusted code in microVMs, and look after them\n"
		".SH SYNOPSIS\n"
		"\\fBexecsandboxctl\\fR [\\fB\\-\\-socket\\fR \\fIPATH\\fR] [\\fB\\-\\-json\\fR] "
		"\\fIVERB\\fR ...\n"
		".SH DESCRIPTION\n"
		"\\fBexecsandboxctl\\fR talks to the \\fBexecsandboxd\\fR(8) daemon, which runs "
		"each program in a virtual machine of its own. Data goes to standard output, "
		"errors to standard error; notes appear on standard error only when it is a "
		"terminal.\n"
		".SH OPTIONS\nThese are taken by every verb.\n",
		EXECSANDBOX_VERSION);
	print_options(out, common_options);
	fputs(".SH VERBS\n", out);
	for (const struct verb *const *verb = verb_table; *verb; verb++)
		print_verb(out, *verb);
	fputs(tail, out);
}
