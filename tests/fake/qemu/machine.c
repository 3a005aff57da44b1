/* SPDX-License-Identifier: Apache-2.0 */
/* The machine inside the fake QEMU: its memory, whether its vCPU runs, saving and loading. */
#include "tests/fake/qemu/machine.h"

#include "base/util.h"
#include "tests/fake/qemu/plan.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

/* As large as a real one (docs/PERFORMANCE.md), so that it does not fit a pipe's first pages. */
#define STATE_SIZE  60000
#define HASH_SIZE   32
#define STATE_LARGE (2u << 20)
#define PATTERN_GAP (1u << 20)
/* How much later than its stream a late MIGRATION event comes. */
#define LATE_SECONDS 0.3

struct state {
	char magic[8];
	uint64_t secret;
	struct guest_state guest;
	uint8_t devices[STATE_SIZE];
	uint8_t hash[HASH_SIZE];
};

struct machine {
	struct loop *loop;
	struct guest *guest;
	struct fake_qmp *qmp;
	const char *role;
	int ram_fd, state_fd;
	uint8_t *ram;
	size_t ram_bytes;
	uint64_t secret;
	bool is_running, has_capabilities;
	ev_timer late;
};

/* The number behind `key` in the word that begins with `prefix`. */
static long number_in(int argc, char **argv, const char *prefix, const char *key)
{
	for (int i = 1; i < argc; i++) {
		const char *at = strstr(argv[i], key);

		if (strncmp(argv[i], prefix, strlen(prefix)) == 0 && at)
			return strtol(at + strlen(key), NULL, 10);
	}
	return -1;
}

static bool has_word(int argc, char **argv, const char *text)
{
	for (int i = 1; i < argc; i++)
		if (strstr(argv[i], text))
			return true;
	return false;
}

const char *machine_role(int argc, char **argv)
{
	if (has_word(argc, argv, "share=on"))
		return "template";
	return has_word(argc, argv, "-incoming") ? "clone" : "boot";
}

/* --- Memory. --- */

static uint64_t *pattern_at(struct machine *machine, size_t offset)
{
	return (uint64_t *)(machine->ram + offset);
}

static void write_pattern(struct machine *machine, uint64_t secret)
{
	for (size_t offset = 0; offset < machine->ram_bytes; offset += PATTERN_GAP)
		*pattern_at(machine, offset) = secret ^ offset;
}

static void check_pattern(struct machine *machine, uint64_t secret)
{
	for (size_t offset = 0; offset < machine->ram_bytes; offset += PATTERN_GAP)
		if (*pattern_at(machine, offset) != (secret ^ offset))
			plan_die("its memory is not the template's");
}

static void map_memory(struct machine *machine, int argc, char **argv)
{
	bool is_shared = strcmp(machine->role, "template") == 0;
	long fd = number_in(argc, argv, "memory-backend-file,", "mem-path=/proc/self/fd/");
	char path[64];

	machine->ram_bytes = (size_t)number_in(argc, argv, "memory-backend-file,", "size=") << 20;
	snprintf(path, sizeof(path), "/proc/self/fd/%ld", fd);
	machine->ram_fd = open(path, O_RDWR | O_CLOEXEC);
	machine->ram = mmap(NULL, machine->ram_bytes, PROT_READ | PROT_WRITE,
			    is_shared ? MAP_SHARED : MAP_PRIVATE, machine->ram_fd, 0);
	if (machine->ram == MAP_FAILED)
		plan_die("cannot map its memory");
	random_bytes(&machine->secret, sizeof(machine->secret));
	if (is_shared)
		write_pattern(machine, machine->secret);
}

static void check_memory(struct machine *machine, uint64_t secret)
{
	if (!(fcntl(machine->ram_fd, F_GET_SEALS) & F_SEAL_WRITE))
		plan_die("its memory is not sealed");
	if (fallocate(machine->ram_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) < 0)
		plan_die("a punched hole is refused");
	check_pattern(machine, secret);
	/* Nobody else may see this. */
	write_pattern(machine, ~secret);
}

