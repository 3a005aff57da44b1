/* SPDX-License-Identifier: Apache-2.0 */
/* What callers of `run`, session.create and session.exec ask for, checked against the
 * configuration.
 */
#include "daemon/session/request.h"

#include "daemon/session/bytes.h"
#include "protocol/message.h"

#include <assert.h>
#include <ctype.h>
#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

/*
 * Variables that change which code an interpreter or the dynamic linker loads before the caller's
 * own. In a VM of the caller's they are no danger to others; they are refused because they break
 * the run in ways that look like our fault.
 */
static const char *const env_refused[] = {
	"LD_*",          "PYTHONPATH", "PYTHONHOME",  "PYTHONSTARTUP",  "PYTHONEXECUTABLE",
	"BASH_ENV",      "ENV",        "BASH_FUNC_*", "SHELLOPTS",      "BASHOPTS",
	"NODE_OPTIONS",  "NODE_PATH",  "BUN_OPTIONS", "BUN_INSPECT*",   "BUN_CONFIG_*",
	"GCONV_PATH",    "LOCPATH",    "MALLOC_*",    "GLIBC_TUNABLES", "PERL5*",
	"EXECSANDBOX_*",
};

uint64_t memory_size_class(uint64_t memory_mb, uint64_t default_mb)
{
	uint64_t size_class = 128;

	while (size_class < memory_mb)
		size_class *= 2;
	return default_mb >= memory_mb && default_mb < size_class ? default_mb : size_class;
}

static bool has_nul(const json_t *string)
{
	return memchr(json_string_value(string), '\0', json_string_length(string)) != NULL;
}

/* `what` is the parameter's name, and what people call its value. */
static struct rpc_error *parse_code(const json_t *params, const char *what,
				    const struct config *config, struct run_request *request)
{
	const json_t *code = json_object_get(params, what);
	const char *text = json_string_value(code);
	size_t len = json_string_length(code);
	struct rpc_error *error = NULL;

	if (len > config->code_max_bytes) {
		error = rpc_error_hint(
			rpc_error_new(RPC_CODE_INVALID, "The %s is %zu bytes long, over %ju", what,
				      len, (uintmax_t)config->code_max_bytes),
			"pass data through stdin, or raise code_max_bytes in the configuration");
		rpc_error_set(error, "max", json_integer((json_int_t)config->code_max_bytes));
	} else if (has_nul(code)) {
		error = rpc_error_hint(
			rpc_error_new(RPC_CODE_INVALID, "The %s holds a NUL byte", what),
			"programs are text; pass binary data through stdin");
	} else if (strspn(text, " \t\r\n\f\v") == len) {
		error = rpc_error_new(RPC_CODE_INVALID, "The %s is %s", what,
				      len == 0 ? "empty" : "blank");
		rpc_error_set(error, "hint",
			      json_sprintf("put the program's text into '%s'", what));
	}
	if (error)
		return rpc_error_field(error, what);
	request->code = bytes_copy(text, len);
	request->code_len = len;
	return request->code ? NULL : rpc_error_no_memory();
}

static struct rpc_error *parse_input(const json_t *params, const struct config *config,
				     struct run_request *request)
{
	struct rpc_error *error = bytes_from_params(params, "stdin", "stdin_encoding",
						    &request->input, &request->input_len);

	if (error || request->input_len <= config->stdin_max_bytes)
		return error;
	error = rpc_error_new(RPC_LIMIT_INVALID, "Standard input is %zu bytes long, over %ju",
			      request->input_len, (uintmax_t)config->stdin_max_bytes);
	rpc_error_set(error, "max", json_integer((json_int_t)config->stdin_max_bytes));
	rpc_error_hint(error, "send less, or raise stdin_max_bytes in the configuration");
	return rpc_error_field(error, "stdin");
}

