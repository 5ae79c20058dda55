#include "history.h"

#include <stdlib.h>

/* What malloc adds to each piece. */
enum { PIECE_BYTES = 16 };

/* The hash is the one that the topics' table has computed. */
static size_t floor_slot(const struct topic *topic) {
    return topic->hh.hashv % HISTORY_FLOORS;
}

void history_init(struct history *history, struct topics *topics, size_t bytes_max,
                  size_t ring_capacity) {
    check(ring_capacity > 0);
    history->topics = topics;
    history->bytes_max = bytes_max;
    history->ring_capacity = ring_capacity;
    TAILQ_INIT(&history->entries);
}

/* --- what entries and their topics cost ---------------------------------------------------- */

static size_t entry_bytes(const struct history_entry *entry) {
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

/* --- leaving --------------------------------------------------------------------------------- */

/* The entry is the oldest of its trail. */
static void drop(struct history *history, struct history_entry *entry) {
    struct topic *topic = entry->topic;
    struct trail *trail = trail_of(history, topic);
    check(trail_first(trail) == entry);
    history->bytes -= entry_bytes(entry) + trail_cost(history, topic);
    trail_drop_first(trail);
    history->bytes += trail_cost(history, topic);
    TAILQ_REMOVE(&history->entries, entry, link);
    history->count--;
    payload_unref(&entry->frame);
    free(entry);
    if (topic != NULL) {
        topics_settle(history->topics, topic);
    }
}

/* Floors only rise: a topic's own entries leave in order, but others share its slot. */
static void raise_floor(uint64_t *floor, uint64_t place) {
    *floor = *floor > place ? *floor : place;
}

static void evict(struct history *history, struct history_entry *entry) {
    switch (entry->kind) {
    case HISTORY_EPHEMERAL:
        raise_floor(&history->floors[floor_slot(entry->topic)], entry->at.place);
        break;
    case HISTORY_BREAK:
        raise_floor(&history->break_floor, entry->at.place);
        break;
    case HISTORY_DURABLE:
        raise_floor(&history->durable_floors[floor_slot(entry->topic)], entry->at.durable);
        break;
    }
    history->dropped++;
    drop(history, entry);
}

void history_release(struct history *history) {
    struct history_entry *entry;
    while ((entry = TAILQ_FIRST(&history->entries)) != NULL) {
        drop(history, entry);
    }
    check(history->bytes == 0);
}

void history_start_durable(struct history *history, uint64_t id) {
    history->durable_start = id;
}

void history_forget(struct history *history) {
    struct history_entry *entry;
    while ((entry = TAILQ_FIRST(&history->entries)) != NULL) {
        evict(history, entry);
    }
    memset(history->durable_floors, 0, sizeof history->durable_floors);
}

/* --- coming ---------------------------------------------------------------------------------- */

void history_add(struct history *history, enum history_kind kind, struct topic *topic,
                 const struct cursor *at, struct payload *frame) {
    struct history_entry *entry = must_alloc(sizeof *entry);
    check((topic == NULL) == (kind == HISTORY_BREAK));
    *entry = (struct history_entry){
        .kind = kind, .at = *at, .topic = topic, .frame = payload_ref(frame)};
    history->bytes -= trail_cost(history, topic);
    trail_push(trail_of(history, topic), entry);
    history->bytes += trail_cost(history, topic) + entry_bytes(entry);
    TAILQ_INSERT_TAIL(&history->entries, entry, link);
    history->count++;
    if (topic != NULL && topic->trail.count > history->ring_capacity) {
        evict(history, trail_first(&topic->trail));
    }
    while (history->bytes > history->bytes_max) {
        evict(history, TAILQ_FIRST(&history->entries));
    }
}

void history_note_pruned(struct history *history, struct slice topic, uint64_t id) {
    unsigned hash;
    if (topic.length == 0) {
        raise_floor(&history->durable_start, id);
        return;
    }
    HASH_VALUE(topic.at, topic.length, hash); /* as the topics' table has it */
    raise_floor(&history->durable_floors[hash % HISTORY_FLOORS], id);
}

/* --- reading --------------------------------------------------------------------------------- */

uint64_t history_floor(const struct history *history, const struct topic *topic) {
    uint64_t floor = history->floors[floor_slot(topic)];
    return floor > history->break_floor ? floor : history->break_floor;
}

uint64_t history_durable_floor(const struct history *history, const struct topic *topic) {
    uint64_t floor = history->durable_floors[floor_slot(topic)];
    return floor > history->durable_start ? floor : history->durable_start;
}

bool history_is_new(const struct history_entry *entry, const struct cursor *cursor) {
    return entry->kind == HISTORY_DURABLE ? entry->at.durable > cursor->durable
                                          : entry->at.place > cursor->place;
}

static const struct history_entry *earlier(const struct history_entry *a,
                                           const struct history_entry *b) {
    if (a == NULL || b == NULL) {
        return a == NULL ? b : a;
    }
    bool is_before =
        a->at.place != b->at.place ? a->at.place < b->at.place : a->at.durable < b->at.durable;
    return is_before ? a : b;
}

const struct history_entry *history_next(const struct history *history, struct topic *const *topics,
                                         size_t topic_count, const struct cursor *cursor) {
    const struct history_entry *next = trail_after(&history->breaks, cursor);
    for (size_t i = 0; i < topic_count; i++) {
        next = earlier(next, trail_after(&topics[i]->trail, cursor));
    }
    return next;
}

const struct history_entry *history_after(const struct history *history,
                                          const struct cursor *cursor) {
    const struct history_entry *found = NULL;
    const struct history_entry *entry;
    TAILQ_FOREACH_REVERSE(entry, &history->entries, history_list, link) {
        if (entry->at.place <= cursor->place && entry->at.durable <= cursor->durable) {
            break;
        }
        found = entry;
    }
    return found;
}
