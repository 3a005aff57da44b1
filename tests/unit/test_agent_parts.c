/* SPDX-License-Identifier: Apache-2.0 */
/* Parts of the guest agent by themselves: text readers, guard, receipts, languages, swap header. */
#include "base/util.h"
#include "guest-agent/go.h"
#include "guest-agent/guard.h"
#include "guest-agent/input.h"
#include "guest-agent/language.h"
#include "guest-agent/memory.h"
#include "guest-agent/output.h"
#include "guest-agent/proctext.h"
#include "guest-agent/receipt.h"
#include "guest-agent/zram.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>

START_TEST(test_keyed)
{
	const char *text = "oom 3\noom_kill 7\nMemTotal:   248388 kB\nempty\nlast 9";
	uint64_t value = 1;

	ck_assert(proctext_keyed(text, "oom_kill", &value));
	ck_assert_uint_eq(value, 7);
	ck_assert(proctext_keyed(text, "oom", &value));
	ck_assert_uint_eq(value, 3);
	ck_assert(proctext_keyed(text, "MemTotal", &value));
	ck_assert_uint_eq(value, 248388);
	ck_assert(proctext_keyed(text, "last", &value));
	ck_assert_uint_eq(value, 9);
	ck_assert(!proctext_keyed(text, "kill", &value));
	ck_assert(!proctext_keyed(text, "empty", &value));
	ck_assert(!proctext_keyed("", "x", &value));
}
END_TEST

START_TEST(test_pressure)
{
	const char *text = "some avg10=12.34 avg60=1.00 avg300=0.10 total=5000\n"
			   "full avg10=0.07 avg60=0.00 avg300=0.00 total=123\n";
	uint64_t avg = 0, total = 0;

	ck_assert(proctext_pressure(text, "some", &avg, &total));
	ck_assert_uint_eq(avg, 1234);
	ck_assert_uint_eq(total, 5000);
	ck_assert(proctext_pressure(text, "full", &avg, &total));
	ck_assert_uint_eq(avg, 7);
	ck_assert_uint_eq(total, 123);
	ck_assert(!proctext_pressure("some avg10=x\n", "some", &avg, &total));
	ck_assert(!proctext_pressure(text, "half", &avg, &total));
	ck_assert_uint_eq(total, 123);
}
END_TEST

START_TEST(test_memory_texts)
{
	struct msg_memory memory = {0};

	memory_parse_meminfo("MemTotal: 100 kB\nMemFree: 50 kB\nMemAvailable: 70 kB\n"
			     "SwapTotal: 10 kB\nSwapFree: 9 kB\n",
			     &memory);
	ck_assert_uint_eq(memory.mem_total, 100 * 1024);
	ck_assert_uint_eq(memory.mem_available, 70 * 1024);
	ck_assert_uint_eq(memory.swap_free, 9 * 1024);
	/* Neither tmpfs nor what is mapped can be dropped; what is locked cannot be compressed. */
	memory_parse_meminfo("Buffers: 1 kB\nCached: 60 kB\nAnonPages: 30 kB\nMapped: 10 kB\n"
			     "Shmem: 20 kB\nSReclaimable: 4 kB\nMlocked: 2 kB\n",
			     &memory);
	ck_assert_uint_eq(memory.mem_caches, (1 + 60 - 20 - 10 + 4) * 1024);
	ck_assert_uint_eq(memory.mem_anonymous, (30 + 20 - 2) * 1024);
	memory_parse_meminfo("Cached: 1 kB\nShmem: 20 kB\nMlocked: 99 kB\n", &memory);
	ck_assert_uint_eq(memory.mem_caches, 0);
	ck_assert_uint_eq(memory.mem_anonymous, 0);
	memory_parse_vmstat("pswpin 2\npswpout 3\n", &memory);
	ck_assert_uint_eq(memory.swap_in, 2 * (uint64_t)sysconf(_SC_PAGESIZE));
	ck_assert_uint_eq(memory.swap_out, 3 * (uint64_t)sysconf(_SC_PAGESIZE));
	memory_parse_mm_stat("  1 2 3 4 5 6 7 8 9\n", &memory);
	ck_assert_uint_eq(memory.zram_orig_data_size, 1);
	ck_assert_uint_eq(memory.zram_mem_limit, 4);
	ck_assert_uint_eq(memory.zram_huge_pages, 8);
	/* A kernel with fewer fields. */
	memory_parse_mm_stat("11 12", &memory);
	ck_assert_uint_eq(memory.zram_compr_data_size, 12);
	ck_assert_uint_eq(memory.zram_mem_used_total, 3);
}
END_TEST