static struct rpc_error *parse_args(const json_t *params, const char *what,
				    const struct config *config, struct run_request *request)
{
	json_t *args = json_object_get(params, what);
	const json_t *arg;
	size_t i;

	if (json_array_size(args) > (size_t)config->args_max)
		return rpc_error_field(rpc_error_new(RPC_INVALID_PARAMS,
						     "There are %zu %s, over %jd",
						     json_array_size(args),
						     strcmp(what, "args") == 0 ? "args" : "words",
						     (intmax_t)config->args_max),
				       what);
	json_array_foreach (args, i, arg) {
		if (has_nul(arg))
			return rpc_error_field(rpc_error_new(RPC_INVALID_PARAMS,
							     "Element %zu of '%s' holds a NUL byte",
							     i, what),
					       what);
	}
	request->args = json_incref(args);
	return NULL;
}

static bool is_env_name(const char *name)
{
	if (!isalpha((unsigned char)*name) && *name != '_')
		return false;
	for (; *name; name++)
		if (!isalnum((unsigned char)*name) && *name != '_')
			return false;
	return true;
}

static struct rpc_error *check_env(const char *name, const json_t *value)
{
	if (!is_env_name(name))
		return rpc_error_hint(
			rpc_error_new(RPC_ENV_INVALID,
				      "'%.64s' is not an environment variable's name", name),
			"names are letters, digits and '_', not starting with a digit");
	if (has_nul(value))
		return rpc_error_new(RPC_ENV_INVALID,
				     "The value of environment variable '%.64s' holds a NUL byte",
				     name);
	for (size_t i = 0; i < ELEMENTSOF(env_refused); i++)
		if (fnmatch(env_refused[i], name, 0) == 0)
			return rpc_error_hint(
				rpc_error_new(RPC_ENV_INVALID,
					      "Environment variable '%.64s' is not allowed", name),
				"it changes how the interpreter loads code; set it inside the "
				"program for the processes it starts");
	return NULL;
}

static struct rpc_error *parse_env(json_t *env, const struct config *config,
				   struct run_request *request)
{
	const json_t *value;
	const char *name;

	if (json_object_size(env) > (size_t)config->env_max) {
		struct rpc_error *error = rpc_error_new(
			RPC_ENV_INVALID, "There are %zu environment variables, over %jd",
			json_object_size(env), (intmax_t)config->env_max);

		rpc_error_set(error, "max", json_integer((json_int_t)config->env_max));
		return rpc_error_field(error, "env");
	}
	json_object_foreach (env, name, value) {
		struct rpc_error *error = check_env(name, value);

		if (error)
			return rpc_error_field(error, "env");
	}
	request->env = json_incref(env);
	return NULL;
}

/* Arguments and environment travel in one control message. */
static struct rpc_error *check_strings_size(const struct run_request *request, const char *what,
					    size_t max)
{
	size_t args = request->args ? json_dumpb(request->args, NULL, 0, JSON_COMPACT) : 0;
	size_t env = request->env ? json_dumpb(request->env, NULL, 0, JSON_COMPACT) : 0;
	size_t size = args + env;

	if (size <= max)
		return NULL;
	return rpc_error_field(
		rpc_error_hint(rpc_error_new(env > args ? RPC_ENV_INVALID : RPC_INVALID_PARAMS,
					     "'%s' and 'env' are %zu bytes long together, over %zu",
					     what, size, max),
			       "pass data through stdin, or put it into a file"),
		env > args ? "env" : what);
}

/* One number of `limits`, bounded by the configuration. */
struct limit {
	const char *name;
	uint64_t min, max, fallback;
	size_t offset;
};

static struct rpc_error *read_limit(const json_t *limits, const struct limit *limit,
				    struct run_request *request)
{
	const json_t *given = json_object_get(limits, limit->name);
	uint64_t value = given ? (uint64_t)json_integer_value(given) : limit->fallback;
	struct rpc_error *error;
	char field[64];

