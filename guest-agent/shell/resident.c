/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shell of a session: a module for bash that runs one program after another and keeps what they
 * define.
 *
 * Theory of operation: the agent sends each program on a socket (guest-agent/resident.h): its text,
 * input and outputs as descriptors, which no script can receive, and its variables as a go message.
 * The answer is an exit status and an empty report. `enable -f` loads this file and calls
 * resident_builtin_load(), which never returns and so leaves no builtin behind: from then on it is
 * bash's top level, in the place of reader_loop() (eval.c), whose work it does for one text after
 * another. Nothing of ours is on the stack of what a program runs, in its traps, its trace or
 * around its loops. `exit`, a failing `set -e` and whatever else ends a script jumps to the top
 * level, which is the end of the program and not of the shell: the EXIT trap is run, as it is
 * behind the last line, and all that was begun is unwound as an interactive shell unwinds a command
 * that was interrupted (throw_to_top_level(), sig.c).
 *
 * It knows bash's insides, and so belongs to one minor version of it.
 */
#include <config.h>

#include <sys/types.h>

#include <shell.h>

#include <bashjmp.h>
#include <builtins.h>
#include <builtins/common.h>
#include <errno.h>
#include <execute_cmd.h>
#include <fcntl.h>
#include <pthread.h>
#include <quit.h>
#include <sig.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <unwind_prot.h>
#include <version.h>

#if DEFAULT_COMPAT_LEVEL != 52
#error "This module is written for the insides of bash 5.2"
#endif

/* Of flags.h, input.h, parser.h and trap.h, which Debian's headers leave out. */
extern int current_token;
extern void with_input_from_string(char *string, const char *name);
extern void push_stream(int resets_line);
extern void pop_stream(void);
extern int signal_is_trapped(int sig);
extern int run_exit_trap(void);
extern void run_trap_cleanup(int sig);
extern void restore_default_signal(int sig);
extern int running_trap;
extern int read_but_dont_execute;
#define EXIT_TRAP 0

#define STREAMS 3
/* As the agent's: guest-agent/resident.c. */
#define MESSAGE_MAX (64u * 1024)
#define HEAD        4
#define REPLY_HEAD  5

/* A variable of one program: what it was before. */
struct own {
	const char *name, *value; /* in the message */
	char *before;             /* NULL: there was none */
	bool was_exported;
};

struct program {
	int fds[1 + STREAMS]; /* text, input, outputs */
	char *text;
	char *message; /* NUL-terminated texts */
	size_t message_len;
	struct own *variables;
	size_t variable_count;
};

static int control_fd;
static pid_t shell_pid;

/* --- Messages ----------------------------------------------------------------------------------
 */

/* The agent is gone, or somebody has closed or spoilt the channel. */
static void give_up(void)
{
	exit_shell(last_command_exit_value);
}

