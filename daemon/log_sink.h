/* SPDX-License-Identifier: Apache-2.0 */
/* Where the daemon's log lines go: the journal with fields of our own, or standard error. */
#ifndef DAEMON_LOG_SINK_H
#define DAEMON_LOG_SINK_H

#include "conf/config.h"

/*
 * Chooses the sink of base/log. CONFIG_LOG_AUTO takes the journal when standard error leads there
 * ($JOURNAL_STREAM, systemd.exec(5)). In the journal a line has MESSAGE (object and text),
 * PRIORITY, SYSLOG_IDENTIFIER and, where it is about an object, EXECSANDBOX_OBJECT. 0; -ENXIO when
 * CONFIG_LOG_JOURNAL was asked for and there is no journal: lines go to standard error then.
 */
int log_sink_choose(enum config_log_target target);

#endif
