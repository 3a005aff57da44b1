/* SPDX-License-Identifier: Apache-2.0 */
/* Templates on disk: the queue of jobs, and what their worker answers. */
#include "daemon/template/store.h"

#include "base/log.h"
#include "base/util.h"
#include "daemon/template/manifest.h"
#include "daemon/template/store_dir.h"
#include "daemon/template/store_work.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

/*
 * Theory of operation: a job is QUEUED until those before it have ended, then RUNNING in the one
 * worker. One that is forgotten while it waits is gone at once; while it runs it becomes FORGOTTEN,
 * and goes when its worker ends. Jobs are started from the defer queue, so that no callback comes
 * during a call of the owner's.
 */
enum job_state {
	JOB_QUEUED,
	JOB_RUNNING,
	JOB_FORGOTTEN,
};

static const char *const job_state_names[] = {
	[JOB_QUEUED] = "queued",
	[JOB_RUNNING] = "running",
	[JOB_FORGOTTEN] = "forgotten",
};
static_assert(ELEMENTSOF(job_state_names) == JOB_FORGOTTEN + 1, "every state has a name");

/* A load has `on_loaded`, a save `on_saved`. */
struct store_job {
	struct store *store;
	struct store_job *next;
	enum job_state state;
	char name[STORE_NAME_MAX], key[STORE_KEY_SIZE];
	json_t *identity;
	uint64_t memory_mb;
	const struct vm_image *source; /* of a save; the owner's */
	int ram_fd, state_fd;          /* of a load that runs */
	store_loaded_fn on_loaded;
	store_saved_fn on_saved;
	void *user;
};

struct store {
	struct store_config config;
	struct store_job *first, **last; /* the first one is the one that runs */
	size_t job_count;
	struct worker *worker;
	struct defer starting;
};

static void on_worker_done(void *user, int result, const char *report, size_t report_len);

static void set_state(struct store_job *job, enum job_state state)
{
	log_debug(job->name, "Store job: %s -> %s", job_state_names[job->state],
		  job_state_names[state]);
	job->state = state;
}

static void job_free(struct store_job *job)
{
	json_decref(job->identity);
	close_fd(job->ram_fd);
	close_fd(job->state_fd);
	free(job);
}

static void unlink_job(struct store_job *job)
{
	struct store *store = job->store;

	for (struct store_job **at = &store->first; *at; at = &(*at)->next) {
		if (*at != job)
			continue;
		*at = job->next;
		if (store->last == &job->next)
			store->last = at;
		store->job_count--;
		return;
	}
}

/* The state that the worker has checked and put into its memfd. */
static int take_state(struct store_job *job, struct vm_image *image)
{
	struct stat st;
	ssize_t n;

	if (fstat(job->state_fd, &st) < 0)
		return -errno;
	if (st.st_size < 1 || st.st_size > (off_t)VM_IMAGE_STATE_MAX)
		return -EPROTO;
	image->state = malloc((size_t)st.st_size);
	if (!image->state)
		return -ENOMEM;
	n = pread(job->state_fd, image->state, (size_t)st.st_size, 0);
	if (n != (ssize_t)st.st_size)
		return n < 0 ? -errno : -EPROTO;
	image->state_len = (size_t)n;
	return 0;
}

static void answer_load(struct store_job *job, int error, struct store_report *report)
{
	struct vm_image image = VM_IMAGE_NONE;

	if (error == 0) {
		error = take_state(job, &image);
		if (error < 0)
			snprintf(report->why, sizeof(report->why),
				 "Cannot take the state of template '%s': %s", job->name,
				 strerror(-error));
	}
	if (error < 0) {
		vm_image_fini(&image);
		job->on_loaded(job->user, error, NULL, NULL, report->why);
		return;
	}
	image.ram_fd = TAKE_FD(job->ram_fd);
	image.memory_mb = job->memory_mb;
	memcpy(image.sync, report->sync, sizeof(image.sync));
	job->on_loaded(job->user, 0, &image, &report->hashes, report->why);
}

/* The callback is the last: it may queue jobs, and destroy the store. */
static void finish_job(struct store_job *job, int error, struct store_report *report)
{
	bool is_wanted = job->state != JOB_FORGOTTEN;

	unlink_job(job);
	if (is_wanted && job->on_loaded)
		answer_load(job, error, report);
	else if (is_wanted)
		job->on_saved(job->user, error, error == 0 ? &report->hashes : NULL, report->why);
	job_free(job);
}

static int make_files(struct store_job *job)
{
	job->ram_fd = vm_image_create_ram(job->name, job->memory_mb);
	if (job->ram_fd < 0)
		return job->ram_fd;
	job->state_fd = memfd_create("execsandbox-state", MFD_CLOEXEC);
	return job->state_fd < 0 ? -errno : 0;
}

/* `work` and what it points to are copied by the fork. */
static int start_worker(struct store_job *job)
{
	const struct store_config *config = &job->store->config;
	struct store_work work = {.dir_fd = config->dir_fd,
				  .path = config->path,
				  .max_bytes = config->max_bytes,
				  .name = job->name,
				  .key = job->key,
				  .identity = job->identity,
				  .memory_mb = job->memory_mb,
				  .image = job->source};
	int fds[3] = {config->dir_fd, -1, -1};

	if (job->on_saved) {
		fds[1] = job->source->ram_fd;
		return worker_start(config->loop, "store-save", fds, 2, store_work_save, &work,
				    on_worker_done, job->store, &job->store->worker);
	}
	fds[1] = work.ram_fd = job->ram_fd;
	fds[2] = work.state_fd = job->state_fd;
	return worker_start(config->loop, "store-load", fds, 3, store_work_load, &work,
			    on_worker_done, job->store, &job->store->worker);
}

