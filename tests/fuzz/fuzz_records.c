/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an earlier daemon has left, read by the next one: records of VMs and of programs, and the
 * files of their output. Only the daemon's own user can write there; a bug of one daemon must not
 * become the next one's end all the same.
 */
#include "base/kept.h"
#include "base/util.h"
#include "daemon/session/adoption.h"
#include "daemon/session/output.h"
#include "daemon/session/results_internal.h"
#include "daemon/session/ring.h"
#include "daemon/session/run.h"
#include "daemon/session/session_record.h"
#include "daemon/session/sessions.h"
#include "tests/fuzz/time.h"
#include "tests/fuzz/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

/* The two low bits of an input's first byte: what the rest of it is. */
enum kind {
	KIND_VM,     /* up to four parts with a NUL between them: the record of a VM, that of its
			program, HELLO_REPLY, and steps of the guest (guest.h) */
	KIND_RESULT, /* the record of a program */
	KIND_RING,   /* a limit (limits[]), and a file */
	KIND_SPOOL,  /* the same */
};
/* The bits above. */
enum {
	FLAG_LOST = 4,     /* the program's end did not fit on the disk */
	FLAG_GONE = 8,     /* the VM cannot be adopted */
	FLAG_SILENT = 16,  /* it does not answer */
	FLAG_DEADLINE = 32 /* and then the next deadline passes */
};
/* Of ring and spool; the second one of the files that a VM's directory has. */
static const size_t limits[] = {0, 64, 4096, 10000, 1u << 20};
#define RING_SIZE   64u
#define FILE_NAME   "1.out"
#define RESULTS_DIR "results"

static struct config config;

static struct world {
	struct run_counters counters;
	struct exec_env exec_env;
	struct sessions *sessions;
	struct run_env run_env;
	struct vm_host host;
	struct adoption *adoption;
	bool is_settled, is_killed;
} world;

/* --- The directory of results. --- */

static int results_dir_fd = -1;

static void remove_result(void *user UNUSED, const char *name)
{
	FUZZ_CHECK(kept_remove(results_dir_fd, name) == 0);
}

static void remove_results_dir(void)
{
	(void)kept_walk(results_dir_fd, remove_result, NULL);
	(void)unlinkat(fuzz_vms_fd(), RESULTS_DIR, AT_REMOVEDIR);
}

/* Made once; the one around it is removed behind it. */
static int results_fd(void)
{
	int vms_fd = fuzz_vms_fd();

	if (results_dir_fd >= 0)
		return results_dir_fd;
	FUZZ_CHECK(mkdirat(vms_fd, RESULTS_DIR, 0700) == 0);
	results_dir_fd = openat(vms_fd, RESULTS_DIR, O_PATH | O_DIRECTORY | O_CLOEXEC);
	FUZZ_CHECK(results_dir_fd >= 0);
	atexit(remove_results_dir);
	return results_dir_fd;
}

static void write_file(const char *name, const void *data, size_t len)
{
	FUZZ_CHECK(kept_write(fuzz_vm_dir_fd(), name, data, len) == 0);
}

/* --- Records of programs. --- */

/* The name that the file of such a record has. */
static bool name_of(const uint8_t *text, size_t len, bool is_lost, char ret[KEPT_NAME_SIZE])
{
	json_auto_t *saved = json_loadb((const char *)text, len, JSON_ALLOW_NUL, NULL);
	const char *exec_id = json_string_value(json_object_get(saved, "exec_id"));
	json_int_t uid = json_integer_value(json_object_get(saved, "uid"));
	char hash[STORE_HASH_SIZE];

	if (!exec_id)
		return false;
	FUZZ_CHECK(store_hash(exec_id, strlen(exec_id), hash) == 0);
	snprintf(ret, KEPT_NAME_SIZE, "%jd-%s.%s", (intmax_t)uid, hash, is_lost ? "lost" : "json");
	return true;
}

static void check_result(const struct result_record *record)
{
	FUZZ_CHECK(*record->exec_id && record->has_file && !record->exec);
	FUZZ_CHECK(record->has_ended == (record->result || record->error));
	FUZZ_CHECK(!record->result || !record->error);
	FUZZ_CHECK(!record->has_ended == !!record->progress);
	FUZZ_CHECK(strlen(record->request) == STORE_HASH_SIZE - 1);
}

