/* SPDX-License-Identifier: Apache-2.0 */
/* The method table's data: what the public API offers today. */
#include "protocol/method.h"

#define NO_MORE_PARAMS       \
	{                    \
		.name = NULL \
	}

const char *const method_languages[] = {"python", "javascript", "shell", NULL};
static const char *const encodings[] = {"utf-8", "base64", NULL};
static const char *const on_output_choices[] = {"truncate", "stop", NULL};

static const struct param no_params[] = {NO_MORE_PARAMS};

/*
 * Upper bounds that the configuration may lower are checked again by the handler, which knows it.
 * The bounds here are what the protocol itself can carry.
 */
static const struct param limit_fields[] = {
	{.name = "memory_mb",
	 .type = PARAM_INTEGER,
	 .min = 1,
	 .max = 1 << 20,
	 .violation = RPC_LIMIT_INVALID,
	 .help = "Memory of the run in MiB, enforced by its cgroup; the VM is rounded up to a size "
		 "class"},
	{.name = "cpu_seconds",
	 .type = PARAM_INTEGER,
	 .min = 1,
	 .max = 86400,
	 .violation = RPC_LIMIT_INVALID,
	 .help = "CPU time of one process (RLIMIT_CPU)"},
	{.name = "pids",
	 .type = PARAM_INTEGER,
	 .min = 1,
	 .max = 4096,
	 .violation = RPC_LIMIT_INVALID,
	 .help = "Processes and threads of the run"},
	{.name = "disk_mb",
	 .type = PARAM_INTEGER,
	 .min = 1,
	 .max = 1 << 20,
	 .violation = RPC_LIMIT_INVALID,
	 .help = "Size of /home/user, which lives in the VM's memory"},
	{.name = "stdout_bytes",
	 .type = PARAM_INTEGER,
	 .min = 0,
	 .max = 16 << 20,
	 .violation = RPC_LIMIT_INVALID,
	 .help = "Bytes of standard output kept; the rest is counted and dropped"},
	{.name = "stderr_bytes",
	 .type = PARAM_INTEGER,
	 .min = 0,
	 .max = 16 << 20,
	 .violation = RPC_LIMIT_INVALID,
	 .help = "Bytes of standard error kept; the rest is counted and dropped"},
	{.name = "on_output",
	 .type = PARAM_STRING,
	 .choices = on_output_choices,
	 .violation = RPC_LIMIT_INVALID,
	 .help = "At a full output limit go on and truncate (default), or stop the run"},
	NO_MORE_PARAMS,
};

#define EXEC_ID_PARAM                                                                         \
	{                                                                                     \
		.name = "exec_id", .type = PARAM_STRING, .min = 1, .max = 128,                \
		.help = "Your name for it: it goes on without this connection, is never run " \
			"twice, and "                                                         \
			"session.result has its result"                                       \
	}

/* Of files: `path` is checked further by the handler. */
#define FILE_PATH_PARAM(required, text)                                                       \
	{                                                                                     \
		.name = "path", .type = PARAM_STRING, .is_required = (required), .max = 4096, \
		.violation = RPC_PATH_INVALID, .help = (text)                                 \
	}
#define FILE_MODE_PARAM(text)                                                  \
	{                                                                      \
		.name = "mode", .type = PARAM_STRING, .max = 4, .help = (text) \
	}
#define FILE_OFFSET_MAX (1ll << 50)

static const struct param run_file_fields[] = {
	FILE_PATH_PARAM(true, "Where, below /home/user; directories are made as needed"),
	{.name = "data", .type = PARAM_STRING, .help = "What is in it; nothing by default"},
	{.name = "encoding",
	 .type = PARAM_STRING,
	 .choices = encodings,
	 .help = "How data is written here: utf-8 (default) or base64"},
	FILE_MODE_PARAM("Permissions in octal; \"0644\" by default"),
	NO_MORE_PARAMS,
};