static void start_next(void *user);

static void schedule(struct store *store)
{
	loop_defer(store->config.loop, &store->starting, start_next, store);
}

static void start_next(void *user)
{
	struct store *store = user;
	struct store_report report = {.why = ""};
	struct store_job *job = store->first;
	int r = 0;

	if (!job || store->worker)
		return;
	if (job->on_loaded)
		r = make_files(job);
	if (r == 0)
		r = start_worker(job);
	if (r == 0) {
		set_state(job, JOB_RUNNING);
		return;
	}
	snprintf(report.why, sizeof(report.why), "Cannot start work on template '%s': %s",
		 job->name, strerror(-r));
	schedule(store);
	finish_job(job, r, &report);
}

/* A worker that died in the middle leaves what it had begun to write. */
static void clean_up_after(struct store *store, const char *name, struct store_report *report)
{
	snprintf(report->why, sizeof(report->why), "The process that worked on template '%s' died",
		 name);
	store_dir_sweep(store->config.dir_fd);
}

static void on_worker_done(void *user, int result, const char *report, size_t report_len)
{
	struct store *store = user;
	struct store_report own = {.why = ""};

	store->worker = NULL;
	if (report_len == sizeof(own))
		memcpy(&own, report, sizeof(own));
	else
		clean_up_after(store, store->first->name, &own);
	schedule(store);
	finish_job(store->first, result, &own);
}

/* What is in it is as secret as the memory of the machines that come of it. */
static int check_directory(int dir_fd)
{
	struct stat st;

	if (fstat(dir_fd, &st) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode))
		return -ENOTDIR;
	return st.st_uid == geteuid() && (st.st_mode & 077) == 0 ? 0 : -EPERM;
}

int store_create(const struct store_config *config, struct store **ret)
{
	struct store *store;
	int r = check_directory(config->dir_fd);

	if (r == 0)
		r = store_dir_sweep(config->dir_fd);
	if (r < 0)
		return r;
	store = calloc(1, sizeof(*store));
	if (!store)
		return -ENOMEM;
	store->config = *config;
	store->last = &store->first;
	*ret = store;
	return 0;
}

void store_destroy(struct store *store)
{
	if (!store)
		return;
	loop_defer_cancel(store->config.loop, &store->starting);
	if (store->worker) {
		worker_destroy(TAKE_PTR(store->worker));
		store_dir_sweep(store->config.dir_fd);
	}
	while (store->first) {
		struct store_job *job = store->first;

		unlink_job(job);
		job_free(job);
	}
	free(store);
}

static int create_job(struct store *store, const char *name, uint64_t memory_mb,
		      const json_t *identity, void *user, struct store_job **ret)
{
	struct store_job *job;

	if (!store_name_is_valid(name) || !json_is_object(identity) || memory_mb == 0 ||
	    memory_mb > MANIFEST_MEMORY_MAX_MB)
		return -EINVAL;
	if (store->job_count == STORE_JOBS_MAX)
		return -EAGAIN;
	job = calloc(1, sizeof(*job));
	if (!job)
		return -ENOMEM;
	job->store = store;
	job->user = user;
	job->memory_mb = memory_mb;
	job->ram_fd = job->state_fd = -1;
	snprintf(job->name, sizeof(job->name), "%s", name);
	job->identity = json_deep_copy(identity);
	if (!job->identity || manifest_key(job->identity, job->key) < 0) {
		job_free(job);
		return -ENOMEM;
	}
	*ret = job;
	return 0;
}

static void queue_job(struct store_job *job)
{
	struct store *store = job->store;

	*store->last = job;
	store->last = &job->next;
	store->job_count++;
	schedule(store);
}

int store_load(struct store *store, const char *name, uint64_t memory_mb, const json_t *identity,
	       store_loaded_fn on_loaded, void *user, struct store_job **ret)
{
	struct store_job *job;
	int r = create_job(store, name, memory_mb, identity, user, &job);

	if (r < 0)
		return r;
	job->on_loaded = on_loaded;
	queue_job(job);
	*ret = job;
	return 0;
}

int store_save(struct store *store, const char *name, const json_t *identity,
	       const struct vm_image *image, store_saved_fn on_saved, void *user,
	       struct store_job **ret)
{
	struct store_job *job;
	int r;

	if (image->state_len == 0 || image->state_len > VM_IMAGE_STATE_MAX)
		return -EINVAL;
	r = create_job(store, name, image->memory_mb, identity, user, &job);
	if (r < 0)
		return r;
	job->on_saved = on_saved;
	job->source = image;
	queue_job(job);
	*ret = job;
	return 0;
}

void store_cancel(struct store_job *job)
{
	if (job->state == JOB_QUEUED) {
		unlink_job(job);
		job_free(job);
		return;
	}
	set_state(job, JOB_FORGOTTEN);
}

int store_remove(struct store *store, const char *name)
{
	struct store_entry *entries;
	ssize_t count = store_list(store, &entries);
	int result = -ENOENT;

	for (ssize_t i = 0; i < count; i++) {
		char dir_name[STORE_DIR_SIZE];
		int r;

		if (strcmp(entries[i].name, name) != 0)
			continue;
		store_dir_name(name, entries[i].key, dir_name);
		r = store_dir_discard(store->config.dir_fd, dir_name, -1);
		/* A first failure stays; one that another daemon removed was there. */
		if (result == -ENOENT || result == 0)
			result = r == -ENOENT ? 0 : r;
	}
	if (count < 0)
		return (int)count;
	free(entries);
	return result;
}

ssize_t store_list(struct store *store, struct store_entry **ret)
{
	return store_dir_scan(store->config.dir_fd, ret);
}