/* --- Words of QEMU. --- */

static void send_event(struct machine *machine, const char *name, const char *data)
{
	char text[256];

	snprintf(text, sizeof(text),
		 "{\"timestamp\": {\"seconds\": 1, \"microseconds\": 0}, \"event\": \"%s\"%s%s}"
		 "\r\n",
		 name, *data ? ", \"data\": " : "", data);
	fake_qmp_send_text(machine->qmp, text);
}

static void send_status(struct machine *machine, const char *status)
{
	char data[64];

	snprintf(data, sizeof(data), "{\"status\": \"%s\"}", status);
	send_event(machine, "MIGRATION", data);
}

static void on_late(struct ev_loop *ev UNUSED, ev_timer *timer, int events UNUSED)
{
	send_status(timer->data, "completed");
}

/* The stream is whole. */
static void complete(struct machine *machine)
{
	const char *action = plan_at("completed");

	if (strcmp(action, "failed") == 0)
		send_status(machine, "failed");
	else if (strcmp(action, "late") == 0)
		loop_timer_start(machine->loop, &machine->late, LATE_SECONDS);
	else if (strcmp(action, "never") != 0 && strcmp(action, "early") != 0)
		send_status(machine, "completed");
	plan_at("after-completed");
}

static void set_running(struct machine *machine, bool is_running)
{
	if (machine->is_running == is_running)
		return;
	machine->is_running = is_running;
	guest_set_running(machine->guest, is_running);
	send_event(machine, is_running ? "RESUME" : "STOP", "");
}

/* --- State. --- */

static void hash_of(const struct state *state, uint8_t hash[HASH_SIZE])
{
	if (!EVP_Digest(state, offsetof(struct state, hash), hash, NULL, EVP_sha256(), NULL))
		abort();
}

static void write_large(int fd)
{
	uint8_t *bytes = calloc(1, STATE_LARGE);

	if (bytes)
		(void)write_all(fd, bytes, STATE_LARGE);
	free(bytes);
}

static void save(struct machine *machine)
{
	static struct state state;
	uint8_t *bytes = (uint8_t *)&state;
	size_t half = sizeof(state) / 2;
	const char *action;

	memcpy(state.magic, "fakevm1", sizeof(state.magic));
	state.secret = machine->secret;
	guest_save(machine->guest, &state.guest);
	random_bytes(state.devices, sizeof(state.devices));
	hash_of(&state, state.hash);
	if (plan_has("state", "broken"))
		bytes[half] ^= 1;
	if (plan_has("state", "large"))
		write_large(machine->state_fd);
	(void)write_all(machine->state_fd, bytes, half);
	action = plan_at("state");
	(void)write_all(machine->state_fd, bytes + half, sizeof(state) - half);
	if (strcmp(action, "endless") != 0)
		machine->state_fd = close_fd(machine->state_fd);
}

static void read_exactly(int fd, uint8_t *bytes, size_t len)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = read(fd, bytes + done, len - done);

		if (n <= 0)
			plan_die("load of migration failed");
		done += (size_t)n;
	}
}

static void load(struct machine *machine)
{
	static struct state state;
	uint8_t *bytes = (uint8_t *)&state, hash[HASH_SIZE];
	size_t half = sizeof(state) / 2;

	read_exactly(machine->state_fd, bytes, half);
	plan_at("state");
	read_exactly(machine->state_fd, bytes + half, sizeof(state) - half);
	hash_of(&state, hash);
	if (memcmp(hash, state.hash, sizeof(hash)) != 0)
		plan_die("load of migration failed: not what was saved");
	check_memory(machine, state.secret);
	guest_load(machine->guest, &state.guest);
	machine->state_fd = close_fd(machine->state_fd);
}

/* --- Commands. NULL, or why QEMU refuses. --- */

static const char *do_stop(struct machine *machine, const json_t *args UNUSED)
{
	set_running(machine, false);
	return NULL;
}

