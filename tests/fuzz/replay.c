/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a fuzz harness over files and folders once, for builds without libFuzzer. */
#include "base/util.h"
#include "tests/fuzz/fuzz.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

/* Over every input that libFuzzer makes by default. */
#define INPUT_MAX (1u << 20)

static size_t run_file(int dir_fd, const char *path)
{
	_cleanup_free_ char *text = NULL;
	ssize_t len = read_file_at(dir_fd, path, INPUT_MAX, &text);
	uint8_t *exact;

	FUZZ_CHECK(len >= 0);
	/* Without the NUL behind it, so that AddressSanitizer sees a read past the end. */
	exact = malloc((size_t)len + 1);
	FUZZ_CHECK(exact);
	exact = realloc(memcpy(exact, text, (size_t)len), MAX((size_t)len, (size_t)1));
	LLVMFuzzerTestOneInput(exact, (size_t)len);
	free(exact);
	return 1;
}

static size_t run_folder(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	size_t count = 0;

	FUZZ_CHECK(dir);
	while ((entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			count += run_file(dirfd(dir), entry->d_name);
	closedir(dir);
	return count;
}

int main(int argc, char **argv)
{
	size_t count = 0;

	for (int i = 1; i < argc; i++) {
		struct stat st;

		FUZZ_CHECK(stat(argv[i], &st) == 0);
		count += S_ISDIR(st.st_mode) ? run_folder(argv[i]) : run_file(AT_FDCWD, argv[i]);
	}
	/* A finding ends the process before this line. */
	printf("%s: %zu passed, %d failed\n", program_invocation_short_name, count, count == 0);
	return count > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
