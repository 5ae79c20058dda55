/* The promise, by chance: a client gets every event of its topics, in order, once, or it is told in
 * time that it may have missed some.
 *
 * A broker is driven through thousands of steps: events, breaks, markers, evictions from a small
 * log, clients that come with positions that were handed out before and leave again, credit,
 * handlers that read late or whose connections are lost. Models of handlers and clients judge every
 * frame by the order in which Postgres had delivered, which the test knows. Seeded: a failure names
 * its seed. */
#include "broker_rig.h"

enum {
    TOPICS = 6,
    HANDLERS = 3,
    CLIENTS = 24,
    STEPS = 4000,
    SEEDS = 60,
    PLACES = 3 * STEPS,
    HANDED_OUT = 64,
};

static const char *const topic_names[TOPICS] = {"a", "b", "c", "d", "e", "f"};

/* What stands at a place. */
enum kind { KIND_OTHER, KIND_BREAK, KIND_EVENT /* and the topic's number */ };

enum phase { PHASE_AWAY, PHASE_ASKED, PHASE_CATCHING_UP, PHASE_LIVE };

struct model_client {
    enum phase phase;
    uint64_t token;
    unsigned wanted; /* a bit for each topic */
    enum position_kind kind;
    struct position position; /* what it came with; then the last id */
    uint64_t place;           /* all before it is accounted for */
    bool is_place_known;
    bool may_be_unknown; /* it came with a position that nobody had handed out */
    uint64_t barrier;    /* the marker that must have been heard, if it was unknown */
    bool was_told;       /* a refresh came since the last event */
    uint64_t told_at;    /* the broker's count then */
    bool is_first;       /* nothing has come behind ACCEPTED yet */
    bool follows;
    int64_t credit;
    int64_t owed;
};

struct model_handler {
    struct peer peer;
    bool is_resuming;
    struct position position; /* the last that was applied on the connection, or the one before */
    uint64_t place;
    struct model_client clients[CLIENTS];
};

struct world {
    struct rig rig;
    uint32_t seed;
    uint32_t random;
    int step;
    unsigned char kinds[PLACES];
    struct model_handler handlers[HANDLERS];
    struct position handed_out[HANDED_OUT];
    size_t handed_out_count;
    uint64_t last_token;
    bool is_marker_flying;
    unsigned long replayed, live, gaps, unknown, resumed; /* that the test tests something */
};

static struct world world;

static uint32_t chance(uint32_t bound) {
    return next_random(&world.random) % bound;
}

static uint64_t count(void) {
    return world.rig.broker->markers.count;
}