/* Steps of half a second with `stall_us` of full stall each; the verdict after `steps`. */
static enum guard_verdict guard_after(struct guard *guard, int steps, uint64_t stall_us,
				      uint64_t used, uint64_t ballooned, uint64_t swap_free)
{
	struct guard_sample sample = {.now_us = 1000000,
				      .zram_limit = 1000,
				      .zram_used = used,
				      .ballooned = ballooned,
				      .swap_free = swap_free,
				      .swap_total = 1000};
	enum guard_verdict verdict = GUARD_FINE;

	guard_reset(guard);
	for (int i = 0; i < steps; i++) {
		verdict = guard_step(guard, &sample);
		sample.now_us += 500000;
		sample.full_total_us += stall_us;
	}
	return verdict;
}

#define BALLOONED (16u << 20)

static const struct {
	int steps;
	uint64_t stall_us, used, ballooned, swap_free;
	enum guard_verdict verdict;
} guards[] = {
	/* Two seconds are five samples; 60 % of them stalled. */
	{5, 300000, 1000, 0, 500, GUARD_HOPELESS},
	{4, 300000, 1000, 0, 500, GUARD_STALLED},
	{5, 299000, 1000, 0, 500, GUARD_STALLED},
	{50, 300000, 950, 0, 500, GUARD_HOPELESS},
	/* Swap that still takes pages is no reason to kill, however much it stalls. */
	{50, 500000, 949, 0, 51, GUARD_STALLED},
	/* One that is full is, when it does not help. */
	{5, 50000, 0, 0, 50, GUARD_HOPELESS},
	{4, 500000, 0, 0, 50, GUARD_STALLED},
	{50, 49000, 0, 0, 0, GUARD_FINE},
	/* A tenth of the time is worth a word to the host, not of the first sample. */
	{2, 50000, 0, 0, 500, GUARD_STALLED},
	{2, 49000, 0, 0, 500, GUARD_FINE},
	{1, 500000, 1000, 0, 0, GUARD_FINE},
	/* What the host has of it may come back: ten seconds after hope ended. */
	{24, 500000, 1000, BALLOONED, 0, GUARD_STALLED},
	{25, 500000, 1000, BALLOONED, 0, GUARD_HOPELESS},
	{5, 500000, 1000, BALLOONED - 1, 0, GUARD_HOPELESS},
};

START_TEST(test_guard)
{
	struct guard guard;

	ck_assert_int_eq(guard_after(&guard, guards[_i].steps, guards[_i].stall_us, guards[_i].used,
				     guards[_i].ballooned, guards[_i].swap_free),
			 guards[_i].verdict);
}
END_TEST

/* A moment's hope does not begin the host's ten seconds anew; a whole window of it does. */
START_TEST(test_guard_patience)
{
	struct guard_sample sample = {.zram_limit = 10,
				      .zram_used = 10,
				      .ballooned = BALLOONED,
				      .swap_free = 5,
				      .swap_total = 10};
	struct guard guard;
	unsigned steps = 0;

	guard_reset(&guard);
	while (guard_step(&guard, &sample) != GUARD_HOPELESS && steps < 100) {
		sample.now_us += 500000;
		sample.full_total_us += 490000;
		/* Now and then there is room for one more page. */
		sample.zram_used = ++steps % 6 == 5 ? 9 : 10;
	}
	ck_assert_uint_ge(steps, 24);
	ck_assert_uint_le(steps, 26);
	for (unsigned i = 0; i < 6; i++) {
		sample.now_us += 500000;
		guard_step(&guard, &sample);
	}
	sample.full_total_us += 10000000;
	sample.now_us += 500000;
	sample.zram_used = 10;
	ck_assert_int_eq(guard_step(&guard, &sample), GUARD_STALLED);
}
END_TEST

