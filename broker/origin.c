#include "origin.h"

#include "wire.h"

void owed_refresh_add(struct owed_refresh *owed, enum sse_refresh_reason reason) {
    if (!owed->is_owed || reason < owed->reason) {
        owed->reason = reason;
    }
    owed->is_owed = true;
}

void origin_init(struct origin *origin, struct journal *journal, bool is_user_stream,
                 enum position_kind kind, const struct position *position) {
    *origin = (struct origin){
        .journal = journal, .is_user_stream = is_user_stream, .kind = kind, .position = *position};
}

/* --- when it can be decided ------------------------------------------------------------------- */

bool origin_is_decidable(const struct origin *origin) {
    const struct journal *journal = origin->journal;
    uint64_t id =
        origin->is_user_stream || origin->kind == POSITION_ALL ? 1 : origin->position.durable;
    return journal->is_listening && table_serves(&journal->table, id) &&
           canary_has_passed(&journal->canary, origin->barrier) &&
           (journal->table.state != TABLE_PRESENT ||
            table_has_read(&journal->table, origin->reading));
}

/* True if the client came with M.S and gets ephemeral events. */
static bool names_place(const struct origin *origin) {
    return !origin->is_user_stream && origin->position.marker[0] != '\0';
}

/* True if the position is unknown now, but may become known soon: the subscription waits for a
 * marker and a reading. */
static bool is_held_back(struct origin *origin, bool is_place) {
    struct journal *journal = origin->journal;
    bool is_beyond =
        journal->table.state == TABLE_PRESENT && origin->position.durable > journal->table.head;
    bool is_unknown = names_place(origin) && !is_place;
    if ((is_beyond || is_unknown) && origin->barrier == 0) {
        origin->barrier = canary_ask_barrier(&journal->canary);
        return true;
    }
    if (is_beyond && origin->reading == 0) {
        origin->reading = table_ask_reading(&journal->table);
        return true;
    }
    return false;
}

/* --- the place and the id --------------------------------------------------------------------- */

static void move_to_id(struct origin *origin, uint64_t id) {
    origin->position.durable = id;
    origin->cursor.durable = id;
}

/* D stays. */
static void move_to_place(struct origin *origin, uint64_t place, const struct position *position) {
    uint64_t durable = origin->position.durable;
    origin->position = *position;
    origin->position.durable = durable;
    origin->cursor.place = place;
}

static void place_at_head(struct origin *origin) {
    journal_position(origin->journal, &origin->position);
    origin->cursor = journal_cursor(origin->journal);
}

/* Ephemeral events go on from the position's place, or, if that is not known, from the head with a
 * refresh. A client that came with D alone has no place that could be lost, so it gets no
 * refresh. */
static void decide_place(struct origin *origin, bool is_place, uint64_t place,
                         struct owed_refresh *owed) {
    struct position head;
    if (names_place(origin) && !is_place) {
        owed_refresh_add(owed, SSE_REFRESH_UNKNOWN_POSITION);
    }
    if (origin->is_user_stream || !is_place) {
        journal_position(origin->journal, &head);
        move_to_place(origin, origin->journal->markers.count, &head);
    } else {
        origin->cursor.place = place;
    }
}

/* Durable events likewise. D is 0 in positions from before the table existed: that is no id. */
static void decide_id(struct origin *origin, struct owed_refresh *owed) {
    uint64_t head = origin->journal->table.head;
    uint64_t id = origin->position.durable;
    origin->has_no_id = id == 0 && head > 0;
    if (id > head) {
        owed_refresh_add(owed, SSE_REFRESH_UNKNOWN_POSITION);
    }
    move_to_id(origin, id == 0 || id > head ? head : id);
}

/* --- from the start --------------------------------------------------------------------------- */

/* The position just before this entry. For an ephemeral event: its own position less one. A durable
 * event takes no place, so its position serves as it is. (The caller sets D.) */
static struct position position_before(const struct entry *entry) {
    struct wire_event event;
    check(wire_decode_event(wire_body(entry->frame), &event));
    if (entry->kind == ENTRY_EPHEMERAL) {
        check(event.position.since > 0);
        event.position.since--;
    }
    return event.position;
}

/* The cursor already covers all durable events. With a pattern, the first entry of any topic is
 * returned: its place precedes all matching events. */
static const struct entry *first_kept(const struct origin *origin, struct topic *const *topics,
                                      size_t topic_count) {
    const struct history *history = &origin->journal->history;
    for (size_t i = 0; i < topic_count; i++) {
        if (topic_has_pattern(topics[i])) {
            return history_after(history, &origin->cursor);
        }
    }
    return history_next(history, topics, topic_count, &origin->cursor);
}

static void pass_break(struct origin *origin, const struct entry *entry,
                       struct owed_refresh *owed) {
    struct wire_refresh refresh;
    check(wire_decode_refresh(wire_body(entry->frame), &refresh));
    move_to_place(origin, entry->at.place, &refresh.position);
    owed_refresh_add(owed, refresh.reason);
}

