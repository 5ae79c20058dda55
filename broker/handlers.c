#include "handlers.h"

#include "replay.h"

void handlers_send(struct handlers *handlers, struct payload *frame) {
    struct delivery *delivery;
    TAILQ_FOREACH(delivery, &handlers->list, link) {
        if (delivery_is_served(delivery)) {
            outbox_share(&delivery->outbox, frame);
        }
    }
}

void handlers_tell_position(struct handlers *handlers) {
    struct delivery *delivery;
    TAILQ_FOREACH(delivery, &handlers->list, link) {
        delivery_tell_position(delivery);
    }
}

void handlers_serve_held(struct handlers *handlers) {
    struct delivery *delivery;
    TAILQ_FOREACH(delivery, &handlers->list, link) {
        handler_serve_held(handler_of(delivery));
    }
}

static void tell_replays(struct delivery *delivery, const struct gaps *gaps) {
    struct replay *replay;
    struct replay *next;
    HASH_ITER(hh, delivery->replays, replay, next) {
        for (size_t i = 0; i < gaps->count; i++) {
            replay_on_gap(replay, &gaps->list[i]);
        }
    }
}

/* Live clients are told even if much waits for the handler. A handler that is resuming meets the
 * gaps by itself. */
static void tell_gaps(struct delivery *delivery, const struct gaps *gaps) {
    if (delivery_is_served(delivery)) {
        delivery_tell_gaps(delivery, gaps);
    }
    tell_replays(delivery, gaps);
}

void handlers_tell_gaps(struct handlers *handlers, const struct gap *list, size_t count,
                        uint64_t id) {
    struct gaps gaps = {.list = list, .count = count};
    struct delivery *delivery;
    journal_position(handlers->journal, &gaps.before);
    gaps.after = gaps.before;
    gaps.after.durable = id;
    TAILQ_FOREACH(delivery, &handlers->list, link) {
        tell_gaps(delivery, &gaps);
    }
}

void handlers_on_table_changed(struct handlers *handlers) {
    struct wire_refresh message = {
        .is_durable = true, .reason = SSE_REFRESH_GAP, .dropped = SSE_DROPPED_UNKNOWN};
    struct delivery *delivery;
    journal_position(handlers->journal, &message.position);
    struct payload *frame = wire_encode_refresh(&message);
    TAILQ_FOREACH(delivery, &handlers->list, link) {
        handler_on_table_changed(handler_of(delivery), frame);
    }
    payload_unref(&frame);
}

void handlers_init(struct handlers *handlers, struct loop *loop, struct journal *journal,
                   struct condition *condition, struct health *health) {
    *handlers = (struct handlers){.loop = loop,
                                  .config = journal->config,
                                  .journal = journal,
                                  .condition = condition,
                                  .health = health};
    TAILQ_INIT(&handlers->list);
}

void handlers_release(struct handlers *handlers) {
    struct delivery *delivery;
    while ((delivery = TAILQ_FIRST(&handlers->list)) != NULL) {
        handler_close(handler_of(delivery), "the broker stops");
    }
    loop_reap(handlers->loop); /* their replays may wait for pages */
}
