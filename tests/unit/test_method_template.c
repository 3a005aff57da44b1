/* SPDX-License-Identifier: Apache-2.0 */
/* template.* and pool.* where no template can be made: switched off, failing, draining. */
#include "daemon/method/methods.h"

#include "base/log.h"
#include "protocol/method.h"

#include "tests/unit/test_rpc_fixture.h"

static struct config config;
static struct daemon daemon_;
static struct line_client client;

static void start_server(void)
{
	fx_setup();
	rpc_server_destroy(world.server);
	world.config.methods = method_table;
	world.config.handlers = method_handlers;
	world.config.handler_count = method_handler_count;
	world.config.context = &daemon_;
	world.config.on_idle = NULL;
	ck_assert_int_eq(rpc_server_create(&world.config, &world.server), 0);
	client = fx_client();
}

/* A host whose VMs cannot start: it has no QEMU. */
static void start(bool has_templates)
{
	struct templates_config templates = {.host = &daemon_.vm_host,
					     .images_manifest = &daemon_.images.manifest,
					     .memory_mb = 2048};
	struct pool_config pool = {
		.host = &daemon_.vm_host,
		.limits = {.max_vms = 10, .max_running = 2, .queue_max = 2, .memory_mb = 4096},
		.overhead_mb = 64,
		.spare_mb = 24,
		.memory_overcommit = 1,
		.default_memory_mb = 256,
		.queue_timeout_seconds = 1,
		.boot_attempts = 1,
		.start_max = 1,
		.refill_max = 1,
		.sizes = {{"python", 0}, {"javascript", 0}, {"shell", 0}},
	};

	log_set_level(LOG_CRIT); /* each attempt to make one is an error */
	start_server();
	ck_assert_int_eq(config_defaults(&config), 0);
	config.templates = has_templates ? CONFIG_TEMPLATES_AUTO : CONFIG_TEMPLATES_OFF;
	daemon_ = (struct daemon){
		.config = &config,
		.loop = world.loop,
		.images = {.kernel_fd = open("/dev/null", O_RDONLY | O_CLOEXEC), .rootfs_fd = -1},
		.vm_host = {.loop = world.loop,
			    .qemu = "/nonexistent",
			    .bubblewrap = "/nonexistent",
			    .node = "",
			    .vms_fd = -1,
			    .kernel_fd = -1,
			    .rootfs_fd = -1,
			    .filter_fd = -1,
			    .clone_filter_fd = -1},
		.server = world.server,
	};
	if (has_templates)
		ck_assert_int_eq(templates_create(&templates, &daemon_.templates), 0);
	pool.templates = daemon_.templates;
	ck_assert_int_eq(pool_create(&pool, &daemon_.pool), 0);
}

static void stop(void)
{
	line_client_close(&client);
	rpc_server_stop_calls(world.server);
	rpc_server_destroy(TAKE_PTR(world.server));
	pool_destroy(daemon_.pool);
	templates_destroy(daemon_.templates);
	close_fd(daemon_.images.kernel_fd);
	config_fini(&config);
	fx_teardown();
}

/* The reply to one call: the whole message. */
static json_t *call(const char *method, const char *params)
{
	char line[256];

	snprintf(line, sizeof(line),
		 "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"%s\",\"params\":%s}", method, params);
	fx_send(&client, line);
	return fx_receive(&client);
}

static json_t *result_of(json_t *message_take)
{
	json_t *result = json_incref(json_object_get(message_take, "result"));

	ck_assert_msg(result, "no result");
	json_decref(message_take);
	return result;
}

/* The data of an error with this code; it has a hint if `has_hint`. */
static json_t *error_of(json_t *message_take, int code, bool has_hint)
{
	const json_t *error = json_object_get(message_take, "error");
	json_t *data = json_incref(json_object_get(error, "data"));

	ck_assert_int_eq(json_integer_value(json_object_get(error, "code")), code);
	ck_assert_int_eq(json_is_string(json_object_get(data, "hint")), has_hint);
	json_decref(message_take);
	return data;
}

static void expect_error(const char *method, const char *params, int code)
{
	json_decref(error_of(call(method, params), code, true));
}

static void expect_bounds(const char *method, const char *params, json_int_t min, json_int_t max)
{
	json_auto_t *data = error_of(call(method, params), RPC_LIMIT_INVALID, true);

	ck_assert_int_eq(json_integer_value(json_object_get(data, "min")), min);
	ck_assert_int_eq(json_integer_value(json_object_get(data, "max")), max);
}

static json_t *find_check(const json_t *health, const char *name)
{
	json_t *check;
	size_t i;

	json_array_foreach (json_object_get(health, "checks"), i, check)
		if (strcmp(json_string_value(json_object_get(check, "name")), name) == 0)
			return check;
	ck_abort_msg("no check '%s'", name);
	return NULL;
}

