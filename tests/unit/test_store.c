/* SPDX-License-Identifier: Apache-2.0 */
/* The template store as it should go: round trips, order, bounds, two stores on one directory. */
#include "tests/unit/suite.h"
#include "tests/unit/test_store_fixture.h"

static void expect_sha256sum(const char *path, const char *hash)
{
	char command[512], printed[STORE_HASH_SIZE] = "";
	FILE *pipe;

	snprintf(command, sizeof(command), "sha256sum '%s'", path);
	pipe = popen(command, "r");
	ck_assert_ptr_nonnull(fgets(printed, sizeof(printed), pipe));
	ck_assert_int_eq(pclose(pipe), 0);
	ck_assert_str_eq(printed, hash);
}

static void expect_mode(const char *path, unsigned mode)
{
	struct stat st;

	ck_assert_int_eq(lstat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, mode);
}

START_TEST(test_round_trip)
{
	struct answer saved = save("python-256", 0), loaded = load("python-256", 0);
	json_t *manifest = json_load_file(template_path("python-256", "manifest.json"), 0, NULL);

	ck_assert_str_eq(saved.hashes.ram, loaded.hashes.ram);
	ck_assert_str_eq(saved.hashes.state, loaded.hashes.state);
	expect_sha256sum(template_path("python-256", "ram"), saved.hashes.ram);
	expect_sha256sum(template_path("python-256", "state"), saved.hashes.state);
	ck_assert_json_str(manifest, "ram_sha256", saved.hashes.ram);
	ck_assert_json_str(manifest, "state_sha256", saved.hashes.state);
	ck_assert(json_equal(json_object_get(manifest, "identity"), identity));
	json_decref(manifest);
	expect_mode(template_path("python-256", ""), 0700);
	expect_mode(template_path("python-256", "ram"), 0600);
	expect_mode(template_path("python-256", "state"), 0600);
	expect_mode(template_path("python-256", "manifest.json"), 0600);
}
END_TEST

/* The image is filled whole, because it is sealed; its zeros are not written. */
START_TEST(test_memory_is_sparse_on_disk)
{
	struct store_entry *entries;
	struct stat st;

	save("a", 0);
	ck_assert_int_eq(stat(template_path("a", "ram"), &st), 0);
	ck_assert_int_eq(st.st_size, RAM_SIZE);
	ck_assert_int_lt(st.st_blocks * 512, DATA_SIZE + 65536);
	ck_assert_int_ge(st.st_blocks * 512, DATA_SIZE);
	ck_assert_int_eq(store_list(store, &entries), 1);
	ck_assert_uint_ge(entries[0].disk_bytes, (uint64_t)st.st_blocks * 512 + STATE_SIZE);
	ck_assert_uint_lt(entries[0].disk_bytes, DATA_SIZE + 2 * 65536 + STATE_SIZE);
	free(entries);
}
END_TEST

START_TEST(test_absent_is_absent)
{
	struct answer answer = load("python", -ENOENT);

	ck_assert_ptr_nonnull(strstr(answer.why, "There is no"));
	save("python", 0);
	/* Another identity is another template, and does no harm to this one. */
	json_object_set_new(identity, "qemu", json_string("8"));
	load("python", -ENOENT);
	load("pytho", -ENOENT);
	json_object_set_new(identity, "qemu", json_string("7.2"));
	load("python", 0);
}
END_TEST

START_TEST(test_older_keys_go_with_a_save)
{
	save("python", 0);
	save("python-256", 0);
	json_object_set_new(identity, "qemu", json_string("8"));
	save("python", 0);
	ck_assert_int_eq(count_names("python"), 2);
	load("python", 0);
	json_object_set_new(identity, "qemu", json_string("7.2"));
	load("python", -ENOENT);
	load("python-256", 0);
}
END_TEST

START_TEST(test_saving_twice_keeps_the_first)
{
	struct stat before, after;

	save("a", 0);
	ck_assert_int_eq(stat(template_path("a", "ram"), &before), 0);
	save("a", 0);
	ck_assert_int_eq(stat(template_path("a", "ram"), &after), 0);
	ck_assert_uint_eq(before.st_ino, after.st_ino);
	load("a", 0);
}
END_TEST

static uint64_t total_bytes(void)
{
	struct store_entry *entries;
	ssize_t count = store_list(store, &entries);
	uint64_t total = 0;

	for (ssize_t i = 0; i < count; i++)
		total += entries[i].disk_bytes;
	free(entries);
	return total;
}

