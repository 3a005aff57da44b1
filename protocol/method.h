/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The method table: one description of every JSON-RPC method.
 *
 * It validates calls in the daemon, prints help and completion in execsandboxctl, makes
 * rpc.discover's OpenRPC document and the tables of the man page. Data only: handlers live in
 * daemon/method. What is not built is not in it.
 */
#ifndef PROTOCOL_METHOD_H
#define PROTOCOL_METHOD_H

#include "protocol/rpc_error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum param_type {
	PARAM_STRING,
	PARAM_INTEGER,
	PARAM_NUMBER, /* integer or real */
	PARAM_BOOLEAN,
	PARAM_STRINGS,    /* array of strings */
	PARAM_STRING_MAP, /* object of strings */
	PARAM_OBJECT,     /* object described by `fields` */
	PARAM_OBJECTS,    /* array of such */
};

struct param {
	const char *name;
	enum param_type type;
	bool is_required;
	double min, max; /* numbers: value; strings: bytes; lists and maps: elements. Both 0: not
			    bounded here */
	const char *const *choices; /* NULL-terminated, for strings; NULL: any */
	const struct param *fields; /* for PARAM_OBJECT and _OBJECTS, ended by a NULL name */
	enum rpc_code violation;    /* the code of a value out of range; 0: RPC_INVALID_PARAMS */
	const char *help;
};

enum method_access {
	ACCESS_ANY,   /* every caller */
	ACCESS_OWNER, /* the handler looks up objects for the caller: others answer as if absent */
	ACCESS_ADMIN, /* root or the admin group */
};

struct method {
	const char *name;
	const char *help; /* one line */
	enum method_access access;
	const struct param *params; /* ended by a NULL name */
	const char *result;         /* one line: the shape of the result */
};

/* The languages of programs, ended by NULL. */
extern const char *const method_languages[];

/* All methods, sorted by name, ended by a NULL name. */
extern const struct method method_table[];

/* NULL when there is none of that name. `sandbox.x` finds `session.x`. */
const struct method *method_find(const char *name);

/* The same in another table. */
const struct method *method_find_in(const struct method *table, const char *name);

/*
 * Checks params (an object or NULL for none) against the table: unknown names, missing ones, types,
 * bounds. NULL when good; otherwise an error with `field` (dotted for nested ones) for the caller
 * to send.
 */
struct rpc_error *method_validate(const struct method *method, const json_t *params) WARN_UNUSED;

/* "string", "integer", … as JSON Schema says it. */
const char *param_type_name(enum param_type type);

/* JSON Schema of one parameter, with its bounds. New reference or NULL without memory. */
json_t *param_schema(const struct param *param);

#endif