static const struct param run_params[] = {
	{.name = "language",
	 .type = PARAM_STRING,
	 .is_required = true,
	 .choices = method_languages,
	 .violation = RPC_LANGUAGE_UNKNOWN,
	 .help = "Language of the code"},
	{.name = "code", .type = PARAM_STRING, .is_required = true, .help = "The program"},
	{.name = "args",
	 .type = PARAM_STRINGS,
	 .max = 1024,
	 .help = "Arguments behind the program's name"},
	{.name = "stdin", .type = PARAM_STRING, .help = "Standard input; empty by default"},
	{.name = "stdin_encoding",
	 .type = PARAM_STRING,
	 .choices = encodings,
	 .help = "How stdin is written here: utf-8 (default) or base64"},
	{.name = "env", .type = PARAM_STRING_MAP, .help = "Environment variables to add"},
	{.name = "files",
	 .type = PARAM_OBJECTS,
	 .max = 256,
	 .fields = run_file_fields,
	 .help = "Files that are there before the program starts"},
	{.name = "collect",
	 .type = PARAM_STRINGS,
	 .max = 256,
	 .help = "Files to send with the result, below /home/user; 8 MiB together"},
	{.name = "timeout_seconds",
	 .type = PARAM_NUMBER,
	 .min = 0.1,
	 .max = 86400,
	 .violation = RPC_LIMIT_INVALID,
	 .help = "Wall-clock time of the run; waiting for a VM does not count"},
	{.name = "limits",
	 .type = PARAM_OBJECT,
	 .fields = limit_fields,
	 .help = "Limits of this run"},
	EXEC_ID_PARAM,
	{.name = "stream",
	 .type = PARAM_BOOLEAN,
	 .help = "Send run.started and run.output notifications as things happen"},
	NO_MORE_PARAMS,
};

static const struct param vm_param[] = {
	{.name = "vm", .type = PARAM_STRING, .is_required = true, .max = 64, .help = "Id of a VM"},
	NO_MORE_PARAMS,
};

static const struct param optional_vm_param[] = {
	{.name = "vm", .type = PARAM_STRING, .max = 64, .help = "Id of a VM; all by default"},
	NO_MORE_PARAMS,
};

static const struct param balloon_params[] = {
	{.name = "vm", .type = PARAM_STRING, .is_required = true, .max = 64, .help = "Id of a VM"},
	{.name = "target_mb",
	 .type = PARAM_INTEGER,
	 .is_required = true,
	 .min = 1,
	 .max = 1 << 20,
	 .violation = RPC_LIMIT_INVALID,
	 .help = "Memory the guest keeps, in MiB; the balloon takes the rest"},
	NO_MORE_PARAMS,
};

static const struct param reclaim_params[] = {
	{.name = "vm", .type = PARAM_STRING, .max = 64, .help = "Id of a VM; all by default"},
	{.name = "bytes",
	 .type = PARAM_INTEGER,
	 .is_required = true,
	 .min = 1,
	 .max = 1ll << 50,
	 .violation = RPC_LIMIT_INVALID,
	 .help = "Memory to take, in bytes"},
	NO_MORE_PARAMS,
};

static const char *const policy_modes[] = {"auto", "off", NULL};

static const struct param policy_params[] = {
	{.name = "mode",
	 .type = PARAM_STRING,
	 .choices = policy_modes,
	 .help = "Take and give memory (auto), or only watch (off)"},
	{.name = "budget_mb",
	 .type = PARAM_INTEGER,
	 .min = 0,
	 .max = 1 << 20,
	 .violation = RPC_LIMIT_INVALID,
	 .help = "Memory for VMs, as if the host had no more; 0 for all but the reserve"},
	{.name = "reserve_mb",
	 .type = PARAM_INTEGER,
	 .min = 0,
	 .max = 1 << 20,
	 .violation = RPC_LIMIT_INVALID,
	 .help = "Memory kept free for the host"},
	{.name = "floor_mb",
	 .type = PARAM_INTEGER,
	 .min = 64,
	 .max = 1 << 20,
	 .violation = RPC_LIMIT_INVALID,
	 .help = "No balloon takes a VM below this"},
	{.name = "run_mb",
	 .type = PARAM_INTEGER,
	 .min = 1,
	 .max = 1 << 20,
	 .violation = RPC_LIMIT_INVALID,
	 .help = "What a run is thought to take before its VM has told"},
	{.name = "inflating_max",
	 .type = PARAM_INTEGER,
	 .min = 1,
	 .max = 1024,
	 .violation = RPC_LIMIT_INVALID,
	 .help = "Balloons that take memory at once"},
	NO_MORE_PARAMS,
};

static const struct param subscribe_params[] = {
	{.name = "types",
	 .type = PARAM_STRINGS,
	 .min = 1,
	 .max = 32,
	 .help = "Types or patterns: 'vm.ready', 'vm.*', '*'; all by default"},
	{.name = "since_seq",
	 .type = PARAM_INTEGER,
	 .min = 0,
	 .max = 9e15,
	 .help = "Repeat kept events behind this sequence number first"},
	NO_MORE_PARAMS,
};

