/* SPDX-License-Identifier: Apache-2.0 */
/* The typed control messages of the guest link: tables of fields, one encoder, one strict decoder.
 */
#include "protocol/message.h"

#include "base/util.h"

#include <errno.h>
#include <string.h>

enum field_type {
	FIELD_U64,
	FIELD_BOOL,
	FIELD_TEXT,       /* char[size]: no NUL inside, shorter than size */
	FIELD_HEX,        /* uint8_t[size] as 2 * size digits */
	FIELD_STRINGS,    /* json_t *: array of strings without NUL */
	FIELD_STRING_MAP, /* json_t *: object of such strings */
	FIELD_NUMBERS,    /* json_t *: array of non-negative integers */
	FIELD_NUMBER_MAP, /* json_t *: object of non-negative integers */
};

struct field {
	const char *name;
	enum field_type type;
	bool is_required;
	size_t offset, size;
};

#define FIELD(kind, required, message, member)                             \
	{                                                                  \
#member, kind, required, offsetof(struct message, member), \
			sizeof(((struct message *)0)->member)              \
	}
#define NEEDS(kind, message, member) FIELD(kind, true, message, member)
#define MAY(kind, message, member)   FIELD(kind, false, message, member)
#define END_OF_FIELDS                        \
	{                                    \
		NULL, FIELD_U64, false, 0, 0 \
	}

static const struct field ready_fields[] = {
	NEEDS(FIELD_U64, msg_ready, version),
	NEEDS(FIELD_TEXT, msg_ready, agent),
	END_OF_FIELDS,
};

static const struct field hello_fields[] = {
	NEEDS(FIELD_U64, msg_hello, version),
	NEEDS(FIELD_HEX, msg_hello, nonce),
	NEEDS(FIELD_HEX, msg_hello, sync),
	MAY(FIELD_NUMBER_MAP, msg_hello, received),
	END_OF_FIELDS,
};

static const struct field hello_reply_fields[] = {
	NEEDS(FIELD_U64, msg_hello_reply, version),
	MAY(FIELD_NUMBER_MAP, msg_hello_reply, received),
	MAY(FIELD_NUMBERS, msg_hello_reply, execs),
	END_OF_FIELDS,
};

static const struct field identity_fields[] = {
	NEEDS(FIELD_U64, msg_identity, id),          NEEDS(FIELD_HEX, msg_identity, entropy),
	NEEDS(FIELD_U64, msg_identity, realtime_ns), NEEDS(FIELD_TEXT, msg_identity, hostname),
	NEEDS(FIELD_HEX, msg_identity, machine_id),  END_OF_FIELDS,
};

static const struct field ping_fields[] = {
	NEEDS(FIELD_U64, msg_ping, id),
	END_OF_FIELDS,
};

static const struct field exec_ref_fields[] = {
	NEEDS(FIELD_U64, msg_exec_ref, exec),
	END_OF_FIELDS,
};

static const struct field exec_fields[] = {
	NEEDS(FIELD_U64, msg_exec, exec),
	NEEDS(FIELD_TEXT, msg_exec, language),
	MAY(FIELD_STRINGS, msg_exec, args),
	MAY(FIELD_STRING_MAP, msg_exec, env),
	MAY(FIELD_TEXT, msg_exec, cwd),
	MAY(FIELD_U64, msg_exec, realtime_ns),
	NEEDS(FIELD_U64, msg_exec, stdout_limit),
	NEEDS(FIELD_U64, msg_exec, stderr_limit),
	MAY(FIELD_BOOL, msg_exec, stop_at_limit),
	MAY(FIELD_U64, msg_exec, memory_max_bytes),
	MAY(FIELD_U64, msg_exec, pids_max),
	MAY(FIELD_U64, msg_exec, cpu_seconds),
	MAY(FIELD_U64, msg_exec, disk_max_bytes),
	MAY(FIELD_BOOL, msg_exec, is_rehearsal),
	MAY(FIELD_BOOL, msg_exec, is_resident),
	MAY(FIELD_BOOL, msg_exec, is_background),
	MAY(FIELD_U64, msg_exec, terminal_rows),
	MAY(FIELD_U64, msg_exec, terminal_columns),
	END_OF_FIELDS,
};

static const struct field prepare_fields[] = {
	NEEDS(FIELD_U64, msg_prepare, id),       NEEDS(FIELD_TEXT, msg_prepare, language),
	NEEDS(FIELD_U64, msg_prepare, count),    MAY(FIELD_BOOL, msg_prepare, is_resident),
	MAY(FIELD_STRING_MAP, msg_prepare, env), END_OF_FIELDS,
};

static const struct field prepared_fields[] = {
	NEEDS(FIELD_U64, msg_prepared, id),
	NEEDS(FIELD_U64, msg_prepared, waiting),
	MAY(FIELD_TEXT, msg_prepared, detail),
	END_OF_FIELDS,
};

static const struct field kill_fields[] = {
	NEEDS(FIELD_U64, msg_kill, exec),
	NEEDS(FIELD_U64, msg_kill, grace_ms),
	END_OF_FIELDS,
};