START_TEST(test_guard_forgets)
{
	struct guard_sample sample = {
		.now_us = 1, .zram_limit = 10, .zram_used = 10, .swap_free = 5, .swap_total = 10};
	struct guard guard;

	/* A stall of long ago does not count against now. */
	guard_reset(&guard);
	ck_assert_int_ne(guard_step(&guard, &sample), GUARD_HOPELESS);
	sample.full_total_us = 100000000;
	for (int i = 0; i < 20; i++) {
		sample.now_us += 500000;
		guard_step(&guard, &sample);
	}
	ck_assert_int_ne(guard_step(&guard, &sample), GUARD_HOPELESS);
	/* Samples that come late: the window is at least two seconds, whatever their distance. */
	sample.now_us += 60000000;
	sample.full_total_us += 50000000;
	ck_assert_int_eq(guard_step(&guard, &sample), GUARD_HOPELESS);
	/* No zram, no guard: the kernel's OOM killer does its work. */
	sample.zram_limit = 0;
	ck_assert_int_ne(guard_step(&guard, &sample), GUARD_HOPELESS);
}
END_TEST

static const struct {
	enum receipt_verdict verdict;
	int status;
	uint64_t oom_kills;
	const char *reason;
	uint64_t exit_code, signal;
} ends[] = {
	{VERDICT_NONE, 3 << 8, 0, MSG_REASON_EXITED, 3, 0},
	{VERDICT_NONE, SIGSEGV, 0, MSG_REASON_SIGNALED, 0, SIGSEGV},
	{VERDICT_NONE, SIGKILL, 0, MSG_REASON_SIGNALED, 0, SIGKILL},
	{VERDICT_NONE, SIGKILL, 1, MSG_REASON_OOM, 0, SIGKILL},
	{VERDICT_OOM, SIGKILL, 0, MSG_REASON_OOM, 0, SIGKILL},
	{VERDICT_OUTPUT_LIMIT, SIGKILL, 1, MSG_REASON_OOM, 0, SIGKILL},
	{VERDICT_OUTPUT_LIMIT, SIGKILL, 0, MSG_REASON_OUTPUT_LIMIT, 0, SIGKILL},
	{VERDICT_OUTPUT_LIMIT, 0, 0, MSG_REASON_OUTPUT_LIMIT, 0, 0},
	/* A child was killed for memory, the program went on and ended well. */
	{VERDICT_NONE, 0, 1, MSG_REASON_EXITED, 0, 0},
	{VERDICT_OOM, 1 << 8, 0, MSG_REASON_EXITED, 1, 0},
};

START_TEST(test_receipt_reason)
{
	struct receipt_facts facts = {.verdict = ends[_i].verdict,
				      .status = ends[_i].status,
				      .usage.oom_kills = ends[_i].oom_kills};
	struct msg_exit receipt = {0};

	receipt_fill(&receipt, &facts);
	ck_assert_str_eq(receipt.reason, ends[_i].reason);
	ck_assert_uint_eq(receipt.exit_code, ends[_i].exit_code);
	ck_assert_uint_eq(receipt.signal, ends[_i].signal);
	ck_assert_uint_eq(receipt.oom_kills, ends[_i].oom_kills);
}
END_TEST

START_TEST(test_receipt_usage)
{
	struct receipt_facts facts = {
		.rusage = {.ru_utime = {.tv_sec = 1, .tv_usec = 5},
			   .ru_maxrss = 10,
			   .ru_majflt = 4},
		.usage = {.swap_bytes = 50},
		.swap_peak_bytes = 70,
	};
	struct msg_exit receipt = {0};

	receipt_fill(&receipt, &facts);
	ck_assert_uint_eq(receipt.cpu_user_us, 1000005);
	ck_assert_uint_eq(receipt.memory_peak_bytes, 10240);
	ck_assert_uint_eq(receipt.page_faults_major, 4);
	ck_assert_uint_eq(receipt.swap_peak_bytes, 70);
	/* The cgroup knows better. */
	facts.usage =
		(struct cgroup_usage){.has_cpu = true, .cpu_user_us = 9, .memory_peak_bytes = 99};
	receipt_fill(&receipt, &facts);
	ck_assert_uint_eq(receipt.cpu_user_us, 9);
	ck_assert_uint_eq(receipt.memory_peak_bytes, 99);
}
END_TEST

