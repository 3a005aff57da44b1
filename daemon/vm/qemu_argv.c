/* SPDX-License-Identifier: Apache-2.0 */
/* QEMU's command line and the guest kernel's, from a configuration. Pure. */
#include "daemon/vm/qemu_argv.h"

#include "daemon/vm/argv.h"
#include "daemon/vm/tsc.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

/*
 * Host entropy a guest may draw per period: enough for its pool at boot and after a reseed, far
 * from what would burn host CPU. Bytes, milliseconds.
 */
#define RNG_BYTES     4096
#define RNG_PERIOD_MS 1000

/*
 * The guest kernel's options that are the same for every VM, each with its reason. What belongs to
 * the kernel whatever host runs it (reboot=t, panic=-1, no_timer_check …) is built into it:
 * CONFIG_CMDLINE in images/kernel/config.fragment.
 */
static const char *const kernel_options[] = {
	"root=/dev/vda rootfstype=erofs ro", /* the only disk, read-only */
	"init=/usr/lib/execsandbox/agent",   /* no other init, no initrd */
	"console=ttyS0",                     /* boot log to the isa-serial port */
	"quiet",                             /* errors only: a line costs 1 ms and more under TCG */
	"transparent_hugepage=never",        /* 2 MB pages defeat page reporting and sharing */
};

int qemu_kernel_line(const struct qemu_config *config, char **ret)
{
	_cleanup_free_ char *line = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&line, &size);

	if (!out)
		return -ENOMEM;
	for (size_t i = 0; i < ELEMENTSOF(kernel_options); i++)
		fprintf(out, "%s%s", i > 0 ? " " : "", kernel_options[i]);
	/* TCG passes the host's counter through; calibrating it against an emulated timer hung 7 of
	 * 12 boots. Under KVM kvm-clock tells the rate. */
	if (config->accel == ACCEL_TCG)
		/* QEMU 7.2 finds translated code by its virtual address: with one layout for all
		 * processes an interpreter runs what another had translated (bash: 50 ms, then 8).
		 */
		fprintf(out, " norandmaps");
	if (config->accel == ACCEL_TCG && config->tsc_khz > 0)
		fprintf(out, " tsc_early_khz=%" PRIu32 " lpj=%" PRIu64, config->tsc_khz,
			tsc_loops_per_jiffy(config->tsc_khz, QEMU_GUEST_HZ));
	if (fclose(out) != 0)
		return -ENOMEM;
	*ret = TAKE_PTR(line);
	return 0;
}

/* What makes this QEMU ours and nothing else: no defaults, no files of the user, no children. */
static void add_process(struct argv *argv, const struct qemu_config *config)
{
	static const char *const words[] = {
		"-nodefaults", "-no-user-config", "-display", "none",
		/* A default network card costs the guest seconds of probing. */
		"-nic", "none",
		/* A guest that resets has ended: QEMU exits, the daemon hears of it. */
		"-no-reboot", "-sandbox",
		"on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny", NULL};

	argv_add(argv, config->program);
	argv_add(argv, "-name");
	argv_add(argv, config->name);
	argv_add_all(argv, words);
}

/* -erms: TCG executes `rep stosb` byte by byte; a kernel that is not told that it is fast clears
 * pages in words, and a run executes 1.0 instead of 2.2 million blocks of translated code. pit,
 * pic, rtc: without them microvm hangs silently under TCG; KVM keeps them so that both have the
 * same devices. mem-merge=off: no page of one VM is ever compared with another's. */
static void add_machine(struct argv *argv, const struct qemu_config *config)
{
	static const char *const kvm[] = {"-accel", "kvm", "-cpu", "host", NULL};

	argv_add(argv, "-M");
	argv_addf(argv,
		  "microvm,x-option-roms=off,pit=on,pic=on,rtc=on,acpi=off,"
		  "mem-merge=off,dump-guest-core=off%s",
		  config->start == QEMU_BOOT ? "" : ",memory-backend=ram0");
	switch (config->accel) {
	case ACCEL_TCG:
		argv_add(argv, "-accel");
		argv_addf(argv, "tcg,thread=single,tb-size=%u", config->translation_mb);
		argv_add(argv, "-cpu");
		argv_add(argv, "max,-erms");
		break;
	case ACCEL_KVM:
		argv_add_all(argv, kvm);
		break;
	}
	argv_add(argv, "-smp");
	argv_add(argv, "1");
	argv_add(argv, "-m");
	argv_addf(argv, "%uM", config->memory_mb);
	/* virtio 1.0: without this virtio-mmio devices are legacy ones. */
	argv_add(argv, "-global");
	argv_add(argv, "virtio-mmio.force-legacy=false");
}