static const struct field signal_fields[] = {
	NEEDS(FIELD_U64, msg_signal, exec),
	NEEDS(FIELD_U64, msg_signal, signal),
	END_OF_FIELDS,
};

static const struct field resize_fields[] = {
	NEEDS(FIELD_U64, msg_resize, exec),
	NEEDS(FIELD_U64, msg_resize, rows),
	NEEDS(FIELD_U64, msg_resize, columns),
	END_OF_FIELDS,
};

static const struct field exit_fields[] = {
	NEEDS(FIELD_U64, msg_exit, exec),
	NEEDS(FIELD_TEXT, msg_exit, reason),
	MAY(FIELD_U64, msg_exit, exit_code),
	MAY(FIELD_U64, msg_exit, signal),
	MAY(FIELD_TEXT, msg_exit, detail),
	NEEDS(FIELD_U64, msg_exit, stdout_bytes),
	NEEDS(FIELD_U64, msg_exit, stderr_bytes),
	MAY(FIELD_U64, msg_exit, cpu_user_us),
	MAY(FIELD_U64, msg_exit, cpu_system_us),
	MAY(FIELD_U64, msg_exit, memory_peak_bytes),
	MAY(FIELD_U64, msg_exit, page_faults_major),
	MAY(FIELD_U64, msg_exit, oom_kills),
	MAY(FIELD_U64, msg_exit, swap_peak_bytes),
	MAY(FIELD_U64, msg_exit, execute_us),
	MAY(FIELD_STRING_MAP, msg_exit, error),
	END_OF_FIELDS,
};

static const struct field memory_fields[] = {
	NEEDS(FIELD_U64, msg_memory, id),
	NEEDS(FIELD_U64, msg_memory, mem_total),
	NEEDS(FIELD_U64, msg_memory, mem_free),
	NEEDS(FIELD_U64, msg_memory, mem_available),
	MAY(FIELD_U64, msg_memory, mem_caches),
	MAY(FIELD_U64, msg_memory, mem_anonymous),
	MAY(FIELD_U64, msg_memory, swap_total),
	MAY(FIELD_U64, msg_memory, swap_free),
	MAY(FIELD_U64, msg_memory, swap_in),
	MAY(FIELD_U64, msg_memory, swap_out),
	MAY(FIELD_U64, msg_memory, zram_orig_data_size),
	MAY(FIELD_U64, msg_memory, zram_compr_data_size),
	MAY(FIELD_U64, msg_memory, zram_mem_used_total),
	MAY(FIELD_U64, msg_memory, zram_mem_limit),
	MAY(FIELD_U64, msg_memory, zram_mem_used_max),
	MAY(FIELD_U64, msg_memory, zram_same_pages),
	MAY(FIELD_U64, msg_memory, zram_pages_compacted),
	MAY(FIELD_U64, msg_memory, zram_huge_pages),
	MAY(FIELD_U64, msg_memory, psi_some_avg10_centi),
	MAY(FIELD_U64, msg_memory, psi_full_avg10_centi),
	MAY(FIELD_U64, msg_memory, psi_some_total_us),
	MAY(FIELD_U64, msg_memory, psi_full_total_us),
	MAY(FIELD_U64, msg_memory, user_current),
	MAY(FIELD_U64, msg_memory, user_peak),
	MAY(FIELD_U64, msg_memory, user_oom_kill),
	MAY(FIELD_U64, msg_memory, user_processes),
	MAY(FIELD_U64, msg_memory, user_stall_us),
	END_OF_FIELDS,
};

/* Members of `struct msg` share one address, so a message starts where the union starts. */
static const struct field *fields_of(uint8_t type)
{
	switch (type) {
	case FRAME_READY:
		return ready_fields;
	case FRAME_HELLO:
		return hello_fields;
	case FRAME_HELLO_REPLY:
		return hello_reply_fields;
	case FRAME_IDENTITY:
		return identity_fields;
	case FRAME_PING:
	case FRAME_PONG:
	case FRAME_MEMORY_GET:
	case FRAME_MEMORY_DROP:
	case FRAME_IDENTITY_DONE:
		return ping_fields;
	case FRAME_STARTED:
	case FRAME_EXIT_ACK:
		return exec_ref_fields;
	case FRAME_EXEC:
		return exec_fields;
	case FRAME_PREPARE:
		return prepare_fields;
	case FRAME_PREPARED:
		return prepared_fields;
	case FRAME_KILL:
		return kill_fields;
	case FRAME_SIGNAL:
		return signal_fields;
	case FRAME_RESIZE:
		return resize_fields;
	case FRAME_EXIT:
		return exit_fields;
	case FRAME_MEMORY:
		return memory_fields;
	default: /* `type` is a byte from the wire, not our enum */
		return NULL;
	}
}

static void *member_of(const struct msg *msg, const struct field *field)
{
	return (char *)&((struct msg *)msg)->ready + field->offset;
}

static json_t *encode_hex(const void *data, size_t size)
{
	char hex[2 * sizeof(((struct msg_identity *)0)->entropy) + 1];

	hex_encode(data, size, hex);
	return json_string(hex);
}

