/* A broker without Postgres: connected peers play the handlers, the test plays Postgres. There is
 * one broker at a time. */
#pragma once

#include "broker.h"
#include "drawn_marker.h"
#include "replay.h"
#include "support.h"

/* The source of notifications is the test. */
struct rig_source {
    struct source source;
    struct source_owner owner;
    bool is_listening;
    unsigned verified; /* how often verify was called */
};

static unused void rig_source_nothing(struct source *source) {
}

static unused void rig_source_verify(struct source *source) {
    container_of(source, struct rig_source, source)->verified++;
}

static unused void rig_source_give_up(struct source *source, const char *reason) {
    struct rig_source *self = container_of(source, struct rig_source, source);
    if (self->is_listening) {
        self->is_listening = false;
        self->owner.on_lost(self->owner.self, reason);
    }
}

static unused void rig_source_destroy(struct source *source) {
    free(container_of(source, struct rig_source, source));
}

static unused struct source *rig_source_create(struct loop *loop, const struct config *config,
                                               const struct channels *channels,
                                               const struct source_owner *owner) {
    static const struct source_kind kind = {
        .start = rig_source_nothing,
        .stop = rig_source_nothing,
        .verify = rig_source_verify,
        .settle = rig_source_nothing,
        .give_up = rig_source_give_up,
        .destroy = rig_source_destroy,
    };
    struct rig_source *self = must_zalloc(sizeof *self);
    self->source.kind = &kind;
    self->owner = *owner;
    return &self->source;
}

/* Makes the source of the next rig. That source reports to `owner` of its rig. */
static unused source_create *rig_create_source = rig_source_create;
static unused struct source_owner rig_source_owner;

static unused struct source *rig_create_and_note(struct loop *loop, const struct config *config,
                                                 const struct channels *channels,
                                                 const struct source_owner *owner) {
    rig_source_owner = *owner;
    return rig_create_source(loop, config, channels, owner);
}

struct rig {
    struct source_owner owner; /* of the rig's source */
    struct loop *loop;
    struct config config;
    struct broker *broker;
    struct directory directory;
    char flying[DRAWN_MARKER_BYTES]; /* the marker that was sent last */
};

static unused struct rig rig;

#define RIG_SERVER "16384/20260101000000000000"

static unused struct rig_source *rig_source_of(void) {
    return container_of(rig.broker->source, struct rig_source, source);
}

/* LISTEN is in force, and verified to be at that server. */
static unused void rig_listen_at(const char *server) {
    struct rig_source *source = rig_source_of();
    source->is_listening = true;
    source->owner.on_listening(source->owner.self);
    source->owner.on_verified(source->owner.self, server, DRAWN_MARKER_US);
}

static unused void rig_listen(void) {
    rig_listen_at(RIG_SERVER);
}

static unused void rig_deaf(void) {
    rig_source_of()->is_listening = false;
    rig.owner.on_lost(rig.owner.self, "the test pulled the plug");
}

/* A next attempt to listen begins. */
static unused void rig_attempt(void) {
    rig.owner.on_attempt(rig.owner.self);
}

/* A notification is heard. */
static unused void rig_hear(const char *channel, struct slice payload, int pid) {
    rig.owner.on_notification(rig.owner.self, channel, payload, pid);
}

/* A marker of the broker's own is on its way, as canary.c sends it. */
static unused void rig_send_marker(void) {
    draw_marker(&rig.broker->journal.markers, 77, rig.flying);
    rig.broker->journal.canary.sent++;
    rig.broker->journal.canary.sent_ms = loop_now_ms(rig.loop);
}

/* The last marker sent comes back. */
static unused void rig_hear_marker(void) {
    rig_hear(CHANNEL_OF_MARKERS, slice_of(rig.flying), 77);
}

static unused void rig_marker(void) {
    rig_send_marker();
    rig_hear_marker();
}

/* LISTEN is lost, and comes back. */
static unused void rig_break(void) {
    rig_deaf();
    rig_listen();
}

static unused void rig_notify(const char *payload) {
    rig_hear("topic_broadcast_0", slice_of(payload), 78);
}

/* An event: its data is that number. */
static unused void rig_publish(const char *topic, unsigned number) {
    char payload[320];
    snprintf(payload, sizeof payload, "{\"topic\":\"%s\",\"data\":%u}", topic, number);
    rig_notify(payload);
}

