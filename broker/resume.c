#include "resume.h"

/* So many entries of the log are looked at in one turn at most, whether they are sent or not. */
enum { RESUME_ENTRIES = 8192 };

/* --- from where it goes on -------------------------------------------------------------------- */

static struct journal *journal_of(const struct resume *resume) {
    return resume->delivery->journal;
}

static void on_page(struct page_waiter *waiter) {
    delivery_refill_soon(container_of(waiter, struct resume, waiter)->delivery);
}

void resume_begin(struct resume *resume, struct delivery *delivery, enum position_kind kind,
                  const struct position *position) {
    *resume = (struct resume){
        .delivery = delivery,
        .position = *position,
        .cursor.durable = position->durable,
        .waiter.on_page = on_page,
    };
    if (kind == POSITION_NONE || LIST_EMPTY(&delivery->interests)) {
        resume->is_decided = true; /* no client can have missed anything */
        resume->cursor = journal_cursor(delivery->journal);
    } else {
        resume->is_place =
            markers_resolve(&delivery->journal->markers, position, &resume->cursor.place);
    }
}

void resume_end(struct resume *resume) {
    page_waiter_leave(&resume->waiter);
    gap_memory_clear(&resume->gaps_told);
}

/* topic: NULL means all topics. */
static void refresh(struct resume *resume, const struct topic *topic,
                    enum sse_refresh_reason reason, bool is_durable) {
    struct wire_refresh message = {.is_durable = is_durable,
                                   .position = resume->position,
                                   .reason = reason,
                                   .dropped = SSE_DROPPED_UNKNOWN};
    if (topic != NULL) {
        message.topic = topic_key_of(topic);
    }
    outbox_queue(&resume->delivery->outbox, wire_encode_refresh(&message));
}

/* An id beyond the head may come from a broker that is ahead of this one, so the table is read
 * before it is called unknown. */
static bool is_decidable(struct resume *resume) {
    struct table *table = &journal_of(resume)->table;
    if (!table_serves(table, resume->cursor.durable) ||
        (!resume->is_place && !journal_of(resume)->is_listening)) {
        return false;
    }
    if (table->state == TABLE_PRESENT && resume->cursor.durable > table->head &&
        resume->reading == 0) {
        resume->reading = table_ask_reading(table);
    }
    return table->state != TABLE_PRESENT || table_has_read(table, resume->reading);
}