START_TEST(test_report)
{
	json_t *error = receipt_parse_report("Name\0value\0trace", 16);

	ck_assert_str_eq(json_string_value(json_object_get(error, "name")), "Name");
	ck_assert_str_eq(json_string_value(json_object_get(error, "value")), "value");
	ck_assert_str_eq(json_string_value(json_object_get(error, "traceback")), "trace");
	json_decref(error);
	error = receipt_parse_report("\0\0", 2);
	ck_assert_str_eq(json_string_value(json_object_get(error, "traceback")), "");
	json_decref(error);
	ck_assert_ptr_null(receipt_parse_report("", 0));
	ck_assert_ptr_null(receipt_parse_report("only one", 8));
	ck_assert_ptr_null(receipt_parse_report("a\0b", 3));
	ck_assert_ptr_null(receipt_parse_report("a\0b\0c\0d", 7));
	ck_assert_ptr_null(receipt_parse_report("a\0\xff\0c", 5));
}
END_TEST

static bool has(char *const *strings, const char *wanted)
{
	for (; *strings; strings++)
		if (strcmp(*strings, wanted) == 0)
			return true;
	return false;
}

START_TEST(test_language_command)
{
	json_t *args = json_pack("[ss]", "-x", "a b");
	char **argv = language_argv(language_find("javascript"), "/run/r", "/home/u/main.ts", args);
	static const char *const expected[] = {
		"/usr/bin/bun",         "--smol",          "--no-install", "--preload",
		"/run/r/javascript.js", "/home/u/main.ts", "-x",           "a b"};

	for (size_t i = 0; i < ELEMENTSOF(expected); i++)
		ck_assert_str_eq(argv[i], expected[i]);
	ck_assert_ptr_null(argv[ELEMENTSOF(expected)]);
	strings_free(argv);
	json_decref(args);
	ck_assert_ptr_null(language_find("perl"));
	argv = language_argv(language_find("shell"), "/r", "/h/main.sh", NULL);
	ck_assert_str_eq(argv[1], "/h/main.sh");
	ck_assert_ptr_null(argv[2]);
	strings_free(argv);
}
END_TEST

START_TEST(test_language_environment)
{
	json_t *env = json_pack("{ssssss}", "LANG", "de_DE", "NEW", "=a=b", "HOME", "/else");
	char **environment = language_environment(language_find("python"), "/r", "/h", env, false);

	ck_assert(has(environment, "LANG=de_DE"));
	ck_assert(!has(environment, "LANG=C.UTF-8"));
	ck_assert(has(environment, "NEW==a=b"));
	ck_assert(has(environment, "HOME=/else"));
	ck_assert(!has(environment, "HOME=/h"));
	ck_assert(has(environment, "PYTHONPATH=/r/python"));
	ck_assert(has(environment, "EXECSANDBOX_REPORT_FD=100"));
	ck_assert(!has(environment, "EXECSANDBOX_GO_FD=101"));
	strings_free(environment);
	json_decref(env);
	environment = language_environment(language_find("shell"), "/r", "/h", NULL, true);
	ck_assert(has(environment, "BASH_ENV=/r/shell.sh"));
	ck_assert(has(environment, "EXECSANDBOX_GO_FD=101"));
	strings_free(environment);
}
END_TEST