static const struct param unsubscribe_params[] = {
	{.name = "subscription",
	 .type = PARAM_STRING,
	 .is_required = true,
	 .max = 64,
	 .help = "Id that events.subscribe returned"},
	NO_MORE_PARAMS,
};

static const struct param template_param[] = {
	{.name = "name",
	 .type = PARAM_STRING,
	 .is_required = true,
	 .min = 1,
	 .max = 63,
	 .help = "Name of a template: LANGUAGE-MEMORY, such as python-256"},
	NO_MORE_PARAMS,
};

static const struct param build_params[] = {
	{.name = "language",
	 .type = PARAM_STRING,
	 .is_required = true,
	 .choices = method_languages,
	 .violation = RPC_LANGUAGE_UNKNOWN,
	 .help = "Language it is made for"},
	{.name = "memory_mb",
	 .type = PARAM_INTEGER,
	 .min = 1,
	 .max = 1 << 20,
	 .violation = RPC_LIMIT_INVALID,
	 .help = "Memory of its VMs in MiB, rounded up to a size class; the default size when "
		 "absent"},
	NO_MORE_PARAMS,
};

static const struct param pool_get_params[] = {
	{.name = "language",
	 .type = PARAM_STRING,
	 .choices = method_languages,
	 .violation = RPC_LANGUAGE_UNKNOWN,
	 .help = "One language's pool; all by default"},
	NO_MORE_PARAMS,
};

static const struct param pool_set_params[] = {
	{.name = "language",
	 .type = PARAM_STRING,
	 .is_required = true,
	 .choices = method_languages,
	 .violation = RPC_LANGUAGE_UNKNOWN,
	 .help = "Whose pool"},
	{.name = "size",
	 .type = PARAM_INTEGER,
	 .is_required = true,
	 .min = 0,
	 .max = 1 << 20,
	 .violation = RPC_LIMIT_INVALID,
	 .help = "VMs that shall wait warm, until the daemon ends"},
	NO_MORE_PARAMS,
};

#define OFFSET_PARAMS                                                                       \
	{.name = "stdout_offset",                                                           \
	 .type = PARAM_INTEGER,                                                             \
	 .min = 0,                                                                          \
	 .max = 1ll << 50,                                                                  \
	 .help = "Byte of standard output to begin with"},                                  \
	{                                                                                   \
		.name = "stderr_offset", .type = PARAM_INTEGER, .min = 0, .max = 1ll << 50, \
		.help = "Byte of standard error to begin with"                              \
	}

static const struct param result_params[] = {
	{.name = "exec_id",
	 .type = PARAM_STRING,
	 .is_required = true,
	 .min = 1,
	 .max = 128,
	 .help = "What the program was started with"},
	OFFSET_PARAMS,
	NO_MORE_PARAMS,
};

#define SESSION_SECONDS_MAX 2592000

static const char *const on_timeout_choices[] = {"close", NULL};
static const char *const bind_choices[] = {"none", "connection", NULL};
static const char *const session_states[] = {"starting", "idle", "busy", NULL};

#define SESSION_PARAM                                                                   \
	{                                                                               \
		.name = "session", .type = PARAM_STRING, .is_required = true, .min = 1, \
		.max = 127, .help = "Id or name of a session"                           \
	}

#define TERMINAL_SIZE                                                                    \
	{.name = "rows",                                                                 \
	 .type = PARAM_INTEGER,                                                          \
	 .is_required = true,                                                            \
	 .min = 1,                                                                       \
	 .max = 65535,                                                                   \
	 .help = "Lines of text"},                                                       \
	{                                                                                \
		.name = "columns", .type = PARAM_INTEGER, .is_required = true, .min = 1, \
		.max = 65535, .help = "Characters of a line"                             \
	}

#define PROCESS_PARAM                                                                   \
	{                                                                               \
		.name = "process", .type = PARAM_STRING, .is_required = true, .min = 1, \
		.max = 127, .help = "Id of a process in it"                             \
	}

