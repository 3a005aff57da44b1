/* SPDX-License-Identifier: Apache-2.0 */
/* The templates of this host: one per language and memory size, loaded or built when wanted. */
#include "daemon/template/templates.h"

#include "base/log.h"
#include "daemon/template/identity.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* A build that failed is not tried again before this: a host that cannot do it would do nothing
 * else. */
#define RETRY_US 30000000u
/* So many clones in a row fail by accident only when the host is in trouble. */
#define CLONE_FAILURES_MAX 3

struct templates {
	struct templates_config config;
	struct loop *loop; /* outlives the host's VMs */
	struct template *first;
	struct template *working; /* LOADING or BUILDING */
	struct store_job *load, *save;
	struct builder *builder;
	uint64_t started_us; /* of `working` */
	uint64_t memory_mb;
	char *unsupported;
	struct template_image *saving; /* kept until it is on disk */
	struct template *saved;        /* whose that is */
	struct defer next_later;
};

static const char *const state_names[] = {
	[TEMPLATE_ABSENT] = "absent",   [TEMPLATE_QUEUED] = "queued",
	[TEMPLATE_LOADING] = "loading", [TEMPLATE_BUILDING] = "building",
	[TEMPLATE_READY] = "ready",     [TEMPLATE_FAILED] = "failed",
};
static_assert(ELEMENTSOF(state_names) == TEMPLATE_FAILED + 1, "every state has a name");

const char *template_state_name(enum template_state state)
{
	return state_names[state];
}

static void notify(struct templates *templates, struct template *template)
{
	if (templates->config.on_change)
		templates->config.on_change(templates->config.user, template);
}

static void set_state(struct template *template, enum template_state state)
{
	log_debug("template", "%s: %s -> %s", template->name, state_names[template->state],
		  state_names[state]);
	template->state = state;
	notify(template->templates, template);
}

static void work_next(void *user);

static void schedule(struct templates *templates)
{
	loop_defer(templates->loop, &templates->next_later, work_next, templates);
}

/* --- Images. --- */

struct template_image *template_image_ref(struct template *template)
{
	if (template->state != TEMPLATE_READY)
		return NULL;
	template->image->refs++;
	template->used_us = now_us();
	template->used_ns = realtime_ns();
	return template->image;
}

void template_image_unref(struct template_image *image)
{
	struct templates *templates;

	if (!image || --image->refs > 0)
		return;
	templates = image->templates;
	templates->memory_mb -= image->vm.memory_mb;
	vm_image_fini(&image->vm);
	free(image);
	notify(templates, NULL);
}

static void drop_image(struct template *template)
{
	template_image_unref(TAKE_PTR(template->image));
}

/* The least recently used template that may go, but for `keep`. */
static struct template *find_victim(struct templates *templates, const struct template *keep)
{
	struct template *victim = NULL;

	for (struct template *at = templates->first; at; at = at->next)
		if (at != keep && !at->is_pinned && at->state == TEMPLATE_READY &&
		    !at->is_rebuilding && (!victim || at->used_us < victim->used_us))
			victim = at;
	return victim;
}

static void make_room(struct templates *templates, const struct template *keep)
{
	struct template *victim;

	while (templates->memory_mb + keep->memory_mb > templates->config.memory_mb &&
	       (victim = find_victim(templates, keep))) {
		log_info("template", "%s: evicted from memory for %s", victim->name, keep->name);
		set_state(victim, TEMPLATE_ABSENT);
		drop_image(victim);
	}
}

/* --- Who waits for one. --- */

void template_await(struct template *template, struct template_waiter *waiter)
{
	LIST_INSERT_HEAD(&template->waiters, waiter, link);
}

void template_await_cancel(struct template_waiter *waiter)
{
	LIST_REMOVE(waiter, link);
}

static void tell_waiters(struct template *template, const struct rpc_error *error)
{
	struct template_waiter *waiter;

	while ((waiter = LIST_FIRST(&template->waiters))) {
		LIST_REMOVE(waiter, link);
		waiter->on_built(waiter->user, template, error);
	}
}

/* --- One after the other: load, else build, then store. --- */

static void fail(struct template *template, struct rpc_error *error_take)
{
	rpc_error_free(template->error);
	template->error = error_take;
	template->failed_us = now_us();
	template->is_rebuilding = false;
	log_warning("template", "%s: not ready, its VMs boot: %s", template->name,
		    error_take->message);
	set_state(template, template->image ? TEMPLATE_READY : TEMPLATE_FAILED);
	tell_waiters(template, template->error);
}

