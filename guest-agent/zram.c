/* SPDX-License-Identifier: Apache-2.0 */
/* Compressed swap of the guest: sets up /dev/zram0 and switches it on. */
#include "guest-agent/zram.h"

#include "base/util.h"
#include "guest-agent/proctext.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/swap.h>
#include <unistd.h>

#define DEVICE "/dev/zram0"
#define SYSFS  "/sys/block/zram0/"
/* Above whatever the kernel would choose for another area (-2 and down). */
#define SWAP_PRIORITY 100

/* Offsets within `union swap_header`: 1 KiB of boot bits, then version and last page; the magic
 * ends the page. */
#define HEADER_VERSION   1024
#define HEADER_LAST_PAGE 1028

/* Of all architectures Linux has. */
#define PAGE_SIZE_MAX 65536

static const uint8_t swap_magic[] = {'S', 'W', 'A', 'P', 'S', 'P', 'A', 'C', 'E', '2'};

void zram_swap_header(uint8_t *page, size_t page_size, uint64_t area)
{
	uint32_t version = 1, last_page = (uint32_t)(area / page_size - 1);

	memset(page, 0, page_size);
	memcpy(page + HEADER_VERSION, &version, sizeof(version));
	memcpy(page + HEADER_LAST_PAGE, &last_page, sizeof(last_page));
	memcpy(page + page_size - sizeof(swap_magic), swap_magic, sizeof(swap_magic));
}

static int write_number(const char *path, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, value);
	return write_file_at(AT_FDCWD, path, text);
}

static int choose_algorithm(void)
{
	_cleanup_free_ char *text = NULL;
	int r = write_file_at(AT_FDCWD, SYSFS "comp_algorithm", "lz4");
	ssize_t n;

	if (r < 0)
		return r;
	n = read_file_at(AT_FDCWD, SYSFS "comp_algorithm", PROCTEXT_MAX, &text);
	if (n < 0)
		return (int)n;
	return strstr(text, "[lz4]") ? 0 : -EOPNOTSUPP;
}

/* mem_limit can only be written; mm_stat's fourth number says what was taken. */
static int limit_memory(uint64_t limit)
{
	_cleanup_free_ char *text = NULL;
	uint64_t numbers[4] = {0};
	int r = write_number(SYSFS "mem_limit", limit);
	ssize_t n;

	if (r < 0)
		return r;
	n = read_file_at(AT_FDCWD, SYSFS "mm_stat", PROCTEXT_MAX, &text);
	if (n < 0)
		return (int)n;
	return proctext_numbers(text, numbers, 4) == 4 && numbers[3] == limit ? 0 : -EIO;
}

static int size_device(uint64_t size)
{
	uint64_t taken = 0;
	int r = write_number(SYSFS "disksize", size);

	if (r < 0)
		return r;
	return proctext_read_u64(AT_FDCWD, SYSFS "disksize", &taken) && taken == size ? 0 : -EIO;
}

static int write_header(size_t page_size, uint64_t area)
{
	_cleanup_close_ int fd = open(DEVICE, O_WRONLY | O_CLOEXEC);
	uint8_t page[PAGE_SIZE_MAX];

	if (fd < 0)
		return -errno;
	if (page_size > sizeof(page))
		return -E2BIG;
	zram_swap_header(page, page_size, area);
	return write_all(fd, page, page_size);
}

int zram_setup(uint64_t mem_total, const char **ret_step)
{
	uint64_t page_size = (uint64_t)sysconf(_SC_PAGESIZE);
	uint64_t size = mem_total / 2 / page_size * page_size;
	uint64_t limit = mem_total / 4 / page_size * page_size;
	int r;

	/* The limit is read back from mm_stat, which is empty until there is a disksize. */
	r = choose_algorithm();
	if (r < 0) {
		*ret_step = "comp_algorithm";
		return r;
	}
	r = size_device(size);
	if (r < 0) {
		*ret_step = "disksize";
		return r;
	}
	r = limit_memory(limit);
	if (r < 0) {
		*ret_step = "mem_limit";
		return r;
	}
	r = write_header(page_size, size);
	if (r < 0) {
		*ret_step = "swap header";
		return r;
	}
	if (swapon(DEVICE, SWAP_FLAG_PREFER | SWAP_PRIORITY) < 0) {
		*ret_step = "swapon";
		return -errno;
	}
	return 0;
}
