/* SPDX-License-Identifier: Apache-2.0 */
/* A store in a directory of its own, an image to put into it, and waits for what jobs answer. */
#ifndef TESTS_UNIT_TEST_STORE_FIXTURE_H
#define TESTS_UNIT_TEST_STORE_FIXTURE_H

#include "daemon/template/store.h"
#include "tests/fake/wait.h"
#include "tests/unit/test_dir.h"
#include "tests/unit/test_json.h"

#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define MB         8
#define RAM_SIZE   ((size_t)MB << 20)
#define STATE_SIZE 57344 /* as measured for our machine */
/* In pages, of MB MiB: one at the beginning, one at the end, and a quarter from byte 12345 of it
 * on. */
#define DATA_SIZE (RAM_SIZE / 4 - 12288 + 2 * 4096)

/* What one job answered. */
struct answer {
	int count, error;
	struct vm_image image;
	struct store_hashes hashes;
	char why[512];
};

static struct loop *loop;
static struct store *store;
static struct vm_image image;
static json_t *identity;
static char dir[TEST_DIR_SIZE];
static int dir_fd, fds_before;

static inline void on_loaded(void *user, int error, struct vm_image *image_take,
			     const struct store_hashes *hashes, const char *why)
{
	struct answer *answer = user;

	answer->count++;
	answer->error = error;
	ck_assert_int_eq(error == 0, image_take != NULL);
	ck_assert_int_eq(error == 0, why[0] == '\0');
	if (image_take)
		answer->image = *image_take;
	if (hashes)
		answer->hashes = *hashes;
	snprintf(answer->why, sizeof(answer->why), "%s", why);
}

static inline void on_saved(void *user, int error, const struct store_hashes *hashes,
			    const char *why)
{
	struct answer *answer = user;

	answer->count++;
	answer->error = error;
	ck_assert_int_eq(error == 0, hashes != NULL);
	ck_assert_int_eq(error == 0, why[0] == '\0');
	if (hashes)
		answer->hashes = *hashes;
	snprintf(answer->why, sizeof(answer->why), "%s", why);
}

static inline void make_image(struct vm_image *ret, uint64_t memory_mb, unsigned seed)
{
	size_t size = (size_t)memory_mb << 20;
	uint8_t *memory, *state = malloc(STATE_SIZE);
	uint32_t number = seed;

	*ret = (struct vm_image){.memory_mb = memory_mb, .state = state, .state_len = STATE_SIZE};
	ret->ram_fd = vm_image_create_ram("test", memory_mb);
	ck_assert_int_ge(ret->ram_fd, 0);
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, ret->ram_fd, 0);
	ck_assert_ptr_ne(memory, MAP_FAILED);
	memset(memory, 'a' + (int)(seed % 26), 3);
	for (size_t i = size / 2 + 12345; i < size / 2 + size / 4; i++) {
		number = number * 1664525u + 1013904223u;
		memory[i] = (uint8_t)(number >> 24);
	}
	memory[size - 1] = 1;
	memset(state, (int)seed, STATE_SIZE);
	memset(ret->sync, 0x40 + (int)(seed % 16), sizeof(ret->sync));
	ck_assert_int_eq(munmap(memory, size), 0);
	ck_assert_int_eq(vm_image_seal(ret->ram_fd, memory_mb), 0);
}

static inline struct store *open_store(uint64_t max_bytes)
{
	struct store_config config = {
		.loop = loop, .dir_fd = dir_fd, .path = dir, .max_bytes = max_bytes};
	struct store *opened;

	ck_assert_int_eq(store_create(&config, &opened), 0);
	return opened;
}

static inline void setup(void)
{
	fds_before = test_open_fds();
	test_dir_make(dir);
	dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_ge(dir_fd, 0);
	ck_assert_int_eq(loop_create(&loop), 0);
	store = open_store(UINT64_C(1) << 30);
	make_image(&image, MB, 1);
	identity = JSON({"qemu" : "7.2", "kernel" : "abc"});
}

/* How many names in the store begin so. */
static inline int count_names(const char *prefix)
{
	DIR *listing = opendir(dir);
	struct dirent *entry;
	int count = 0;

	while ((entry = readdir(listing)))
		count += strncmp(entry->d_name, prefix, strlen(prefix)) == 0 &&
			 strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
	closedir(listing);
	return count;
}

/* Nothing may be left: no child, no half-written file, no descriptor. */
static inline void teardown(void)
{
	store_destroy(store);
	loop_destroy(loop);
	vm_image_fini(&image);
	json_decref(identity);
	ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
	ck_assert_int_eq(errno, ECHILD);
	ck_assert_int_eq(count_names(".new-"), 0);
	ck_assert_int_eq(count_names(".old-"), 0);
	dir_fd = close_fd(dir_fd);
	test_dir_remove(dir);
	ck_assert_int_eq(test_open_fds(), fds_before);
}

