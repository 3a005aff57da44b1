/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hostile guest in a session that is in use: programs, background processes, files, followers of
 * their output. All is real but the pool and the VM, of which there is the guest link.
 */
#include "base/util.h"
#include "daemon/method/methods.h"
#include "daemon/session/process.h"
#include "daemon/session/session_internal.h"
#include "tests/fuzz/client.h"
#include "tests/fuzz/time.h"
#include "tests/fuzz/vm.h"

#include <string.h>

/* Steps of the caller that find no more to ask for. */
#define REQUESTS_MAX 64

/* What a client asks for, by a caller's step: of its first two bytes one says which, one of which
 * process; the rest is the text of a parameter (texts[]), in place of what stands here. */
enum about { NOTHING, SESSION, PROCESS, REQUEST };
static const struct request {
	const char *method;
	enum about about;
	const char *params;
} requests[] = {
	{"session.exec", SESSION, "{\"code\": \"1\"}"},
	{"session.exec", SESSION, "{\"code\": \"1\", \"stream\": true, \"timeout_seconds\": 9}"},
	{"session.exec", SESSION, "{\"command\": \"a\", \"limits\": {\"stdout_bytes\": 8}}"},
	{"session.exec", SESSION, "{\"command\": \"a\", \"exec_id\": \"e\", \"stdin\": \"in\"}"},
	{"session.exec", SESSION, "{\"command\": \"a\", \"background\": true, \"stdin\": \"in\"}"},
	{"session.exec", SESSION,
	 "{\"argv\": [\"a\"], \"background\": true, \"terminal\": {\"rows\": 2, \"columns\": 3}}"},
	{"session.attach", SESSION, "{}"},
	{"session.attach", PROCESS, "{\"stdout_offset\": 1}"},
	{"session.result", NOTHING, "{\"exec_id\": \"e\"}"},
	{"session.info", SESSION, "{}"},
	{"session.list", NOTHING, "{}"},
	{"session.update", SESSION, "{\"idle_timeout_seconds\": 9}"},
	{"session.close", SESSION, "{}"},
	{"process.list", SESSION, "{}"},
	{"process.wait", PROCESS, "{}"},
	{"process.wait", PROCESS, "{\"timeout_seconds\": 0, \"stderr_offset\": 2}"},
	{"process.write", PROCESS, "{\"data\": \"0123456789\"}"},
	{"process.close_stdin", PROCESS, "{}"},
	{"process.signal", PROCESS, "{\"signal\": \"TERM\"}"},
	{"process.resize", PROCESS, "{\"rows\": 1, \"columns\": 1}"},
	{"file.read", SESSION, "{\"path\": \"a\"}"},
	{"file.write", SESSION, "{\"path\": \"a\", \"data\": \"0123\"}"},
	{"file.list", SESSION, "{\"path\": \"\"}"},
	{"session.create", NOTHING,
	 "{\"language\": \"shell\", \"bind\": \"connection\", \"name\": \"\"}"},
	{"$/cancelRequest", REQUEST, "{}"},
	{"hang-up", NOTHING, NULL},  /* and comes again */
	{"deadline", NOTHING, NULL}, /* the next one passes */
	{"session.update", SESSION, "{\"metadata\": {}, \"timeout_seconds\": 99}"},
	{"session.update", SESSION, "{\"name\": \"n\"}"},
};

struct world {
	struct fuzz_client client;
	struct daemon daemon;
	struct run_counters counters;
	int id; /* of the last request */
	bool is_granted;
};

static struct config config;
static struct world world;

/* daemon/daemon.h's, by the linker's --wrap. */
struct rpc_error *__wrap_daemon_require_images(struct daemon *daemon);
struct rpc_error *__wrap_daemon_require_images(struct daemon *daemon UNUSED)
{
	return NULL;
}

static struct session *the_session(void)
{
	return TAILQ_FIRST(&world.daemon.sessions->open);
}

/* The session that was made first gets the VM. */
static void on_ready(void)
{
	struct session *session = the_session();

	FUZZ_CHECK(session && !world.is_granted);
	world.is_granted = true;
	session->wish.on_vm(session->wish.user, fuzz_vm_get());
}

/* Each process that outlives the daemon stands in the session's record. */
static void on_record(const json_t *owner)
{
	const struct session *session = the_session();
	const json_t *list = json_object_get(owner, "processes");
	const struct process *process;
	size_t count = 0;

	FUZZ_CHECK(session && json_is_array(list));
	FUZZ_CHECK(json_equal(json_object_get(owner, "metadata"), session->metadata));
	TAILQ_FOREACH(process, &session->processes.list, link)
	{
		if (process->state == PROCESS_STARTING || process->is_unwanted || !process->is_kept)
			continue;
		FUZZ_CHECK(json_is_object(json_array_get(list, count)));
		count++;
	}
	FUZZ_CHECK(json_array_size(list) == count);
}

/* --- The client. --- */

static rpc_handler_fn handler_of(const char *method)
{
	for (size_t i = 0; i < method_handler_count; i++)
		if (strcmp(method_handlers[i].name, method) == 0)
			return method_handlers[i].fn;
	FUZZ_CHECK(false);
	return NULL;
}

