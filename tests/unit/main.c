/* SPDX-License-Identifier: Apache-2.0 */
/* Runs the suite of one unit test file. */
#include "tests/unit/suite.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>

int main(void)
{
	SRunner *runner = srunner_create(unit_suite());
	int failed;

	signal(SIGPIPE, SIG_IGN);
	/* Tests make files that other users are to reach, whatever their caller's mask. */
	umask(022);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
