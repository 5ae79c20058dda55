#include "replay.h"

#include "http.h"

#include <stdlib.h>

struct replay *replay_find(const struct delivery *delivery, uint64_t token) {
    struct replay *replay;
    HASH_FIND(hh, delivery->replays, &token, sizeof token, replay);
    return replay;
}

/* --- states ---------------------------------------------------------------------------------- */

static struct journal *journal_of(const struct replay *replay) {
    return replay->delivery->journal;
}

static struct table *table_of(const struct replay *replay) {
    return &journal_of(replay)->table;
}

static struct replay_list *list_of(const struct replay *replay) {
    switch (replay->state) {
    case REPLAY_HELD:
        return &replay->delivery->held;
    case REPLAY_READY:
        return &replay->delivery->ready;
    case REPLAY_CHECKING:
    case REPLAY_PAGING:
    case REPLAY_STARVED:
    case REPLAY_LIVE:
        break;
    }
    return NULL;
}

static void leave_list(struct replay *replay) {
    struct replay_list *list = list_of(replay);
    if (list != NULL) {
        TAILQ_REMOVE(list, replay, link);
    }
}

static void set_state(struct replay *replay, enum replay_state state) {
    leave_list(replay);
    if (state != REPLAY_CHECKING) {
        check_cancel(&replay->check);
    }
    if (state != REPLAY_PAGING) {
        page_waiter_leave(&replay->waiter);
    }
    replay->state = state;
    struct replay_list *list = list_of(replay);
    if (list != NULL) {
        TAILQ_INSERT_TAIL(list, replay, link);
    }
}

void replay_destroy(struct replay **place) {
    struct replay *replay = *place;
    *place = NULL;
    leave_list(replay);
    check_cancel(&replay->check);
    page_waiter_leave(&replay->waiter);
    /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): what exists is in the table */
    HASH_DEL(replay->delivery->replays, replay);
    if (replay->state == REPLAY_LIVE) {
        replay->delivery->live_user_streams--;
    }
    free(replay->user);
    free(replay->gaps_told);
    free(replay->losses_told);
    free(replay);
}

void replay_set_aside(struct replay *replay) {
    if (replay->state != REPLAY_LIVE) {
        set_state(replay, REPLAY_HELD);
    }
}

static struct interest *interest_in(const struct replay *replay, const struct topic *topic) {
    const struct delivery *delivery = replay->delivery;
    struct interest *interest = topic_interest(topic, delivery, &delivery->interests);
    check(interest != NULL);
    return interest;
}

/* From now on fan-out serves this client. */
static void become_live(struct replay *replay) {
    if (replay->form == WIRE_FORM_USER) {
        set_state(replay, REPLAY_LIVE);
        replay->delivery->live_user_streams++;
        return;
    }
    for (size_t i = 0; i < replay->topic_count; i++) {
        interest_in(replay, replay->topics[i])->by_token--;
    }
    replay_destroy(&replay);
}

/* True if ACCEPTED was sent. */
static bool is_open(const struct replay *replay) {
    switch (replay->state) {
    case REPLAY_HELD:
    case REPLAY_CHECKING:
        return false;
    case REPLAY_READY:
    case REPLAY_STARVED:
    case REPLAY_PAGING:
    case REPLAY_LIVE:
        return true;
    }
    return false;
}

static bool is_open_user_stream(const struct replay *replay) {
    return replay->form == WIRE_FORM_USER && is_open(replay);
}

static void leave_topic(const struct replay *replay, const struct topic *topic) {
    struct delivery *delivery = replay->delivery;
    struct interest *interest = interest_in(replay, topic);
    interest->by_token--;
    interest->user_streams -= is_open_user_stream(replay) ? 1 : 0;
    check(topics_unsubscribe(&delivery->journal->topics, topic_key_of(topic), delivery,
                             &delivery->interests));
}

static void count_closed(const struct replay *replay) {
    if (is_open_user_stream(replay)) {
        replay->delivery->open_user_streams--;
        interest_in(replay, replay->topics[0])->first_of--;
    }
}

