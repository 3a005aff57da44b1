/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The typed control messages of the guest link, as JSON payloads of frames.
 *
 * Theory of operation: each message is a struct with a table of fields (name, type, place, cap);
 * one encoder and one strict decoder serve them all. Decoding hostile bytes is safe: lengths are
 * capped by the frame, every field is checked for type and range, unknown fields are ignored (a
 * newer peer may send them), a missing required one is -EPROTO. Decoded structs own their JSON
 * members: msg_clear() releases them.
 */
#ifndef PROTOCOL_MESSAGE_H
#define PROTOCOL_MESSAGE_H

#include "protocol/frame.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define LINK_VERSION         1
#define MSG_TEXT_MAX         256           /* file-name-like texts, with their NUL */
#define MSG_PATH_MAX         4096          /* of a file, with its NUL: PATH_MAX of Linux */
#define MSG_EXEC_STRINGS_MAX (192u * 1024) /* args and env of one EXEC, all together */

struct msg_ready {
	uint64_t version;         /* LINK_VERSION of the agent */
	char agent[MSG_TEXT_MAX]; /* its release, for logs and `info` */
};

struct msg_hello {
	uint64_t version;
	uint8_t nonce[FRAME_MARKER_SIZE]; /* comes back raw in front of HELLO_REPLY */
	uint8_t sync[FRAME_MARKER_SIZE];  /* the marker this VM's agent watches for from now on */
	json_t *received; /* {"<stream>": offset} of what the host has; absent = nothing yet */
};

struct msg_hello_reply {
	uint64_t version;
	json_t *received; /* the same for host-to-guest streams */
	json_t *execs;    /* numbers of the execs the agent knows (running, or ended and not
			     acknowledged) */
};

struct msg_identity {
	uint64_t id;
	uint8_t entropy[64];
	uint64_t realtime_ns;
	char hostname[65];
	uint8_t machine_id[16];
};

struct msg_ping { /* PING, PONG, MEMORY_GET, MEMORY_DROP, IDENTITY_DONE */
	uint64_t id;
};

struct msg_exec_ref { /* STARTED, EXIT_ACK */
	uint64_t exec;
};

struct msg_exec {
	uint64_t exec;          /* 1.. ; the same number again is answered, not run again */
	char language[32];      /* "python", "javascript", "shell" */
	json_t *args;           /* strings behind the program name; may be absent */
	json_t *env;            /* names to strings; may be absent */
	char cwd[MSG_PATH_MAX]; /* empty: the home directory, to which it is relative */
	uint64_t realtime_ns;   /* the host's clock, set before code runs; 0 leaves the clock */
	uint64_t stdout_limit, stderr_limit; /* bytes sent; beyond it the agent drains and counts */
	bool stop_at_limit;                  /* end the run as output_limit instead of draining */
	uint64_t memory_max_bytes;           /* of the run's cgroup; 0 = no limit */
	uint64_t pids_max;                   /* 0 = the agent's default */
	uint64_t cpu_seconds;                /* RLIMIT_CPU; 0 = none */
	uint64_t disk_max_bytes; /* size of the writable home; 0 = the agent's default */
	bool is_rehearsal;       /* the host's own no-op: other interpreters go on waiting */
	bool is_resident;        /* in the language's interpreter that goes on behind it */
	bool is_background;      /* beside the other execs; its input is written in pieces */
	/* Of its terminal, which is its input and all of its output; 0: it has none. */
	uint64_t terminal_rows, terminal_columns;
};

/* Is it a background process? File operations run beside the other execs as well, and their input
 * comes in pieces, but they are none. */
static inline bool msg_exec_is_process(const struct msg_exec *exec)
{
	return exec->is_background && !exec->is_resident;
}

/*
 * Interpreters of `language` that have started and wait for a program, `count` of them in all. An
 * EXEC of that language takes one that fits it (the same environment but for names that may be set
 * late) instead of starting its own; those that stay behind when user code starts are killed unless
 * the EXEC is a rehearsal.
 *
 * With `is_resident` instead: EXECs with `is_resident` will come, for an interpreter with the
 * environment `env`. One that waits may become it now.
 */