static inline void start_save(struct store *in, const char *name, struct answer *answer)
{
	struct store_job *job;

	*answer = (struct answer){.count = 0};
	ck_assert_int_eq(store_save(in, name, identity, &image, on_saved, answer, &job), 0);
	ck_assert_int_eq(answer->count, 0);
}

static inline void start_load(struct store *in, const char *name, struct answer *answer)
{
	struct store_job *job;

	*answer = (struct answer){.count = 0};
	ck_assert_int_eq(store_load(in, name, image.memory_mb, identity, on_loaded, answer, &job),
			 0);
	ck_assert_int_eq(answer->count, 0);
}

static inline void expect_answer(struct answer *answer, int error)
{
	ck_assert(WAIT_FOR(loop, answer->count > 0));
	ck_assert_msg(answer->error == error, "%d instead of %d: %s", answer->error, error,
		      answer->why);
	ck_assert_int_eq(answer->count, 1);
}

static inline struct answer save(const char *name, int error)
{
	struct answer answer;

	start_save(store, name, &answer);
	expect_answer(&answer, error);
	return answer;
}

/* What was loaded is the image, sealed. */
static inline void expect_image(struct answer *answer)
{
	void *saved, *loaded;

	expect_answer(answer, 0);
	ck_assert_uint_eq(answer->image.memory_mb, image.memory_mb);
	ck_assert_uint_eq(answer->image.state_len, image.state_len);
	ck_assert_mem_eq(answer->image.state, image.state, image.state_len);
	ck_assert_mem_eq(answer->image.sync, image.sync, sizeof(image.sync));
	ck_assert_int_eq(fcntl(answer->image.ram_fd, F_GET_SEALS),
			 F_SEAL_SEAL | F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK);
	saved = mmap(NULL, image.memory_mb << 20, PROT_READ, MAP_PRIVATE, image.ram_fd, 0);
	loaded = mmap(NULL, image.memory_mb << 20, PROT_READ, MAP_PRIVATE, answer->image.ram_fd, 0);
	ck_assert(saved != MAP_FAILED && loaded != MAP_FAILED);
	ck_assert_int_eq(memcmp(saved, loaded, image.memory_mb << 20), 0);
	munmap(saved, image.memory_mb << 20);
	munmap(loaded, image.memory_mb << 20);
	vm_image_fini(&answer->image);
}

static inline struct answer load(const char *name, int error)
{
	struct answer answer;

	start_load(store, name, &answer);
	if (error == 0)
		expect_image(&answer);
	else
		expect_answer(&answer, error);
	return answer;
}

/* DIR/NAME-KEY/FILE; "" for `file` is the template's directory. There must be just one key. */
static inline const char *template_path(const char *name, const char *file)
{
	struct store_entry *entries;
	ssize_t count = store_list(store, &entries);
	const char *found = NULL;
	char relative[192];

	for (ssize_t i = 0; i < count; i++) {
		if (strcmp(entries[i].name, name) != 0)
			continue;
		ck_assert_ptr_null(found);
		snprintf(relative, sizeof(relative), "%s-%s/%s", name, entries[i].key, file);
		found = test_dir_path(dir, relative);
	}
	free(entries);
	ck_assert_msg(found, "There is no template '%s'", name);
	return found;
}

/* Holds the store's lock: whoever publishes waits behind it, with all files written. */
static inline int hold_lock(void)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	ck_assert_int_eq(flock(fd, LOCK_EX), 0);
	return fd;
}

/* How many `.new-…` have their last file. */
static inline int count_written(void)
{
	DIR *listing = opendir(dir);
	struct dirent *entry;
	int count = 0;

	while ((entry = readdir(listing))) {
		char name[300];

		if (strncmp(entry->d_name, ".new-", 5) != 0)
			continue;
		snprintf(name, sizeof(name), "%s/manifest.json", entry->d_name);
		count += faccessat(dirfd(listing), name, F_OK, 0) == 0;
	}
	closedir(listing);
	return count;
}

/* The pid of the only child, or 0. */
static inline pid_t child_pid(void)
{
	char path[64], *text = NULL;
	pid_t pid = 0;

	snprintf(path, sizeof(path), "/proc/self/task/%d/children", getpid());
	ck_assert_int_ge(read_file_at(AT_FDCWD, path, 256, &text), 0);
	pid = (pid_t)strtol(text, NULL, 10);
	free(text);
	return pid;
}

/* Lets the loop and other processes go on until the condition, which no event tells, holds. */
#define SPIN_UNTIL(condition)                                                       \
	({                                                                          \
		uint64_t spin_until_ = now_us() + WAIT_SECONDS * UINT64_C(1000000); \
		while (!(condition) && now_us() < spin_until_) {                    \
			loop_run_once(loop, false);                                 \
			sched_yield();                                              \
		}                                                                   \
		(condition);                                                        \
	})

#endif