/* The head: the position of the last notification that was heard. */
static unused struct position rig_position(void) {
    struct position position;
    markers_position(&rig.broker->journal.markers, &position);
    return position;
}

/* The oldest connection; NULL if there is none. */
static unused struct handler *rig_handler(void) {
    struct delivery *delivery = TAILQ_FIRST(&rig.broker->handlers.list);
    return delivery == NULL ? NULL : container_of(delivery, struct handler, delivery);
}

static unused size_t rig_handler_count(void) {
    const struct delivery *delivery;
    size_t count = 0;
    TAILQ_FOREACH(delivery, &rig.broker->handlers.list, link) {
        count++;
    }
    return count;
}

/* Sets the limit of every handler's queue, also of the connected ones. */
static unused void rig_limit_queues(size_t bytes) {
    struct delivery *delivery;
    rig.config.handler_queue_bytes = (int64_t)bytes;
    TAILQ_FOREACH(delivery, &rig.broker->handlers.list, link) {
        delivery->outbox.bytes_max = bytes;
    }
}

/* --- peers: the other ends of handlers -------------------------------------------------------- */

struct peer {
    struct handler *handler; /* until it is closed */
    int fd;
    struct buf input;
    size_t taken;         /* of input */
    struct position told; /* the last position that was not an answer */
    int told_count;
};

static unused void peer_connect_silently(struct peer *peer) {
    int fds[2];
    plain_pair(fds);
    handler_create(&rig.broker->handlers, fds[0], 4242);
    struct delivery *delivery = TAILQ_LAST(&rig.broker->handlers.list, delivery_list);
    *peer =
        (struct peer){.handler = container_of(delivery, struct handler, delivery), .fd = fds[1]};
}

static unused void peer_close(struct peer *peer) {
    close(peer->fd);
    peer->fd = -1;
    buf_release(&peer->input);
    run_turns(rig.loop, 2);
}

static unused void peer_send_bytes(struct peer *peer, struct slice bytes) {
    send_all(peer->fd, bytes);
    run_turns(rig.loop, 2);
}

static unused void peer_send(struct peer *peer, struct payload *frame) {
    peer_send_bytes(peer, (struct slice){frame->bytes, frame->length});
    payload_unref(&frame);
}

/* False when there is no complete frame. frame is good until the next call. */
static unused bool peer_next_of_all(struct peer *peer, struct wire_frame *frame) {
    run_turns(rig.loop, 2);
    (void)(drain_all(peer->fd, &peer->input) == true);
    struct slice left = {peer->input.bytes + peer->taken, peer->input.length - peer->taken};
    if (left.length == 0 || wire_next(&left, WIRE_ANSWER_BYTES_MAX, frame) != WIRE_NEXT_FRAME) {
        return false;
    }
    peer->taken = peer->input.length - left.length;
    return true;
}

/* The same, but skips the positions that a broker may send between any two frames. */
static unused bool peer_next(struct peer *peer, struct wire_frame *frame) {
    struct wire_position told;
    while (peer_next_of_all(peer, frame)) {
        if (frame->type != WIRE_POSITION || !wire_decode_position(frame->body, &told) ||
            told.token != 0) {
            return true;
        }
        peer->told = told.position;
        peer->told_count++;
    }
    return false;
}

static unused struct slice peer_expect(struct peer *peer, enum wire_type type) {
    struct wire_frame frame;
    if (!peer_next(peer, &frame)) {
        fail_msg("nothing came where type %d was expected", (int)type);
    }
    assert_int_equal(frame.type, type);
    return frame.body;
}

static unused void peer_expect_nothing(struct peer *peer) {
    struct wire_frame frame;
    if (peer_next(peer, &frame)) {
        fail_msg("a frame of type %d where none was expected", (int)frame.type);
    }
}

/* True if the broker has closed the connection. */
static unused bool peer_is_closed(struct peer *peer) {
    run_turns(rig.loop, 2);
    return !drain_all(peer->fd, &peer->input);
}

