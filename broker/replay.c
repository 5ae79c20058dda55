#include "replay.h"

#include "broker.h"

#include <stdlib.h>

enum { REFUSED_FORBIDDEN = 403, REFUSED_NOT_IMPLEMENTED = 501 }; /* of HTTP */

struct replay *replay_find(const struct handler *handler, uint64_t token) {
    struct replay *replay;
    HASH_FIND(hh, handler->replays, &token, sizeof token, replay);
    return replay;
}

/* --- states ---------------------------------------------------------------------------------- */

static struct table *table_of(const struct replay *replay) {
    return &replay->handler->broker->table;
}

static struct replay_list *list_of(const struct replay *replay) {
    switch (replay->state) {
    case REPLAY_HELD:
        return &replay->handler->held;
    case REPLAY_UNCHECKED:
        return &table_of(replay)->unchecked;
    case REPLAY_CHECKING:
        return &table_of(replay)->checking;
    case REPLAY_READY:
        return &replay->handler->ready;
    case REPLAY_PAGING:
        return &replay->page->waiting;
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
    /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): what exists is in the table */
    HASH_DEL(replay->handler->replays, replay);
    if (replay->state == REPLAY_LIVE) {
        replay->handler->live_connections--;
    }
    free(replay->user);
    free(replay->gaps_told);
    free(replay);
}

void replay_set_aside(struct replay *replay) {
    if (replay->state != REPLAY_LIVE) {
        set_state(replay, REPLAY_HELD);
    }
}

static struct subscription *subscription_to(const struct replay *replay,
                                            const struct topic *topic) {
    struct subscription *subscription =
        topic_subscription(topic, replay->handler, &replay->handler->subscriptions);
    check(subscription != NULL);
    return subscription;
}

/* What fan-out sends from now on is for this client, too. */
static void become_live(struct replay *replay) {
    if (replay->form == WIRE_FORM_CONNECTIONS) {
        set_state(replay, REPLAY_LIVE);
        replay->handler->live_connections++;
        return;
    }
    for (size_t i = 0; i < replay->topic_count; i++) {
        subscription_to(replay, replay->topics[i])->by_token--;
    }
    replay_destroy(&replay);
}

static void leave_topic(const struct replay *replay, const struct topic *topic) {
    struct handler *handler = replay->handler;
    subscription_to(replay, topic)->by_token--;
    check(topics_unsubscribe(&handler->broker->topics,
                             (struct slice){topic->name, topic->name_length}, handler,
                             &handler->subscriptions));
}

void replay_leave(struct replay **place) {
    const struct replay *replay = *place;
    for (size_t i = 0; i < replay->topic_count; i++) {
        leave_topic(replay, replay->topics[i]);
    }
    replay_destroy(place);
}

/* --- refreshes --------------------------------------------------------------------------------
 *
 * One is owed from the moment its cause is met, and goes out in front of the next event: causes
 * that nothing stands between make one. It carries the place at which the stream goes on. */

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
        handler_take(replay->handler, wire_encode_refresh(&message));
    }
}

/* Something that is not there any more may have been this client's. */
static void look_for_drops(struct replay *replay) {
    const struct history *history = &replay->handler->broker->history;
    for (size_t i = 0; i < replay->topic_count; i++) {
        uint64_t floor = history_floor(history, replay->topics[i]);
        if (floor > replay->cursor.place && floor > replay->floor_told) {
            replay->floor_told = floor;
            owe_refresh(replay, SSE_REFRESH_GAP);
        }
    }
}

static const struct history_entry *next_entry(const struct replay *replay) {
    return history_next(&replay->handler->broker->history, replay->topics, replay->topic_count,
                        &replay->cursor);
}

/* --- sending ---------------------------------------------------------------------------------- */

static void finish(struct replay *replay) {
    struct handler *handler = replay->handler;
    broker_position(handler->broker, &replay->position);
    pay_refresh(replay);
    if (handler->state == HANDLER_SERVED) {
        struct wire_position message = {replay->token, replay->position};
        become_live(replay);
        handler_tell_subscribed(handler, &message);
    }
}

/* A position moves by the entry's own component only. */
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

/* Behind whatever is owed, at the position that the replay has moved to. */
static void send_event(struct replay *replay, struct wire_replay *message) {
    struct broker *broker = replay->handler->broker;
    if (replay->handler->state != HANDLER_SERVED) {
        return; /* the refresh was too much for it */
    }
    struct topic *topic = topics_find(&broker->topics, message->event.topic);
    check(topic != NULL); /* it has a subscriber */
    message->event.position = replay->position;
    broker_count_sent(broker, topic);
    struct payload *frame = wire_encode_replay(message);
    replay->credit_bytes -= (int64_t)wire_body(frame).length;
    if (replay->credit_bytes <= 0) {
        set_state(replay, REPLAY_STARVED);
    }
    handler_take(replay->handler, frame);
}

