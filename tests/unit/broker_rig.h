/* A broker without Postgres: connected peers play the handlers, the test plays Postgres. */
#pragma once

#include "broker.h"
#include "drawn_marker.h"
#include "support.h"

struct rig {
    struct loop *loop;
    struct config config;
    struct broker *broker;
    struct directory directory;
    char flying[DRAWN_MARKER_BYTES]; /* the marker that was sent last */
};

/* What the log of the default configuration holds, it holds here. */
enum { RIG_HISTORY_BYTES = 32 * 1024 * 1024, RIG_RING_CAPACITY = 1024 };

static unused void rig_begin_with(struct rig *rig, int64_t history_bytes, int64_t ring_capacity) {
    const char *reason;
    *rig = (struct rig){0};
    directory_make(&rig->directory);
    config_set_defaults(&rig->config);
    assert_true(config_set(&rig->config, "socket_dir", rig->directory.path, &reason));
    rig->config.history_bytes = history_bytes;
    rig->config.ring_capacity = ring_capacity;
    log_init("pgsse-unit", LOG_LEVEL_ERROR);
    rig->loop = loop_create();
    rig->broker = broker_create(rig->loop, &rig->config);
    rig->broker->table.state = TABLE_ABSENT;
}

static unused void rig_begin(struct rig *rig) {
    rig_begin_with(rig, RIG_HISTORY_BYTES, RIG_RING_CAPACITY);
}

static unused void rig_end(struct rig *rig) {
    broker_destroy(&rig->broker);
    assert_null(rig->broker);
    loop_destroy(&rig->loop);
    config_release(&rig->config);
    directory_remove(&rig->directory);
}

/* LISTEN has come into force. */
static unused void rig_listen(struct rig *rig) {
    rig->broker->listener.is_listening = true;
    broker_on_listening(rig->broker);
}

static unused void rig_deaf(struct rig *rig) {
    rig->broker->listener.is_listening = false;
    broker_on_deaf(rig->broker, "the test pulled the plug");
}

/* A marker of the broker's own is on its way, as canary.c sends it. */
static unused void rig_send_marker(struct rig *rig) {
    draw_marker(&rig->broker->markers, 77, rig->flying);
    rig->broker->canary.sent++;
    rig->broker->canary.sent_ms = loop_now_ms(rig->loop);
}

/* The one that was sent last comes back. */
static unused void rig_hear_marker(struct rig *rig) {
    broker_receive(rig->broker, MARKER_CHANNEL, slice_of(rig->flying), 77);
}

static unused void rig_marker(struct rig *rig) {
    rig_send_marker(rig);
    rig_hear_marker(rig);
}

/* LISTEN is lost, and comes back. */
static unused void rig_break(struct rig *rig) {
    rig->broker->listener.is_listening = false;
    broker_on_deaf(rig->broker, "the test pulled the plug");
    rig->broker->listener.is_listening = true;
    broker_on_listening(rig->broker);
}

static unused void rig_notify(struct rig *rig, const char *payload) {
    broker_receive(rig->broker, "topic_broadcast_0", slice_of(payload), 78);
}

/* An event: its data is that number. */
static unused void rig_publish(struct rig *rig, const char *topic, unsigned number) {
    char payload[320];
    snprintf(payload, sizeof payload, "{\"topic\":\"%s\",\"data\":%u}", topic, number);
    rig_notify(rig, payload);
}

/* Where the broker is: the position of what was heard last. */
static unused struct position rig_position(const struct rig *rig) {
    struct position position;
    markers_position(&rig->broker->markers, &position);
    return position;
}

/* --- peers: the other ends of handlers -------------------------------------------------------- */

struct peer {
    struct rig *rig;
    int fd;
    struct buf input;
    size_t taken;         /* of input */
    struct position told; /* the last one that nobody asked for */
    int told_count;
};

static unused struct handler *peer_connect_silently(struct rig *rig, struct peer *peer) {
    int fds[2];
    plain_pair(fds);
    *peer = (struct peer){.rig = rig, .fd = fds[1]};
    handler_create(rig->broker, fds[0], 4242);
    return TAILQ_LAST(&rig->broker->handlers, handler_list);
}

static unused void peer_close(struct peer *peer) {
    close(peer->fd);
    peer->fd = -1;
    buf_release(&peer->input);
    run_turns(peer->rig->loop, 2);
}

static unused void peer_send_bytes(struct peer *peer, struct slice bytes) {
    send_all(peer->fd, bytes);
    run_turns(peer->rig->loop, 2);
}