/* False when it failed instead. */
static bool become_ready(struct template *template, struct vm_image *image_take)
{
	struct template_image *image = calloc(1, sizeof(*image));

	if (!image) {
		vm_image_fini(image_take);
		fail(template, rpc_error_new(RPC_VM_TRANSIENT, "Out of memory"));
		return false;
	}
	*image = (struct template_image){
		.vm = *image_take, .templates = template->templates, .refs = 1};
	template->templates->memory_mb += image->vm.memory_mb;
	drop_image(template);
	template->image = image;
	rpc_error_free(TAKE_PTR(template->error));
	template->ready_ns = realtime_ns();
	template->used_us = now_us();
	template->clone_failures = 0;
	set_state(template, TEMPLATE_READY);
	return true;
}

static void on_saved(void *user, int error, const struct store_hashes *hashes, const char *why)
{
	struct templates *templates = user;
	struct template *template = templates->saved;

	templates->save = NULL;
	if (error < 0) {
		log_warning("template", "%s: not stored, the next daemon builds it again: %s",
			    template->name, why);
	} else {
		template->is_stored = true;
		if (template->image == templates->saving)
			template->hashes = *hashes;
	}
	template_image_unref(TAKE_PTR(templates->saving));
	schedule(templates);
}

static json_t *identity_of(const struct template *template, int *ret_error)
{
	const struct templates_config *config = &template->templates->config;

	return identity_describe(config->host, *config->images_manifest, template->language,
				 template->memory_mb, ret_error);
}

/* An image that was made anew because it is wanted anew: the store would keep what it has. */
static void discard_stored(struct template *template)
{
	int r = store_remove(template->templates->config.store, template->name);

	template->is_stored = false;
	if (r < 0 && r != -ENOENT)
		log_warning("template", "%s: cannot be removed from the store: %s", template->name,
			    strerror(-r));
}

static void save(struct template *template, bool is_anew)
{
	struct templates *templates = template->templates;
	json_t *identity;
	int r;

	memset(&template->hashes, 0, sizeof(template->hashes));
	if (!templates->config.store)
		return;
	if (is_anew)
		discard_stored(template);
	identity = identity_of(template, &r);
	templates->saving = template_image_ref(template);
	templates->saved = template;
	if (identity)
		r = store_save(templates->config.store, template->name, identity,
			       &templates->saving->vm, on_saved, templates, &templates->save);
	json_decref(identity);
	if (r == 0)
		return;
	log_warning("template", "%s: cannot be stored: %s", template->name, strerror(-r));
	template_image_unref(TAKE_PTR(templates->saving));
}

static void log_build(const struct template *template)
{
	const struct builder_times *times = &template->times;

	log_info("template", "%s: built in %ju ms (boot %ju, rehearsal %ju, save %ju, seal %ju)",
		 template->name,
		 (uintmax_t)(times->boot_us + times->rehearsal_us + times->save_us +
			     times->seal_us) /
			 1000,
		 (uintmax_t)times->boot_us / 1000, (uintmax_t)times->rehearsal_us / 1000,
		 (uintmax_t)times->save_us / 1000, (uintmax_t)times->seal_us / 1000);
}

/* What no other size or language will do better: told once, and not tried again. */
static void note_unsupported(struct templates *templates, const struct rpc_error *error,
			     const struct builder_times *times)
{
	bool has_booted = times->boot_us > 0;

	if (error->code != RPC_VM_CONFIG || !has_booted || templates->unsupported)
		return;
	templates->unsupported = strdup(error->message);
	log_error("template", "This host makes no templates, every VM boots: %s", error->message);
}

static void on_built(void *user, struct rpc_error *error_take, struct vm_image *image_take,
		     const struct builder_times *times)
{
	struct templates *templates = user;
	struct template *template = TAKE_PTR(templates->working);
	bool is_anew = template->is_rebuilding;

	templates->builder = NULL;
	template->is_rebuilding = false;
	templates->memory_mb -= template->memory_mb;
	if (error_take) {
		note_unsupported(templates, error_take, times);
		fail(template, error_take);
	} else {
		template->times = *times;
		log_build(template);
		if (become_ready(template, image_take)) {
			save(template, is_anew);
			tell_waiters(template, NULL);
		}
	}
	schedule(templates);
}

static void build(struct template *template)
{
	struct templates *templates = template->templates;
	struct rpc_error *error;

	if (templates->unsupported) {
		fail(template, rpc_error_new(RPC_VM_CONFIG, "%s", templates->unsupported));
		schedule(templates);
		return;
	}
	make_room(templates, template);
	templates->working = template;
	/* Its VM's memory is the image's. */
	templates->memory_mb += template->memory_mb;
	if (!template->is_rebuilding || !template->image)
		set_state(template, TEMPLATE_BUILDING);
	else
		notify(templates, NULL);
	error = builder_start(templates->config.host, template->language, template->memory_mb,
			      on_built, templates, &templates->builder);
	if (!error)
		return;
	templates->memory_mb -= template->memory_mb;
	templates->working = NULL;
	fail(template, error);
	schedule(templates);
}

