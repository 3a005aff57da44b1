/* SPDX-License-Identifier: Apache-2.0 */
/* Prints documents made from the configuration's schema: the example file or the man page's list.
 */
#include "conf/describe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "example") == 0) {
		config_describe_example(stdout);
	} else if (argc == 2 && strcmp(argv[1], "man") == 0) {
		config_describe_man(stdout);
	} else {
		fprintf(stderr, "Usage: config_table example|man\n");
		return 2;
	}
	return fflush(stdout) == 0 && !ferror(stdout) ? EXIT_SUCCESS : EXIT_FAILURE;
}