START_TEST(test_least_recently_used_is_evicted)
{
	uint64_t max_bytes;

	save("a", 0);
	max_bytes = 7 * total_bytes() / 2; /* three, and what file systems add */
	store_destroy(store);
	store = open_store(max_bytes);
	save("b", 0);
	save("c", 0);
	ck_assert_int_eq(count_names(""), 3);
	load("a", 0);
	save("d", 0);
	ck_assert_int_eq(count_names("b-"), 0);
	ck_assert_int_eq(count_names(""), 3);
	ck_assert_uint_le(total_bytes(), max_bytes);
	save("e", 0);
	ck_assert_int_eq(count_names("c-"), 0);
	load("a", 0);
	load("d", 0);
	load("e", 0);
}
END_TEST

START_TEST(test_what_is_larger_than_the_store_evicts_nothing)
{
	struct answer answer;

	store_destroy(store);
	vm_image_fini(&image);
	make_image(&image, 1, 5);
	store = open_store(DATA_SIZE - 1);
	save("small", 0);
	vm_image_fini(&image);
	make_image(&image, MB, 1);
	answer = save("large", -EFBIG);
	ck_assert_ptr_nonnull(strstr(answer.why, "does not fit the store"));
	ck_assert_int_eq(count_names(""), 1);
	/* The memory would fit, with the rest it does not. */
	store_destroy(store);
	store = open_store(DATA_SIZE);
	answer = save("large", -EFBIG);
	ck_assert_ptr_nonnull(strstr(answer.why, "does not fit the store"));
	ck_assert_int_eq(count_names(""), 1);
}
END_TEST

START_TEST(test_list_is_newest_first)
{
	struct store_entry *entries;
	uint64_t before = realtime_ns();

	save("a-b-1", 0);
	save("c", 0);
	load("a-b-1", 0);
	/* What is no template is none of ours. */
	test_dir_write(dir, "notes", "x", 1);
	ck_assert_int_eq(mkdirat(dir_fd, "x-0123456789abcdeg", 0700), 0);
	ck_assert_int_eq(mkdirat(dir_fd, "-0123456789abcdef", 0700), 0);
	ck_assert_int_eq(mkdirat(dir_fd, "empty-0123456789abcdef", 0700), 0);
	ck_assert_int_eq(store_list(store, &entries), 3);
	ck_assert_str_eq(entries[0].name, "a-b-1");
	ck_assert_str_eq(entries[1].name, "c");
	ck_assert_str_eq(entries[2].name, "empty");
	ck_assert_str_eq(entries[2].key, "0123456789abcdef");
	ck_assert_uint_ge(entries[0].used_ns, entries[1].used_ns);
	ck_assert_uint_ge(entries[0].used_ns, before);
	ck_assert_uint_le(entries[0].used_ns, realtime_ns());
	ck_assert_uint_eq(entries[2].used_ns, 0);
	free(entries);
}
END_TEST

START_TEST(test_remove)
{
	save("a", 0);
	save("a-b", 0);
	ck_assert_int_eq(mkdirat(dir_fd, "a-0123456789abcdef", 0700), 0);
	ck_assert_int_eq(store_remove(store, "a"), 0);
	ck_assert_int_eq(count_names("a"), 1);
	ck_assert_int_eq(store_remove(store, "a"), -ENOENT);
	ck_assert_int_eq(store_remove(store, "../a"), -ENOENT);
	load("a", -ENOENT);
	load("a-b", 0);
}
END_TEST

START_TEST(test_bad_parameters_are_refused)
{
	static const char *const names[] = {
		"",         ".",
		"..",       ".new-x",
		"a/b",      "a b",
		"\xc3\xa9", "0123456789012345678901234567890123456789012345678901234567890123"};
	struct store_job *job;
	json_t *array = json_array();
	size_t state_len = image.state_len;

	for (size_t i = 0; i < ELEMENTSOF(names); i++)
		ck_assert_int_eq(store_load(store, names[i], MB, identity, on_loaded, NULL, &job),
				 -EINVAL);
	ck_assert_int_eq(store_load(store, "a", 0, identity, on_loaded, NULL, &job), -EINVAL);
	ck_assert_int_eq(store_load(store, "a", UINT64_MAX, identity, on_loaded, NULL, &job),
			 -EINVAL);
	ck_assert_int_eq(store_load(store, "a", MB, array, on_loaded, NULL, &job), -EINVAL);
	image.state_len = 0;
	ck_assert_int_eq(store_save(store, "a", identity, &image, on_saved, NULL, &job), -EINVAL);
	image.state_len = VM_IMAGE_STATE_MAX + 1;
	ck_assert_int_eq(store_save(store, "a", identity, &image, on_saved, NULL, &job), -EINVAL);
	image.state_len = state_len;
	json_decref(array);
	save("012345678901234567890123456789012345678901234567890123456789012", 0);
	load("012345678901234567890123456789012345678901234567890123456789012", 0);
}
END_TEST

