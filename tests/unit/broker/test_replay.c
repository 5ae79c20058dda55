/* Subscriptions on their way from a position to the head. What a peer hears is written as text, see
 * broker_rig.h. */
#include "broker_rig.h"

/* A broker that has heard, place by place:
 *
 *   1 marker   2 event 1 on a   3 event 2 on b   4 event 3 on a   5 marker   6 event 4 on c
 *   7 event 5 on a                                                                              */
enum { HEAD = 7 };

struct scene {
    struct rig rig;
    struct peer peer;
    struct handler *handler;
    struct position places[HEAD + 1]; /* how the broker wrote them; of 0 from its private name */
};

static void note(struct scene *scene) {
    scene->places[scene->rig.broker->markers.count] = rig_position(&scene->rig);
}

static void scene_begin(struct scene *scene) {
    static const char *const topics[] = {NULL, NULL, "a", "b", "a", NULL, "c", "a"};
    unsigned number = 0;
    rig_begin(&scene->rig);
    rig_listen(&scene->rig);
    note(scene);
    for (size_t place = 1; place <= HEAD; place++) {
        if (topics[place] == NULL) {
            rig_marker(&scene->rig);
        } else {
            rig_publish(&scene->rig, topics[place], ++number);
        }
        note(scene);
    }
    scene->handler = peer_connect(&scene->rig, &scene->peer);
    peer_expect_text(&scene->peer, "");
}

static void scene_end(struct scene *scene) {
    peer_close(&scene->peer);
    rig_end(&scene->rig);
}

/* --- every kind of position
 * ----------------------------------------------------------------------- */

static void test_kinds_without_position(void **state) {
    (void)state;
    static const struct {
        enum position_kind kind;
        const char *first;
        const char *second;
        const char *heard;
    } cases[] = {
        {POSITION_NONE, "a", "b", "A@7 S@7"},
        {POSITION_NONE, "unread", NULL, "A@7 S@7"},
        {POSITION_MALFORMED, "a", NULL, "A+@7 R(unknown_position)@7 S@7"},
        {POSITION_MALFORMED, "unread", NULL, "A+@7 R(unknown_position)@7 S@7"},
        {POSITION_ALL, "a", NULL, "A+@7 e1@2 e3@4 e5@7 S@7"},
        {POSITION_ALL, "b", NULL, "A+@7 e2@3 S@7"},
        {POSITION_ALL, "b", "a", "A+@7 e1@2 e2@3 e3@4 e5@7 S@7"},
        {POSITION_ALL, "unread", NULL, "A@7 S@7"},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        struct scene scene;
        scene_begin(&scene);
        peer_subscribe(&scene.peer, 1, cases[i].first, cases[i].second, cases[i].kind);
        peer_expect_text(&scene.peer, cases[i].heard);
        rig_publish(&scene.rig, cases[i].first, 9);
        peer_expect_text(&scene.peer, "E9@8");
        scene_end(&scene);
    }
}

/* From every place that was handed out. */
static void test_known_positions(void **state) {
    (void)state;
    static const char *const heard[HEAD + 1] = {
        "A+@7 e1@2 e3@4 e5@7 S@7", /* from the private name */
        "A+@7 e1@2 e3@4 e5@7 S@7",
        "A+@7 e3@4 e5@7 S@7",
        "A+@7 e3@4 e5@7 S@7",
        "A+@7 e5@7 S@7",
        "A+@7 e5@7 S@7",
        "A+@7 e5@7 S@7",
        "A@7 S@7",
    };
    for (size_t place = 0; place <= HEAD; place++) {
        struct scene scene;
        scene_begin(&scene);
        peer_subscribe_from(&scene.peer, 1, "a", NULL, scene.places[place]);
        peer_expect_text(&scene.peer, heard[place]);
        scene_end(&scene);
    }
}

/* Its token, which is not printed any more. */
static uint64_t take_token(struct wire_frame *frame) {
    static const uint64_t unprinted = 1;
    uint64_t token;
    char *body = (char *)frame->body.at;
    memcpy(&token, body, sizeof token);
    memcpy(body, &unprinted, sizeof token);
    return token;
}

/* The same places, counted from the first marker beyond the second, and from a foreign one. */
static void test_known_positions_from_another_marker(void **state) {
    (void)state;
    for (uint64_t place = 1; place <= HEAD; place++) {
        struct scene scene;
        scene_begin(&scene);
        struct position position = scene.places[1];
        position.since = place - 1;
        peer_subscribe_from(&scene.peer, 1, "a", "c", position);
        peer_subscribe_from(&scene.peer, 2, "a", "c", scene.places[place]);
        struct wire_frame frame;
        struct buf texts[2] = {0};
        while (peer_next(&scene.peer, &frame)) {
            uint64_t token = take_token(&frame);
            print_frame(&scene.rig, &frame, &texts[token - 1]);
        }
        expect_slice(buf_slice(&texts[0]), buf_slice(&texts[1]), "counted from the first marker");
        assert_true(texts[0].length > 0);
        buf_release(&texts[0]);
        buf_release(&texts[1]);
        scene_end(&scene);
    }
}

static void test_foreign_marker(void **state) {
    (void)state;
    struct scene scene;
    char payload[DRAWN_MARKER_BYTES];
    struct position position = {0, "abcdefghijklm", 1};
    scene_begin(&scene);
    snprintf(payload, sizeof payload, "{\"marker\":\"abcdefghijklm\",\"set\":\"%s\",\"pid\":5}",
             scene.rig.broker->markers.set);
    broker_receive(scene.rig.broker, MARKER_CHANNEL, slice_of(payload), 5); /* 8 */
    rig_publish(&scene.rig, "a", 6);
    rig_publish(&scene.rig, "a", 7);
    peer_subscribe_from(&scene.peer, 1, "a", NULL, position);
    peer_expect_text(&scene.peer, "A+@10 e7@10 S@10");
    scene_end(&scene);
}

