/* The promise, by chance: a client gets every event of its topics, in order, once, or it is told in
 * time that it may have missed some.
 *
 * A broker is driven through thousands of steps: events of both kinds, breaks, markers, evictions
 * from a small log, prunes of the table, statements that take their time or are lost, clients of
 * both forms that come with positions that were handed out before and leave again, credit, handlers
 * that read late or whose connections are lost. Models of handlers and clients judge every frame by
 * the order in which Postgres had delivered, and by the table, which the test knows. Seeded: a
 * failure names its seed; PGSSE_SEEDS="FIRST LAST" runs others. */
#include "table_rig.h"

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

/* Who may have what: a bit for each topic. */
enum { USERS = 3 };
static const char *const user_names[USERS] = {"u", "v", "w"};

enum phase { PHASE_AWAY, PHASE_ASKED, PHASE_CATCHING_UP, PHASE_LIVE };

struct model_client {
    enum phase phase;
    uint64_t token;
    enum wire_form form;
    unsigned user;
    unsigned asked;          /* a bit for each topic */
    unsigned wanted;         /* of these, what was granted */
    unsigned rights_changed; /* when it asked */
    enum position_kind kind;
    struct position position; /* what it came with; then the last id */
    uint64_t place;           /* all before it is accounted for */
    uint64_t durable;         /* the same, of the table; 0 before ACCEPTED: as position says */
    bool is_beyond;           /* when it asked, somebody else might have known its position */
    bool must_be_told;        /* unknown_position comes before anything else */
    bool may_be_told;
    uint64_t gaps_told[TOPICS]; /* so far it knows that something was pruned */
    unsigned owed_gaps; /* of topics: something that was pruned has been passed, and not told yet */
    uint64_t barrier;   /* the marker that must have been heard, if it was unknown */
    bool was_told;      /* a refresh came since the last event */
    uint64_t told_at;   /* the broker's count then */
    bool is_first;      /* nothing has come behind ACCEPTED yet */
    bool follows;
    int64_t credit;
    int64_t owed;
};

struct model_handler {
    struct peer peer;
    bool is_resuming;
    struct position position; /* the last that was applied on the connection, or the one before */
    uint64_t place;
    uint64_t durable;
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
    bool has_table;
    unsigned rights[USERS];
    unsigned rights_changed;
    bool is_executed;      /* the statement under way has seen what it will tell */
    struct fake_rows rows; /* that */
    unsigned statement;    /* and which that is */
    unsigned long replayed, live, gaps, unknown, resumed; /* that the test tests something */
    unsigned long durable_replayed, durable_live, pruned, refused, rechecked;
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
    return client->form == WIRE_FORM_TOPICS && world.kinds[place] >= KIND_EVENT &&
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
    const struct history_entry *entry =
        trail == NULL ? NULL : trail_after(trail, &(struct cursor){place - 1, UINT64_MAX});
    return entry != NULL && entry->at.place == place;
}

static uint64_t place_of(const struct position *position) {
    uint64_t place;
    if (position->marker[0] == '\0') {
        return 0; /* "0": the start */
    }
    require(markers_resolve(&world.rig.broker->markers, position, &place));
    return place;
}

static unsigned topic_number(const char *name) {
    return (unsigned)(name[0] - topic_names[0][0]);
}

static const struct database_row *row_of(uint64_t id) {
    require(id >= 2 && id <= database.last_id);
    return &database.rows[id - 2];
}

static uint64_t floor_of(unsigned topic) {
    uint64_t floor = 0;
    for (size_t i = 0; i < database.count; i++) {
        const struct database_row *row = &database.rows[i];
        floor = row->is_floor && topic_number(row->topic) == topic ? row->id : floor;
    }
    return floor;
}

static bool is_row_wanted(const struct model_client *client, uint64_t id) {
    const struct database_row *row = row_of(id);
    return !row->is_bad && (client->wanted & 1u << topic_number(row->topic)) != 0;
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
        if (client->form == WIRE_FORM_TOPICS && world.kinds[place] == KIND_BREAK) {
            require(client->was_told || (!is_in_log(place) && place <= client->told_at));
        } else if (is_wanted(client, place)) {
            require(!is_in_log(place) && place <= client->told_at);
        }
    }
}

/* Rows behind the client's id and before that one were not sent to it: right for what is not its
 * own, and for what was pruned: it is told, or will be, before the next event of that topic. */
