/* Whether the broker works, and if not, since when and why. Changes go to the log, the hook
 * (hook.h) and health.
 *
 * A connection that is up again does not end its fault. The fault ends when the part works: LISTEN
 * has heard a marker, the query connection has completed a statement, the table has been read. */
#pragma once

#include "config.h"
#include "hook.h"
#include "log.h"

enum { CONDITION_REASON_BYTES = 256 };

enum condition_part { CONDITION_LISTEN, CONDITION_QUERY, CONDITION_TABLE };
enum { CONDITION_PARTS = CONDITION_TABLE + 1 };

struct condition {
    const struct config *config; /* borrowed */
    struct hook hook;
    /* Why a part was lost; "": it works. */
    char faults[CONDITION_PARTS][CONDITION_REASON_BYTES];
    bool is_listening;
    bool has_listened; /* at least once */
    bool query_is_up;  /* the query connection is connected */
    uint64_t attempts; /* to listen, since LISTEN was last in force or the broker started */
    int64_t listening_since_ms; /* this time and all that follow: wall clock; 0: never */
    int64_t degraded_since_ms;  /* 0: all is well */
    const char *degraded_kind;  /* the kind of fault, which everybody may read; NULL: all is well */
    char degraded_reason[CONDITION_REASON_BYTES]; /* LOCAL readers only: see document.h */
    uint64_t reconnects;
    uint64_t reconnect_attempts;
    uint64_t errors;
    int64_t last_error_ms;
    uint64_t queue_warnings;
    int64_t last_queue_warning_ms;
    bool queue_is_high;
    struct log_limit queue_limit;
};

void condition_init(struct condition *condition, struct loop *loop, const struct config *config);
void condition_release(struct condition *condition);

void condition_on_attempt(struct condition *condition);

/* LISTEN is in force. */
void condition_on_listening(struct condition *condition);

/* LISTEN was lost, or an attempt failed. True if this was the last attempt that reconnect_attempts
 * allows: then the caller stops the source and calls condition_give_up. */
bool condition_on_deaf(struct condition *condition, const char *reason) must_check;

/* Tells the hook that there will be no attempt any more; on_done is called when the hook has
 * finished. Writes why to reason (of CONDITION_REASON_BYTES). */
void condition_give_up(struct condition *condition, char *reason, void *owner,
                       void (*on_done)(void *owner));

/* Whether the query connection is connected. */
void condition_set_query_up(struct condition *condition, bool is_up);

/* The part, QUERY or TABLE, was lost. */
void condition_on_lost(struct condition *condition, enum condition_part part, const char *reason);

/* The part has proved that it works. */
void condition_on_proved(struct condition *condition, enum condition_part part);

/* How full Postgres' NOTIFY queue is, 0 to 1. Warns once for each time that it rises above
 * queue_warn. */
void condition_on_queue_usage(struct condition *condition, double usage);

/* A handler's error has ended its connection. */
void condition_count_error(struct condition *condition);
