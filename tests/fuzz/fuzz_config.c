/* SPDX-License-Identifier: Apache-2.0 */
/* A configuration file of any bytes; what was understood must survive being written and read. */
#include "base/util.h"
#include "conf/config.h"
#include "conf/file.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

/* Written out and read again, a configuration is the same. */
static void check_round_trip(const struct config *config)
{
	struct config_report report = {0};
	struct config again = {0};
	char *first, *second;

	FUZZ_CHECK(config_dump(config, &first) == 0);
	FUZZ_CHECK(config_defaults(&again) == 0);
	FUZZ_CHECK(config_text_apply("dump", first, strlen(first), &again, &report) == 0);
	FUZZ_CHECK(config_report_is_clean(&report));
	FUZZ_CHECK(config_dump(&again, &second) == 0);
	FUZZ_CHECK(strcmp(first, second) == 0);
	free(first);
	free(second);
	config_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config_report report = {0};
	struct config config = {0};

	fuzz_begin();
	FUZZ_CHECK(config_defaults(&config) == 0);
	FUZZ_CHECK(config_text_apply("fuzz", (const char *)data, size, &config, &report) == 0);
	check_round_trip(&config);
	(void)config_check(&config, &report);
	for (size_t i = 0; i < report.count; i++)
		FUZZ_CHECK(strchr(report.problems[i], '\n') == NULL);
	config_report_clear(&report);
	config_fini(&config);
	return 0;
}
