/* SPDX-License-Identifier: Apache-2.0 */
/* What the next daemon needs to know of a VM: record.json in the VM's directory. */
#include "daemon/vm/vm_record.h"

#include "base/kept.h"
#include "base/log.h"
#include "base/util.h"
#include "daemon/launcher/vm_dir.h"
#include "daemon/vm/vm_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define RECORD_FILE "record.json"
/* Raised, once it was released, with a change that an earlier or later daemon would misread, also
 * of what sessions and runs write: a hand-over keeps none then. */
#define RECORD_VERSION 1
/* Metadata may have NULs. */
#define FLAGS_READ (JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL)

static json_t *pack(const struct vm *vm, json_t *owner_take)
{
	const struct vm_spec *spec = vm_get_spec(vm);
	char sync[2 * FRAME_MARKER_SIZE + 1];

	hex_encode(agent_link_sync(vm_link((struct vm *)vm)), FRAME_MARKER_SIZE, sync);
	return json_pack("{s:i, s:{s:s, s:s, s:I, s:I, s:b, s:I, s:I, s:s}, s:o}", "version",
			 RECORD_VERSION, "vm", "id", vm_id(vm), "language", spec->language,
			 "memory_mb", (json_int_t)spec->memory_mb, "uid", (json_int_t)spec->uid,
			 "is_clone", spec->start == QEMU_CLONE, "created_ns",
			 (json_int_t)vm_created_ns(vm), "start_us", (json_int_t)vm_start_us(vm),
			 "sync", sync, "owner", owner_take);
}

int vm_record_write(const struct vm *vm, json_t *owner_take)
{
	json_auto_t *record = pack(vm, owner_take);
	_cleanup_free_ char *text = record ? json_dumps(record, JSON_COMPACT) : NULL;
	_cleanup_close_ int dir_fd = vm_open_dir(vm->host, vm->id);

	if (!text || dir_fd < 0)
		return text ? dir_fd : -ENOMEM;
	return kept_write(dir_fd, RECORD_FILE, text, strlen(text));
}

void vm_record_remove(const struct vm *vm)
{
	int r = vm_dir_remove_file(vm_get_host(vm)->vms_fd, vm_id(vm), RECORD_FILE);

	if (r < 0)
		log_warning(vm_id(vm), "Cannot remove its record: %s", strerror(-r));
}

static bool take_text(const char *text, char *ret, size_t size)
{
	return (size_t)snprintf(ret, size, "%s", text) < size && *ret;
}

/* Numbers that are never negative, and texts that fit. */
static int unpack(json_t *vm, struct vm_record *ret)
{
	json_int_t memory_mb, uid, created_ns, start_us;
	const char *id, *language, *sync;
	int is_clone;

	if (json_unpack(vm, "{s:s, s:s, s:I, s:I, s:b, s:I, s:I, s:s}", "id", &id, "language",
			&language, "memory_mb", &memory_mb, "uid", &uid, "is_clone", &is_clone,
			"created_ns", &created_ns, "start_us", &start_us, "sync", &sync) < 0)
		return -EINVAL;
	if (!take_text(id, ret->id, sizeof(ret->id)) ||
	    !take_text(language, ret->language, sizeof(ret->language)) ||
	    hex_decode(sync, ret->sync, sizeof(ret->sync)) < 0)
		return -EINVAL;
	if (memory_mb <= 0 || memory_mb > UINT32_MAX || uid < 0 || uid >= VM_UID_NONE ||
	    created_ns < 0 || start_us < 0)
		return -EINVAL;
	ret->memory_mb = (uint64_t)memory_mb;
	ret->uid = (uid_t)uid;
	ret->is_clone = is_clone;
	ret->created_ns = (uint64_t)created_ns;
	ret->start_us = (uint64_t)start_us;
	return 0;
}

int vm_record_parse(const char *text, size_t len, struct vm_record *ret, json_t **ret_owner)
{
	json_auto_t *record = json_loadb(text, len, FLAGS_READ, NULL);
	json_t *owner = json_object_get(record, "owner");

	*ret = (struct vm_record){.uid = VM_UID_NONE};
	if (json_integer_value(json_object_get(record, "version")) != RECORD_VERSION ||
	    !json_is_object(owner) || unpack(json_object_get(record, "vm"), ret) < 0)
		return -EINVAL;
	*ret_owner = json_incref(owner);
	return 0;
}

int vm_record_read(int vms_fd, const char *id, struct vm_record *ret, json_t **ret_owner)
{
	_cleanup_close_ int dir_fd = vm_dir_open(vms_fd, id);
	_cleanup_free_ char *text = NULL;
	ssize_t len;
	int r;

	len = dir_fd < 0 ? dir_fd : kept_read(dir_fd, RECORD_FILE, VM_RECORD_MAX, &text);
	if (len < 0)
		return (int)len;
	r = vm_record_parse(text, (size_t)len, ret, ret_owner);
	if (r == 0 && strcmp(ret->id, id) != 0) {
		json_decref(*ret_owner);
		return -EINVAL;
	}
	return r;
}