void replay_leave(struct replay **place) {
    const struct replay *replay = *place;
    count_closed(replay);
    for (size_t i = 0; i < replay->topic_count; i++) {
        leave_topic(replay, replay->topics[i]);
    }
    replay_destroy(place);
}

/* --- refreshes --------------------------------------------------------------------------------
 *
 * A refresh is owed when its cause is met, and is sent before the next event. So causes without an
 * event between them make one refresh. It carries the position from which the stream goes on. */

static void owe_refresh(struct replay *replay, enum sse_refresh_reason reason) {
    if (!replay->owes_refresh || reason < replay->reason) {
        replay->reason = reason;
    }
    replay->owes_refresh = true;
}

static void pay_refresh(struct replay *replay) {
    if (replay->owes_refresh) {
        struct wire_refresh message = {.token = replay->token,
                                       .is_durable = true,
                                       .position = replay->position,
                                       .reason = replay->reason,
                                       .dropped = SSE_DROPPED_UNKNOWN};
        replay->owes_refresh = false;
        outbox_queue(&replay->delivery->outbox, wire_encode_refresh(&message));
    }
}

/* The log may have dropped an event of this client's topics. */
static void look_for_drops(struct replay *replay) {
    const struct history *history = &journal_of(replay)->history;
    for (size_t i = 0; i < replay->topic_count; i++) {
        uint64_t losses = history_losses(history, replay->topics[i]);
        if (history_floor(history, replay->topics[i]) > replay->cursor.place &&
            losses > replay->losses_told[i]) {
            replay->losses_told[i] = losses;
            owe_refresh(replay, SSE_REFRESH_GAP);
        }
    }
}

/* *is_at_head tells what NULL means: that nothing comes any more, or that so many entries were
 * looked at that the next turn has to go on. */
static const struct entry *next_entry(struct replay *replay, bool *is_at_head) {
    const struct history *history = &journal_of(replay)->history;
    if (replay->has_pattern) {
        return history_next_match(history, replay->topics, replay->topic_count, &replay->cursor,
                                  is_at_head);
    }
    const struct entry *entry =
        history_next(history, replay->topics, replay->topic_count, &replay->cursor);
    *is_at_head = entry == NULL;
    return entry;
}

static bool is_at_head(struct replay *replay) {
    bool is_at_head;
    return next_entry(replay, &is_at_head) == NULL && is_at_head;
}

/* --- sending ---------------------------------------------------------------------------------- */

static void finish(struct replay *replay) {
    struct delivery *delivery = replay->delivery;
    journal_position(delivery->journal, &replay->position);
    pay_refresh(replay);
    if (delivery_is_served(delivery)) {
        struct wire_position message = {replay->token, replay->position};
        become_live(replay);
        delivery_tell_subscribed(delivery, &message);
    }
}

/* An ephemeral event or a break moves M.S only; D stays. */
static void move_to_place(struct replay *replay, uint64_t place, const struct position *position) {
    uint64_t durable = replay->position.durable;
    replay->position = *position;
    replay->position.durable = durable;
    replay->cursor.place = place;
}

static void move_to_id(struct replay *replay, uint64_t id) {
    replay->position.durable = id;
    replay->cursor.durable = id;
}

/* Sends the event with the replay's position. The caller has sent the owed refresh and moved the
 * position. */
static void send_event(struct replay *replay, struct wire_replay *message) {
    struct topics *topics = &journal_of(replay)->topics;
    if (!delivery_is_served(replay->delivery)) {
        return; /* the refresh has made the outbox overfull */
    }
    struct topic *topic =
        topics_find(topics, message->event.topic); /* NULL: a pattern matched it */
    message->event.position = replay->position;
    topics_count_broadcast(topics, topic);
    struct payload *frame = wire_encode_replay(message);
    replay->credit_bytes -= (int64_t)wire_body(frame).length;
    if (replay->credit_bytes <= 0) {
        set_state(replay, REPLAY_STARVED);
    }
    outbox_queue(&replay->delivery->outbox, frame);
}