	memcpy((char *)request + limit->offset, &value, sizeof(value));
	if (!given || (value >= limit->min && value <= limit->max))
		return NULL;
	snprintf(field, sizeof(field), "limits.%s", limit->name);
	error = rpc_error_new(RPC_LIMIT_INVALID, "Limit '%s' is %ju, outside %ju to %ju", field,
			      (uintmax_t)value, (uintmax_t)limit->min, (uintmax_t)limit->max);
	rpc_error_set(error, "min", json_integer((json_int_t)limit->min));
	rpc_error_set(error, "max", json_integer((json_int_t)limit->max));
	rpc_error_hint(error, "the configuration of the daemon sets these bounds");
	return rpc_error_field(error, field);
}

static struct rpc_error *parse_limits(const json_t *limits, const struct config *config,
				      uint64_t max_memory_mb, struct run_request *request)
{
#define OFFSET(member) offsetof(struct run_request, member)
	const struct limit table[] = {
		{"memory_mb", (uint64_t)config->min_memory_mb, max_memory_mb,
		 (uint64_t)config->default_memory_mb, OFFSET(memory_mb)},
		{"stdout_bytes", 0, config->stdout_max_bytes, config->stdout_max_bytes,
		 OFFSET(stdout_limit)},
		{"stderr_bytes", 0, config->stderr_max_bytes, config->stderr_max_bytes,
		 OFFSET(stderr_limit)},
		{"pids", 1, 4096, (uint64_t)config->pids_default, OFFSET(pids)},
		{"cpu_seconds", 1, 86400, 0, OFFSET(cpu_seconds)},
		{"disk_mb", 1, max_memory_mb, (uint64_t)config->disk_default_mb, OFFSET(disk_mb)},
	};
#undef OFFSET
	const char *on_output = json_string_value(json_object_get(limits, "on_output"));

	for (size_t i = 0; i < ELEMENTSOF(table); i++) {
		struct rpc_error *error = read_limit(limits, &table[i], request);

		if (error)
			return error;
	}
	request->stop_at_limit = on_output && strcmp(on_output, "stop") == 0;
	request->vm_memory_mb =
		MIN(memory_size_class(request->memory_mb, (uint64_t)config->default_memory_mb),
		    max_memory_mb);
	return NULL;
}

static struct rpc_error *parse_timeout(const json_t *params, const struct config *config,
				       struct run_request *request)
{
	const json_t *given = json_object_get(params, "timeout_seconds");
	struct rpc_error *error;

	request->timeout_seconds =
		given ? json_number_value(given) : config->default_timeout_seconds;
	if (request->timeout_seconds <= config->max_timeout_seconds)
		return NULL;
	error = rpc_error_new(RPC_LIMIT_INVALID, "timeout_seconds is %g, outside 0.1 to %g",
			      request->timeout_seconds, config->max_timeout_seconds);
	rpc_error_set(error, "min", json_real(0.1));
	rpc_error_set(error, "max", json_real(config->max_timeout_seconds));
	rpc_error_hint(error, "the configuration of the daemon sets these bounds");
	return rpc_error_field(error, "timeout_seconds");
}

static struct rpc_error *parse(const json_t *params, const struct config *config,
			       uint64_t max_memory_mb, struct run_request *request)
{
	struct rpc_error *error;

	snprintf(request->language, sizeof(request->language), "%s",
		 json_string_value(json_object_get(params, "language")));
	request->is_streaming = json_is_true(json_object_get(params, "stream"));
	error = parse_code(params, "code", config, request);
	if (!error)
		error = parse_input(params, config, request);
	if (!error)
		error = parse_args(params, "args", config, request);
	if (!error)
		error = parse_env(json_object_get(params, "env"), config, request);
	if (!error)
		error = check_strings_size(request, "args", MSG_EXEC_STRINGS_MAX);
	if (!error)
		error = parse_limits(json_object_get(params, "limits"), config, max_memory_mb,
				     request);
	if (!error)
		error = parse_timeout(params, config, request);
	return error;
}

/* The result of a parser: all of a request, or nothing of it. */
static struct rpc_error *complete(struct rpc_error *error, struct run_request *request,
				  struct run_request *ret)
{
	if (error)
		run_request_fini(request);
	else
		*ret = *request;
	return error;
}

