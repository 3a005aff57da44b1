/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory control with VMs: what it sends to QEMU and to the guest, and what it makes of the
 * answers.
 *
 * The VMs are made by hand: a pid without a process, a scripted QMP server, a scripted
 * agent. What the process uses is what the test says.
 */
#include "daemon/memory/control.h"

#include "base/log.h"
#include "daemon/launcher/client_internal.h"
#include "daemon/memory/control_internal.h"
#include "daemon/vm/vm_internal.h"
#include "tests/fake/fake_agent.h"
#include "tests/fake/fake_qmp.h"
#include "tests/fake/wait.h"
#include "tests/unit/suite.h"
#include "tests/unit/test_json.h"
#include "tests/unit/test_kernel_files.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define MIB  (UINT64_C(1) << 20)
#define SIZE (256 * MIB)
#define VMS  3
/* Above what the kernel gives: such a process is never there. */
#define FIRST_PID (1 << 23)

struct guest {
	struct vm vm;
	struct fake_qmp *qmp;
	struct fake_agent *agent;
	struct msg_memory memory; /* what it tells */
	uint64_t anonymous, cpu;
	unsigned drops;
	uint64_t drop_id;
	bool is_ready;
	int lost_code;
	bool was_dispatched;
};

static struct loop *loop;
static struct vm_host host;
static struct launcher launcher;
static struct guest guests[VMS];
static struct memory_control *control;
static struct memory_control_config config;

/* What the owner heard. */
static unsigned squeezes, releases, failures, ooms, dropped;
static struct memory_change last;
static char last_why[96];

/* --- A VM --- */

static struct guest *guest_of_pid(pid_t pid)
{
	for (size_t i = 0; i < VMS; i++)
		if (guests[i].vm.launch && launch_pid(guests[i].vm.launch) == pid)
			return &guests[i];
	ck_abort_msg("nobody's pid");
	return NULL;
}

static int meter_anonymous(pid_t pid, uint64_t *ret)
{
	*ret = guest_of_pid(pid)->anonymous;
	return 0;
}

static int meter_cpu(pid_t pid, uint64_t *ret)
{
	*ret = guest_of_pid(pid)->cpu;
	return 0;
}

static const struct memory_meter meter = {.anonymous = meter_anonymous, .cpu = meter_cpu};

static void on_qmp_ready(void *user)
{
	((struct guest *)user)->is_ready = true;
}

static void on_qmp_event(void *user UNUSED, const char *name UNUSED, const json_t *data UNUSED,
			 uint64_t time_us UNUSED)
{
}

static void on_qmp_end(void *user UNUSED, int error UNUSED)
{
}

static const struct qmp_ops qmp_ops = {
	.on_ready = on_qmp_ready, .on_event = on_qmp_event, .on_end = on_qmp_end};

static void on_link_ready(void *user UNUSED, const struct msg_hello_reply *hello UNUSED)
{
}

/* As vm_start.c does. */
static void on_link_message(void *user, const struct msg *msg)
{
	struct guest *guest = user;

	if (msg->type != FRAME_MEMORY)
		return;
	guest->vm.telemetry.memory = msg->memory;
	guest->vm.telemetry.received_us = now_us();
	memory_control_vm_memory(control, &guest->vm);
}

static void on_link_output(void *user UNUSED, uint32_t exec UNUSED, enum frame_substream sub UNUSED,
			   const uint8_t *data UNUSED, size_t len UNUSED)
{
}

static void on_link_failed(void *user UNUSED, int error UNUSED, const char *why UNUSED)
{
}

static const struct agent_link_ops link_ops = {.on_ready = on_link_ready,
					       .on_message = on_link_message,
					       .on_output = on_link_output,
					       .on_failed = on_link_failed};

static void on_host_message(void *user, const struct msg *msg)
{
	struct guest *guest = user;

	if (msg->type == FRAME_HELLO)
		fake_agent_accept(guest->agent, &msg->hello);
	if (msg->type != FRAME_MEMORY_DROP)
		return;
	guest->drops++;
	guest->drop_id = msg->ping.id;
}

static const struct fake_agent_ops agent_ops = {.on_message = on_host_message};

static void on_lost(void *user, struct rpc_error *error_take)
{
	struct guest *guest = user;

	guest->lost_code = error_take->code;
	guest->was_dispatched = json_is_true(json_object_get(error_take->data, "dispatched"));
	rpc_error_free(error_take);
}

static const struct vm_client_ops client_ops = {.on_lost = on_lost};