/* NULL: it is none. */
static struct result_record *parse_result(const uint8_t *text, size_t len, uint8_t flags,
					  json_t **ret_saved)
{
	char name[KEPT_NAME_SIZE] = FILE_NAME;
	struct result_record *record;
	int r;

	(void)name_of(text, len, flags & FLAG_LOST, name);
	r = results_file_parse(world.exec_env.results, name, (const char *)text, len, &record,
			       ret_saved);
	FUZZ_CHECK(r == 0 || r == -EINVAL || r == -ESTALE);
	if (r < 0)
		return NULL;
	check_result(record);
	return record;
}

/* A daemon starts and ends. What it tells of the one record there is: a new reference, or NULL. */
static json_t *load_results(void)
{
	struct results *results;
	const struct result_record *record;
	json_t *told = NULL;

	FUZZ_CHECK(results_create(world.exec_env.loop, &config, fuzz_vm_dir_fd(), &results) == 0);
	FUZZ_CHECK(results_load(results, NULL, NULL) == 0);
	record = TAILQ_FIRST(&results->records);
	if (record) {
		/* Nobody goes on with one that ran. */
		FUZZ_CHECK(record->has_ended && !TAILQ_NEXT(record, link));
		told = record->result ? json_incref(record->result)
				      : rpc_error_to_json(record->error);
		FUZZ_CHECK(told);
	}
	results_destroy(results);
	return told;
}

static void play_result(const uint8_t *data, size_t size, uint8_t flags)
{
	char name[KEPT_NAME_SIZE];
	json_t *saved, *told, *again;
	struct result_record *record = parse_result(data, size, flags, &saved);
	bool is_one = record != NULL;

	if (is_one) {
		results_free_record(record);
		json_decref(saved);
	}
	if (!name_of(data, size, flags & FLAG_LOST, name))
		return;
	write_file(name, data, size);
	told = load_results();
	again = load_results();
	FUZZ_CHECK(!told == !is_one && !again == !is_one);
	FUZZ_CHECK(!told || json_equal(told, again));
	json_decref(told);
	json_decref(again);
}

/* --- Records of VMs. --- */

/* What execs 1 (a process) and 2 (a program) have said so far. */
static void write_outputs(void)
{
	static const char *const rings[] = {"1.out", "1.err"};
	struct ring ring;

	for (size_t i = 0; i < ELEMENTSOF(rings); i++) {
		/* A ring removes its file: what it is made of is written again. */
		char *text;
		ssize_t len;

		ring_init(&ring, RING_SIZE);
		FUZZ_CHECK(ring_keep(&ring, fuzz_vm_dir_fd(), rings[i]) == 0);
		ring_add(&ring, (const uint8_t *)"early", 5, SIZE_MAX / 2);
		len = kept_read(fuzz_vm_dir_fd(), rings[i], 1u << 20, &text);
		FUZZ_CHECK(len > 0);
		ring_fini(&ring);
		write_file(rings[i], text, (size_t)len);
		free(text);
	}
	write_file("2.out", "said", 4);
	write_file("2.err", "", 0);
}

/* Cuts the next part off. */
static void next_part(const uint8_t **data, size_t *size, const uint8_t **ret, size_t *ret_len)
{
	const uint8_t *end = *size > 0 ? memchr(*data, 0, *size) : NULL;
	size_t len = end ? (size_t)(end - *data) : *size;

	*ret = *data;
	*ret_len = len;
	len += end ? 1 : 0;
	*data += len;
	*size -= len;
}

static void on_done(void *user UNUSED)
{
	FUZZ_CHECK(!world.is_settled);
	world.is_settled = true;
}

/* daemon/launcher/client.h's, by the linker's --wrap: it has the one VM, until that is adopted. */
const char *__wrap_launcher_list(const struct launcher *launcher, size_t i);
const char *__wrap_launcher_list(const struct launcher *launcher UNUSED, size_t i)
{
	return i > 0 || world.is_killed || fuzz_vm.wish ? NULL : FUZZ_VM_ID;
}