struct rpc_error *run_request_parse(const json_t *params, const struct config *config,
				    uint64_t max_memory_mb, struct run_request *ret)
{
	struct run_request request = {0};

	return complete(parse(params, config, max_memory_mb, &request), &request, ret);
}

/* --- Sessions. --- */

struct rpc_error *session_request_parse(const json_t *params, const struct config *config,
					uint64_t max_memory_mb, struct run_request *ret)
{
	const char *language = json_string_value(json_object_get(params, "language"));
	struct run_request request = {0};
	struct rpc_error *error;

	snprintf(request.language, sizeof(request.language), "%s", language ?: "python");
	error = parse_env(json_object_get(params, "env"), config, &request);
	if (!error)
		error = check_strings_size(&request, "args", MSG_EXEC_STRINGS_MAX);
	if (!error)
		error = parse_limits(json_object_get(params, "limits"), config, max_memory_mb,
				     &request);
	return complete(error, &request, ret);
}

/* The session's variables, and those of this program over them. */
static struct rpc_error *merge_env(const json_t *params, const struct config *config,
				   const struct run_request *session, struct run_request *request)
{
	json_t *own = json_object_get(params, "env");
	json_auto_t *merged = json_object();

	if (!merged || (session->env && json_object_update(merged, session->env) < 0) ||
	    (own && json_object_update(merged, own) < 0))
		return rpc_error_no_memory();
	return parse_env(merged, config, request);
}

/* A program of the user's is started as a shell starts it. */
static struct rpc_error *parse_words(const json_t *params, const struct config *config,
				     struct run_request *request)
{
	static const char start_words[] = "exec -- \"$@\"";
	const json_t *argv = json_object_get(params, "argv");

	if (json_string_length(json_array_get(argv, 0)) == 0)
		return rpc_error_field(
			rpc_error_hint(rpc_error_new(RPC_INVALID_PARAMS, "'argv' names no program"),
				       "its first element is the program's name"),
			"argv");
	request->code = bytes_copy(start_words, sizeof(start_words) - 1);
	request->code_len = sizeof(start_words) - 1;
	return request->code ? parse_args(params, "argv", config, request) : rpc_error_no_memory();
}

static struct rpc_error *parse_program(const json_t *params, const struct config *config,
				       const struct run_request *session,
				       struct run_request *request)
{
	bool is_code = json_object_get(params, "code") != NULL;
	bool is_command = json_object_get(params, "command") != NULL;
	bool is_words = json_object_get(params, "argv") != NULL;

	if (is_code + is_command + is_words != 1)
		return rpc_error_hint(
			rpc_error_new(RPC_INVALID_PARAMS,
				      is_code || is_command || is_words
					      ? "There are more programs than one to run"
					      : "There is no program to run"),
			"give one of 'code', for the session's interpreter, 'command', a program "
			"for the shell, and 'argv', a program and its arguments");
	if (is_code) {
		memcpy(request->language, session->language, sizeof(request->language));
		request->is_resident = true;
		return parse_code(params, "code", config, request);
	}
	return is_command ? parse_code(params, "command", config, request)
			  : parse_words(params, config, request);
}

/* Code and command take arguments; argv has them itself, and the arguments of a shell that stays
 * are its own. */
static struct rpc_error *parse_program_args(const json_t *params, const struct config *config,
					    struct run_request *request)
{
	struct rpc_error *error = NULL;

	if (!json_object_get(params, "args"))
		return NULL;
	if (json_object_get(params, "argv"))
		error = rpc_error_hint(
			rpc_error_new(RPC_INVALID_PARAMS, "'args' and 'argv' are given together"),
			"put the arguments behind the program's name in 'argv'");
	else if (request->is_resident && strcmp(request->language, "shell") == 0)
		error = rpc_error_hint(
			rpc_error_new(RPC_INVALID_PARAMS, "'code' of the shell takes no 'args'"),
			"set them in the code, with set --; they stay");
	return error ? rpc_error_field(error, "args") : parse_args(params, "args", config, request);
}

