/* SPDX-License-Identifier: Apache-2.0 */
/* Plays tests/vectors against a server of our own, or with EXECSANDBOX_SOCKET a live one. */
#include "tests/unit/test_rpc_fixture.h"
#include "tests/vectors/play.h"

#include <dirent.h>

#define VECTORS_DIR "tests/vectors"

static int connect_live(void *user)
{
	return unix_connect_at(AT_FDCWD, user);
}

static void play_all(const struct vector_server *server)
{
	DIR *dir = opendir(VECTORS_DIR);
	struct dirent *entry;
	size_t files = 0, cases = 0, failed = 0;

	ck_assert_msg(dir, "run from the top of the tree: no " VECTORS_DIR);
	while ((entry = readdir(dir))) {
		const size_t len = strlen(entry->d_name);
		struct vector_result result;
		char path[512];

		if (len < 4 || strcmp(entry->d_name + len - 4, ".txt") != 0)
			continue;
		snprintf(path, sizeof(path), VECTORS_DIR "/%s", entry->d_name);
		ck_assert_int_eq(vectors_play(path, server, &result), 0);
		ck_assert_msg(result.is_left_out || result.cases > 0, "no case in %s", path);
		files++;
		cases += result.cases;
		failed += result.failed;
	}
	closedir(dir);
	printf("%zu vector files, %zu cases, %zu failed\n", files, cases, failed);
	ck_assert_uint_ge(files, 5);
	ck_assert_uint_gt(cases, 0);
	ck_assert_uint_eq(failed, 0);
}

START_TEST(test_vectors)
{
	char *live = getenv("EXECSANDBOX_SOCKET");

	if (live) {
		play_all(&(struct vector_server){.connect = connect_live, .user = live});
		return;
	}
	fx_setup();
	play_all(&(struct vector_server){
		.connect = fx_connect, .pump = fx_pump, .has_test_methods = true});
	fx_teardown();
}
END_TEST

/* A player that passes everything would prove nothing. */
START_TEST(test_player_finds_faults)
{
	static const char *const faulty[] = {
		"== wrong result\n--> {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"rpc.ping\"}\n"
		"<-- {\"jsonrpc\":\"2.0\",\"id\":1,\"result\":\"ping\"}\n",
		"== wrong id\n--> {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"rpc.ping\"}\n"
		"<-- {\"jsonrpc\":\"2.0\",\"id\":2,\"result\":\"pong\"}\n",
		"== wrong code\n--> 1\n<-- "
		"{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":1}}\n",
		"== wrong data\n--> 1\n<-- {\"jsonrpc\":\"2.0\",\"id\":null,"
		"\"error\":{\"code\":-32600,\"data\":{\"name\":\"X\"}}}\n",
		"== a reply too many\n--> {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"rpc.ping\"}\n",
		"== a reply too few in a batch\n"
		"--> [{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"rpc.ping\"}]\n<-- []\n",
		"== closed too early\n--|\n<-- {}\n",
		"== no such step\n-> {}\n",
	};

	fx_setup();
	for (size_t i = 0; i < ELEMENTSOF(faulty); i++) {
		struct vector_result result;
		char path[128];
		FILE *file;

		snprintf(path, sizeof(path), "%s/faulty", world.dir);
		file = fopen(path, "w");
		ck_assert_ptr_nonnull(file);
		fputs(faulty[i], file);
		fclose(file);
		ck_assert_int_eq(vectors_play(path,
					      &(struct vector_server){.connect = fx_connect,
								      .pump = fx_pump},
					      &result),
				 0);
		unlink(path);
		ck_assert_uint_eq(result.failed, 1);
	}
	fx_teardown();
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("rpc_vectors");
	TCase *tcase = tcase_create("vectors");

	tcase_set_timeout(tcase, 300);
	tcase_add_test(tcase, test_vectors);
	tcase_add_test(tcase, test_player_finds_faults);
	suite_add_tcase(suite, tcase);
	return suite;
}