static unused void peer_send(struct peer *peer, struct payload *frame) {
    peer_send_bytes(peer, (struct slice){frame->bytes, frame->length});
    payload_unref(&frame);
}

/* False when there is no whole frame. frame is good until the next call. */
static unused bool peer_next_of_all(struct peer *peer, struct wire_frame *frame) {
    run_turns(peer->rig->loop, 2);
    (void)(drain_all(peer->fd, &peer->input) == true);
    struct slice left = {peer->input.bytes + peer->taken, peer->input.length - peer->taken};
    if (left.length == 0 || wire_next(&left, WIRE_ANSWER_BYTES_MAX, frame) != WIRE_NEXT_FRAME) {
        return false;
    }
    peer->taken = peer->input.length - left.length;
    return true;
}

/* The same, but for the positions that a broker may tell between any two frames. */
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

/* Whether the broker has closed the connection. */
static unused bool peer_is_closed(struct peer *peer) {
    run_turns(peer->rig->loop, 2);
    return !drain_all(peer->fd, &peer->input);
}

/* Up to where RESUME is due. */
static unused struct handler *peer_introduce(struct rig *rig, struct peer *peer) {
    struct handler *handler = peer_connect_silently(rig, peer);
    peer_send(peer, wire_encode_hello(WIRE_HELLO, 1));
    struct wire_hello welcome;
    assert_true(wire_decode_hello(peer_expect(peer, WIRE_WELCOME), &welcome));
    return handler;
}

/* Clients live on one topic or two, one on each; NULL: no topic. */
static unused struct payload *resume_of(enum position_kind kind, const struct position *position,
                                        const char *first, const char *second) {
    static const struct position nowhere = {0};
    const char *const names[] = {first, second};
    struct buf resume = {0};
    wire_resume_begin(&resume, kind, position == NULL ? &nowhere : position);
    for (size_t i = 0; i < length_of(names); i++) {
        struct wire_resume_entry entry = {slice_of(names[i]), 1};
        assert_true(names[i] == NULL || wire_resume_add(&resume, &entry));
    }
    return wire_resume_end(&resume, true);
}

/* A handler that had no connection before. */
static unused struct handler *peer_connect(struct rig *rig, struct peer *peer) {
    struct handler *handler = peer_introduce(rig, peer);
    peer_send(peer, resume_of(POSITION_NONE, NULL, NULL, NULL));
    return handler;
}

