/* SPDX-License-Identifier: Apache-2.0 */
/* The manifest of a stored template: what it says comes back, and everything else is refused. */
#include "daemon/template/manifest.h"

#include "base/util.h"
#include "tests/unit/suite.h"
#include "tests/unit/test_json.h"

#include <errno.h>

#define HASH_A     "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define HASH_UPPER "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define HASH_B     "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static struct manifest manifest;
static char *text;

static void setup(void)
{
	manifest = (struct manifest){.identity = JSON({
					     "qemu" : "7.2",
					     "argv" : [ "-M", "microvm" ],
					     "deep" : {"real" : 0.1, "none" : null}
				     }),
				     .memory_mb = 256,
				     .state_bytes = 57344,
				     .hashes = {.ram = HASH_A, .state = HASH_B}};
	memset(manifest.sync, 0x5a, sizeof(manifest.sync));
	text = manifest_format(&manifest);
	ck_assert_ptr_nonnull(text);
}

static void teardown(void)
{
	free(text);
	manifest_clear(&manifest);
}

static const char *refusal(const char *bytes, size_t len)
{
	struct manifest parsed = {.memory_mb = 77};
	const char *why = NULL;

	ck_assert_int_eq(manifest_parse(bytes, len, &parsed, &why), -EINVAL);
	ck_assert_ptr_nonnull(why);
	ck_assert_uint_eq(parsed.memory_mb, 77); /* written only on success */
	ck_assert_ptr_null(parsed.identity);
	return why;
}

START_TEST(test_round_trip)
{
	struct manifest parsed;
	const char *why;
	char *again;

	ck_assert_int_eq(manifest_parse(text, strlen(text), &parsed, &why), 0);
	ck_assert(json_equal(parsed.identity, manifest.identity));
	ck_assert_uint_eq(parsed.memory_mb, 256);
	ck_assert_uint_eq(parsed.state_bytes, 57344);
	ck_assert_mem_eq(parsed.sync, manifest.sync, sizeof(parsed.sync));
	ck_assert_str_eq(parsed.hashes.ram, HASH_A);
	ck_assert_str_eq(parsed.hashes.state, HASH_B);
	again = manifest_format(&parsed);
	ck_assert_pstr_eq(again, text);
	ck_assert_int_eq(text[strlen(text) - 1], '\n');
	free(again);
	manifest_clear(&parsed);
	ck_assert_ptr_null(parsed.identity);
	manifest_clear(&parsed);
}
END_TEST

/* Whether the changed text is refused, or says what it said before in other digits (0.1 has several
 * spellings of 17 digits). */
static bool is_harmless(const char *original, const char *changed, size_t len)
{
	struct manifest parsed;
	const char *why;
	char *formatted;
	bool is_same;

	if (manifest_parse(changed, len, &parsed, &why) == -EINVAL)
		return true;
	formatted = manifest_format(&parsed);
	is_same = strcmp(formatted, original) == 0;
	free(formatted);
	manifest_clear(&parsed);
	return is_same;
}

/* Anywhere, the blanks and the marker included. */
START_TEST(test_every_flipped_bit_is_told)
{
	size_t len = strlen(text);
	char *changed = strdup(text);

	for (size_t bit = 0; bit < 8 * len; bit++) {
		changed[bit / 8] ^= (char)(1 << bit % 8);
		ck_assert_msg(is_harmless(text, changed, len), "bit %zu is not told", bit);
		changed[bit / 8] ^= (char)(1 << bit % 8);
	}
	free(changed);
	changed = strstr(text, "5a5a");
	changed[0] = '1'; /* one bit of the marker */
	ck_assert_str_eq(refusal(text, len), "its checksum does not match");
}
END_TEST

START_TEST(test_every_truncation_is_told)
{
	/* Without its last newline it is still whole. */
	for (size_t len = 0; len < strlen(text) - 1; len++)
		refusal(text, len);
}
END_TEST

/* The text with one field replaced (or removed, or added). */
static char *with_field(const char *key, json_t *value_take)
{
	json_t *root = json_loads(text, 0, NULL);
	char *changed;

	if (value_take)
		ck_assert_int_eq(json_object_set_new(root, key, value_take), 0);
	else
		ck_assert_int_eq(json_object_del(root, key), 0);
	changed = json_dumps(root, 0);
	json_decref(root);
	return changed;
}

static void expect_refused(const char *key, json_t *value_take, const char *part)
{
	char *changed = with_field(key, value_take);
	const char *why = refusal(changed, strlen(changed));

	ck_assert_msg(strstr(why, part), "'%s' does not say '%s'", why, part);
	free(changed);
}