START_TEST(test_jobs_run_in_their_order)
{
	struct answer first, second, third;

	start_load(store, "a", &first);
	start_save(store, "a", &second);
	start_load(store, "a", &third);
	ck_assert(WAIT_FOR(loop, first.count > 0));
	ck_assert_int_eq(second.count, 0);
	expect_answer(&first, -ENOENT);
	ck_assert(WAIT_FOR(loop, second.count > 0));
	ck_assert_int_eq(third.count, 0);
	expect_answer(&second, 0);
	expect_image(&third);
}
END_TEST

START_TEST(test_jobs_are_bounded)
{
	struct answer answer = {.count = 0}, last;
	struct store_job *jobs[STORE_JOBS_MAX], *job;

	for (int i = 0; i < STORE_JOBS_MAX; i++)
		ck_assert_int_eq(store_load(store, "a", MB, identity, on_loaded, &answer, &jobs[i]),
				 0);
	ck_assert_int_eq(store_load(store, "a", MB, identity, on_loaded, &answer, &job), -EAGAIN);
	for (int i = 0; i < STORE_JOBS_MAX; i++)
		store_cancel(jobs[i]);
	start_load(store, "a", &last);
	expect_answer(&last, -ENOENT);
	ck_assert_int_eq(answer.count, 0);
}
END_TEST

/* The one that runs goes on to its end, unheard; the one behind it does not begin. */
START_TEST(test_cancelled_jobs_do_not_answer)
{
	struct answer answer = {.count = 0}, behind;
	struct store_job *running, *waiting;
	int lock = hold_lock();

	ck_assert_int_eq(store_save(store, "a", identity, &image, on_saved, &answer, &running), 0);
	ck_assert_int_eq(store_save(store, "b", identity, &image, on_saved, &answer, &waiting), 0);
	ck_assert(SPIN_UNTIL(count_written() == 1));
	store_cancel(waiting);
	store_cancel(running);
	/* From here on the image may go, and be another. */
	vm_image_fini(&image);
	make_image(&image, MB, 1);
	close(lock);
	start_load(store, "a", &behind);
	expect_image(&behind);
	ck_assert_int_eq(answer.count, 0);
	ck_assert_int_eq(count_names("b-"), 0);
}
END_TEST

START_TEST(test_a_cancelled_load_keeps_nothing_open)
{
	struct answer answer = {.count = 0}, behind;
	struct store_job *running;

	save("a", 0);
	ck_assert_int_eq(store_load(store, "a", MB, identity, on_loaded, &answer, &running), 0);
	ck_assert(SPIN_UNTIL(child_pid() > 0));
	store_cancel(running);
	start_load(store, "none", &behind);
	expect_answer(&behind, -ENOENT);
	ck_assert_int_eq(answer.count, 0);
}
END_TEST

START_TEST(test_destroying_ends_jobs)
{
	struct answer running, waiting;
	int lock = hold_lock();

	start_save(store, "a", &running);
	start_load(store, "a", &waiting);
	ck_assert(SPIN_UNTIL(count_written() == 1));
	store_destroy(TAKE_PTR(store));
	close(lock);
	for (int i = 0; i < 3; i++)
		loop_run_once(loop, false);
	ck_assert_int_eq(running.count + waiting.count, 0);
	ck_assert_int_eq(count_names(""), 0);
	store_destroy(NULL);
}
END_TEST

static void on_saved_destroy(void *user, int error, const struct store_hashes *hashes UNUSED,
			     const char *why UNUSED)
{
	ck_assert_int_eq(error, 0);
	*(bool *)user = true;
	store_destroy(TAKE_PTR(store));
}

START_TEST(test_a_callback_may_destroy_the_store)
{
	bool is_done = false;
	struct answer behind;
	struct store_job *job;

	ck_assert_int_eq(store_save(store, "a", identity, &image, on_saved_destroy, &is_done, &job),
			 0);
	start_load(store, "a", &behind);
	ck_assert(WAIT_FOR(loop, is_done));
	for (int i = 0; i < 3; i++)
		loop_run_once(loop, false);
	ck_assert_int_eq(behind.count, 0);
}
END_TEST

START_TEST(test_two_stores_save_the_same_name_at_once)
{
	struct store *other = open_store(UINT64_C(1) << 30);
	struct answer ours, theirs;
	int lock = hold_lock();

	start_save(store, "a", &ours);
	start_save(other, "a", &theirs);
	ck_assert(SPIN_UNTIL(count_written() == 2));
	close(lock);
	expect_answer(&ours, 0);
	expect_answer(&theirs, 0);
	ck_assert_int_eq(count_names(""), 1);
	start_load(other, "a", &theirs);
	expect_image(&theirs);
	load("a", 0);
	store_destroy(other);
}
END_TEST

