/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a saved machine depends on: a template made with another QEMU, image or machine is not
 * loaded but made anew.
 */
#ifndef DAEMON_TEMPLATE_IDENTITY_H
#define DAEMON_TEMPLATE_IDENTITY_H

#include "daemon/vm/vm.h"

#include <jansson.h>

/*
 * The identity of templates of this host: QEMU's file, the images (their files, and what their
 * manifest says of kernel, root image and agent), accelerator, processor and machine line. New, or
 * NULL when something cannot be looked at, which `ret_error` (-errno) tells.
 */
json_t *identity_describe(const struct vm_host *host, const json_t *images_manifest,
			  const char *language, uint64_t memory_mb, int *ret_error);

#endif