/* Nothing is heard of it, and nobody is there to be asked to kill it. */
static void launch(struct guest *guest)
{
	launcher = (struct launcher){.loop = loop, .fd = -1, .launches = launcher.launches};
	guest->vm.launch = launch_new(&launcher, guest->vm.id, NULL, NULL);
	ck_assert_ptr_nonnull(guest->vm.launch);
	guest->vm.launch->pid = FIRST_PID + (pid_t)(guest - guests);
}

static void connect_links(struct guest *guest)
{
	int qmp[2], agent[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, qmp), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, agent), 0);
	guest->qmp = fake_qmp_create(loop, qmp[0]);
	fake_qmp_handshake(guest->qmp);
	fake_qmp_answer(guest->qmp, "qom-set", "{}");
	fake_qmp_answer(guest->qmp, "qom-get", "{\"last-update\": 0, \"stats\": {}}");
	fake_qmp_answer(guest->qmp, "query-balloon", "{\"actual\": 268435456}");
	guest->agent = fake_agent_create(loop, agent[0], &agent_ops, guest);
	ck_assert_int_eq(qmp_create(loop, "test", qmp[1], 20000, &qmp_ops, guest, &guest->vm.qmp),
			 0);
	ck_assert_int_eq(
		agent_link_create(loop, agent[1], "test", NULL, &link_ops, guest, &guest->vm.link),
		0);
	fake_agent_ready(guest->agent);
	ck_assert(WAIT_FOR(loop, guest->is_ready));
}

/* RUNNING for a user, of 256 MiB, 180 of them QEMU's own. */
static void make_vm(size_t i)
{
	struct guest *guest = &guests[i];

	*guest = (struct guest){.anonymous = 180 * MIB};
	snprintf(guest->vm.id, sizeof(guest->vm.id), "vm_%zu", i + 1);
	strcpy(guest->vm.language, "python");
	guest->vm.host = &host;
	guest->vm.spec = (struct vm_spec){.start = QEMU_BOOT,
					  .memory_mb = SIZE >> 20,
					  .uid = 1000,
					  .language = guest->vm.language};
	guest->vm.client_ops = &client_ops;
	guest->vm.client = guest;
	guest->vm.state = VM_RUNNING;
	snapshot_init(&guest->vm.snapshot, loop);
	guest->memory = (struct msg_memory){.mem_total = 240 * MIB,
					    .mem_free = 20 * MIB,
					    .mem_available = 110 * MIB,
					    .mem_caches = 80 * MIB,
					    .mem_anonymous = 60 * MIB,
					    .swap_free = 110 * MIB};
	launch(guest);
	connect_links(guest);
	balloon_start(&guest->vm.balloon, loop, guest->vm.qmp, SIZE, 3600);
	guest->vm.next = host.vms;
	host.vms = &guest->vm;
}

static void end_vm(struct guest *guest)
{
	if (!guest->vm.launch)
		return;
	qmp_destroy(guest->vm.qmp);
	balloon_stop(&guest->vm.balloon);
	agent_link_destroy(guest->vm.link);
	launch_destroy(guest->vm.launch);
	rpc_error_free(guest->vm.error);
	loop_defer_cancel(loop, &guest->vm.fail_later);
	fake_qmp_destroy(guest->qmp);
	fake_agent_destroy(guest->agent);
}

static void tell(struct guest *guest, uint64_t id)
{
	struct msg msg = {.type = FRAME_MEMORY, .memory = guest->memory};

	msg.memory.id = id;
	fake_agent_send(guest->agent, &msg);
}

static void tell_at_times(struct guest *guest)
{
	if (now_us() - guest->vm.telemetry.received_us > 300000)
		tell(guest, 0);
}

/* --- The owner --- */

static void hear(const struct memory_change *change)
{
	last = *change;
	snprintf(last_why, sizeof(last_why), "%s", change->why ? change->why : "");
}

static void on_squeeze(void *user UNUSED, const struct memory_change *change)
{
	squeezes++;
	hear(change);
}

static void on_release(void *user UNUSED, const struct memory_change *change)
{
	releases++;
	hear(change);
}

static void on_failure(void *user UNUSED, const struct memory_change *change)
{
	failures++;
	hear(change);
}

static void on_oom(void *user UNUSED, struct vm *vm UNUSED)
{
	ooms++;
}

static uint64_t told_budget_bytes, told_steps;

static void on_settings(void *user UNUSED, const struct memory_settings *settings)
{
	told_budget_bytes = settings->budget_bytes;
	told_steps = memory_control_policy(control)->steps;
}

static bool are_spares_taken; /* a run has each of them by now */

static bool drop_spare(void *user UNUSED, struct vm *vm UNUSED)
{
	dropped += !are_spares_taken;
	return !are_spares_taken;
}

static uint64_t promised_bytes;

