/* SPDX-License-Identifier: Apache-2.0 */
/* Files of results: what of them is believed, and what there is room for. */
#include "tests/unit/test_results_fixture.h"

/* --- Limits. --- */

/* Writes what an ended record would be, to the name it would have; returns that. */
static const char *put_ended(const char *exec_id, uint64_t ended_us)
{
	static char name[KEPT_NAME_SIZE];
	char hash[STORE_HASH_SIZE];
	json_auto_t *saved = json_pack(
		"{s:i, s:s, s:s, s:s, s:I, s:{s:s, s:s, s:s}}", "uid", (int)getuid(), "exec_id",
		exec_id, "state", "ended", "request",
		"0000000000000000000000000000000000000000000000000000000000000000", "ended_us",
		(json_int_t)ended_us, "result", "status", "ok", "stdout", "x", "stderr", "");
	_cleanup_free_ char *text = json_dumps(saved, 0);

	ck_assert_int_eq(store_hash(exec_id, strlen(exec_id), hash), 0);
	snprintf(name, sizeof(name), "%u-%s.json", getuid(), hash);
	test_dir_write(dir, name, text, strlen(text));
	return name;
}

START_TEST(test_what_has_expired_is_removed)
{
	uint64_t now = now_us(), second = 1000000;

	config.result_seconds = 100;
	put_ended("old", now - 101 * second);
	put_ended("older", 0);
	put_ended("young", now - 50 * second);
	/* Of another boot: it stays for its whole time. */
	put_ended("future", now + 1000 * second);
	results_destroy(results);
	ck_assert_int_eq(load(NULL), 0);
	assert_code("get", "{\"exec_id\": \"old\"}", RPC_EXEC_NOT_FOUND);
	assert_code("get", "{\"exec_id\": \"older\"}", RPC_EXEC_NOT_FOUND);
	json_decref(call("get", "{\"exec_id\": \"young\"}"));
	ck_assert_uint_eq(count_files(), 2);
	/* The young one's time goes on from where it was. */
	config.result_seconds = 45;
	results_drop_expired(results);
	assert_code("get", "{\"exec_id\": \"young\"}", RPC_EXEC_NOT_FOUND);
	json_decref(call("get", "{\"exec_id\": \"future\"}"));
	ck_assert_uint_eq(count_files(), 1);
}
END_TEST

START_TEST(test_quota_drops_the_oldest)
{
	uint64_t now = now_us();
	char exec_id[16];

	for (int i = 0; i < 20; i++) {
		snprintf(exec_id, sizeof(exec_id), "id%d", i);
		put_ended(exec_id, now - (uint64_t)i * 1000000);
	}
	results_destroy(results);
	config.result_bytes_per_uid = (uint64_t)5 * (RECORD_BYTES + 100);
	ck_assert_int_eq(load(NULL), 0);
	ck_assert_uint_eq(count_files(), 5);
	for (int i = 0; i < 20; i++) {
		char text[64];

		snprintf(text, sizeof(text), "{\"exec_id\": \"id%d\"}", i);
		if (i < 5)
			json_decref(call("get", text));
		else
			assert_code("get", text, RPC_EXEC_NOT_FOUND);
	}
}
END_TEST

/* --- What does not go as it should. --- */

/* A result that cannot be written is there all the same, until the daemon's end. */
START_TEST(test_full_disk)
{
	int small_fd = test_small_disk(dir, "size=64k,mode=700");
	struct result_record *record;

	ck_assert_int_eq(dup3(small_fd, dir_fd, O_CLOEXEC), dir_fd);
	close(small_fd);
	record = begin(ONE);
	results_dispatched(record, &place);
	test_fill_disk(dir_fd);
	end(record, "x", 1, 1);
	json_decref(call("get", GET));
	record = begin("{\"exec_id\": \"two\"}");
	results_dispatched(record, &place);
	end(record, "x", 1, 1);
	json_decref(call("get", "{\"exec_id\": \"two\"}"));
	test_empty_disk(dir_fd);
	record = begin("{\"exec_id\": \"three\"}");
	results_dispatched(record, &place);
	end(record, "x", 1, 1);
	end_at_once();
	/* Of the first it is known that it ran and ended: nobody runs it again. Of the third, all.
	 */
	for (int i = 0; i < 2; i++) {
		running = NULL;
		ck_assert_int_eq(load(&load_ops), 0);
		ck_assert_ptr_null(running);
		assert_code("get", GET, RPC_VM_LOST);
		assert_code("get", "{\"exec_id\": \"two\"}", RPC_EXEC_NOT_FOUND);
		json_decref(call("get", "{\"exec_id\": \"three\"}"));
		end_at_once();
	}
	ck_assert_int_eq(load(&load_ops), 0);
}
END_TEST

static json_t *read_json(const char *name)
{
	_cleanup_free_ char *text = NULL;
	json_t *saved;

	ck_assert_int_gt(kept_read(dir_fd, name, 1 << 20, &text), 0);
	saved = json_loads(text, 0, NULL);
	ck_assert_ptr_nonnull(saved);
	return saved;
}