START_TEST(test_fields_are_checked)
{
	static const char *const keys[] = {"identity", "memory_mb",  "state_bytes",
					   "sync",     "ram_sha256", "state_sha256"};

	for (size_t i = 0; i < ELEMENTSOF(keys); i++) {
		expect_refused(keys[i], NULL, keys[i]);
		expect_refused(keys[i], json_null(), keys[i]);
		expect_refused(keys[i], json_string("x"), keys[i]);
		expect_refused(keys[i], json_integer(0), keys[i]);
		expect_refused(keys[i], json_integer(-1), keys[i]);
		expect_refused(keys[i], json_real(256.0), keys[i]);
	}
	expect_refused("memory_mb", json_integer(MANIFEST_MEMORY_MAX_MB + 1), "memory_mb");
	expect_refused("memory_mb", json_integer(INT64_MAX), "memory_mb");
	expect_refused("state_bytes", json_integer(VM_IMAGE_STATE_MAX + 1), "state_bytes");
	expect_refused("ram_sha256", json_string(HASH_A "a"), "ram_sha256");
	expect_refused("ram_sha256", json_string(HASH_UPPER), "ram_sha256");
	expect_refused("sync", json_string("0A0B0C0D0A0B0C0D0A0B0C0D0A0B0C0D"), "sync");
	/* 0a is the byte that no marker has. */
	expect_refused("sync", json_string("5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a0a"), "sync");
}
END_TEST

START_TEST(test_the_checksum_covers_what_nothing_else_contradicts)
{
	expect_refused("sync", json_string("5b5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a"), "checksum");
	expect_refused("memory_mb", json_integer(257), "checksum");
	expect_refused("checksum", NULL, "unknown fields");
	expect_refused("checksum", json_string(HASH_A), "checksum");
	expect_refused("checksum", json_integer(1), "checksum");
}
END_TEST

START_TEST(test_other_versions_are_refused)
{
	expect_refused("version", json_integer(MANIFEST_VERSION + 1), "version");
	expect_refused("version", json_real(1.0), "version");
	expect_refused("version", NULL, "version");
	expect_refused("colour", json_integer(1), "unknown");
}
END_TEST

START_TEST(test_other_texts_are_refused)
{
	static const char doubled[] = "{\"version\": 1, \"version\": 1}";
	char *longer = calloc(1, MANIFEST_MAX + 1);

	ck_assert_str_eq(refusal("[]", 2), "it is no JSON object");
	ck_assert_str_eq(refusal("", 0), "it is no JSON object");
	ck_assert_str_eq(refusal(doubled, strlen(doubled)), "it is no JSON object");
	/* A whole one with something behind it, and with blanks up to the cap and over it. */
	memset(longer, ' ', MANIFEST_MAX + 1);
	memcpy(longer, text, strlen(text));
	ck_assert_str_eq(refusal(longer, MANIFEST_MAX + 1), "it is too long");
	longer[MANIFEST_MAX - 1] = 'x';
	ck_assert_str_eq(refusal(longer, MANIFEST_MAX), "it is no JSON object");
	free(longer);
}
END_TEST

START_TEST(test_the_key_is_of_the_content)
{
	json_t *one = JSON({"a" : 1, "b" : [ 1, 2 ]}), *same = JSON({"b" : [ 1, 2 ], "a" : 1}),
	       *other = JSON({"a" : 1, "b" : [ 2, 1 ]});
	char key[STORE_KEY_SIZE], again[STORE_KEY_SIZE];

	ck_assert_int_eq(manifest_key(one, key), 0);
	/* printf '{"a":1,"b":[1,2]}' | sha256sum */
	ck_assert_str_eq(key, "8baa73198470c7bb");
	ck_assert_int_eq(manifest_key(same, again), 0);
	ck_assert_str_eq(key, again);
	ck_assert_int_eq(manifest_key(other, again), 0);
	ck_assert_str_ne(key, again);
	json_decref(one);
	json_decref(same);
	json_decref(other);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("manifest");
	TCase *tcase = tcase_create("all");

	tcase_add_checked_fixture(tcase, setup, teardown);
	tcase_add_test(tcase, test_round_trip);
	tcase_add_test(tcase, test_every_flipped_bit_is_told);
	tcase_add_test(tcase, test_every_truncation_is_told);
	tcase_add_test(tcase, test_fields_are_checked);
	tcase_add_test(tcase, test_the_checksum_covers_what_nothing_else_contradicts);
	tcase_add_test(tcase, test_other_versions_are_refused);
	tcase_add_test(tcase, test_other_texts_are_refused);
	tcase_add_test(tcase, test_the_key_is_of_the_content);
	suite_add_tcase(suite, tcase);
	return suite;
}