static uint64_t promised(void *user UNUSED)
{
	return promised_bytes;
}

static const struct memory_control_ops ops = {.promised = promised,
					      .on_settings = on_settings,
					      .drop_spare = drop_spare,
					      .on_squeeze = on_squeeze,
					      .on_release = on_release,
					      .on_failure = on_failure,
					      .on_oom = on_oom};

/* So much is left of 10000 MiB. */
static void leave(unsigned mb)
{
	host_write_meminfo(10100, 100 + mb);
}

static void setup(void)
{
	test_dir_make(host_dir);
	leave(8000);
	host_write_psi(TEST_PSI, 0, 0);
	host_write("/proc/self/cgroup", "0::/\n");
	ck_assert_int_eq(loop_create(&loop), 0);
	host = (struct vm_host){.loop = loop, .accel = ACCEL_TCG, .node = ""};
	memset(guests, 0, sizeof(guests));
	squeezes = releases = failures = ooms = dropped = 0;
	log_set_level(LOG_ERR);
	config = (struct memory_control_config){.loop = loop,
						.host = &host,
						.reserve_bytes = 100 * MIB,
						.files = &host_dir_files,
						.meter = &meter,
						.ops = &ops};
	ck_assert_int_eq(memory_control_create(&config, &control), 0);
}

static void teardown(void)
{
	memory_control_destroy(control);
	for (size_t i = 0; i < VMS; i++)
		end_vm(&guests[i]);
	loop_destroy(loop);
	test_dir_remove(host_dir);
}

/* --- QMP --- */

/* The next command that has no canned answer. */
static json_t *take(struct guest *guest, const char *name)
{
	json_t *command;

	ck_assert_msg(WAIT_FOR(loop, fake_qmp_waiting(guest->qmp) > 0), "no '%s'", name);
	command = fake_qmp_take(guest->qmp);
	ck_assert_json_str(command, "execute", name);
	return command;
}

static uint64_t grant_target(struct guest *guest)
{
	json_t *command = take(guest, "balloon");
	uint64_t target =
		(uint64_t)json_integer_value(json_need(json_need(command, "arguments"), "value"));

	fake_qmp_reply(guest->qmp, command, "{}");
	json_decref(command);
	return target;
}

static void grant(struct guest *guest, const char *name)
{
	json_t *command = take(guest, name);

	fake_qmp_reply(guest->qmp, command, "{}");
	json_decref(command);
}

static void set_actual(struct guest *guest, uint64_t bytes)
{
	char text[64];

	snprintf(text, sizeof(text), "{\"actual\": %ju}", (uintmax_t)bytes);
	fake_qmp_answer(guest->qmp, "query-balloon", text);
}

static void rest(struct guest *guest)
{
	vm_rest(&guest->vm);
	guest->vm.rest_us = now_us() - 120 * UINT64_C(1000000);
	tell(guest, 0);
}

/* --- Squeezes --- */

/* The caches go first, by the guest's own hand; then the balloon; then the owner hears of it. */
START_TEST(an_idle_vm_is_squeezed)
{
	struct guest *guest = &guests[0];
	uint64_t target;

	make_vm(0);
	rest(guest);
	leave(900);
	ck_assert(WAIT_FOR(loop, guest->drops == 1));
	ck_assert_uint_eq(fake_qmp_waiting(guest->qmp), 0);
	tell(guest, guest->drop_id);
	target = grant_target(guest);
	ck_assert_uint_lt(target, SIZE);
	ck_assert_uint_ge(target, 64 * MIB);
	ck_assert_uint_eq(squeezes, 0);
	set_actual(guest, target);
	ck_assert(WAIT_FOR(loop, squeezes == 1));
	ck_assert_ptr_eq(last.vm, &guest->vm);
	ck_assert_uint_eq(last.from_bytes, SIZE);
	ck_assert_uint_eq(last.target_bytes, target);
	ck_assert_uint_eq(last.actual_bytes, target);
	ck_assert_uint_eq(memory_control_counters(control)->squeezes, 1);
	ck_assert_uint_eq(memory_control_counters(control)->taken_bytes, SIZE - target);
	ck_assert_uint_eq(memory_control_counters(control)->given_bytes, 0);
	ck_assert_uint_ge(memory_control_counters(control)->cache_drops, 1);
	ck_assert_double_gt(memory_control_counters(control)->reaction.sum_seconds, 0);
}
END_TEST

