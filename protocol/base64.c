/* SPDX-License-Identifier: Apache-2.0 */
/* Base64 on top of OpenSSL's block functions, which are lax: the strictness is here. */
#include "protocol/base64.h"

#include "base/util.h"

#include <errno.h>
#include <openssl/evp.h>
#include <string.h>

/* OpenSSL counts in int: long data goes through in pieces. Multiples of 3 and 4 leave no padding
 * between pieces. */
#define ENCODE_PIECE (3u << 20)
#define DECODE_PIECE (4u << 20)

char *base64_encode(const void *data, size_t len, size_t *ret_len)
{
	const uint8_t *in = data;
	char *text, *out;

	if (len > SIZE_MAX / 2)
		return NULL;
	text = out = malloc((len + 2) / 3 * 4 + 1);
	if (!text)
		return NULL;
	*out = '\0';
	while (len > 0) {
		size_t piece = MIN(len, (size_t)ENCODE_PIECE);

		out += EVP_EncodeBlock((unsigned char *)out, in, (int)piece);
		in += piece;
		len -= piece;
	}
	if (ret_len)
		*ret_len = (size_t)(out - text);
	return text;
}

json_t *base64_encode_json(const void *data, size_t len)
{
	size_t text_len = 0;
	char *text = base64_encode(data, len, &text_len);
	json_t *json = text ? json_stringn_nocheck(text, text_len) : NULL;

	free(text);
	return json;
}

static bool is_alphabet(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
	       c == '+' || c == '/';
}

/* Checks all characters. Number of padding characters, or -EINVAL. */
static int check_text(const char *text, size_t len)
{
	size_t padding = 0;

	if (len % 4 != 0)
		return -EINVAL;
	while (padding < 2 && padding < len && text[len - 1 - padding] == '=')
		padding++;
	for (size_t i = 0; i < len - padding; i++)
		if (!is_alphabet(text[i]))
			return -EINVAL;
	return (int)padding;
}

ssize_t base64_decode(const char *text, size_t len, uint8_t **ret)
{
	int padding = check_text(text, len);
	size_t size = len / 4 * 3, kept;
	uint8_t *data, *out;

	if (padding < 0)
		return padding;
	data = out = malloc(size + 1);
	if (!data)
		return -ENOMEM;
	while (len > 0) {
		size_t piece = MIN(len, (size_t)DECODE_PIECE);

		/* cppcheck-suppress uninitdata ; OpenSSL writes it */
		out += EVP_DecodeBlock(out, (const unsigned char *)text, (int)piece);
		text += piece;
		len -= piece;
	}
	/* OpenSSL decodes padding as zeros: other bits there are a second spelling of the same
	 * bytes. */
	kept = size - (size_t)padding;
	for (size_t i = kept; i < size; i++) {
		if (data[i] != 0) {
			free(data);
			return -EINVAL;
		}
	}
	*ret = data;
	return (ssize_t)kept;
}
