/* SPDX-License-Identifier: Apache-2.0 */
/* What the daemon needs from the file system before it serves. */
#include "daemon/setup.h"

#include "base/log.h"
#include "base/util.h"
#include "daemon/launcher/start.h"
#include "daemon/launcher/vm_dir.h"
#include "daemon/privileges.h"
#include "daemon/rpc/peer.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#define RESULTS_DIR   "results"
#define TEMPLATES_DIR "templates"
#define LOCK_FILE     "lock"
/* Connections that wait to be accepted: a burst of clients, not a limit on them. */
#define BACKLOG 128

static int failed(const char *what, const char *path, int error)
{
	log_error(NULL, "Cannot %s '%s': %s", what, path, strerror(-error));
	return error;
}

/* mkdir -p, of which the last directory gets `mode`. 1 when that one is new, 0 when it was there,
 * or -errno. */
static int make_path(const char *path, mode_t mode)
{
	_cleanup_free_ char *copy = strdup(path);

	if (!copy)
		return -ENOMEM;
	for (char *p = copy + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdir(copy, 0755) < 0 && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	if (mkdir(copy, mode) == 0)
		return 1;
	return errno == EEXIST ? 0 : -errno;
}

/* Hands a directory to the user we will become. Nothing to do when we are not root. */
static int give_to_user(int fd, const struct config *config)
{
	struct account user;
	int r;

	if (geteuid() != 0)
		return 0;
	r = account_find_user(config->user, &user);
	if (r == -ESRCH)
		log_error(NULL,
			  "There is no user '%s': make it with systemd-sysusers and "
			  "conf/sysusers.d/execsandbox.conf, or set user",
			  config->user);
	if (r < 0)
		return r;
	return fchown(fd, user.uid, user.gid) < 0 ? -errno : 0;
}

/* A directory that was there keeps its owner: it may be anything, /run or /tmp for one. */
static int open_dir(const char *path, mode_t mode, const struct config *config, int *ret_fd)
{
	_cleanup_close_ int fd = -1;
	int is_new = make_path(path, mode), r;

	if (is_new < 0)
		return failed("make directory", path, is_new);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return failed("open directory", path, -errno);
	r = is_new ? give_to_user(fd, config) : 0;
	if (r < 0)
		return failed("give directory to the daemon's user", path, r);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static int take_lock(struct setup *setup, const struct config *config)
{
	setup->lock_fd = openat(setup->runtime_fd, LOCK_FILE,
				O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (setup->lock_fd < 0)
		return failed("open the lock in", config->runtime_dir, -errno);
	if (flock(setup->lock_fd, LOCK_EX | LOCK_NB) == 0)
		return give_to_user(setup->lock_fd, config);
	if (errno == EWOULDBLOCK)
		log_error(NULL, "Another daemon runs in '%s': stop it, or set runtime_dir",
			  config->runtime_dir);
	return -EBUSY;
}

static int open_subdir(int dir_fd, const char *name, const char *path, const struct config *config,
		       int *ret_fd)
{
	if (mkdirat(dir_fd, name, 0700) < 0 && errno != EEXIST)
		return failed("make a directory in", path, -errno);
	*ret_fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (*ret_fd < 0)
		return failed("open a directory in", path, -errno);
	return give_to_user(*ret_fd, config);
}

/* Only now may we write there and see our own program's directory. One that listens, of a daemon
 * that is gone or of a unit, is taken as it is. */
static int prepare_launcher(struct setup *setup, const struct config *config)
{
	struct account user = {.uid = (uid_t)-1};
	int r = launcher_program_open();

	setup->launcher_program_fd = MAX(r, -1);
	r = 0;
	if (launcher_is_there(setup->runtime_fd))
		return 0;
	if (geteuid() == 0)
		r = account_find_user(config->user, &user);
	if (r == 0)
		r = launcher_listen(setup->runtime_fd, user.uid);
	if (r < 0)
		return failed("make the launcher's socket in", config->runtime_dir, r);
	setup->launcher_listen_fd = r;
	return 0;
}

/* Nobody listens on a stale socket; one that answers belongs to somebody, and so does a file that
 * is no socket, to which connect(2) says ECONNREFUSED as well. */
static int remove_stale(int dir_fd, const char *name)
{
	_cleanup_close_ int fd = -1;
	struct stat st;

	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -ENOTSOCK;
	fd = unix_connect_at(dir_fd, name);
	if (fd >= 0)
		return -EADDRINUSE;
	if (fd == -ECONNREFUSED)
		return unlinkat(dir_fd, name, 0) < 0 ? -errno : 0;
	return fd == -ENOENT ? 0 : fd;
}

static int set_socket_access(int dir_fd, const char *name, const struct config *config)
{
	gid_t group;

	if (geteuid() == 0 && *config->socket_group) {
		if (account_find_group(config->socket_group, &group) < 0)
			log_warning(NULL, "There is no group '%s': only root can connect",
				    config->socket_group);
		else if (fchownat(dir_fd, name, 0, group, AT_SYMLINK_NOFOLLOW) < 0)
			return -errno;
	}
	return fchmodat(dir_fd, name, 0660, 0) < 0 ? -errno : 0;
}

static int open_socket(struct setup *setup, const struct config *config)
{
	_cleanup_free_ char *dir = strdup(config->socket), *base = strdup(config->socket);
	const char *name;
	mode_t old;
	int r;

	if (!dir || !base)
		return -ENOMEM;
	name = basename(base);
	setup->socket_dir_fd = open(dirname(dir), O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (setup->socket_dir_fd < 0)
		return failed("open the directory of", config->socket, -errno);
	r = remove_stale(setup->socket_dir_fd, name);
	if (r == -EADDRINUSE)
		log_error(NULL, "Another daemon listens on '%s': stop it, or set socket",
			  config->socket);
	else if (r < 0)
		failed("replace the old socket", config->socket, r);
	if (r < 0)
		return r;
	old = umask(0177);
	setup->listen_fd = unix_listen_at(setup->socket_dir_fd, name, BACKLOG);
	umask(old);
	if (setup->listen_fd < 0)
		return failed("listen on", config->socket, setup->listen_fd);
	r = set_socket_access(setup->socket_dir_fd, name, config);
	return r < 0 ? failed("set the access of", config->socket, r) : 0;
}

static int find_admin_group(const struct config *config, gid_t *ret)
{
	int r;

	*ret = RPC_NO_GID;
	if (!*config->admin_group)
		return 0;
	r = account_find_group(config->admin_group, ret);
	if (r < 0)
		log_error(NULL, "There is no group '%s' (admin_group)", config->admin_group);
	return r;
}

int setup_prepare(const struct config *config, bool own_socket, struct setup *ret)
{
	_cleanup_close_ int state_fd = -1;
	int r = find_admin_group(config, &ret->admin_gid);

	if (r == 0)
		r = open_dir(config->state_dir, 0700, config, &state_fd);
	if (r == 0)
		r = open_subdir(state_fd, TEMPLATES_DIR, config->state_dir, config,
				&ret->templates_fd);
	if (r == 0)
		r = open_dir(config->runtime_dir, 0755, config, &ret->runtime_fd);
	if (r == 0)
		r = take_lock(ret, config);
	if (r == 0)
		r = open_subdir(ret->runtime_fd, VM_DIR_PARENT, config->runtime_dir, config,
				&ret->vms_fd);
	if (r == 0)
		r = open_subdir(ret->runtime_fd, RESULTS_DIR, config->runtime_dir, config,
				&ret->results_fd);
	if (r == 0 && own_socket)
		r = prepare_launcher(ret, config);
	ret->images_fd = open(config->images_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (r == 0 && own_socket)
		r = open_socket(ret, config);
	return r;
}

void setup_finish(const struct config *config, struct setup *setup)
{
	if (setup->listen_fd >= 0) {
		_cleanup_free_ char *base = strdup(config->socket);

		/* Where the directory is not ours to write, the next start takes the stale socket
		 * away. */
		if (base && unlinkat(setup->socket_dir_fd, basename(base), 0) < 0)
			log_debug(NULL, "Socket '%s' stays: %s", config->socket, strerror(errno));
	}
	setup->listen_fd = close_fd(setup->listen_fd);
	setup->socket_dir_fd = close_fd(setup->socket_dir_fd);
	setup->images_fd = close_fd(setup->images_fd);
	setup->templates_fd = close_fd(setup->templates_fd);
	setup->vms_fd = close_fd(setup->vms_fd);
	setup->results_fd = close_fd(setup->results_fd);
	setup->launcher_listen_fd = close_fd(setup->launcher_listen_fd);
	setup->launcher_program_fd = close_fd(setup->launcher_program_fd);
	setup->lock_fd = close_fd(setup->lock_fd);
	setup->runtime_fd = close_fd(setup->runtime_fd);
}
