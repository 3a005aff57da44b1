/* SPDX-License-Identifier: Apache-2.0 */
/* Parameters of any JSON for every method, and the requests that `run` and sessions make of good
 * ones. */
#include "base/util.h"
#include "daemon/rpc/wire.h"
#include "daemon/session/request.h"
#include "daemon/session/run_files.h"
#include "protocol/method.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

/* A host of 16 GiB that gives one VM at most half of them. */
#define VM_MEMORY_MAX_MB 8192

static struct config config;

/* What is refused is refused with an error that can be sent. */
static void check_error(struct rpc_error *error)
{
	json_t *json = rpc_error_to_json(error);

	FUZZ_CHECK(json);
	FUZZ_CHECK(json_string_length(json_object_get(json, "message")) > 0);
	FUZZ_CHECK(json_is_string(json_object_get(json_object_get(json, "data"), "name")));
	json_decref(json);
	rpc_error_free(error);
}

/* What is taken is within the configured limits. */
static void check_request(const struct run_request *request)
{
	FUZZ_CHECK(request->code_len > 0 && request->code_len <= config.code_max_bytes);
	FUZZ_CHECK(request->input_len <= config.stdin_max_bytes);
	FUZZ_CHECK(request->timeout_seconds > 0 &&
		   request->timeout_seconds <= config.max_timeout_seconds);
	FUZZ_CHECK(request->memory_mb <= request->vm_memory_mb);
	FUZZ_CHECK(request->vm_memory_mb <= VM_MEMORY_MAX_MB);
	FUZZ_CHECK(request->stdout_limit <= config.stdout_max_bytes);
	FUZZ_CHECK(request->stderr_limit <= config.stderr_max_bytes);
	FUZZ_CHECK(json_array_size(request->args) <= (size_t)config.args_max);
	FUZZ_CHECK(json_object_size(request->env) <= (size_t)config.env_max);
}

/* One operation for each file, and no more bytes than there may be. */
static void check_batch(const struct file_batch *batch, size_t operations)
{
	FUZZ_CHECK(json_array_size(batch->operations) == operations);
	FUZZ_CHECK(batch->data_len + batch->socket_size <=
		   config.file_max_bytes * (operations + 1));
}

static void try_run(const json_t *params)
{
	struct run_request request;
	struct run_files files;
	struct rpc_error *error = run_request_parse(params, &config, VM_MEMORY_MAX_MB, &request);

	if (error) {
		check_error(error);
		return;
	}
	check_request(&request);
	run_request_fini(&request);
	error = run_files_parse(params, &config, &files);
	if (error) {
		check_error(error);
		return;
	}
	check_batch(&files.placed, json_array_size(json_object_get(params, "files")));
	check_batch(&files.fetched, json_array_size(json_object_get(params, "collect")));
	run_files_fini(&files);
}

static void try_file(enum file_kind kind, const json_t *params)
{
	struct file_request request;
	struct rpc_error *error = file_request_parse(kind, params, &config, &request);

	if (error) {
		check_error(error);
		return;
	}
	FUZZ_CHECK(strlen(request.path) <= FILE_PATH_MAX && *request.path != '/');
	FUZZ_CHECK(request.takes_socket || request.batch.read_max <= FILE_READ_MAX);
	/* An upload is opened, written to and ended at the most. */
	FUZZ_CHECK(json_array_size(request.batch.operations) >= 1 &&
		   json_array_size(request.batch.operations) <= 3);
	file_request_fini(&request);
}

static void try_session(const json_t *params)
{
	struct run_request session;
	struct rpc_error *error =
		session_request_parse(params, &config, VM_MEMORY_MAX_MB, &session);

	if (error)
		check_error(error);
	else
		run_request_fini(&session);
}

/* In a session that asked for nothing. */
static void try_exec(const json_t *params)
{
	json_t *nothing = json_object();
	struct run_request session, request;
	struct rpc_error *error =
		session_request_parse(nothing, &config, VM_MEMORY_MAX_MB, &session);

	FUZZ_CHECK(!error);
	error = exec_request_parse(params, &config, &session, &request);
	if (error) {
		check_error(error);
	} else {
		check_request(&request);
		run_request_fini(&request);
	}
	run_request_fini(&session);
	json_decref(nothing);
}

static void try_method(const char *method, const json_t *params)
{
	static const struct {
		const char *method;
		enum file_kind kind;
	} files[] = {
		{"file.list", FILE_LIST},     {"file.mkdir", FILE_MKDIR},
		{"file.read", FILE_READ},     {"file.remove", FILE_REMOVE},
		{"file.rename", FILE_RENAME}, {"file.stat", FILE_STAT},
		{"file.write", FILE_WRITE},
	};

	if (strcmp(method, "run") == 0)
		try_run(params);
	else if (strcmp(method, "session.create") == 0)
		try_session(params);
	else if (strcmp(method, "session.exec") == 0)
		try_exec(params);
	for (size_t i = 0; i < ELEMENTSOF(files); i++)
		if (strcmp(method, files[i].method) == 0)
			try_file(files[i].kind, params);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct rpc_error *error = NULL;
	json_t *params;

	fuzz_begin();
	if (!config.socket)
		FUZZ_CHECK(config_defaults(&config) == 0);
	params = wire_parse((const char *)data, size, &error);
	if (!params) {
		check_error(error);
		return 0;
	}
	for (const struct method *method = method_table; json_is_object(params) && method->name;
	     method++) {
		error = method_validate(method, params);
		if (error)
			check_error(error);
		else
			try_method(method->name, params);
	}
	json_decref(params);
	return 0;
}
