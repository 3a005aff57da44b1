/* SPDX-License-Identifier: Apache-2.0 */
/* What `run` and sessions take: defaults, and each refusal with its code, field and bounds. */
#include "daemon/session/request.h"

#include "protocol/message.h"
#include "tests/unit/suite.h"
#include "tests/unit/test_json.h"

#define HOST_MEMORY_MB 4096

static struct config config;
static struct run_request request;
static struct rpc_error *error;

static void setup(void)
{
	ck_assert_int_eq(config_defaults(&config), 0);
	error = NULL;
}

static void teardown(void)
{
	rpc_error_free(error);
	run_request_fini(&request);
	config_fini(&config);
}

/* Parses a minimal request with `more` added to it. */
static struct rpc_error *parse(json_t *more_take)
{
	json_auto_t *params = json_pack("{s:s, s:s}", "language", "python", "code", "print(1)");

	json_object_update(params, more_take);
	json_decref(more_take);
	rpc_error_free(error);
	run_request_fini(&request);
	error = run_request_parse(params, &config, HOST_MEMORY_MB, &request);
	return error;
}

static void assert_refused(json_t *more_take, int code, const char *field)
{
	ck_assert_ptr_nonnull(parse(more_take));
	ck_assert_int_eq(error->code, code);
	ck_assert_json_str(error->data, "field", field);
	ck_assert_ptr_null(strchr(error->message, '\n'));
}

static void assert_accepted(json_t *more_take)
{
	parse(more_take);
	ck_assert_msg(!error, "%s", error ? error->message : "");
}

static json_t *text_of(size_t len, char c)
{
	char *text = malloc(len + 1);
	json_t *string;

	memset(text, c, len);
	string = json_stringn(text, len);
	free(text);
	return string;
}

START_TEST(test_defaults_come_from_the_configuration)
{
	assert_accepted(JSON({}));
	ck_assert_str_eq(request.language, "python");
	ck_assert_uint_eq(request.code_len, 8);
	ck_assert_mem_eq(request.code, "print(1)", 8);
	ck_assert_uint_eq(request.input_len, 0);
	ck_assert_double_eq(request.timeout_seconds, config.default_timeout_seconds);
	ck_assert_uint_eq(request.memory_mb, (uint64_t)config.default_memory_mb);
	ck_assert_uint_eq(request.vm_memory_mb, 256);
	ck_assert_uint_eq(request.stdout_limit, config.stdout_max_bytes);
	ck_assert_uint_eq(request.stderr_limit, config.stderr_max_bytes);
	ck_assert_uint_eq(request.pids, (uint64_t)config.pids_default);
	ck_assert_uint_eq(request.disk_mb, (uint64_t)config.disk_default_mb);
	ck_assert_uint_eq(request.cpu_seconds, 0);
	ck_assert(!request.stop_at_limit);
	ck_assert(!request.is_streaming);
	ck_assert_ptr_null(request.args);
	ck_assert_ptr_null(request.env);
}
END_TEST

START_TEST(test_what_is_asked_is_taken)
{
	assert_accepted(JSON({
		"args" : [ "a", "b c" ],
		"env" : {"HOME_OF" : "x=y", "_1" : ""},
		"stdin" : "in\u0000put",
		"timeout_seconds" : 0.1,
		"stream" : true,
		"limits" : {
			"memory_mb" : 300,
			"pids" : 7,
			"cpu_seconds" : 3,
			"disk_mb" : 9,
			"stdout_bytes" : 0,
			"stderr_bytes" : 5,
			"on_output" : "stop"
		}
	}));
	ck_assert_uint_eq(json_array_size(request.args), 2);
	ck_assert_json_str(request.env, "HOME_OF", "x=y");
	ck_assert_uint_eq(request.input_len, 6);
	ck_assert_mem_eq(request.input, "in\0put", 6);
	ck_assert_double_eq(request.timeout_seconds, 0.1);
	ck_assert_uint_eq(request.memory_mb, 300);
	ck_assert_uint_eq(request.vm_memory_mb, 512);
	ck_assert_uint_eq(request.pids, 7);
	ck_assert_uint_eq(request.cpu_seconds, 3);
	ck_assert_uint_eq(request.disk_mb, 9);
	ck_assert_uint_eq(request.stdout_limit, 0);
	ck_assert_uint_eq(request.stderr_limit, 5);
	ck_assert(request.stop_at_limit);
	ck_assert(request.is_streaming);
}
END_TEST