static void pass_break(struct replay *replay, const struct entry *entry) {
    struct wire_refresh refresh;
    check(wire_decode_refresh(wire_body(entry->frame), &refresh));
    move_to_place(replay, entry->at.place, &refresh.position);
    owe_refresh(replay, refresh.reason);
}

/* If the client was told of a gap after this event, it is told again later: the refresh came before
 * the event, so the client cannot know that the gap is after it. (The event comes from the log, or
 * from a page that was read before the pruning.) */
static void pass_gaps(struct replay *replay, struct topic_key topic, uint64_t id) {
    for (size_t i = 0; i < replay->topic_count; i++) {
        const struct topic *own = replay->topics[i];
        if (replay->gaps_told[i] > id && topic_key_covers(topic_key_of(own), topic)) {
            replay->gaps_told[i] = 0;
        }
    }
}

static void pass_durable(struct replay *replay, uint64_t id, const struct payload *frame) {
    struct wire_replay message = {.token = replay->token};
    check(wire_decode_event(wire_body(frame), &message.event));
    pay_refresh(replay);
    move_to_id(replay, id);
    pass_gaps(replay, message.event.topic, id);
    send_event(replay, &message);
}

static void pass_entry(struct replay *replay, const struct entry *entry) {
    struct wire_replay message = {.token = replay->token};
    switch (entry->kind) {
    case ENTRY_EPHEMERAL:
        check(wire_decode_event(wire_body(entry->frame), &message.event));
        pay_refresh(replay);
        move_to_place(replay, entry->at.place, &message.event.position);
        send_event(replay, &message);
        return;
    case ENTRY_BREAK:
        pass_break(replay, entry);
        return;
    case ENTRY_DURABLE:
        pass_durable(replay, entry->at.durable, entry->frame);
        return;
    }
}

/* --- the table -------------------------------------------------------------------------------- */

/* True if some events after the cursor are only in the table, or were pruned. */
static bool needs_page(const struct replay *replay) {
    const struct journal *journal = journal_of(replay);
    uint64_t id = replay->cursor.durable;
    if (journal->table.state != TABLE_PRESENT) {
        return false;
    }
    for (size_t i = 0; id < journal->table.head && i < replay->topic_count; i++) {
        if (history_durable_floor(&journal->history, replay->topics[i]) > id) {
            return true;
        }
    }
    return replay->has_no_id || replay->unproved != 0;
}

static bool is_under_way(const struct replay *replay) {
    return replay->state == REPLAY_READY || replay->state == REPLAY_STARVED ||
           replay->state == REPLAY_PAGING;
}

void replay_on_gap(struct replay *replay, const struct gap *gap) {
    if (!is_under_way(replay)) {
        return; /* it is live, or has not begun and will meet the gap */
    }
    for (size_t i = 0; i < replay->topic_count; i++) {
        if (gap->id > replay->cursor.durable && gap->id > replay->gaps_told[i] &&
            gap_is_about(gap, replay->topics[i])) {
            replay->gaps_told[i] = gap->id;
            owe_refresh(replay, SSE_REFRESH_GAP);
        }
    }
}

/* The client has no id of the table. If the table has had any event of its topics, the client may
 * have missed it: a refresh is owed. */
static void probe(struct replay *replay, const struct table_page *page) {
    size_t gap_count;
    bool has_gaps = table_page_gaps(page, &gap_count) != NULL && gap_count > 0;
    bool is_something = has_gaps || table_page_next(page, replay->probed) != NULL;
    replay->probed = page->end;
    if (is_something) {
        owe_refresh(replay, SSE_REFRESH_UNKNOWN_POSITION);
    }
    replay->has_no_id = !is_something && replay->probed < replay->cursor.durable;
}

/* A gap without topic after the id: the id may be in a leap, because it was another table's, or
 * because its event was lost. */
