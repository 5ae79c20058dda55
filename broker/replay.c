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
        walk_stop_waiting(&replay->walk);
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
    walk_end(&replay->walk);
    /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): what exists is in the table */
    HASH_DEL(replay->delivery->replays, replay);
    if (replay->state == REPLAY_LIVE) {
        replay->delivery->live_user_streams--;
    }
    free(replay->user);
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

/* --- sending ----------------------------------------------------------------------------------
 *
 * A refresh is owed when its cause is met, and is sent before the next event. It carries the
 * position from which the stream goes on. */

static void pay_refresh(struct replay *replay) {
    if (replay->owed.is_owed) {
        struct wire_refresh message = {.token = replay->token,
                                       .is_durable = true,
                                       .position = replay->walk.position,
                                       .reason = replay->owed.reason,
                                       .dropped = SSE_DROPPED_UNKNOWN};
        replay->owed.is_owed = false;
        outbox_queue(&replay->delivery->outbox, wire_encode_refresh(&message));
    }
}

static void finish(struct replay *replay, const struct walk_step *head) {
    struct delivery *delivery = replay->delivery;
    walk_take(&replay->walk, head);
    pay_refresh(replay);
    if (delivery_is_served(delivery)) {
        struct wire_position message = {replay->token, head->position};
        become_live(replay);
        delivery_tell_subscribed(delivery, &message);
    }
}

static void send_event(struct replay *replay, const struct walk_step *step) {
    struct topics *topics = &journal_of(replay)->topics;
    struct wire_replay message = {replay->token, step->event};
    pay_refresh(replay);
    walk_take(&replay->walk, step);
    if (!delivery_is_served(replay->delivery)) {
        return; /* the refresh has made the outbox overfull */
    }
    /* NULL: a pattern matched it */
    topics_count_broadcast(topics, topics_find(topics, step->event.topic));
    struct payload *frame = wire_encode_replay(&message);
    replay->credit_bytes -= (int64_t)wire_body(frame).length;
    if (replay->credit_bytes <= 0) {
        set_state(replay, REPLAY_STARVED);
    }
    outbox_queue(&replay->delivery->outbox, frame);
}

/* So many entries were looked at that the others come first. */
static void go_on_later(struct replay *replay) {
    replay->delivery->searches++;
    if (replay->state == REPLAY_READY) {
        set_state(replay, REPLAY_READY); /* the last of the list */
        delivery_refill_soon(replay->delivery);
    }
}

static bool can_send(const struct replay *replay) {
    return replay->state == REPLAY_READY && outbox_wants_more(&replay->delivery->outbox);
}

/* False: it has to wait, for credit, room or a page. */
static bool read_origin(struct replay *replay) {
    uint64_t after;
    while (origin_wants_page(&replay->origin, &after)) {
        if (!can_send(replay)) {
            return false;
        }
        const struct table_page *page = walk_find_page(&replay->walk, after);
        if (page == NULL) {
            set_state(replay, REPLAY_PAGING);
            return false;
        }
        origin_read_page(&replay->origin, page, &replay->owed);
    }
    return true;
}

