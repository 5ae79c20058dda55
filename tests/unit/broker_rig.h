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
};

static unused void rig_begin(struct rig *rig) {
    const char *reason;
    *rig = (struct rig){0};
    directory_make(&rig->directory);
    config_set_defaults(&rig->config);
    assert_true(config_set(&rig->config, "socket_dir", rig->directory.path, &reason));
    log_init("pgsse-unit", LOG_LEVEL_ERROR);
    rig->loop = loop_create();
    rig->broker = broker_create(rig->loop, &rig->config);
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

/* A marker of the broker's own comes back. */
static unused void rig_marker(struct rig *rig) {
    char payload[DRAWN_MARKER_BYTES];
    draw_marker(&rig->broker->markers, 77, payload);
    broker_receive(rig->broker, MARKER_CHANNEL, slice_of(payload), 77);
}

static unused void rig_notify(struct rig *rig, const char *payload) {
    broker_receive(rig->broker, "topic_broadcast_0", slice_of(payload), 78);
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

static unused struct handler *peer_connect(struct rig *rig, struct peer *peer) {
    struct handler *handler = peer_connect_silently(rig, peer);
    peer_send(peer, wire_encode_hello(WIRE_HELLO, 1));
    struct wire_hello welcome;
    assert_true(wire_decode_hello(peer_expect(peer, WIRE_WELCOME), &welcome));
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

static unused void peer_expect_event(struct peer *peer, const char *topic, const char *data) {
    struct wire_event event;
    char wanted[512];
    assert_true(wire_decode_event(peer_expect(peer, WIRE_EVENT), &event));
    expect_text(event.topic, topic);
    snprintf(wanted, sizeof wanted, "event: message\ndata: %s\n\n", data);
    expect_text(event.body, wanted);
}