static void account_rows(struct model_client *client, uint64_t before, bool is_told) {
    for (uint64_t id = client->durable + 1; id < before; id++) {
        if (id >= 2 && is_row_wanted(client, id)) {
            require(row_of(id)->is_pruned);
            unsigned topic = topic_number(row_of(id)->topic);
            client->owed_gaps |= is_told || id <= client->gaps_told[topic] ? 0 : 1u << topic;
        }
    }
}

/* An id that stands behind what was sent, and before what is to come. */
static void take_id(struct model_client *client, const struct position *id, bool is_told) {
    uint64_t place = place_of(id);
    require(id->durable >= client->durable || id->durable == 0);
    if (client->form == WIRE_FORM_TOPICS && place > 0) {
        require(place >= client->place);
        account(client, place + 1);
        client->place = place;
    }
    if (id->durable > 0) {
        account_rows(client, id->durable + 1, is_told);
        client->durable = id->durable;
    }
    client->position = *id;
    if (client->form == WIRE_FORM_CONNECTIONS) {
        client->position = (struct position){.durable = id->durable};
    }
    client->kind = POSITION_KNOWN;
}

static void take_event(struct model_client *client, uint64_t place, const struct position *id) {
    require(!client->must_be_told);
    require(is_wanted(client, place) && place > client->place);
    account(client, place);
    client->place = place;
    take_id(client, id, false);
    client->was_told = false;
    client->is_first = false;
}

static void take_row(struct model_client *client, uint64_t number, const struct position *id) {
    require(!client->must_be_told);
    require(number == id->durable && is_row_wanted(client, number) && number > client->durable);
    account_rows(client, number, false);
    require((client->owed_gaps & 1u << topic_number(row_of(number)->topic)) == 0);
    client->durable = number;
    take_id(client, id, false);
    client->was_told = false;
    client->is_first = false;
}

/* A refresh about durable events of that topic, or of all; its floor may stand further on. */
static void tell_gap(struct model_client *client, struct slice topic) {
    for (unsigned t = 0; t < TOPICS; t++) {
        if (topic.length == 0 || slice_is(topic, topic_names[t])) {
            client->gaps_told[t] = floor_of(t);
            client->owed_gaps &= ~(1u << t);
        }
    }
}

/* Something of its own stands behind its place that it will never get. */
static bool has_missed(const struct model_client *client) {
    for (uint64_t place = client->place + 1; place <= count(); place++) {
        if (client->form == WIRE_FORM_TOPICS &&
            (world.kinds[place] == KIND_BREAK || (is_wanted(client, place) && !is_in_log(place)))) {
            return true;
        }
    }
    for (uint64_t id = client->durable + 1; id <= database.last_id; id++) {
        if (id >= 2 && (client->wanted & 1u << topic_number(row_of(id)->topic)) != 0 &&
            row_of(id)->is_pruned) {
            return true;
        }
    }
    return false;
}

static void take_refresh(struct model_client *client, const struct wire_refresh *refresh) {
    require(refresh->is_durable);
    if (refresh->reason == SSE_REFRESH_UNKNOWN_POSITION) {
        require((client->must_be_told || client->may_be_told) && client->is_first);
        world.unknown++;
    } else {
        require(refresh->reason == SSE_REFRESH_GAP && !client->must_be_told);
        require(has_missed(client)); /* never a needless one */
        world.gaps++;
    }
    client->must_be_told = false;
    client->may_be_told = false;
    tell_gap(client, (struct slice){"", 0});
    client->was_told = true;
    client->told_at = count();
    client->is_first = false;
    take_id(client, &refresh->position, true);
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
    require(place >= handler->place && position->durable >= handler->durable);
    handler->place = place;
    handler->durable = position->durable;
    handler->position = *position;
}

/* The live clients' heartbeats would carry it. */
static void tell_live(struct model_handler *handler, const struct position *position) {
    move_to(handler, position);
    for (size_t i = 0; i < CLIENTS; i++) {
        if (handler->clients[i].phase == PHASE_LIVE) {
            take_id(&handler->clients[i], position, false);
        }
    }
    hand_out(position);
}

static unsigned granted_of(const struct wire_topics *topics) {
    unsigned granted = 0;
    for (size_t i = 0; i < topics->count; i++) {
        granted |= 1u << topic_number(topics->names[i].at);
    }
    return granted;
}