/* There is no table here: whoever comes with a place in one may have missed something, and goes on
 * from what can be told. */
static void test_durable_places(void **state) {
    (void)state;
    static const struct {
        size_t place; /* HEAD + 1: none */
        const char *heard;
    } cases[] = {{HEAD + 1, "A+@7 R(unknown_position)@7 S@7"},
                 {HEAD, "A+@7 R(unknown_position)@7 S@7"},
                 {3, "A+@7 R(unknown_position)@3 e3@4 e5@7 S@7"}};
    for (size_t i = 0; i < length_of(cases); i++) {
        struct scene scene;
        scene_begin(&scene);
        struct position position = {0};
        if (cases[i].place <= HEAD) {
            position = scene.places[cases[i].place];
        }
        position.durable = 17;
        peer_subscribe_from(&scene.peer, 1, "a", NULL, position);
        peer_expect_text(&scene.peer, cases[i].heard);
        scene_end(&scene);
    }
}

/* The positions are those of the events, to the letter, and the last one is where the head is. */
static void test_ids_are_the_events_own(void **state) {
    (void)state;
    struct scene scene;
    struct wire_replay replay;
    struct wire_position subscribed;
    scene_begin(&scene);
    peer_subscribe_from(&scene.peer, 1, "a", NULL, scene.places[1]);
    (void)peer_expect(&scene.peer, WIRE_ACCEPTED);
    static const size_t places[] = {2, 4, 7};
    for (size_t i = 0; i < length_of(places); i++) {
        assert_true(wire_decode_replay(peer_expect(&scene.peer, WIRE_REPLAY), &replay));
        expect_position(&replay.event.position, scene.places[places[i]]);
    }
    assert_true(wire_decode_position(peer_expect(&scene.peer, WIRE_SUBSCRIBED), &subscribed));
    expect_position(&subscribed.position, scene.places[HEAD]);
    scene_end(&scene);
}

/* Frame by frame what was published: topic, publisher's id and all of the body. */
static void test_replayed_is_what_was_live(void **state) {
    (void)state;
    struct rig rig;
    struct peer live;
    struct peer late;
    struct wire_event event;
    struct wire_replay replay;
    rig_begin(&rig);
    rig_listen(&rig);
    (void)peer_connect(&rig, &live);
    (void)peer_connect(&rig, &late);
    peer_subscribe(&live, 1, "alpha", NULL, POSITION_NONE);
    peer_expect_subscribed(&live, 1);
    rig_notify(&rig, "{\"topic\":\"alpha\",\"data\":[1,2],\"event\":\"e\",\"id\":\"x\","
                     "\"comment\":\"c\",\"retry\":7}");
    peer_subscribe(&late, 1, "alpha", NULL, POSITION_ALL);
    (void)peer_expect(&late, WIRE_ACCEPTED);
    assert_true(wire_decode_event(peer_expect(&live, WIRE_EVENT), &event));
    assert_true(wire_decode_replay(peer_expect(&late, WIRE_REPLAY), &replay));
    expect_slice(replay.event.topic, event.topic, "topic");
    expect_slice(replay.event.publisher_id, event.publisher_id, "publisher's id");
    expect_slice(replay.event.body, event.body, "body");
    assert_int_equal(replay.event.id_at, event.id_at);
    expect_position(&replay.event.position, event.position);
    assert_int_equal(rig.broker->totals.broadcast, 2); /* live, and replayed */
    peer_close(&live);
    peer_close(&late);
    rig_end(&rig);
}

/* --- the barrier
 * ----------------------------------------------------------------------------------- */

static const struct position of_a_stranger = {0, "strangersname", 3};

static void test_unknown_marker_waits_for_the_barrier(void **state) {
    (void)state;
    struct scene scene;
    scene_begin(&scene);
    peer_subscribe_from(&scene.peer, 1, "a", NULL, of_a_stranger);
    peer_expect_text(&scene.peer, "");
    rig_notify(&scene.rig, "nonsense"); /* whatever is heard meanwhile: 8 */
    peer_expect_text(&scene.peer, "");
    assert_true(scene.rig.broker->canary.asked > scene.rig.broker->canary.sent);
    rig_send_marker(&scene.rig);
    peer_expect_text(&scene.peer, "");
    rig_hear_marker(&scene.rig); /* 9 */
    peer_expect_text(&scene.peer, "A+@9 R(unknown_position)@9 S@9");
    rig_publish(&scene.rig, "a", 6);
    peer_expect_text(&scene.peer, "E6@10");
    scene_end(&scene);
}

/* The marker that decides was sent after the subscription had come. */
static void test_marker_in_flight_does_not_decide(void **state) {
    (void)state;
    struct scene scene;
    scene_begin(&scene);
    rig_send_marker(&scene.rig);
    peer_subscribe_from(&scene.peer, 1, "a", NULL, of_a_stranger);
    rig_hear_marker(&scene.rig); /* 8 */
    peer_expect_text(&scene.peer, "");
    rig_send_marker(&scene.rig);
    peer_subscribe_from(&scene.peer, 2, "b", NULL, of_a_stranger);
    rig_hear_marker(&scene.rig); /* 9 */
    peer_expect_text(&scene.peer, "A+@9 R(unknown_position)@9 S@9");
    rig_marker(&scene.rig);
    peer_expect_text(&scene.peer, "2:A+@10 2:R(unknown_position)@10 2:S@10");
    scene_end(&scene);
}