START_TEST(test_size_class_is_capped_by_the_host)
{
	assert_accepted(JSON({"limits" : {"memory_mb" : 4096}}));
	ck_assert_uint_eq(request.vm_memory_mb, 4096);
	rpc_error_free(error);
	error = NULL;
	{
		json_auto_t *params =
			JSON({"language" : "shell", "code" : "x", "limits" : {"memory_mb" : 2500}});

		run_request_fini(&request);
		error = run_request_parse(params, &config, 3000, &request);
	}
	ck_assert_ptr_null(error);
	ck_assert_uint_eq(request.memory_mb, 2500);
	ck_assert_uint_eq(request.vm_memory_mb, 3000);
}
END_TEST

START_TEST(test_code)
{
	assert_refused(JSON({"code" : ""}), RPC_CODE_INVALID, "code");
	ck_assert_ptr_nonnull(strstr(error->message, "empty"));
	assert_refused(JSON({"code" : " \t\r\n\f "}), RPC_CODE_INVALID, "code");
	ck_assert_ptr_nonnull(strstr(error->message, "blank"));
	assert_refused(JSON({"code" : "print(1)\u0000"}), RPC_CODE_INVALID, "code");
	ck_assert_ptr_nonnull(json_need(error->data, "hint"));
	assert_refused(json_pack("{s:o}", "code", text_of(config.code_max_bytes + 1, 'x')),
		       RPC_CODE_INVALID, "code");
	ck_assert_json_int(error->data, "max", (json_int_t)config.code_max_bytes);
	assert_accepted(json_pack("{s:o}", "code", text_of(config.code_max_bytes, 'x')));
	ck_assert_uint_eq(request.code_len, config.code_max_bytes);
}
END_TEST

START_TEST(test_stdin)
{
	assert_accepted(JSON({"stdin" : "AAEC/w==", "stdin_encoding" : "base64"}));
	ck_assert_uint_eq(request.input_len, 4);
	ck_assert_mem_eq(request.input, "\0\1\2\377", 4);
	assert_accepted(JSON({"stdin" : "", "stdin_encoding" : "base64"}));
	ck_assert_uint_eq(request.input_len, 0);
	assert_refused(JSON({"stdin" : "AAE", "stdin_encoding" : "base64"}), RPC_INVALID_PARAMS,
		       "stdin");
	assert_refused(JSON({"stdin" : "AA\nEC", "stdin_encoding" : "base64"}), RPC_INVALID_PARAMS,
		       "stdin");
	config.stdin_max_bytes = 10;
	assert_accepted(JSON({"stdin" : "0123456789"}));
	assert_refused(JSON({"stdin" : "0123456789a"}), RPC_LIMIT_INVALID, "stdin");
	ck_assert_json_int(error->data, "max", 10);
	/* The decoded size counts. */
	assert_accepted(JSON({"stdin" : "MDEyMzQ1Njc4OQ==", "stdin_encoding" : "base64"}));
	assert_refused(JSON({"stdin" : "MDEyMzQ1Njc4OWE=", "stdin_encoding" : "base64"}),
		       RPC_LIMIT_INVALID, "stdin");
}
END_TEST

START_TEST(test_args)
{
	config.args_max = 3;
	assert_accepted(JSON({"args" : [ "a", "", "c" ]}));
	assert_refused(JSON({"args" : [ "a", "b", "c", "d" ]}), RPC_INVALID_PARAMS, "args");
	assert_refused(JSON({"args" : [ "a", "b\u0000" ]}), RPC_INVALID_PARAMS, "args");
}
END_TEST