/* What session.create and session.update have in common. */
#define SESSION_SETTINGS                                                                          \
	{.name = "idle_timeout_seconds",                                                          \
	 .type = PARAM_NUMBER,                                                                    \
	 .min = 1,                                                                                \
	 .max = SESSION_SECONDS_MAX,                                                              \
	 .violation = RPC_LIMIT_INVALID,                                                          \
	 .help = "The session closes when nothing has run in it for so long"},                    \
		{.name = "timeout_seconds",                                                       \
		 .type = PARAM_NUMBER,                                                            \
		 .min = 1,                                                                        \
		 .max = SESSION_SECONDS_MAX,                                                      \
		 .violation = RPC_LIMIT_INVALID,                                                  \
		 .help = "The session closes so long from now, whatever runs; never by default"}, \
		{.name = "name",                                                                  \
		 .type = PARAM_STRING,                                                            \
		 .max = 127,                                                                      \
		 .help = "Another name for its id; empty for none"},                              \
	{                                                                                         \
		.name = "metadata", .type = PARAM_STRING_MAP, .max = 64,                          \
		.help = "What the caller wants to find again in session.info; replaces all"       \
	}

static const struct param session_create_params[] = {
	{.name = "language",
	 .type = PARAM_STRING,
	 .choices = method_languages,
	 .violation = RPC_LANGUAGE_UNKNOWN,
	 .help = "Language whose VM it gets; python by default"},
	{.name = "env",
	 .type = PARAM_STRING_MAP,
	 .help = "Environment variables of all its programs"},
	{.name = "limits",
	 .type = PARAM_OBJECT,
	 .fields = limit_fields,
	 .help = "Limits of each of its programs"},
	SESSION_SETTINGS,
	{.name = "on_timeout",
	 .type = PARAM_STRING,
	 .choices = on_timeout_choices,
	 .help = "What happens at timeout_seconds: close"},
	{.name = "bind",
	 .type = PARAM_STRING,
	 .choices = bind_choices,
	 .help = "connection: the session closes with the connection that made it"},
	NO_MORE_PARAMS,
};

static const struct param file_write_params[] = {
	SESSION_PARAM,
	FILE_PATH_PARAM(false, "The file, below /home/user; directories are made as needed"),
	{.name = "data", .type = PARAM_STRING, .help = "What to write; nothing by default"},
	{.name = "encoding",
	 .type = PARAM_STRING,
	 .choices = encodings,
	 .help = "How data is written here: utf-8 (default) or base64"},
	FILE_MODE_PARAM("Permissions in octal, as \"0755\"; those of the file that is replaced, or "
			"\"0644\""),
	{.name = "append", .type = PARAM_BOOLEAN, .help = "Write behind its end, in place"},
	{.name = "offset",
	 .type = PARAM_INTEGER,
	 .max = FILE_OFFSET_MAX,
	 .help = "Write there, in place, or in the upload"},
	{.name = "descriptor",
	 .type = PARAM_BOOLEAN,
	 .help = "The bytes come over a connected Unix stream socket that is sent with the "
		 "request"},
	{.name = "size",
	 .type = PARAM_INTEGER,
	 .max = FILE_OFFSET_MAX,
	 .help = "How many bytes come over the descriptor"},
	{.name = "upload",
	 .type = PARAM_STRING,
	 .min = 1,
	 .max = 31,
	 .help = "\"open\" begins a file that comes in pieces, and answers its id; that id goes "
		 "on"},
	{.name = "commit",
	 .type = PARAM_BOOLEAN,
	 .help = "The upload is complete: the file gets its name, replacing what had it"},
	NO_MORE_PARAMS,
};

static const struct param file_read_params[] = {
	SESSION_PARAM,
	FILE_PATH_PARAM(true, "The file, below /home/user"),
	{.name = "offset",
	 .type = PARAM_INTEGER,
	 .max = FILE_OFFSET_MAX,
	 .help = "Where to begin; 0 by default"},
	{.name = "length",
	 .type = PARAM_INTEGER,
	 .min = 1,
	 .max = FILE_OFFSET_MAX,
	 .help = "Bytes to read; 8 MiB by default, and at the most but over a descriptor"},
	{.name = "descriptor",
	 .type = PARAM_BOOLEAN,
	 .help = "Send the bytes over a connected Unix stream socket that comes with the request"},
	{.name = "encoding",
	 .type = PARAM_STRING,
	 .choices = encodings,
	 .help = "base64: in any case; otherwise only when the bytes are not UTF-8"},
	NO_MORE_PARAMS,
};