/* The client asks for all that is kept. Its first position is the place before the first ephemeral
 * event of its topics, or the head: other brokers know that place, too. (Not "0": a client that
 * came back with "0" would get everything again.) The walk tells of events that were dropped before
 * that place. Breaks before the first kept event are told here. */
static void place_at_start(struct origin *origin, struct topic *const *topics, size_t topic_count,
                           struct owed_refresh *owed) {
    const struct entry *entry;
    origin->cursor = (struct cursor){origin->is_user_stream ? UINT64_MAX : 0, UINT64_MAX};
    while ((entry = first_kept(origin, topics, topic_count)) != NULL &&
           entry->kind == ENTRY_BREAK) {
        pass_break(origin, entry, owed);
    }
    if (entry == NULL) {
        journal_position(origin->journal, &origin->position);
    } else {
        origin->position = position_before(entry);
    }
    /* no event has the id 1 */
    move_to_id(origin, origin->journal->table.state == TABLE_PRESENT ? 1 : 0);
}

/* If the client has a position, it asks again: it was accepted there before, and has got nothing
 * since. Events since that position are either still kept, or a refresh tells of their loss. */
static void decide_all(struct origin *origin, bool is_place, struct owed_refresh *owed) {
    uint64_t head = origin->journal->table.head;
    uint64_t id = origin->position.durable;
    if (id > head || (names_place(origin) && !is_place)) {
        owed_refresh_add(owed, SSE_REFRESH_UNKNOWN_POSITION);
    }
    origin->unproved = id < head ? id : 0;
}

/* --- the decision ----------------------------------------------------------------------------- */

static bool place_known(struct origin *origin, struct topic *const *topics, size_t topic_count,
                        struct owed_refresh *owed) {
    uint64_t place = 0;
    bool is_place = markers_resolve(&origin->journal->markers, &origin->position, &place);
    if (is_held_back(origin, is_place)) {
        return false;
    }
    if (origin->kind == POSITION_ALL) {
        decide_all(origin, is_place, owed);
        place_at_start(origin, topics, topic_count, owed);
    } else {
        decide_place(origin, is_place, place, owed);
        decide_id(origin, owed);
    }
    return true;
}

bool origin_place(struct origin *origin, struct topic *const *topics, size_t topic_count,
                  struct owed_refresh *owed) {
    switch (origin->kind) {
    case POSITION_NONE:
        place_at_head(origin);
        break;
    case POSITION_MALFORMED:
        owed_refresh_add(owed, SSE_REFRESH_UNKNOWN_POSITION);
        place_at_head(origin);
        break;
    case POSITION_ALL:
    case POSITION_KNOWN:
        if (!place_known(origin, topics, topic_count, owed)) {
            return false;
        }
        break;
    }
    if (origin->is_user_stream) {
        origin->cursor.place = UINT64_MAX;
    }
    return true;
}

/* --- what only the table knows ---------------------------------------------------------------- */

bool origin_wants_page(const struct origin *origin, uint64_t *after) {
    *after = origin->unproved != 0 ? origin->unproved : origin->probed;
    return origin->journal->table.state == TABLE_PRESENT &&
           (origin->unproved != 0 || origin->has_no_id);
}

/* A gap without a topic means that the id lies in a leap: another table gave it, or its event was
 * lost. */
static void prove(struct origin *origin, const struct table_page *page, struct owed_refresh *owed) {
    size_t gap_count;
    const struct gap *gaps = table_page_gaps(page, &gap_count);
    for (size_t i = 0; i < gap_count; i++) {
        if (topic_key_is_none(gap_topic(&gaps[i]))) {
            owed_refresh_add(owed, SSE_REFRESH_GAP);
        }
    }
    origin->unproved = 0;
}

/* The client has no id of the table. If the table has had any event of its topics, the client may
 * have missed it: a refresh is owed. */
static void probe(struct origin *origin, const struct table_page *page, struct owed_refresh *owed) {
    size_t gap_count;
    bool has_gaps = table_page_gaps(page, &gap_count) != NULL && gap_count > 0;
    bool is_something = has_gaps || table_page_next(page, origin->probed) != NULL;
    origin->probed = page->end;
    if (is_something) {
        owed_refresh_add(owed, SSE_REFRESH_UNKNOWN_POSITION);
    }
    origin->has_no_id = !is_something && origin->probed < origin->cursor.durable;
}

void origin_read_page(struct origin *origin, const struct table_page *page,
                      struct owed_refresh *owed) {
    if (origin->unproved != 0) {
        prove(origin, page, owed);
    } else {
        probe(origin, page, owed);
    }
}

void origin_on_table_changed(struct origin *origin, bool is_placed) {
    if (is_placed) {
        origin->has_no_id = false;
        origin->unproved = 0;
    } else if (origin->position.durable != 0 &&
               origin->journal->table.previous_state != TABLE_UNKNOWN) {
        origin->position.durable = UINT64_MAX; /* it was an id of the old table */
    }
}