/* A guest that does not answer does not hold it up. */
START_TEST(the_drop_has_a_deadline)
{
	uint64_t asked;

	make_vm(0);
	rest(&guests[0]);
	leave(900);
	ck_assert(WAIT_FOR(loop, guests[0].drops == 1));
	asked = now_us();
	tell(&guests[0], guests[0].drop_id + 1); /* somebody else's */
	tell(&guests[0], 0);                     /* nobody's: it came by itself */
	grant_target(&guests[0]);
	ck_assert_uint_ge(now_us() - asked, 400000);
}
END_TEST

/* On ORANGE code that works is left its memory. */
START_TEST(a_busy_vm_is_left_alone)
{
	struct guest *guest = &guests[0];

	make_vm(0);
	tell(guest, 0);
	leave(900);
	ck_assert(WAIT_FOR(loop,
			   (guest->cpu = now_us(), memory_control_policy(control)->steps > 12)));
	ck_assert_int_eq(memory_control_policy(control)->level, POLICY_ORANGE);
	ck_assert_uint_eq(guest->drops, 0);
	ck_assert_uint_eq(fake_qmp_waiting(guest->qmp), 0);
	ck_assert_int_eq(vm_memory(&guest->vm)->sample.state, POLICY_BUSY);
}
END_TEST

/* Code that has not used the processor for 5 s is as idle; its vCPU goes on, or it would never
 * end. When it works again it gets its memory back at once. */
START_TEST(a_program_that_sleeps_is_idle)
{
	struct guest *guest = &guests[0];
	uint64_t target;

	make_vm(0);
	tell(guest, 0);
	memory_control_look(control, &guest->vm)->active_us = now_us() - 11 * UINT64_C(1000000);
	leave(900);
	ck_assert(WAIT_FOR(loop, guest->drops == 1));
	ck_assert_int_eq(vm_memory(&guest->vm)->sample.state, POLICY_IDLE);
	ck_assert(!vm_memory(&guest->vm)->sample.can_stop);
	tell(guest, guest->drop_id);
	target = grant_target(guest);
	set_actual(guest, target);
	ck_assert(WAIT_FOR(loop, squeezes == 1));
	/* It works: half a processor. */
	ck_assert(WAIT_FOR(loop, (guest->cpu = now_us() / 2, fake_qmp_waiting(guest->qmp) > 0)));
	ck_assert_uint_eq(grant_target(guest), SIZE);
	set_actual(guest, SIZE);
	ck_assert(WAIT_FOR(loop, releases == 1));
	ck_assert_uint_eq(last.actual_bytes, SIZE);
}
END_TEST

/* Its programs wait for memory: nobody waits until its processor time tells. */
START_TEST(a_stalled_guest_has_it_back_at_once)
{
	struct guest *guest = &guests[0];

	make_vm(0);
	tell(guest, 0);
	memory_control_look(control, &guest->vm)->active_us = now_us() - 11 * UINT64_C(1000000);
	leave(900);
	ck_assert(WAIT_FOR(loop, guest->drops == 1));
	tell(guest, guest->drop_id);
	set_actual(guest, grant_target(guest));
	ck_assert(WAIT_FOR(loop, squeezes == 1));
	ck_assert_int_eq(vm_memory(&guest->vm)->sample.state, POLICY_IDLE);
	guest->memory.user_stall_us += 3000000;
	tell(guest, 0);
	ck_assert(WAIT_FOR(loop, fake_qmp_waiting(guest->qmp) > 0));
	ck_assert(vm_memory(&guest->vm)->sample.is_stalled);
	ck_assert_int_eq(vm_memory(&guest->vm)->sample.state, POLICY_BUSY);
	ck_assert_uint_eq(grant_target(guest), SIZE);
	set_actual(guest, SIZE);
	ck_assert(WAIT_FOR(loop, releases == 1));
	/* The next word is that it waits no more. */
	tell(guest, 0);
	ck_assert(WAIT_FOR(loop, !vm_memory(&guest->vm)->sample.is_stalled));
}
END_TEST

/* --- Failures --- */

/* The target is taken back to where the guest stands, and the VM is left alone. */
START_TEST(a_guest_that_does_not_follow)
{
	struct guest *guest = &guests[0];
	uint64_t target, reset;

	make_vm(0);
	rest(guest);
	leave(900);
	ck_assert(WAIT_FOR(loop, guest->drops == 1));
	tell(guest, guest->drop_id);
	target = grant_target(guest);
	set_actual(guest, SIZE);
	ck_assert(WAIT_FOR(loop, failures == 1));
	ck_assert_pstr_eq(last_why, "the guest does not follow");
	ck_assert_uint_eq(last.target_bytes, target);
	reset = grant_target(guest);
	ck_assert_uint_eq(reset, SIZE);
	ck_assert_uint_eq(memory_control_counters(control)->stalls, 1);
	ck_assert_uint_gt(vm_memory(&guest->vm)->policy.stall_until_us,
			  now_us() + 20 * UINT64_C(1000000));
}
END_TEST