static void prove(struct replay *replay, const struct table_page *page) {
    size_t gap_count;
    const struct gap *gaps = table_page_gaps(page, &gap_count);
    for (size_t i = 0; i < gap_count; i++) {
        if (topic_key_is_none(gap_topic(&gaps[i]))) {
            owe_refresh(replay, SSE_REFRESH_GAP);
        }
    }
    replay->unproved = 0;
}

/* The id after which the next page has to be read. */
static uint64_t page_place(const struct replay *replay) {
    if (replay->unproved != 0) {
        return replay->unproved;
    }
    return replay->has_no_id ? replay->probed : replay->cursor.durable;
}

static bool can_send(const struct replay *replay) {
    return replay->state == REPLAY_READY && outbox_wants_more(&replay->delivery->outbox);
}

/* False: not all could be sent, for want of credit or room. */
static bool pass_rows(struct replay *replay, const struct table_page *page) {
    size_t gap_count;
    const struct gap *gaps = table_page_gaps(page, &gap_count);
    for (size_t i = 0; i < gap_count; i++) {
        replay_on_gap(replay, &gaps[i]);
    }
    if (gap_count > 0) {
        move_to_id(replay, table_page_skip(page, replay->cursor.durable));
    }
    const struct table_row *row;
    while ((row = table_page_next(page, replay->cursor.durable)) != NULL) {
        if (!can_send(replay)) {
            return false;
        }
        pass_durable(replay, row->id, row->frame);
    }
    move_to_id(replay, page->end);
    return true;
}

/* False: it has to wait, for credit, room or the page. */
static bool pass_page(struct replay *replay) {
    if (!can_send(replay)) {
        return false;
    }
    const struct table_page *page = table_find_page(
        table_of(replay), replay->topics, replay->topic_count, page_place(replay), &replay->waiter);
    if (page->state == TABLE_PAGE_WANTED) {
        set_state(replay, REPLAY_PAGING);
        return false;
    }
    if (replay->unproved != 0) {
        prove(replay, page);
        return true;
    }
    if (replay->has_no_id) {
        probe(replay, page);
        return true;
    }
    return pass_rows(replay, page);
}

static void tell_gap(void *argument, const struct gap *gap) {
    replay_on_gap(argument, gap);
}

/* So many entries were looked at that the others come first. */
static void go_on_later(struct replay *replay) {
    replay->delivery->searches++;
    if (replay->state == REPLAY_READY) {
        set_state(replay, REPLAY_READY); /* the last of the list */
        delivery_refill_soon(replay->delivery);
    }
}

void replay_pump(struct replay *replay) {
    struct delivery *delivery = replay->delivery;
    table_visit_gaps(table_of(replay), replay, tell_gap);
    while (delivery_is_served(delivery)) {
        look_for_drops(replay);
        if (needs_page(replay)) {
            if (!pass_page(replay)) {
                return;
            }
            continue;
        }
        bool is_at_head;
        const struct entry *entry = next_entry(replay, &is_at_head);
        if (entry == NULL && is_at_head) {
            finish(replay); /* needs no credit */
            return;
        }
        if (entry == NULL) {
            go_on_later(replay);
            return;
        }
        if (!can_send(replay)) {
            return;
        }
        pass_entry(replay, entry);
    }
}

void replay_grant(struct replay *replay, uint32_t bytes) {
    replay->credit_bytes += bytes;
    if (replay->state == REPLAY_STARVED && replay->credit_bytes > 0) {
        set_state(replay, REPLAY_READY);
        replay_pump(replay);
    }
}

static void on_page(struct page_waiter *waiter) {
    struct replay *replay = container_of(waiter, struct replay, waiter);
    set_state(replay, REPLAY_READY);
    replay_pump(replay);
}

/* --- the decision ----------------------------------------------------------------------------- */