static void on_name(void *user, const char *name)
{
	snprintf(user, KEPT_NAME_SIZE, "%s", name);
}

static int parse(const char *name, const char *text, size_t len)
{
	struct result_record *record;
	json_t *saved;
	int r = results_file_parse(results, name, text, len, &record, &saved);

	if (r == 0) {
		results_free_record(record);
		json_decref(saved);
	}
	return r;
}

/* Every member missing, and of another type or size, one after the other. */
static void break_members(const char *name)
{
	static const char *const values[] = {
		"null", "-1", "1.5", "99999999999999999", "\"\"", "\"a\\u0000b\"",
		"[]",   "{}", "true"};
	json_auto_t *good = read_json(name);
	_cleanup_free_ char *text = json_dumps(good, 0);
	const char *key;
	json_t *value;

	ck_assert_int_eq(parse(name, text, strlen(text)), 0);
	json_object_foreach (good, key, value) {
		bool is_optional = strcmp(key, "session") == 0;

		for (size_t i = 0; i <= ELEMENTSOF(values); i++) {
			json_auto_t *bad = json_copy(good);
			_cleanup_free_ char *bad_text = NULL;
			int r;

			if (i == ELEMENTSOF(values))
				json_object_del(bad, key);
			else
				json_object_set_new(bad, key, json_of(values[i]));
			bad_text = json_dumps(bad, 0);
			r = parse(name, bad_text, strlen(bad_text));
			if (i == ELEMENTSOF(values))
				ck_assert_int_eq(r, is_optional ? 0 : -EINVAL);
			else if (!json_is_integer(value))
				ck_assert_int_eq(r, -EINVAL);
			else if (strcmp(values[i], "99999999999999999") != 0)
				ck_assert_int_eq(r, -EINVAL);
		}
	}
	for (size_t len = 0; len < strlen(text); len++)
		ck_assert_int_eq(parse(name, text, len), -EINVAL);
	ck_assert_int_eq(parse("0-aa.json", text, strlen(text)), -EINVAL);
}

START_TEST(test_malformed_members)
{
	char name[KEPT_NAME_SIZE];
	struct result_record *record = begin(ONE);
	struct rpc_error *error = rpc_error_new(RPC_VM_LOST, "Gone");

	results_dispatched(record, &place);
	ck_assert_int_eq(kept_walk(dir_fd, on_name, name), 0);
	break_members(name);
	end(record, "x", 1, 1);
	break_members(name);
	record->bytes = 0;
	json_decref(TAKE_PTR(record->result));
	record->error = error;
	results_file_ended(record);
	break_members(name);
}
END_TEST

START_TEST(test_malformed_files_are_removed)
{
	static const char *const texts[] = {"", "{", "[]", "{}", "{\"uid\": 0}", "null"};

	for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
		char name[16];

		snprintf(name, sizeof(name), "0-%zu.json", i);
		test_dir_write(dir, name, texts[i], strlen(texts[i]));
	}
	put_ended("good", now_us());
	ck_assert_int_eq(renameat(dir_fd, put_ended("other", now_us()), dir_fd, "0-x.json"), 0);
	ck_assert_int_eq(symlinkat("/etc/passwd", dir_fd, "0-link.json"), 0);
	ck_assert_int_eq(mkfifoat(dir_fd, "0-fifo.json", 0600), 0);
	test_dir_write(dir, ".new-0-half.json", "{\"uid\"", 6);
	/* Nothing of ours has such a name. */
	test_dir_write(dir, "Stranger", "x", 1);
	results_destroy(results);
	ck_assert_int_eq(load(NULL), 0);
	json_decref(call("get", "{\"exec_id\": \"good\"}"));
	ck_assert_uint_eq(count_files(), 2);
	ck_assert(test_dir_has(dir, "Stranger"));
}
END_TEST

/* Without a directory all is as it was. */
START_TEST(test_no_directory)
{
	struct result_record *record;

	results_destroy(results);
	ck_assert_int_eq(results_create(world.loop, &config, -1, &results), 0);
	ck_assert_int_eq(results_load(results, &load_ops, NULL), 0);
	record = begin(ONE);
	results_dispatched(record, &place);
	end(record, "x", 1, 1);
	json_decref(call("get", GET));
	ck_assert_uint_eq(count_files(), 0);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("results_file");
	TCase *tests = tcase_create("results_file");

	tcase_set_timeout(tests, 60);
	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, test_what_has_expired_is_removed);
	tcase_add_test(tests, test_quota_drops_the_oldest);
	tcase_add_test(tests, test_full_disk);
	tcase_add_test(tests, test_malformed_members);
	tcase_add_test(tests, test_malformed_files_are_removed);
	tcase_add_test(tests, test_no_directory);
	suite_add_tcase(suite, tests);
	return suite;
}