static const struct param file_list_params[] = {
	SESSION_PARAM,
	FILE_PATH_PARAM(false, "The directory; /home/user by default"),
	{.name = "recursive",
	 .type = PARAM_BOOLEAN,
	 .help = "What is in the directories below, too"},
	NO_MORE_PARAMS,
};

static const struct param file_stat_params[] = {
	SESSION_PARAM,
	FILE_PATH_PARAM(true, "What to look at; a link itself, not where it leads"),
	NO_MORE_PARAMS,
};

static const struct param file_mkdir_params[] = {
	SESSION_PARAM,
	FILE_PATH_PARAM(true, "The directory to make"),
	FILE_MODE_PARAM("Permissions in octal; \"0755\" by default"),
	{.name = "recursive",
	 .type = PARAM_BOOLEAN,
	 .help = "Make those above it, too; one that is there is fine"},
	NO_MORE_PARAMS,
};

static const struct param file_remove_params[] = {
	SESSION_PARAM,
	FILE_PATH_PARAM(true, "What to remove; a link itself, not where it leads"),
	{.name = "recursive",
	 .type = PARAM_BOOLEAN,
	 .help = "A directory with all that is in it; otherwise only an empty one"},
	NO_MORE_PARAMS,
};

static const struct param file_rename_params[] = {
	SESSION_PARAM,
	FILE_PATH_PARAM(true, "What gets another name"),
	{.name = "new_path",
	 .type = PARAM_STRING,
	 .is_required = true,
	 .min = 1,
	 .max = 4096,
	 .violation = RPC_PATH_INVALID,
	 .help = "The other name; directories are made as needed"},
	{.name = "replace", .type = PARAM_BOOLEAN, .help = "Also when something has that name"},
	NO_MORE_PARAMS,
};

static const struct param session_update_params[] = {
	SESSION_PARAM,
	SESSION_SETTINGS,
	NO_MORE_PARAMS,
};

static const struct param terminal_fields[] = {
	TERMINAL_SIZE,
	NO_MORE_PARAMS,
};

static const struct param session_exec_params[] = {
	SESSION_PARAM,
	{.name = "code",
	 .type = PARAM_STRING,
	 .help = "Code for the session's interpreter, which keeps what it defines"},
	{.name = "command", .type = PARAM_STRING, .help = "A program for the shell"},
	{.name = "argv",
	 .type = PARAM_STRINGS,
	 .max = 1024,
	 .help = "A program's name or path, and its arguments"},
	{.name = "args",
	 .type = PARAM_STRINGS,
	 .max = 1024,
	 .help = "Arguments of code or command"},
	{.name = "cwd",
	 .type = PARAM_STRING,
	 .min = 1,
	 .max = 4095,
	 .help = "Where a command or argv starts: a directory, relative to /home/user, which it "
		 "is by default"},
	{.name = "stdin", .type = PARAM_STRING, .help = "Standard input; empty by default"},
	{.name = "stdin_encoding",
	 .type = PARAM_STRING,
	 .choices = encodings,
	 .help = "How stdin is written here: utf-8 (default) or base64"},
	{.name = "env",
	 .type = PARAM_STRING_MAP,
	 .help = "Environment variables to add to the session's"},
	{.name = "timeout_seconds",
	 .type = PARAM_NUMBER,
	 .min = 0.1,
	 .max = 86400,
	 .violation = RPC_LIMIT_INVALID,
	 .help = "Wall-clock time of the program; waiting for others before it does not count"},
	{.name = "background",
	 .type = PARAM_BOOLEAN,
	 .help = "Answer when it has started: it runs beside the programs until the session "
		 "closes"},
	{.name = "terminal",
	 .type = PARAM_OBJECT,
	 .fields = terminal_fields,
	 .help = "A terminal for a background process: its input and all of its output"},
	EXEC_ID_PARAM,
	{.name = "stream",
	 .type = PARAM_BOOLEAN,
	 .help = "Send run.started and run.output notifications as things happen"},
	NO_MORE_PARAMS,
};

static const struct param session_list_params[] = {
	{.name = "name", .type = PARAM_STRING, .max = 127, .help = "The session of that name"},
	{.name = "state",
	 .type = PARAM_STRING,
	 .choices = session_states,
	 .help = "Sessions in that state"},
	{.name = "limit",
	 .type = PARAM_INTEGER,
	 .min = 1,
	 .max = 1000,
	 .help = "Most sessions in one answer; 100 by default"},
	{.name = "cursor",
	 .type = PARAM_STRING,
	 .max = 64,
	 .help = "next_cursor of the answer before this one"},
	NO_MORE_PARAMS,
};

