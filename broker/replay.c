#include "replay.h"

#include "broker.h"

#include <stdlib.h>

struct replay *replay_find(const struct handler *handler, uint64_t token) {
    struct replay *replay;
    HASH_FIND(hh, handler->replays, &token, sizeof token, replay);
    return replay;
}

/* --- states ---------------------------------------------------------------------------------- */

static struct replay_list *list_of(const struct replay *replay) {
    switch (replay->state) {
    case REPLAY_HELD:
        return &replay->handler->held;
    case REPLAY_READY:
        return &replay->handler->ready;
    case REPLAY_STARVED:
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
    free(replay);
}

static struct subscription *subscription_to(const struct replay *replay,
                                            const struct topic *topic) {
    struct subscription *subscription =
        topic_subscription(topic, replay->handler, &replay->handler->subscriptions);
    check(subscription != NULL);
    return subscription;
}

void replay_end(struct replay **place) {
    const struct replay *replay = *place;
    for (size_t i = 0; i < replay->topic_count; i++) {
        subscription_to(replay, replay->topics[i])->catching_up--;
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
        if (floor > replay->place && floor > replay->floor_told) {
            replay->floor_told = floor;
            owe_refresh(replay, SSE_REFRESH_GAP);
        }
    }
}

static const struct history_entry *next_entry(const struct replay *replay) {
    return history_next(&replay->handler->broker->history, replay->topics, replay->topic_count,
                        replay->place);
}

/* --- sending ---------------------------------------------------------------------------------- */

static void finish(struct replay *replay) {
    struct handler *handler = replay->handler;
    markers_position(&handler->broker->markers, &replay->position);
    pay_refresh(replay);
    if (handler->state == HANDLER_SERVED) {
        struct wire_position message = {replay->token, replay->position};
        replay_end(&replay);
        handler_tell_subscribed(handler, &message);
    }
}

/* A position moves by the entry's own component only: M.S. */
static void move_to(struct replay *replay, const struct history_entry *entry,
                    const struct position *position) {
    uint64_t durable = replay->position.durable;
    replay->position = *position;
    replay->position.durable = durable;
    replay->place = entry->place;
}

static void pass_break(struct replay *replay, const struct history_entry *entry) {
    struct wire_refresh refresh;
    check(wire_decode_refresh(wire_body(entry->frame), &refresh));
    move_to(replay, entry, &refresh.position);
    owe_refresh(replay, refresh.reason);
}

static void send_event(struct replay *replay, const struct history_entry *entry) {
    struct wire_replay message = {.token = replay->token};
    check(wire_decode_event(wire_body(entry->frame), &message.event));
    pay_refresh(replay);
    move_to(replay, entry, &message.event.position);
    message.event.position = replay->position;
    broker_count_sent(replay->handler->broker, entry->topic);
    struct payload *frame = wire_encode_replay(&message);
    replay->credit_bytes -= (int64_t)wire_body(frame).length;
    if (replay->credit_bytes <= 0) {
        set_state(replay, REPLAY_STARVED);
    }
    handler_take(replay->handler, frame);
}

void replay_pump(struct replay *replay) {
    struct handler *handler = replay->handler;
    while (handler->state == HANDLER_SERVED) {
        look_for_drops(replay);
        const struct history_entry *entry = next_entry(replay);
        if (entry == NULL) {
            finish(replay); /* which costs no credit */
            return;
        }
        if (replay->state != REPLAY_READY || !handler_wants_more(handler)) {
            return;
        }
        if (entry->topic == NULL) {
            pass_break(replay, entry);
        } else {
            send_event(replay, entry);
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

/* --- the decision ----------------------------------------------------------------------------- */

static void begin(struct replay *replay) {
    struct handler *handler = replay->handler;
    struct wire_accepted accepted = {.token = replay->token};
    look_for_drops(replay);
    accepted.follows = replay->owes_refresh || next_entry(replay) != NULL;
    markers_position(&handler->broker->markers, &accepted.position);
    handler_take(handler, wire_encode_accepted(&accepted));
    if (handler->state == HANDLER_SERVED) {
        set_state(replay, REPLAY_READY);
        replay_pump(replay);
    }
}

/* Live events only. */
static void begin_at_head(struct replay *replay) {
    const struct markers *markers = &replay->handler->broker->markers;
    replay->place = markers->count;
    markers_position(markers, &replay->position);
    begin(replay);
}

static void begin_as_unknown(struct replay *replay) {
    owe_refresh(replay, SSE_REFRESH_UNKNOWN_POSITION);
    begin_at_head(replay);
}

static void decide_known(struct replay *replay) {
    struct broker *broker = replay->handler->broker;
    bool is_place = markers_resolve(&broker->markers, &replay->position, &replay->place);
    if (!is_place && replay->position.marker[0] != '\0' && replay->barrier == 0) {
        replay->barrier = canary_ask_barrier(&broker->canary);
        return;
    }
    if (!is_place) {
        begin_as_unknown(replay);
        return;
    }
    if (replay->position.durable != 0) { /* no event here has such a place */
        replay->position.durable = 0;
        owe_refresh(replay, SSE_REFRESH_UNKNOWN_POSITION);
    }
    begin(replay);
}

static bool is_decidable(const struct replay *replay) {
    const struct broker *broker = replay->handler->broker;
    return replay->handler->state == HANDLER_SERVED && broker_is_listening(broker) &&
           canary_has_passed(&broker->canary, replay->barrier);
}

void replay_decide(struct replay *replay) {
    if (!is_decidable(replay)) {
        return;
    }
    switch (replay->position_kind) {
    case POSITION_NONE:
        begin_at_head(replay);
        return;
    case POSITION_MALFORMED:
        begin_as_unknown(replay);
        return;
    case POSITION_ALL:
        begin(replay); /* from place 0 */
        return;
    case POSITION_KNOWN:
        decide_known(replay);
        return;
    }
}

bool replay_create(struct handler *handler, const struct wire_subscribe *message) {
    if (replay_find(handler, message->token) != NULL) {
        return false;
    }
    size_t count = message->topics.count;
    struct replay *replay = must_zalloc(sizeof *replay + count * sizeof(struct topic *));
    replay->handler = handler;
    replay->token = message->token;
    replay->position_kind = message->position_kind;
    replay->position = message->position;
    replay->credit_bytes = WIRE_CREDIT_BYTES;
    replay->topic_count = count;
    for (size_t i = 0; i < count; i++) {
        replay->topics[i] = topics_subscribe(&handler->broker->topics, message->topics.names[i],
                                             handler, &handler->subscriptions, 1);
        subscription_to(replay, replay->topics[i])->catching_up++;
    }
    replay->state = REPLAY_HELD;
    TAILQ_INSERT_TAIL(&handler->held, replay, link);
    HASH_ADD(hh, handler->replays, token, sizeof replay->token, replay);
    replay_decide(replay);
    return true;
}