static void count_open(struct replay *replay) {
    if (replay->form != WIRE_FORM_USER) {
        return;
    }
    replay->delivery->open_user_streams++;
    interest_in(replay, replay->topics[0])->first_of++;
    for (size_t i = 0; i < replay->topic_count; i++) {
        interest_in(replay, replay->topics[i])->user_streams++;
    }
}

static void begin(struct replay *replay) {
    struct delivery *delivery = replay->delivery;
    struct wire_accepted accepted = {.token = replay->token};
    accepted.topics.count = replay->topic_count;
    for (size_t i = 0; i < replay->topic_count; i++) {
        const struct topic *topic = replay->topics[i];
        accepted.topics.keys[i] = topic_key_of(topic);
    }
    look_for_drops(replay);
    accepted.has_backlog = replay->position_kind != POSITION_NONE &&
                           (replay->owes_refresh || needs_page(replay) || !is_at_head(replay) ||
                            !gap_memory_is_empty(&table_of(replay)->gaps));
    journal_position(delivery->journal, &accepted.position);
    outbox_queue(&delivery->outbox, wire_encode_accepted(&accepted));
    if (delivery_is_served(delivery)) {
        set_state(replay, REPLAY_READY);
        count_open(replay);
        replay_pump(replay);
    }
}

/* A user stream gets no ephemeral events: its cursor is after all of them. */
static uint64_t head_place(const struct replay *replay) {
    return replay->form == WIRE_FORM_USER ? UINT64_MAX : journal_of(replay)->markers.count;
}

/* Live events only. */
static void begin_at_head(struct replay *replay) {
    journal_position(journal_of(replay), &replay->position);
    replay->cursor = (struct cursor){head_place(replay), replay->position.durable};
    begin(replay);
}

static void begin_as_unknown(struct replay *replay) {
    owe_refresh(replay, SSE_REFRESH_UNKNOWN_POSITION);
    begin_at_head(replay);
}

/* The place before an ephemeral event. All ephemeral events before a durable one are before its
 * position's place. */
static struct position position_before(const struct entry *entry) {
    struct wire_event event;
    check(wire_decode_event(wire_body(entry->frame), &event));
    if (entry->kind == ENTRY_EPHEMERAL) {
        check(event.position.since > 0);
        event.position.since--;
    }
    return event.position;
}

/* The cursor has all durable events. If there is a pattern among the topics, any entry may be the
 * first: one that a place before it can be told of, see position_before. */
static const struct entry *first_kept(const struct replay *replay) {
    const struct history *history = &journal_of(replay)->history;
    return replay->has_pattern
               ? history_after(history, &replay->cursor)
               : history_next(history, replay->topics, replay->topic_count, &replay->cursor);
}

/* The client asks for all that is kept. Its first position is the place before the first ephemeral
 * event of its topics, or the head: other brokers know that place, too. (Not "0": a client that
 * came back with "0" would get everything again.) look_for_drops tells of events that were dropped
 * before that place. Breaks before the first kept event are told here. */
static void begin_at_start(struct replay *replay) {
    uint64_t place = replay->form == WIRE_FORM_USER ? UINT64_MAX : 0;
    const struct entry *entry;
    replay->cursor = (struct cursor){place, UINT64_MAX};
    while ((entry = first_kept(replay)) != NULL && entry->kind == ENTRY_BREAK) {
        pass_break(replay, entry);
    }
    if (entry == NULL) {
        journal_position(journal_of(replay), &replay->position);
    } else {
        replay->position = position_before(entry);
    }
    /* no event has the id 1 */
    move_to_id(replay, table_of(replay)->state == TABLE_PRESENT ? 1 : 0);
    begin(replay);
}

/* True if the client came with M.S and gets ephemeral events. */
static bool names_place(const struct replay *replay) {
    return replay->form != WIRE_FORM_USER && replay->position.marker[0] != '\0';
}

/* Ephemeral events go on from the position's place, or, if that is not known, from the head with a
 * refresh. A client that came with D alone has no place that could be lost, so it gets no
 * refresh. */
