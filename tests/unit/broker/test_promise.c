/* The promise, tested with random histories: a client gets every event of its topics, in order,
 * once, or it is told in time that it may have missed some.
 *
 * A broker is driven through thousands of steps: events of both kinds, breaks, markers, evictions
 * from a small log, prunes of the table, statements that are slow or lost, clients of both forms
 * that come with earlier positions and leave again, credit, handlers that read late or lose their
 * connections. Models of handlers and clients judge every frame by the order of Postgres'
 * notifications and by the table, both of which the test knows. A failure names its seed;
 * PGSSE_SEEDS="FIRST LAST" runs other seeds. */
#include "table_rig.h"

#include <limits.h>

enum {
    TOPICS = 6,
    PATTERNS = 4,
    ALL_NAMES = TOPICS + PATTERNS,
    HANDLERS = 3,
    CLIENTS = 24,
    STEPS = 4000,
    SEEDS = 60,
    PLACES = 3 * STEPS,
    HANDED_OUT = 64,
};

/* The topics, then the patterns. */
static const char *const all_names[ALL_NAMES] = {"aa", "ab", "ba", "bb",  "bbc",
                                                 "c",  "*",  "b*", "bb*", "aa*"};
static const char *const *const topic_names = all_names;

/* What is at a place. */
enum kind { KIND_OTHER, KIND_BREAK, KIND_EVENT /* plus the topic's number */ };

/* The rights of each user: a bit for each topic. */
enum { USERS = 3 };
static const char *const user_names[USERS] = {"u", "v", "w"};

enum phase { PHASE_AWAY, PHASE_ASKED, PHASE_CATCHING_UP, PHASE_LIVE };

struct model_client {
    enum phase phase;
    uint64_t token;
    enum wire_form form;
    unsigned user;
    unsigned asked;          /* a bit for each name */
    unsigned named;          /* of these, what was granted */
    unsigned wanted;         /* a bit for each topic that these match */
    unsigned rights_changed; /* when it asked */
    enum position_kind kind;
    struct position position; /* what it came with; then the last id */
    uint64_t place;           /* all before it is accounted for */
    uint64_t durable;         /* the same for ids; 0 before ACCEPTED: position has it */
    bool must_be_told;        /* unknown_position comes before anything else */
    bool may_be_told;
    uint64_t gaps_told[TOPICS]; /* up to this id it was told of gaps */
    unsigned owed_gaps;         /* of topics: a gap was passed and is not told yet */
    uint64_t barrier;           /* the marker to be heard before its position is unknown */
    bool was_told;              /* a refresh came since the last event */
    unsigned told;              /* of topics: a refresh came since their last event */
    uint64_t told_at;           /* the broker's count then */
    bool is_first;              /* nothing has come after ACCEPTED yet */
    bool has_backlog;
    int64_t credit;
    int64_t owed;
};

struct model_handler {
    struct peer peer;
    bool is_resuming;
    struct position position; /* the last one of this connection, or of the last one */
    uint64_t place;
    uint64_t durable;
    struct model_client clients[CLIENTS];
};

struct world {
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
    bool is_executed;      /* the statement under way has its result */
    struct fake_rows rows; /* that */
    unsigned statement;    /* and which that is */
    unsigned long replayed, live, gaps, unknown, resumed; /* to see what the test covers */
    unsigned long durable_replayed, durable_live, pruned, refused, rechecked;
};

static struct world world;

static uint32_t chance(uint32_t bound) {
    return next_random(&world.random) % bound;
}

static uint64_t count(void) {
    return rig.broker->journal.markers.count;
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
    const struct history *history = &rig.broker->journal.history;
    const struct trail *trail = &history->breaks;
    if (world.kinds[place] >= KIND_EVENT) {
        struct topic *topic = topics_find(&rig.broker->journal.topics,
                                          key_of(topic_names[world.kinds[place] - KIND_EVENT]));
        trail = topic == NULL ? NULL : &topic->trail;
    }
    const struct entry *entry =
        trail == NULL ? NULL : trail_after(trail, &(struct cursor){place - 1, UINT64_MAX});
    return entry != NULL && entry->at.place == place;
}

