/* SPDX-License-Identifier: Apache-2.0 */
/* What was settled when a session was made, or a program was sent, for its record: it holds
 * whatever the configuration says by then. */
#ifndef DAEMON_SESSION_REQUEST_RECORD_H
#define DAEMON_SESSION_REQUEST_RECORD_H

#include "daemon/session/request.h"

/* Without code and input. New reference, or NULL without memory. */
json_t *request_record(const struct run_request *request);

/* False when that is no record; then there is nothing to release. */
bool request_recall(const json_t *record, struct run_request *ret);

/* The numbers of a program that was parsed anew, as they were. False when that is no record. */
bool request_settle(const json_t *record, struct run_request *request);

/* A configuration, with everything else borrowed, under which what was accepted once is again. */
void request_lift_bounds(const struct config *config, struct config *ret);

#endif
