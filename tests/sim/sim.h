/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A host full of simulated guests, under one of four regimes, second by second.
 *
 * Theory of operation: sim_run() steps all guests, then the host. A host whose memory is exceeded
 * kills the VM that holds most, as the kernel would. Under the policy the very code of the daemon
 * (daemon/memory/policy*.c) gets samples and its actions are carried out; runs then wait in one
 * queue, first in, first out, for credit. The other regimes start every run at once: they have no
 * figure to refuse one by. Everything follows from the seed.
 */
#ifndef TESTS_SIM_SIM_H
#define TESTS_SIM_SIM_H

#include "tests/sim/guest.h"

#include <stdio.h>

enum sim_regime {
	SIM_NO_BALLOON,
	SIM_STATIC_BALLOON, /* one target for ever: 73 % of the size */
	SIM_REPORTING,      /* free page reporting only */
	SIM_POLICY,         /* free page reporting and the policy */
	SIM_REGIMES,
};

struct sim_scenario {
	const char *name, *title;
	struct guest_habits habits;
	double managed_per_vm; /* MiB of managed memory for each VM */
	/* Every burst_period seconds this part of the idle VMs runs within burst_spread. 0: never
	 */
	unsigned burst_period, burst_spread;
	double burst_part;
};

#define SIM_SCENARIOS 3
extern const struct sim_scenario sim_scenarios[SIM_SCENARIOS];

struct sim_result {
	double overcommit; /* sizes of the VMs that are served / memory in use; mean */
	double served;     /* the same / managed memory */
	double peak_part;  /* of the managed memory, before any kill */
	unsigned host_kills, policy_kills, guest_ooms;
	unsigned runs, waited, refusals;
	double wait_mean_s, wait_max_s; /* of all runs that started */
	unsigned moves, turns;          /* target changes; of them, turned round within 10 s */
	double stall_s;                 /* of all guests, in runs */
	unsigned level_changes;
	unsigned level_s[POLICY_BLACK + 1]; /* seconds at each level */
};

const char *sim_regime_name(enum sim_regime regime);

/* Lines "scenario,regime,second,in_use_gib,managed_gib,overcommit,moves,busy,waiting,level" go to
 * `csv`, one in ten seconds; NULL: none. 0, or -ENOMEM. */
int sim_run(const struct sim_scenario *scenario, enum sim_regime regime, size_t vms,
	    unsigned seconds, FILE *csv, struct sim_result *ret);

#endif
