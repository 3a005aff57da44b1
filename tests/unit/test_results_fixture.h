/* SPDX-License-Identifier: Apache-2.0 */
/* Daemons that follow each other over one directory of results, with a client; header only. */
#ifndef TESTS_UNIT_TEST_RESULTS_FIXTURE_H
#define TESTS_UNIT_TEST_RESULTS_FIXTURE_H

#include "base/kept.h"
#include "daemon/session/results_internal.h"
#include "tests/unit/test_json.h"
#include "tests/unit/test_rpc_fixture.h"
#include "tests/unit/test_small_disk.h"

#include <dirent.h>

FX struct config config;
FX struct results *results;
FX char dir[TEST_DIR_SIZE];
FX int dir_fd;

/* The programs that run: there are no execs in this process. */
FX struct {
	struct result_record *record;
	struct rpc_call *call;
} begun[8];
FX size_t begun_count, cancelled;
FX struct line_client client;

#define FAKE_EXEC ((struct exec *)&cancelled)

void __wrap_exec_cancel(struct exec *exec);
void __wrap_exec_cancel(struct exec *exec)
{
	ck_assert_ptr_eq(exec, FAKE_EXEC);
	cancelled++;
}

/* --- A daemon. --- */

FX void on_call_gone(void *user)
{
	*(struct rpc_call **)user = NULL;
}

FX const struct rpc_call_ops call_ops = {.on_gone = on_call_gone};

FX struct rpc_reply on_run(struct rpc_call *call, const json_t *params)
{
	struct rpc_error *error = NULL;
	struct rpc_reply reply;

	if (results_join(results, call, params, &reply))
		return reply;
	begun[begun_count].record = results_begin(results, call, params, NULL, 100, &error);
	if (error)
		return rpc_reply_error(call, error);
	begun[begun_count].call = call;
	return rpc_reply_pending(call, &call_ops, &begun[begun_count++].call);
}

FX struct rpc_reply on_get(struct rpc_call *call, const json_t *params)
{
	return results_get(results, call, params);
}

static const struct param params[] = {
	{.name = "exec_id", .type = PARAM_STRING, .is_required = true, .help = "its name"},
	{.name = "code", .type = PARAM_STRING, .help = "of it"},
	{.name = "stdout_offset", .type = PARAM_INTEGER, .help = "from here"},
	{.name = "stderr_offset", .type = PARAM_INTEGER, .help = "from here"},
	FX_END,
};
static const struct method methods[] = {{"get", "session.result", ACCESS_ANY, params, "it"},
					{"run", "run", ACCESS_ANY, params, "it"},
					{.name = NULL}};
static const struct rpc_handler handlers[] = {{"get", on_get}, {"run", on_run}};

FX void start(void)
{
	begun_count = 0;
	ck_assert_int_eq(results_create(world.loop, &config, dir_fd, &results), 0);
}

/* As a SIGKILL: nobody says goodbye, and nothing is written. The results are forgotten behind the
 * back of their directory, calls are answered by nobody. */
FX void end_at_once(void)
{
	struct result_record *record;

	results->dir_fd = -1;
	TAILQ_FOREACH(record, &results->records, link)
	record->has_ended = true; /* no exec hears of it */
	results_destroy(results);
	for (size_t i = 0; i < begun_count; i++)
		if (begun[i].call)
			rpc_call_finish_error(TAKE_PTR(begun[i].call), rpc_error_no_memory());
}

FX int load(const struct results_load_ops *ops)
{
	start();
	return results_load(results, ops, NULL);
}

FX void setup(void)
{
	fx_setup();
	rpc_server_destroy(world.server);
	world.config.methods = methods;
	world.config.handlers = handlers;
	world.config.handler_count = ELEMENTSOF(handlers);
	ck_assert_int_eq(rpc_server_create(&world.config, &world.server), 0);
	ck_assert_int_eq(config_defaults(&config), 0);
	test_dir_make(dir);
	dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_ge(dir_fd, 0);
	cancelled = 0;
	start();
	client = fx_client();
}

FX void teardown(void)
{
	line_client_close(&client);
	results_destroy(results);
	fx_teardown();
	config_fini(&config);
	close(dir_fd);
	test_dir_remove(dir);
}

/* --- Its client. --- */

FX int last_id;

FX void send_call(const char *method, const char *text)
{
	json_auto_t *message = json_pack("{s:s, s:i, s:s, s:o}", "jsonrpc", "2.0", "id", ++last_id,
					 "method", method, "params", json_of(text));
	_cleanup_free_ char *line = json_dumps(message, JSON_COMPACT);

	fx_send(&client, line);
}

/* The result, or the error object. New reference. */
FX json_t *reply(void)
{
	_cleanup_free_ char *line = NULL;
	json_auto_t *message = NULL;
	json_t *result;

	ck_assert_int_eq(line_client_receive(&client, &line), 1);
	message = json_of(line);
	result = json_object_get(message, "result");
	return json_incref(result ?: json_need(message, "error"));
}

FX json_t *call(const char *method, const char *text)
{
	send_call(method, text);
	return reply();
}

FX void assert_code(const char *method, const char *text, int code)
{
	json_auto_t *error = call(method, text);

	ck_assert_json_int(error, "code", code);
}

/* Sends a request to run, up to where it is a record. */
FX struct result_record *begin(const char *text)
{
	size_t count = begun_count;

	send_call("run", text);
	fx_wait(begun_count > count);
	ck_assert_ptr_nonnull(begun[count].record);
	return begun[count].record;
}

FX const struct results_dispatch place = {.vm = "vm_1",
					  .session = "ses_1",
					  .language = "python",
					  .start = "warm",
					  .number = 7,
					  .granted_us = 5};

FX void answer(struct result_record *record, json_t *result)
{
	for (size_t i = 0; i < begun_count; i++)
		if (begun[i].record == record && begun[i].call)
			rpc_call_finish_result(TAKE_PTR(begun[i].call), json_incref(result));
}

/* It has ended with these bytes. Answers its caller. */
FX void end(struct result_record *record, const char *out, size_t len, uint64_t total)
{
	struct output outputs[2] = {{.limit = 1 << 20}, {.limit = 1 << 20}};
	json_auto_t *result = json_pack("{s:s, s:i, s:n, s:[]}", "status", "ok", "exit_code", 0,
					"error", "files");

	ck_assert_int_eq(output_add(&outputs[0], (const uint8_t *)out, len), 0);
	output_to_result(&outputs[0], "stdout", total, result);
	output_to_result(&outputs[1], "stderr", 0, result);
	answer(record, result);
	results_end(record, result, &outputs[0], &outputs[1]);
	output_fini(&outputs[0]);
	output_fini(&outputs[1]);
	json_decref(reply());
}

FX size_t count_files(void)
{
	DIR *list = opendir(dir);
	size_t count = 0;

	while (readdir(list))
		count++;
	closedir(list);
	return count - 2;
}

#define ONE "{\"exec_id\": \"one\", \"code\": \"print()\"}"
#define GET "{\"exec_id\": \"one\"}"

FX struct result_record *running;
FX json_t *running_saved;

FX void on_running(void *user UNUSED, struct result_record *record, const json_t *saved)
{
	ck_assert_ptr_null(running);
	running = record;
	running_saved = json_incref((json_t *)saved);
}

FX const struct results_load_ops load_ops = {.on_running = on_running};

#endif