static const struct param session_param[] = {SESSION_PARAM, NO_MORE_PARAMS};

static const struct param attach_params[] = {
	SESSION_PARAM,
	{.name = "process",
	 .type = PARAM_STRING,
	 .min = 1,
	 .max = 127,
	 .help = "One process; all by default, from now on, and those that are started later"},
	OFFSET_PARAMS,
	NO_MORE_PARAMS,
};

static const struct param process_param[] = {SESSION_PARAM, PROCESS_PARAM, NO_MORE_PARAMS};

static const struct param process_resize_params[] = {
	SESSION_PARAM,
	PROCESS_PARAM,
	TERMINAL_SIZE,
	NO_MORE_PARAMS,
};

static const struct param process_signal_params[] = {
	SESSION_PARAM,
	PROCESS_PARAM,
	{.name = "signal",
	 .type = PARAM_STRING,
	 .min = 1,
	 .max = 32,
	 .help = "For its process group: SIGTERM (default), INT, …; SIGKILL ends all of its tree"},
	NO_MORE_PARAMS,
};

static const struct param process_wait_params[] = {
	SESSION_PARAM,
	PROCESS_PARAM,
	{.name = "timeout_seconds",
	 .type = PARAM_NUMBER,
	 .min = 0,
	 .max = 86400,
	 .violation = RPC_LIMIT_INVALID,
	 .help = "Answer then, though it runs; for ever by default"},
	OFFSET_PARAMS,
	NO_MORE_PARAMS,
};

static const struct param process_write_params[] = {
	SESSION_PARAM,
	PROCESS_PARAM,
	{.name = "data", .type = PARAM_STRING, .is_required = true, .help = "Bytes of its input"},
	{.name = "encoding",
	 .type = PARAM_STRING,
	 .choices = encodings,
	 .help = "How data is written here: utf-8 (default) or base64"},
	NO_MORE_PARAMS,
};