void replay_pump(struct replay *replay) {
    struct walk_step step;
    if (!read_origin(replay)) {
        return;
    }
    walk_begin_turn(&replay->walk);
    while (delivery_is_served(replay->delivery)) {
        switch (walk_next(&replay->walk, can_send(replay), &step)) {
        case WALK_EVENT:
            send_event(replay, &step);
            break;
        case WALK_GAP:
        case WALK_BREAK:
            walk_take(&replay->walk, &step);
            owed_refresh_add(&replay->owed, SSE_REFRESH_GAP);
            break;
        case WALK_FULL:
            return;
        case WALK_WAIT:
            set_state(replay, REPLAY_PAGING);
            return;
        case WALK_PAUSE:
            go_on_later(replay);
            return;
        case WALK_HEAD:
            finish(replay, &step);
            return;
        }
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
    struct replay *replay = container_of(waiter, struct replay, walk.waiter);
    set_state(replay, REPLAY_READY);
    replay_pump(replay);
}

/* --- news
 * -------------------------------------------------------------------------------------- */

void replay_on_gap(struct replay *replay, const struct gap *gap) {
    bool is_under_way = is_open(replay) && replay->state != REPLAY_LIVE;
    /* else it has not begun and will meet the gap */
    if (is_under_way && walk_on_gap(&replay->walk, gap)) {
        owed_refresh_add(&replay->owed, SSE_REFRESH_GAP);
    }
}

void replay_on_table_changed(struct replay *replay) {
    switch (replay->state) {
    case REPLAY_LIVE:
        return;
    case REPLAY_HELD:
    case REPLAY_CHECKING:
        origin_on_table_changed(&replay->origin, false);
        set_state(replay, REPLAY_HELD);
        return;
    case REPLAY_PAGING:
        set_state(replay, REPLAY_READY);
        break;
    case REPLAY_READY:
    case REPLAY_STARVED:
        break;
    }
    origin_on_table_changed(&replay->origin, true);
    walk_on_table_changed(&replay->walk);
    owed_refresh_add(&replay->owed, SSE_REFRESH_GAP);
    delivery_refill_soon(replay->delivery);
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

static bool has_backlog(struct replay *replay) {
    uint64_t after;
    return replay->origin.kind != POSITION_NONE &&
           (replay->owed.is_owed || origin_wants_page(&replay->origin, &after) ||
            walk_has_backlog(&replay->walk));
}

static void begin(struct replay *replay) {
    struct delivery *delivery = replay->delivery;
    const struct origin *origin = &replay->origin;
    struct wire_accepted accepted = {.token = replay->token};
    accepted.topics.count = replay->topic_count;
    for (size_t i = 0; i < replay->topic_count; i++) {
        const struct topic *topic = replay->topics[i];
        accepted.topics.keys[i] = topic_key_of(topic);
    }
    walk_begin(&replay->walk, delivery, replay->topics, replay->topic_count, &origin->cursor,
               &origin->position, on_page);
    accepted.has_backlog = has_backlog(replay);
    journal_position(delivery->journal, &accepted.position);
    outbox_queue(&delivery->outbox, wire_encode_accepted(&accepted));
    if (delivery_is_served(delivery)) {
        set_state(replay, REPLAY_READY);
        count_open(replay);
        replay_pump(replay);
    }
}

static void place(struct replay *replay) {
    if (origin_place(&replay->origin, replay->topics, replay->topic_count, &replay->owed)) {
        begin(replay);
    } else {
        set_state(replay, REPLAY_HELD);
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
    return delivery_is_served(replay->delivery) && origin_is_decidable(&replay->origin);
}

static void ask_check(struct replay *replay) {
    set_state(replay, REPLAY_CHECKING);
    replay->check.user = replay->user;
    replay->check.topics = replay->topics;
    replay->check.topic_count = replay->topic_count;
    table_ask_check(&journal_of(replay)->table, &replay->check);
}

void replay_decide(struct replay *replay) {
    if (!is_decidable(replay)) {
        return;
    }
    if (replay->form != WIRE_FORM_USER) {
        place(replay);
    } else if (journal_of(replay)->table.state == TABLE_PRESENT) {
        ask_check(replay);
    } else {
        refuse(replay, HTTP_NOT_IMPLEMENTED, TABLE_IS_ABSENT);
    }
}

static void narrow(struct replay *replay) {
    size_t kept = 0;
    for (size_t i = 0; i < replay->topic_count; i++) {
        if ((replay->check.granted >> i & 1) != 0) {
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
        place(replay);
    }
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
    origin_init(&replay->origin, delivery->journal, message->form == WIRE_FORM_USER,
                message->position_kind, &message->position);
    replay->check.on_checked = on_checked;
    replay->credit_bytes = WIRE_CREDIT_BYTES;
    replay->topic_count = count;
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