/* A directory in the guest; whether it is there is seen when the program starts. */
static struct rpc_error *parse_cwd(const json_t *params, struct run_request *request)
{
	const json_t *cwd = json_object_get(params, "cwd");
	struct rpc_error *error;

	if (!cwd)
		return NULL;
	if (request->is_resident)
		error = rpc_error_hint(
			rpc_error_new(RPC_INVALID_PARAMS,
				      "'cwd' is for 'command' and 'argv': code runs where the "
				      "code before it has left the interpreter"),
			"change it in the code, with os.chdir(), process.chdir() or cd; it stays");
	else if (has_nul(cwd))
		error = rpc_error_new(RPC_INVALID_PARAMS, "'cwd' holds a NUL byte");
	else {
		request->cwd = bytes_copy(json_string_value(cwd), json_string_length(cwd));
		return request->cwd ? NULL : rpc_error_no_memory();
	}
	return rpc_error_field(error, "cwd");
}

/* What a process that runs beside the programs has, and what it cannot have. */
static struct rpc_error *parse_background(const json_t *params, struct run_request *request)
{
	static const char *const not_of_it[] = {"code", "timeout_seconds", "exec_id", "stream"};
	const json_t *terminal = json_object_get(params, "terminal");

	request->is_background = json_is_true(json_object_get(params, "background"));
	if (!request->is_background)
		return terminal ? rpc_error_field(rpc_error_new(RPC_INVALID_PARAMS,
								"Only a background process has a "
								"terminal"),
						  "terminal")
				: NULL;
	for (size_t i = 0; i < ELEMENTSOF(not_of_it); i++)
		if (json_object_get(params, not_of_it[i]))
			return rpc_error_field(
				rpc_error_hint(rpc_error_new(RPC_INVALID_PARAMS,
							     "A background process has no '%s'",
							     not_of_it[i]),
					       "it is a command that lives until it ends or the "
					       "session closes; session.attach follows its output"),
				not_of_it[i]);
	request->terminal_rows = (uint64_t)json_integer_value(json_object_get(terminal, "rows"));
	request->terminal_columns =
		(uint64_t)json_integer_value(json_object_get(terminal, "columns"));
	return NULL;
}

/* Arguments and variables of code travel in one message to the interpreter. */
#define RESIDENT_STRINGS_MAX (48u * 1024)

static struct rpc_error *parse_exec(const json_t *params, const struct config *config,
				    const struct run_request *session, struct run_request *request)
{
	struct rpc_error *error = parse_background(params, request);

	request->is_streaming = json_is_true(json_object_get(params, "stream"));
	if (!error)
		error = parse_program(params, config, session, request);
	if (!error)
		error = parse_program_args(params, config, request);
	if (!error)
		error = parse_cwd(params, request);
	if (!error)
		error = parse_input(params, config, request);
	if (!error && request->is_resident)
		/* The interpreter has the session's. */
		error = parse_env(json_object_get(params, "env"), config, request);
	else if (!error)
		error = merge_env(params, config, session, request);
	if (!error)
		error = check_strings_size(
			request, json_object_get(params, "argv") ? "argv" : "args",
			request->is_resident ? RESIDENT_STRINGS_MAX : MSG_EXEC_STRINGS_MAX);
	if (!error)
		error = parse_timeout(params, config, request);
	return error;
}

struct rpc_error *exec_request_parse(const json_t *params, const struct config *config,
				     const struct run_request *session, struct run_request *ret)
{
	struct run_request request = *session;

	/* What is the session's own stays its own. */
	assert(!session->code && !session->input && !session->args && !session->cwd);
	request.env = NULL;
	memcpy(request.language, "shell", sizeof("shell"));
	return complete(parse_exec(params, config, session, &request), &request, ret);
}

void run_request_fini(struct run_request *request)
{
	free(request->code);
	free(request->input);
	free(request->cwd);
	json_decref(request->args);
	json_decref(request->env);
	*request = (struct run_request){0};
}