/* Connects and sends HELLO; RESUME is the next frame to send. */
static unused void peer_introduce(struct peer *peer) {
    peer_connect_silently(peer);
    peer_send(peer, wire_encode_hello(WIRE_HELLO, 1));
    struct wire_hello welcome;
    assert_true(wire_decode_hello(peer_expect(peer, WIRE_WELCOME), &welcome));
}

/* A RESUME with one live client on each of one or two topics; NULL: no topic. */
static unused struct payload *resume_of(enum position_kind kind, const struct position *position,
                                        const char *first, const char *second) {
    static const struct position nowhere = {0};
    const char *const names[] = {first, second};
    struct buf resume = {0};
    wire_resume_begin(&resume, kind, position == NULL ? &nowhere : position);
    for (size_t i = 0; i < length_of(names); i++) {
        struct wire_resume_entry entry = {key_of(names[i]), 1};
        assert_true(names[i] == NULL || wire_resume_add(&resume, &entry));
    }
    return wire_resume_end(&resume, true);
}

/* Connects a handler that had no connection before. */
static unused void peer_connect(struct peer *peer) {
    peer_introduce(peer);
    peer_send(peer, resume_of(POSITION_NONE, NULL, NULL, NULL));
}

static unused struct names topics_of(const char *first, const char *second) {
    return (struct names){second == NULL ? 1 : 2, {key_of(first), key_of(second)}};
}

/* A client that asks again: see SUBSCRIBE in wire.h. */
static unused void peer_subscribe_at(struct peer *peer, uint64_t token, const char *topic,
                                     enum position_kind kind, struct position position) {
    struct wire_subscribe message = {.token = token,
                                     .position_kind = kind,
                                     .position = position,
                                     .topics = topics_of(topic, NULL)};
    peer_send(peer, wire_encode_subscribe(&message));
}

static unused void peer_subscribe(struct peer *peer, uint64_t token, const char *first,
                                  const char *second, enum position_kind kind) {
    struct wire_subscribe message = {
        .token = token, .position_kind = kind, .topics = topics_of(first, second)};
    peer_send(peer, wire_encode_subscribe(&message));
}

static unused void peer_subscribe_from(struct peer *peer, uint64_t token, const char *first,
                                       const char *second, struct position position) {
    struct wire_subscribe message = {.token = token,
                                     .position_kind = POSITION_KNOWN,
                                     .position = position,
                                     .topics = topics_of(first, second)};
    peer_send(peer, wire_encode_subscribe(&message));
}

static unused void peer_credit(struct peer *peer, uint64_t token, uint32_t bytes) {
    struct wire_credit message = {token, bytes};
    peer_send(peer, wire_encode_credit(&message));
}

static unused struct payload *ask_document(enum wire_document_kind kind, uint64_t token) {
    struct wire_ask_document message = {.token = token, .kind = kind};
    return wire_encode_ask_document(&message);
}

static unused void peer_unsubscribe(struct peer *peer, uint64_t token, const char *first,
                                    const char *second) {
    struct wire_unsubscribe message = {.token = token, .topics = topics_of(first, second)};
    peer_send(peer, wire_encode_unsubscribe(&message));
}

/* Expects ACCEPTED and SUBSCRIBED with nothing in between. */
static unused void peer_expect_subscribed(struct peer *peer, uint64_t token) {
    struct wire_accepted accepted;
    struct wire_position subscribed;
    assert_true(wire_decode_accepted(peer_expect(peer, WIRE_ACCEPTED), &accepted));
    assert_true(wire_decode_position(peer_expect(peer, WIRE_SUBSCRIBED), &subscribed));
    assert_int_equal(accepted.token, token);
    assert_int_equal(subscribed.token, token);
    assert_false(accepted.has_backlog);
    assert_true(position_equals(&accepted.position, &subscribed.position));
}

static unused void expect_position(const struct position *got, struct position wanted) {
    char got_text[POSITION_TEXT_BYTES];
    char wanted_text[POSITION_TEXT_BYTES];
    (void)position_print(got, got_text);
    (void)position_print(&wanted, wanted_text);
    assert_string_equal(got_text, wanted_text);
}

static unused void expect_data(const struct wire_event *event, const char *topic,
                               const char *data) {
    char wanted[512];
    expect_topic(event->topic, topic);
    snprintf(wanted, sizeof wanted, "event: message\ndata: %s\n\n", data);
    expect_text(event->body, wanted);
}

