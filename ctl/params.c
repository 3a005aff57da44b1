/* SPDX-License-Identifier: Apache-2.0 */
/* Words of a command line as parameters of a method. */
#include "ctl/params.h"

#include "base/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int set_nested(json_t *object, char *key, json_t *value_take, const char *word,
		      char why[PARAMS_WHY_SIZE])
{
	json_auto_t *value = value_take;
	char *dot;

	while ((dot = strchr(key, '.'))) {
		json_t *inner;

		*dot = '\0';
		inner = json_object_get(object, key);
		if (!inner) {
			inner = json_object();
			if (json_object_set_new(object, key, inner) < 0)
				return -ENOMEM;
		}
		if (!json_is_object(inner)) {
			snprintf(why, PARAMS_WHY_SIZE, "'%s': '%s' already has a value", word, key);
			return -EINVAL;
		}
		object = inner;
		key = dot + 1;
	}
	if (json_object_get(object, key)) {
		snprintf(why, PARAMS_WHY_SIZE, "'%s': '%s' is given twice", word, key);
		return -EINVAL;
	}
	return json_object_set(object, key, value) < 0 ? -ENOMEM : 0;
}

int params_add(json_t *params, const char *word, char why[PARAMS_WHY_SIZE])
{
	const char *equals = strchr(word, '=');
	bool is_json = equals && equals > word && equals[-1] == ':';
	_cleanup_free_ char *key = NULL;
	json_error_t error;
	json_t *value;

	snprintf(why, PARAMS_WHY_SIZE, "No memory left");
	if (!equals || equals - is_json == word) {
		snprintf(why, PARAMS_WHY_SIZE, "'%s' is neither key=value nor key:=JSON", word);
		return -EINVAL;
	}
	key = strndup(word, (size_t)(equals - word) - is_json);
	if (!key)
		return -ENOMEM;
	if (is_json)
		value = json_loads(equals + 1,
				   JSON_DECODE_ANY | JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL,
				   &error);
	else
		value = json_string(equals + 1);
	if (!value && is_json)
		snprintf(why, PARAMS_WHY_SIZE, "'%s' is not JSON: %s", word, error.text);
	else if (!value)
		snprintf(why, PARAMS_WHY_SIZE, "'%s' is not UTF-8", word);
	return value ? set_nested(params, key, value, word, why) : -EINVAL;
}