/* The topics of which there is anything. */
static unsigned rows_of(const struct model_client *client, uint64_t up_to) {
    unsigned topics = 0;
    for (uint64_t id = 2; id <= up_to; id++) {
        topics |= is_row_wanted(client, id) ? 1u << topic_number(row_of(id)->topic) : 0;
    }
    return topics;
}

/* What the broker knew when it decided, told by where it was then. */
static void decide_known(struct model_client *client, const struct position *head) {
    uint64_t place = 0;
    uint64_t head_place = place_of(head);
    bool is_place = markers_resolve(&world.rig.broker->markers, &client->position, &place) &&
                    place <= head_place;
    bool is_id = client->position.durable > 0 && client->position.durable <= head->durable;
    if (client->form == WIRE_FORM_TOPICS && !is_place) {
        require(client->position.marker[0] == '\0' ||
                world.rig.broker->canary.heard >= client->barrier);
        client->must_be_told = true;
    }
    if (client->position.durable > head->durable) {
        require(!world.has_table || world.rig.broker->canary.heard >= client->barrier);
        client->must_be_told = true;
    } else if (!is_id && head->durable > 0) {
        client->may_be_told = true;
        client->owed_gaps = rows_of(client, head->durable);
    }
    client->place = is_place ? place : head_place;
    client->durable = is_id ? client->position.durable : head->durable;
}

static void on_accepted(struct model_handler *handler, const struct wire_accepted *message) {
    struct model_client *client = client_of(handler, message->token);
    require(!handler->is_resuming);
    if (client == NULL) {
        return;
    }
    require(client->phase == PHASE_ASKED);
    client->owed_gaps = 0;
    memset(client->gaps_told, 0, sizeof client->gaps_told);
    client->wanted = granted_of(&message->topics);
    require(client->wanted != 0 && (client->wanted & ~client->asked) == 0);
    if (client->form == WIRE_FORM_TOPICS) {
        require(client->wanted == client->asked);
    } else if (client->rights_changed == world.rights_changed) {
        require(client->wanted == (client->asked & world.rights[client->user]));
    }
    client->phase = PHASE_CATCHING_UP;
    client->is_first = true;
    client->follows = message->follows || client->kind == POSITION_NONE;
    client->must_be_told = client->kind == POSITION_MALFORMED;
    client->may_be_told = false;
    if (client->kind == POSITION_KNOWN) {
        decide_known(client, &message->position);
    } else if (client->kind == POSITION_ALL) {
        client->place = 0;
        client->durable = world.has_table ? 1 : 0;
    } else {
        require((client->kind == POSITION_MALFORMED) == message->follows);
        client->place = place_of(&message->position);
        client->durable = message->position.durable;
    }
    require(message->follows || !client->must_be_told);
}

static void on_refused(struct model_handler *handler, const struct wire_refused *message) {
    struct model_client *client = client_of(handler, message->token);
    require(!handler->is_resuming);
    if (client != NULL) {
        require(client->form == WIRE_FORM_CONNECTIONS && client->phase == PHASE_ASKED);
        if (!world.has_table) {
            require(message->status == 501);
        } else {
            require(message->status == 403);
            require(client->rights_changed != world.rights_changed ||
                    (client->asked & world.rights[client->user]) == 0);
        }
        client->phase = PHASE_AWAY;
        world.refused++;
    }
}

static void on_replay(struct model_handler *handler, const struct wire_replay *message,
                      size_t bytes) {
    struct model_client *client = client_of(handler, message->token);
    const struct wire_event *event = &message->event;
    if (client == NULL) {
        return;
    }
    require(client->phase == PHASE_CATCHING_UP && client->follows && client->credit > 0);
    require((client->wanted & 1u << topic_number(event->topic.at)) != 0);
    if (event->is_durable) {
        require(slice_is(event->topic, row_of(event_number(event))->topic));
        require(strcmp(client->position.marker, event->position.marker) == 0 || client->is_first ||
                client->form == WIRE_FORM_CONNECTIONS); /* it moves one part only */
        take_row(client, event_number(event), &event->position);
        world.durable_replayed++;
    } else {
        uint64_t place = place_of(&event->position);
        require(event_number(event) == place);
        require(slice_is(event->topic, topic_names[world.kinds[place] - KIND_EVENT]));
        take_event(client, place, &event->position);
        world.replayed++;
    }
    client->credit -= (int64_t)bytes;
    client->owed += (int64_t)bytes;
    hand_out(&event->position);
}