START_TEST(test_env_names)
{
	static const char *const refused[] = {
		"",
		"1A",
		"A-B",
		"A B",
		"A=B",
		"\xc3\xa4",
		"LD_PRELOAD",
		"LD_AUDIT",
		"PYTHONPATH",
		"PYTHONHOME",
		"BASH_ENV",
		"ENV",
		"BASH_FUNC_x",
		"SHELLOPTS",
		"NODE_OPTIONS",
		"NODE_PATH",
		"BUN_INSPECT",
		"BUN_CONFIG_X",
		"MALLOC_ARENA",
		"GLIBC_TUNABLES",
		"PERL5LIB",
		"PYTHONSTARTUP",
		"LOCPATH",
		"GCONV_PATH",
	};
	static const char *const accepted[] = {
		"A", "_", "PATH", "HOME", "a1_B", "XLD_PRELOAD", "PYTHONUNBUFFERED"};

	for (size_t i = 0; i < ELEMENTSOF(refused); i++) {
		assert_refused(json_pack("{s:{s:s}}", "env", refused[i], "x"), RPC_ENV_INVALID,
			       "env");
		if (*refused[i])
			ck_assert_ptr_nonnull(strstr(error->message, refused[i]));
		json_need(error->data, "hint");
	}
	for (size_t i = 0; i < ELEMENTSOF(accepted); i++)
		assert_accepted(json_pack("{s:{s:s}}", "env", accepted[i], "x"));
}
END_TEST

START_TEST(test_env_values_and_sizes)
{
	json_t *env = json_object();
	char name[16];

	assert_refused(JSON({"env" : {"A" : "x\u0000y"}}), RPC_ENV_INVALID, "env");
	for (int i = 0; i < config.env_max; i++) {
		snprintf(name, sizeof(name), "V%d", i);
		json_object_set_new(env, name, json_string("x"));
	}
	assert_accepted(json_pack("{s:O}", "env", env));
	json_object_set_new(env, "ONE_MORE", json_string("x"));
	assert_refused(json_pack("{s:o}", "env", env), RPC_ENV_INVALID, "env");
	ck_assert_json_int(error->data, "max", config.env_max);
	/* All strings of one EXEC travel in one message. */
	assert_refused(json_pack("{s:{s:o}}", "env", "A", text_of(MSG_EXEC_STRINGS_MAX, 'x')),
		       RPC_ENV_INVALID, "env");
	assert_refused(json_pack("{s:[o]}", "args", text_of(MSG_EXEC_STRINGS_MAX, 'x')),
		       RPC_INVALID_PARAMS, "args");
	assert_accepted(
		json_pack("{s:{s:o}}", "env", "A", text_of(MSG_EXEC_STRINGS_MAX - 16, 'x')));
}
END_TEST

START_TEST(test_limits)
{
	const struct {
		const char *name;
		json_int_t min, max;
	} limits[] = {
		{"memory_mb", config.min_memory_mb, HOST_MEMORY_MB},
		{"stdout_bytes", 0, (json_int_t)config.stdout_max_bytes},
		{"stderr_bytes", 0, (json_int_t)config.stderr_max_bytes},
		{"pids", 1, 4096},
		{"cpu_seconds", 1, 86400},
		{"disk_mb", 1, HOST_MEMORY_MB},
	};
	char field[64];

	for (size_t i = 0; i < ELEMENTSOF(limits); i++) {
		const char *name = limits[i].name;

		snprintf(field, sizeof(field), "limits.%s", name);
		assert_accepted(json_pack("{s:{s:I}}", "limits", name, limits[i].min));
		assert_accepted(json_pack("{s:{s:I}}", "limits", name, limits[i].max));
		assert_refused(json_pack("{s:{s:I}}", "limits", name, limits[i].max + 1),
			       RPC_LIMIT_INVALID, field);
		ck_assert_json_int(error->data, "min", limits[i].min);
		ck_assert_json_int(error->data, "max", limits[i].max);
		json_need(error->data, "hint");
		assert_refused(json_pack("{s:{s:I}}", "limits", name, limits[i].min - 1),
			       RPC_LIMIT_INVALID, field);
		assert_refused(json_pack("{s:{s:I}}", "limits", name, (json_int_t)INT64_MAX),
			       RPC_LIMIT_INVALID, field);
		assert_refused(json_pack("{s:{s:I}}", "limits", name, (json_int_t)INT64_MIN),
			       RPC_LIMIT_INVALID, field);
	}
	assert_accepted(JSON({"limits" : {"on_output" : "truncate"}}));
	ck_assert(!request.stop_at_limit);
}
END_TEST