/* Each makes room for its own; together they must stay within the bound. */
START_TEST(test_two_stores_save_different_names_at_once)
{
	uint64_t max_bytes;
	struct store *other;
	struct answer ours, theirs;
	int lock;

	save("old", 0);
	max_bytes = 5 * total_bytes() / 2;
	store_destroy(store);
	store = open_store(max_bytes);
	other = open_store(max_bytes);
	lock = hold_lock();
	start_save(store, "a", &ours);
	start_save(other, "b", &theirs);
	ck_assert(SPIN_UNTIL(count_written() == 2));
	close(lock);
	expect_answer(&ours, 0);
	expect_answer(&theirs, 0);
	ck_assert_uint_le(total_bytes(), max_bytes);
	load("old", -ENOENT);
	load("a", 0);
	load("b", 0);
	store_destroy(other);
}
END_TEST

START_TEST(test_a_live_save_is_not_swept)
{
	struct answer answer;
	struct store *other;
	int lock = hold_lock();

	start_save(store, "a", &answer);
	ck_assert(SPIN_UNTIL(count_written() == 1));
	other = open_store(UINT64_C(1) << 30);
	ck_assert_int_eq(count_written(), 1);
	close(lock);
	expect_answer(&answer, 0);
	load("a", 0);
	store_destroy(other);
}
END_TEST

START_TEST(test_leftovers_are_swept)
{
	store_destroy(store);
	ck_assert_int_eq(mkdirat(dir_fd, ".new-1", 0700), 0);
	test_dir_write(dir, ".new-1/ram", "x", 1);
	ck_assert_int_eq(mkdirat(dir_fd, ".old-1", 0700), 0);
	ck_assert_int_eq(mkdirat(dir_fd, ".old-1/deep", 0700), 0);
	test_dir_write(dir, ".old-1/deep/ram", "x", 1);
	test_dir_write(dir, ".new-file", "x", 1);
	test_dir_write(dir, "kept", "x", 1);
	ck_assert_int_eq(symlinkat(".", dir_fd, ".old-link"), 0);
	ck_assert_int_eq(symlinkat("kept", dir_fd, ".new-link"), 0);
	store = open_store(1);
	ck_assert_int_eq(count_names(""), 1);
	ck_assert(test_dir_has(dir, "kept"));
}
END_TEST

START_TEST(test_an_open_directory_is_refused)
{
	struct store_config config = {.loop = loop, .dir_fd = dir_fd, .path = dir};
	struct store *refused;

	ck_assert_int_eq(chmod(dir, 0710), 0);
	ck_assert_int_eq(store_create(&config, &refused), -EPERM);
	ck_assert_int_eq(chmod(dir, 0700), 0);
}
END_TEST

static void add_tests(TCase *tcase)
{
	tcase_add_test(tcase, test_round_trip);
	tcase_add_test(tcase, test_memory_is_sparse_on_disk);
	tcase_add_test(tcase, test_absent_is_absent);
	tcase_add_test(tcase, test_older_keys_go_with_a_save);
	tcase_add_test(tcase, test_saving_twice_keeps_the_first);
	tcase_add_test(tcase, test_least_recently_used_is_evicted);
	tcase_add_test(tcase, test_what_is_larger_than_the_store_evicts_nothing);
	tcase_add_test(tcase, test_list_is_newest_first);
	tcase_add_test(tcase, test_remove);
	tcase_add_test(tcase, test_bad_parameters_are_refused);
	tcase_add_test(tcase, test_jobs_run_in_their_order);
	tcase_add_test(tcase, test_jobs_are_bounded);
	tcase_add_test(tcase, test_cancelled_jobs_do_not_answer);
	tcase_add_test(tcase, test_a_cancelled_load_keeps_nothing_open);
	tcase_add_test(tcase, test_destroying_ends_jobs);
	tcase_add_test(tcase, test_a_callback_may_destroy_the_store);
	tcase_add_test(tcase, test_two_stores_save_the_same_name_at_once);
	tcase_add_test(tcase, test_two_stores_save_different_names_at_once);
	tcase_add_test(tcase, test_a_live_save_is_not_swept);
	tcase_add_test(tcase, test_leftovers_are_swept);
	tcase_add_test(tcase, test_an_open_directory_is_refused);
}

Suite *unit_suite(void)
{
	Suite *suite = suite_create("store");
	TCase *tcase = tcase_create("all");

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_set_timeout(tcase, 60);
	add_tests(tcase);
	suite_add_tcase(suite, tcase);
	return suite;
}