static void decide_place(struct replay *replay, bool is_place, uint64_t place) {
    struct position head;
    bool is_lost = names_place(replay) && !is_place;
    if (replay->form == WIRE_FORM_USER || !is_place) {
        journal_position(journal_of(replay), &head);
        move_to_place(replay, head_place(replay), &head);
    } else {
        replay->cursor.place = place;
    }
    if (is_lost) {
        owe_refresh(replay, SSE_REFRESH_UNKNOWN_POSITION);
    }
}

/* Durable events likewise. D is 0 in positions from before the table existed: that is no id. */
static void decide_id(struct replay *replay) {
    uint64_t head = table_of(replay)->head;
    uint64_t id = replay->position.durable;
    replay->has_no_id = id == 0 && head > 0;
    if (id > head) {
        owe_refresh(replay, SSE_REFRESH_UNKNOWN_POSITION);
    }
    move_to_id(replay, id == 0 || id > head ? head : id);
}

/* True if the position is unknown now, but may become known soon: the subscription waits for a
 * marker and a reading. */
static bool is_held_back(struct replay *replay, bool is_place) {
    struct journal *journal = journal_of(replay);
    bool is_beyond =
        journal->table.state == TABLE_PRESENT && replay->position.durable > journal->table.head;
    bool is_unknown = names_place(replay) && !is_place;
    if ((is_beyond || is_unknown) && replay->barrier == 0) {
        replay->barrier = canary_ask_barrier(&journal->canary);
        return true;
    }
    if (is_beyond && replay->reading == 0) {
        replay->reading = table_ask_reading(&journal->table);
        return true;
    }
    return false;
}

/* The client asks for all that is kept. If it has a position, it asks again: it was accepted there
 * before, and has got nothing since. Events since that position are either still kept, or a refresh
 * tells of their loss. */
static void decide_all(struct replay *replay, bool is_place) {
    uint64_t head = table_of(replay)->head;
    uint64_t id = replay->position.durable;
    if (id > head || (names_place(replay) && !is_place)) {
        owe_refresh(replay, SSE_REFRESH_UNKNOWN_POSITION);
    }
    replay->unproved = id < head ? id : 0;
    begin_at_start(replay);
}

static void decide_known(struct replay *replay) {
    uint64_t place = 0;
    bool is_place = markers_resolve(&journal_of(replay)->markers, &replay->position, &place);
    if (is_held_back(replay, is_place)) {
        set_state(replay, REPLAY_HELD);
        return;
    }
    if (replay->position_kind == POSITION_ALL) {
        decide_all(replay, is_place);
        return;
    }
    decide_place(replay, is_place, place);
    decide_id(replay);
    begin(replay);
}

static void decide_position(struct replay *replay) {
    switch (replay->position_kind) {
    case POSITION_NONE:
        begin_at_head(replay);
        return;
    case POSITION_MALFORMED:
        begin_as_unknown(replay);
        return;
    case POSITION_ALL:
    case POSITION_KNOWN:
        decide_known(replay);
        return;
    }
}

static void refuse(struct replay *replay, uint16_t status, const char *text) {
    struct delivery *delivery = replay->delivery;
    struct wire_refused message = {
        .token = replay->token, .status = status, .text = slice_of(text)};
    replay_leave(&replay);
    outbox_queue(&delivery->outbox, wire_encode_refused(&message));
}

static bool is_decidable(const struct replay *replay) {
    const struct journal *journal = journal_of(replay);
    uint64_t id = replay->form == WIRE_FORM_USER || replay->position_kind == POSITION_ALL
                      ? 1
                      : replay->position.durable;
    return delivery_is_served(replay->delivery) && journal->is_listening &&
           table_serves(&journal->table, id) &&
           canary_has_passed(&journal->canary, replay->barrier) &&
           (journal->table.state != TABLE_PRESENT ||
            table_has_read(&journal->table, replay->reading));
}

static void ask_check(struct replay *replay) {
    set_state(replay, REPLAY_CHECKING);
    replay->check.user = replay->user;
    replay->check.topics = replay->topics;
    replay->check.topic_count = replay->topic_count;
    table_ask_check(table_of(replay), &replay->check);
}