/* However many come, it is one marker that they wait for. */
static void test_barrier_is_shared(void **state) {
    (void)state;
    struct scene scene;
    scene_begin(&scene);
    for (uint64_t token = 1; token <= 3; token++) {
        peer_subscribe_from(&scene.peer, token, "a", NULL, of_a_stranger);
    }
    rig_marker(&scene.rig);
    peer_expect_text(&scene.peer, "A+@8 R(unknown_position)@8 S@8 "
                                  "2:A+@8 2:R(unknown_position)@8 2:S@8 "
                                  "3:A+@8 3:R(unknown_position)@8 3:S@8");
    scene_end(&scene);
}

/* Another broker was milliseconds ahead: what it counted comes here before the barrier. */
static void test_place_beyond_the_count(void **state) {
    (void)state;
    static const struct {
        uint64_t ahead;
        const char *heard;
    } cases[] = {
        {1, "A+@10 e7@9 S@10"}, /* behind event 6 at 8 */
        {2, "A@10 S@10"},       /* behind event 7 at 9 */
        {3, "A@10 S@10"},       /* behind the barrier itself */
        {4, "A+@10 R(unknown_position)@10 S@10"},
        {UINT64_MAX - 1000, "A+@10 R(unknown_position)@10 S@10"},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        struct scene scene;
        scene_begin(&scene);
        struct position position = scene.places[HEAD];
        position.since += cases[i].ahead;
        peer_subscribe_from(&scene.peer, 1, "a", NULL, position);
        peer_expect_text(&scene.peer, "");
        rig_publish(&scene.rig, "a", 6);
        rig_publish(&scene.rig, "a", 7);
        peer_expect_text(&scene.peer, "E6@8 E7@9"); /* for clients that are live; it is none */
        rig_marker(&scene.rig);
        peer_expect_text(&scene.peer, cases[i].heard);
        scene_end(&scene);
    }
}

/* Its marker comes here before the barrier does. */
static void test_unknown_marker_becomes_known(void **state) {
    (void)state;
    struct scene scene;
    char payload[DRAWN_MARKER_BYTES];
    scene_begin(&scene);
    peer_subscribe_from(&scene.peer, 1, "b", NULL, (struct position){0, "strangersname", 1});
    snprintf(payload, sizeof payload, "{\"marker\":\"strangersname\",\"set\":\"%s\",\"pid\":5}",
             scene.rig.broker->markers.set);
    broker_receive(scene.rig.broker, MARKER_CHANNEL, slice_of(payload), 5); /* 8 */
    rig_publish(&scene.rig, "c", 6);
    rig_publish(&scene.rig, "c", 7);
    peer_expect_text(&scene.peer, "");
    rig_marker(&scene.rig);
    peer_expect_text(&scene.peer, "A@11 S@11");
    scene_end(&scene);
}

/* A marker that is older than this broker remembers, or that was heard twice. */
static void test_marker_forgotten(void **state) {
    (void)state;
    struct scene scene;
    scene_begin(&scene);
    char payload[DRAWN_MARKER_BYTES];
    snprintf(payload, sizeof payload, "{\"marker\":\"%s\",\"set\":\"%s\",\"pid\":5}",
             scene.places[4].marker, scene.rig.broker->markers.set);
    broker_receive(scene.rig.broker, MARKER_CHANNEL, slice_of(payload), 5); /* 8 */
    peer_subscribe_from(&scene.peer, 1, "a", NULL, scene.places[4]);
    peer_expect_text(&scene.peer, "");
    rig_marker(&scene.rig);
    peer_expect_text(&scene.peer, "A+@9 R(unknown_position)@9 S@9");
    scene_end(&scene);
}

/* LISTEN is lost while it waits: what flew then does not come back as ours. */
static void test_break_while_it_waits_for_the_barrier(void **state) {
    (void)state;
    struct scene scene;
    scene_begin(&scene);
    peer_subscribe_from(&scene.peer, 1, "a", NULL, of_a_stranger);
    rig_send_marker(&scene.rig);
    rig_deaf(&scene.rig);
    peer_expect_text(&scene.peer, "");
    rig_listen(&scene.rig);      /* 8: the break */
    rig_hear_marker(&scene.rig); /* 9 */
    peer_expect_text(&scene.peer, "R(gap)@8 X()");
    rig_marker(&scene.rig);
    peer_expect_text(&scene.peer, "A+@10 R(unknown_position)@10 S@10");
    scene_end(&scene);
}

/* --- what is not there any more
 * --------------------------------------------------------------------- */

/* Two entries of a topic are kept: 1 to 6 are events on a, b, a, b, a, b. */
static void floors_begin(struct rig *rig, struct peer *peer, struct position places[8]) {
    rig_begin_with(rig, RIG_HISTORY_BYTES, 2);
    rig_listen(rig);
    places[0] = rig_position(rig);
    for (unsigned i = 1; i <= 6; i++) {
        rig_publish(rig, i % 2 == 1 ? "a" : "b", i);
        places[i] = rig_position(rig);
    }
    (void)peer_connect(rig, peer);
    peer_expect_text(peer, "");
}