static const char *do_cont(struct machine *machine, const json_t *args UNUSED)
{
	set_running(machine, true);
	return NULL;
}

static const char *do_getfd(struct machine *machine, const json_t *args UNUSED)
{
	close_fd(machine->state_fd);
	machine->state_fd = fake_qmp_take_fd(machine->qmp);
	return machine->state_fd < 0 ? "No file descriptor supplied via SCM_RIGHTS" : NULL;
}

static const char *do_capabilities(struct machine *machine, const json_t *args)
{
	json_t *list = json_object_get(args, "capabilities"), *entry;
	size_t i;

	json_array_foreach (list, i, entry) {
		const char *name = json_string_value(json_object_get(entry, "capability"));

		if (name && strcmp(name, "x-ignore-shared") == 0)
			machine->has_capabilities = json_is_true(json_object_get(entry, "state"));
	}
	return NULL;
}

static const char *do_migrate(struct machine *machine, const json_t *args)
{
	const char *uri = json_string_value(json_object_get(args, "uri"));

	if (!uri || strcmp(uri, "fd:state") != 0 || machine->state_fd < 0)
		return "File descriptor named 'state' has not been found";
	if (!machine->has_capabilities)
		return "the memory would be in the stream";
	return machine->is_running ? "the vCPU runs" : NULL;
}

static const struct {
	const char *name, *moment;
	const char *(*fn)(struct machine *machine, const json_t *args);
} commands[] = {
	{"stop", "stop", do_stop},
	{"cont", "cont", do_cont},
	{"getfd", "getfd", do_getfd},
	{"migrate-set-capabilities", "capabilities", do_capabilities},
	{"migrate", "migrate", do_migrate},
	{"migrate-incoming", "migrate", do_migrate},
};

/* What happens behind the reply. */
static void go_on(struct machine *machine, const char *name)
{
	bool is_saving = strcmp(name, "migrate") == 0;

	if (strcmp(name, "stop") == 0 && strcmp(plan_at("stopped"), "close") == 0)
		fake_qmp_close(machine->qmp);
	if (!is_saving && strcmp(name, "migrate-incoming") != 0)
		return;
	send_status(machine, "setup");
	send_status(machine, "active");
	if (plan_has("completed", "early"))
		send_status(machine, "completed");
	if (is_saving)
		save(machine);
	else
		load(machine);
	complete(machine);
}

static void on_command(void *user, const json_t *command)
{
	struct machine *machine = user;
	const char *name = json_string_value(json_object_get(command, "execute"));
	const char *refusal = "The command has not been found";

	for (size_t i = 0; i < ELEMENTSOF(commands); i++) {
		if (strcmp(commands[i].name, name) != 0)
			continue;
		if (strcmp(plan_at(commands[i].moment), "refuse") == 0)
			refusal = "refused as planned";
		else
			refusal = commands[i].fn(machine, json_object_get(command, "arguments"));
	}
	if (refusal) {
		fake_qmp_fail(machine->qmp, command, "GenericError", refusal);
		return;
	}
	fake_qmp_reply(machine->qmp, command, "{}");
	go_on(machine, name);
}

struct machine *machine_create(struct loop *loop, int argc, char **argv, struct guest *guest)
{
	struct machine *machine = calloc(1, sizeof(*machine));

	if (!machine)
		abort();
	machine->loop = loop;
	machine->guest = guest;
	machine->role = machine_role(argc, argv);
	machine->ram_fd = machine->state_fd = -1;
	machine->is_running = strcmp(machine->role, "clone") != 0;
	guest_set_running(guest, machine->is_running);
	if (strcmp(machine->role, "boot") != 0)
		map_memory(machine, argc, argv);
	ev_timer_init(&machine->late, on_late, 0., 0.);
	machine->late.data = machine;
	return machine;
}

void machine_connect(struct machine *machine, struct fake_qmp *qmp)
{
	machine->qmp = qmp;
	fake_qmp_serve(qmp, on_command, machine);
}
