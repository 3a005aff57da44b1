/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pool's requests: how many VMs start at once, and who starts next.
 *
 * The VMs are made by hand: the linker gives the pool these functions for the ones of daemon/vm
 * (--wrap in tests/Makefile.inc), and a test says when one becomes ready, fails or is gone.
 */
#include "daemon/pool/pool.h"

#include "daemon/vm/vm_internal.h"
#include "daemon/vm/vm_record.h"
#include "tests/unit/suite.h"

#include <stdio.h>

#define VMS 8

static struct loop *loop;
static struct vm_host host;
static struct pool *pool;
static struct vm vms[VMS]; /* in the order they were started */
static size_t vm_count;

struct wish {
	struct pool_request request;
	struct vm *vm;
	int error;
};

static struct wish wishes[VMS];

/* --- VMs --- */

struct rpc_error *__wrap_vm_create(struct vm_host *vm_host, const struct vm_spec *spec,
				   const struct vm_ops *ops, void *user, struct vm **ret);
struct rpc_error *__wrap_vm_adopt(struct vm_host *vm_host, const struct vm_record *record,
				  json_t *received_take, const struct vm_ops *ops, void *user,
				  struct vm **ret);
void __wrap_vm_stop(struct vm *vm);
bool __wrap_vm_is_alive(const struct vm *vm);
void __wrap_vm_destroy_all(struct vm_host *vm_host);

static struct vm *make(struct vm_host *vm_host, const struct vm_spec *spec,
		       const struct vm_ops *ops, void *user)
{
	struct vm *vm = &vms[vm_count];

	ck_assert_uint_lt(vm_count, VMS);
	*vm = (struct vm){.host = vm_host, .spec = *spec, .ops = ops, .user = user};
	snprintf(vm->id, sizeof(vm->id), "vm_%zu", vm_count++);
	return vm;
}

struct rpc_error *__wrap_vm_create(struct vm_host *vm_host, const struct vm_spec *spec,
				   const struct vm_ops *ops, void *user, struct vm **ret)
{
	*ret = make(vm_host, spec, ops, user);
	return NULL;
}

struct rpc_error *__wrap_vm_adopt(struct vm_host *vm_host, const struct vm_record *record,
				  json_t *received_take, const struct vm_ops *ops, void *user,
				  struct vm **ret)
{
	const struct vm_spec spec = {.memory_mb = record->memory_mb, .language = record->language};

	json_decref(received_take);
	*ret = make(vm_host, &spec, ops, user);
	return NULL;
}

void __wrap_vm_stop(struct vm *vm)
{
	vm->state = VM_STOPPING;
}

bool __wrap_vm_is_alive(const struct vm *vm)
{
	return vm->state < VM_STOPPING;
}

static void be_gone(struct vm *vm)
{
	vm->state = VM_GONE;
	vm->ops->on_gone(vm->user);
}

void __wrap_vm_destroy_all(struct vm_host *vm_host UNUSED)
{
	for (size_t i = 0; i < vm_count; i++)
		if (vms[i].state != VM_GONE)
			be_gone(&vms[i]);
}

static void be_ready(struct vm *vm)
{
	vm->state = VM_READY;
	vm->ops->on_ready(vm->user);
}

static void have_failed(struct vm *vm)
{
	vm->state = VM_STOPPING;
	vm->ops->on_failed(vm->user, rpc_error_new(RPC_VM_TRANSIENT, "It failed"));
}

/* What is deferred, and what that defers. */
static void settle(void)
{
	for (int i = 0; i < 5; i++)
		loop_run_once(loop, false);
}

/* --- Wishes --- */

static void on_vm(void *user, struct vm *vm)
{
	((struct wish *)user)->vm = vm;
}

static void on_failed(void *user, struct rpc_error *error_take)
{
	((struct wish *)user)->error = error_take->code;
	rpc_error_free(error_take);
}

static struct pool_request *request(struct wish *of)
{
	of->request = (struct pool_request){.spec = {.memory_mb = 256, .language = "shell"},
					    .on_vm = on_vm,
					    .on_failed = on_failed,
					    .user = of};
	return &of->request;
}