static void test_floors(void **state) {
    (void)state;
    static const struct {
        size_t from;
        const char *first;
        const char *second;
        const char *heard;
    } cases[] = {
        {0, "a", NULL, "A+@6 R(gap)@0 e3@3 e5@5 S@6"},
        {1, "a", NULL, "A+@6 e3@3 e5@5 S@6"}, /* has the one that was dropped */
        {2, "a", NULL, "A+@6 e3@3 e5@5 S@6"},
        {0, "b", NULL, "A+@6 R(gap)@0 e4@4 e6@6 S@6"},
        {1, "b", NULL, "A+@6 R(gap)@1 e4@4 e6@6 S@6"},
        {2, "b", NULL, "A+@6 e4@4 e6@6 S@6"},
        {0, "a", "b", "A+@6 R(gap)@0 e3@3 e4@4 e5@5 e6@6 S@6"},
        {1, "a", "b", "A+@6 R(gap)@1 e3@3 e4@4 e5@5 e6@6 S@6"},
        {0, "other", NULL, "A@6 S@6"},
        {0, "other", "b", "A+@6 R(gap)@0 e4@4 e6@6 S@6"},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        struct rig rig;
        struct peer peer;
        struct position places[8];
        floors_begin(&rig, &peer, places);
        peer_subscribe_from(&peer, 1, cases[i].first, cases[i].second, places[cases[i].from]);
        peer_expect_text(&peer, cases[i].heard);
        peer_close(&peer);
        rig_end(&rig);
    }
}

/* Told once, though what comes next stands before the floor, too. */
static void test_floor_above_the_next_event(void **state) {
    (void)state;
    struct rig rig;
    struct peer peer;
    rig_begin_with(&rig, RIG_HISTORY_BYTES, 2);
    rig_listen(&rig);
    struct position start = rig_position(&rig);
    for (const char *topic = "bbaaa"; *topic != '\0'; topic++) {
        rig_publish(&rig, (char[]){*topic, '\0'}, (unsigned)rig.broker->markers.count + 1);
    }
    (void)peer_connect(&rig, &peer);
    peer_subscribe_from(&peer, 1, "a", "b", start);
    peer_expect_text(&peer, "A+@5 R(gap)@0 e1@1 e2@2 e4@4 e5@5 S@5");
    peer_close(&peer);
    rig_end(&rig);
}

/* "0" asks for all that is kept: it is told only if something was dropped. */
static void test_floor_before_the_start(void **state) {
    (void)state;
    struct rig rig;
    struct peer peer;
    struct position places[8];
    struct wire_refresh refresh;
    floors_begin(&rig, &peer, places);
    peer_subscribe(&peer, 1, "a", NULL, POSITION_ALL);
    (void)peer_expect(&peer, WIRE_ACCEPTED);
    assert_true(wire_decode_refresh(peer_expect(&peer, WIRE_REFRESH), &refresh));
    assert_int_equal(refresh.reason, SSE_REFRESH_GAP);
    expect_position(&refresh.position, (struct position){0}); /* goes on from the start */
    peer_expect_text(&peer, "e3@3 e5@5 S@6");
    peer_subscribe(&peer, 2, "other", NULL, POSITION_ALL);
    peer_expect_text(&peer, "2:A@6 2:S@6");
    peer_close(&peer);
    rig_end(&rig);
}

/* Two causes with nothing between them make one, named by the first in order. */
static void test_causes_are_merged(void **state) {
    (void)state;
    struct rig rig;
    struct peer peer;
    struct position places[8];
    floors_begin(&rig, &peer, places);
    rig_break(&rig); /* 7 */
    rig_break(&rig); /* 8 */
    rig_publish(&rig, "c", 9);
    peer_expect_text(&peer, "R(gap)@7 X() R(gap)@8 X()"); /* for clients that are live */
    struct position durable = places[0];
    durable.durable = 5;
    peer_subscribe_from(&peer, 1, "a", NULL, durable);
    peer_expect_text(&peer, "A+@9 R(unknown_position)@0 e3@3 e5@5 R(gap)@9 S@9");
    peer_subscribe_from(&peer, 2, "c", NULL, places[6]);
    peer_expect_text(&peer, "2:A+@9 2:R(gap)@8 2:e9@9 2:S@9");
    peer_subscribe_from(&peer, 3, "other", NULL, durable);
    peer_expect_text(&peer, "3:A+@9 3:R(unknown_position)@9 3:S@9");
    peer_close(&peer);
    rig_end(&rig);
}

/* --- breaks
 * ------------------------------------------------------------------------------------------ */

/* Each is told once, in its place; from before, from it, and from behind it. */
static void test_breaks_inside(void **state) {
    (void)state;
    static const char *const heard[] = {
        "A+@7 e1@1 R(gap)@2 e3@3 R(gap)@5 e6@6 S@7",
        "A+@7 R(gap)@2 e3@3 R(gap)@5 e6@6 S@7",
        "A+@7 e3@3 R(gap)@5 e6@6 S@7",
        "A+@7 R(gap)@5 e6@6 S@7",
        "A+@7 R(gap)@5 e6@6 S@7",
        "A+@7 e6@6 S@7",
        "A@7 S@7",
        "A@7 S@7",
    };
    struct rig rig;
    struct peer peer;
    struct position places[8];
    rig_begin(&rig);
    rig_listen(&rig);
    places[0] = rig_position(&rig);
    for (unsigned place = 1; place <= 7; place++) {
        if (place == 2 || place == 5) {
            rig_break(&rig);
        } else {
            rig_publish(&rig, place == 4 || place == 7 ? "b" : "a", place);
        }
        places[place] = rig_position(&rig);
    }
    (void)peer_connect(&rig, &peer);
    peer_expect_text(&peer, "");
    for (size_t place = 0; place <= 7; place++) {
        struct buf text = {0};
        struct wire_frame frame;
        peer_subscribe_from(&peer, 2 + place, "a", NULL, places[place]);
        while (peer_next(&peer, &frame)) {
            assert_int_equal(take_token(&frame), 2 + place);
            print_frame(&rig, &frame, &text);
        }
        expect_buf(&text, heard[place]);
    }
    peer_close(&peer);
    rig_end(&rig);
}