/* Live. */
static unused struct position peer_expect_event(struct peer *peer, const char *topic,
                                                const char *data) {
    struct wire_event event;
    assert_true(wire_decode_event(peer_expect(peer, WIRE_EVENT), &event));
    expect_data(&event, topic, data);
    return event.position;
}

/* --- what a peer hears, as text -----------------------------------------------------------------
 *
 *   A@7        ACCEPTED at place 7 of the broker's count; A+@7: something follows
 *   F(403)     REFUSED
 *   e12@5      REPLAY of event 12, whose id means place 5; d12@5: it is durable
 *   R(gap)@6   REFRESH; R(gap,a)@6: of the topic a; RR(gap)@6: for live clients of both forms
 *   S@7        SUBSCRIBED
 *   E13@8      EVENT; D13@8: it is durable
 *   P@9        POSITION
 *   X(u)       RECHECK of the user u
 *   J(200)     DOCUMENT
 *
 * "2:" goes before frames for token 2. "@3/7" is after place 7 and durable event 3. A place that
 * the broker does not know is "?"; a position without a place has "-". */

static unused void print_place(const struct position *position, struct buf *text) {
    uint64_t place;
    if (position->durable != 0) {
        buf_printf(text, "@%u/", (unsigned)position->durable);
    } else {
        buf_append_text(text, "@");
    }
    if (position->marker[0] == '\0') {
        buf_append_text(text, "-");
    } else if (markers_resolve(&rig.broker->journal.markers, position, &place)) {
        buf_printf(text, "%u", (unsigned)place);
    } else {
        buf_append_text(text, "?");
    }
}

/* The number in an event's data. */
static unused unsigned event_number(const struct wire_event *event) {
    const char *data = memmem(event->body.at, event->body.length, "data: ", 6);
    assert_non_null(data);
    return (unsigned)strtoul(data + 6, NULL, 10);
}

static unused void print_refresh(const struct wire_refresh *refresh, struct buf *text) {
    static const char *const reasons[] = {"unknown_position", "restart", "gap", "overflow"};
    assert_true(refresh->dropped == SSE_DROPPED_UNKNOWN);
    assert_true(refresh->is_durable || refresh->token == 0);
    struct slice topic =
        topic_key_is_none(refresh->topic) ? (struct slice){0} : topic_key_name(refresh->topic);
    buf_printf(text, "%s(%s%s%.*s)", refresh->is_durable && refresh->token == 0 ? "RR" : "R",
               reasons[refresh->reason], topic.length > 0 ? "," : "", (int)topic.length, topic.at);
    print_place(&refresh->position, text);
}

static unused void print_frame(const struct wire_frame *frame, struct buf *text) {
    struct wire_accepted accepted;
    struct wire_refresh refresh;
    struct wire_replay replay;
    struct wire_position position;
    struct wire_event event;
    struct wire_refused refused;
    struct wire_document document;
    struct wire_recheck recheck;
    uint64_t token = 0; /* a frame that has a token begins with it */
    bool has_token =
        frame->type != WIRE_EVENT && frame->type != WIRE_GOODBYE && frame->type != WIRE_RECHECK;
    memcpy(&token, frame->body.at, has_token ? sizeof token : 0);
    buf_append_text(text, text->length > 0 ? " " : "");
    if (token > 1) {
        buf_printf(text, "%u:", (unsigned)token);
    }
    if (frame->type == WIRE_ACCEPTED && wire_decode_accepted(frame->body, &accepted)) {
        buf_append_text(text, accepted.has_backlog ? "A+" : "A");
        print_place(&accepted.position, text);
    } else if (frame->type == WIRE_REFRESH && wire_decode_refresh(frame->body, &refresh)) {
        print_refresh(&refresh, text);
    } else if (frame->type == WIRE_REPLAY && wire_decode_replay(frame->body, &replay)) {
        buf_printf(text, "%s%u", replay.event.is_durable ? "d" : "e", event_number(&replay.event));
        print_place(&replay.event.position, text);
    } else if (frame->type == WIRE_EVENT && wire_decode_event(frame->body, &event)) {
        buf_printf(text, "%s%u", event.is_durable ? "D" : "E", event_number(&event));
        print_place(&event.position, text);
    } else if (frame->type == WIRE_REFUSED && wire_decode_refused(frame->body, &refused)) {
        buf_printf(text, "F(%u)", refused.status);
    } else if (frame->type == WIRE_DOCUMENT && wire_decode_document(frame->body, &document)) {
        buf_printf(text, "J(%u)", document.status);
    } else if (frame->type == WIRE_RECHECK && wire_decode_recheck(frame->body, &recheck)) {
        buf_printf(text, "X(%.*s%s%.*s)", (int)recheck.tenant.length, recheck.tenant.at,
                   recheck.tenant.length > 0 ? "/" : "", (int)recheck.user.length, recheck.user.at);
    } else if (frame->type == WIRE_GOODBYE) {
        buf_append_text(text, "GOODBYE");
    } else {
        assert_true(wire_decode_position(frame->body, &position));
        buf_append_text(text, frame->type == WIRE_SUBSCRIBED ? "S" : "P");
        print_place(&position.position, text);
    }
}