static unused struct wire_topics topics_of(const char *first, const char *second) {
    struct wire_topics topics = {.count = second == NULL ? 1 : 2};
    topics.names[0] = slice_of(first);
    topics.names[1] = slice_of(second);
    return topics;
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

static unused void peer_unsubscribe(struct peer *peer, uint64_t token, const char *first,
                                    const char *second) {
    struct wire_unsubscribe message = {.token = token, .topics = topics_of(first, second)};
    peer_send(peer, wire_encode_unsubscribe(&message));
}

/* ACCEPTED and SUBSCRIBED, where nothing is to be told in between. */
static unused void peer_expect_subscribed(struct peer *peer, uint64_t token) {
    struct wire_accepted accepted;
    struct wire_position subscribed;
    assert_true(wire_decode_accepted(peer_expect(peer, WIRE_ACCEPTED), &accepted));
    assert_true(wire_decode_position(peer_expect(peer, WIRE_SUBSCRIBED), &subscribed));
    assert_int_equal(accepted.token, token);
    assert_int_equal(subscribed.token, token);
    assert_false(accepted.follows);
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
    expect_text(event->topic, topic);
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
 * "2:" goes before what is for token 2. "@3/7" is behind the durable event 3, too. A place that the
 * broker does not know is "?", and one that is not told is "-". */

static unused void print_place(const struct rig *rig, const struct position *position,
                               struct buf *text) {
    uint64_t place;
    if (position->durable != 0) {
        buf_printf(text, "@%u/", (unsigned)position->durable);
    } else {
        buf_append_text(text, "@");
    }
    if (position->marker[0] == '\0') {
        buf_append_text(text, "-");
    } else if (markers_resolve(&rig->broker->markers, position, &place)) {
        buf_printf(text, "%u", (unsigned)place);
    } else {
        buf_append_text(text, "?");
    }
}

/* The number that an event's data is. */
static unused unsigned event_number(const struct wire_event *event) {
    const char *data = memmem(event->body.at, event->body.length, "data: ", 6);
    assert_non_null(data);
    return (unsigned)strtoul(data + 6, NULL, 10);
}

static unused void print_refresh(const struct rig *rig, const struct wire_refresh *refresh,
                                 struct buf *text) {
    static const char *const reasons[] = {"unknown_position", "restart", "gap", "overflow"};
    assert_true(refresh->dropped == SSE_DROPPED_UNKNOWN);
    assert_true(refresh->is_durable || refresh->token == 0);
    buf_printf(text, "%s(%s%s%.*s)", refresh->is_durable && refresh->token == 0 ? "RR" : "R",
               reasons[refresh->reason], refresh->topic.length > 0 ? "," : "",
               (int)refresh->topic.length, refresh->topic.at);
    print_place(rig, &refresh->position, text);
}

static unused void print_frame(const struct rig *rig, const struct wire_frame *frame,
                               struct buf *text) {
    struct wire_accepted accepted;
    struct wire_refresh refresh;
    struct wire_replay replay;
    struct wire_position position;
    struct wire_event event;
    struct wire_refused refused;
    struct wire_document document;
    struct slice user;
    uint64_t token = 0; /* all that have one begin with it */
    bool has_token =
        frame->type != WIRE_EVENT && frame->type != WIRE_GOODBYE && frame->type != WIRE_RECHECK;
    memcpy(&token, frame->body.at, has_token ? sizeof token : 0);
    buf_append_text(text, text->length > 0 ? " " : "");
    if (token > 1) {
        buf_printf(text, "%u:", (unsigned)token);
    }
    if (frame->type == WIRE_ACCEPTED && wire_decode_accepted(frame->body, &accepted)) {
        buf_append_text(text, accepted.follows ? "A+" : "A");
        print_place(rig, &accepted.position, text);
    } else if (frame->type == WIRE_REFRESH && wire_decode_refresh(frame->body, &refresh)) {
        print_refresh(rig, &refresh, text);
    } else if (frame->type == WIRE_REPLAY && wire_decode_replay(frame->body, &replay)) {
        buf_printf(text, "%s%u", replay.event.is_durable ? "d" : "e", event_number(&replay.event));
        print_place(rig, &replay.event.position, text);
    } else if (frame->type == WIRE_EVENT && wire_decode_event(frame->body, &event)) {
        buf_printf(text, "%s%u", event.is_durable ? "D" : "E", event_number(&event));
        print_place(rig, &event.position, text);
    } else if (frame->type == WIRE_REFUSED && wire_decode_refused(frame->body, &refused)) {
        buf_printf(text, "F(%u)", refused.status);
    } else if (frame->type == WIRE_DOCUMENT && wire_decode_document(frame->body, &document)) {
        buf_printf(text, "J(%u)", document.status);
    } else if (frame->type == WIRE_RECHECK && wire_decode_recheck(frame->body, &user)) {
        buf_printf(text, "X(%.*s)", (int)user.length, user.at);
    } else if (frame->type == WIRE_GOODBYE) {
        buf_append_text(text, "GOODBYE");
    } else {
        assert_true(wire_decode_position(frame->body, &position));
        buf_append_text(text, frame->type == WIRE_SUBSCRIBED ? "S" : "P");
        print_place(rig, &position.position, text);
    }
}

/* All that it has heard since; "" is nothing. Positions that nobody asked for are left out. */
static unused void peer_expect_text(struct peer *peer, const char *wanted) {
    struct buf text = {0};
    struct wire_frame frame;
    while (peer_next(peer, &frame)) {
        print_frame(peer->rig, &frame, &text);
    }
    expect_buf(&text, wanted);
}

/* The same, with those positions. */
static unused void peer_expect_all(struct peer *peer, const char *wanted) {
    struct buf text = {0};
    struct wire_frame frame;
    while (peer_next_of_all(peer, &frame)) {
        print_frame(peer->rig, &frame, &text);
    }
    expect_buf(&text, wanted);
}

/* An event with that number and so many bytes more. */
static unused void rig_publish_long(struct rig *rig, const char *topic, unsigned number,
                                    size_t bytes) {
    struct buf payload = {0};
    char *filler = repeated('x', bytes);
    buf_printf(&payload, "{\"topic\":\"%s\",\"data\":%u,\"event\":\"e\",\"comment\":\"%s\"}", topic,
               number, filler);
    broker_receive(rig->broker, "topic_broadcast_0", buf_slice(&payload), 78);
    buf_release(&payload);
    free(filler);
}

/* The handler's socket takes as little at a time as the kernel offers. */
static unused void handler_narrow(struct handler *handler) {
    int least = 1;
    assert_int_equal(setsockopt(handler->fd, SOL_SOCKET, SO_SNDBUF, &least, sizeof least), 0);
}
