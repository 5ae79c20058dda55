#include "resume.h"

#include "broker.h"

/* So many entries of the log are looked at in one turn, whether they are sent or not. */
enum { RESUME_ENTRIES = 65536 };

/* --- where it goes on ---------------------------------------------------------------------------
 */

void resume_begin(struct handler *handler, enum position_kind kind,
                  const struct position *position) {
    struct broker *broker = handler->broker;
    struct resume *resume = &handler->resume;
    resume->position = *position;
    resume->cursor.durable = position->durable;
    if (kind == POSITION_NONE || LIST_EMPTY(&handler->subscriptions)) {
        resume->is_decided = true; /* nobody can have missed anything */
        resume->cursor = broker_cursor(broker);
    } else {
        resume->is_place = markers_resolve(&broker->markers, position, &resume->cursor.place);
    }
    resume_pump(handler);
}

/* topic: NULL: for everybody. */
static void refresh(struct handler *handler, const struct topic *topic,
                    enum sse_refresh_reason reason, bool is_durable) {
    struct wire_refresh message = {.is_durable = is_durable,
                                   .position = handler->resume.position,
                                   .reason = reason,
                                   .dropped = SSE_DROPPED_UNKNOWN};
    if (topic != NULL) {
        message.topic = (struct slice){topic->name, topic->name_length};
    }
    handler_take(handler, wire_encode_refresh(&message));
}

/* An id beyond the head may be that of a broker that is ahead: the table is read first. */
static bool is_decidable(struct handler *handler) {
    struct table *table = &handler->broker->table;
    struct resume *resume = &handler->resume;
    if (!table_serves(table, resume->cursor.durable) ||
        (!resume->is_place && !broker_is_listening(handler->broker))) {
        return false;
    }
    if (table->state == TABLE_PRESENT && resume->cursor.durable > table->head &&
        resume->reading == 0) {
        resume->reading = table_ask_reading(table);
    }
    return table->state != TABLE_PRESENT || table_has_read(table, resume->reading);
}

static void go_on_from_head(struct handler *handler, bool from_place, bool from_id) {
    struct resume *resume = &handler->resume;
    struct cursor cursor = broker_cursor(handler->broker);
    struct position head;
    broker_position(handler->broker, &head);
    if (!from_id) {
        head.durable = resume->position.durable;
        cursor.durable = resume->cursor.durable;
    }
    if (!from_place) {
        uint64_t durable = head.durable;
        head = resume->position;
        head.durable = durable;
        cursor.place = resume->cursor.place;
    }
    resume->position = head;
    resume->cursor = cursor;
}

/* What cannot be gone on from goes on from the head, and that is told, once. False: it cannot be
 * said yet. */
static bool decide(struct handler *handler) {
    struct resume *resume = &handler->resume;
    if (!is_decidable(handler)) {
        return false;
    }
    uint64_t head = handler->broker->table.head;
    bool is_id = resume->cursor.durable <= head && (resume->cursor.durable > 0 || head == 0);
    resume->is_decided = true;
    go_on_from_head(handler, !resume->is_place, !is_id);
    if (!is_id) {
        refresh(handler, NULL, SSE_REFRESH_UNKNOWN_POSITION, true);
    } else if (!resume->is_place) {
        refresh(handler, NULL, SSE_REFRESH_RESTART, false);
    }
    return handler->state == HANDLER_RESUMING;
}

void resume_on_table_changed(struct handler *handler) {
    const struct table *table = &handler->broker->table;
    struct resume *resume = &handler->resume;
    struct subscription *subscription;
    LIST_FOREACH(subscription, &handler->subscriptions, of_handler) {
        subscription->gap_told = 0; /* of the old one */
    }
    if (resume->is_decided) {
        resume->cursor.durable = table->head;
        resume->position.durable = table->head;
        refresh(handler, NULL, SSE_REFRESH_GAP, true);
    } else if (resume->cursor.durable != 0 && table->before != TABLE_UNKNOWN) {
        resume->cursor.durable = UINT64_MAX; /* it was the old one's: none of this */
    }
}

/* --- what was dropped ---------------------------------------------------------------------------
 */

/* Nothing of any of its topics stands between here and a break. (One topic's own next would not do:
 * a client may have two, and the other's event would overtake the news.) */