START_TEST(test_timeout)
{
	assert_accepted(JSON({"timeout_seconds" : 3600}));
	assert_refused(JSON({"timeout_seconds" : 3600.5}), RPC_LIMIT_INVALID, "timeout_seconds");
	ck_assert_double_eq(json_number_value(json_need(error->data, "min")), 0.1);
	ck_assert_double_eq(json_number_value(json_need(error->data, "max")), 3600);
	config.max_timeout_seconds = 5;
	assert_refused(JSON({"timeout_seconds" : 6}), RPC_LIMIT_INVALID, "timeout_seconds");
	assert_accepted(JSON({"timeout_seconds" : 5}));
}
END_TEST

/* --- Sessions. --- */

static struct run_request session;

/* Parses session.exec in a session of `session_take`. */
static struct rpc_error *parse_in_session(json_t *session_take, json_t *params_take)
{
	rpc_error_free(error);
	run_request_fini(&request);
	error = session_request_parse(session_take, &config, HOST_MEMORY_MB, &session);
	json_decref(session_take);
	if (!error)
		error = exec_request_parse(params_take, &config, &session, &request);
	json_decref(params_take);
	run_request_fini(&session);
	return error;
}

START_TEST(test_program_has_what_its_session_has)
{
	parse_in_session(JSON({
				 "language" : "python",
				 "env" : {"A" : "1", "B" : "2"},
				 "limits" : {"memory_mb" : 300, "stdout_bytes" : 7}
			 }),
			 JSON({"command" : "echo", "env" : {"B" : "3"}, "timeout_seconds" : 2}));
	ck_assert_msg(!error, "%s", error ? error->message : "");
	ck_assert_str_eq(request.language, "shell");
	ck_assert_mem_eq(request.code, "echo", 5);
	ck_assert_uint_eq(request.memory_mb, 300);
	ck_assert_uint_eq(request.stdout_limit, 7);
	ck_assert_double_eq(request.timeout_seconds, 2);
	ck_assert_json_str(request.env, "A", "1");
	ck_assert_json_str(request.env, "B", "3");
	ck_assert_uint_eq(json_object_size(request.env), 2);

	parse_in_session(JSON({}), JSON({"argv" : [ "ls", "-l", "" ]}));
	ck_assert_msg(!error, "%s", error ? error->message : "");
	ck_assert_uint_eq(json_array_size(request.args), 3);
	ck_assert_uint_eq(request.memory_mb, (uint64_t)config.default_memory_mb);
	ck_assert_uint_eq(json_object_size(request.env), 0);
	ck_assert_ptr_null(request.cwd);

	parse_in_session(JSON({}), JSON({"command" : "pwd", "args" : ["a"], "cwd" : "../x y"}));
	ck_assert_msg(!error, "%s", error ? error->message : "");
	ck_assert_str_eq(request.cwd, "../x y");
	ck_assert_uint_eq(json_array_size(request.args), 1);
	parse_in_session(JSON({}), JSON({"code" : "1", "args" : [ "a", "" ]}));
	ck_assert_msg(!error, "%s", error ? error->message : "");
	ck_assert(request.is_resident);
	ck_assert_uint_eq(json_array_size(request.args), 2);
}
END_TEST

