/* SPDX-License-Identifier: Apache-2.0 */
/* What all programs of a session have in common, for its record: as it was settled when the session
 * was made, whatever the configuration says by then. */
#ifndef DAEMON_SESSION_REQUEST_RECORD_H
#define DAEMON_SESSION_REQUEST_RECORD_H

#include "daemon/session/request.h"

/* Without code and input. New reference. */
json_t *request_record(const struct run_request *request);

/* False when that is no record; then there is nothing to release. */
bool request_recall(const json_t *record, struct run_request *ret);

#endif
