/* SPDX-License-Identifier: Apache-2.0 */
/* The memory policy's tests: a host and some VMs that a test sets as it likes. */
#ifndef TESTS_UNIT_TEST_POLICY_H
#define TESTS_UNIT_TEST_POLICY_H

#include "daemon/memory/policy.h"

#include "base/util.h"
#include "tests/unit/suite.h"

#define MIB    (1024ull * 1024)
#define GIB    (1024 * MIB)
#define SECOND 1000000ull
#define VMS    24
#define SIZE   (256 * MIB)

static struct policy policy;
static struct policy_host host;
static struct policy_vm records[VMS];
static struct policy_sample vms[VMS];
static struct policy_action actions[VMS];
static size_t count, n;
static uint64_t now;

static UNUSED void head(double percent)
{
	host.available_bytes = (uint64_t)(percent / 100 * (double)host.managed_bytes);
}

static UNUSED void start(size_t vms_used)
{
	policy_init(&policy, &policy_defaults);
	n = vms_used;
	count = 0;
	now = 1000 * SECOND;
	host = (struct policy_host){.managed_bytes = 16 * GIB, .has_psi = true};
	head(50);
	for (size_t i = 0; i < VMS; i++) {
		records[i] = (struct policy_vm){0};
		vms[i] = (struct policy_sample){.vm = &records[i], .key = 100 + i};
	}
}

/* An honest guest with 60 MiB in use, 40 MiB of them anonymous, 80 of page cache, and nothing else
 * on the host. */
static UNUSED struct policy_sample *vm_is(size_t i, enum policy_vm_state state)
{
	struct policy_sample *vm = &vms[i];

	vm->state = state;
	vm->size_bytes = vm->actual_bytes = vm->target_bytes = SIZE;
	vm->is_private_known = vm->can_balloon = vm->can_stop = true;
	vm->overhead_bytes = 20 * MIB;
	vm->private_bytes = vm->overhead_bytes + 140 * MIB;
	vm->shares = 1;
	vm->idle_us = state == POLICY_BUSY ? 0 : 60 * SECOND;
	vm->guest = (struct policy_guest){.is_known = true,
					  .age_us = SECOND / 2,
					  .total_bytes = 230 * MIB,
					  .free_bytes = 116 * MIB,
					  .available_bytes = 196 * MIB,
					  .caches_bytes = 80 * MIB,
					  .swap_free_bytes = 110 * MIB,
					  .anonymous_bytes = 40 * MIB};
	return vm;
}

/* Its balloon was set before and stands there. */
static UNUSED void vm_has(size_t i, uint64_t actual_bytes)
{
	vms[i].actual_bytes = vms[i].target_bytes = actual_bytes;
}

static UNUSED void step_after(uint64_t us)
{
	now += us;
	count = policy_step(&policy, now, &host, vms, n, actions);
	ck_assert_uint_le(count, n);
}

static UNUSED void step(void)
{
	step_after(SECOND);
}

/* Its place among the actions; `count` when there is none for it. */
static UNUSED size_t order_of(size_t i)
{
	size_t k = 0;

	while (k < count && actions[k].index != i)
		k++;
	return k;
}

static UNUSED bool has_action(size_t i)
{
	return order_of(i) < count;
}

static UNUSED const struct policy_action *action_of(size_t i)
{
	ck_assert_msg(has_action(i), "no action for VM %zu", i);
	return &actions[order_of(i)];
}

static UNUSED void expect_action(size_t i, enum policy_action_kind kind)
{
	ck_assert_int_eq(action_of(i)->kind, kind);
	ck_assert_uint_eq(action_of(i)->key, vms[i].key);
}

/* The balloons do at once what was said, and the guests have `gained` less on the host. */
static UNUSED void obey(uint64_t gained)
{
	for (size_t k = 0; k < count; k++) {
		struct policy_sample *vm = &vms[actions[k].index];
		uint64_t before = vm->actual_bytes, taken;

		if (actions[k].kind != POLICY_SET_TARGET)
			continue;
		vm->actual_bytes = vm->target_bytes = actions[k].target_bytes;
		taken = before > vm->actual_bytes ? before - vm->actual_bytes : 0;
		vm->guest.available_bytes -= MIN(taken, vm->guest.available_bytes);
		vm->guest.caches_bytes = MIN(vm->guest.caches_bytes, vm->guest.available_bytes);
		vm->guest.free_bytes = vm->guest.available_bytes - vm->guest.caches_bytes;
		vm->private_bytes -= MIN(gained, vm->private_bytes);
	}
}

#endif