static void wish(size_t count)
{
	for (size_t i = 0; i < count; i++)
		ck_assert_ptr_null(pool_acquire(pool, request(&wishes[i])));
	settle();
}

/* VMs of the daemon before: the first ones, for the last wishes. */
static void adopt(size_t count)
{
	const struct vm_record record = {.memory_mb = 256, .language = "shell"};

	for (size_t i = 0; i < count; i++)
		ck_assert_ptr_null(pool_adopt(pool, request(&wishes[VMS - 1 - i]), &record, NULL));
	settle();
}

static struct pool_config config;

static void setup(void)
{
	config = (struct pool_config){
		.host = &host,
		.limits = {.max_vms = VMS,
			   .max_running = VMS,
			   .queue_max = VMS,
			   .memory_mb = 1 << 20},
		.overhead_mb = 32,
		.memory_overcommit = 1,
		.default_memory_mb = 256,
		.queue_timeout_seconds = 60,
		.boot_attempts = 2,
		.start_max = 2,
		.refill_max = 1,
	};

	ck_assert_int_eq(loop_create(&loop), 0);
	host = (struct vm_host){.loop = loop, .accel = ACCEL_TCG};
	ck_assert_int_eq(pool_create(&config, &pool), 0);
	vm_count = 0;
	for (size_t i = 0; i < VMS; i++)
		wishes[i] = (struct wish){.vm = NULL};
}

static void teardown(void)
{
	pool_destroy(pool);
	settle();
	loop_destroy(loop);
}

/* --- Tests --- */

START_TEST(so_many_start_at_once)
{
	wish(4);
	ck_assert_uint_eq(vm_count, 2);
	ck_assert_uint_eq(pool_admission(pool)->running, 4);
}
END_TEST

/* Not only when something ends: runs may take an hour. */
START_TEST(a_vm_that_is_ready_makes_place)
{
	wish(4);
	be_ready(&vms[0]);
	ck_assert_ptr_eq(wishes[0].vm, &vms[0]);
	settle();
	ck_assert_uint_eq(vm_count, 3);
	be_ready(&vms[2]);
	ck_assert_ptr_eq(wishes[2].vm, &vms[2]);
	settle();
	ck_assert_uint_eq(vm_count, 4);
	be_ready(&vms[1]);
	be_ready(&vms[3]);
	ck_assert_ptr_eq(wishes[1].vm, &vms[1]);
	ck_assert_ptr_eq(wishes[3].vm, &vms[3]);
	settle();
	ck_assert_uint_eq(vm_count, 4);
}
END_TEST

static uint64_t cost(void *user UNUSED, const char *language, bool has_spare)
{
	ck_assert_str_eq(language, "shell");
	return has_spare ? 1 : 100;
}

/* Granted and without a VM that is theirs: nobody else sees what they will take. */
START_TEST(what_is_promised_is_told)
{
	wish(4);
	ck_assert_uint_eq(pool_promised(pool, cost, NULL), 200);
	be_ready(&vms[0]);
	settle();
	ck_assert_uint_eq(pool_promised(pool, cost, NULL), 100);
	be_ready(&vms[1]);
	settle();
	ck_assert_uint_eq(pool_promised(pool, cost, NULL), 0);
	have_failed(&vms[2]);
	ck_assert_uint_eq(pool_promised(pool, cost, NULL), 1);
	/* A spare's VM is nobody's until it is handed out. */
	vms[3].spec.uid = VM_UID_NONE;
	ck_assert_uint_eq(pool_promised(pool, cost, NULL), 2);
}
END_TEST

/* It does not start any more, though its processes still die. */
START_TEST(a_vm_that_failed_makes_place)
{
	wish(3);
	have_failed(&vms[0]);
	settle();
	ck_assert_uint_eq(vm_count, 3);
	be_ready(&vms[2]);
	ck_assert_ptr_eq(wishes[2].vm, &vms[2]);
	/* Whose it was gets another. */
	be_gone(&vms[0]);
	settle();
	ck_assert_uint_eq(vm_count, 4);
	be_ready(&vms[3]);
	ck_assert_ptr_eq(wishes[0].vm, &vms[3]);
	ck_assert_int_eq(wishes[0].error, 0);
}
END_TEST