void replay_decide(struct replay *replay) {
    if (!is_decidable(replay)) {
        return;
    }
    if (replay->form != WIRE_FORM_USER) {
        decide_position(replay);
    } else if (table_of(replay)->state == TABLE_PRESENT) {
        ask_check(replay);
    } else {
        refuse(replay, HTTP_NOT_IMPLEMENTED, TABLE_IS_ABSENT);
    }
}

static void narrow(struct replay *replay) {
    size_t kept = 0;
    for (size_t i = 0; i < replay->topic_count; i++) {
        if ((replay->check.granted >> i & 1) != 0) {
            replay->gaps_told[kept] = replay->gaps_told[i];
            replay->topics[kept++] = replay->topics[i];
        } else {
            leave_topic(replay, replay->topics[i]);
        }
    }
    replay->topic_count = kept;
}

/* If the subscription cannot be decided now, it is checked again later, since the granted topics
 * may have changed by then. */
static void on_checked(struct check *check) {
    struct replay *replay = container_of(check, struct replay, check);
    if (check->granted == 0) {
        refuse(replay, HTTP_FORBIDDEN, "this user has subscribed to none of these channels");
        return;
    }
    set_state(replay, REPLAY_HELD);
    if (is_decidable(replay)) {
        narrow(replay);
        decide_position(replay);
    }
}

void replay_on_table_changed(struct replay *replay) {
    switch (replay->state) {
    case REPLAY_LIVE:
        return;
    case REPLAY_HELD:
    case REPLAY_CHECKING:
        if (replay->position.durable != 0 && table_of(replay)->previous_state != TABLE_UNKNOWN) {
            replay->position.durable = UINT64_MAX; /* it was an id of the old table */
        }
        set_state(replay, REPLAY_HELD);
        return;
    case REPLAY_PAGING:
        set_state(replay, REPLAY_READY);
        break;
    case REPLAY_READY:
    case REPLAY_STARVED:
        break;
    }
    replay->has_no_id = false;
    replay->unproved = 0;
    owe_refresh(replay, SSE_REFRESH_GAP);
    move_to_id(replay, table_of(replay)->head);
    memset(replay->gaps_told, 0, replay->topic_count * sizeof *replay->gaps_told);
    delivery_refill_soon(replay->delivery);
}

/* --- the beginning ---------------------------------------------------------------------------- */

bool replay_create(struct delivery *delivery, const struct wire_subscribe *message) {
    if (replay_find(delivery, message->token) != NULL) {
        return false;
    }
    size_t count = message->topics.count;
    struct replay *replay = must_zalloc(sizeof *replay + count * sizeof(struct topic *));
    replay->delivery = delivery;
    replay->token = message->token;
    replay->form = message->form;
    if (message->form == WIRE_FORM_USER) {
        replay->user = must_strdup(message->user.at, message->user.length);
    }
    replay->position_kind = message->position_kind;
    replay->position = message->position;
    replay->check.on_checked = on_checked;
    replay->waiter.on_page = on_page;
    replay->credit_bytes = WIRE_CREDIT_BYTES;
    replay->topic_count = count;
    replay->has_pattern = names_have_pattern(&message->topics);
    replay->gaps_told = must_zalloc(count * sizeof *replay->gaps_told);
    replay->losses_told = must_zalloc(count * sizeof *replay->losses_told);
    for (size_t i = 0; i < count; i++) {
        replay->topics[i] = topics_subscribe(&delivery->journal->topics, message->topics.keys[i],
                                             delivery, &delivery->interests, 1);
        interest_in(replay, replay->topics[i])->by_token++;
    }
    replay->state = REPLAY_HELD;
    TAILQ_INSERT_TAIL(&delivery->held, replay, link);
    HASH_ADD(hh, delivery->replays, token, sizeof replay->token, replay);
    replay_decide(replay);
    return true;
}