/* A new reference, or NULL when the field is absent (zero, empty) or memory is gone. */
static json_t *encode_field(const struct msg *msg, const struct field *field)
{
	const void *member = member_of(msg, field);
	uint64_t number;

	switch (field->type) {
	case FIELD_U64:
		memcpy(&number, member, sizeof(number));
		return number || field->is_required ? json_integer((json_int_t)number) : NULL;
	case FIELD_BOOL:
		return *(const bool *)member ? json_true() : NULL;
	case FIELD_TEXT:
		return *(const char *)member || field->is_required ? json_string(member) : NULL;
	case FIELD_HEX:
		return encode_hex(member, field->size);
	case FIELD_STRINGS:
	case FIELD_STRING_MAP:
	case FIELD_NUMBERS:
	case FIELD_NUMBER_MAP:
		return json_incref(*(json_t *const *)member);
	}
	return NULL;
}

ssize_t msg_encode(const struct msg *msg, char **ret)
{
	const struct field *fields = fields_of(msg->type);
	json_auto_t *object = json_object();
	_cleanup_free_ char *text = NULL;
	size_t len;

	if (!fields)
		return -EINVAL;
	if (!object)
		return -ENOMEM;
	for (const struct field *field = fields; field->name; field++) {
		json_t *value = encode_field(msg, field);

		if (value ? json_object_set_new(object, field->name, value) < 0
			  : field->is_required)
			return -ENOMEM;
	}
	text = json_dumps(object, JSON_COMPACT);
	if (!text)
		return -ENOMEM;
	len = strlen(text);
	if (len > FRAME_PAYLOAD_MAX)
		return -EMSGSIZE;
	*ret = TAKE_PTR(text);
	return (ssize_t)len;
}

static bool is_plain_string(const json_t *value)
{
	return json_is_string(value) &&
	       strlen(json_string_value(value)) == json_string_length(value);
}

static bool is_count(const json_t *value)
{
	return json_is_integer(value) && json_integer_value(value) >= 0;
}

/* Every element of an array or every value of an object passes `check`. */
static bool all_of(const json_t *container, bool (*check)(const json_t *))
{
	const char *key;
	json_t *value;
	size_t i;

	json_array_foreach (container, i, value) {
		if (!check(value))
			return false;
	}
	json_object_foreach ((json_t *)container, key, value) {
		if (!check(value))
			return false;
	}
	return true;
}

static bool decode_text(const struct field *field, const json_t *value, char *member)
{
	if (!is_plain_string(value) || json_string_length(value) >= field->size)
		return false;
	memcpy(member, json_string_value(value), json_string_length(value) + 1);
	return true;
}

static bool decode_json(json_t *value, bool is_right, bool (*check)(const json_t *),
			json_t **member)
{
	if (!is_right || !all_of(value, check))
		return false;
	*member = json_incref(value);
	return true;
}

static bool decode_field(struct msg *msg, const struct field *field, json_t *value)
{
	void *member = member_of(msg, field);
	uint64_t number;

	switch (field->type) {
	case FIELD_U64:
		if (!is_count(value))
			return false;
		number = (uint64_t)json_integer_value(value);
		memcpy(member, &number, sizeof(number));
		return true;
	case FIELD_BOOL:
		*(bool *)member = json_is_true(value);
		return json_is_boolean(value);
	case FIELD_TEXT:
		return decode_text(field, value, member);
	case FIELD_HEX:
		return is_plain_string(value) &&
		       hex_decode(json_string_value(value), member, field->size) == 0;
	case FIELD_STRINGS:
		return decode_json(value, json_is_array(value), is_plain_string, member);
	case FIELD_STRING_MAP:
		return decode_json(value, json_is_object(value), is_plain_string, member);
	case FIELD_NUMBERS:
		return decode_json(value, json_is_array(value), is_count, member);
	case FIELD_NUMBER_MAP:
		return decode_json(value, json_is_object(value), is_count, member);
	}
	return false;
}

int msg_decode(uint8_t type, const uint8_t *payload, size_t len, struct msg *ret, const char **why)
{
	const struct field *fields = fields_of(type);
	struct msg msg = {.type = type};
	json_auto_t *object = NULL;

	*why = "not a control message";
	if (!fields)
		return -EPROTO;
	*why = "payload is not one JSON object";
	object = json_loadb((const char *)payload, len, JSON_REJECT_DUPLICATES, NULL);
	if (!json_is_object(object))
		return -EPROTO;
	for (const struct field *field = fields; field->name; field++) {
		json_t *value = json_object_get(object, field->name);

		if (value ? !decode_field(&msg, field, value) : field->is_required) {
			*why = field->name;
			msg_clear(&msg);
			return -EPROTO;
		}
	}
	*ret = msg;
	return 0;
}

void msg_clear(struct msg *msg)
{
	const struct field *fields = fields_of(msg->type);

	for (const struct field *field = fields; field && field->name; field++) {
		if (field->type < FIELD_STRINGS)
			continue;
		json_t **member = member_of(msg, field);

		json_decref(*member);
		*member = NULL;
	}
}