START_TEST(qemu_refuses)
{
	struct guest *guest = &guests[0];
	json_t *command;

	make_vm(0);
	rest(guest);
	leave(900);
	ck_assert(WAIT_FOR(loop, guest->drops == 1));
	tell(guest, guest->drop_id);
	command = take(guest, "balloon");
	fake_qmp_fail(guest->qmp, command, "GenericError", "no balloon");
	json_decref(command);
	ck_assert(WAIT_FOR(loop, failures == 1));
	ck_assert_ptr_nonnull(strstr(last_why, "QEMU"));
	ck_assert_uint_eq(memory_control_counters(control)->failures, 1);
	ck_assert_uint_gt(vm_memory(&guest->vm)->policy.stall_until_us, now_us());
}
END_TEST

/* The VM ends, and control before it: nobody is called any more. */
START_TEST(an_end_in_the_middle)
{
	make_vm(0);
	make_vm(1);
	rest(&guests[0]);
	rest(&guests[1]);
	leave(900);
	ck_assert(WAIT_FOR(loop, guests[0].drops == 1 && guests[1].drops == 1));
	tell(&guests[0], guests[0].drop_id);
	grant_target(&guests[0]);
	memory_control_vm_ends(control, &guests[0].vm);
	ck_assert_ptr_null(vm_memory(&guests[0].vm));
	memory_control_destroy(TAKE_PTR(control));
	ck_assert_ptr_null(vm_memory(&guests[1].vm));
	ck_assert_uint_eq(squeezes + failures, 0);
}
END_TEST

/* It stops while its guest is to drop its caches: its QMP is gone when that is over. */
START_TEST(a_stop_in_the_middle)
{
	struct guest *guest = &guests[0];
	uint64_t began;

	make_vm(0);
	rest(guest);
	leave(900);
	ck_assert(WAIT_FOR(loop, guest->drops == 1));
	began = now_us();
	guest->vm.state = VM_STOPPING;
	memory_control_vm_stops(control, &guest->vm);
	ck_assert_int_eq(vm_memory(&guest->vm)->mover.state, MOVER_STILL);
	tell(guest, guest->drop_id);
	ck_assert(WAIT_FOR(loop, now_us() - began > 800000));
	ck_assert_uint_eq(fake_qmp_waiting(guest->qmp), 0);
	/* What it still has is on its way, and no sample any more. */
	ck_assert_uint_eq(control_host(control).ending_bytes, guest->anonymous);
}
END_TEST

/* --- vCPUs --- */

/* Squeezed and with nothing more to give, a VM that rests is halted; its next run wakes it and gets
 * its memory back. */
START_TEST(a_squeezed_vm_is_halted_and_wakes)
{
	struct guest *guest = &guests[0];
	uint64_t target;
	json_t *command;

	make_vm(0);
	rest(guest);
	leave(900);
	ck_assert(WAIT_FOR(loop, guest->drops == 1));
	tell(guest, guest->drop_id);
	target = grant_target(guest);
	set_actual(guest, target);
	ck_assert(WAIT_FOR(loop, squeezes == 1));
	guest->anonymous = 50 * MIB;
	guest->memory.mem_available = guest->memory.mem_free = 8 * MIB;
	guest->memory.mem_caches = guest->memory.mem_anonymous = 0;
	/* Only what it says after its balloon has settled counts. */
	ck_assert(WAIT_FOR(loop, (tell_at_times(guest), fake_qmp_waiting(guest->qmp) > 0)));
	grant(guest, "stop");
	ck_assert(vm_is_halted(&guest->vm));
	ck_assert_uint_eq(memory_control_counters(control)->vcpus_halted, 1);

	leave(8000);
	host.on_work = (void (*)(void *, struct vm *))memory_control_vm_work;
	host.user = control;
	vm_work(&guest->vm);
	ck_assert(!vm_is_halted(&guest->vm));
	ck_assert_uint_eq(vm_rest_us(&guest->vm), 0);
	grant(guest, "cont");
	command = take(guest, "balloon");
	ck_assert_uint_gt(json_integer_value(json_need(json_need(command, "arguments"), "value")),
			  target);
	json_decref(command);
}
END_TEST

/* --- What an earlier daemon has taken --- */

/* RUNNING again, with so much as that daemon's balloon has left it. */
static void be_adopted(struct guest *guest, uint64_t actual)
{
	host.stats_interval_seconds = 3600;
	balloon_stop(&guest->vm.balloon);
	set_actual(guest, actual);
	guest->vm.is_adopted = true;
	guest->vm.state = VM_READY;
	vm_attach(&guest->vm, 1000, &client_ops, guest);
	ck_assert(WAIT_FOR(loop, guest->vm.balloon.actual_bytes == actual));
}

