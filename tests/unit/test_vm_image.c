/* SPDX-License-Identifier: Apache-2.0 */
/* Sealed memory: what it refuses, what it needs before, what it keeps. */
#include "daemon/vm/vm_image.h"

#include "base/util.h"
#include "tests/unit/suite.h"
#include "tests/unit/test_dir.h"

#include <errno.h>
#include <sys/mman.h>

#define MB   4
#define SIZE ((size_t)MB << 20)

static int fd, fds_before;

static void setup(void)
{
	fds_before = test_open_fds();
	fd = vm_image_create_ram("test-ram", MB);
	ck_assert_int_ge(fd, 0);
}

static void teardown(void)
{
	fd = close_fd(fd);
	ck_assert_int_eq(test_open_fds(), fds_before);
}

static void *map(int protection, int flags)
{
	return mmap(NULL, SIZE, protection, flags, fd, 0);
}

START_TEST(test_memory_is_empty_and_of_its_size)
{
	struct stat st;

	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_int_eq(st.st_size, SIZE);
	ck_assert_int_eq(st.st_blocks, 0);
	ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
	ck_assert_int_eq(fcntl(fd, F_GET_SEALS), 0);
}
END_TEST

START_TEST(test_impossible_sizes_are_refused)
{
	ck_assert_int_eq(vm_image_create_ram("x", 0), -EINVAL);
	ck_assert_int_eq(vm_image_create_ram("x", UINT64_MAX), -EINVAL);
	ck_assert_int_eq(vm_image_create_ram("x", (uint64_t)1 << 43), -EINVAL);
	ck_assert_int_eq(vm_image_seal(fd, 0), -EINVAL);
	ck_assert_int_eq(vm_image_seal(fd, MB + 1), -EINVAL);
	/* Overflows to MB MiB when it is shifted. */
	ck_assert_int_eq(vm_image_seal(fd, ((uint64_t)1 << 44) + MB), -EINVAL);
	ck_assert_int_eq(fcntl(fd, F_GET_SEALS), 0);
}
END_TEST

START_TEST(test_sealing_keeps_data_and_fills_holes)
{
	char bytes[3];
	struct stat st;

	ck_assert_int_eq(pwrite(fd, "abc", 3, 1 << 20), 3);
	ck_assert_int_eq(vm_image_seal(fd, MB), 0);
	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_int_eq(st.st_blocks * 512, SIZE);
	ck_assert_int_eq(pread(fd, bytes, 3, 1 << 20), 3);
	ck_assert_mem_eq(bytes, "abc", 3);
	ck_assert_int_eq(pread(fd, bytes, 3, 2 << 20), 3);
	ck_assert_mem_eq(bytes, "\0\0\0", 3);
}
END_TEST

START_TEST(test_sealed_memory_cannot_be_changed)
{
	_cleanup_close_ int again = -1;
	char path[32];

	ck_assert_int_eq(vm_image_seal(fd, MB), 0);
	ck_assert_int_eq(write(fd, "x", 1), -1);
	ck_assert_int_eq(errno, EPERM);
	ck_assert_int_eq(ftruncate(fd, 0), -1);
	ck_assert_int_eq(errno, EPERM);
	ck_assert_int_eq(ftruncate(fd, (off_t)SIZE + 1), -1);
	ck_assert_int_eq(errno, EPERM);
	ck_assert_int_eq(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), -1);
	ck_assert_int_eq(errno, EPERM);
	ck_assert_ptr_eq(map(PROT_READ | PROT_WRITE, MAP_SHARED), MAP_FAILED);
	ck_assert_int_eq(errno, EPERM);
	ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), -1);
	ck_assert_int_eq(errno, EPERM);
	/* Nor through a descriptor that is opened afresh, as QEMU does. */
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, O_RDWR | O_CLOEXEC);
	ck_assert_int_ge(again, 0);
	ck_assert_int_eq(pwrite(again, "x", 1, 0), -1);
	ck_assert_int_eq(errno, EPERM);
}
END_TEST

START_TEST(test_private_mappings_write_copies)
{
	char *memory, byte = 'x';

	ck_assert_int_eq(vm_image_seal(fd, MB), 0);
	memory = map(PROT_READ | PROT_WRITE, MAP_PRIVATE);
	ck_assert_ptr_ne(memory, MAP_FAILED);
	memory[5] = 'y';
	ck_assert_int_eq(pread(fd, &byte, 1, 5), 1);
	ck_assert_int_eq(byte, 0);
	ck_assert_int_eq(munmap(memory, SIZE), 0);
}
END_TEST

START_TEST(test_memory_in_use_is_busy)
{
	void *memory = map(PROT_READ | PROT_WRITE, MAP_SHARED);

	ck_assert_ptr_ne(memory, MAP_FAILED);
	ck_assert_int_eq(vm_image_seal(fd, MB), -EBUSY);
	ck_assert_int_eq(fcntl(fd, F_GET_SEALS), 0);
	ck_assert_int_eq(munmap(memory, SIZE), 0);
	ck_assert_int_eq(vm_image_seal(fd, MB), 0);
}
END_TEST

START_TEST(test_an_image_gives_all_back)
{
	struct vm_image image = {.ram_fd = fd, .memory_mb = MB, .state = malloc(9), .state_len = 9};

	vm_image_fini(&image);
	ck_assert_int_eq(fcntl(fd, F_GETFD), -1);
	ck_assert_int_eq(image.ram_fd, -1);
	ck_assert_ptr_null(image.state);
	ck_assert_int_eq(image.state_len, 0);
	vm_image_fini(&image);
	fd = -1;
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("vm_image");
	TCase *tcase = tcase_create("all");

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, test_memory_is_empty_and_of_its_size);
	tcase_add_test(tcase, test_impossible_sizes_are_refused);
	tcase_add_test(tcase, test_sealing_keeps_data_and_fills_holes);
	tcase_add_test(tcase, test_sealed_memory_cannot_be_changed);
	tcase_add_test(tcase, test_private_mappings_write_copies);
	tcase_add_test(tcase, test_memory_in_use_is_busy);
	tcase_add_test(tcase, test_an_image_gives_all_back);
	suite_add_tcase(suite, tcase);
	return suite;
}