static void on_subscribed(struct model_handler *handler, const struct wire_position *message) {
    struct model_client *client = client_of(handler, message->token);
    require(!handler->is_resuming);
    if (client != NULL) {
        require(client->phase == PHASE_CATCHING_UP && !client->must_be_told);
        require(client->follows || client->is_first);
        take_id(client, &message->position, false);
        client->phase = PHASE_LIVE;
    }
    tell_live(handler, &message->position);
}

static void on_event(struct model_handler *handler, const struct wire_event *event) {
    uint64_t place = place_of(&event->position);
    unsigned number = event_number(event);
    require(event->is_durable ? number == event->position.durable && number > handler->durable
                              : number == place && place > handler->place);
    move_to(handler, &event->position);
    for (size_t i = 0; i < CLIENTS; i++) {
        struct model_client *client = &handler->clients[i];
        if (client->phase != PHASE_LIVE) {
            continue;
        }
        if (event->is_durable && is_row_wanted(client, number)) {
            take_row(client, number, &event->position);
            world.durable_live++;
        } else if (!event->is_durable && is_wanted(client, place)) {
            take_event(client, place, &event->position);
            world.live++;
        }
    }
    hand_out(&event->position);
}

static bool is_meant(const struct model_client *client, const struct wire_refresh *message) {
    if (client->phase != PHASE_LIVE ||
        (client->form == WIRE_FORM_CONNECTIONS && !message->is_durable)) {
        return false;
    }
    return message->topic.length == 0 ||
           (client->wanted & 1u << topic_number(message->topic.at)) != 0;
}

