/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The templates of this host: one per language and memory size, loaded or built when wanted.
 *
 * Theory of operation: a template that is wanted is loaded from the store, or built and then
 * stored, one at a time, in the order they were wanted. Its image is shared by reference: clones
 * that are being made hold it, so that a template may be rebuilt, removed or evicted at any time.
 * The memory of images counts until the last reference goes; beyond memory_mb, templates that are
 * not pinned (the languages' default size) go, least recently used first.
 *
 * States:
 *   ABSENT   nobody has wanted it, or it was removed or evicted
 *   QUEUED   waits for its turn
 *   LOADING  from the store
 *   BUILDING there was none in the store
 *   READY    clones can be made
 *   FAILED   `error` says why; wanted again after a while, it is tried again
 * A READY template that is being rebuilt stays READY until the new image replaces its own.
 */
#ifndef DAEMON_TEMPLATE_TEMPLATES_H
#define DAEMON_TEMPLATE_TEMPLATES_H

#include "daemon/template/builder.h"
#include "daemon/template/store.h"

#include <sys/queue.h>

enum template_state {
	TEMPLATE_ABSENT,
	TEMPLATE_QUEUED,
	TEMPLATE_LOADING,
	TEMPLATE_BUILDING,
	TEMPLATE_READY,
	TEMPLATE_FAILED,
};

struct templates;
struct template;

/* Who waits until a template was made anew; embedded in its owner. */
struct template_waiter {
	LIST_ENTRY(template_waiter) link;
	/* `error` (borrowed) is NULL when it is READY. */
	void (*on_built)(void *user, struct template *template, const struct rpc_error *error);
	void *user;
};

/* An image that is in use. */
struct template_image {
	struct vm_image vm;
	struct templates *templates;
	unsigned refs;
};

struct template
{
	struct template *next;
	struct templates *templates;
	char name[STORE_NAME_MAX]; /* "python-256" */
	char language[32];
	uint64_t memory_mb;
	bool is_pinned; /* never evicted */
	enum template_state state;
	bool is_rebuilding; /* the store is not asked; READY stays until the new one is there */
	bool is_stored;     /* on disk */
	struct rpc_error *error;
	struct template_image *image;
	struct store_hashes hashes;  /* empty until stored or loaded */
	struct builder_times times;  /* of the last build by this daemon */
	uint64_t load_us;            /* how long the last load took */
	uint64_t ready_ns, used_ns;  /* wall clock; 0 = never */
	uint64_t used_us, failed_us; /* monotonic */
	unsigned clone_failures;     /* in a row */
	bool is_suspect; /* made anew since its clones failed, and none has done well since */
	LIST_HEAD(, template_waiter) waiters;
};

struct templates_config {
	struct vm_host *host;
	struct store *store;            /* borrowed; NULL: nothing is kept */
	json_t *const *images_manifest; /* borrowed; NULL there while there are no images */
	uint64_t memory_mb;             /* of all images together */
	/* A template's state, or the memory that templates hold, changed. */
	void (*on_change)(void *user, struct template *template);
	void *user;
};

/* 0 or -ENOMEM. */
int templates_create(const struct templates_config *config, struct templates **ret);

/* Its VMs must be gone (vm_destroy_all()), and its images not in use. NULL is fine. */
void templates_destroy(struct templates *templates);

/* The one of this language and size, new and ABSENT when it was never asked for. NULL without
 * memory. It stays until the end. */
struct template *templates_get(struct templates *templates, const char *language,
			       uint64_t memory_mb);

/* By name; NULL when there is none. */
struct template *templates_find(struct templates *templates, const char *name);

/* Looks at the store: `is_stored` of all is right then, and what is only there is known as ABSENT.
 * It reads a directory with a few files for each template. */
void templates_look(struct templates *templates);

/* Walks all of them: NULL to begin with. */
struct template *templates_next(const struct templates *templates, const struct template *after);

const char *template_state_name(enum template_state state);

/* Has it loaded or built, unless it is READY or on its way, or failed a moment ago. */
void template_want(struct template *template);

/* Is it on its way: worth waiting for? */
bool template_is_coming(const struct template *template);

/* The image of a READY template, used now; template_image_unref() it. NULL otherwise. */
struct template_image *template_image_ref(struct template *template);
void template_image_unref(struct template_image *image);

/* A clone became ready, or failed for a reason that may be the template's: after a few failures in
 * a row it is made anew. */
void template_report(struct template *template, bool is_good);

/* Makes it anew, whatever its state; one that is being made is anew already. What the store has of
 * it is replaced. */
void template_rebuild(struct template *template);

/* Behind template_rebuild(): on_built comes once, later: when it has ended or was removed. */
void template_await(struct template *template, struct template_waiter *waiter);

/* Waits no longer. Only before on_built came. */
void template_await_cancel(struct template_waiter *waiter);

/* How many VMs were cloned from its image and live. */
unsigned template_clones(const struct template *template);

/* Forgets it and removes it from the store. 0, -EBUSY while it is being loaded, made or stored, or
 * -errno. */
int template_remove(struct template *template);

/* What images hold, those of running builds too. MiB. */
uint64_t templates_memory_mb(const struct templates *templates);

/* What templates that are not pinned may hold in all. MiB. */
uint64_t templates_room_mb(const struct templates *templates);

/* NULL, or why this QEMU cannot make templates at all (then every VM boots). */
const char *templates_unsupported(const struct templates *templates);

#endif
