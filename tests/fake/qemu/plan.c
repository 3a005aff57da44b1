/* SPDX-License-Identifier: Apache-2.0 */
/* What the fake QEMU does wrong, and when. */
#include "tests/fake/qemu/plan.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char path[4096];
static const char *own_role;

void plan_init(const char *program, const char *role)
{
	const char *slash = strrchr(program, '/');

	snprintf(path, sizeof(path), "%.*splan", slash ? (int)(slash - program) + 1 : 0, program);
	own_role = role;
}

_Noreturn void plan_die(const char *why)
{
	fprintf(stderr, "fake: %s\n", why);
	_exit(1); /* no leak checker, which has words of its own */
}

static const char *find(const char *moment)
{
	static char action[32];
	char role[32], at[32];
	FILE *file = fopen(path, "re");
	bool is_found = false;

	while (file && !is_found && fscanf(file, "%31s %31s %31s", role, at, action) == 3)
		is_found = strcmp(role, own_role) == 0 && strcmp(at, moment) == 0;
	if (file)
		fclose(file);
	return is_found ? action : "";
}

bool plan_has(const char *moment, const char *action)
{
	return strcmp(find(moment), action) == 0;
}

const char *plan_at(const char *moment)
{
	const char *action = find(moment);
	char words[64];

	if (strcmp(action, "die") == 0) {
		snprintf(words, sizeof(words), "died at %s", moment);
		plan_die(words);
	}
	while (strcmp(action, "hang") == 0)
		poll(NULL, 0, -1); /* pause() is no call of QEMU's: the jail has it not */
	return action;
}