const struct method method_table[] = {
	{"daemon.drain", "Refuse new work, let what runs end, then stop the daemon", ACCESS_ADMIN,
	 no_params, "{vms}"},
	{"daemon.reload",
	 "Read the configuration again: all of it is taken over, or none and an error says why",
	 ACCESS_ADMIN, no_params, "{changed: [{key, from, to}]}"},
	{"events.subscribe", "Receive events as notifications on this connection", ACCESS_OWNER,
	 subscribe_params, "{subscription, seq}"},
	{"events.unsubscribe", "Stop a subscription of this connection", ACCESS_OWNER,
	 unsubscribe_params, "{}"},
	{"file.list", "What is in a directory of a session", ACCESS_OWNER, file_list_params,
	 "{entries: [{name, type, size, mode, mtime, target?}], truncated}"},
	{"file.mkdir", "Make a directory in a session", ACCESS_OWNER, file_mkdir_params, "{}"},
	{"file.read", "Read a file of a session, or a piece of it", ACCESS_OWNER, file_read_params,
	 "{data?, encoding?, bytes, size, eof}"},
	{"file.remove", "Remove a file or directory of a session", ACCESS_OWNER, file_remove_params,
	 "{}"},
	{"file.rename", "Give a file or directory of a session another name", ACCESS_OWNER,
	 file_rename_params, "{}"},
	{"file.stat", "One file or directory of a session", ACCESS_OWNER, file_stat_params,
	 "{name, type, size, mode, mtime, target?}"},
	{"file.write",
	 "Write a file of a session: as a whole, replacing it at once, in place, or in pieces",
	 ACCESS_OWNER, file_write_params, "{bytes, size?, upload?}"},
	{"health", "Whether the daemon can run code, and what stands in the way", ACCESS_ANY,
	 no_params, "{ready, checks: [{name, ok, detail}]}"},
	{"info", "Versions, accelerator, languages, templates and limits", ACCESS_ANY, no_params,
	 "{version, accelerator, languages, limits, vms, templates, …}"},
	{"memory.balloon", "Set a VM's balloon target and wait for the guest to follow",
	 ACCESS_ADMIN, balloon_params, "{vm, target_bytes, actual_bytes, reached}"},
	{"memory.policy", "Read the memory policy, or change its settings until the daemon ends",
	 ACCESS_ADMIN, policy_params, "{mode, budget_mb, …, level, need_bytes, may_admit, …}"},
	{"memory.reclaim", "Take memory of one VM, or of all in the policy's order, and wait",
	 ACCESS_ADMIN, reclaim_params,
	 "{requested_bytes, reclaimed_bytes, vms: [{vm, target_bytes, actual_bytes}]}"},
	{"memory.stats", "Memory of the host and of the caller's VMs", ACCESS_OWNER,
	 optional_vm_param, "{host, vms: [{vm, rss_bytes, …, age_ms}]}"},
	{"metrics", "The daemon's numbers in Prometheus' text format", ACCESS_ADMIN, no_params,
	 "{content_type, text}"},
	{"pool.get", "Warm VMs that wait for runs", ACCESS_ADMIN, pool_get_params,
	 "{language, memory_mb, warm, starting, target}, or {pools: […]} of all"},
	{"pool.set", "How many warm VMs of a language shall wait", ACCESS_ADMIN, pool_set_params,
	 "{language, memory_mb, warm, starting, target}"},
	{"process.close_stdin", "End the standard input of a background process", ACCESS_OWNER,
	 process_param, "{}"},
	{"process.list", "Background processes of a session, and the last that have ended",
	 ACCESS_OWNER, session_param, "{session, processes: [{process, state, command, …}]}"},
	{"process.resize", "Change the size of a background process's terminal", ACCESS_OWNER,
	 process_resize_params, "{}"},
	{"process.signal", "Send a signal to a background process", ACCESS_OWNER,
	 process_signal_params, "{}"},
	{"process.wait", "Wait for the end of a background process, or ask how far it is",
	 ACCESS_OWNER, process_wait_params,
	 "RunResult, or {state: \"running\", stdout, stderr, …}"},
	{"process.write", "Write to a background process, and wait until its guest has it",
	 ACCESS_OWNER, process_write_params, "{bytes}"},
	{"rpc.discover", "The OpenRPC document of this API", ACCESS_ANY, no_params,
	 "OpenRPC 1.3.2"},
	{"rpc.ping", "Answer at once", ACCESS_ANY, no_params, "\"pong\""},
	{"rpc.version", "Versions of the daemon and of the protocol", ACCESS_ANY, no_params,
	 "{version, jsonrpc}"},
	{"run", "Run a program in a fresh VM and return its outcome", ACCESS_ANY, run_params,
	 "RunResult"},
	{"session.attach", "Receive the output of a session's background processes", ACCESS_OWNER,
	 attach_params, "{session, processes: [{process, stdout_offset, …}]}"},
	{"session.close", "Close a session: its programs end, and its VM", ACCESS_OWNER,
	 session_param, "Session"},
	{"session.create", "Make a session: a VM to keep", ACCESS_ANY, session_create_params,
	 "Session {session, name, state, language, vm, …}"},
	{"session.exec", "Run a program in a session's VM, behind those that came before",
	 ACCESS_OWNER, session_exec_params, "RunResult, or {process}"},
	{"session.info", "One session", ACCESS_OWNER, session_param, "Session"},
	{"session.list", "The caller's sessions, oldest first; all for an admin", ACCESS_OWNER,
	 session_list_params, "{sessions: [Session], next_cursor?}"},
	{"session.result",
	 "The result of a program that was started with an exec_id, or how far it is", ACCESS_OWNER,
	 result_params, "RunResult, or {state: \"running\", stdout, stderr, …}"},
	{"session.update", "Change a session's timeouts, name or metadata", ACCESS_OWNER,
	 session_update_params, "Session"},
	{"template.build", "Make a template anew and wait until it is ready", ACCESS_ADMIN,
	 build_params, "As template.info"},
	{"template.info", "One template", ACCESS_ANY, template_param,
	 "{name, language, memory_mb, state, stored, clones, build, error, …}"},
	{"template.list", "The templates that VMs are cloned from", ACCESS_ANY, no_params,
	 "{templates: […]}"},
	{"template.remove", "Forget a template and delete it from disk", ACCESS_ADMIN,
	 template_param, "{}"},
	{"vm.info", "One VM", ACCESS_OWNER, vm_param,
	 "{vm, state, pid, language, memory_mb, created_at, …}"},
	{"vm.list", "The caller's VMs; all for an admin", ACCESS_OWNER, no_params, "{vms: […]}"},
	{.name = NULL},
};
