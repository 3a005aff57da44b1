/* SPDX-License-Identifier: Apache-2.0 */
/* `file.*`: the files of a session. */
#include "daemon/method/methods.h"
#include "daemon/session/session_files.h"

static struct rpc_reply operate(struct rpc_call *call, enum file_kind kind, const json_t *params)
{
	struct rpc_error *error = method_require_accepting(rpc_call_context(call));
	struct session *session = error ? NULL : method_find_session(call, params, &error);

	return session ? session_file_call(session, call, kind, params)
		       : rpc_reply_error(call, error);
}

struct rpc_reply method_file_list(struct rpc_call *call, const json_t *params)
{
	return operate(call, FILE_LIST, params);
}

struct rpc_reply method_file_mkdir(struct rpc_call *call, const json_t *params)
{
	return operate(call, FILE_MKDIR, params);
}

struct rpc_reply method_file_read(struct rpc_call *call, const json_t *params)
{
	return operate(call, FILE_READ, params);
}

struct rpc_reply method_file_remove(struct rpc_call *call, const json_t *params)
{
	return operate(call, FILE_REMOVE, params);
}

struct rpc_reply method_file_rename(struct rpc_call *call, const json_t *params)
{
	return operate(call, FILE_RENAME, params);
}

struct rpc_reply method_file_stat(struct rpc_call *call, const json_t *params)
{
	return operate(call, FILE_STAT, params);
}

struct rpc_reply method_file_write(struct rpc_call *call, const json_t *params)
{
	return operate(call, FILE_WRITE, params);
}
