#include "resume.h"

/* --- from where it goes on -------------------------------------------------------------------- */

static struct journal *journal_of(const struct resume *resume) {
    return resume->delivery->journal;
}

static void on_page(struct page_waiter *waiter) {
    delivery_refill_soon(container_of(waiter, struct resume, walk.waiter)->delivery);
}

static void start(struct resume *resume) {
    resume->is_decided = true;
    walk_begin(&resume->walk, resume->delivery, NULL, 0, &resume->cursor, &resume->position,
               on_page);
}

void resume_begin(struct resume *resume, struct delivery *delivery, enum position_kind kind,
                  const struct position *position) {
    *resume = (struct resume){
        .delivery = delivery,
        .position = *position,
        .cursor.durable = position->durable,
    };
    if (kind == POSITION_NONE || LIST_EMPTY(&delivery->interests)) {
        resume->cursor = journal_cursor(delivery->journal);
        start(resume); /* no client can have missed anything */
    } else {
        resume->is_place =
            markers_resolve(&delivery->journal->markers, position, &resume->cursor.place);
    }
}

void resume_end(struct resume *resume) {
    walk_end(&resume->walk);
}

/* topic: none means all topics. */
static void refresh(struct resume *resume, struct topic_key topic, enum sse_refresh_reason reason,
                    bool is_durable) {
    struct wire_refresh message = {.is_durable = is_durable,
                                   .topic = topic,
                                   .position = resume->walk.position,
                                   .reason = reason,
                                   .dropped = SSE_DROPPED_UNKNOWN};
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
    uint64_t id = from_id ? head.durable : resume->position.durable;
    if (from_place) {
        resume->cursor.place = cursor.place;
        resume->position = head;
    }
    if (from_id) {
        resume->cursor.durable = cursor.durable;
    }
    resume->position.durable = id;
}

/* Decides from where the handler goes on. A place or an id that is not known here goes on from the
 * head, and one refresh says so. False: this cannot be decided yet. */
static bool decide(struct resume *resume) {
    if (!is_decidable(resume)) {
        return false;
    }
    uint64_t head = journal_of(resume)->table.head;
    bool is_id = resume->cursor.durable <= head && (resume->cursor.durable > 0 || head == 0);
    go_on_from_head(resume, !resume->is_place, !is_id);
    start(resume);
    if (!is_id) {
        refresh(resume, TOPIC_KEY_NONE, SSE_REFRESH_UNKNOWN_POSITION, true);
    } else if (!resume->is_place) {
        refresh(resume, TOPIC_KEY_NONE, SSE_REFRESH_RESTART, false);
    }
    return true;
}

void resume_on_table_changed(struct resume *resume) {
    const struct table *table = &journal_of(resume)->table;
    if (resume->is_decided) {
        walk_on_table_changed(&resume->walk);
        refresh(resume, TOPIC_KEY_NONE, SSE_REFRESH_GAP, true);
    } else if (resume->cursor.durable != 0 && table->previous_state != TABLE_UNKNOWN) {
        resume->cursor.durable = UINT64_MAX; /* the id is the old table's: no id of this one */
    }
}

/* --- sending ---------------------------------------------------------------------------------- */

static void send_event(struct resume *resume, const struct walk_step *step) {
    struct outbox *outbox = &resume->delivery->outbox;
    struct topics *topics = &journal_of(resume)->topics;
    topics_count_broadcast(topics, topics_find(topics, step->event.topic));
    if (step->frame != NULL) {
        outbox_share(outbox, step->frame);
    } else {
        outbox_queue(outbox, wire_encode_event(&step->event));
    }
}

/* False: there is no room. (It comes again.) */
static bool send_step(struct resume *resume, const struct walk_step *step) {
    if (!outbox_wants_more(&resume->delivery->outbox)) {
        return false;
    }
    walk_take(&resume->walk, step);
    if (step->kind == WALK_EVENT) {
        send_event(resume, step);
    } else {
        refresh(resume, step->topic, SSE_REFRESH_GAP, step->is_durable);
    }
    return true;
}

enum resume_progress resume_pump(struct resume *resume) {
    const struct outbox *outbox = &resume->delivery->outbox;
    struct walk_step step;
    if ((!resume->is_decided && !decide(resume)) || !outbox_wants_more(outbox)) {
        return RESUME_WAITS;
    }
    walk_begin_turn(&resume->walk);
    for (;;) {
        switch (walk_next(&resume->walk, outbox_wants_more(outbox), &step)) {
        case WALK_EVENT:
        case WALK_GAP:
        case WALK_BREAK:
            if (!send_step(resume, &step)) {
                return RESUME_WAITS;
            }
            break;
        case WALK_FULL:
        case WALK_WAIT:
            return RESUME_WAITS;
        case WALK_PAUSE:
            return RESUME_HAS_MORE;
        case WALK_HEAD:
            return RESUME_IS_DONE;
        }
    }
}