static const char *process_id(uint8_t index)
{
	const struct session *session = the_session();
	const struct process *process = session ? TAILQ_FIRST(&session->processes.list) : NULL;

	for (; process && index > 0; index--)
		process = TAILQ_NEXT(process, link);
	return process ? process->id : "proc_1";
}

static const char *const texts[] = {"command", "argv", "name", "metadata"};

/* Bytes that are no text say nothing. `argv` has a list of words, `metadata` an object. */
static void set_text(json_t *params, const uint8_t *data, size_t len)
{
	size_t i = 0;
	json_t *text;

	while (i < ELEMENTSOF(texts) && !json_object_get(params, texts[i]))
		i++;
	text = i < ELEMENTSOF(texts) && len > 0 ? json_stringn((const char *)data, len) : NULL;
	if (!text)
		return;
	if (json_is_array(json_object_get(params, texts[i])))
		text = json_pack("[s, o, s]", "a", text, "c");
	else if (json_is_object(json_object_get(params, texts[i])))
		text = json_pack("{s:o}", "key", text);
	json_object_set_new(params, texts[i], text);
}

static void ask(const struct request *request, uint8_t index, const uint8_t *data, size_t len)
{
	const struct session *session = the_session();
	json_t *params = json_loads(request->params, 0, NULL);
	enum about about = request->about;
	char *line;

	FUZZ_CHECK(params);
	set_text(params, data, len);
	if (about == SESSION || about == PROCESS)
		json_object_set_new(params, "session",
				    json_string(session ? session->id : "ses_1"));
	if (about == PROCESS)
		json_object_set_new(params, "process", json_string(process_id(index)));
	if (about == REQUEST)
		json_object_set_new(params, "id", json_integer(index));
	params = json_pack("{s:s, s:s, s:o}", "jsonrpc", "2.0", "method", request->method, "params",
			   params);
	if (about != REQUEST)
		json_object_set_new(params, "id", json_integer(++world.id));
	line = json_dumps(params, JSON_COMPACT);
	FUZZ_CHECK(line);
	/* Full: the client does not read fast enough, which ends with the next step. */
	(void)!write(world.client.fd, line, strlen(line));
	(void)!write(world.client.fd, "\n", 1);
	free(line);
	json_decref(params);
}

static void act(const uint8_t *data, size_t len)
{
	size_t i = len > 0 ? data[0] % ELEMENTSOF(requests) : 0;

	if (world.id >= REQUESTS_MAX)
		return;
	if (requests[i].params) {
		ask(&requests[i], len > 1 ? data[1] : 0, data + MIN(len, (size_t)2),
		    len - MIN(len, (size_t)2));
	} else if (strcmp(requests[i].method, "deadline") == 0) {
		(void)fuzz_time_pass(fuzz_vm.guest.loop);
	} else {
		fuzz_client_hang_up(&world.client);
		fuzz_client_connect(&world.client);
	}
	fuzz_settle(fuzz_vm.guest.loop);
}

static void play(const uint8_t *data, size_t size)
{
	const uint8_t *bytes;
	uint8_t step;
	size_t len;

	while (fuzz_guest_step(&data, &size, &step, &bytes, &len)) {
		if (step % STEP_COUNT == STEP_CALLER)
			act(bytes, len);
		else if (!fuzz_vm.is_lost)
			fuzz_guest_say(&fuzz_vm.guest, step, 1 + STEP_EXEC(step), bytes, len);
		fuzz_client_read(&world.client);
	}
}

/* --- One input. --- */

static void start(void)
{
	static const struct request create = {"session.create", NOTHING,
					      "{\"language\": \"python\"}"};
	struct loop *loop;

	world = (struct world){0};
	fuzz_vm_start();
	fuzz_vm.on_ready = on_ready;
	fuzz_vm.on_record = on_record;
	loop = fuzz_vm.guest.loop;
	world.daemon.config = &config;
	world.daemon.loop = loop;
	FUZZ_CHECK(results_create(loop, &config, -1, &world.daemon.results) == 0);
	world.daemon.exec_env = (struct exec_env){.loop = loop,
						  .config = &config,
						  .counters = &world.counters,
						  .results = world.daemon.results};
	FUZZ_CHECK(sessions_create(
			   &(struct sessions_config){.exec = &world.daemon.exec_env, .node = ""},
			   &world.daemon.sessions) == 0);
	fuzz_client_start(&world.client, loop, handler_of, &world.daemon);
	ask(&create, 0, NULL, 0);
	fuzz_settle(loop);
	fuzz_guest_say_hello(&fuzz_vm.guest);
	fuzz_client_read(&world.client);
	FUZZ_CHECK(world.is_granted);
}

static void finish(void)
{
	fuzz_guest_hang_up(&fuzz_vm.guest);
	fuzz_client_read(&world.client);
	fuzz_client_end(&world.client);
	sessions_destroy(world.daemon.sessions);
	results_destroy(world.daemon.results);
	fuzz_vm_end();
}

/* The steps of the guest and of the client. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	fuzz_begin();
	fuzz_time_begin();
	if (!config.socket)
		FUZZ_CHECK(config_defaults(&config) == 0);
	start();
	play(data, size);
	finish();
	return 0;
}