static void on_loaded(void *user, int error, struct vm_image *image_take,
		      const struct store_hashes *hashes, const char *why)
{
	struct templates *templates = user;
	struct template *template = TAKE_PTR(templates->working);

	templates->load = NULL;
	templates->memory_mb -= template->memory_mb;
	if (error < 0) {
		if (error != -ENOENT || *why)
			log_notice("template", "%s: not loaded: %s", template->name,
				   *why ? why : strerror(-error));
		build(template);
		return;
	}
	template->load_us = now_us() - templates->started_us;
	template->hashes = *hashes;
	template->is_stored = true;
	log_info("template", "%s: loaded in %ju ms", template->name,
		 (uintmax_t) template->load_us / 1000);
	(void)become_ready(template, image_take);
	schedule(templates);
}

static int load(struct template *template)
{
	struct templates *templates = template->templates;
	json_t *identity;
	int r = -ENOENT;

	if (!templates->config.store || template->is_rebuilding)
		return r;
	identity = identity_of(template, &r);
	if (!identity)
		return r;
	make_room(templates, template);
	r = store_load(templates->config.store, template->name, template->memory_mb, identity,
		       on_loaded, templates, &templates->load);
	json_decref(identity);
	if (r < 0)
		return r;
	templates->working = template;
	templates->started_us = now_us();
	/* What is read goes into the memory of the image to be. */
	templates->memory_mb += template->memory_mb;
	set_state(template, TEMPLATE_LOADING);
	return 0;
}

static bool is_due(const struct template *template)
{
	return template->state == TEMPLATE_QUEUED ||
	       (template->state == TEMPLATE_READY && template->is_rebuilding);
}

/* Default sizes first: they are what most runs wait for. */
static struct template *find_due(const struct templates *templates)
{
	struct template *found = NULL;

	for (struct template *at = templates->first; at; at = at->next)
		if (is_due(at) && (!found || (at->is_pinned && !found->is_pinned)))
			found = at;
	return found;
}

static void work_next(void *user)
{
	struct templates *templates = user;
	struct template *template = find_due(templates);

	if (templates->working || !template)
		return;
	/* One image on its way to the disk is enough: each is held in memory until it is there. */
	if (templates->saving && template->is_rebuilding)
		return;
	if (load(template) < 0)
		build(template);
}

void template_want(struct template *template)
{
	bool may_retry = template->state == TEMPLATE_FAILED && !template->templates->unsupported &&
			 now_us() - template->failed_us >= RETRY_US;

	if (template->state != TEMPLATE_ABSENT && !may_retry)
		return;
	if (template->templates->unsupported) {
		fail(template,
		     rpc_error_new(RPC_VM_CONFIG, "%s", template->templates->unsupported));
		return;
	}
	set_state(template, TEMPLATE_QUEUED);
	schedule(template->templates);
}

bool template_is_coming(const struct template *template)
{
	return template->state == TEMPLATE_QUEUED || template->state == TEMPLATE_LOADING ||
	       template->state == TEMPLATE_BUILDING;
}

void template_rebuild(struct template *template)
{
	if (template->state == TEMPLATE_BUILDING)
		return;
	/* One that is being loaded is made anew behind that. */
	template->is_rebuilding = true;
	template->clone_failures = 0;
	if (template->state == TEMPLATE_ABSENT || template->state == TEMPLATE_FAILED)
		set_state(template, TEMPLATE_QUEUED);
	schedule(template->templates);
}

/* A new one does no better: its VMs boot, until it is tried again. */
static void give_up(struct template *template)
{
	struct template_image *image = TAKE_PTR(template->image);

	fail(template, rpc_error_new(RPC_VM_TRANSIENT,
				     "Clones of it do not work, also since it was made anew"));
	template_image_unref(image);
}

void template_report(struct template *template, bool is_good)
{
	template->clone_failures = is_good ? 0 : template->clone_failures + 1;
	template->is_suspect &= !is_good;
	if (template->clone_failures < CLONE_FAILURES_MAX || template->state != TEMPLATE_READY ||
	    template->is_rebuilding)
		return;
	if (template->is_suspect) {
		give_up(template);
		return;
	}
	log_warning("template", "%s: %u clones in a row failed, making it anew", template->name,
		    template->clone_failures);
	template->is_suspect = true;
	template_rebuild(template);
}