START_TEST(a_wish_that_is_taken_back_makes_place)
{
	wish(3);
	pool_cancel(pool, &wishes[1].request);
	settle();
	ck_assert_uint_eq(vm_count, 3);
	ck_assert_ptr_null(wishes[1].vm);
	ck_assert_int_eq(wishes[1].error, 0);
}
END_TEST

/* A run's end starts nothing beyond the bound. */
START_TEST(the_bound_holds)
{
	wish(6);
	be_ready(&vms[0]);
	settle();
	pool_release(pool, &vms[0]);
	settle();
	be_gone(&vms[0]);
	settle();
	ck_assert_uint_eq(vm_count, 3);
}
END_TEST

/* Guests of the daemon before that do not answer hold nobody up: no QEMU starts there. */
START_TEST(adopted_vms_take_no_place)
{
	adopt(3);
	ck_assert_uint_eq(vm_count, 3);
	wish(3);
	ck_assert_uint_eq(vm_count, 3 + 2);
	be_ready(&vms[0]);
	ck_assert_ptr_eq(wishes[VMS - 1].vm, &vms[0]);
	settle();
	ck_assert_uint_eq(vm_count, 3 + 2); /* nor does it leave one */
	have_failed(&vms[1]);
	be_gone(&vms[1]);
	settle();
	ck_assert_int_eq(wishes[VMS - 2].error, RPC_VM_TRANSIENT);
	ck_assert_uint_eq(vm_count, 3 + 2);
	be_ready(&vms[3]);
	ck_assert_ptr_eq(wishes[0].vm, &vms[3]);
	settle();
	ck_assert_uint_eq(vm_count, 3 + 3);
}
END_TEST

/* Who waited is served when there are more places; who is over fewer places stays. */
START_TEST(other_limits_hold_at_once)
{
	config.limits.max_vms = 1;
	pool_reconfigure(pool, &config);
	wish(2);
	ck_assert_uint_eq(vm_count, 1);
	be_ready(&vms[0]);
	settle();
	config.limits.max_vms = 2;
	pool_reconfigure(pool, &config);
	settle();
	ck_assert_uint_eq(vm_count, 2);
	be_ready(&vms[1]);
	config.limits.max_vms = 1;
	pool_reconfigure(pool, &config);
	settle();
	ck_assert_ptr_eq(wishes[0].vm, &vms[0]);
	ck_assert_ptr_eq(wishes[1].vm, &vms[1]);
	ck_assert_uint_eq(pool_admission(pool)->vms, 2);
}
END_TEST

/* A reload's figure for memory is that of the start: what memory.policy said holds. */
START_TEST(memory_is_not_among_the_settings)
{
	pool_set_memory(pool, 4096, 0);
	pool_reconfigure(pool, &config);
	ck_assert_uint_eq(pool_admission(pool)->limits.memory_mb, 4096);
	config.vm_memory_max_mb = 300;
	pool_reconfigure(pool, &config);
	ck_assert_uint_eq(pool_max_memory_mb(pool), 300);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("pool");
	TCase *tests = tcase_create("starts");

	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, so_many_start_at_once);
	tcase_add_test(tests, a_vm_that_is_ready_makes_place);
	tcase_add_test(tests, what_is_promised_is_told);
	tcase_add_test(tests, a_vm_that_failed_makes_place);
	tcase_add_test(tests, a_wish_that_is_taken_back_makes_place);
	tcase_add_test(tests, the_bound_holds);
	tcase_add_test(tests, adopted_vms_take_no_place);
	tcase_add_test(tests, other_limits_hold_at_once);
	tcase_add_test(tests, memory_is_not_among_the_settings);
	suite_add_tcase(suite, tests);
	return suite;
}