START_TEST(test_program_of_a_session_is_refused)
{
	static const struct {
		const char *params;
		int code;
		const char *field; /* NULL: none */
	} cases[] = {
		{"{}", RPC_INVALID_PARAMS, NULL},
		{"{\"command\": \"x\", \"argv\": [\"x\"]}", RPC_INVALID_PARAMS, NULL},
		{"{\"command\": \"\"}", RPC_CODE_INVALID, "command"},
		{"{\"command\": \" \\n\"}", RPC_CODE_INVALID, "command"},
		{"{\"command\": \"a\\u0000b\"}", RPC_CODE_INVALID, "command"},
		{"{\"argv\": []}", RPC_INVALID_PARAMS, "argv"},
		{"{\"argv\": [\"\"]}", RPC_INVALID_PARAMS, "argv"},
		{"{\"argv\": [\"a\", \"b\\u0000\"]}", RPC_INVALID_PARAMS, "argv"},
		{"{\"command\": \"x\", \"env\": {\"LD_PRELOAD\": \"x\"}}", RPC_ENV_INVALID, "env"},
		{"{\"command\": \"x\", \"timeout_seconds\": 4000}", RPC_LIMIT_INVALID,
		 "timeout_seconds"},
		{"{\"argv\": [\"x\"], \"args\": [\"y\"]}", RPC_INVALID_PARAMS, "args"},
		{"{\"code\": \"x\", \"args\": [\"y\\u0000\"]}", RPC_INVALID_PARAMS, "args"},
		{"{\"code\": \"x\", \"cwd\": \"/tmp\"}", RPC_INVALID_PARAMS, "cwd"},
		{"{\"command\": \"x\", \"cwd\": \"/tmp\\u0000\"}", RPC_INVALID_PARAMS, "cwd"},
	};

	for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
		parse_in_session(JSON({}), json_loads(cases[i].params, JSON_ALLOW_NUL, NULL));
		ck_assert_msg(error, "%s", cases[i].params);
		ck_assert_int_eq(error->code, cases[i].code);
		if (cases[i].field)
			ck_assert_json_str(error->data, "field", cases[i].field);
	}
	/* Code finds its variables in one message. */
	{
		json_auto_t *long_text = text_of(60000, 'x');

		parse_in_session(JSON({}),
				 json_pack("{s:s, s:{s:O}}", "code", "1", "env", "A", long_text));
		ck_assert_int_eq(error->code, RPC_ENV_INVALID);
		parse_in_session(JSON({}),
				 json_pack("{s:s, s:[O]}", "code", "1", "args", long_text));
		ck_assert_json_str(error->data, "field", "args");
		parse_in_session(JSON({}), json_pack("{s:s, s:{s:O}}", "command", "1", "env", "A",
						     long_text));
		ck_assert_ptr_null(error);
	}
	parse_in_session(JSON({"language" : "javascript"}), JSON({"code" : "1"}));
	ck_assert_ptr_null(error);
	ck_assert(request.is_resident);
	ck_assert_str_eq(request.language, "javascript");
	parse_in_session(JSON({"language" : "shell"}), JSON({"code" : "1", "args" : ["a"]}));
	ck_assert_json_str(error->data, "field", "args");
	/* Together with the session's there are too many. */
	config.env_max = 2;
	parse_in_session(JSON({"env" : {"A" : "1", "B" : "2"}}),
			 JSON({"command" : "x", "env" : {"C" : "3"}}));
	ck_assert_int_eq(error->code, RPC_ENV_INVALID);
}
END_TEST

START_TEST(test_session_is_refused)
{
	ck_assert_ptr_nonnull(
		parse_in_session(JSON({"env" : {"1" : "x"}}), JSON({"command" : "x"})));
	ck_assert_int_eq(error->code, RPC_ENV_INVALID);
	ck_assert_ptr_nonnull(
		parse_in_session(JSON({"limits" : {"memory_mb" : 1}}), JSON({"command" : "x"})));
	ck_assert_json_str(error->data, "field", "limits.memory_mb");
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("request");
	TCase *tests = tcase_create("request");

	tcase_set_timeout(tests, 60);
	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, test_defaults_come_from_the_configuration);
	tcase_add_test(tests, test_what_is_asked_is_taken);
	tcase_add_test(tests, test_size_class_is_capped_by_the_host);
	tcase_add_test(tests, test_code);
	tcase_add_test(tests, test_stdin);
	tcase_add_test(tests, test_args);
	tcase_add_test(tests, test_env_names);
	tcase_add_test(tests, test_env_values_and_sizes);
	tcase_add_test(tests, test_limits);
	tcase_add_test(tests, test_timeout);
	tcase_add_test(tests, test_program_has_what_its_session_has);
	tcase_add_test(tests, test_program_of_a_session_is_refused);
	tcase_add_test(tests, test_session_is_refused);
	suite_add_tcase(suite, tests);
	return suite;
}