static bool is_at_break(const struct handler *handler) {
    const struct history *history = &handler->broker->history;
    const struct cursor *cursor = &handler->resume.cursor;
    const struct history_entry *next = history_next(history, NULL, 0, cursor);
    const struct subscription *subscription;
    LIST_FOREACH(subscription, &handler->subscriptions, of_handler) {
        struct topic *topic = subscription->topic;
        next = next == NULL ? NULL : history_next(history, &topic, 1, cursor);
        if (next == NULL || next->kind != HISTORY_BREAK) {
            return false;
        }
    }
    return next != NULL;
}

/* Something that is not there any more may have been about one of its topics. False if not all
 * could be told yet: there may be more topics than the queue has room for. */
static bool tell_drops(struct handler *handler) {
    struct subscription *subscription;
    if (is_at_break(handler)) {
        return true; /* it will be told at once by the one about the break */
    }
    LIST_FOREACH(subscription, &handler->subscriptions, of_handler) {
        uint64_t floor = history_floor(&handler->broker->history, subscription->topic);
        if (floor > handler->resume.cursor.place && floor > subscription->floor_told) {
            if (!handler_wants_more(handler)) {
                return false;
            }
            subscription->floor_told = floor;
            refresh(handler, subscription->topic, SSE_REFRESH_GAP, false);
            if (handler->state == HANDLER_CLOSED) {
                return false; /* and its subscriptions with it */
            }
        }
    }
    return true;
}

/* --- sending ------------------------------------------------------------------------------------
 */

/* A frame tells the position of who has everything before it. Where one part of ours is ahead of
 * that already, it stays: it never moves back. */
static void keep_ahead(const struct resume *resume, const struct cursor *at,
                       struct position *position) {
    if (resume->cursor.durable > at->durable) {
        position->durable = resume->position.durable;
    }
    if (resume->cursor.place > at->place) {
        uint64_t durable = position->durable;
        *position = resume->position;
        position->durable = durable;
    }
}

static void move_to(struct resume *resume, const struct cursor *at,
                    const struct position *position) {
    resume->cursor.place = at->place > resume->cursor.place ? at->place : resume->cursor.place;
    resume->cursor.durable =
        at->durable > resume->cursor.durable ? at->durable : resume->cursor.durable;
    resume->position = *position;
}

static void send_event(struct handler *handler, const struct cursor *at, struct topic *topic,
                       struct payload *frame) {
    struct wire_event event;
    check(wire_decode_event(wire_body(frame), &event));
    struct position position = event.position;
    keep_ahead(&handler->resume, at, &position);
    move_to(&handler->resume, at, &position);
    broker_count_sent(handler->broker, topic);
    if (position_equals(&position, &event.position)) {
        handler_send(handler, frame);
    } else {
        event.position = position;
        handler_take(handler, wire_encode_event(&event));
    }
}

static void send_refresh(struct handler *handler, const struct cursor *at, struct payload *frame) {
    struct wire_refresh refresh;
    check(wire_decode_refresh(wire_body(frame), &refresh));
    keep_ahead(&handler->resume, at, &refresh.position);
    move_to(&handler->resume, at, &refresh.position);
    handler_take(handler, wire_encode_refresh(&refresh));
}

static bool is_subscribed(const struct handler *handler, const struct topic *topic) {
    return topic != NULL && topic_subscription(topic, handler, &handler->subscriptions) != NULL;
}

static void send_entry(struct handler *handler, const struct history_entry *entry) {
    if (!history_is_new(entry, &handler->resume.cursor)) {
        return;
    }
    switch (entry->kind) {
    case HISTORY_BREAK:
        send_refresh(handler, &entry->at, entry->frame);
        return;
    case HISTORY_EPHEMERAL:
    case HISTORY_DURABLE:
        if (is_subscribed(handler, entry->topic)) {
            send_event(handler, &entry->at, entry->topic, entry->frame);
            return;
        }
        break;
    }
    move_to(&handler->resume, &entry->at, &handler->resume.position);
}

/* --- the table ----------------------------------------------------------------------------------
 */

