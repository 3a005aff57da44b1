/* SPDX-License-Identifier: Apache-2.0 */
/* `make sim`: every scenario under every regime, as a table and as a CSV file for the plots. */
#include "tests/sim/sim.h"

#include "base/util.h"

#include <stdlib.h>
#include <string.h>

#define VMS     5000
#define SECONDS 1800

static void print_head(const struct sim_scenario *scenario)
{
	printf("\n%s: %d VMs of %.0f MiB on %.0f GiB (sizes are %.2f times that), %d s\n",
	       scenario->title, VMS, GUEST_SIZE, scenario->managed_per_vm * VMS / 1024,
	       GUEST_SIZE / scenario->managed_per_vm, SECONDS);
	printf("%-15s %6s %6s %6s %7s %7s %7s %8s %7s %6s %6s %8s %8s %6s %8s\n", "regime", "over-",
	       "peak", "host", "policy", "guest", "runs", "waited", "wait s", "max", "re-",
	       "target", "osc.", "level", "stall s");
	printf("%-15s %6s %6s %6s %7s %7s %7s %8s %7s %6s %6s %8s %8s %6s %8s\n", "", "commit", "%",
	       "kills", "kills", "ooms", "", "", "mean", "", "fused", "changes", "", "chg.",
	       "guests");
}

static void print_row(enum sim_regime regime, const struct sim_result *result)
{
	printf("%-15s %6.2f %6.1f %6u %7u %7u %7u %8u %7.2f %6.0f %6u %8u %8u %6u %8.0f\n",
	       sim_regime_name(regime), result->overcommit, result->peak_part * 100,
	       result->host_kills, result->policy_kills, result->guest_ooms, result->runs,
	       result->waited, result->wait_mean_s, result->wait_max_s, result->refusals,
	       result->moves, result->turns, result->level_changes, result->stall_s);
	if (regime != SIM_POLICY)
		return;
	printf("                seconds at");
	for (int level = POLICY_GREEN; level <= POLICY_BLACK; level++)
		printf(" %s %u", policy_level_name(level), result->level_s[level]);
	printf("\n");
}

int main(int argc, char **argv)
{
	FILE *csv = argc > 1 ? fopen(argv[1], "we") : NULL;
	struct sim_result result;

	if (argc > 1 && !csv) {
		perror(argv[1]);
		return EXIT_FAILURE;
	}
	if (csv)
		fprintf(csv, "scenario,regime,second,in_use_gib,managed_gib,overcommit,moves,busy,"
			     "waiting,level\n");
	for (size_t i = 0; i < SIM_SCENARIOS; i++) {
		print_head(&sim_scenarios[i]);
		for (int regime = 0; regime < SIM_REGIMES; regime++) {
			if (sim_run(&sim_scenarios[i], regime, VMS, SECONDS, csv, &result) < 0)
				return EXIT_FAILURE;
			print_row(regime, &result);
			fflush(stdout);
		}
	}
	if (csv && fclose(csv) != 0) {
		perror(argv[1]);
		return EXIT_FAILURE;
	}
	return EXIT_SUCCESS;
}