static void pass_break(struct replay *replay, const struct history_entry *entry) {
    struct wire_refresh refresh;
    check(wire_decode_refresh(wire_body(entry->frame), &refresh));
    move_to_place(replay, entry->at.place, &refresh.position);
    owe_refresh(replay, refresh.reason);
}

static void pass_durable(struct replay *replay, uint64_t id, const struct payload *frame) {
    struct wire_replay message = {.token = replay->token};
    check(wire_decode_event(wire_body(frame), &message.event));
    pay_refresh(replay);
    move_to_id(replay, id);
    send_event(replay, &message);
}

static void pass_entry(struct replay *replay, const struct history_entry *entry) {
    struct wire_replay message = {.token = replay->token};
    switch (entry->kind) {
    case HISTORY_EPHEMERAL:
        check(wire_decode_event(wire_body(entry->frame), &message.event));
        pay_refresh(replay);
        move_to_place(replay, entry->at.place, &message.event.position);
        send_event(replay, &message);
        return;
    case HISTORY_BREAK:
        pass_break(replay, entry);
        return;
    case HISTORY_DURABLE:
        pass_durable(replay, entry->at.durable, entry->frame);
        return;
    }
}

/* --- the table -------------------------------------------------------------------------------- */

/* What follows the cursor is not all in the log, or something of it was pruned. */
static bool needs_page(const struct replay *replay) {
    const struct broker *broker = replay->handler->broker;
    uint64_t id = replay->cursor.durable;
    if (broker->table.state != TABLE_PRESENT) {
        return false;
    }
    for (size_t i = 0; id < broker->table.head && i < replay->topic_count; i++) {
        if (history_durable_floor(&broker->history, replay->topics[i]) > id) {
            return true;
        }
    }
    return replay->has_no_id;
}

static bool is_under_way(const struct replay *replay) {
    return replay->state == REPLAY_READY || replay->state == REPLAY_STARVED ||
           replay->state == REPLAY_PAGING;
}

void replay_on_gap(struct replay *replay, const struct page_gap *gap) {
    if (!is_under_way(replay)) {
        return; /* it is live, or will come to it */
    }
    for (size_t i = 0; i < replay->topic_count; i++) {
        if (gap->id > replay->cursor.durable && gap->id > replay->gaps_told[i] &&
            page_gap_is_about(gap, replay->topics[i])) {
            replay->gaps_told[i] = gap->id;
            owe_refresh(replay, SSE_REFRESH_GAP);
        }
    }
}

static void await_page(struct replay *replay, struct page *page) {
    leave_list(replay);
    replay->state = REPLAY_PAGING;
    replay->page = page;
    TAILQ_INSERT_TAIL(&page->waiting, replay, link);
    table_go_on(table_of(replay));
}

/* Whoever has no id of the table is told if there has been anything for it at all. */
static void probe(struct replay *replay, const struct page *page) {
    size_t gap_count;
    bool has_gaps = page_gaps(page, &gap_count) != NULL && gap_count > 0;
    bool is_something = has_gaps || page_next(page, replay->probed) != NULL;
    replay->probed = page->end;
    if (is_something) {
        owe_refresh(replay, SSE_REFRESH_UNKNOWN_POSITION);
    }
    replay->has_no_id = !is_something && replay->probed < replay->cursor.durable;
}

static bool can_send(const struct replay *replay) {
    return replay->state == REPLAY_READY && handler_wants_more(replay->handler);
}

/* False: it has to wait, for credit, room or the page. */
static bool pass_page(struct replay *replay) {
    if (!can_send(replay)) {
        return false;
    }
    struct page *page = pages_find(&table_of(replay)->pages, replay->topics, replay->topic_count,
                                   replay->has_no_id ? replay->probed : replay->cursor.durable);
    if (page->state == PAGE_WANTED) {
        await_page(replay, page);
        return false;
    }
    if (replay->has_no_id) {
        probe(replay, page);
        return true;
    }
    size_t gap_count;
    const struct page_gap *gaps = page_gaps(page, &gap_count);
    for (size_t i = 0; i < gap_count; i++) {
        replay_on_gap(replay, &gaps[i]);
    }
    if (gap_count > 0) {
        move_to_id(replay, page_skip(page, replay->cursor.durable));
    }
    const struct page_event *event;
    while ((event = page_next(page, replay->cursor.durable)) != NULL) {
        if (!can_send(replay) || replay->handler->state != HANDLER_SERVED) {
            return false;
        }
        pass_durable(replay, event->id, event->frame);
    }
    move_to_id(replay, page->end);
    return true;
}