/* Its next program gets it back, also without a new daemon's squeeze. */
START_TEST(an_adopted_vm_has_it_back_at_work)
{
	struct guest *guest = &guests[0];

	make_vm(0);
	be_adopted(guest, 100 * MIB);
	vm_rest(&guest->vm);
	host.on_work = (void (*)(void *, struct vm *))memory_control_vm_work;
	host.user = control;
	vm_work(&guest->vm);
	ck_assert_uint_eq(grant_target(guest), SIZE);
	set_actual(guest, SIZE);
	ck_assert(WAIT_FOR(loop, releases == 1));
	ck_assert_uint_eq(last.from_bytes, 100 * MIB);
}
END_TEST

START_TEST(an_adopted_vm_has_it_back_while_it_rests)
{
	struct guest *guest = &guests[0];
	uint64_t target;

	make_vm(0);
	be_adopted(guest, 100 * MIB);
	rest(guest);
	target = grant_target(guest);
	ck_assert_uint_gt(target, 100 * MIB);
	set_actual(guest, target);
	ck_assert(WAIT_FOR(loop, releases == 1));
}
END_TEST

/* --- Spares and the last resort --- */

START_TEST(spares_go_first)
{
	make_vm(0);
	make_vm(1);
	rest(&guests[1]);
	guests[0].vm.spec.uid = VM_UID_NONE;
	guests[0].vm.state = VM_PAUSED;
	/* All that is needed and more. */
	guests[0].anonymous = 4000 * MIB;
	tell(&guests[1], 0);
	leave(900);
	ck_assert(WAIT_FOR(loop, dropped > 0));
	ck_assert_uint_eq(memory_control_counters(control)->spares_dropped, 1);
	ck_assert_uint_eq(guests[1].drops, 0);
	ck_assert_uint_eq(fake_qmp_waiting(guests[1].qmp), 0);
}
END_TEST

/* Nothing helps for 5 s: the VM with the most goes, and its client hears what became of it. */
/* A spare that became a run's is one VM more, not memory on its way. */
START_TEST(a_spare_that_was_taken_stays)
{
	make_vm(0);
	guests[0].vm.spec.uid = VM_UID_NONE;
	guests[0].vm.state = VM_PAUSED;
	are_spares_taken = true;
	leave(900);
	ck_assert(WAIT_FOR(loop, memory_control_policy(control)->level == POLICY_ORANGE));
	are_spares_taken = false;
	ck_assert_uint_eq(vm_memory(&guests[0].vm)->policy.ended_us, 0);
	ck_assert_uint_eq(memory_control_counters(control)->spares_dropped, 0);
}
END_TEST

START_TEST(the_last_resort)
{
	make_vm(0);
	make_vm(1);
	guests[1].anonymous = 250 * MIB;
	leave(50);
	ck_assert(WAIT_FOR(loop, (guests[0].cpu = guests[1].cpu = now_us(), ooms > 0)));
	ck_assert_int_eq(guests[1].vm.state, VM_STOPPING);
	ck_assert_int_eq(guests[0].vm.state, VM_RUNNING);
	ck_assert(WAIT_FOR(loop, guests[1].lost_code != 0));
	ck_assert_int_eq(guests[1].lost_code, RPC_CAPACITY);
	ck_assert(guests[1].was_dispatched);
	ck_assert_uint_eq(memory_control_counters(control)->kills, 1);
}
END_TEST

/* --- By hand --- */

static int hand_count, hand_error;
static uint64_t hand_actual;

static void on_hand(void *user, int error, uint64_t actual)
{
	ck_assert_ptr_eq(user, &hand_count);
	hand_count++;
	hand_error = error;
	hand_actual = actual;
}

static void set_by_hand(struct guest *guest, uint64_t target)
{
	ck_assert_int_eq(memory_control_balloon(control, &guest->vm, target, on_hand, &hand_count),
			 0);
	ck_assert_uint_eq(grant_target(guest), target);
	set_actual(guest, target);
}

