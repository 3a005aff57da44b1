/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests of stored templates: any bytes, and the same with a checksum that is right. */
#include "daemon/template/manifest.h"
#include "daemon/template/store_hash.h"
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <string.h>

/* What is taken is in range, and is taken again as it is written. */
static void check_taken(struct manifest *manifest)
{
	struct manifest again;
	const char *why;
	char *text = manifest_format(manifest), key[STORE_KEY_SIZE];

	FUZZ_CHECK(json_is_object(manifest->identity));
	FUZZ_CHECK(manifest->memory_mb > 0 && manifest->memory_mb <= MANIFEST_MEMORY_MAX_MB);
	FUZZ_CHECK(manifest->state_bytes > 0 && manifest->state_bytes <= VM_IMAGE_STATE_MAX);
	FUZZ_CHECK(strlen(manifest->hashes.ram) == STORE_HASH_SIZE - 1);
	FUZZ_CHECK(strlen(manifest->hashes.state) == STORE_HASH_SIZE - 1);
	FUZZ_CHECK(manifest_key(manifest->identity, key) == 0 && strlen(key) == 16);
	FUZZ_CHECK(text);
	/* Indented it may be longer than what is read. */
	if (strlen(text) <= MANIFEST_MAX) {
		FUZZ_CHECK(manifest_parse(text, strlen(text), &again, &why) == 0);
		FUZZ_CHECK(json_equal(again.identity, manifest->identity));
		manifest_clear(&again);
	}
	free(text);
}

static void try_parse(const char *text, size_t len)
{
	struct manifest manifest;
	const char *why = NULL;
	int r = manifest_parse(text, len, &manifest, &why);

	FUZZ_CHECK(r == 0 || (r == -EINVAL && why && why[0]));
	if (r == 0)
		check_taken(&manifest);
	if (r == 0)
		manifest_clear(&manifest);
}

/* No mutation finds a SHA-256: it is put in, so that what lies behind its check is reached. */
static void try_with_checksum(const char *text, size_t len)
{
	json_t *root = json_loadb(text, len, 0, NULL);
	char hash[STORE_HASH_SIZE];
	char *canonical, *whole;

	if (!json_is_object(root)) {
		json_decref(root);
		return;
	}
	json_object_del(root, "checksum");
	canonical = json_dumps(root, JSON_SORT_KEYS | JSON_COMPACT);
	FUZZ_CHECK(canonical);
	FUZZ_CHECK(store_hash(canonical, strlen(canonical), hash) == 0);
	FUZZ_CHECK(json_object_set_new(root, "checksum", json_string(hash)) == 0);
	whole = json_dumps(root, 0);
	FUZZ_CHECK(whole);
	try_parse(whole, strlen(whole));
	free(whole);
	free(canonical);
	json_decref(root);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	fuzz_begin();
	try_parse((const char *)data, size);
	if (size <= MANIFEST_MAX)
		try_with_checksum((const char *)data, size);
	return 0;
}