struct msg_prepare {
	uint64_t id;
	char language[32];
	uint64_t count; /* 0: end those that wait */
	bool is_resident;
	json_t *env; /* names to strings; may be absent */
};

struct msg_prepared {
	uint64_t id;
	uint64_t waiting;          /* interpreters that wait now */
	char detail[MSG_TEXT_MAX]; /* why fewer wait than were asked for; else empty */
};

struct msg_kill {
	uint64_t exec;
	uint64_t grace_ms; /* between SIGTERM and cgroup.kill */
};

struct msg_signal {
	uint64_t exec;
	uint64_t signal; /* to the program's process group; SIGKILL to its whole tree */
};

struct msg_resize {
	uint64_t exec;
	uint64_t rows, columns;
};

/* Why a run ended, as the agent saw it. A deadline is the host's to say. */
#define MSG_REASON_EXITED       "exited"
#define MSG_REASON_SIGNALED     "signaled"
#define MSG_REASON_OOM          "oom"
#define MSG_REASON_OUTPUT_LIMIT "output_limit"
#define MSG_REASON_FAILED       "failed" /* never started: `detail` says why */

struct msg_exit {
	uint64_t exec;
	char reason[32];
	uint64_t exit_code;                  /* for exited */
	uint64_t signal;                     /* for signaled */
	char detail[MSG_TEXT_MAX];           /* for failed */
	uint64_t stdout_bytes, stderr_bytes; /* written by the program, sent or not */
	uint64_t cpu_user_us, cpu_system_us;
	uint64_t memory_peak_bytes;
	uint64_t page_faults_major;
	uint64_t oom_kills;
	uint64_t swap_peak_bytes;
	uint64_t execute_us; /* from start to the end of the last process, on the guest's clock */
	json_t *error; /* {name, value, traceback} as the interpreter claims; absent when none */
};

struct msg_memory {
	uint64_t id; /* of MEMORY_GET or _DROP; 0 when it comes by itself */
	uint64_t mem_total, mem_free, mem_available; /* bytes */
	uint64_t mem_caches;    /* page cache and slab that MEMORY_DROP could free */
	uint64_t mem_anonymous; /* what could go into the zram: anonymous memory and tmpfs */
	uint64_t swap_total, swap_free;
	uint64_t swap_in, swap_out; /* bytes since boot */
	/* zram mm_stat, in the kernel's order (Documentation/admin-guide/blockdev/zram.rst) */
	uint64_t zram_orig_data_size, zram_compr_data_size, zram_mem_used_total, zram_mem_limit,
		zram_mem_used_max, zram_same_pages, zram_pages_compacted, zram_huge_pages;
	uint64_t psi_some_avg10_centi, psi_full_avg10_centi; /* hundredths of a per cent */
	uint64_t psi_some_total_us, psi_full_total_us;
	uint64_t user_current, user_peak, user_oom_kill; /* of the user cgroup */
	uint64_t user_processes;
	uint64_t user_stall_us; /* in which all of its tasks waited for memory, since boot */
};

/* One message of any type: which member counts is told by `type`. */
struct msg {
	uint8_t type; /* enum frame_type */
	union {
		struct msg_ready ready;
		struct msg_hello hello;
		struct msg_hello_reply hello_reply;
		struct msg_identity identity;
		struct msg_ping ping;
		struct msg_exec_ref exec_ref;
		struct msg_exec exec;
		struct msg_prepare prepare;
		struct msg_prepared prepared;
		struct msg_kill kill;
		struct msg_signal signal;
		struct msg_resize resize;
		struct msg_exit exit;
		struct msg_memory memory;
	};
};

/*
 * Encodes the payload of `msg->type` as compact JSON into a new buffer (free()). Returns the
 * length, or -ENOMEM, -EMSGSIZE over FRAME_PAYLOAD_MAX, -EINVAL for a type without a message.
 */
ssize_t msg_encode(const struct msg *msg, char **ret);

/*
 * Decodes a payload. 0, or -EPROTO with a reason in `why` (static text, may be logged), -ENOMEM.
 * `ret` is written only on success; release it with msg_clear().
 */
int msg_decode(uint8_t type, const uint8_t *payload, size_t len, struct msg *ret, const char **why);

void msg_clear(struct msg *msg);

#endif
