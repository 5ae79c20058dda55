#include "condition.h"

#include <stdio.h>

/* The kinds of faults, in words that everybody may read. */
static const char *const kinds[CONDITION_PARTS] = {
    [CONDITION_LISTEN] = "the LISTEN connection is down",
    [CONDITION_QUERY] = "the query connection is down",
    [CONDITION_TABLE] = "the table of durable events cannot be read",
};

/* --- the worst fault ------------------------------------------------------------------------ */

struct fault {
    const char *kind; /* NULL: there is no fault */
    const char *text; /* "" then */
};

/* not_yet: the fault of a part that was not lost but is not up yet; NULL: the part is up. */
static struct fault fault_of(const struct condition *condition, enum condition_part part,
                             const char *not_yet) {
    if (condition->faults[part][0] != '\0') {
        return (struct fault){kinds[part], condition->faults[part]};
    }
    return (struct fault){not_yet, not_yet == NULL ? "" : not_yet};
}

/* While LISTEN is in force, a fault of the query connection matters more than an earlier fault of
 * LISTEN. */
static struct fault worst_fault(const struct condition *condition) {
    bool is_listening = condition->is_listening;
    struct fault listen =
        fault_of(condition, CONDITION_LISTEN, is_listening ? NULL : "LISTEN is not in force yet");
    struct fault query =
        fault_of(condition, CONDITION_QUERY,
                 condition->query_is_up ? NULL : "the query connection is not up yet");
    struct fault fault = is_listening ? query : listen;
    fault = fault.kind == NULL ? listen : fault;
    return fault.kind == NULL ? fault_of(condition, CONDITION_TABLE, NULL) : fault;
}

static void judge(struct condition *condition) {
    struct fault fault = worst_fault(condition);
    condition->degraded_kind = fault.kind;
    if (fault.kind == NULL) {
        condition->degraded_since_ms = 0;
    } else if (condition->degraded_since_ms == 0) {
        condition->degraded_since_ms = wall_ms();
    }
    snprintf(condition->degraded_reason, sizeof condition->degraded_reason, "%s", fault.text);
}

/* --- faults come and go --------------------------------------------------------------------- */

void condition_count_error(struct condition *condition) {
    condition->errors++;
    condition->last_error_ms = wall_ms();
}

static void note_fault(struct condition *condition, enum condition_part part, const char *reason) {
    snprintf(condition->faults[part], sizeof condition->faults[part], "%s: %s", kinds[part],
             reason);
    log_warning("%s", condition->faults[part]);
    condition_count_error(condition);
    judge(condition);
}

static void tell_hook(struct condition *condition, enum hook_event event, const char *reason) {
    struct hook_facts facts = {.reason = reason, .attempt = condition->attempts};
    hook_tell(&condition->hook, event, &facts);
}

void condition_on_attempt(struct condition *condition) {
    condition->attempts++;
    if (condition->has_listened || condition->attempts > 1) {
        condition->reconnect_attempts++;
        tell_hook(condition, HOOK_RECONNECT_ATTEMPT, condition->faults[CONDITION_LISTEN]);
    }
}

void condition_on_listening(struct condition *condition) {
    log_info("listening");
    tell_hook(condition, condition->has_listened ? HOOK_RECONNECT_SUCCESS : HOOK_CONNECT, NULL);
    condition->reconnects += condition->has_listened ? 1 : 0;
    condition->is_listening = true;
    condition->has_listened = true;
    condition->attempts = 0;
    condition->listening_since_ms = wall_ms();
    judge(condition);
}

bool condition_on_deaf(struct condition *condition, const char *reason) {
    uint64_t max = (uint64_t)condition->config->reconnect_attempts;
    const char *fault = condition->faults[CONDITION_LISTEN];
    condition->is_listening = false;
    note_fault(condition, CONDITION_LISTEN, reason);
    if (condition->attempts == 0) {
        tell_hook(condition, HOOK_DISCONNECT, fault);
        return false;
    }
    if (max > 0 && condition->attempts >= max) {
        return true;
    }
    tell_hook(condition, HOOK_ERROR, fault);
    return false;
}

void condition_give_up(struct condition *condition, char *reason, void *owner,
                       void (*on_done)(void *owner)) {
    const char *fault = condition->faults[CONDITION_LISTEN];
    snprintf(reason, CONDITION_REASON_BYTES, "gave up after %llu attempts: %.200s",
             (unsigned long long)condition->attempts, fault);
    tell_hook(condition, HOOK_RECONNECT_FAILED, fault);
    hook_finish(&condition->hook, owner, on_done);
}

void condition_set_query_up(struct condition *condition, bool is_up) {
    condition->query_is_up = is_up;
    judge(condition);
}

void condition_on_lost(struct condition *condition, enum condition_part part, const char *reason) {
    struct hook_facts facts = {.reason = condition->faults[part]};
    condition->query_is_up = condition->query_is_up && part != CONDITION_QUERY;
    note_fault(condition, part, reason);
    hook_tell(&condition->hook, HOOK_ERROR, &facts);
}

void condition_on_proved(struct condition *condition, enum condition_part part) {
    condition->faults[part][0] = '\0';
    judge(condition);
}

/* --- the queue ------------------------------------------------------------------------------ */

void condition_on_queue_usage(struct condition *condition, double usage) {
    char reason[CONDITION_REASON_BYTES];
    double max = (double)condition->config->queue_warn / CONFIG_FRACTION_ONE;
    bool was_high = condition->queue_is_high;
    condition->queue_is_high = usage > max;
    if (was_high || !condition->queue_is_high) {
        return;
    }
    snprintf(reason, sizeof reason,
             "Postgres' NOTIFY queue is %.4g %% full: does a session that listens stay in a "
             "transaction?",
             100 * usage);
    log_limited(&condition->queue_limit, LOG_LEVEL_WARNING, "%s", reason);
    condition->queue_warnings++;
    condition->last_queue_warning_ms = wall_ms();
    struct hook_facts facts = {.reason = reason, .queue_usage = usage};
    hook_tell(&condition->hook, HOOK_QUEUE_WARNING, &facts);
}

/* --- life ----------------------------------------------------------------------------------- */

void condition_init(struct condition *condition, struct loop *loop, const struct config *config) {
    *condition = (struct condition){.config = config};
    hook_init(&condition->hook, loop, config->hook, config->hook_timeout);
    judge(condition);
}

void condition_release(struct condition *condition) {
    hook_release(&condition->hook);
}