/* Those that came while nobody listened: from before the outage they are told, exactly once. */
static void test_subscribed_while_deaf(void **state) {
    (void)state;
    struct scene scene;
    scene_begin(&scene);
    rig_deaf(&scene.rig);
    peer_subscribe_from(&scene.peer, 1, "a", NULL, scene.places[4]);
    peer_subscribe_from(&scene.peer, 2, "a", NULL, scene.places[HEAD]);
    peer_expect_text(&scene.peer, "");
    rig_listen(&scene.rig); /* 8 */
    /* first what is for those that are live */
    peer_expect_text(&scene.peer, "R(gap)@8 X() A+@8 e5@7 R(gap)@8 S@8 2:A+@8 2:R(gap)@8 2:S@8");
    scene_end(&scene);
}

/* --- credit
 * ------------------------------------------------------------------------------------------ */

enum { LONG_BYTES = 7000, LONG_EVENTS = 40 };

/* LONG_EVENTS events on the topic a wait; their numbers are their places. */
static struct handler *long_begin(struct rig *rig, struct peer *peer, struct position *start) {
    rig_begin_with(rig, RIG_HISTORY_BYTES, LONG_EVENTS);
    rig_listen(rig);
    *start = rig_position(rig);
    for (unsigned i = 1; i <= LONG_EVENTS; i++) {
        rig_publish_long(rig, "a", i, LONG_BYTES);
    }
    struct handler *handler = peer_connect(rig, peer);
    peer_expect_text(peer, "");
    return handler;
}

/* Takes the REPLAYs that have come, which must go on from *last; the sum of their bodies. */
static size_t take_replays(struct peer *peer, unsigned *last) {
    struct wire_frame frame;
    struct wire_replay replay;
    size_t bytes = 0;
    while (peer_next(peer, &frame)) {
        assert_int_equal(frame.type, WIRE_REPLAY);
        assert_true(wire_decode_replay(frame.body, &replay));
        assert_int_equal(event_number(&replay.event), ++*last);
        bytes += frame.body.length;
    }
    return bytes;
}

static void test_credit_is_used_up_and_renewed(void **state) {
    (void)state;
    struct rig rig;
    struct peer peer;
    struct position start;
    unsigned last = 0;
    struct handler *handler = long_begin(&rig, &peer, &start);
    peer_subscribe_from(&peer, 1, "a", NULL, start);
    (void)peer_expect(&peer, WIRE_ACCEPTED);
    size_t sent = take_replays(&peer, &last);
    size_t debt = sent - WIRE_CREDIT_BYTES;
    assert_true(debt > 1);
    peer_credit(&peer, 1, (uint32_t)debt - 1);
    assert_int_equal(take_replays(&peer, &last), 0);
    peer_credit(&peer, 1, 1); /* nothing is owed any more, and nothing left */
    assert_int_equal(take_replays(&peer, &last), 0);
    peer_credit(&peer, 1, 1); /* one of any size goes */
    size_t one = take_replays(&peer, &last);
    assert_true(last >= 10 && one > LONG_BYTES && one < LONG_BYTES + 200);
    assert_true(debt < one); /* all before it was within the credit */
    peer_credit(&peer, 1, (uint32_t)(one - 1 + 2 * one));
    assert_int_equal(take_replays(&peer, &last), 2 * one); /* what is owed is paid first */
    assert_int_equal(replay_find(handler, 1)->state, REPLAY_STARVED);
    peer_credit(&peer, 77, 1000000); /* of nobody, and nobody's offence */
    assert_int_equal(take_replays(&peer, &last), 0);
    peer_credit(&peer, 1, 1000000);
    while (last < LONG_EVENTS) {
        struct wire_replay replay;
        assert_true(wire_decode_replay(peer_expect(&peer, WIRE_REPLAY), &replay));
        assert_int_equal(event_number(&replay.event), ++last);
    }
    peer_expect_text(&peer, "S@40");
    peer_close(&peer);
    rig_end(&rig);
}

/* Credit that comes while it waits counts; the largest of all sums does no harm. */
static void test_credit_before_it_begins(void **state) {
    (void)state;
    struct rig rig;
    struct peer peer;
    struct position start;
    struct wire_frame frame;
    unsigned count = 0;
    (void)long_begin(&rig, &peer, &start);
    rig_deaf(&rig);
    peer_subscribe_from(&peer, 1, "a", NULL, start);
    peer_credit(&peer, 1, UINT32_MAX);
    peer_credit(&peer, 1, UINT32_MAX);
    rig_listen(&rig);
    while (peer_next(&peer, &frame)) {
        count += frame.type == WIRE_REPLAY ? 1 : 0;
    }
    assert_int_equal(count, LONG_EVENTS);
    assert_int_equal(frame.type, WIRE_SUBSCRIBED);
    peer_close(&peer);
    rig_end(&rig);
}

/* The last one used up the credit: the head is reached all the same, in that very turn. */
static void test_head_is_reached_without_credit(void **state) {
    (void)state;
    struct rig rig;
    struct peer peer;
    rig_begin(&rig);
    rig_listen(&rig);
    struct position start = rig_position(&rig);
    for (unsigned i = 1; i <= 9; i++) { /* eight are less than the credit, nine are more */
        rig_publish_long(&rig, "a", i, 7500);
    }
    (void)peer_connect(&rig, &peer);
    peer_subscribe_from(&peer, 1, "a", NULL, start);
    peer_expect_text(&peer, "A+@9 e1@1 e2@2 e3@3 e4@4 e5@5 e6@6 e7@7 e8@8 e9@9 S@9");
    rig_publish(&rig, "a", 10);
    peer_expect_text(&peer, "E10@10");
    peer_close(&peer);
    rig_end(&rig);
}

