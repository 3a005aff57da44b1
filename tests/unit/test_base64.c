/* SPDX-License-Identifier: Apache-2.0 */
/* Base64: the RFC's vectors, every length, and nothing that a strict encoder would not write. */
#include "protocol/base64.h"

#include "base/util.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <string.h>

/* RFC 4648, section 10. */
static const char *const vectors[][2] = {
	{"", ""},
	{"f", "Zg=="},
	{"fo", "Zm8="},
	{"foo", "Zm9v"},
	{"foob", "Zm9vYg=="},
	{"fooba", "Zm9vYmE="},
	{"foobar", "Zm9vYmFy"},
};

START_TEST(test_rfc_vectors)
{
	for (size_t i = 0; i < ELEMENTSOF(vectors); i++) {
		const char *plain = vectors[i][0], *text = vectors[i][1];
		json_auto_t *json = base64_encode_json(plain, strlen(plain));
		_cleanup_free_ char *encoded = NULL;
		uint8_t *decoded = NULL;
		size_t len;

		encoded = base64_encode(plain, strlen(plain), &len);
		ck_assert_str_eq(encoded, text);
		ck_assert_uint_eq(len, strlen(text));
		ck_assert_str_eq(json_string_value(json), text);
		ck_assert_int_eq(base64_decode(text, strlen(text), &decoded), strlen(plain));
		ck_assert_mem_eq(decoded, plain, strlen(plain));
		free(decoded);
	}
}
END_TEST

static void round_trip(const uint8_t *bytes, size_t len)
{
	size_t text_len;
	_cleanup_free_ char *text = base64_encode(bytes, len, &text_len);
	uint8_t *decoded = NULL;

	ck_assert_uint_eq(text_len, (len + 2) / 3 * 4);
	ck_assert_int_eq(base64_decode(text, text_len, &decoded), len);
	ck_assert(memcmp(decoded, bytes, len) == 0);
	free(decoded);
}

START_TEST(test_every_length_and_pieces)
{
	/* Around the size at which OpenSSL is called more than once. */
	static const size_t sizes[] = {(3u << 20) - 1, 3u << 20, (3u << 20) + 1, (6u << 20) + 2};
	uint8_t *bytes = malloc(7u << 20);

	ck_assert_ptr_nonnull(bytes);
	random_bytes(bytes, 7u << 20);
	for (size_t len = 0; len < 300; len++)
		round_trip(bytes, len);
	for (size_t i = 0; i < ELEMENTSOF(sizes); i++)
		round_trip(bytes, sizes[i]);
	free(bytes);
}
END_TEST

START_TEST(test_what_is_refused)
{
	static const char *const bad[] = {
		"Z",    "Zg",   "Zg=",      "Zm9vZ",     "=",        "==",
		"====", "Z===", "Zg==Zg==", "Zm9v\n",    " Zm9v",    "Zm9v    ",
		"Zm 9", "Zm9-", "Zm9_",     "Zm9.",      "Zh==",     "Zm9=",
		"=Zm9", "Z=m9", "Zm=v",     "Zm9vZg=\n", "Zm9v====", "\xc3\xa9\xc3\xa9",
	};

	for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
		uint8_t *decoded = NULL;
		ssize_t r = base64_decode(bad[i], strlen(bad[i]), &decoded);

		if (r != -EINVAL)
			ck_abort_msg("'%s' gave %zd", bad[i], r);
		ck_assert_ptr_null(decoded);
	}
	ck_assert_int_eq(base64_decode("Zm9\0", 4, &(uint8_t *){NULL}), -EINVAL);
}
END_TEST

/* Every text of four characters either is refused or is exactly what its bytes encode to. */
START_TEST(test_one_spelling_only)
{
	static const char alphabet[] = "ABZag019+/=-\n ";
	const size_t n = sizeof(alphabet) - 1;

	for (size_t i = 0; i < n * n * n * n; i++) {
		char text[5] = {alphabet[i % n], alphabet[i / n % n], alphabet[i / n / n % n],
				alphabet[i / n / n / n]};
		uint8_t *decoded = NULL;
		ssize_t len = base64_decode(text, 4, &decoded);

		if (len >= 0) {
			_cleanup_free_ char *again = base64_encode(decoded, (size_t)len, NULL);

			ck_assert_str_eq(again, text);
		}
		free(decoded);
	}
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("base64");
	TCase *tcase = tcase_create("base64");

	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, test_rfc_vectors);
	tcase_add_test(tcase, test_every_length_and_pieces);
	tcase_add_test(tcase, test_what_is_refused);
	tcase_add_test(tcase, test_one_spelling_only);
	suite_add_tcase(suite, tcase);
	return suite;
}