#define require(condition)                                                              \
    do {                                                                                \
        if (!(condition)) {                                                             \
            fail_msg("seed %u, step %d: line %d: %s", world.seed, world.step, __LINE__, \
                     #condition);                                                       \
        }                                                                               \
    } while (0)

/* --- what the broker has done --------------------------------------------------------------------
 */

static bool is_wanted(const struct model_client *client, uint64_t place) {
    return world.kinds[place] >= KIND_EVENT &&
           (client->wanted & 1u << (world.kinds[place] - KIND_EVENT)) != 0;
}

static bool is_in_log(uint64_t place) {
    const struct history *history = &world.rig.broker->history;
    const struct trail *trail = &history->breaks;
    if (world.kinds[place] >= KIND_EVENT) {
        struct topic *topic = topics_find(&world.rig.broker->topics,
                                          slice_of(topic_names[world.kinds[place] - KIND_EVENT]));
        trail = topic == NULL ? NULL : &topic->trail;
    }
    const struct history_entry *entry = trail == NULL ? NULL : trail_after(trail, place - 1);
    return entry != NULL && entry->place == place;
}

static uint64_t place_of(const struct position *position) {
    uint64_t place;
    if (position->marker[0] == '\0') {
        return 0; /* "0": the start */
    }
    require(markers_resolve(&world.rig.broker->markers, position, &place));
    return place;
}

static void hand_out(const struct position *position) {
    world.handed_out[world.handed_out_count++ % HANDED_OUT] = *position;
}

/* --- what a client may and must hear -------------------------------------------------------------
 */

/* Everything behind the client's place and before that one was not sent to it: that is right for
 * what is not its own, and for what it was told of. A break is told where it stands, or, when it
 * has left the log, before the next event, as an event that has left is. */
static void account(struct model_client *client, uint64_t before) {
    for (uint64_t place = client->place + 1; place < before; place++) {
        if (world.kinds[place] == KIND_BREAK) {
            require(client->was_told || (!is_in_log(place) && place <= client->told_at));
        } else if (is_wanted(client, place)) {
            require(!is_in_log(place) && place <= client->told_at);
        }
    }
}

static void take_event(struct model_client *client, uint64_t place, const struct position *id) {
    require(client->is_place_known);
    require(is_wanted(client, place) && place > client->place);
    account(client, place);
    client->place = place;
    client->position = *id;
    client->kind = POSITION_KNOWN;
    client->was_told = false;
    client->is_first = false;
}

/* An id that stands behind what was sent, and before what is to come. */
static void take_id(struct model_client *client, const struct position *id) {
    uint64_t place = place_of(id);
    require(client->is_place_known && place >= client->place);
    account(client, place + 1);
    client->place = place;
    client->position = *id;
    client->kind = POSITION_KNOWN;
}

/* Something of its own stands behind its place that it will never get. */
static bool has_missed(const struct model_client *client) {
    for (uint64_t place = client->place + 1; place <= count(); place++) {
        if (world.kinds[place] == KIND_BREAK || (is_wanted(client, place) && !is_in_log(place))) {
            return true;
        }
    }
    return false;
}

static void take_refresh(struct model_client *client, const struct wire_refresh *refresh) {
    if (refresh->reason == SSE_REFRESH_UNKNOWN_POSITION) {
        require(client->may_be_unknown && client->is_first);
        client->place = place_of(&refresh->position);
        client->is_place_known = true;
        world.unknown++;
    } else {
        require(refresh->reason == SSE_REFRESH_GAP);
        require(client->is_place_known && has_missed(client)); /* never a needless one */
        world.gaps++;
    }
    client->was_told = true;
    client->told_at = count();
    client->is_first = false;
    if (refresh->position.marker[0] != '\0') {
        take_id(client, &refresh->position);
    }
}

/* --- frames
 * ---------------------------------------------------------------------------------------- */

static struct model_client *client_of(struct model_handler *handler, uint64_t token) {
    for (size_t i = 0; i < CLIENTS; i++) {
        struct model_client *client = &handler->clients[i];
        if (client->token == token &&
            (client->phase == PHASE_ASKED || client->phase == PHASE_CATCHING_UP)) {
            return client;
        }
    }
    return NULL;
}

/* Everything before that position has been applied on the connection. */
static void move_to(struct model_handler *handler, const struct position *position) {
    uint64_t place = place_of(position);
    require(place >= handler->place);
    handler->place = place;
    handler->position = *position;
}

/* The live clients' heartbeats would carry it. */
static void tell_live(struct model_handler *handler, const struct position *position) {
    move_to(handler, position);
    for (size_t i = 0; i < CLIENTS; i++) {
        if (handler->clients[i].phase == PHASE_LIVE) {
            take_id(&handler->clients[i], position);
        }
    }
    hand_out(position);
}

static void on_accepted(struct model_handler *handler, const struct wire_accepted *message) {
    struct model_client *client = client_of(handler, message->token);
    require(!handler->is_resuming);
    if (client == NULL) {
        return;
    }
    require(client->phase == PHASE_ASKED);
    uint64_t place = 0;
    bool is_known = markers_resolve(&world.rig.broker->markers, &client->position, &place);
    require(client->kind != POSITION_KNOWN || is_known ||
            world.rig.broker->canary.heard >= client->barrier);
    client->phase = PHASE_CATCHING_UP;
    client->is_first = true;
    client->follows = message->follows;
    if (client->kind == POSITION_NONE) {
        require(!message->follows);
        client->place = place_of(&message->position);
        client->is_place_known = true;
    } else if (client->kind == POSITION_MALFORMED) {
        require(message->follows);
    } else if (!client->is_place_known) {
        client->is_place_known = is_known;
        client->place = place;
    }
}

static void on_replay(struct model_handler *handler, const struct wire_replay *message,
                      size_t bytes) {
    struct model_client *client = client_of(handler, message->token);
    uint64_t place = place_of(&message->event.position);
    if (client == NULL) {
        return;
    }
    require(client->phase == PHASE_CATCHING_UP && client->follows && client->credit > 0);
    require(event_number(&message->event) == place);
    require(slice_is(message->event.topic, topic_names[world.kinds[place] - KIND_EVENT]));
    take_event(client, place, &message->event.position);
    client->credit -= (int64_t)bytes;
    client->owed += (int64_t)bytes;
    hand_out(&message->event.position);
    world.replayed++;
}

static void on_subscribed(struct model_handler *handler, const struct wire_position *message) {
    struct model_client *client = client_of(handler, message->token);
    require(!handler->is_resuming);
    if (client != NULL) {
        require(client->phase == PHASE_CATCHING_UP && client->is_first != client->follows);
        take_id(client, &message->position);
        client->phase = PHASE_LIVE;
    }
    tell_live(handler, &message->position);
}

static void on_event(struct model_handler *handler, const struct wire_event *event) {
    uint64_t place = place_of(&event->position);
    require(event_number(event) == place && place > handler->place);
    move_to(handler, &event->position);
    for (size_t i = 0; i < CLIENTS; i++) {
        struct model_client *client = &handler->clients[i];
        if (client->phase == PHASE_LIVE && is_wanted(client, place)) {
            take_event(client, place, &event->position);
            world.live++;
        }
    }
    hand_out(&event->position);
}

static void on_broadcast_refresh(struct model_handler *handler,
                                 const struct wire_refresh *message) {
    uint64_t place = place_of(&message->position);
    require(place >= handler->place);
    for (size_t i = 0; i < CLIENTS; i++) {
        struct model_client *client = &handler->clients[i];
        bool is_meant = message->topic.length == 0;
        for (size_t t = 0; t < TOPICS; t++) {
            is_meant = is_meant || ((client->wanted & 1u << t) != 0 &&
                                    slice_is(message->topic, topic_names[t]));
        }
        if (client->phase == PHASE_LIVE && is_meant) {
            require(message->reason == SSE_REFRESH_GAP); /* this broker was never restarted */
            client->was_told = true;
            client->told_at = count();
            world.gaps++;
        }
    }
    tell_live(handler, &message->position);
}

static void on_refresh(struct model_handler *handler, const struct wire_refresh *message) {
    struct model_client *client = client_of(handler, message->token);
    if (message->token == 0) {
        on_broadcast_refresh(handler, message);
    } else if (client != NULL) {
        require(client->phase == PHASE_CATCHING_UP && client->follows);
        take_refresh(client, message);
    }
}

static void on_position(struct model_handler *handler, const struct wire_position *message) {
    handler->is_resuming = false;
    tell_live(handler, &message->position);
}

/* False: the broker has given it up. */
static bool take_frame(struct model_handler *handler, const struct wire_frame *frame) {
    struct wire_accepted accepted;
    struct wire_refresh refresh;
    struct wire_replay replay;
    struct wire_position position;
    struct wire_event event;
    struct wire_hello welcome;
    if (frame->type == WIRE_ACCEPTED && wire_decode_accepted(frame->body, &accepted)) {
        on_accepted(handler, &accepted);
    } else if (frame->type == WIRE_REPLAY && wire_decode_replay(frame->body, &replay)) {
        on_replay(handler, &replay, frame->body.length);
    } else if (frame->type == WIRE_REFRESH && wire_decode_refresh(frame->body, &refresh)) {
        on_refresh(handler, &refresh);
    } else if (frame->type == WIRE_SUBSCRIBED && wire_decode_position(frame->body, &position)) {
        on_subscribed(handler, &position);
    } else if (frame->type == WIRE_EVENT && wire_decode_event(frame->body, &event)) {
        on_event(handler, &event);
    } else if (frame->type == WIRE_POSITION && wire_decode_position(frame->body, &position)) {
        on_position(handler, &position);
    } else {
        require(frame->type == WIRE_WELCOME && wire_decode_hello(frame->body, &welcome));
    }
    return true;
}

/* --- handlers
 * --------------------------------------------------------------------------------------- */

static void say(struct model_handler *handler, struct payload *frame) {
    (void)(send(handler->peer.fd, frame->bytes, frame->length, MSG_NOSIGNAL) > 0);
    payload_unref(&frame);
}

static void wanted_topics(const struct model_client *client, struct wire_topics *topics) {
    topics->count = 0;
    for (size_t t = 0; t < TOPICS; t++) {
        if ((client->wanted & 1u << t) != 0) {
            topics->names[topics->count++] = slice_of(topic_names[t]);
        }
    }
}

static void ask(struct model_handler *handler, struct model_client *client) {
    struct wire_subscribe message = {
        .token = ++world.last_token, .position_kind = client->kind, .position = client->position};
    wanted_topics(client, &message.topics);
    client->token = message.token;
    client->phase = PHASE_ASKED;
    client->credit = WIRE_CREDIT_BYTES;
    client->owed = 0;
    client->barrier = world.rig.broker->canary.sent + 1;
    say(handler, wire_encode_subscribe(&message));
}

static void connect_handler(struct model_handler *handler) {
    struct buf resume = {0};
    bool is_first = handler->position.marker[0] == '\0';
    handler_narrow(peer_connect_silently(&world.rig, &handler->peer));
    handler->is_resuming = true;
    say(handler, wire_encode_hello(WIRE_HELLO, 1));
    wire_resume_begin(&resume, is_first ? POSITION_NONE : POSITION_KNOWN, &handler->position);
    for (size_t t = 0; t < TOPICS; t++) {
        struct wire_resume_entry entry = {slice_of(topic_names[t]), 0};
        for (size_t i = 0; i < CLIENTS; i++) {
            const struct model_client *client = &handler->clients[i];
            entry.clients += client->phase == PHASE_LIVE && (client->wanted & 1u << t) != 0;
        }
        require(entry.clients == 0 || wire_resume_add(&resume, &entry));
    }
    say(handler, wire_resume_end(&resume, true));
    for (size_t i = 0; i < CLIENTS; i++) {
        struct model_client *client = &handler->clients[i];
        if (client->phase == PHASE_ASKED || client->phase == PHASE_CATCHING_UP) {
            ask(handler, client); /* anew, from its last id */
        }
    }
}

/* What was on its way is lost; live clients resume, the others ask anew. */
static void lose_connection(struct model_handler *handler) {
    close(handler->peer.fd);
    buf_release(&handler->peer.input);
    run_turns(world.rig.loop, 1);
    connect_handler(handler);
    world.resumed++;
}

static void read_frames(struct model_handler *handler, size_t most) {
    struct peer *peer = &handler->peer;
    struct wire_frame frame;
    bool is_open = drain(peer->fd, &peer->input, most);
    struct slice left = buf_slice(&peer->input);
    while (is_open && wire_next(&left, WIRE_ANSWER_BYTES_MAX, &frame) == WIRE_NEXT_FRAME) {
        is_open = frame.type != WIRE_GOODBYE && take_frame(handler, &frame);
    }
    if (!is_open) {
        lose_connection(handler); /* it was too slow */
        return;
    }
    buf_consume(&peer->input, peer->input.length - left.length);
}

/* --- clients
 * ---------------------------------------------------------------------------------------- */

static void come(struct model_handler *handler, struct model_client *client) {
    enum position_kind kinds[] = {POSITION_NONE,  POSITION_MALFORMED, POSITION_ALL,
                                  POSITION_KNOWN, POSITION_KNOWN,     POSITION_KNOWN,
                                  POSITION_KNOWN, POSITION_KNOWN};
    struct position own = client->position; /* what it had when it left */
    bool was_here = client->kind == POSITION_KNOWN && chance(2) == 0;
    *client = (struct model_client){.wanted = 1u << chance(TOPICS) | 1u << chance(TOPICS)};
    client->kind = was_here ? POSITION_KNOWN : kinds[chance(length_of(kinds))];
    client->is_place_known = client->kind == POSITION_ALL;
    client->may_be_unknown = client->kind == POSITION_MALFORMED;
    if (client->kind == POSITION_KNOWN) {
        size_t there = world.handed_out_count < HANDED_OUT ? world.handed_out_count : HANDED_OUT;
        client->position =
            was_here ? own : world.handed_out[there == 0 ? 0 : chance((uint32_t)there)];
        if (client->position.marker[0] == '\0' || chance(16) == 0) {
            client->may_be_unknown = true; /* a stranger's, or from ahead */
            if (client->position.marker[0] == '\0' || chance(2) == 0) {
                marker_draw(client->position.marker);
            } else {
                client->position.since += chance(2000);
            }
        }
        client->is_place_known =
            markers_resolve(&world.rig.broker->markers, &client->position, &client->place);
        require(client->is_place_known || client->may_be_unknown);
        client->may_be_unknown = !client->is_place_known;
    }
    ask(handler, client);
}

static void go(struct model_handler *handler, struct model_client *client) {
    struct wire_unsubscribe message = {.token = client->phase == PHASE_LIVE ? 0 : client->token};
    wanted_topics(client, &message.topics);
    say(handler, wire_encode_unsubscribe(&message));
    if (!client->is_place_known) {
        client->kind = POSITION_NONE; /* what it has is worth nothing */
    }
    client->phase = PHASE_AWAY;
}

static void pay(struct model_handler *handler, struct model_client *client) {
    struct wire_credit message = {client->token, (uint32_t)client->owed};
    if (client->owed > 0) {
        client->credit += client->owed;
        client->owed = 0;
        say(handler, wire_encode_credit(&message));
    }
}

/* --- steps
 * ------------------------------------------------------------------------------------------ */

static void hear(unsigned char kind) {
    require(count() < PLACES);
    world.kinds[count()] = kind;
}

/* The event's number is its place. */
static void publish(void) {
    unsigned topic = chance(TOPICS);
    if (broker_is_listening(world.rig.broker)) {
        rig_publish_long(&world.rig, topic_names[topic], (unsigned)count() + 1,
                         chance(20) == 0 ? chance(7000) : chance(100));
        hear((unsigned char)(KIND_EVENT + topic));
    }
}

static void step_marker(void) {
    if (!broker_is_listening(world.rig.broker)) {
        return;
    }
    if (world.is_marker_flying && chance(2) == 0) {
        rig_hear_marker(&world.rig);
        world.is_marker_flying = false;
        hear(KIND_OTHER);
    } else if (!world.is_marker_flying) {
        rig_send_marker(&world.rig);
        world.is_marker_flying = true;
    }
}

static void step_listen(void) {
    if (!broker_is_listening(world.rig.broker)) {
        world.rig.broker->listener.is_listening = true;
        broker_on_listening(world.rig.broker);
        hear(KIND_BREAK);
        world.is_marker_flying = world.is_marker_flying && chance(2) == 0;
    } else if (chance(12) == 0) {
        rig_deaf(&world.rig);
    }
}

static void step_client(struct model_handler *handler) {
    struct model_client *client = &handler->clients[chance(CLIENTS)];
    switch (chance(6)) {
    case 0:
        if (client->phase != PHASE_AWAY) {
            go(handler, client);
        }
        return;
    case 1:
    case 2:
        if (client->phase == PHASE_AWAY) {
            come(handler, client);
        }
        return;
    default:
        if (client->phase == PHASE_CATCHING_UP) {
            pay(handler, client);
        }
        return;
    }
}

static void tell_position(struct handler *handler, void *argument) {
    (void)argument;
    handler_tell_position(handler);
}

static void step(void) {
    struct model_handler *handler = &world.handlers[chance(HANDLERS)];
    uint32_t what = chance(1000);
    if (what < 600) {
        publish();
    } else if (what < 640) {
        step_marker();
    } else if (what < 660) {
        step_listen();
    } else if (what < 665 && broker_is_listening(world.rig.broker)) {
        rig_notify(&world.rig, "nonsense");
        hear(KIND_OTHER);
    } else if (what < 850) {
        step_client(handler);
    } else if (what < 853) {
        lose_connection(handler);
    } else if (what < 860) {
        broker_visit_handlers(world.rig.broker, NULL, tell_position);
    } else if (what < 930) {
        run_turns(world.rig.loop, 1);
    } else {
        read_frames(handler, chance(2) == 0 ? SIZE_MAX : chance(20000));
    }
}

/* --- a whole run
 * ------------------------------------------------------------------------------------ */

/* In the end all is heard, all markers come back, everybody reads and has credit: then all clients
 * are live, and nothing is missing up to the head. */
static void settle(void) {
    if (!broker_is_listening(world.rig.broker)) {
        step_listen();
    }
    for (int round = 0; round < 400; round++) {
        if (round % 100 == 50) {
            rig_marker(&world.rig);
            hear(KIND_OTHER);
        }
        run_turns(world.rig.loop, 1);
        for (size_t h = 0; h < HANDLERS; h++) {
            read_frames(&world.handlers[h], SIZE_MAX);
            for (size_t i = 0; i < CLIENTS; i++) {
                if (world.handlers[h].clients[i].phase == PHASE_CATCHING_UP) {
                    pay(&world.handlers[h], &world.handlers[h].clients[i]);
                }
            }
        }
    }
    broker_visit_handlers(world.rig.broker, NULL, tell_position);
    run_turns(world.rig.loop, 2);
    for (size_t h = 0; h < HANDLERS; h++) {
        read_frames(&world.handlers[h], SIZE_MAX);
        for (size_t i = 0; i < CLIENTS; i++) {
            const struct model_client *client = &world.handlers[h].clients[i];
            require(client->phase == PHASE_AWAY || client->phase == PHASE_LIVE);
            require(client->phase == PHASE_AWAY || client->place == count());
        }
    }
}

static void run_world(uint32_t seed) {
    world.seed = seed;
    world.random = seed;
    memset(world.kinds, 0, sizeof world.kinds);
    memset(world.handlers, 0, sizeof world.handlers);
    memset(world.handed_out, 0, sizeof world.handed_out);
    world.handed_out_count = 0;
    world.last_token = 0;
    world.is_marker_flying = false;
    int64_t history_bytes = seed % 5 == 0 ? 0 : 2000 << chance(8);
    rig_begin_with(&world.rig, history_bytes, 1 + chance(60));
    world.rig.config.handler_queue_bytes = 65536 << chance(3);
    rig_listen(&world.rig);
    for (size_t h = 0; h < HANDLERS; h++) {
        connect_handler(&world.handlers[h]);
    }
    for (world.step = 0; world.step < STEPS; world.step++) {
        step();
    }
    settle();
    for (size_t h = 0; h < HANDLERS; h++) {
        peer_close(&world.handlers[h].peer);
    }
    rig_end(&world.rig);
}

static void test_by_chance(void **state) {
    (void)state;
    for (uint32_t seed = 1; seed <= SEEDS; seed++) {
        run_world(seed);
    }
    print_message("%lu replayed, %lu live, %lu gaps, %lu unknown, %lu resumed\n", world.replayed,
                  world.live, world.gaps, world.unknown, world.resumed);
    assert_true(world.replayed > 10000 && world.live > 10000);
    assert_true(world.gaps > 1000 && world.unknown > 100 && world.resumed > 100);
}

RUN_TESTS(TEST(test_by_chance))