/* --- what happens in the middle
 * -------------------------------------------------------------------- */

/* A replay that is starved behind the event whose number is returned. */
static unsigned starve(struct rig *rig, struct peer *peer, struct handler **handler) {
    struct position start;
    unsigned last = 0;
    *handler = long_begin(rig, peer, &start);
    peer_subscribe_from(peer, 1, "a", NULL, start);
    (void)peer_expect(peer, WIRE_ACCEPTED);
    (void)take_replays(peer, &last);
    assert_true(last > 5 && last < LONG_EVENTS / 2);
    assert_int_equal(replay_find(*handler, 1)->state, REPLAY_STARVED);
    return last;
}

/* Events first to last, as REPLAYs, and then that text. */
static void expect_rest(struct peer *peer, unsigned first, unsigned last, const char *wanted) {
    struct wire_replay replay;
    for (unsigned number = first; number <= last; number++) {
        assert_true(wire_decode_replay(peer_expect(peer, WIRE_REPLAY), &replay));
        assert_int_equal(event_number(&replay.event), number);
    }
    peer_expect_text(peer, wanted);
}

/* What is sent to the handler for clients that are live; this one is none. */
static void skip_live(struct peer *peer) {
    struct wire_frame frame;
    while (peer_next(peer, &frame)) {
        assert_int_equal(frame.type, WIRE_EVENT);
    }
}

static void expect_gap_at(struct peer *peer, unsigned place) {
    struct wire_refresh refresh;
    struct buf text = {0};
    char wanted[32];
    assert_true(wire_decode_refresh(peer_expect(peer, WIRE_REFRESH), &refresh));
    assert_int_equal(refresh.token, 1);
    print_refresh(peer->rig, &refresh, &text);
    snprintf(wanted, sizeof wanted, "R(gap)@%u", place);
    expect_buf(&text, wanted);
}

/* What it would have sent next has gone: it is told so, once, where it stands, and goes on with
 * what is left. */
static void test_eviction_overtakes_it(void **state) {
    (void)state;
    struct rig rig;
    struct peer peer;
    struct handler *handler;
    unsigned last = starve(&rig, &peer, &handler);
    for (unsigned i = 1; i <= LONG_EVENTS / 2; i++) {
        rig_publish(&rig, "a", LONG_EVENTS + i);
    }
    skip_live(&peer);
    peer_credit(&peer, 1, 10000000);
    expect_gap_at(&peer, last);
    expect_rest(&peer, LONG_EVENTS / 2 + 1, LONG_EVENTS * 3 / 2, "S@60");
    peer_close(&peer);
    rig_end(&rig);
}

/* What has gone was sent already. */
static void test_eviction_behind_it(void **state) {
    (void)state;
    struct rig rig;
    struct peer peer;
    struct handler *handler;
    unsigned last = starve(&rig, &peer, &handler);
    for (unsigned i = 1; i <= last; i++) {
        rig_publish(&rig, "a", LONG_EVENTS + i);
    }
    skip_live(&peer);
    peer_credit(&peer, 1, 10000000);
    char wanted[16];
    snprintf(wanted, sizeof wanted, "S@%u", LONG_EVENTS + last);
    expect_rest(&peer, last + 1, LONG_EVENTS + last, wanted);
    peer_close(&peer);
    rig_end(&rig);
}

static void test_eviction_of_all(void **state) {
    (void)state;
    struct rig rig;
    struct peer peer;
    struct handler *handler;
    (void)starve(&rig, &peer, &handler);
    rig.broker->history.bytes_max = 0;
    rig_publish(&rig, "elsewhere", 1);
    assert_int_equal(rig.broker->history.count, 0);
    peer_credit(&peer, 1, 10000000);
    peer_expect_text(&peer, "R(gap)@41 S@41");
    peer_close(&peer);
    rig_end(&rig);
}

/* Overtaken twice: told twice, as something was sent in between. */
static void test_eviction_overtakes_it_twice(void **state) {
    (void)state;
    struct rig rig;
    struct peer peer;
    struct handler *handler;
    struct wire_replay replay;
    unsigned last = starve(&rig, &peer, &handler);
    rig.broker->history.ring_capacity = 10;
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 1; i <= LONG_EVENTS; i++) {
            rig_publish_long(&rig, "a", (round + 1) * LONG_EVENTS + i, 3000);
        }
        skip_live(&peer);
        struct topic *topic = topics_find(&rig.broker->topics, LITERAL("a"));
        unsigned kept = (unsigned)topic->trail.count;
        peer_credit(&peer, 1, 1 + (uint32_t)-replay_find(handler, 1)->credit_bytes);
        expect_gap_at(&peer, last);
        assert_true(wire_decode_replay(peer_expect(&peer, WIRE_REPLAY), &replay));
        last = event_number(&replay.event);
        assert_int_equal(last, (round + 2) * LONG_EVENTS - kept + 1);
        peer_expect_text(&peer, "");
    }
    peer_close(&peer);
    rig_end(&rig);
}

