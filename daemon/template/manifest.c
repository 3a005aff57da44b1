/* SPDX-License-Identifier: Apache-2.0 */
/* The manifest of a stored template: what it is, what it depends on, and the hashes of its files.
 */
#include "daemon/template/manifest.h"

#include "base/util.h"
#include "daemon/template/store_hash.h"

#include <errno.h>
#include <string.h>

#define CHECKSUM  "checksum"
#define CANONICAL (JSON_SORT_KEYS | JSON_COMPACT)
/* Fields: those of fields_of(), and the checksum. */
#define FIELD_COUNT 8

void manifest_clear(struct manifest *manifest)
{
	json_decref(manifest->identity);
	*manifest = (struct manifest){.memory_mb = 0};
}

static int hash_json(const json_t *value, char ret[STORE_HASH_SIZE])
{
	_cleanup_free_ char *text = json_dumps(value, CANONICAL);

	return text ? store_hash(text, strlen(text), ret) : -ENOMEM;
}

int manifest_key(const json_t *identity, char ret[STORE_KEY_SIZE])
{
	char hash[STORE_HASH_SIZE];
	int r = hash_json(identity, hash);

	if (r < 0)
		return r;
	memcpy(ret, hash, STORE_KEY_SIZE - 1);
	ret[STORE_KEY_SIZE - 1] = '\0';
	return 0;
}

/* Lower case only: one content has one spelling. */
static bool is_hex(const char *text, size_t digits)
{
	return strlen(text) == digits && strspn(text, "0123456789abcdef") == digits;
}

static bool get_hash(const json_t *root, const char *key, char ret[STORE_HASH_SIZE])
{
	const char *text = json_string_value(json_object_get(root, key));

	if (!text || !is_hex(text, STORE_HASH_SIZE - 1))
		return false;
	memcpy(ret, text, STORE_HASH_SIZE);
	return true;
}

static bool get_number(const json_t *root, const char *key, uint64_t max, uint64_t *ret)
{
	const json_t *value = json_object_get(root, key);
	json_int_t number = json_integer_value(value);

	if (!json_is_integer(value) || number < 1 || (uint64_t)number > max)
		return false;
	*ret = (uint64_t)number;
	return true;
}

static bool get_sync(const json_t *root, uint8_t ret[FRAME_MARKER_SIZE])
{
	const char *text = json_string_value(json_object_get(root, "sync"));

	if (!text || !is_hex(text, FRAME_MARKER_SIZE * (size_t)2))
		return false;
	hex_decode(text, ret, FRAME_MARKER_SIZE);
	return !memchr(ret, FRAME_TRAILER, FRAME_MARKER_SIZE); /* no marker has one */
}

/* What is wrong with the fields, or NULL. */
static const char *read_fields(const json_t *root, struct manifest *ret)
{
	if (!json_is_object(json_object_get(root, "identity")))
		return "'identity' is no object";
	if (!get_number(root, "memory_mb", MANIFEST_MEMORY_MAX_MB, &ret->memory_mb))
		return "'memory_mb' is no number in range";
	if (!get_number(root, "state_bytes", VM_IMAGE_STATE_MAX, &ret->state_bytes))
		return "'state_bytes' is no number in range";
	if (!get_sync(root, ret->sync))
		return "'sync' is no marker";
	if (!get_hash(root, "ram_sha256", ret->hashes.ram))
		return "'ram_sha256' is no hash";
	if (!get_hash(root, "state_sha256", ret->hashes.state))
		return "'state_sha256' is no hash";
	if (json_object_size(root) != FIELD_COUNT)
		return "it has unknown fields";
	return NULL;
}

/* Compares the checksum, and takes it out of the object to do so. */
static int check_sum(json_t *root, const char **ret_why)
{
	char found[STORE_HASH_SIZE], wanted[STORE_HASH_SIZE];
	int r;

	*ret_why = "'" CHECKSUM "' is no hash";
	if (!get_hash(root, CHECKSUM, found))
		return -EINVAL;
	json_object_del(root, CHECKSUM);
	r = hash_json(root, wanted);
	if (r < 0)
		return r;
	*ret_why = "its checksum does not match";
	return strcmp(found, wanted) == 0 ? 0 : -EINVAL;
}

static int check_root(json_t *root, struct manifest *ret, const char **ret_why)
{
	*ret_why = "it is no JSON object";
	if (!json_is_object(root))
		return -EINVAL;
	*ret_why = "another version wrote it";
	if (!json_is_integer(json_object_get(root, "version")) ||
	    json_integer_value(json_object_get(root, "version")) != MANIFEST_VERSION)
		return -EINVAL;
	*ret_why = read_fields(root, ret);
	return *ret_why ? -EINVAL : check_sum(root, ret_why);
}

int manifest_parse(const char *text, size_t len, struct manifest *ret, const char **ret_why)
{
	struct manifest manifest = {.memory_mb = 0};
	json_error_t error;
	json_t *root;
	int r;

	*ret_why = "it is too long";
	if (len > MANIFEST_MAX)
		return -EINVAL;
	root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
	if (!root && json_error_code(&error) == json_error_out_of_memory)
		return -ENOMEM;
	r = check_root(root, &manifest, ret_why);
	if (r == 0) {
		manifest.identity = json_incref(json_object_get(root, "identity"));
		*ret = manifest;
	}
	json_decref(root);
	return r;
}

static json_t *fields_of(const struct manifest *manifest)
{
	char sync[2 * FRAME_MARKER_SIZE + 1];

	hex_encode(manifest->sync, sizeof(manifest->sync), sync);
	return json_pack("{s:i, s:O, s:I, s:I, s:s, s:s, s:s}", "version", MANIFEST_VERSION,
			 "identity", manifest->identity, "memory_mb",
			 (json_int_t)manifest->memory_mb, "state_bytes",
			 (json_int_t)manifest->state_bytes, "sync", sync, "ram_sha256",
			 manifest->hashes.ram, "state_sha256", manifest->hashes.state);
}

char *manifest_format(const struct manifest *manifest)
{
	char checksum[STORE_HASH_SIZE];
	json_t *root = fields_of(manifest);
	char *text = NULL;

	if (root && hash_json(root, checksum) == 0 &&
	    json_object_set_new(root, CHECKSUM, json_string(checksum)) == 0)
		text = json_dumps(root, JSON_INDENT(2));
	json_decref(root);
	if (text) {
		size_t len = strlen(text);
		char *longer = realloc(text, len + 2);

		if (!longer)
			free(text);
		else
			memcpy(longer + len, "\n", 2);
		text = longer;
	}
	return text;
}