/*
 * memory-backend-file over a memfd of ours, not memory-backend-memfd: only named files are left out
 * of the migration stream, and QEMU's own memfd has seals that forbid ours.
 */
static void add_memory(struct argv *argv, const struct qemu_config *config)
{
	if (config->start == QEMU_BOOT)
		return;
	argv_add(argv, "-object");
	argv_addf(argv, "memory-backend-file,id=ram0,size=%uM,mem-path=/proc/self/fd/%d,share=%s",
		  config->memory_mb, config->ram_fd, config->start == QEMU_TEMPLATE ? "on" : "off");
}

/* A clone has the kernel in its memory: loading it again would cost its size in QEMU's heap. */
static void add_start(struct argv *argv, const struct qemu_config *config, const char *kernel_line)
{
	if (config->start == QEMU_CLONE) {
		argv_add(argv, "-incoming");
		argv_add(argv, "defer");
		return;
	}
	argv_add(argv, "-kernel");
	argv_addf(argv, "/proc/self/fd/%d", config->kernel_fd);
	argv_add(argv, "-append");
	argv_add(argv, kernel_line);
}

static void add_links(struct argv *argv, const struct qemu_config *config)
{
	argv_add(argv, "-chardev");
	argv_addf(argv, "socket,id=qmp,fd=%d,server=on,wait=off", config->qmp_fd);
	argv_add(argv, "-mon");
	argv_add(argv, "chardev=qmp,mode=control");
	/* A socket and not a pipe: a reader that is slow or gone costs log lines, never blocks. */
	argv_add(argv, "-chardev");
	argv_addf(argv, "socket,id=console,fd=%d", config->console_fd);
	argv_add(argv, "-serial");
	argv_add(argv, "chardev:console");
	/* Port 0 is kept for a virtconsole, which we do not have: two ports, the agent's is 1. */
	argv_add(argv, "-device");
	argv_add(argv, "virtio-serial-device,max_ports=2");
	argv_add(argv, "-chardev");
	argv_addf(argv, "socket,id=agent,fd=%d,server=on,wait=off", config->agent_fd);
	argv_add(argv, "-device");
	argv_add(argv, "virtserialport,nr=1,chardev=agent,name=" QEMU_AGENT_PORT);
}

/* page-poison=off: with it, "zero" pages of a clone held stale data of its template. */
static void add_devices(struct argv *argv, const struct qemu_config *config)
{
	argv_add(argv, "-device");
	argv_add(argv, "virtio-balloon-device,id=" QEMU_BALLOON_ID
		       ",deflate-on-oom=on,free-page-reporting=on,page-poison=off");
	argv_add(argv, "-object");
	argv_add(argv, "rng-random,id=rng0,filename=/dev/urandom");
	argv_add(argv, "-device");
	argv_addf(argv, "virtio-rng-device,rng=rng0,max-bytes=%d,period=%d", RNG_BYTES,
		  RNG_PERIOD_MS);
	argv_add(argv, "-blockdev");
	argv_addf(argv,
		  "driver=file,node-name=rootfs,filename=/proc/self/fd/%d,read-only=on,"
		  "auto-read-only=off,locking=off",
		  config->rootfs_fd);
	argv_add(argv, "-device");
	argv_add(argv, "virtio-blk-device,drive=rootfs");
}

int qemu_argv(const struct qemu_config *config, char ***ret)
{
	_cleanup_free_ char *kernel_line = NULL;
	struct argv argv = {0};
	int r = qemu_kernel_line(config, &kernel_line);

	if (r < 0)
		return r;
	add_process(&argv, config);
	add_machine(&argv, config);
	add_memory(&argv, config);
	add_links(&argv, config);
	add_devices(&argv, config);
	add_start(&argv, config, kernel_line);
	return argv_finish(&argv, ret);
}

int qemu_machine_line(enum accel accel, unsigned memory_mb, char **ret)
{
	struct qemu_config config = {.program = "qemu",
				     .start = QEMU_CLONE,
				     .name = "vm",
				     .accel = accel,
				     .memory_mb = memory_mb};
	_cleanup_(argv_freep) char **argv = NULL;
	_cleanup_free_ char *line = NULL;
	size_t size = 0;
	FILE *out;
	int r = qemu_argv(&config, &argv);

	if (r < 0)
		return r;
	out = open_memstream(&line, &size);
	if (!out)
		return -ENOMEM;
	for (char **word = argv; *word; word++)
		fprintf(out, "%s%s", word == argv ? "" : " ", *word);
	if (fclose(out) != 0)
		return -ENOMEM;
	*ret = TAKE_PTR(line);
	return 0;
}