static void test_break_in_the_middle(void **state) {
    (void)state;
    struct rig rig;
    struct peer peer;
    struct handler *handler;
    unsigned last = starve(&rig, &peer, &handler);
    rig_break(&rig);                                  /* 41 */
    rig_publish(&rig, "a", 100);                      /* 42, and event 1 goes */
    peer_expect_text(&peer, "R(gap)@41 X() E100@42"); /* for those that are live */
    peer_credit(&peer, 1, 10000000);
    expect_rest(&peer, last + 1, LONG_EVENTS, "R(gap)@41 e100@42 S@42");
    peer_close(&peer);
    rig_end(&rig);
}

/* What is in the log needs no Postgres. */
static void test_listen_lost_in_the_middle(void **state) {
    (void)state;
    struct rig rig;
    struct peer peer;
    struct handler *handler;
    unsigned last = starve(&rig, &peer, &handler);
    rig_deaf(&rig);
    peer_credit(&peer, 1, 10000000);
    expect_rest(&peer, last + 1, LONG_EVENTS, "S@40");
    rig_listen(&rig);
    rig_publish(&rig, "a", 100);
    peer_expect_text(&peer, "R(gap)@41 X() E100@42"); /* live: told once */
    peer_close(&peer);
    rig_end(&rig);
}

static void test_unsubscribed_in_the_middle(void **state) {
    (void)state;
    struct rig rig;
    struct peer peer;
    struct handler *handler;
    (void)starve(&rig, &peer, &handler);
    peer_unsubscribe(&peer, 1, "a", NULL);
    assert_null(replay_find(handler, 1));
    assert_true(LIST_EMPTY(&handler->subscriptions));
    peer_credit(&peer, 1, 10000000);
    rig_publish(&rig, "a", 100);
    peer_expect_text(&peer, "");
    assert_false(peer_is_closed(&peer));
    peer_close(&peer);
    rig_end(&rig);
}

static void test_handler_gone_in_the_middle(void **state) {
    (void)state;
    struct rig rig;
    struct peer peer;
    struct handler *handler;
    (void)starve(&rig, &peer, &handler);
    peer_close(&peer);
    assert_int_equal(rig.broker->handler_count, 0);
    assert_int_equal(topics_find(&rig.broker->topics, LITERAL("a"))->subscribers, 0);
    rig_publish(&rig, "a", 100);
    rig_break(&rig);
    rig_end(&rig);
}

/* Held, ready or starved. */
static void test_token_in_use_ends_the_connection(void **state) {
    (void)state;
    struct rig rig;
    struct peer peer;
    struct handler *handler;
    (void)starve(&rig, &peer, &handler);
    peer_subscribe(&peer, 1, "b", NULL, POSITION_NONE);
    peer_expect_text(&peer, "GOODBYE");
    assert_true(peer_is_closed(&peer));
    peer_close(&peer);
    rig_deaf(&rig);
    (void)peer_connect(&rig, &peer);
    peer_subscribe(&peer, 1, "a", NULL, POSITION_NONE);
    peer_subscribe(&peer, 1, "a", NULL, POSITION_NONE);
    peer_expect_text(&peer, "GOODBYE");
    assert_true(peer_is_closed(&peer));
    assert_int_equal(rig.broker->handler_count, 0);
    peer_close(&peer);
    rig_end(&rig);
}

/* What is not live cannot be unsubscribed as if it were: nothing of a replay under way is taken
 * from under it. */
static void test_unsubscribing_what_a_replay_needs(void **state) {
    (void)state;
    static const struct {
        uint64_t token;
        const char *first;
        const char *second;
    } cases[] = {{0, "a", NULL}, {99, "a", NULL}, {0, "a", "b"}};
    for (size_t i = 0; i < length_of(cases); i++) {
        struct rig rig;
        struct peer peer;
        rig_begin(&rig);
        (void)peer_connect(&rig, &peer);
        peer_subscribe(&peer, 1, "a", NULL, POSITION_ALL); /* held */
        peer_unsubscribe(&peer, cases[i].token, cases[i].first, cases[i].second);
        if (!peer_is_closed(&peer)) {
            fail_msg("case %zu", i);
        }
        rig_listen(&rig);
        peer_close(&peer);
        rig_end(&rig);
    }
}

/* What goes by its token are the topics that the broker knows under that, whatever is repeated. */
static void test_unsubscribing_by_token(void **state) {
    (void)state;
    struct rig rig;
    struct peer peer;
    rig_begin(&rig);
    struct handler *handler = peer_connect(&rig, &peer);
    peer_subscribe(&peer, 1, "a", "c", POSITION_ALL); /* held */
    peer_subscribe(&peer, 2, "a", NULL, POSITION_ALL);
    peer_unsubscribe(&peer, 1, "b", NULL);
    assert_null(replay_find(handler, 1));
    assert_int_equal(topics_find(&rig.broker->topics, LITERAL("a"))->subscribers, 1);
    assert_null(topics_find(&rig.broker->topics, LITERAL("c")));
    rig_listen(&rig);
    peer_expect_text(&peer, "2:A@0 2:S@0");
    peer_close(&peer);
    rig_end(&rig);
}

/* --- a queue that is full
 * ----------------------------------------------------------------------------
 */

/* A peer reads little by little: at no time is more than half of the queue and one event filled,
 * and the connection stays. */