static void receive(void *buffer, size_t len)
{
	char *at = buffer;

	while (len > 0) {
		ssize_t n = recv(control_fd, at, len, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			give_up();
		at += n;
		len -= (size_t)n;
	}
}

/* The length of the message, and with its first byte the descriptors. */
static size_t receive_head(struct program *program)
{
	uint8_t head[HEAD] = {0};
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(program->fds))];
	} control;
	struct iovec part = {.iov_base = head, .iov_len = 1};
	struct msghdr header = {.msg_iov = &part,
				.msg_iovlen = 1,
				.msg_control = control.bytes,
				.msg_controllen = sizeof(control.bytes)};
	const struct cmsghdr *rights;
	ssize_t n;

	while ((n = recvmsg(control_fd, &header, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR)
		CHECK_TERMSIG; /* a signal that ends it, which waits for a good moment */
	rights = n == 1 ? CMSG_FIRSTHDR(&header) : NULL;
	if (!rights || rights->cmsg_type != SCM_RIGHTS ||
	    rights->cmsg_len != CMSG_LEN(sizeof(program->fds)))
		give_up();
	memcpy(program->fds, CMSG_DATA(rights), sizeof(program->fds));
	receive(head + 1, HEAD - 1);
	return (size_t)head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 |
	       (size_t)head[3] << 24;
}

/* Text that comes from a system whose lines end otherwise: all of them, or it is meant. */
static void unify_line_ends(char *text)
{
	char *to = text;

	for (const char *at = strchr(text, '\n'); at; at = strchr(at + 1, '\n'))
		if (at == text || at[-1] != '\r')
			return;
	for (const char *at = text; *at; at++)
		if (*at != '\r' || (at[1] != '\n' && at[1] != '\0'))
			*to++ = *at;
	*to = '\0';
}

static char *read_text(int fd)
{
	struct stat st = {0};
	size_t len = 0;
	char *text;

	(void)fstat(fd, &st);
	text = xmalloc((size_t)st.st_size + 1);
	while (len < (size_t)st.st_size) {
		ssize_t n = pread(fd, text + len, (size_t)st.st_size - len, (off_t)len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	text[len] = '\0';
	unify_line_ends(text);
	return text;
}

static void answer(int status)
{
	const char reply[REPLY_HEAD] = {(char)status};

	if (send(control_fd, reply, sizeof(reply), MSG_NOSIGNAL) != (ssize_t)sizeof(reply))
		give_up();
}

/* --- A program's own of the shell --------------------------------------------------------------
 */

/* Names that bash has for itself, as it has when it finds them in its environment. */
static bool is_bashs_own(const char *name)
{
	const SHELL_VAR *variable = find_variable(name);

	return strcmp(name, "IFS") == 0 || strcmp(name, "PWD") == 0 ||
	       strcmp(name, "OLDPWD") == 0 || (variable && readonly_p(variable));
}

static void set_variable(const char *name, const char *value, bool is_exported)
{
	SHELL_VAR *variable = bind_variable(name, (char *)value, 0);

	if (variable && is_exported)
		VSETATTR(variable, att_exported);
	else if (variable)
		VUNSETATTR(variable, att_exported);
	array_needs_making = 1;
	stupidly_hack_special_variables((char *)name);
}

static void enter_variable(struct own *own, char *assignment)
{
	const SHELL_VAR *variable;
	char *equals = strchr(assignment, '=');

	*equals = '\0';
	*own = (struct own){.name = assignment, .value = equals + 1};
	if (is_bashs_own(own->name)) {
		own->name = NULL;
		return;
	}
	variable = find_variable(own->name);
	if (variable && get_variable_value((SHELL_VAR *)variable))
		own->before = savestring(get_variable_value((SHELL_VAR *)variable));
	own->was_exported = variable && exported_p(variable);
	set_variable(own->name, own->value, true);
}

/* What the program has set itself stays. */
static void leave_variable(struct own *own)
{
	const SHELL_VAR *variable = own->name ? find_variable(own->name) : NULL;
	const char *value = variable ? get_variable_value((SHELL_VAR *)variable) : NULL;

	if (value && strcmp(value, own->value) == 0 && !readonly_p(variable)) {
		if (own->before) {
			set_variable(own->name, own->before, own->was_exported);
		} else {
			unbind_variable(own->name);
			stupidly_hack_special_variables((char *)own->name);
		}
	}
	free(own->before);
}

/* The message is a directory and a count of arguments, neither of which a program of a session has,
 * and then variables. */
static void enter_variables(struct program *program)
{
	char *at = program->message, *end = at + program->message_len;

	program->variables = xmalloc((program->message_len / 2 + 1) * sizeof(struct own));
	for (size_t i = 0; at < end; i++) {
		char *next = at + strlen(at) + 1;

		if (i >= 2 && strchr(at, '='))
			enter_variable(&program->variables[program->variable_count++], at);
		at = next;
	}
}

static void open_streams(struct program *program)
{
	/* What was not written before is nobody's. */
	__fpurge(stdout);
	clearerr(stdout);
	for (int i = 0; i < STREAMS; i++) {
		dup2(program->fds[1 + i], i);
		close(program->fds[1 + i]);
	}
}

/* What goes on in the background has its own; the shell between two programs has nobody. */
static void close_streams(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	fflush(stdout);
	fflush(stderr);
	for (int i = 0; i < STREAMS; i++)
		dup2(fd, i);
	if (fd >= STREAMS)
		close(fd);
}

static struct program receive_program(void)
{
	struct program program = {0};

	program.message_len = receive_head(&program);
	if (program.message_len > MESSAGE_MAX)
		give_up();
	program.message = xmalloc(program.message_len + 1);
	receive(program.message, program.message_len);
	program.message[program.message_len] = '\0';
	open_streams(&program);
	program.text = read_text(program.fds[0]);
	close(program.fds[0]);
	return program;
}

/* --- Running it --------------------------------------------------------------------------------
 */

/* Where a name of the file would stand in messages and in `caller`, stands that of the shell. */
static void clear_call_stack(void)
{
	static const char *const names[] = {"FUNCNAME", "BASH_SOURCE", "BASH_LINENO"};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		SHELL_VAR *variable = find_variable(names[i]);

		if (variable && array_p(variable))
			array_flush(array_cell(variable));
	}
}

/* One complete command after another, each read when the one before it is over. */
static void run_commands(bool *ret_has_run)
{
	COMMAND *command;

	while (!EOF_Reached) {
		executing = 0;
		if (temporary_env)
			dispose_used_env_vars();
		if (parse_command() != 0) {
			*ret_has_run = true;
			last_command_exit_value = EX_BADUSAGE;
			set_pipestatus_from_exit(last_command_exit_value);
			return;
		}
		command = global_command;
		global_command = NULL;
		if (command && !read_but_dont_execute) {
			*ret_has_run = true;
			current_command_number++;
			executing = 1;
			stdin_redir = 0;
			execute_command(command);
		}
		dispose_command(command);
	}
}

/* Until its last line, or what jumps here for good. Its status. */
static int run_text(char *text)
{
	static bool has_run;
	int code;

	has_run = false;
	reset_parser();
	push_stream(1);
	with_input_from_string(text, "bash");
	code = setjmp_nosigs(top_level);
	if (code == DISCARD && getpid() == shell_pid) {
		/* One command was given up, and no more than that. */
		if (last_command_exit_value == EXECUTION_SUCCESS)
			last_command_exit_value = EXECUTION_FAILURE;
		restore_sigmask();
		code = NOT_JUMPED;
	}
	if (code == NOT_JUMPED)
		run_commands(&has_run);
	if (getpid() != shell_pid)
		subshell_exit(last_command_exit_value);
	if (signal_is_trapped(EXIT_TRAP))
		last_command_exit_value = run_exit_trap();
	/* `$?` is of the program before until a command has run. */
	return has_run ? last_command_exit_value : EXECUTION_SUCCESS;
}

/* Of the program, whatever it was in the middle of, only what it has defined is left. */
static void unwind(void)
{
	if (running_trap > 0)
		run_trap_cleanup(running_trap - 1);
	running_trap = 0;
	restore_sigmask();
	reset_parser();
	top_level_cleanup();
	if (variable_context != 0)
		reset_local_contexts();
	executing_builtin = executing_command_builtin = 0;
	read_but_dont_execute = 0; /* nothing could undo it */
	pop_stream();
	clear_call_stack();
}

/* The EXIT trap is of the program that has set it. */
static void drop_exit_trap(void)
{
	run_trap_cleanup(EXIT_TRAP);
	restore_default_signal(EXIT_TRAP);
}

static void run(struct program *program)
{
	int status;

	enter_variables(program);
	status = run_text(program->text);
	close_streams();
	unwind();
	drop_exit_trap();
	for (size_t i = program->variable_count; i-- > 0;)
		leave_variable(&program->variables[i]);
	free(program->variables);
	free(program->message);
	free(program->text);
	answer(status);
}

/* --- Life --------------------------------------------------------------------------------------
 */

static void close_in_child(void)
{
	close(control_fd);
}

/* Where the agent says on which descriptor the channel is (guest-agent/language.h). */
static const char name_of_fd[] = "EXECSANDBOX_GO_FD";
/* Set in one that has waited (guest-agent/runners/shell.sh). */
static const char name_of_stay[] = "EXECSANDBOX_STAY";

/* Neither children nor other processes of the user come to the channel. */
static void hide_control(const char *fd)
{
	control_fd = (int)strtol(fd, NULL, 10);
	unbind_variable(name_of_fd);
	if (fcntl(control_fd, F_SETFD, FD_CLOEXEC) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ||
	    pthread_atfork(NULL, NULL, close_in_child))
		give_up();
}

/* Called when the module is loaded: the script that does it is over with that. A program that does
 * it has no channel, and fails. */
int resident_builtin_load(char *name);
int resident_builtin_load(char *name)
{
	const char *fd = get_string_value(name_of_fd);
	bool has_waited = find_variable(name_of_stay);
	char word;

	(void)name;
	if (!fd)
		return 0;
	shell_pid = getpid();
	hide_control(fd);
	unbind_variable(name_of_stay);
	top_level_cleanup();
	clear_call_stack();
	if (has_waited)
		receive(&word, 1);
	for (;;) {
		struct program program = receive_program();

		run(&program);
	}
}

static int refuse(WORD_LIST *words)
{
	(void)words;
	return EXECUTION_FAILURE;
}

/* Without one the module is not loaded. */
struct builtin resident_struct = {.name = "resident", .function = refuse};