int template_remove(struct template *template)
{
	struct templates *templates = template->templates;
	struct rpc_error *error;
	int r = 0;

	if (template_is_coming(template) || template->is_rebuilding || templates->saved == template)
		if (templates->working == template || templates->saving)
			return -EBUSY;
	if (templates->config.store)
		r = store_remove(templates->config.store, template->name);
	if (r < 0 && r != -ENOENT)
		return r;
	template->is_stored = template->is_rebuilding = false;
	memset(&template->hashes, 0, sizeof(template->hashes));
	rpc_error_free(TAKE_PTR(template->error));
	set_state(template, TEMPLATE_ABSENT);
	drop_image(template);
	error = rpc_error_new(RPC_VM_TRANSIENT, "it was removed meanwhile");
	tell_waiters(template, error);
	rpc_error_free(error);
	return 0;
}

/* --- All of them. --- */

struct template *templates_find(struct templates *templates, const char *name)
{
	for (struct template *at = templates->first; at; at = at->next)
		if (strcmp(at->name, name) == 0)
			return at;
	return NULL;
}

struct template *templates_next(const struct templates *templates, const struct template *after)
{
	return after ? after->next : templates->first;
}

struct template *templates_get(struct templates *templates, const char *language,
			       uint64_t memory_mb)
{
	char name[STORE_NAME_MAX];
	struct template *template, **at = &templates->first;

	snprintf(name, sizeof(name), "%s-%ju", language, (uintmax_t)memory_mb);
	template = templates_find(templates, name);
	if (template)
		return template;
	template = calloc(1, sizeof(*template));
	if (!template)
		return NULL;
	template->templates = templates;
	template->memory_mb = memory_mb;
	memcpy(template->name, name, sizeof(name));
	snprintf(template->language, sizeof(template->language), "%s", language);
	while (*at)
		at = &(*at)->next;
	*at = template;
	return template;
}

/* "python-256" of the store, which may know more than this daemon was asked for. */
static struct template *find_stored(struct templates *templates, const char *name)
{
	const char *dash = strrchr(name, '-');
	char language[sizeof(((struct template *)NULL)->language)];
	char again[STORE_NAME_MAX + 32];
	uint64_t memory_mb;

	if (!dash || (size_t)(dash - name) >= sizeof(language))
		return NULL;
	snprintf(language, sizeof(language), "%.*s", (int)(dash - name), name);
	memory_mb = strtoull(dash + 1, NULL, 10);
	snprintf(again, sizeof(again), "%s-%ju", language, (uintmax_t)memory_mb);
	return strcmp(again, name) == 0 ? templates_get(templates, language, memory_mb) : NULL;
}

void templates_look(struct templates *templates)
{
	struct store_entry *entries = NULL;
	ssize_t count = templates->config.store ? store_list(templates->config.store, &entries) : 0;

	if (count < 0)
		return;
	for (struct template *at = templates->first; at; at = at->next)
		at->is_stored = false;
	for (ssize_t i = 0; i < count; i++) {
		struct template *template = find_stored(templates, entries[i].name);

		if (!template)
			continue;
		template->is_stored = true;
		template->used_ns = MAX(template->used_ns, entries[i].used_ns);
	}
	free(entries);
}

unsigned template_clones(const struct template *template)
{
	const struct template_image *image = template->image;

	if (!image)
		return 0;
	/* The template's own reference, and the one of a save that runs. */
	return image->refs - 1 - (template->templates->saving == image);
}

uint64_t templates_memory_mb(const struct templates *templates)
{
	return templates->memory_mb;
}

uint64_t templates_room_mb(const struct templates *templates)
{
	uint64_t pinned_mb = 0;

	for (const struct template *at = templates->first; at; at = at->next)
		pinned_mb += at->is_pinned ? at->memory_mb : 0;
	return templates->config.memory_mb - MIN(pinned_mb, templates->config.memory_mb);
}

const char *templates_unsupported(const struct templates *templates)
{
	return templates->unsupported;
}

int templates_create(const struct templates_config *config, struct templates **ret)
{
	struct templates *templates = calloc(1, sizeof(*templates));

	if (!templates)
		return -ENOMEM;
	templates->config = *config;
	templates->loop = config->host->loop;
	*ret = templates;
	return 0;
}

void templates_destroy(struct templates *templates)
{
	if (!templates)
		return;
	templates->config.on_change = NULL;
	loop_defer_cancel(templates->loop, &templates->next_later);
	builder_destroy(templates->builder);
	if (templates->load)
		store_cancel(templates->load);
	if (templates->save)
		store_cancel(templates->save);
	template_image_unref(templates->saving);
	while (templates->first) {
		struct template *template = templates->first;

		templates->first = template->next;
		rpc_error_free(template->error);
		template_image_unref(template->image);
		free(template);
	}
	free(templates->unsupported);
	free(templates);
}