static void go_on_from_head(struct resume *resume, bool from_place, bool from_id) {
    struct cursor cursor = journal_cursor(journal_of(resume));
    struct position head;
    journal_position(journal_of(resume), &head);
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

/* Decides from where the handler goes on. A place or an id that is not known here goes on from the
 * head, and one refresh says so. False: this cannot be decided yet. */
static bool decide(struct resume *resume) {
    if (!is_decidable(resume)) {
        return false;
    }
    uint64_t head = journal_of(resume)->table.head;
    bool is_id = resume->cursor.durable <= head && (resume->cursor.durable > 0 || head == 0);
    resume->is_decided = true;
    go_on_from_head(resume, !resume->is_place, !is_id);
    if (!is_id) {
        refresh(resume, NULL, SSE_REFRESH_UNKNOWN_POSITION, true);
    } else if (!resume->is_place) {
        refresh(resume, NULL, SSE_REFRESH_RESTART, false);
    }
    return true;
}

void resume_on_table_changed(struct resume *resume) {
    const struct table *table = &journal_of(resume)->table;
    gap_memory_clear(&resume->gaps_told); /* they were the old table's */
    if (resume->is_decided) {
        resume->cursor.durable = table->head;
        resume->position.durable = table->head;
        refresh(resume, NULL, SSE_REFRESH_GAP, true);
    } else if (resume->cursor.durable != 0 && table->previous_state != TABLE_UNKNOWN) {
        resume->cursor.durable = UINT64_MAX; /* the id is the old table's: no id of this one */
    }
}

/* --- what was dropped ------------------------------------------------------------------------- */

/* The next entry that is new, if it comes first in the log; NULL if others are before it. */
static const struct entry *next_of_any(const struct resume *resume) {
    const struct entry *entry = history_after(&journal_of(resume)->history, &resume->cursor);
    return entry != NULL && entry_is_new(entry, &resume->cursor) ? entry : NULL;
}

/* True if the next entry is a break for all topics of the handler. (It is not enough to look at one
 * topic: a client may have two, and an event of the other one may come before the break.) Any event
 * may match a pattern. */
static bool is_at_break(const struct resume *resume) {
    const struct history *history = &journal_of(resume)->history;
    const struct cursor *cursor = &resume->cursor;
    const struct entry *next = history_next(history, NULL, 0, cursor);
    const struct interest *interest;
    LIST_FOREACH(interest, &resume->delivery->interests, of_delivery) {
        struct topic *topic = interest->topic;
        if (next != NULL) {
            next = topic_has_pattern(topic) ? next_of_any(resume)
                                            : history_next(history, &topic, 1, cursor);
        }
        if (next == NULL || next->kind != ENTRY_BREAK) {
            return false;
        }
    }
    return next != NULL;
}

/* Tells of dropped events of the handler's topics. False if not all could be told yet: there may be
 * more topics than the queue has room for. */
static bool tell_drops(struct resume *resume) {
    const struct history *history = &journal_of(resume)->history;
    struct interest *interest;
    if (is_at_break(resume)) {
        return true; /* the refresh of the break comes next and covers the drops */
    }
    LIST_FOREACH(interest, &resume->delivery->interests, of_delivery) {
        uint64_t losses = history_losses(history, interest->topic);
        if (history_floor(history, interest->topic) > resume->cursor.place &&
            losses > interest->losses_told) {
            if (!outbox_wants_more(&resume->delivery->outbox)) {
                return false;
            }
            interest->losses_told = losses;
            refresh(resume, interest->topic, SSE_REFRESH_GAP, false);
        }
    }
    return true;
}

/* --- sending ---------------------------------------------------------------------------------- */

/* A frame in the log has the position of a reader that has everything up to it. If one part of the
 * resume's cursor is already further, that part of the resume's position is kept: positions never
 * move back. */
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

static void send_event(struct resume *resume, const struct cursor *at, struct topic *topic,
                       struct payload *frame) {
    struct wire_event event;
    check(wire_decode_event(wire_body(frame), &event));
    struct position position = event.position;
    keep_ahead(resume, at, &position);
    move_to(resume, at, &position);
    topics_count_broadcast(&journal_of(resume)->topics, topic);
    if (position_equals(&position, &event.position)) {
        outbox_share(&resume->delivery->outbox, frame);
    } else {
        event.position = position;
        outbox_queue(&resume->delivery->outbox, wire_encode_event(&event));
    }
}

static void send_refresh(struct resume *resume, const struct cursor *at, struct payload *frame) {
    struct wire_refresh refresh;
    check(wire_decode_refresh(wire_body(frame), &refresh));
    keep_ahead(resume, at, &refresh.position);
    move_to(resume, at, &refresh.position);
    outbox_queue(&resume->delivery->outbox, wire_encode_refresh(&refresh));
}

/* Returns true if the handler wants a durable event of the topic. (If it was told of a gap after
 * this event, the event comes from the log, or from a page that was read before the pruning.) */
static bool wants_durable(struct resume *resume, struct topic_key topic, uint64_t id) {
    bool is_wanted = delivery_wants(resume->delivery, topic);
    if (is_wanted) {
        gap_memory_pass(&resume->gaps_told, topic, id);
    }
    return is_wanted;
}

static void send_entry(struct resume *resume, const struct entry *entry) {
    if (!entry_is_new(entry, &resume->cursor)) {
        return;
    }
    switch (entry->kind) {
    case ENTRY_BREAK:
        send_refresh(resume, &entry->at, entry->frame);
        return;
    case ENTRY_EPHEMERAL:
        if (delivery_wants(resume->delivery, topic_key_of(entry->topic))) {
            send_event(resume, &entry->at, entry->topic, entry->frame);
            return;
        }
        break;
    case ENTRY_DURABLE:
        if (wants_durable(resume, topic_key_of(entry->topic), entry->at.durable)) {
            send_event(resume, &entry->at, entry->topic, entry->frame);
            return;
        }
        break;
    }
    move_to(resume, &entry->at, &resume->position);
}

/* --- the table -------------------------------------------------------------------------------- */

static bool needs_page(const struct resume *resume) {
    const struct journal *journal = journal_of(resume);
    const struct interest *interest;
    uint64_t id = resume->cursor.durable;
    if (journal->table.state != TABLE_PRESENT || id >= journal->table.head) {
        return false;
    }
    LIST_FOREACH(interest, &resume->delivery->interests, of_delivery) {
        if (history_durable_floor(&journal->history, interest->topic) > id) {
            return true;
        }
    }
    return false;
}

static void move_to_id(struct resume *resume, uint64_t id) {
    resume->cursor.durable = id;
    resume->position.durable = id;
}

static void send_row(struct resume *resume, const struct table_row *row) {
    struct topics *topics = &journal_of(resume)->topics;
    struct wire_event event;
    check(wire_decode_event(wire_body(row->frame), &event));
    struct topic *topic = topics_find(topics, event.topic);
    move_to_id(resume, row->id);
    if (wants_durable(resume, event.topic, row->id)) {
        event.position = resume->position;
        topics_count_broadcast(topics, topic);
        outbox_queue(&resume->delivery->outbox, wire_encode_event(&event));
    }
}

static bool is_concerned(const struct resume *resume, const struct gap *gap) {
    return topic_key_is_none(gap_topic(gap)) ? !LIST_EMPTY(&resume->delivery->interests)
                                             : delivery_wants(resume->delivery, gap_topic(gap));
}

static bool is_news(const void *self, const struct gap *gap) {
    const struct resume *resume = self;
    return gap->id > resume->cursor.durable && is_concerned(resume, gap) &&
           !gap_memory_knows(&resume->gaps_told, gap);
}

static bool begin_gap(void *self, const struct gap *gap) {
    struct resume *resume = self;
    return outbox_wants_more(&resume->delivery->outbox) && gap_memory_add(&resume->gaps_told, gap);
}

/* A gap that cannot be told now is met again, on a page or in the reading under way. */
static bool tell_gaps(struct resume *resume, const struct gaps *gaps) {
    struct gap_rule rule = {resume, is_news, begin_gap};
    return delivery_tell_gaps(resume->delivery, gaps, &rule);
}

/* False: not all could be told yet. */
static bool tell_gaps_of(struct resume *resume, const struct table_page *page) {
    struct gaps gaps = {.before = resume->position, .after = resume->position};
    gaps.list = table_page_gaps(page, &gaps.count);
    gaps.after.durable = table_page_skip(page, resume->cursor.durable);
    if (!tell_gaps(resume, &gaps)) {
        return false;
    }
    if (gaps.count > 0) {
        move_to_id(resume, gaps.after.durable);
    }
    return true;
}

/* False: it has to wait, for room or for the page. */
static bool send_page(struct resume *resume) {
    const struct table_page *page = table_find_page(&journal_of(resume)->table, NULL, 0,
                                                    resume->cursor.durable, &resume->waiter);
    const struct table_row *row;
    if (page->state == TABLE_PAGE_WANTED || !tell_gaps_of(resume, page)) {
        return false;
    }
    while ((row = table_page_next(page, resume->cursor.durable)) != NULL) {
        if (!outbox_wants_more(&resume->delivery->outbox)) {
            return false;
        }
        send_row(resume, row);
    }
    move_to_id(resume, page->end);
    return true;
}

/* --- going on --------------------------------------------------------------------------------- */

/* True at the head. */
static bool send_log(struct resume *resume) {
    const struct entry *entry = history_after(&journal_of(resume)->history, &resume->cursor);
    for (size_t looked_at = 0; entry != NULL && outbox_wants_more(&resume->delivery->outbox) &&
                               looked_at < RESUME_ENTRIES;
         looked_at++) {
        send_entry(resume, entry);
        entry = TAILQ_NEXT(entry, link);
    }
    return entry == NULL;
}

/* The refresh carries the current position: the reading that has met the gap is not complete
 * yet. */
static void tell_open_gap(void *argument, const struct gap *gap) {
    struct resume *resume = argument;
    struct gaps gaps = {
        .list = gap, .count = 1, .before = resume->position, .after = resume->position};
    bool is_told = tell_gaps(resume, &gaps);
    (void)is_told; /* false: no room, which resume_pump checks */
}

enum resume_progress resume_pump(struct resume *resume) {
    const struct outbox *outbox = &resume->delivery->outbox;
    if ((!resume->is_decided && !decide(resume)) || !tell_drops(resume)) {
        return RESUME_WAITS;
    }
    while (needs_page(resume)) {
        if (!outbox_wants_more(outbox) || !send_page(resume)) {
            return RESUME_WAITS;
        }
    }
    table_visit_gaps(&journal_of(resume)->table, resume, tell_open_gap);
    if (!outbox_wants_more(outbox)) {
        return RESUME_WAITS;
    }
    return send_log(resume) ? RESUME_IS_DONE : RESUME_HAS_MORE;
}
