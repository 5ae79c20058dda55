#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base.h"

/* The processes under test: the descendants of one supervisor, told apart by name. They are looked
 * up each time anew, so that a process that was started again counts. */
enum procs_role { PROCS_WEB, PROCS_STREAM, PROCS_BROKER, PROCS_PUBLISH };

#define PROCS_ROLES 4

struct procs {
    int count[PROCS_ROLES];
    int64_t pss_bytes[PROCS_ROLES]; /* proportional set size: pages shared count by share */
    int64_t cpu_ns[PROCS_ROLES];    /* user and system, all threads, since their start */
};

/* False when one of the roles but PROCS_PUBLISH has no process, or one may not be looked into. */
must_check bool procs_measure(struct procs *procs, pid_t supervisor);

/* CPU of the bench itself so far. */
int64_t procs_own_cpu_ns(void);