/* On GREEN the policy would give it back: not what was set by hand, until it is whole again. */
START_TEST(a_target_by_hand_holds)
{
	struct guest *guest = &guests[0];
	uint64_t steps;

	hand_count = 0;
	make_vm(0);
	set_by_hand(guest, 128 * MIB);
	ck_assert(WAIT_FOR(loop, hand_count == 1));
	ck_assert_int_eq(hand_error, 0);
	ck_assert_uint_eq(hand_actual, 128 * MIB);
	ck_assert(vm_memory(&guest->vm)->is_pinned);
	steps = memory_control_policy(control)->steps;
	ck_assert(WAIT_FOR(loop, memory_control_policy(control)->steps >= steps + 3));
	ck_assert(!vm_memory(&guest->vm)->sample.can_balloon);
	set_by_hand(guest, SIZE);
	ck_assert(WAIT_FOR(loop, hand_count == 2));
	ck_assert(!vm_memory(&guest->vm)->is_pinned);
	ck_assert_uint_eq(squeezes, 1);
	ck_assert_uint_eq(releases, 1);
}
END_TEST

START_TEST(a_target_by_hand_that_is_not_reached)
{
	struct guest *guest = &guests[0];
	uint64_t asked;

	hand_count = 0;
	make_vm(0);
	ck_assert_int_eq(
		memory_control_balloon(control, &guest->vm, 64 * MIB, on_hand, &hand_count), 0);
	grant_target(guest);
	set_actual(guest, 200 * MIB);
	ck_assert(WAIT_FOR(loop, hand_count == 1));
	ck_assert_int_eq(hand_error, -ETIME);
	ck_assert_uint_eq(hand_actual, 200 * MIB);
	ck_assert_uint_eq(grant_target(guest), 208 * MIB);
	/* It holds where it stands; nobody asks on and on whether it moves. */
	ck_assert(vm_memory(&guest->vm)->is_pinned);
	asked = memory_control_policy(control)->steps;
	ck_assert(WAIT_FOR(loop, memory_control_policy(control)->steps >= asked + 1));
	ck_assert_uint_eq(fake_qmp_waiting(guest->qmp), 0);
	guest->vm.state = VM_READY;
	ck_assert_int_eq(
		memory_control_balloon(control, &guest->vm, 64 * MIB, on_hand, &hand_count),
		-ENOTCONN);
	guest->vm.state = VM_RUNNING;
}
END_TEST

/* --- Reclaim --- */

static int reclaim_count;
static struct memory_reclaimed reclaimed;
static struct memory_reclaimed_vm reclaimed_vm;

static void on_reclaimed(void *user UNUSED, const struct memory_reclaimed *what)
{
	reclaim_count++;
	ck_assert_ptr_nonnull(what);
	reclaimed = *what;
	if (what->count > 0)
		reclaimed_vm = what->vms[0];
}

START_TEST(reclaim_takes_what_is_asked)
{
	struct guest *guest = &guests[0];
	uint64_t target;

	reclaim_count = 0;
	make_vm(0);
	make_vm(1);
	rest(guest);
	rest(&guests[1]);
	ck_assert(WAIT_FOR(loop, guest->vm.telemetry.received_us > 0));
	ck_assert_int_eq(memory_control_reclaim(control, &guest->vm, 40 * MIB, on_reclaimed, NULL),
			 0);
	ck_assert_int_eq(memory_control_reclaim(control, NULL, MIB, on_reclaimed, NULL), -EBUSY);
	ck_assert(WAIT_FOR(loop, guest->drops == 1));
	tell(guest, guest->drop_id);
	target = grant_target(guest);
	set_actual(guest, target);
	guest->anonymous -= 41 * MIB;
	ck_assert(WAIT_FOR(loop, reclaim_count == 1));
	ck_assert_uint_eq(reclaimed.bytes, 41 * MIB);
	ck_assert_uint_eq(reclaimed.count, 1);
	ck_assert_str_eq(reclaimed_vm.id, "vm_1");
	ck_assert_uint_eq(reclaimed_vm.target_bytes, target);
	ck_assert_uint_eq(guests[1].drops, 0);
}
END_TEST

START_TEST(reclaim_ends_when_there_is_nothing)
{
	uint64_t began = now_us();

	reclaim_count = 0;
	make_vm(0);
	/* Not even blindly: what it has is QEMU's. */
	guests[0].anonymous = 25 * MIB;
	ck_assert_int_eq(memory_control_reclaim(control, NULL, 10 * SIZE, on_reclaimed, NULL), 0);
	ck_assert(WAIT_FOR(loop, reclaim_count == 1));
	ck_assert_uint_eq(reclaimed.bytes, 0);
	ck_assert_uint_lt(now_us() - began, 9 * UINT64_C(1000000));
	ck_assert_uint_eq(fake_qmp_waiting(guests[0].qmp), 0);
	ck_assert_uint_eq(memory_control_counters(control)->failures, 0);
}
END_TEST

/* --- Admission --- */