static const struct {
	const char *language, *name;
	bool can;
} late_names[] = {
	{"python", "COLOUR", true},
	{"python", "TZ", true},
	{"python", "PATH", true},
	{"python", "a-b", true},
	{"python", "PYTHONHASHSEED", false},
	{"python", "LC_ALL", false},
	{"python", "LD_PRELOAD", false},
	{"python", "LANG", false},
	{"python", "LANGUAGES", true},
	{"python", "HOME", false},
	{"shell", "COLOUR", true},
	{"shell", "PATH", true},
	{"shell", "_x9", true},
	{"shell", "9x", false},
	{"shell", "a-b", false},
	{"shell", "a[$(id)]", false},
	{"shell", "BASH_ENV", false},
	{"shell", "RANDOM", false},
	{"shell", "SHLVL", false},
	{"shell", "MALLOC_ARENA_MAX", false},
	{"shell", "", false},
	{"javascript", "COLOUR", false},
};

START_TEST(test_late_names)
{
	json_t *env = json_pack("{ss}", late_names[_i].name, "value");

	ck_assert_int_eq(language_can_set_late(language_find(late_names[_i].language), env),
			 late_names[_i].can);
	ck_assert(language_can_set_late(language_find(late_names[_i].language), NULL));
	json_decref(env);
}
END_TEST

START_TEST(test_go_message)
{
	json_t *args = json_pack("[ss]", "a b", ""), *env = json_pack("{ss}", "N", "v=\n");
	static const char expected[] = "/tmp\0"
				       "2\0"
				       "a b\0"
				       "\0"
				       "N=v=\n";
	char buf[64];

	ck_assert_uint_eq(go_encode(buf, sizeof(buf), "/tmp", args, env), sizeof(expected));
	ck_assert_mem_eq(buf, expected, sizeof(expected));
	ck_assert_uint_eq(go_encode(buf, sizeof(expected), "/tmp", args, env), sizeof(expected));
	/* One byte short, wherever that is. */
	for (size_t size = 0; size < sizeof(expected); size++)
		ck_assert_uint_eq(go_encode(buf, size, "/tmp", args, env), 0);
	ck_assert_uint_eq(go_encode(buf, sizeof(buf), "", NULL, NULL), 3);
	ck_assert_mem_eq(buf,
			 "\0"
			 "0",
			 3);
	ck_assert_uint_eq(go_encode_run(buf, sizeof(buf), "", NULL, NULL), 4);
	ck_assert_mem_eq(buf,
			 "\0"
			 "\0"
			 "0",
			 4);
	ck_assert_uint_eq(go_encode_stay(buf, sizeof(buf), env), 12);
	ck_assert_mem_eq(buf, "stay\0N=v=\n\0", 12);
	ck_assert_uint_eq(go_encode_stay(buf, 11, env), 0);
	json_decref(args);
	json_decref(env);
}
END_TEST

/* An interpreter that waited has used something before its run. */
START_TEST(test_receipt_counts_from_the_start_of_the_run)
{
	struct receipt_facts facts = {
		.rusage = {.ru_utime.tv_sec = 3, .ru_stime.tv_usec = 10, .ru_majflt = 9},
		.rusage_before = {.ru_utime.tv_sec = 1, .ru_stime.tv_usec = 20, .ru_majflt = 4},
	};
	struct msg_exit receipt = {0};

	receipt_fill(&receipt, &facts);
	ck_assert_uint_eq(receipt.cpu_user_us, 2000000);
	ck_assert_uint_eq(receipt.cpu_system_us, 0);
	ck_assert_uint_eq(receipt.page_faults_major, 5);
	facts.usage = (struct cgroup_usage){.has_cpu = true, .cpu_user_us = 9, .cpu_system_us = 8};
	facts.usage_before =
		(struct cgroup_usage){.has_cpu = true, .cpu_user_us = 4, .cpu_system_us = 2};
	receipt_fill(&receipt, &facts);
	ck_assert_uint_eq(receipt.cpu_user_us, 5);
	ck_assert_uint_eq(receipt.cpu_system_us, 6);
}
END_TEST