static void on_broadcast_refresh(struct model_handler *handler,
                                 const struct wire_refresh *message) {
    for (size_t i = 0; i < CLIENTS; i++) {
        struct model_client *client = &handler->clients[i];
        if (is_meant(client, message)) {
            require(message->reason == SSE_REFRESH_GAP); /* this broker was never restarted */
            client->was_told = true;
            client->told_at = count();
            take_id(client, &message->position, message->is_durable);
            if (message->is_durable) {
                tell_gap(client, message->topic);
            }
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

static void ask_anew(struct model_handler *handler, struct model_client *client);

/* Its connections of that user, or of all, are asked for again. */
static void on_recheck(struct model_handler *handler, struct slice user) {
    for (size_t i = 0; i < CLIENTS; i++) {
        struct model_client *client = &handler->clients[i];
        if (client->form == WIRE_FORM_CONNECTIONS && client->phase != PHASE_AWAY &&
            (user.length == 0 || slice_is(user, user_names[client->user]))) {
            ask_anew(handler, client);
            world.rechecked++;
        }
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
    struct wire_refused refused;
    struct slice user;
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
    } else if (frame->type == WIRE_RECHECK && wire_decode_recheck(frame->body, &user)) {
        on_recheck(handler, user);
    } else if (frame->type == WIRE_REFUSED && wire_decode_refused(frame->body, &refused)) {
        on_refused(handler, &refused);
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

static void topics_in(unsigned wanted, struct wire_topics *topics) {
    topics->count = 0;
    for (size_t t = 0; t < TOPICS; t++) {
        if ((wanted & 1u << t) != 0) {
            topics->names[topics->count++] = slice_of(topic_names[t]);
        }
    }
}

static void ask(struct model_handler *handler, struct model_client *client) {
    struct wire_subscribe message = {.token = ++world.last_token,
                                     .form = client->form,
                                     .user = slice_of(user_names[client->user]),
                                     .position_kind = client->kind,
                                     .position = client->position};
    topics_in(client->asked, &message.topics);
    client->token = message.token;
    client->phase = PHASE_ASKED;
    client->credit = WIRE_CREDIT_BYTES;
    client->owed = 0;
    client->barrier = world.rig.broker->canary.sent + 1;
    client->rights_changed = world.rights_changed;
    say(handler, wire_encode_subscribe(&message));
}

static void connect_handler(struct model_handler *handler) {
    struct buf resume = {0};
    bool is_first = handler->position.marker[0] == '\0';
    handler_narrow(peer_connect_silently(&world.rig, &handler->peer));
    handler->is_resuming = true;
    say(handler, wire_encode_hello(WIRE_HELLO, 1));
    for (size_t i = 0; i < CLIENTS; i++) {
        struct model_client *client = &handler->clients[i];
        if (client->phase == PHASE_LIVE && client->form == WIRE_FORM_CONNECTIONS) {
            client->phase = PHASE_ASKED; /* it subscribes anew */
        }
    }
    wire_resume_begin(&resume, is_first ? POSITION_NONE : POSITION_KNOWN, &handler->position);
    for (size_t t = 0; t < TOPICS; t++) {
        struct wire_resume_entry entry = {slice_of(topic_names[t]), 0};
        for (size_t i = 0; i < CLIENTS; i++) {
            const struct model_client *client = &handler->clients[i];
            bool is_here = client->phase == PHASE_LIVE && (client->wanted & 1u << t) != 0;
            entry.clients += is_here;
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

/* Somebody else's position, or one from ahead. */
static void disturb(struct model_client *client) {
    switch (chance(4)) {
    case 0:
        marker_draw(client->position.marker);
        return;
    case 1:
        client->position.since += chance(2000);
        return;
    case 2:
        client->position.durable += chance(20);
        return;
    default:
        client->position.durable = 0;
        return;
    }
}

static void come(struct model_handler *handler, struct model_client *client) {
    enum position_kind kinds[] = {POSITION_NONE,  POSITION_MALFORMED, POSITION_ALL,
                                  POSITION_KNOWN, POSITION_KNOWN,     POSITION_KNOWN,
                                  POSITION_KNOWN, POSITION_KNOWN};
    struct position own = client->position; /* what it had when it left */
    bool was_here = client->kind == POSITION_KNOWN && chance(2) == 0;
    *client = (struct model_client){.asked = 1u << chance(TOPICS) | 1u << chance(TOPICS)};
    client->form = chance(3) == 0 ? WIRE_FORM_CONNECTIONS : WIRE_FORM_TOPICS;
    client->user = chance(USERS);
    client->kind = was_here ? POSITION_KNOWN : kinds[chance(length_of(kinds))];
    if (client->kind == POSITION_KNOWN) {
        size_t there = world.handed_out_count < HANDED_OUT ? world.handed_out_count : HANDED_OUT;
        client->position =
            was_here ? own : world.handed_out[there == 0 ? 0 : chance((uint32_t)there)];
        if (chance(16) == 0) {
            disturb(client);
        }
        if (client->form == WIRE_FORM_CONNECTIONS) {
            client->position = (struct position){.durable = client->position.durable};
        }
    }
    ask(handler, client);
}

static void leave(struct model_handler *handler, struct model_client *client) {
    bool is_live = client->phase == PHASE_LIVE && client->form == WIRE_FORM_TOPICS;
    struct wire_unsubscribe message = {.token = is_live ? 0 : client->token, .form = client->form};
    topics_in(client->asked, &message.topics);
    say(handler, wire_encode_unsubscribe(&message));
}

static void go(struct model_handler *handler, struct model_client *client) {
    leave(handler, client);
    client->phase = PHASE_AWAY;
}

static void ask_anew(struct model_handler *handler, struct model_client *client) {
    leave(handler, client);
    ask(handler, client);
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

/* --- the table
 * ------------------------------------------------------------------------------------------ */

static void hint(const char *payload) {
    if (broker_is_listening(world.rig.broker)) {
        table_rig_hint(&world.rig, payload);
        hear(KIND_OTHER);
    }
}

/* Some hints are lost, and the poll finds it. */
static void store(void) {
    unsigned topic = chance(TOPICS);
    (void)database_store(topic_names[topic], (unsigned)database.last_id + 1,
                         chance(20) == 0 ? chance(9000) : chance(100));
    database.rows[database.count - 1].is_bad = chance(50) == 0;
    if (chance(4) != 0) {
        hint("{}");
    }
}

static void prune(void) {
    const char *topic = topic_names[chance(TOPICS)];
    uint64_t newest = database.last_id - 1;
    database_prune(topic, 2 + newest - (newest < 40 ? chance((uint32_t)newest + 1) : chance(40)));
    world.pruned++;
}

static void change_rights(void) {
    unsigned user = chance(USERS);
    char payload[32];
    if (chance(3) == 0) {
        world.rights[user] = chance(1u << TOPICS);
        world.rights_changed++;
        char *at = database.rights;
        *at++ = ' ';
        for (unsigned u = 0; u < USERS; u++) {
            for (unsigned t = 0; t < TOPICS; t++) {
                if ((world.rights[u] & 1u << t) != 0) {
                    at += snprintf(at, 8, "%s/%s ", user_names[u], topic_names[t]);
                }
            }
        }
        *at = '\0';
    }
    snprintf(payload, sizeof payload, "{\"recheck\":\"%s\"}",
             chance(4) == 0 ? "" : user_names[user]);
    hint(payload);
}

static void forget_statement(void) {
    if (world.is_executed) {
        rows_release(&world.rows);
        world.is_executed = false;
    }
}

static void step_statement(void) {
    if (world.statement != fake->statements) {
        forget_statement(); /* it was lost */
    }
    if (fake->state == FAKE_DOWN) {
        fake_connect();
    } else if (fake_task() == 0) {
        (void)table_ask_reading(&world.rig.broker->table);
    } else if (chance(200) == 0) {
        forget_statement();
        pg_drop(fake, "by chance");
    } else if (!world.is_executed) {
        world.rows = (struct fake_rows){0};
        fake_execute(&world.rows);
        world.is_executed = true;
        world.statement = fake->statements;
    } else {
        world.is_executed = false;
        fake_deliver(&world.rows);
    }
}

static void step_table(void) {
    uint32_t what = chance(100);
    if (what < 40) {
        store();
    } else if (what < 44) {
        prune();
    } else if (what < 46) {
        change_rights();
    } else {
        step_statement();
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
    if (what < 300) {
        publish();
    } else if (what < 600) {
        step_table();
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
        forget_statement();
        if (fake->state == FAKE_DOWN) {
            fake_connect();
        }
        table_rig_read(&world.rig);
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
            require(client->phase == PHASE_AWAY || client->owed_gaps == 0);
            require(client->phase == PHASE_AWAY || client->form == WIRE_FORM_CONNECTIONS ||
                    client->place == count());
            require(client->phase == PHASE_AWAY || !world.has_table ||
                    client->durable == database.last_id);
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
    int64_t ring_capacity = 1 + chance(60);
    database_clear(1);
    database.is_missing = seed % 8 == 0;
    world.has_table = !database.is_missing;
    world.is_executed = false;
    snprintf(database.rights, sizeof database.rights, " ");
    memset(world.rights, 0, sizeof world.rights);
    for (uint32_t rows = chance(3) == 0 ? 0 : chance(100); rows > 0; rows--) {
        (void)database_store(topic_names[chance(TOPICS)], (unsigned)database.last_id + 1,
                             chance(50));
    }
    database.page_rows = chance(2) == 0 ? 0 : 1 + chance(30);
    rig_begin_with(&world.rig, history_bytes, ring_capacity);
    world.rig.broker->table.state = TABLE_UNKNOWN;
    world.rig.config.handler_queue_bytes = 65536 << chance(3);
    rig_listen(&world.rig);
    fake_connect();
    change_rights();
    fake_settle();
    memset(world.kinds, 0, sizeof world.kinds);
    for (size_t h = 0; h < HANDLERS; h++) {
        connect_handler(&world.handlers[h]);
    }
    for (world.step = 0; world.step < STEPS; world.step++) {
        step();
    }
    settle();
    forget_statement();
    for (size_t h = 0; h < HANDLERS; h++) {
        peer_close(&world.handlers[h].peer);
    }
    rig_end(&world.rig);
}

static void test_by_chance(void **state) {
    (void)state;
    unsigned first = 1;
    unsigned last = SEEDS;
    const char *others = getenv("PGSSE_SEEDS");
    if (others != NULL) {
        assert_int_equal(sscanf(others, "%u %u", &first, &last), 2);
    }
    for (uint32_t seed = first; seed <= last; seed++) {
        run_world(seed);
    }
    print_message("%lu replayed, %lu live, %lu gaps, %lu unknown, %lu resumed\n", world.replayed,
                  world.live, world.gaps, world.unknown, world.resumed);
    print_message("durable: %lu replayed, %lu live, %lu pruned, %lu refused, %lu rechecked\n",
                  world.durable_replayed, world.durable_live, world.pruned, world.refused,
                  world.rechecked);
    if (others != NULL) {
        return;
    }
    assert_true(world.replayed > 10000 && world.live > 10000);
    assert_true(world.durable_replayed > 10000 && world.durable_live > 10000);
    assert_true(world.pruned > 1000 && world.refused > 100 && world.rechecked > 100);
    assert_true(world.gaps > 1000 && world.unknown > 100 && world.resumed > 100);
}

RUN_TESTS(TEST(test_by_chance))