static void test_goes_on_as_the_queue_drains(void **state) {
    (void)state;
    struct rig rig;
    struct peer peer;
    struct position start;
    struct handler *handler = long_begin(&rig, &peer, &start);
    size_t half = 32 * 1024;
    rig.config.handler_queue_bytes = 2 * (int64_t)half;
    handler_narrow(handler);
    for (uint64_t token = 1; token <= 4; token++) {
        peer_subscribe_from(&peer, token, "a", NULL, start);
        peer_credit(&peer, token, 10000000);
    }
    for (int i = 0; i < 20000 && !TAILQ_EMPTY(&handler->ready); i++) {
        assert_true(handler->output.queued_bytes < half + LONG_BYTES + 200);
        assert_int_equal(handler->state, HANDLER_SERVED);
        assert_true(drain(peer.fd, &peer.input, 1000));
        run_turns(rig.loop, 1);
    }
    struct wire_frame frame;
    unsigned replayed = 0;
    unsigned live = 0;
    while (peer_next(&peer, &frame)) {
        replayed += frame.type == WIRE_REPLAY ? 1 : 0;
        live += frame.type == WIRE_SUBSCRIBED ? 1 : 0;
    }
    assert_int_equal(replayed, 4 * LONG_EVENTS);
    assert_int_equal(live, 4);
    assert_false(peer_is_closed(&peer));
    peer_close(&peer);
    rig_end(&rig);
}

/* It holds up nobody: events of others flow, and its own live ones as far as its queue goes. */
static void test_full_queue_holds_up_nobody(void **state) {
    (void)state;
    struct rig rig;
    struct peer slow;
    struct peer other;
    struct position start;
    struct handler *handler = long_begin(&rig, &slow, &start);
    rig.config.handler_queue_bytes = 64 * 1024;
    handler_narrow(handler);
    peer_subscribe_from(&slow, 1, "a", NULL, start);
    peer_credit(&slow, 1, 10000000);
    assert_int_equal(replay_find(handler, 1)->state, REPLAY_READY); /* more than its queue takes */
    (void)peer_connect(&rig, &other);
    peer_subscribe(&other, 1, "b", NULL, POSITION_NONE);
    peer_expect_text(&other, "A@40 S@40");
    for (unsigned i = 1; i <= 50; i++) {
        char wanted[32];
        rig_publish(&rig, "b", i);
        snprintf(wanted, sizeof wanted, "E%u@%u", i, LONG_EVENTS + i);
        peer_expect_text(&other, wanted);
    }
    assert_int_equal(handler->state, HANDLER_SERVED);
    assert_int_equal(replay_find(handler, 1)->state, REPLAY_READY);
    peer_close(&slow);
    peer_close(&other);
    rig_end(&rig);
}

/* Live events that do not fit close it, as ever: a replay never does. */
static void test_live_events_may_close_it(void **state) {
    (void)state;
    struct rig rig;
    struct peer peer;
    struct position start;
    struct handler *handler = long_begin(&rig, &peer, &start);
    rig.config.handler_queue_bytes = 64 * 1024;
    handler_narrow(handler);
    peer_subscribe_from(&peer, 1, "a", NULL, start);
    peer_credit(&peer, 1, 10000000);
    for (unsigned i = 0; i < 20 && rig.broker->handler_count > 0; i++) {
        rig_publish_long(&rig, "a", i, LONG_BYTES);
    }
    assert_int_equal(rig.broker->handler_count, 0);
    peer_close(&peer);
    rig_end(&rig);
}

/* Live only from SUBSCRIBED on: what is published before it comes as a REPLAY, what comes behind it
 * does not; and the events of other clients of the handler come meanwhile. */
static void test_head_moves_while_it_replays(void **state) {
    (void)state;
    struct rig rig;
    struct peer peer;
    struct handler *handler;
    unsigned last = starve(&rig, &peer, &handler);
    rig.broker->history.ring_capacity = 2 * LONG_EVENTS;
    peer_subscribe(&peer, 2, "a", NULL, POSITION_NONE);
    peer_expect_text(&peer, "2:A@40 2:S@40");
    rig_publish(&rig, "a", 41);
    peer_expect_text(&peer, "E41@41");
    peer_credit(&peer, 1, 10000000);
    expect_rest(&peer, last + 1, 41, "S@41");
    rig_publish(&rig, "a", 42);
    peer_expect_text(&peer, "E42@42"); /* one for both */
    peer_close(&peer);
    rig_end(&rig);
}

RUN_TESTS(TEST(test_kinds_without_position), TEST(test_known_positions),
          TEST(test_known_positions_from_another_marker), TEST(test_foreign_marker),
          TEST(test_durable_places), TEST(test_ids_are_the_events_own),
          TEST(test_replayed_is_what_was_live), TEST(test_unknown_marker_waits_for_the_barrier),
          TEST(test_marker_in_flight_does_not_decide), TEST(test_barrier_is_shared),
          TEST(test_place_beyond_the_count), TEST(test_unknown_marker_becomes_known),
          TEST(test_marker_forgotten), TEST(test_break_while_it_waits_for_the_barrier),
          TEST(test_floors), TEST(test_floor_above_the_next_event),
          TEST(test_floor_before_the_start), TEST(test_causes_are_merged), TEST(test_breaks_inside),
          TEST(test_subscribed_while_deaf), TEST(test_credit_is_used_up_and_renewed),
          TEST(test_credit_before_it_begins), TEST(test_head_is_reached_without_credit),
          TEST(test_eviction_overtakes_it), TEST(test_eviction_behind_it),
          TEST(test_eviction_of_all), TEST(test_eviction_overtakes_it_twice),
          TEST(test_break_in_the_middle), TEST(test_listen_lost_in_the_middle),
          TEST(test_unsubscribed_in_the_middle), TEST(test_handler_gone_in_the_middle),
          TEST(test_token_in_use_ends_the_connection), TEST(test_unsubscribing_what_a_replay_needs),
          TEST(test_unsubscribing_by_token), TEST(test_goes_on_as_the_queue_drains),
          TEST(test_full_queue_holds_up_nobody), TEST(test_live_events_may_close_it),
          TEST(test_head_moves_while_it_replays))