START_TEST(test_swap_header)
{
	uint8_t page[16384];
	uint32_t version, last_page;

	memset(page, 0xff, sizeof(page));
	zram_swap_header(page, sizeof(page), 100 * sizeof(page));
	memcpy(&version, page + 1024, 4);
	memcpy(&last_page, page + 1028, 4);
	ck_assert_uint_eq(version, 1);
	ck_assert_uint_eq(last_page, 99);
	ck_assert_mem_eq(page + sizeof(page) - 10, "SWAPSPACE2", 10);
	/* No bad pages, no label. */
	for (size_t i = 1032; i < sizeof(page) - 10; i++)
		ck_assert_uint_eq(page[i], 0);
}
END_TEST

/* --- Streams to and from pipes -----------------------------------------------------------------
 */

struct counts {
	unsigned ready, limit, credit, end;
	int error;
};

static void on_ready(void *user)
{
	((struct counts *)user)->ready++;
}

static void on_limit(void *user)
{
	((struct counts *)user)->limit++;
}

static void on_credit(void *user)
{
	((struct counts *)user)->credit++;
}

static void on_end(void *user, int error)
{
	((struct counts *)user)->end++;
	((struct counts *)user)->error = error;
}

static const struct output_ops output_ops = {.on_ready = on_ready, .on_limit = on_limit};
static const struct input_ops input_ops = {.on_credit = on_credit, .on_end = on_end};

START_TEST(test_output_drains_what_is_left)
{
	struct counts counts = {0};
	struct output output;
	struct loop *loop;
	char bytes[50000];
	int ends_[2];

	memset(bytes, 'x', sizeof(bytes));
	ck_assert_int_eq(loop_create(&loop), 0);
	ck_assert_int_eq(pipe2(ends_, O_NONBLOCK | O_CLOEXEC), 0);
	output_init(&output, loop, 40000, &output_ops, &counts);
	output_start(&output, ends_[0]);
	ck_assert_int_eq(write(ends_[1], bytes, sizeof(bytes)), sizeof(bytes));
	/* The write end is still open in somebody's hands: empty is enough. */
	ck_assert(output_drain(&output));
	ck_assert_uint_eq(output.total, 50000);
	ck_assert_uint_eq(output.sender.written, 40000);
	ck_assert_uint_eq(counts.limit, 1);
	ck_assert_uint_ge(counts.ready, 1);
	ck_assert(output_drain(&output));
	output_fini(&output);
	close(ends_[1]);
	loop_destroy(loop);
}
END_TEST

START_TEST(test_output_stops_without_room)
{
	struct counts counts = {0};
	struct output output;
	struct loop *loop;
	uint64_t offset;
	const uint8_t *data;
	char bytes[65536] = {0};
	int ends_[2];

	ck_assert_int_eq(loop_create(&loop), 0);
	ck_assert_int_eq(pipe2(ends_, O_NONBLOCK | O_CLOEXEC), 0);
	output_init(&output, loop, UINT64_MAX, &output_ops, &counts);
	output_start(&output, ends_[0]);
	for (int i = 0; i < 5; i++) {
		ck_assert_int_eq(write(ends_[1], bytes, sizeof(bytes)), sizeof(bytes));
		loop_run_once(loop, true);
	}
	/* A window is in the sender, the rest stays in the pipe. */
	ck_assert_uint_eq(output.sender.written, FLOW_WINDOW);
	ck_assert(!output_drain(&output));
	ck_assert_uint_eq(output.sender.written, FLOW_WINDOW);
	while (flow_sender_next(&output.sender, FLOW_WINDOW, &offset, &data) > 0)
		;
	ck_assert_int_eq(flow_sender_credit(&output.sender, FLOW_WINDOW, 2 * (uint64_t)FLOW_WINDOW),
			 0);
	ck_assert(output_drain(&output));
	ck_assert_uint_eq(output.total, 5 * sizeof(bytes));
	output_fini(&output);
	close(ends_[1]);
	loop_destroy(loop);
}
END_TEST