START_TEST(test_off)
{
	json_auto_t *list = NULL, *pools = NULL, *health = NULL, *info = NULL;

	start(false);
	list = result_of(call("template.list", "{}"));
	ck_assert_uint_eq(json_array_size(json_object_get(list, "templates")), 0);
	expect_error("template.info", "{\"name\":\"shell-256\"}", RPC_TEMPLATE_NOT_FOUND);
	expect_error("template.remove", "{\"name\":\"shell-256\"}", RPC_TEMPLATE_NOT_FOUND);
	expect_error("template.build", "{\"language\":\"shell\"}", RPC_BUILD_FAILED);
	expect_error("pool.set", "{\"language\":\"shell\",\"size\":1}", RPC_BUILD_FAILED);
	pools = result_of(call("pool.get", "{}"));
	ck_assert_uint_eq(json_array_size(json_object_get(pools, "pools")), 3);
	ck_assert_int_eq(json_integer_value(json_object_get(
				 json_array_get(json_object_get(pools, "pools"), 0), "target")),
			 0);
	health = result_of(call("health", "{}"));
	ck_assert(json_is_true(json_object_get(find_check(health, "template_shell"), "ok")));
	info = result_of(call("info", "{}"));
	ck_assert_str_eq(
		json_string_value(json_object_get(json_object_get(info, "templates"), "mode")),
		"off");
	stop();
}
END_TEST

static bool all_failed(void)
{
	const struct template *at = NULL;

	while ((at = templates_next(daemon_.templates, at)))
		if (at->state != TEMPLATE_FAILED)
			return false;
	return true;
}

START_TEST(test_failed)
{
	json_auto_t *list = NULL, *built = NULL, *health = NULL, *one = NULL;
	const json_t *check;

	start(true);
	fx_wait(all_failed());
	list = result_of(call("template.list", "{}"));
	ck_assert_uint_eq(json_array_size(json_object_get(list, "templates")), 3);
	one = result_of(call("template.info", "{\"name\":\"shell-256\"}"));
	ck_assert(json_equal(one, json_array_get(json_object_get(list, "templates"), 2)));
	ck_assert_str_eq(json_string_value(json_object_get(one, "state")), "failed");
	ck_assert(json_is_string(json_object_get(one, "error")));
	ck_assert(json_is_null(json_object_get(one, "created_at")));
	ck_assert(json_is_null(json_object_get(one, "build")));

	built = error_of(call("template.build", "{\"language\":\"shell\"}"), RPC_BUILD_FAILED,
			 true);
	ck_assert(json_equal(json_object_get(built, "reason"), json_object_get(one, "error")));

	/* Runs work: they boot. */
	health = result_of(call("health", "{}"));
	check = find_check(health, "template_shell");
	ck_assert(json_is_false(json_object_get(check, "ok")));
	ck_assert_ptr_nonnull(
		strstr(json_string_value(json_object_get(check, "detail")), "VMs boot instead"));
	stop();
}
END_TEST

/* The size that is kept is at most what templates that are not pinned may share. */
START_TEST(test_bounds)
{
	start(true);
	expect_bounds("template.build", "{\"language\":\"shell\",\"memory_mb\":127}", 128, 1024);
	expect_bounds("template.build", "{\"language\":\"shell\",\"memory_mb\":1025}", 128, 1024);
	json_decref(error_of(call("template.build", "{\"language\":\"shell\",\"memory_mb\":1024}"),
			     RPC_BUILD_FAILED, true));
	ck_assert_ptr_nonnull(templates_find(daemon_.templates, "shell-1024"));
	expect_bounds("pool.set", "{\"language\":\"shell\",\"size\":11}", 0, 10);
	json_decref(result_of(call("pool.set", "{\"language\":\"shell\",\"size\":10}")));
	stop();
}
END_TEST

START_TEST(test_draining)
{
	start(true);
	daemon_.is_draining = true;
	expect_error("template.build", "{\"language\":\"shell\"}", RPC_DRAINING);
	expect_error("pool.set", "{\"language\":\"shell\",\"size\":1}", RPC_DRAINING);
	stop();
}
END_TEST

/* A batch is one turn of the loop: the build has not begun when its caller loses interest. */
#define BUILD                                                                     \
	"{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"template.build\",\"params\":" \
	"{\"language\":\"shell\",\"memory_mb\":512}}"

START_TEST(test_cancelled)
{
	json_auto_t *replies = NULL;

	start(true);
	fx_send(&client, "[" BUILD ",{\"jsonrpc\":\"2.0\",\"method\":\"$/cancelRequest\","
			 "\"params\":{\"id\":7}}]");
	replies = fx_receive(&client);
	json_decref(error_of(json_incref(json_array_get(replies, 0)), RPC_CANCELLED, false));
	/* It is tried nevertheless. */
	fx_wait(templates_find(daemon_.templates, "shell-512")->state == TEMPLATE_FAILED);
	stop();
}
END_TEST

START_TEST(test_removed_while_it_waits)
{
	json_auto_t *replies = NULL;

	start(true);
	fx_send(&client, "[" BUILD ",{\"jsonrpc\":\"2.0\",\"id\":8,\"method\":\"template.remove\","
			 "\"params\":{\"name\":\"shell-512\"}}]");
	replies = fx_receive(&client);
	json_decref(error_of(json_incref(json_array_get(replies, 0)), RPC_BUILD_FAILED, true));
	json_decref(result_of(json_incref(json_array_get(replies, 1))));
	ck_assert_int_eq(templates_find(daemon_.templates, "shell-512")->state, TEMPLATE_ABSENT);
	stop();
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("method_template");
	TCase *tcase = tcase_create("method_template");

	tcase_set_timeout(tcase, 60);
	tcase_add_test(tcase, test_off);
	tcase_add_test(tcase, test_failed);
	tcase_add_test(tcase, test_bounds);
	tcase_add_test(tcase, test_draining);
	tcase_add_test(tcase, test_cancelled);
	tcase_add_test(tcase, test_removed_while_it_waits);
	suite_add_tcase(suite, tcase);
	return suite;
}