static uint64_t place_of(const struct position *position) {
    uint64_t place;
    if (position->marker[0] == '\0') {
        return 0; /* "0": the start */
    }
    require(markers_resolve(&rig.broker->journal.markers, position, &place));
    return place;
}

static unsigned topic_number(const char *name) {
    unsigned number = 0;
    while (number < TOPICS && topic_names[number] != name) {
        number++;
    }
    require(number < TOPICS);
    return number;
}

static unsigned name_number(struct topic_key key) {
    unsigned number = 0;
    while (number < ALL_NAMES && !topic_key_equals(key_of(all_names[number]), key)) {
        number++;
    }
    require(number < ALL_NAMES);
    return number;
}

/* The topics that the names match. */
static unsigned matched_by(unsigned names) {
    unsigned topics = 0;
    for (unsigned n = 0; n < ALL_NAMES; n++) {
        bool is_pattern = n >= TOPICS;
        for (unsigned t = 0; t < TOPICS; t++) {
            size_t length = strlen(all_names[n]) - (is_pattern ? 1 : 0);
            bool is_match =
                is_pattern ? strncmp(topic_names[t], all_names[n], length) == 0 : n == t;
            topics |= is_match && (names & 1u << n) != 0 ? 1u << t : 0;
        }
    }
    return topics;
}

