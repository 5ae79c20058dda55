#include "delivery.h"

void delivery_init(struct delivery *delivery, struct journal *journal,
                   void (*on_refill)(struct loop_timer *timer)) {
    *delivery = (struct delivery){.journal = journal, .on_refill = on_refill};
    LIST_INIT(&delivery->interests);
    TAILQ_INIT(&delivery->held);
    TAILQ_INIT(&delivery->ready);
}

void delivery_refill_soon(struct delivery *delivery) {
    if (outbox_wants_more(&delivery->outbox)) {
        loop_timer_start(delivery->outbox.loop, &delivery->refill, 0, delivery->on_refill);
    }
}

static void note_told(struct delivery *delivery, const struct position *position) {
    delivery->position_told = *position;
    delivery->position_told_ms = loop_now_ms(delivery->outbox.loop);
}

void delivery_tell_position(struct delivery *delivery) {
    struct wire_position message = {0};
    journal_position(delivery->journal, &message.position);
    if (delivery_is_served(delivery) &&
        !position_equals(&message.position, &delivery->position_told)) {
        note_told(delivery, &message.position);
        outbox_queue(&delivery->outbox, wire_encode_position(WIRE_POSITION, &message));
    }
}

void delivery_tell_subscribed(struct delivery *delivery, const struct wire_position *message) {
    note_told(delivery, &message->position);
    outbox_queue(&delivery->outbox, wire_encode_position(WIRE_SUBSCRIBED, message));
}

static void tell_gap(struct delivery *delivery, const struct gap *gap,
                     const struct position *position) {
    struct wire_refresh message = {.is_durable = true,
                                   .topic = gap_topic(gap),
                                   .position = *position,
                                   .reason = SSE_REFRESH_GAP,
                                   .dropped = SSE_DROPPED_UNKNOWN};
    outbox_queue(&delivery->outbox, wire_encode_refresh(&message));
}

bool delivery_misses(const struct delivery *delivery, const struct gap *gap) {
    return topic_key_is_none(gap_topic(gap)) || delivery_wants(delivery, gap_topic(gap));
}

/* The index of the next gap to tell; gaps->count if there is none. */
static size_t next_to_tell(const struct delivery *delivery, const struct gaps *gaps, size_t from) {
    while (from < gaps->count && !delivery_misses(delivery, &gaps->list[from])) {
        from++;
    }
    return from;
}

void delivery_tell_gaps(struct delivery *delivery, const struct gaps *gaps) {
    size_t at = next_to_tell(delivery, gaps, 0);
    while (at < gaps->count) {
        const struct gap *gap = &gaps->list[at];
        at = next_to_tell(delivery, gaps, at + 1);
        tell_gap(delivery, gap, at == gaps->count ? &gaps->after : &gaps->before);
    }
}

struct interest *delivery_interest(const struct delivery *delivery, struct topic_key topic) {
    return topics_interest(&delivery->journal->topics, topic, delivery, &delivery->interests);
}

bool delivery_wants(const struct delivery *delivery, struct topic_key topic) {
    struct topic_cover cover;
    const struct topic *wanted;
    topics_cover(&delivery->journal->topics, topic, &cover);
    while ((wanted = topics_next_cover(&cover)) != NULL) {
        if (topic_interest(wanted, delivery, &delivery->interests) != NULL) {
            return true;
        }
    }
    return false;
}