static void tell_gap(void *argument, const struct page_gap *gap) {
    replay_on_gap(argument, gap);
}

void replay_pump(struct replay *replay) {
    struct handler *handler = replay->handler;
    table_visit_gaps(table_of(replay), replay, tell_gap);
    while (handler->state == HANDLER_SERVED) {
        look_for_drops(replay);
        if (needs_page(replay)) {
            if (!pass_page(replay)) {
                return;
            }
            continue;
        }
        const struct history_entry *entry = next_entry(replay);
        if (entry == NULL) {
            finish(replay); /* which costs no credit */
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

void replay_on_page(struct replay *replay) {
    set_state(replay, REPLAY_READY);
    replay_pump(replay);
}

/* --- the decision ----------------------------------------------------------------------------- */

static void begin(struct replay *replay) {
    struct handler *handler = replay->handler;
    struct wire_accepted accepted = {.token = replay->token};
    accepted.topics.count = replay->topic_count;
    for (size_t i = 0; i < replay->topic_count; i++) {
        const struct topic *topic = replay->topics[i];
        accepted.topics.names[i] = (struct slice){topic->name, topic->name_length};
    }
    look_for_drops(replay);
    accepted.follows = replay->position_kind != POSITION_NONE &&
                       (replay->owes_refresh || needs_page(replay) || next_entry(replay) != NULL ||
                        table_of(replay)->gaps != NULL);
    broker_position(handler->broker, &accepted.position);
    handler_take(handler, wire_encode_accepted(&accepted));
    if (handler->state == HANDLER_SERVED) {
        set_state(replay, REPLAY_READY);
        replay_pump(replay);
    }
}

/* A connection is sent nothing ephemeral: it has all of that. */
static uint64_t head_place(const struct replay *replay) {
    return replay->form == WIRE_FORM_CONNECTIONS ? UINT64_MAX
                                                 : replay->handler->broker->markers.count;
}

/* Live events only. */
static void begin_at_head(struct replay *replay) {
    broker_position(replay->handler->broker, &replay->position);
    replay->cursor = (struct cursor){head_place(replay), replay->position.durable};
    begin(replay);
}

static void begin_as_unknown(struct replay *replay) {
    owe_refresh(replay, SSE_REFRESH_UNKNOWN_POSITION);
    begin_at_head(replay);
}

static void begin_at_start(struct replay *replay) {
    uint64_t place = replay->form == WIRE_FORM_CONNECTIONS ? UINT64_MAX : 0;
    replay->cursor = (struct cursor){place, 1};     /* no event has the id 1 */
    if (table_of(replay)->state == TABLE_PRESENT) { /* else "0" says it all */
        markers_origin(&replay->handler->broker->markers, &replay->position);
        replay->position.durable = 1;
    }
    begin(replay);
}

/* Ephemeral events go on from where the position says, or from the head. */
static void decide_place(struct replay *replay, bool is_place, uint64_t place) {
    struct position head;
    if (replay->form == WIRE_FORM_CONNECTIONS || !is_place) {
        broker_position(replay->handler->broker, &head);
        move_to_place(replay, head_place(replay), &head);
    } else {
        replay->cursor.place = place;
    }
    if (replay->form != WIRE_FORM_CONNECTIONS && !is_place) {
        owe_refresh(replay, SSE_REFRESH_UNKNOWN_POSITION);
    }
}

/* Durable events likewise. An id from before there was a table is none. */
static void decide_id(struct replay *replay) {
    uint64_t head = table_of(replay)->head;
    uint64_t id = replay->position.durable;
    replay->has_no_id = id == 0 && head > 0;
    if (id > head) {
        owe_refresh(replay, SSE_REFRESH_UNKNOWN_POSITION);
    }
    move_to_id(replay, id == 0 || id > head ? head : id);
}

/* Whether it may be known in a moment: then that is waited for. */
static bool is_held_back(struct replay *replay, bool is_place) {
    struct broker *broker = replay->handler->broker;
    bool is_beyond =
        broker->table.state == TABLE_PRESENT && replay->position.durable > broker->table.head;
    bool is_unknown =
        replay->form != WIRE_FORM_CONNECTIONS && !is_place && replay->position.marker[0] != '\0';
    if ((is_beyond || is_unknown) && replay->barrier == 0) {
        replay->barrier = canary_ask_barrier(&broker->canary);
        return true;
    }
    if (is_beyond && replay->reading == 0) {
        replay->reading = table_ask_reading(&broker->table);
        return true;
    }
    return false;
}

static void decide_known(struct replay *replay) {
    uint64_t place = 0;
    bool is_place = markers_resolve(&replay->handler->broker->markers, &replay->position, &place);
    if (is_held_back(replay, is_place)) {
        set_state(replay, REPLAY_HELD);
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
        begin_at_start(replay);
        return;
    case POSITION_KNOWN:
        decide_known(replay);
        return;
    }
}

static void refuse(struct replay *replay, uint16_t status, const char *text) {
    struct handler *handler = replay->handler;
    struct wire_refused message = {
        .token = replay->token, .status = status, .text = slice_of(text)};
    replay_leave(&replay);
    handler_take(handler, wire_encode_refused(&message));
}

static bool is_decidable(const struct replay *replay) {
    const struct broker *broker = replay->handler->broker;
    uint64_t id = replay->form == WIRE_FORM_CONNECTIONS || replay->position_kind == POSITION_ALL
                      ? 1
                      : replay->position.durable;
    return replay->handler->state == HANDLER_SERVED && broker_is_listening(broker) &&
           table_serves(&broker->table, id) &&
           canary_has_passed(&broker->canary, replay->barrier) &&
           (broker->table.state != TABLE_PRESENT ||
            table_has_read(&broker->table, replay->reading));
}

void replay_decide(struct replay *replay) {
    if (!is_decidable(replay)) {
        return;
    }
    if (replay->form != WIRE_FORM_CONNECTIONS) {
        decide_position(replay);
    } else if (table_of(replay)->state == TABLE_PRESENT) {
        set_state(replay, REPLAY_UNCHECKED);
        table_go_on(table_of(replay));
    } else {
        refuse(replay, REFUSED_NOT_IMPLEMENTED, table_of(replay)->reason);
    }
}

/* --- checks ----------------------------------------------------------------------------------- */

void replay_begin_check(struct replay *replay) {
    set_state(replay, REPLAY_CHECKING);
}

void replay_await_check(struct replay *replay) {
    set_state(replay, REPLAY_UNCHECKED);
}

static void narrow(struct replay *replay) {
    size_t kept = 0;
    for (size_t i = 0; i < replay->topic_count; i++) {
        if ((replay->granted >> i & 1) != 0) {
            replay->gaps_told[kept] = replay->gaps_told[i];
            replay->topics[kept++] = replay->topics[i];
        } else {
            leave_topic(replay, replay->topics[i]);
        }
    }
    replay->topic_count = kept;
}

/* What can be decided now is decided by what was seen; else it is looked up again. */
void replay_on_checked(struct replay *replay) {
    if (replay->granted == 0) {
        refuse(replay, REFUSED_FORBIDDEN, "this user has subscribed to none of these channels");
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
    case REPLAY_UNCHECKED:
    case REPLAY_CHECKING:
        if (replay->position.durable != 0 && table_of(replay)->before != TABLE_UNKNOWN) {
            replay->position.durable = UINT64_MAX; /* it was the old one's: none of this */
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
    owe_refresh(replay, SSE_REFRESH_GAP);
    move_to_id(replay, table_of(replay)->head);
    memset(replay->gaps_told, 0, replay->topic_count * sizeof *replay->gaps_told);
    handler_refill_soon(replay->handler);
}

/* --- the beginning ---------------------------------------------------------------------------- */

bool replay_create(struct handler *handler, const struct wire_subscribe *message) {
    if (replay_find(handler, message->token) != NULL) {
        return false;
    }
    size_t count = message->topics.count;
    struct replay *replay = must_zalloc(sizeof *replay + count * sizeof(struct topic *));
    replay->handler = handler;
    replay->token = message->token;
    replay->form = message->form;
    if (message->form == WIRE_FORM_CONNECTIONS) {
        replay->user = must_strdup(message->user.at, message->user.length);
    }
    replay->position_kind = message->position_kind;
    replay->position = message->position;
    replay->credit_bytes = WIRE_CREDIT_BYTES;
    replay->topic_count = count;
    replay->gaps_told = must_zalloc(count * sizeof *replay->gaps_told);
    for (size_t i = 0; i < count; i++) {
        replay->topics[i] = topics_subscribe(&handler->broker->topics, message->topics.names[i],
                                             handler, &handler->subscriptions, 1);
        subscription_to(replay, replay->topics[i])->by_token++;
    }
    replay->state = REPLAY_HELD;
    TAILQ_INSERT_TAIL(&handler->held, replay, link);
    HASH_ADD(hh, handler->replays, token, sizeof replay->token, replay);
    replay_decide(replay);
    return true;
}
