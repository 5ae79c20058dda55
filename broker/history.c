#include "history.h"

#include <stdlib.h>

/* The overhead of malloc for each piece of memory. */
enum { PIECE_BYTES = 16 };

void history_init(struct history *history, struct topics *topics, size_t bytes_max,
                  size_t ring_capacity) {
    check(ring_capacity > 0);
    history->topics = topics;
    history->bytes_max = bytes_max;
    history->ring_capacity = ring_capacity;
    TAILQ_INIT(&history->entries);
}

/* --- what entries and their topics cost ---------------------------------------------------- */

static size_t entry_bytes(const struct entry *entry) {
    return sizeof *entry + sizeof *entry->frame + entry->frame->length + (size_t)2 * PIECE_BYTES;
}

/* Of a topic that has entries. */
static size_t topic_cost(const struct topic *topic) {
    return topic->trail.count == 0
               ? 0
               : topic_bytes(topic) + trail_bytes(&topic->trail) + (size_t)2 * PIECE_BYTES;
}

static size_t trail_cost(const struct history *history, const struct topic *topic) {
    return topic == NULL ? trail_bytes(&history->breaks) : topic_cost(topic);
}

static struct trail *trail_of(struct history *history, struct topic *topic) {
    return topic == NULL ? &history->breaks : &topic->trail;
}

/* --- dropping entries ------------------------------------------------------------------------- */

/* The entry is the oldest of its trail. */
static void drop(struct history *history, struct entry *entry) {
    struct topic *topic = entry->topic;
    struct trail *trail = trail_of(history, topic);
    check(trail_first(trail) == entry);
    history->bytes -= entry_bytes(entry) + trail_cost(history, topic);
    trail_drop_first(trail);
    history->bytes += trail_cost(history, topic);
    milestones_drop(&history->milestones, entry);
    TAILQ_REMOVE(&history->entries, entry, link);
    history->count--;
    payload_unref(&entry->frame);
    free(entry);
    if (topic != NULL) {
        topics_settle(history->topics, topic);
    }
}

static uint64_t higher(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

/* A pruning may have raised a durable floor above the oldest entries, so floors only rise. */
static void evict(struct history *history, struct entry *entry) {
    switch (entry->kind) {
    case ENTRY_EPHEMERAL:
        entry->topic->floors.place = entry->at.place;
        history->newest.place = higher(history->newest.place, entry->at.place);
        history->losses++;
        break;
    case ENTRY_BREAK:
        history->break_floor = entry->at.place;
        history->losses++;
        break;
    case ENTRY_DURABLE:
        entry->topic->floors.durable = higher(entry->topic->floors.durable, entry->at.durable);
        history->newest.durable = higher(history->newest.durable, entry->at.durable);
        break;
    }
    history->dropped++;
    drop(history, entry);
}

void history_release(struct history *history) {
    struct entry *entry;
    while ((entry = TAILQ_FIRST(&history->entries)) != NULL) {
        drop(history, entry);
    }
    check(history->bytes == 0);
}

void history_start_durable(struct history *history, uint64_t id) {
    history->durable_start = id;
}

void history_forget(struct history *history) {
    struct entry *entry;
    while ((entry = TAILQ_FIRST(&history->entries)) != NULL) {
        evict(history, entry);
    }
    topics_forget_durable_floors(history->topics);
    history->newest.durable = 0;
}

/* --- adding entries --------------------------------------------------------------------------- */

void history_add(struct history *history, enum entry_kind kind, struct topic *topic,
                 const struct cursor *at, struct payload *frame) {
    struct entry *entry = must_alloc(sizeof *entry);
    check((topic == NULL) == (kind == ENTRY_BREAK));
    *entry = (struct entry){.kind = kind, .at = *at, .topic = topic, .frame = payload_ref(frame)};
    history->bytes -= trail_cost(history, topic);
    trail_push(trail_of(history, topic), entry);
    history->bytes += trail_cost(history, topic) + entry_bytes(entry);
    TAILQ_INSERT_TAIL(&history->entries, entry, link);
    milestones_add(&history->milestones, entry);
    history->count++;
    if (topic != NULL && topic->trail.count > history->ring_capacity) {
        evict(history, trail_first(&topic->trail));
    }
    while (history->bytes > history->bytes_max) {
        evict(history, TAILQ_FIRST(&history->entries));
    }
}

void history_note_pruned(struct history *history, struct topic_key topic, uint64_t id) {
    if (!topic_key_is_none(topic)) {
        topics_raise_durable_floor(history->topics, topic, id);
        history->newest.durable = higher(history->newest.durable, id);
    } else {
        history->durable_start = higher(history->durable_start, id);
    }
}

/* --- reading --------------------------------------------------------------------------------- */

uint64_t history_floor(const struct history *history, const struct topic *topic) {
    uint64_t place = topic_has_pattern(topic) ? history->newest.place : topic->floors.place;
    return higher(place, history->break_floor);
}

uint64_t history_losses(const struct history *history, const struct topic *topic) {
    return topic_has_pattern(topic) ? history->losses : history_floor(history, topic);
}

uint64_t history_durable_floor(const struct history *history, const struct topic *topic) {
    uint64_t id = topic_has_pattern(topic) ? history->newest.durable : topic->floors.durable;
    return higher(id, history->durable_start);
}

static const struct entry *earlier(const struct entry *a, const struct entry *b) {
    if (a == NULL || b == NULL) {
        return a == NULL ? b : a;
    }
    bool is_before =
        a->at.place != b->at.place ? a->at.place < b->at.place : a->at.durable < b->at.durable;
    return is_before ? a : b;
}

const struct entry *history_next(const struct history *history, struct topic *const *topics,
                                 size_t topic_count, const struct cursor *cursor) {
    const struct entry *next = trail_after(&history->breaks, cursor);
    for (size_t i = 0; i < topic_count; i++) {
        next = earlier(next, trail_after(&topics[i]->trail, cursor));
    }
    return next;
}

const struct entry *history_after(const struct history *history, const struct cursor *cursor) {
    const struct entry *entry = milestones_before(&history->milestones, cursor);
    entry = entry == NULL ? TAILQ_FIRST(&history->entries) : entry;
    while (entry != NULL && cursor_has(cursor, &entry->at)) {
        entry = TAILQ_NEXT(entry, link);
    }
    return entry;
}

static bool is_match(const struct entry *entry, struct topic *const *topics, size_t topic_count) {
    for (size_t i = 0; entry->topic != NULL && i < topic_count; i++) {
        if (entry->topic == topics[i] ||
            (topic_has_pattern(topics[i]) &&
             topic_key_covers(topic_key_of(topics[i]), topic_key_of(entry->topic)))) {
            return true;
        }
    }
    return entry->topic == NULL; /* a break is for all */
}

const struct entry *history_next_match(const struct history *history, struct topic *const *topics,
                                       size_t topic_count, struct cursor *cursor,
                                       bool *is_at_head) {
    const struct entry *entry = history_after(history, cursor);
    for (size_t steps = 0; entry != NULL && steps < HISTORY_STEPS; steps++) {
        if (entry_is_new(entry, cursor) && is_match(entry, topics, topic_count)) {
            *is_at_head = false;
            return entry;
        }
        cursor_pass(cursor, &entry->at);
        entry = TAILQ_NEXT(entry, link);
    }
    *is_at_head = entry == NULL;
    return NULL;
}
