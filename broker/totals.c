#include "totals.h"

#include "survey.h"

/* The frames that wait for handlers now. */
struct queued {
    uint64_t handlers;
    uint64_t frames;
    uint64_t bytes;
};

static struct queued sum_queues(const struct overview *overview) {
    struct queued queued = {0};
    const struct delivery *handler;
    TAILQ_FOREACH(handler, overview->handlers, link) {
        queued.handlers++;
        queued.frames += handler->outbox.queue.count;
        queued.bytes += handler->outbox.queue.queued_bytes;
    }
    return queued;
}

static struct total whole(const char *name, enum total_kind kind, int64_t value) {
    return (struct total){.name = name, .kind = kind, .value = value};
}

static struct total count(const char *name, uint64_t value) {
    return whole(name, TOTAL_COUNT, (int64_t)value);
}

static struct total flag(const char *name, bool value) {
    return whole(name, TOTAL_FLAG, value);
}

static struct total moment(const char *name, int64_t ms) {
    return whole(name, TOTAL_TIME, ms);
}

static struct total number(const char *name, double value) {
    return (struct total){.name = name, .kind = TOTAL_NUMBER, .number = value};
}

size_t totals_list(const struct overview *overview, const struct survey *survey,
                   struct total totals[TOTALS_MAX]) {
    const struct journal *journal = overview->journal;
    const struct topics *topics = &journal->topics;
    const struct history *history = &journal->history;
    const struct condition *condition = overview->condition;
    const struct intake *intake = overview->intake;
    const struct hook_totals *hook = &condition->hook.totals;
    const struct traffic *traffic = &topics->total;
    struct queued queued = sum_queues(overview);
    uint64_t memory_bytes =
        history->bytes + survey->memory_bytes + queued.bytes + survey->client_bytes;
    /* Short events on their own grow, so the bytes that were saved can be fewer than 0. */
    int64_t saved_bytes = (int64_t)(topics->plain_bytes - topics->gzip_bytes);
    int64_t listening_since_ms = condition->is_listening ? condition->listening_since_ms : 0;
    const struct total list[] = {
        count("topics", topics_count(topics)),
        count("subscribers", survey->subscribers),
        count("handlers", queued.handlers),
        count("dispatch_depth", queued.frames),
        count("pending_to_clients", survey->client_events),
        count("published", traffic->published),
        count("broadcast", traffic->broadcast),
        count("delivered_frames", traffic->delivered),
        count("dropped_clients", traffic->dropped_clients),
        count("dropped_events", traffic->dropped_events),
        count("gzip_bytes", topics->gzip_bytes),
        whole("gzip_saved_bytes", TOTAL_DIFFERENCE, saved_bytes),
        count("total_memory_usage_bytes", memory_bytes),
        count("history_events", history->count),
        count("history_bytes", history->bytes),
        count("history_dropped", history->dropped),
        count("idle_topics", survey->idle_topics),
        flag("listen_connected", condition->is_listening),
        moment("listen_connected_since", listening_since_ms),
        flag("notify_connected", canary_is_connected(&journal->canary)),
        flag("table_connected", table_is_connected(&journal->table)),
        count("durable_head", journal->table.head),
        count("reconnects", condition->reconnects),
        count("reconnect_attempts", condition->reconnect_attempts),
        count("notifications", intake->notifications),
        count("bad_notifications", intake->bad_notifications),
        count("repaired_notifications", intake->repaired_notifications),
        count("odd_topics", intake->unnameable_topics),
        count("errors", condition->errors),
        moment("last_error_at", condition->last_error_ms),
        number("queue_usage", journal->canary.queue_usage),
        count("queue_warnings", condition->queue_warnings),
        moment("last_queue_warning_at", condition->last_queue_warning_ms),
        count("hook_runs", hook->runs),
        count("hook_failures", hook->failures),
        count("hook_dropped", hook->dropped),
        moment("last_hook_at", hook->last_ms),
        number("canary_ms", journal->canary.round_trip_ms),
    };
    _Static_assert(length_of(list) <= TOTALS_MAX, "each total has room");
    memcpy(totals, list, sizeof list);
    return length_of(list);
}