START_TEST(test_input_waits_for_its_reader)
{
	struct counts counts = {0};
	struct input input;
	struct loop *loop;
	char bytes[100000], got[100000];
	size_t n = 0;
	int ends_[2];

	memset(bytes, 'i', sizeof(bytes));
	ck_assert_int_eq(loop_create(&loop), 0);
	ck_assert_int_eq(pipe2(ends_, O_NONBLOCK | O_CLOEXEC), 0);
	input_init(&input, loop, &input_ops, &counts);
	ck_assert_int_eq(input_data(&input, 0, (uint8_t *)bytes, 60000), 0);
	input_open(&input, ends_[1]);
	ck_assert_int_eq(input_data(&input, 60000, (uint8_t *)bytes, 40000), 0);
	ck_assert_int_eq(input_end(&input, 100000), 0);
	/* The pipe is full: the end is not yet. */
	ck_assert_uint_eq(counts.end, 0);
	while (n < sizeof(got)) {
		ssize_t got_now = read(ends_[0], got + n, sizeof(got) - n);

		if (got_now > 0)
			n += (size_t)got_now;
		else
			loop_run_once(loop, true);
	}
	loop_run_once(loop, false);
	ck_assert_mem_eq(got, bytes, sizeof(got));
	ck_assert_uint_eq(counts.end, 1);
	ck_assert_int_eq(counts.error, 0);
	ck_assert_int_eq(read(ends_[0], got, 1), 0);
	input_fini(&input);
	close(ends_[0]);
	loop_destroy(loop);
}
END_TEST

START_TEST(test_input_without_reader_is_swallowed)
{
	struct counts counts = {0};
	struct input input;
	struct loop *loop;
	uint8_t bytes[FLOW_WINDOW] = {0};
	int ends_[2];

	signal(SIGPIPE, SIG_IGN);
	ck_assert_int_eq(loop_create(&loop), 0);
	ck_assert_int_eq(pipe2(ends_, O_NONBLOCK | O_CLOEXEC), 0);
	close(ends_[0]);
	input_init(&input, loop, &input_ops, &counts);
	input_open(&input, ends_[1]);
	ck_assert_int_eq(input_data(&input, 0, bytes, 1000), 0);
	ck_assert_int_eq(counts.error, -EPIPE);
	ck_assert_int_eq(input_data(&input, 1000, bytes, FLOW_WINDOW - 1000), 0);
	ck_assert_uint_gt(counts.credit, 0);
	ck_assert_uint_eq(input.receiver.taken, FLOW_WINDOW);
	/* More than was granted is the host's fault. */
	ck_assert_int_eq(input_data(&input, FLOW_WINDOW, bytes, sizeof(bytes)), 0);
	ck_assert_int_eq(input_data(&input, 2 * FLOW_WINDOW + 1, bytes, 1), -EPROTO);
	ck_assert_uint_eq(counts.end, 1);
	input_fini(&input);
	loop_destroy(loop);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("agent_parts");
	TCase *tcase = tcase_create("parts");

	tcase_add_test(tcase, test_keyed);
	tcase_add_test(tcase, test_pressure);
	tcase_add_test(tcase, test_memory_texts);
	tcase_add_loop_test(tcase, test_guard, 0, ELEMENTSOF(guards));
	tcase_add_test(tcase, test_guard_patience);
	tcase_add_test(tcase, test_guard_forgets);
	tcase_add_loop_test(tcase, test_receipt_reason, 0, ELEMENTSOF(ends));
	tcase_add_test(tcase, test_receipt_usage);
	tcase_add_test(tcase, test_report);
	tcase_add_test(tcase, test_language_command);
	tcase_add_test(tcase, test_language_environment);
	tcase_add_loop_test(tcase, test_late_names, 0, ELEMENTSOF(late_names));
	tcase_add_test(tcase, test_go_message);
	tcase_add_test(tcase, test_receipt_counts_from_the_start_of_the_run);
	tcase_add_test(tcase, test_swap_header);
	tcase_add_test(tcase, test_output_drains_what_is_left);
	tcase_add_test(tcase, test_output_stops_without_room);
	tcase_add_test(tcase, test_input_waits_for_its_reader);
	tcase_add_test(tcase, test_input_without_reader_is_swallowed);
	suite_add_tcase(suite, tcase);
	return suite;
}