/* Expects exactly these frames since the last call; "": none. Skips positions that are not
 * answers. */
static unused void peer_expect_text(struct peer *peer, const char *wanted) {
    struct buf text = {0};
    struct wire_frame frame;
    while (peer_next(peer, &frame)) {
        print_frame(&frame, &text);
    }
    expect_buf(&text, wanted);
}

/* The same, without skipping positions. */
static unused void peer_expect_all(struct peer *peer, const char *wanted) {
    struct buf text = {0};
    struct wire_frame frame;
    while (peer_next_of_all(peer, &frame)) {
        print_frame(&frame, &text);
    }
    expect_buf(&text, wanted);
}

/* An event with that number and this many more bytes. */
static unused void rig_publish_long(const char *topic, unsigned number, size_t bytes) {
    struct buf payload = {0};
    char *filler = repeated('x', bytes);
    buf_printf(&payload, "{\"topic\":\"%s\",\"data\":%u,\"event\":\"e\",\"comment\":\"%s\"}", topic,
               number, filler);
    rig_hear("topic_broadcast_0", buf_slice(&payload), 78);
    buf_release(&payload);
    free(filler);
}

/* Gives the handler's socket the smallest buffer that the kernel allows. */
static unused void handler_narrow(struct handler *handler) {
    int least = 1;
    assert_int_equal(setsockopt(handler->socket.fd, SOL_SOCKET, SO_SNDBUF, &least, sizeof least),
                     0);
}

/* --- life ---------------------------------------------------------------------------------------
 */

/* The first peer, which most tests have alone. It is closed with the rig. */
static unused struct peer peer = {.fd = -1};

static unused void rig_end(void) {
    if (peer.fd >= 0) {
        peer_close(&peer);
    }
    broker_destroy(&rig.broker);
    assert_null(rig.broker);
    loop_destroy(&rig.loop);
    config_release(&rig.config);
    directory_remove(&rig.directory);
}

/* The limits of the log, as in the default configuration. */
enum { RIG_HISTORY_BYTES = 32 * 1024 * 1024, RIG_RING_CAPACITY = 1024 };

static unused void rig_begin_with(int64_t history_bytes, int64_t ring_capacity) {
    const char *reason;
    fixture_begin(rig_end);
    rig = (struct rig){0};
    peer = (struct peer){.fd = -1};
    directory_make(&rig.directory);
    config_set_defaults(&rig.config);
    assert_true(config_set(&rig.config, "socket_dir", rig.directory.path, &reason));
    rig.config.history_bytes = history_bytes;
    rig.config.ring_capacity = ring_capacity;
    log_init("pgsse-unit", LOG_LEVEL_ERROR);
    rig.loop = loop_create();
    rig.broker = broker_create(rig.loop, &rig.config, rig_create_and_note);
    rig.owner = rig_source_owner;
    rig.broker->journal.table.state = TABLE_ABSENT;
}

static unused void rig_begin(void) {
    rig_begin_with(RIG_HISTORY_BYTES, RIG_RING_CAPACITY);
}

/* LISTEN is in force, and peer is connected. */
static unused void rig_begin_served(void) {
    rig_begin();
    rig_listen();
    peer_connect(&peer);
}