static bool has_pattern(const struct model_client *client) {
    return client->asked >> TOPICS != 0;
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

/* A row that the broker has read and cannot send. */
static bool is_bad_gap(const struct database_row *row, unsigned topic) {
    return row->is_bad && row->id <= rig.broker->journal.table.head &&
           topic_number(row->topic) == topic;
}

/* The newest row of the topic that a refresh may have covered. */
static uint64_t newest_gap_of(unsigned topic) {
    uint64_t newest = floor_of(topic);
    for (size_t i = 0; i < database.count; i++) {
        const struct database_row *row = &database.rows[i];
        newest = row->id > newest && is_bad_gap(row, topic) ? row->id : newest;
    }
    return newest;
}

static bool is_row_wanted(const struct model_client *client, uint64_t id) {
    const struct database_row *row = row_of(id);
    return (client->wanted & 1u << topic_number(row->topic)) != 0;
}

static void hand_out(const struct position *position) {
    world.handed_out[world.handed_out_count++ % HANDED_OUT] = *position;
}

/* --- what a client may and must hear -------------------------------------------------------------
 */

/* Judges that nothing after the client's place and before the given one was sent. That is right for
 * other topics' events, and for events and breaks that the client was told of. A break is told in
 * its place. A break or an event that has left the log is told before the next event. */
static void account(struct model_client *client, uint64_t before) {
    for (uint64_t place = client->place + 1; place < before; place++) {
        if (client->form == WIRE_FORM_TOPICS && world.kinds[place] == KIND_BREAK) {
            require(client->was_told || (!is_in_log(place) && place <= client->told_at));
        } else if (is_wanted(client, place)) {
            require(!is_in_log(place) && place <= client->told_at);
            require((client->told & 1u << (world.kinds[place] - KIND_EVENT)) != 0);
        }
    }
}

/* Judges that no row after the client's id and before the given one was sent. That is right for
 * other topics' rows, and for rows that were pruned or cannot be sent, if the client is told before
 * the next event of the topic. */
static void account_rows(struct model_client *client, uint64_t before, bool is_told) {
    for (uint64_t id = client->durable + 1; id < before; id++) {
        if (id >= 2 && is_row_wanted(client, id)) {
            require(row_of(id)->is_pruned || row_of(id)->is_bad);
            unsigned topic = topic_number(row_of(id)->topic);
            client->owed_gaps |= is_told || id <= client->gaps_told[topic] ? 0 : 1u << topic;
        }
    }
}

/* The client gets a position: after all that was sent, and before all that will be. */
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
    if (client->form == WIRE_FORM_USER) {
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
    client->told &= ~(1u << (world.kinds[place] - KIND_EVENT));
    client->is_first = false;
}

static void take_row(struct model_client *client, uint64_t number, const struct position *id) {
    require(!client->must_be_told);
    require(number == id->durable && is_row_wanted(client, number) && number > client->durable);
    require(!row_of(number)->is_bad);
    account_rows(client, number, false);
    require((client->owed_gaps & 1u << topic_number(row_of(number)->topic)) == 0);
    client->durable = number;
    take_id(client, id, false);
    client->was_told = false;
    client->is_first = false;
}

/* A refresh about durable events of that topic, or of all topics. The floor may be further on. */
static void tell_gap(struct model_client *client, struct topic_key topic) {
    for (unsigned t = 0; t < TOPICS; t++) {
        if (topic_key_is_none(topic) || topic_key_equals(topic, key_of(topic_names[t]))) {
            client->gaps_told[t] = newest_gap_of(t);
            client->owed_gaps &= ~(1u << t);
        }
    }
}

/* True if there is something after the client's position that it will never get. */
static bool has_missed(const struct model_client *client) {
    for (uint64_t place = client->place + 1; place <= count(); place++) {
        if (client->form == WIRE_FORM_TOPICS &&
            (world.kinds[place] == KIND_BREAK || (is_wanted(client, place) && !is_in_log(place)))) {
            return true;
        }
    }
    for (uint64_t id = client->durable + 1; id <= database.last_id; id++) {
        if (id >= 2 && (client->wanted & 1u << topic_number(row_of(id)->topic)) != 0 &&
            (row_of(id)->is_pruned || row_of(id)->is_bad)) {
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
        require(has_missed(client) || has_pattern(client)); /* no needless refresh */
        world.gaps++;
    }
    client->must_be_told = false;
    client->may_be_told = false;
    tell_gap(client, key_of(NULL));
    client->was_told = true;
    client->told = UINT_MAX;
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

/* The handler has got everything up to that position. */
static void move_to(struct model_handler *handler, const struct position *position) {
    uint64_t place = place_of(position);
    require(place >= handler->place && position->durable >= handler->durable);
    handler->place = place;
    handler->durable = position->durable;
    handler->position = *position;
}

/* The heartbeats of live clients carry the position. */
static void tell_live(struct model_handler *handler, const struct position *position) {
    move_to(handler, position);
    for (size_t i = 0; i < CLIENTS; i++) {
        if (handler->clients[i].phase == PHASE_LIVE) {
            take_id(&handler->clients[i], position, false);
        }
    }
    hand_out(position);
}

static unsigned granted_of(const struct names *topics) {
    unsigned granted = 0;
    for (size_t i = 0; i < topics->count; i++) {
        granted |= 1u << name_number(topics->keys[i]);
    }
    return granted;
}

/* The client's topics of which the table has or had rows. */
static unsigned rows_of(const struct model_client *client, uint64_t up_to) {
    unsigned topics = 0;
    for (uint64_t id = 2; id <= up_to; id++) {
        topics |= is_row_wanted(client, id) ? 1u << topic_number(row_of(id)->topic) : 0;
    }
    return topics;
}

/* What the broker must have decided, given its head at that time. */
static void decide_known(struct model_client *client, const struct position *head) {
    uint64_t place = 0;
    uint64_t head_place = place_of(head);
    bool is_place = markers_resolve(&rig.broker->journal.markers, &client->position, &place) &&
                    place <= head_place;
    bool is_id = client->position.durable > 0 && client->position.durable <= head->durable;
    if (client->form == WIRE_FORM_TOPICS && !is_place && client->position.marker[0] != '\0') {
        require(rig.broker->journal.canary.heard >= client->barrier);
        client->must_be_told = true;
    }
    if (client->position.durable > head->durable) {
        require(!world.has_table || rig.broker->journal.canary.heard >= client->barrier);
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
    client->named = granted_of(&message->topics);
    client->wanted = matched_by(client->named);
    require(client->named != 0 && (client->named & ~client->asked) == 0);
    if (client->form == WIRE_FORM_TOPICS) {
        require(client->named == client->asked);
    } else if (client->rights_changed == world.rights_changed) {
        require(client->wanted == (client->asked & world.rights[client->user]));
    }
    client->phase = PHASE_CATCHING_UP;
    client->is_first = true;
    client->has_backlog = message->has_backlog || client->kind == POSITION_NONE;
    client->must_be_told = client->kind == POSITION_MALFORMED;
    client->may_be_told = false;
    if (client->kind == POSITION_KNOWN) {
        decide_known(client, &message->position);
    } else if (client->kind == POSITION_ALL) {
        client->place = 0;
        client->durable = world.has_table ? 1 : 0;
    } else {
        require((client->kind == POSITION_MALFORMED) == message->has_backlog);
        client->place = place_of(&message->position);
        client->durable = message->position.durable;
    }
    require(message->has_backlog || !client->must_be_told);
}

static void on_refused(struct model_handler *handler, const struct wire_refused *message) {
    struct model_client *client = client_of(handler, message->token);
    require(!handler->is_resuming);
    if (client != NULL) {
        require(client->form == WIRE_FORM_USER && client->phase == PHASE_ASKED);
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
    require(client->phase == PHASE_CATCHING_UP && client->has_backlog && client->credit > 0);
    require((client->wanted & 1u << name_number(event->topic)) != 0);
    if (event->is_durable) {
        require(slice_is(topic_key_name(event->topic), row_of(event_number(event))->topic));
        require(strcmp(client->position.marker, event->position.marker) == 0 || client->is_first ||
                client->form == WIRE_FORM_USER); /* a durable event moves D only */
        take_row(client, event_number(event), &event->position);
        world.durable_replayed++;
    } else {
        uint64_t place = place_of(&event->position);
        require(event_number(event) == place);
        require(
            slice_is(topic_key_name(event->topic), topic_names[world.kinds[place] - KIND_EVENT]));
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
        require(client->has_backlog || client->is_first);
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
    if (client->phase != PHASE_LIVE || (client->form == WIRE_FORM_USER && !message->is_durable)) {
        return false;
    }
    return topic_key_is_none(message->topic) ||
           ((client->named | client->wanted) & 1u << name_number(message->topic)) != 0;
}

static void on_broadcast_refresh(struct model_handler *handler,
                                 const struct wire_refresh *message) {
    for (size_t i = 0; i < CLIENTS; i++) {
        struct model_client *client = &handler->clients[i];
        if (is_meant(client, message)) {
            require(message->reason == SSE_REFRESH_GAP); /* the broker never restarts here */
            client->was_told = true;
            client->told = UINT_MAX;
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
        require(client->phase == PHASE_CATCHING_UP && client->has_backlog);
        take_refresh(client, message);
    }
}

static void ask_anew(struct model_handler *handler, struct model_client *client);

/* The handler subscribes that user's streams, or all user streams, again. */
static void on_recheck(struct model_handler *handler, struct slice user) {
    for (size_t i = 0; i < CLIENTS; i++) {
        struct model_client *client = &handler->clients[i];
        if (client->form == WIRE_FORM_USER && client->phase != PHASE_AWAY &&
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

/* False: the broker has closed the connection. */
static bool take_frame(struct model_handler *handler, const struct wire_frame *frame) {
    struct wire_accepted accepted;
    struct wire_refresh refresh;
    struct wire_replay replay;
    struct wire_position position;
    struct wire_event event;
    struct wire_hello welcome;
    struct wire_refused refused;
    struct wire_recheck recheck;
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
    } else if (frame->type == WIRE_RECHECK && wire_decode_recheck(frame->body, &recheck)) {
        on_recheck(handler, recheck.user);
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

static void names_in(unsigned asked, struct names *topics) {
    topics->count = 0;
    for (size_t n = 0; n < ALL_NAMES; n++) {
        if ((asked & 1u << n) != 0) {
            topics->keys[topics->count++] = key_of(all_names[n]);
        }
    }
}

static void ask(struct model_handler *handler, struct model_client *client) {
    struct wire_subscribe message = {.token = ++world.last_token,
                                     .form = client->form,
                                     .user = slice_of(user_names[client->user]),
                                     .position_kind = client->kind,
                                     .position = client->position};
    names_in(client->asked, &message.topics);
    client->token = message.token;
    client->phase = PHASE_ASKED;
    client->credit = WIRE_CREDIT_BYTES;
    client->owed = 0;
    client->barrier = rig.broker->journal.canary.sent + 1;
    client->rights_changed = world.rights_changed;
    say(handler, wire_encode_subscribe(&message));
}

static void connect_handler(struct model_handler *handler) {
    struct buf resume = {0};
    bool is_first = handler->position.marker[0] == '\0';
    peer_connect_silently(&handler->peer);
    handler_narrow(handler->peer.handler);
    handler->is_resuming = true;
    say(handler, wire_encode_hello(WIRE_HELLO, 1));
    for (size_t i = 0; i < CLIENTS; i++) {
        struct model_client *client = &handler->clients[i];
        if (client->phase == PHASE_LIVE && client->form == WIRE_FORM_USER) {
            client->phase = PHASE_ASKED; /* it subscribes again */
        }
    }
    wire_resume_begin(&resume, is_first ? POSITION_NONE : POSITION_KNOWN, &handler->position);
    for (size_t n = 0; n < ALL_NAMES; n++) {
        struct wire_resume_entry entry = {key_of(all_names[n]), 0};
        for (size_t i = 0; i < CLIENTS; i++) {
            const struct model_client *client = &handler->clients[i];
            bool is_here = client->phase == PHASE_LIVE && (client->named & 1u << n) != 0;
            entry.clients += is_here;
        }
        require(entry.clients == 0 || wire_resume_add(&resume, &entry));
    }
    say(handler, wire_resume_end(&resume, true));
    for (size_t i = 0; i < CLIENTS; i++) {
        struct model_client *client = &handler->clients[i];
        if (client->phase == PHASE_ASKED || client->phase == PHASE_CATCHING_UP) {
            ask(handler, client); /* again, from its last id */
        }
    }
}

/* Frames on their way are lost. Live clients resume, the others subscribe again. */
static void lose_connection(struct model_handler *handler) {
    close(handler->peer.fd);
    buf_release(&handler->peer.input);
    run_turns(rig.loop, 1);
    connect_handler(handler);
    world.resumed++;
}

static void read_frames(struct model_handler *handler, size_t most) {
    struct buf *input = &handler->peer.input;
    struct wire_frame frame;
    bool is_open = drain(handler->peer.fd, input, most);
    struct slice left = buf_slice(input);
    while (is_open && wire_next(&left, WIRE_ANSWER_BYTES_MAX, &frame) == WIRE_NEXT_FRAME) {
        is_open = frame.type != WIRE_GOODBYE && take_frame(handler, &frame);
    }
    if (!is_open) {
        lose_connection(handler); /* the broker found it too slow */
        return;
    }
    buf_consume(input, input->length - left.length);
}

/* --- clients
 * ---------------------------------------------------------------------------------------- */

/* Changes the client's position: to another client's, or to one ahead of the broker. */
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
    struct position own = client->position; /* its own, from when it left */
    bool was_here = client->kind == POSITION_KNOWN && chance(2) == 0;
    *client = (struct model_client){.form = chance(3) == 0 ? WIRE_FORM_USER : WIRE_FORM_TOPICS};
    uint32_t names = client->form == WIRE_FORM_USER ? TOPICS : ALL_NAMES;
    client->asked = 1u << chance(names) | 1u << chance(names);
    client->user = chance(USERS);
    client->kind = was_here ? POSITION_KNOWN : kinds[chance(length_of(kinds))];
    if (client->kind == POSITION_KNOWN) {
        size_t there = world.handed_out_count < HANDED_OUT ? world.handed_out_count : HANDED_OUT;
        client->position =
            was_here ? own : world.handed_out[there == 0 ? 0 : chance((uint32_t)there)];
        if (chance(16) == 0) {
            disturb(client);
        }
        if (client->form == WIRE_FORM_USER) {
            client->position = (struct position){.durable = client->position.durable};
        }
    }
    ask(handler, client);
}

static void leave(struct model_handler *handler, struct model_client *client) {
    bool is_live = client->phase == PHASE_LIVE && client->form == WIRE_FORM_TOPICS;
    struct wire_unsubscribe message = {.token = is_live ? 0 : client->token, .form = client->form};
    names_in(client->asked, &message.topics);
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
    if (rig.broker->condition.is_listening) {
        rig_publish_long(topic_names[topic], (unsigned)count() + 1,
                         chance(20) == 0 ? chance(7000) : chance(100));
        hear((unsigned char)(KIND_EVENT + topic));
    }
}

static void step_marker(void) {
    if (!rig.broker->condition.is_listening) {
        return;
    }
    if (world.is_marker_flying && chance(2) == 0) {
        rig_hear_marker();
        world.is_marker_flying = false;
        hear(KIND_OTHER);
    } else if (!world.is_marker_flying) {
        rig_send_marker();
        world.is_marker_flying = true;
    }
}

static void step_listen(void) {
    if (!rig.broker->condition.is_listening) {
        rig_listen();
        hear(KIND_BREAK);
        world.is_marker_flying = world.is_marker_flying && chance(2) == 0;
    } else if (chance(12) == 0) {
        rig_deaf();
    }
}

/* --- the table
 * ------------------------------------------------------------------------------------------ */

static void hint(const char *payload) {
    if (rig.broker->condition.is_listening) {
        table_rig_hint(payload);
        hear(KIND_OTHER);
    }
}

/* Some hints are lost, and the poll finds the event. */
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

/* The pause between two rechecks would be longer than this whole test. */
static void end_pause(void) {
    struct loop_timer *pause = &rig.broker->recheck.pause;
    if (loop_timer_is_started(pause)) {
        loop_timer_start(rig.loop, pause, 0, pause->on_due);
    }
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
    end_pause();
}

static void forget_statement(void) {
    if (world.is_executed) {
        rows_release(&world.rows);
        world.is_executed = false;
    }
}

static void step_statement(void) {
    if (world.statement != fake->statements) {
        forget_statement(); /* the statement was lost */
    }
    if (fake->state == FAKE_DOWN) {
        fake_connect();
    } else if (fake_task() == 0) {
        (void)table_ask_reading(&rig.broker->journal.table);
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
    } else if (what < 665 && rig.broker->condition.is_listening) {
        rig_notify("nonsense");
        hear(KIND_OTHER);
    } else if (what < 850) {
        step_client(handler);
    } else if (what < 853) {
        lose_connection(handler);
    } else if (what < 860) {
        handlers_tell_position(&rig.broker->handlers);
    } else if (what < 930) {
        run_turns(rig.loop, 1);
    } else {
        read_frames(handler, chance(2) == 0 ? SIZE_MAX : chance(20000));
    }
}

/* --- a whole run
 * ------------------------------------------------------------------------------------ */

/* At the end all notifications and markers are heard, and all handlers read and give credit. Then
 * all clients must be live, with nothing missing up to the head. */
static void settle(void) {
    if (!rig.broker->condition.is_listening) {
        step_listen();
    }
    for (int round = 0; round < 400; round++) {
        if (round % 100 == 50) {
            rig_marker();
            hear(KIND_OTHER);
        }
        forget_statement();
        if (fake->state == FAKE_DOWN) {
            fake_connect();
        }
        table_rig_read();
        run_turns(rig.loop, 1);
        for (size_t h = 0; h < HANDLERS; h++) {
            read_frames(&world.handlers[h], SIZE_MAX);
            for (size_t i = 0; i < CLIENTS; i++) {
                if (world.handlers[h].clients[i].phase == PHASE_CATCHING_UP) {
                    pay(&world.handlers[h], &world.handlers[h].clients[i]);
                }
            }
        }
    }
    handlers_tell_position(&rig.broker->handlers);
    run_turns(rig.loop, 2);
    for (size_t h = 0; h < HANDLERS; h++) {
        read_frames(&world.handlers[h], SIZE_MAX);
        for (size_t i = 0; i < CLIENTS; i++) {
            const struct model_client *client = &world.handlers[h].clients[i];
            require(client->phase == PHASE_AWAY || client->phase == PHASE_LIVE);
            require(client->phase == PHASE_AWAY || client->owed_gaps == 0);
            require(client->phase == PHASE_AWAY || client->form == WIRE_FORM_USER ||
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
    rig_begin_with(history_bytes, ring_capacity);
    rig.broker->journal.table.state = TABLE_UNKNOWN;
    rig_limit_queues(65536 << chance(3));
    rig_listen();
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
}

static void test_by_chance(void **state) {
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
