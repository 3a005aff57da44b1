/* SPDX-License-Identifier: Apache-2.0 */
/* The one VM of a fuzz harness, and the pool that hands it out. */
#include "tests/fuzz/vm.h"

#include "base/kept.h"
#include "base/util.h"
#include "daemon/vm/vm_record.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define VM_MEMORY_MB 8192

struct fuzz_vm fuzz_vm;

struct vm *fuzz_vm_get(void)
{
	return (struct vm *)&fuzz_vm;
}

/* --- Its directory. --- */

static char vms_path[] = "/dev/shm/execsandbox-fuzz-XXXXXX";
static int vms_fd = -1, dir_fd = -1;

static void remove_file(void *user UNUSED, const char *name)
{
	FUZZ_CHECK(kept_remove(dir_fd, name) == 0);
}

static void remove_dirs(void)
{
	(void)kept_walk(dir_fd, remove_file, NULL);
	(void)unlinkat(vms_fd, FUZZ_VM_ID, AT_REMOVEDIR);
	(void)rmdir(vms_path);
}

int fuzz_vms_fd(void)
{
	if (vms_fd >= 0)
		return vms_fd;
	FUZZ_CHECK(mkdtemp(vms_path));
	vms_fd = open(vms_path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	FUZZ_CHECK(vms_fd >= 0 && mkdirat(vms_fd, FUZZ_VM_ID, 0700) == 0);
	dir_fd = openat(vms_fd, FUZZ_VM_ID, O_PATH | O_DIRECTORY | O_CLOEXEC);
	FUZZ_CHECK(dir_fd >= 0);
	atexit(remove_dirs);
	return vms_fd;
}

int fuzz_vm_dir_fd(void)
{
	(void)fuzz_vms_fd();
	return dir_fd;
}

/* --- In the place of daemon/vm, by the linker's --wrap. --- */

struct agent_link *__wrap_vm_link(struct vm *vm);
struct agent_link *__wrap_vm_link(struct vm *vm)
{
	FUZZ_CHECK(vm == fuzz_vm_get());
	return fuzz_vm.guest.link;
}

const char *__wrap_vm_id(const struct vm *vm);
const char *__wrap_vm_id(const struct vm *vm)
{
	static const char id[VM_ID_SIZE] = FUZZ_VM_ID;

	FUZZ_CHECK(vm == fuzz_vm_get());
	return id;
}

enum vm_state __wrap_vm_get_state(const struct vm *vm);
enum vm_state __wrap_vm_get_state(const struct vm *vm)
{
	FUZZ_CHECK(vm == fuzz_vm_get());
	return fuzz_vm.error == 0 ? VM_RUNNING : VM_STOPPING;
}

void __wrap_vm_attach(struct vm *vm, uid_t uid, const struct vm_client_ops *ops, void *user);
void __wrap_vm_attach(struct vm *vm, uid_t uid UNUSED, const struct vm_client_ops *ops, void *user)
{
	FUZZ_CHECK(vm == fuzz_vm_get());
	fuzz_vm.client_ops = ops;
	fuzz_vm.user = user;
}

const struct msg_hello_reply *__wrap_vm_hello(const struct vm *vm);
const struct msg_hello_reply *__wrap_vm_hello(const struct vm *vm)
{
	FUZZ_CHECK(vm == fuzz_vm_get());
	return fuzz_vm.hello;
}

struct vm_host *__wrap_vm_get_host(const struct vm *vm);
struct vm_host *__wrap_vm_get_host(const struct vm *vm)
{
	static struct vm_host host;

	FUZZ_CHECK(vm == fuzz_vm_get());
	host.vms_fd = fuzz_vms_fd();
	return &host;
}

int __wrap_vm_open_dir(const struct vm_host *host, const char *id);
int __wrap_vm_open_dir(const struct vm_host *host UNUSED, const char *id)
{
	FUZZ_CHECK(strcmp(id, FUZZ_VM_ID) == 0);
	return openat(fuzz_vms_fd(), id, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

/* The next daemon could read what this one says. */
int __wrap_vm_record_write(const struct vm *vm, json_t *owner_take);
int __wrap_vm_record_write(const struct vm *vm, json_t *owner_take)
{
	json_t *record =
		json_pack("{s:i, s:{s:s, s:s, s:i, s:i, s:b, s:i, s:i, s:s}, s:o}", "version", 1,
			  "vm", "id", FUZZ_VM_ID, "language", "python", "memory_mb", 256, "uid", 0,
			  "is_clone", 0, "created_ns", 0, "start_us", 0, "sync",
			  "00112233445566778899aabbccddeeff", "owner", owner_take);
	char *text = record ? json_dumps(record, JSON_COMPACT) : NULL;
	struct vm_record parsed;
	json_t *owner;

	FUZZ_CHECK(vm == fuzz_vm_get() && text && strlen(text) <= VM_RECORD_MAX);
	FUZZ_CHECK(vm_record_parse(text, strlen(text), &parsed, &owner) == 0);
	FUZZ_CHECK(json_equal(owner, json_object_get(record, "owner")));
	if (fuzz_vm.on_record)
		fuzz_vm.on_record(owner);
	json_decref(owner);
	json_decref(record);
	free(text);
	return 0;
}

/* --- In the place of daemon/pool. --- */

/* There is one VM, which is there at once; who asks again waits for ever. */
struct rpc_error *__wrap_pool_acquire(struct pool *pool, struct pool_request *request);
struct rpc_error *__wrap_pool_acquire(struct pool *pool UNUSED, struct pool_request *request)
{
	request->claim = (struct pool_claim *)request;
	return NULL;
}

struct rpc_error *__wrap_pool_adopt(struct pool *pool, struct pool_request *request,
				    const struct vm_record *record, json_t *received_take);
struct rpc_error *__wrap_pool_adopt(struct pool *pool UNUSED, struct pool_request *request,
				    const struct vm_record *record, json_t *received_take)
{
	const char *stream;
	const json_t *bytes;

	FUZZ_CHECK(strcmp(record->id, FUZZ_VM_ID) == 0 && json_is_object(received_take));
	FUZZ_CHECK(!fuzz_vm.wish);
	json_object_foreach (received_take, stream, bytes)
		FUZZ_CHECK(json_is_integer(bytes) && json_integer_value(bytes) >= 0);
	json_decref(received_take);
	if (fuzz_vm.is_gone)
		return rpc_error_new(RPC_VM_LOST, "VM %s is not there any more", record->id);
	fuzz_vm.wish = request;
	return NULL;
}

void __wrap_pool_cancel(struct pool *pool, struct pool_request *request);
void __wrap_pool_cancel(struct pool *pool UNUSED, struct pool_request *request)
{
	if (fuzz_vm.wish == request)
		fuzz_vm.wish = NULL;
}

void __wrap_pool_release(struct pool *pool, struct vm *vm);
void __wrap_pool_release(struct pool *pool UNUSED, struct vm *vm)
{
	FUZZ_CHECK(vm == fuzz_vm_get());
	fuzz_vm.client_ops = NULL;
	fuzz_vm.error = -EPIPE;
	agent_link_close(fuzz_vm.guest.link);
}

void __wrap_pool_work(struct pool *pool, struct vm *vm);
void __wrap_pool_work(struct pool *pool UNUSED, struct vm *vm)
{
	FUZZ_CHECK(vm == fuzz_vm_get() && fuzz_vm.client_ops);
}

void __wrap_pool_rest(struct pool *pool, struct vm *vm);
void __wrap_pool_rest(struct pool *pool UNUSED, struct vm *vm)
{
	FUZZ_CHECK(vm == fuzz_vm_get() && fuzz_vm.client_ops);
}

uint64_t __wrap_pool_max_memory_mb(const struct pool *pool);
uint64_t __wrap_pool_max_memory_mb(const struct pool *pool UNUSED)
{
	return VM_MEMORY_MB;
}

/* --- The guest link's owner, as daemon/vm/vm_start.c has it. --- */

static void on_ready(void *user UNUSED, const struct msg_hello_reply *hello UNUSED)
{
	if (fuzz_vm.on_ready)
		fuzz_vm.on_ready();
}

static void on_message(void *user UNUSED, const struct msg *msg)
{
	if (fuzz_vm.client_ops && msg->type != FRAME_MEMORY)
		fuzz_vm.client_ops->on_message(fuzz_vm.user, msg);
}

static void on_output(void *user UNUSED, uint32_t exec, enum frame_substream sub,
		      const uint8_t *data, size_t len)
{
	if (fuzz_vm.client_ops)
		fuzz_vm.client_ops->on_output(fuzz_vm.user, exec, sub, data, len);
}

static void on_input(void *user UNUSED, uint32_t exec, uint64_t taken)
{
	if (fuzz_vm.client_ops && fuzz_vm.client_ops->on_input)
		fuzz_vm.client_ops->on_input(fuzz_vm.user, exec, taken);
}

static void tell_lost(void *user UNUSED)
{
	const struct vm_client_ops *client_ops = TAKE_PTR(fuzz_vm.client_ops);
	enum rpc_code code = fuzz_vm.error == -EPROTO ? RPC_GUEST_PROTOCOL : RPC_VM_LOST;

	if (client_ops)
		client_ops->on_lost(fuzz_vm.user, rpc_error_new(code, "The VM is lost"));
}

static void on_failed(void *user UNUSED, int error, const char *why)
{
	FUZZ_CHECK(!fuzz_vm.is_lost && error < 0 && why);
	fuzz_vm.is_lost = true;
	fuzz_vm.error = error;
	loop_defer(fuzz_vm.guest.loop, &fuzz_vm.lost, tell_lost, NULL);
}

static const struct agent_link_ops link_ops = {
	.on_ready = on_ready,
	.on_message = on_message,
	.on_output = on_output,
	.on_input = on_input,
	.on_failed = on_failed,
};

/* --- Life. --- */

void fuzz_vm_start(void)
{
	fuzz_vm = (struct fuzz_vm){0};
	fuzz_guest_start(&fuzz_vm.guest, &link_ops, NULL);
}

void fuzz_vm_end(void)
{
	fuzz_settle(fuzz_vm.guest.loop);
	FUZZ_CHECK(!fuzz_vm.client_ops && !fuzz_vm.wish);
	fuzz_guest_end(&fuzz_vm.guest);
	FUZZ_CHECK(kept_walk(fuzz_vm_dir_fd(), remove_file, NULL) == 0);
}
