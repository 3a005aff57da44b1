/* SPDX-License-Identifier: Apache-2.0 */
/* Size classes of VMs: the smallest of 128 x 2^n and the default that holds what is asked. */
#include "daemon/session/request.h"

#include "tests/unit/suite.h"

START_TEST(test_powers_of_two)
{
	ck_assert_uint_eq(memory_size_class(1, 256), 128);
	ck_assert_uint_eq(memory_size_class(128, 256), 128);
	ck_assert_uint_eq(memory_size_class(129, 256), 256);
	ck_assert_uint_eq(memory_size_class(256, 256), 256);
	ck_assert_uint_eq(memory_size_class(257, 256), 512);
	ck_assert_uint_eq(memory_size_class(4097, 256), 8192);
}
END_TEST

START_TEST(test_default_is_a_class_of_its_own)
{
	ck_assert_uint_eq(memory_size_class(192, 192), 192);
	ck_assert_uint_eq(memory_size_class(150, 192), 192);
	ck_assert_uint_eq(memory_size_class(193, 192), 256);
	ck_assert_uint_eq(memory_size_class(128, 192), 128);
	ck_assert_uint_eq(memory_size_class(64, 64), 64);
	ck_assert_uint_eq(memory_size_class(65, 64), 128);
}
END_TEST

START_TEST(test_every_size_is_held_without_waste)
{
	for (uint64_t mb = 1; mb <= 20000; mb++) {
		uint64_t size = memory_size_class(mb, 384);

		ck_assert_uint_ge(size, mb);
		ck_assert(size == 128 || size == 384 || size < 2 * mb);
	}
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("size_class");
	TCase *tests = tcase_create("size_class");

	tcase_add_test(tests, test_powers_of_two);
	tcase_add_test(tests, test_default_is_a_class_of_its_own);
	tcase_add_test(tests, test_every_size_is_held_without_waste);
	suite_add_tcase(suite, tests);
	return suite;
}