int __wrap_launcher_kill_rest(struct launcher *launcher);
int __wrap_launcher_kill_rest(struct launcher *launcher UNUSED)
{
	world.is_killed = !fuzz_vm.wish;
	return 0;
}

/* What a daemon finds when it starts. */
static void adopt(void)
{
	const struct adoption_config adoption = {.run = &world.run_env,
						 .sessions = world.sessions,
						 .host = &world.host,
						 .on_done = on_done};

	FUZZ_CHECK(adoption_start(&adoption, &world.adoption) == 0);
	FUZZ_CHECK(world.is_settled == !fuzz_vm.wish);
}

/* The guest says what it knows, the session or run goes on, and the guest says more. */
static void answer(const uint8_t *hello, size_t len, const uint8_t *steps, size_t size)
{
	struct pool_request *wish = TAKE_PTR(fuzz_vm.wish);
	const uint8_t *bytes;
	const char *why;
	struct msg msg;
	uint8_t step;

	if (msg_decode(FRAME_HELLO_REPLY, hello, len, &msg, &why) < 0) {
		wish->on_failed(wish->user, rpc_error_new(RPC_VM_LOST, "%s", why));
		fuzz_settle(fuzz_vm.guest.loop);
		FUZZ_CHECK(world.is_settled);
		return;
	}
	fuzz_vm.hello = &msg.hello_reply;
	wish->on_vm(wish->user, fuzz_vm_get());
	fuzz_vm.hello = NULL;
	msg_clear(&msg);
	fuzz_settle(fuzz_vm.guest.loop);
	FUZZ_CHECK(world.is_settled);
	fuzz_drain(fuzz_vm.guest.fd);
	while (!fuzz_vm.is_lost && fuzz_guest_step(&steps, &size, &step, &bytes, &len))
		if (step % STEP_COUNT != STEP_CALLER)
			fuzz_guest_say(&fuzz_vm.guest, step, 1 + STEP_EXEC(step), bytes, len);
}

static void go_on(const uint8_t *data, size_t size, uint8_t flags)
{
	const uint8_t *hello;
	size_t len;

	next_part(&data, &size, &hello, &len);
	if (fuzz_vm.wish && !(flags & FLAG_SILENT))
		answer(hello, len, data, size);
	fuzz_settle(fuzz_vm.guest.loop);
	if (flags & FLAG_DEADLINE)
		(void)fuzz_time_pass(fuzz_vm.guest.loop);
}

static void play_vm(const uint8_t *data, size_t size, uint8_t flags)
{
	char name[KEPT_NAME_SIZE];
	const uint8_t *text;
	size_t len;

	fuzz_vm.is_gone = flags & FLAG_GONE;
	next_part(&data, &size, &text, &len);
	write_file("record.json", text, len);
	next_part(&data, &size, &text, &len);
	if (name_of(text, len, false, name))
		FUZZ_CHECK(kept_write(results_fd(), name, text, len) == 0);
	write_outputs();
	fuzz_guest_say_hello(&fuzz_vm.guest);
	adopt();
	go_on(data, size, flags);
}

/* --- Files of output. --- */

static json_t *ring_content(const struct ring *ring)
{
	json_t *content = json_object();

	ring_to_result(ring, "stdout", 0, true, content);
	return content;
}

/* What the next daemon finds is what this one has. */
static void check_ring_again(const struct ring *ring)
{
	json_t *here = ring_content(ring), *there;
	struct ring next;

	FUZZ_CHECK(ring->end - ring->start <= ring->size && ring->size <= ring->limit);
	FUZZ_CHECK(ring_load(&next, ring->limit, fuzz_vm_dir_fd(), FILE_NAME) == 0);
	there = ring_content(&next);
	FUZZ_CHECK(next.start == ring->start && next.end == ring->end && json_equal(here, there));
	json_decref(here);
	json_decref(there);
	ring_fini(&next);
}

