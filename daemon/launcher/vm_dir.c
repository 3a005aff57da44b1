/* SPDX-License-Identifier: Apache-2.0 */
/* The directories of VMs in `<runtime_dir>/vm`. */
#include "daemon/launcher/vm_dir.h"

#include "base/kept.h"
#include "base/util.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define KIND   "vm_"
#define DIGITS 16
/* The longest name of a file in one, with its NUL. */
#define FILE_NAME_SIZE 64

bool vm_dir_is_id(const char *name)
{
	size_t len = strlen(name), tail = strlen(KIND) + DIGITS;

	if (len < tail || len >= VM_DIR_NAME_SIZE || name[0] == '.')
		return false;
	for (const char *p = name; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr("._-", *p))
			return false;
	name += len - tail;
	if (strncmp(name, KIND, strlen(KIND)) != 0)
		return false;
	return strspn(name + strlen(KIND), "0123456789abcdef") == DIGITS;
}

int vm_dir_open(int vms_fd, const char *id)
{
	int fd = openat(vms_fd, id, O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	return fd < 0 ? -errno : fd;
}

/* A stream of its own, so that the descriptor that is borrowed keeps its place. */
static DIR *list(int parent_fd, const char *name)
{
	int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (!dir)
		close_fd(fd);
	return dir;
}

int vm_dir_remove_file(int vms_fd, const char *id, const char *name)
{
	char path[VM_DIR_NAME_SIZE + FILE_NAME_SIZE];

	snprintf(path, sizeof(path), "%s/%s", id, name);
	return kept_remove(vms_fd, path);
}

/* By name, of what is always there: for who has no descriptor left to look what there is. */
static void remove_known(int vms_fd, const char *id)
{
	static const char *const names[] = {"qmp.sock", "agent.sock", "record.json"};

	for (size_t i = 0; i < ELEMENTSOF(names); i++)
		(void)vm_dir_remove_file(vms_fd, id, names[i]);
}

static bool has_no_descriptors(int error)
{
	return error == EMFILE || error == ENFILE;
}

int vm_dir_remove(int vms_fd, const char *id)
{
	DIR *dir = list(vms_fd, id);
	const struct dirent *entry;

	if (!dir && has_no_descriptors(errno)) {
		remove_known(vms_fd, id);
		return unlinkat(vms_fd, id, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
	}
	if (!dir)
		return errno == ENOENT ? 0 : -errno;
	while ((entry = readdir(dir)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			(void)unlinkat(dirfd(dir), entry->d_name, 0);
	closedir(dir);
	return unlinkat(vms_fd, id, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}

int vm_dir_walk(int vms_fd, void (*fn)(void *user, const char *id), void *user)
{
	DIR *dir = list(vms_fd, ".");
	const struct dirent *entry;

	if (!dir)
		return -errno;
	while ((entry = readdir(dir)))
		if (vm_dir_is_id(entry->d_name))
			fn(user, entry->d_name);
	closedir(dir);
	return 0;
}
