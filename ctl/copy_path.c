/* SPDX-License-Identifier: Apache-2.0 */
/* Names of what is copied. */
#include "ctl/copy_path.h"

#include "base/util.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

int place_name_parse(const char *word, struct place_name *ret)
{
	size_t len = strcspn(word, ":/");
	char *session = NULL;

	if (len > 0 && word[len] == ':') {
		session = strndup(word, len);
		if (!session)
			return -ENOMEM;
		word += len + 1;
	}
	*ret = (struct place_name){.session = session, .path = word};
	return 0;
}

void place_name_fini(struct place_name *name)
{
	free(name->session);
	*name = (struct place_name){0};
}

static bool is_dots(const char *name, size_t len)
{
	return (len == 1 && name[0] == '.') || (len == 2 && name[0] == '.' && name[1] == '.');
}

char *path_base(const char *path)
{
	size_t len = strlen(path), start;

	while (len > 0 && path[len - 1] == '/')
		len--;
	start = len;
	while (start > 0 && path[start - 1] != '/')
		start--;
	if (is_dots(path + start, len - start))
		start = len;
	return strndup(path + start, len - start);
}

char *path_join(const char *path, const char *below)
{
	size_t len = strlen(path);
	char *joined;

	if (len == 0 || *below == '\0')
		return strdup(len == 0 ? below : path);
	if (asprintf(&joined, "%s%s%s", path, path[len - 1] == '/' ? "" : "/", below) < 0)
		return NULL;
	return joined;
}

const char *path_refusal(const char *path, size_t len)
{
	if (len == 0)
		return "is empty";
	if (memchr(path, '\0', len))
		return "holds a NUL byte";
	for (const char *name = path;;) {
		size_t name_len = strcspn(name, "/");

		if (name_len == 0)
			return name == path ? "is absolute" : "holds an empty name";
		if (is_dots(name, name_len))
			return "leads elsewhere";
		if (name_len > NAME_MAX)
			return "holds a name that is too long";
		if (name[name_len] == '\0')
			return NULL;
		name += name_len + 1;
	}
}