START_TEST(runs_start_on_credit)
{
	struct memory_settings settings;

	make_vm(0);
	ck_assert(memory_control_admit(control, "python", false));
	leave(490); /* 4.9 %: RED, with 90 MiB over what is kept, 40 of them for the run there is */
	ck_assert(WAIT_FOR(loop, memory_control_policy(control)->level == POLICY_RED));
	ck_assert(!memory_control_admit(control, "python", false));
	ck_assert(memory_control_admit(control, "python", true));
	ck_assert(!memory_control_admit(control, "python", true));
	memory_control_get(control, &settings);
	settings.is_off = true;
	memory_control_set(control, &settings);
	ck_assert(memory_control_admit(control, "python", false));
}
END_TEST

/* --- Settings --- */

/* Others have taken the memory: one at a time is let in all the same. */
START_TEST(an_empty_host_runs_one)
{
	leave(0);
	ck_assert(WAIT_FOR(loop, memory_control_policy(control)->level == POLICY_BLACK));
	ck_assert(memory_control_admit(control, "python", false));
	make_vm(0);
	ck_assert(!memory_control_admit(control, "python", false));
	guests[0].vm.spec.uid = VM_UID_NONE;
	promised_bytes = MIB;
	ck_assert(!memory_control_admit(control, "python", false));
	promised_bytes = 0;
	ck_assert(memory_control_admit(control, "python", false));
}
END_TEST

START_TEST(settings_hold_at_once)
{
	struct memory_settings settings, after;

	make_vm(0);
	memory_control_get(control, &settings);
	ck_assert_uint_eq(settings.reserve_bytes, 100 * MIB);
	ck_assert_uint_eq(settings.budget_bytes, 0);
	settings.budget_bytes = 200 * MIB;
	settings.floor_bytes = 100 * MIB;
	memory_control_set(control, &settings);
	ck_assert_uint_eq(memory_control_sample(control)->managed_bytes, 200 * MIB);
	/* The owner is told before the step, which may let runs start. */
	ck_assert_uint_eq(told_budget_bytes, 200 * MIB);
	ck_assert_uint_eq(told_steps + 1, memory_control_policy(control)->steps);
	/* 180 of 200 are used. */
	ck_assert_uint_eq(memory_control_sample(control)->available_bytes, 20 * MIB);
	ck_assert_int_ge(memory_control_policy(control)->level, POLICY_YELLOW);
	memory_control_get(control, &after);
	ck_assert_uint_eq(after.floor_bytes, 100 * MIB);
}
END_TEST

START_TEST(turned_off_it_does_nothing)
{
	struct memory_settings settings;

	make_vm(0);
	rest(&guests[0]);
	memory_control_get(control, &settings);
	settings.is_off = true;
	memory_control_set(control, &settings);
	leave(50);
	ck_assert(WAIT_FOR(loop, memory_control_policy(control)->steps > 12));
	ck_assert_int_eq(memory_control_policy(control)->level, POLICY_BLACK);
	ck_assert_uint_eq(guests[0].drops, 0);
	ck_assert_uint_eq(ooms, 0);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("memory control with VMs");
	TCase *tests = tcase_create("all");

	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_set_timeout(tests, 90);
	tcase_add_test(tests, an_idle_vm_is_squeezed);
	tcase_add_test(tests, the_drop_has_a_deadline);
	tcase_add_test(tests, a_busy_vm_is_left_alone);
	tcase_add_test(tests, a_program_that_sleeps_is_idle);
	tcase_add_test(tests, a_stalled_guest_has_it_back_at_once);
	tcase_add_test(tests, a_guest_that_does_not_follow);
	tcase_add_test(tests, qemu_refuses);
	tcase_add_test(tests, an_end_in_the_middle);
	tcase_add_test(tests, a_stop_in_the_middle);
	tcase_add_test(tests, a_squeezed_vm_is_halted_and_wakes);
	tcase_add_test(tests, an_adopted_vm_has_it_back_at_work);
	tcase_add_test(tests, an_adopted_vm_has_it_back_while_it_rests);
	tcase_add_test(tests, spares_go_first);
	tcase_add_test(tests, a_spare_that_was_taken_stays);
	tcase_add_test(tests, the_last_resort);
	tcase_add_test(tests, a_target_by_hand_holds);
	tcase_add_test(tests, a_target_by_hand_that_is_not_reached);
	tcase_add_test(tests, reclaim_takes_what_is_asked);
	tcase_add_test(tests, reclaim_ends_when_there_is_nothing);
	tcase_add_test(tests, runs_start_on_credit);
	tcase_add_test(tests, an_empty_host_runs_one);
	tcase_add_test(tests, settings_hold_at_once);
	tcase_add_test(tests, turned_off_it_does_nothing);
	suite_add_tcase(suite, tests);
	return suite;
}
