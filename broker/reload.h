/* Reads the configuration again while the broker runs. */
#pragma once

#include "broker.h"

/* From the same sources as at the start. `channels`, `forge_events` and `log_level` are applied at
 * once; other keys that have changed are named in one line of the log, since they need a restart.
 * If the configuration has an error, that is logged, and nothing changes. */
void reload(struct broker *broker);