static bool needs_page(const struct handler *handler) {
    const struct broker *broker = handler->broker;
    const struct subscription *subscription;
    uint64_t id = handler->resume.cursor.durable;
    if (broker->table.state != TABLE_PRESENT || id >= broker->table.head) {
        return false;
    }
    LIST_FOREACH(subscription, &handler->subscriptions, of_handler) {
        if (history_durable_floor(&broker->history, subscription->topic) > id) {
            return true;
        }
    }
    return false;
}

static void move_to_id(struct resume *resume, uint64_t id) {
    resume->cursor.durable = id;
    resume->position.durable = id;
}

static void send_row(struct handler *handler, const struct page_event *row) {
    struct broker *broker = handler->broker;
    struct wire_event event;
    check(wire_decode_event(wire_body(row->frame), &event));
    struct topic *topic = topics_find(&broker->topics, event.topic);
    move_to_id(&handler->resume, row->id);
    if (is_subscribed(handler, topic)) {
        event.position = handler->resume.position;
        broker_count_sent(broker, topic);
        handler_take(handler, wire_encode_event(&event));
    }
}

void resume_on_gap(struct handler *handler, const struct page_gap *gap) {
    struct subscription *subscription;
    if (!handler->resume.is_decided || gap->id <= handler->resume.cursor.durable) {
        return;
    }
    LIST_FOREACH(subscription, &handler->subscriptions, of_handler) {
        if (gap->id > subscription->gap_told && page_gap_is_about(gap, subscription->topic)) {
            subscription->gap_told = gap->id;
            refresh(handler, subscription->topic, SSE_REFRESH_GAP, true);
            if (handler->state == HANDLER_CLOSED) {
                return; /* and its subscriptions with it */
            }
        }
    }
}

static void tell_gaps(struct handler *handler, const struct page *page) {
    size_t count;
    const struct page_gap *gaps = page_gaps(page, &count);
    uint64_t from = handler->resume.cursor.durable;
    if (count > 0) {
        handler->resume.position.durable = page_skip(page, from);
    }
    for (size_t i = 0; i < count && handler->state == HANDLER_RESUMING; i++) {
        resume_on_gap(handler, &gaps[i]);
    }
    if (count > 0) {
        move_to_id(&handler->resume, page_skip(page, from));
    }
}

/* False: it has to wait, for room or for the page. */
static bool send_page(struct handler *handler) {
    struct resume *resume = &handler->resume;
    struct table *table = &handler->broker->table;
    const struct page *page = pages_find(&table->pages, NULL, 0, resume->cursor.durable);
    if (page->state == PAGE_WANTED) {
        table_go_on(table);
        return false;
    }
    tell_gaps(handler, page);
    const struct page_event *row;
    while ((row = page_next(page, resume->cursor.durable)) != NULL) {
        if (handler->state != HANDLER_RESUMING || !handler_wants_more(handler)) {
            return false;
        }
        send_row(handler, row);
    }
    move_to_id(resume, page->end);
    return true;
}

/* --- going on -----------------------------------------------------------------------------------
 */

/* True at the head. */
static bool send_log(struct handler *handler) {
    const struct history_entry *entry =
        history_after(&handler->broker->history, &handler->resume.cursor);
    for (size_t looked_at = 0; entry != NULL && handler->state == HANDLER_RESUMING &&
                               handler_wants_more(handler) && looked_at < RESUME_ENTRIES;
         looked_at++) {
        send_entry(handler, entry);
        entry = TAILQ_NEXT(entry, link);
    }
    return entry == NULL;
}

static void tell_open_gap(void *argument, const struct page_gap *gap) {
    resume_on_gap(argument, gap);
}

void resume_pump(struct handler *handler) {
    struct resume *resume = &handler->resume;
    if ((!resume->is_decided && !decide(handler)) || !tell_drops(handler)) {
        return;
    }
    while (handler->state == HANDLER_RESUMING && needs_page(handler)) {
        if (!handler_wants_more(handler) || !send_page(handler)) {
            return;
        }
    }
    table_visit_gaps(&handler->broker->table, handler, tell_open_gap);
    bool is_at_head = handler->state == HANDLER_RESUMING && send_log(handler);
    if (handler->state != HANDLER_RESUMING) {
        return;
    }
    if (is_at_head) {
        handler_on_resumed(handler);
    } else {
        handler_refill_soon(handler);
    }
}