static void use_ring(struct ring *ring, const uint8_t *data, size_t size)
{
	uint64_t offset = 0;

	for (json_t *chunk; (chunk = ring_next_chunk(ring, &offset, 1000, true));)
		json_decref(chunk);
	FUZZ_CHECK(offset == ring->end || ring->size == 0);
	/* It never comes that far: no stream has 2^62 bytes. */
	if (ring->end <= (uint64_t)INT64_MAX / 2) {
		ring_add(ring, data, MIN(size, (size_t)5), SIZE_MAX / 2);
		ring_add(ring, data, size, 100);
		ring_trim(ring);
	}
}

static void play_ring(const uint8_t *data, size_t size, size_t limit)
{
	struct ring ring;

	write_file(FILE_NAME, data, size);
	if (ring_load(&ring, limit, fuzz_vm_dir_fd(), FILE_NAME) < 0) {
		FUZZ_CHECK(!ring.data && !ring.file && ring.limit == limit);
		return;
	}
	use_ring(&ring, data, size);
	check_ring_again(&ring);
	ring_fini(&ring);
}

static void check_spool_again(const struct output *output)
{
	struct output next = {.limit = output->limit};

	FUZZ_CHECK(output_spool_load(&next, fuzz_vm_dir_fd(), FILE_NAME) == 0);
	FUZZ_CHECK(next.len == output->len && memcmp(next.data, output->data, next.len) == 0);
	output_fini(&next);
}

static void play_spool(const uint8_t *data, size_t size, size_t limit)
{
	struct output output = {.limit = limit};
	uint64_t offset = 0;
	json_t *chunk;
	int r;

	write_file(FILE_NAME, data, size);
	r = output_spool_load(&output, fuzz_vm_dir_fd(), FILE_NAME);
	FUZZ_CHECK(r == (size > limit ? -EMSGSIZE : 0));
	if (r == 0) {
		FUZZ_CHECK(output.len == size && memcmp(output.data, data, size) == 0);
		r = output_add(&output, data, size);
		FUZZ_CHECK(r == (2 * size > limit ? -EMSGSIZE : 0));
		while ((chunk = output_chunk_from(&output, &offset, 1000)))
			json_decref(chunk);
		chunk = output_next_chunk(&output, true);
		json_decref(chunk);
		check_spool_again(&output);
	}
	output_fini(&output);
}

/* --- One input. --- */

static void start(void)
{
	struct exec_env *env = &world.exec_env;

	world = (struct world){0};
	fuzz_vm_start();
	*env = (struct exec_env){
		.loop = fuzz_vm.guest.loop, .config = &config, .counters = &world.counters};
	FUZZ_CHECK(results_create(env->loop, &config, results_fd(), &env->results) == 0);
	FUZZ_CHECK(sessions_create(&(struct sessions_config){.exec = env, .node = ""},
				   &world.sessions) == 0);
	world.run_env = (struct run_env){.exec = env, .vms_fd = fuzz_vms_fd()};
	world.host = (struct vm_host){.loop = env->loop, .vms_fd = fuzz_vms_fd()};
}

/* All that go on end with the daemon. */
static void finish(void)
{
	fuzz_guest_hang_up(&fuzz_vm.guest);
	fuzz_settle(fuzz_vm.guest.loop);
	results_destroy(world.exec_env.results);
	sessions_destroy(world.sessions);
	adoption_destroy(world.adoption);
	fuzz_vm_end();
	FUZZ_CHECK(kept_walk(results_fd(), remove_result, NULL) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t limit;

	fuzz_begin();
	fuzz_time_begin();
	if (size < 2)
		return 0;
	if (!config.socket)
		FUZZ_CHECK(config_defaults(&config) == 0);
	limit = limits[data[1] % ELEMENTSOF(limits)];
	start();
	switch ((enum kind)(data[0] & 3)) {
	case KIND_VM:
		play_vm(data + 1, size - 1, data[0]);
		break;
	case KIND_RESULT:
		play_result(data + 1, size - 1, data[0]);
		break;
	case KIND_RING:
		play_ring(data + 2, size - 2, limit);
		break;
	case KIND_SPOOL:
		play_spool(data + 2, size - 2, limit);
		break;
	}
	finish();
	return 0;
}
