/* Replays: subscriptions from a position to the head. What a peer hears is written as text, see
 * broker_rig.h. */
#include "broker_rig.h"
#include "one_slot.h"

/* A broker that has heard, place by place:
 *
 *   1 marker   2 event 1 on a   3 event 2 on b   4 event 3 on a   5 marker   6 event 4 on c
 *   7 event 5 on a                                                                              */
enum { HEAD = 7 };

static struct {
    struct position places[HEAD + 1]; /* as the broker wrote them; 0: with its private name */
} scene;

static void note(void) {
    scene.places[rig.broker->journal.markers.count] = rig_position();
}

static void scene_begin(void) {
    static const char *const topics[] = {NULL, NULL, "a", "b", "a", NULL, "c", "a"};
    unsigned number = 0;
    rig_begin();
    rig_listen();
    note();
    for (size_t place = 1; place <= HEAD; place++) {
        if (topics[place] == NULL) {
            rig_marker();
        } else {
            rig_publish(topics[place], ++number);
        }
        note();
    }
    peer_connect(&peer);
    peer_expect_text(&peer, "");
}

/* --- every kind of position
 * ----------------------------------------------------------------------- */

static void test_kinds_without_position(void **state) {
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
        scene_begin();
        peer_subscribe(&peer, 1, cases[i].first, cases[i].second, cases[i].kind);
        peer_expect_text(&peer, cases[i].heard);
        rig_publish(cases[i].first, 9);
        peer_expect_text(&peer, "E9@8");
    }
}

/* From every position that was handed out. */
static void test_known_positions(void **state) {
    static const char *const heard[HEAD + 1] = {
        "A+@7 e1@2 e3@4 e5@7 S@7", /* the position with the private name */
        "A+@7 e1@2 e3@4 e5@7 S@7",
        "A+@7 e3@4 e5@7 S@7",
        "A+@7 e3@4 e5@7 S@7",
        "A+@7 e5@7 S@7",
        "A+@7 e5@7 S@7",
        "A+@7 e5@7 S@7",
        "A@7 S@7",
    };
    for (size_t place = 0; place <= HEAD; place++) {
        scene_begin();
        peer_subscribe_from(&peer, 1, "a", NULL, scene.places[place]);
        peer_expect_text(&peer, heard[place]);
    }
}

/* Takes the token off the frame and returns it. */
static uint64_t take_token(struct wire_frame *frame) {
    static const uint64_t unprinted = 1;
    uint64_t token;
    char *body = (char *)frame->body.at;
    memcpy(&token, body, sizeof token);
    memcpy(body, &unprinted, sizeof token);
    return token;
}

/* The same places, counted from the first marker past the second, and from another broker's
 * marker. */
static void test_known_positions_from_another_marker(void **state) {
    for (uint64_t place = 1; place <= HEAD; place++) {
        scene_begin();
        struct position position = scene.places[1];
        position.since = place - 1;
        peer_subscribe_from(&peer, 1, "a", "c", position);
        peer_subscribe_from(&peer, 2, "a", "c", scene.places[place]);
        struct wire_frame frame;
        struct buf texts[2] = {0};
        while (peer_next(&peer, &frame)) {
            uint64_t token = take_token(&frame);
            print_frame(&frame, &texts[token - 1]);
        }
        expect_slice(buf_slice(&texts[0]), buf_slice(&texts[1]), "counted from the first marker");
        assert_true(texts[0].length > 0);
        buf_release(&texts[0]);
        buf_release(&texts[1]);
    }
}

static void test_foreign_marker(void **state) {
    char payload[DRAWN_MARKER_BYTES];
    struct position position = {.since = 1};
    scene_begin();
    foreign_marker(&rig.broker->journal.markers, "abcdefghijklm", 5, DRAWN_MARKER_US, payload,
                   position.marker);
    rig_hear(CHANNEL_OF_MARKERS, slice_of(payload), 5); /* 8 */
    rig_publish("a", 6);
    rig_publish("a", 7);
    peer_subscribe_from(&peer, 1, "a", NULL, position);
    peer_expect_text(&peer, "A+@10 e7@10 S@10");
}

/* There is no table here: a client that comes with an id may have missed something. It gets a
 * refresh and goes on from the head, or from its place if that is known. */
static void test_durable_places(void **state) {
    static const struct {
        size_t place; /* HEAD + 1: none */
        const char *heard;
    } cases[] = {{HEAD + 1, "A+@7 R(unknown_position)@7 S@7"},
                 {HEAD, "A+@7 R(unknown_position)@7 S@7"},
                 {3, "A+@7 R(unknown_position)@3 e3@4 e5@7 S@7"}};
    for (size_t i = 0; i < length_of(cases); i++) {
        scene_begin();
        struct position position = {0};
        if (cases[i].place <= HEAD) {
            position = scene.places[cases[i].place];
        }
        position.durable = 17;
        peer_subscribe_from(&peer, 1, "a", NULL, position);
        peer_expect_text(&peer, cases[i].heard);
    }
}

/* Replayed events have exactly the positions of the live ones, and the last position is the
 * head. */
static void test_ids_are_the_events_own(void **state) {
    struct wire_replay replay;
    struct wire_position subscribed;
    scene_begin();
    peer_subscribe_from(&peer, 1, "a", NULL, scene.places[1]);
    (void)peer_expect(&peer, WIRE_ACCEPTED);
    static const size_t places[] = {2, 4, 7};
    for (size_t i = 0; i < length_of(places); i++) {
        assert_true(wire_decode_replay(peer_expect(&peer, WIRE_REPLAY), &replay));
        expect_position(&replay.event.position, scene.places[places[i]]);
    }
    assert_true(wire_decode_position(peer_expect(&peer, WIRE_SUBSCRIBED), &subscribed));
    expect_position(&subscribed.position, scene.places[HEAD]);
}

/* A replayed event equals the live one: topic, publisher's id and body. */
static void test_replayed_is_what_was_live(void **state) {
    struct peer live;
    struct peer late;
    struct wire_event event;
    struct wire_replay replay;
    rig_begin();
    rig_listen();
    peer_connect(&live);
    peer_connect(&late);
    peer_subscribe(&live, 1, "alpha", NULL, POSITION_NONE);
    peer_expect_subscribed(&live, 1);
    rig_notify("{\"topic\":\"alpha\",\"data\":[1,2],\"event\":\"e\",\"id\":\"x\","
               "\"comment\":\"c\",\"retry\":7}");
    peer_subscribe(&late, 1, "alpha", NULL, POSITION_ALL);
    (void)peer_expect(&late, WIRE_ACCEPTED);
    assert_true(wire_decode_event(peer_expect(&live, WIRE_EVENT), &event));
    assert_true(wire_decode_replay(peer_expect(&late, WIRE_REPLAY), &replay));
    expect_slice(replay.event.topic.bytes, event.topic.bytes, "topic");
    expect_slice(replay.event.publisher_id, event.publisher_id, "publisher's id");
    expect_slice(replay.event.body, event.body, "body");
    assert_int_equal(replay.event.id_at, event.id_at);
    expect_position(&replay.event.position, event.position);
    assert_int_equal(rig.broker->journal.topics.total.broadcast, 2); /* live and replayed */
    peer_close(&live);
    peer_close(&late);
}

/* --- the barrier
 * ----------------------------------------------------------------------------------- */

static const struct position of_a_stranger = {0, "strangersname", 3};

static void test_unknown_marker_waits_for_the_barrier(void **state) {
    scene_begin();
    peer_subscribe_from(&peer, 1, "a", NULL, of_a_stranger);
    peer_expect_text(&peer, "");
    rig_notify("nonsense"); /* any notification: 8 */
    peer_expect_text(&peer, "");
    assert_true(rig.broker->journal.canary.asked > rig.broker->journal.canary.sent);
    rig_send_marker();
    peer_expect_text(&peer, "");
    rig_hear_marker(); /* 9 */
    peer_expect_text(&peer, "A+@9 R(unknown_position)@9 S@9");
    rig_publish("a", 6);
    peer_expect_text(&peer, "E6@10");
}

/* A marker that was sent before the subscription came does not decide. */
static void test_marker_in_flight_does_not_decide(void **state) {
    scene_begin();
    rig_send_marker();
    peer_subscribe_from(&peer, 1, "a", NULL, of_a_stranger);
    rig_hear_marker(); /* 8 */
    peer_expect_text(&peer, "");
    rig_send_marker();
    peer_subscribe_from(&peer, 2, "b", NULL, of_a_stranger);
    rig_hear_marker(); /* 9 */
    peer_expect_text(&peer, "A+@9 R(unknown_position)@9 S@9");
    rig_marker();
    peer_expect_text(&peer, "2:A+@10 2:R(unknown_position)@10 2:S@10");
}

/* All subscriptions of that time wait for the same marker. */
static void test_barrier_is_shared(void **state) {
    scene_begin();
    for (uint64_t token = 1; token <= 3; token++) {
        peer_subscribe_from(&peer, token, "a", NULL, of_a_stranger);
    }
    rig_marker();
    peer_expect_text(&peer, "A+@8 R(unknown_position)@8 S@8 "
                            "2:A+@8 2:R(unknown_position)@8 2:S@8 "
                            "3:A+@8 3:R(unknown_position)@8 3:S@8");
}

/* Another broker was milliseconds ahead: the events that it counted come here before the
 * barrier. */
static void test_place_beyond_the_count(void **state) {
    static const struct {
        uint64_t ahead;
        const char *heard;
    } cases[] = {
        {1, "A+@10 e7@9 S@10"}, /* after event 6 at 8 */
        {2, "A@10 S@10"},       /* after event 7 at 9 */
        {3, "A@10 S@10"},       /* after the barrier itself */
        {4, "A+@10 R(unknown_position)@10 S@10"},
        {UINT64_MAX - 1000, "A+@10 R(unknown_position)@10 S@10"},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        scene_begin();
        struct position position = scene.places[HEAD];
        position.since += cases[i].ahead;
        peer_subscribe_from(&peer, 1, "a", NULL, position);
        peer_expect_text(&peer, "");
        rig_publish("a", 6);
        rig_publish("a", 7);
        peer_expect_text(&peer, "E6@8 E7@9"); /* for live clients; this one is not live */
        rig_marker();
        peer_expect_text(&peer, cases[i].heard);
    }
}

/* Its marker comes here before the barrier does. */
static void test_unknown_marker_becomes_known(void **state) {
    char payload[DRAWN_MARKER_BYTES];
    struct position position = {.since = 1};
    scene_begin();
    foreign_marker(&rig.broker->journal.markers, "abcdefghijklm", 5, DRAWN_MARKER_US, payload,
                   position.marker);
    peer_subscribe_from(&peer, 1, "b", NULL, position);
    rig_hear(CHANNEL_OF_MARKERS, slice_of(payload), 5); /* 8 */
    rig_publish("c", 6);
    rig_publish("c", 7);
    peer_expect_text(&peer, "");
    rig_marker();
    peer_expect_text(&peer, "A@11 S@11");
}

/* A marker that is older than this broker remembers, or that was heard twice. */
static void test_marker_forgotten(void **state) {
    scene_begin();
    rig_hear_marker(); /* 8 */
    peer_subscribe_from(&peer, 1, "a", NULL, scene.places[6]);
    peer_expect_text(&peer, "");
    rig_marker();
    peer_expect_text(&peer, "A+@9 R(unknown_position)@9 S@9");
}

/* LISTEN is lost while the subscription waits: a marker that was on its way then does not count as
 * ours. */
static void test_break_while_it_waits_for_the_barrier(void **state) {
    scene_begin();
    peer_subscribe_from(&peer, 1, "a", NULL, of_a_stranger);
    rig_send_marker();
    rig_deaf();
    peer_expect_text(&peer, "");
    rig_listen();      /* 8: the break */
    rig_hear_marker(); /* 9 */
    peer_expect_text(&peer, "R(gap)@8 X()");
    rig_marker();
    peer_expect_text(&peer, "A+@10 R(unknown_position)@10 S@10");
}

/* --- what is not there any more
 * --------------------------------------------------------------------- */

/* Two entries of a topic are kept: 1 to 6 are events on a, b, a, b, a, b. */
static void floors_begin(struct position places[8]) {
    rig_begin_with(RIG_HISTORY_BYTES, 2);
    rig_listen();
    places[0] = rig_position();
    for (unsigned i = 1; i <= 6; i++) {
        rig_publish(i % 2 == 1 ? "a" : "b", i);
        places[i] = rig_position();
    }
    peer_connect(&peer);
    peer_expect_text(&peer, "");
}

static void test_floors(void **state) {
    static const struct {
        size_t from;
        const char *first;
        const char *second;
        const char *heard;
    } cases[] = {
        {0, "a", NULL, "A+@6 R(gap)@0 e3@3 e5@5 S@6"},
        {1, "a", NULL, "A+@6 e3@3 e5@5 S@6"}, /* has the dropped event already */
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
        struct position places[8];
        floors_begin(places);
        peer_subscribe_from(&peer, 1, cases[i].first, cases[i].second, places[cases[i].from]);
        peer_expect_text(&peer, cases[i].heard);
    }
}

/* One refresh, although the next event is before the floor, too. */
static void test_floor_above_the_next_event(void **state) {
    rig_begin_with(RIG_HISTORY_BYTES, 2);
    rig_listen();
    struct position start = rig_position();
    for (const char *topic = "bbaaa"; *topic != '\0'; topic++) {
        rig_publish((char[]){*topic, '\0'}, (unsigned)rig.broker->journal.markers.count + 1);
    }
    peer_connect(&peer);
    peer_subscribe_from(&peer, 1, "a", "b", start);
    peer_expect_text(&peer, "A+@5 R(gap)@0 e1@1 e2@2 e4@4 e5@5 S@5");
}

/* "0" asks for all that is kept: a refresh comes only if something was dropped. */
static void test_floor_before_the_start(void **state) {
    struct position places[8];
    struct wire_refresh refresh;
    floors_begin(places);
    peer_subscribe(&peer, 1, "a", NULL, POSITION_ALL);
    (void)peer_expect(&peer, WIRE_ACCEPTED);
    assert_true(wire_decode_refresh(peer_expect(&peer, WIRE_REFRESH), &refresh));
    assert_int_equal(refresh.reason, SSE_REFRESH_GAP);
    expect_position(&refresh.position, places[2]); /* not "0": it would ask for all again */
    peer_expect_text(&peer, "e3@3 e5@5 S@6");
    peer_subscribe(&peer, 2, "other", NULL, POSITION_ALL);
    peer_expect_text(&peer, "2:A@6 2:S@6");
}

/* The client was accepted, and its stream was cut before it got anything. If its place is known, it
 * gets what was kept then; else a refresh. */
static void test_all_that_is_kept_is_asked_again(void **state) {
    static const struct {
        size_t from;
        bool is_unknown;
        const char *topic;
        const char *heard;
    } cases[] = {{4, false, "a", "A+@7 e1@2 e3@4 e5@7 S@7"},
                 {7, false, "a", "A+@7 e1@2 e3@4 e5@7 S@7"},
                 {7, true, "a", "A+@8 R(unknown_position)@1 e1@2 e3@4 e5@7 S@8"},
                 {7, true, "unread", "A+@8 R(unknown_position)@8 S@8"}};
    for (size_t i = 0; i < length_of(cases); i++) {
        scene_begin();
        struct position position = scene.places[cases[i].from];
        if (cases[i].is_unknown) {
            memset(position.marker, 'x', MARKER_BYTES);
        }
        peer_subscribe_at(&peer, 1, cases[i].topic, POSITION_ALL, position);
        if (cases[i].is_unknown) {
            peer_expect_text(&peer, ""); /* the barrier */
            rig_marker();
        }
        peer_expect_text(&peer, cases[i].heard);
    }
}

/* Breaks with no kept event of the client's topics before them make one refresh, at the place after
 * them. */
static void test_breaks_before_all_that_is_kept(void **state) {
    scene_begin();
    rig_break(); /* place 8 */
    peer_expect_text(&peer, "R(gap)@8 X()");
    rig_break(); /* place 9 */
    peer_expect_text(&peer, "R(gap)@9 X()");
    rig_publish("d", 10);
    peer_subscribe(&peer, 1, "d", NULL, POSITION_ALL);
    peer_expect_text(&peer, "A+@10 R(gap)@9 e10@10 S@10");
    peer_subscribe(&peer, 2, "c", NULL, POSITION_ALL); /* an event comes before them */
    peer_expect_text(&peer, "2:A+@10 2:e4@6 2:R(gap)@10 2:S@10");
}

/* Another topic of the slot has lost a newer event before the replay began. That must not hide what
 * this topic loses during the replay. */
static void test_loss_after_another_topic_of_the_slot_lost(void **state) {
    struct wire_frame frame;
    const char *mine = NULL;
    const char *other = NULL;
    find_names_of_one_slot(&mine, &other);
    rig_begin_with(2 * RIG_HISTORY_BYTES, 40);
    rig_listen();
    struct position start = rig_position();
    for (unsigned i = 1; i <= 30; i++) {
        rig_publish_long(mine, i, 5000);
    }
    for (unsigned i = 31; i <= 71; i++) {
        rig_publish(other, i); /* 31 goes at the end */
    }
    peer_connect(&peer);
    peer_expect_text(&peer, "");
    peer_subscribe_from(&peer, 1, mine, NULL, start);
    unsigned last = 0;
    while (peer_next(&peer, &frame)) {
        struct wire_replay replay;
        if (frame.type == WIRE_REPLAY && wire_decode_replay(frame.body, &replay)) {
            last = event_number(&replay.event);
        }
    }
    assert_in_range(last, 1, 29); /* the credit is used up */
    for (unsigned i = 72; i <= 111; i++) {
        rig_publish(mine, i); /* 1 to 30 are dropped, and some of them were not sent */
    }
    peer_credit(&peer, 1, 1000000);
    do { /* the handler also got the live events */
        assert_true(peer_next(&peer, &frame));
    } while (frame.type == WIRE_EVENT);
    assert_int_equal(frame.type, WIRE_REFRESH);
}

/* Two causes with nothing between them make one refresh, with the first reason in the order of the
 * enum. */
static void test_causes_are_merged(void **state) {
    struct position places[8];
    floors_begin(places);
    rig_break(); /* 7 */
    rig_break(); /* 8 */
    rig_publish("c", 9);
    peer_expect_text(&peer, "R(gap)@7 X() R(gap)@8 X()"); /* for live clients */
    struct position durable = places[0];
    durable.durable = 5;
    peer_subscribe_from(&peer, 1, "a", NULL, durable);
    peer_expect_text(&peer, "A+@9 R(unknown_position)@0 e3@3 e5@5 R(gap)@9 S@9");
    peer_subscribe_from(&peer, 2, "c", NULL, places[6]);
    peer_expect_text(&peer, "2:A+@9 2:R(gap)@8 2:e9@9 2:S@9");
    peer_subscribe_from(&peer, 3, "other", NULL, durable);
    peer_expect_text(&peer, "3:A+@9 3:R(unknown_position)@9 3:S@9");
}

/* --- breaks
 * ------------------------------------------------------------------------------------------ */

/* Each break is told once, in its place; to clients from before it, from it, and from after it. */
static void test_breaks_inside(void **state) {
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
    struct position places[8];
    rig_begin();
    rig_listen();
    places[0] = rig_position();
    for (unsigned place = 1; place <= 7; place++) {
        if (place == 2 || place == 5) {
            rig_break();
        } else {
            rig_publish(place == 4 || place == 7 ? "b" : "a", place);
        }
        places[place] = rig_position();
    }
    peer_connect(&peer);
    peer_expect_text(&peer, "");
    for (size_t place = 0; place <= 7; place++) {
        struct buf text = {0};
        struct wire_frame frame;
        peer_subscribe_from(&peer, 2 + place, "a", NULL, places[place]);
        while (peer_next(&peer, &frame)) {
            assert_int_equal(take_token(&frame), 2 + place);
            print_frame(&frame, &text);
        }
        expect_buf(&text, heard[place]);
    }
}

/* Clients that come during an outage with a position from before it are told of it exactly once. */
static void test_subscribed_while_deaf(void **state) {
    scene_begin();
    rig_deaf();
    peer_subscribe_from(&peer, 1, "a", NULL, scene.places[4]);
    peer_subscribe_from(&peer, 2, "a", NULL, scene.places[HEAD]);
    peer_expect_text(&peer, "");
    rig_listen(); /* 8 */
    /* first the frames for live clients */
    peer_expect_text(&peer, "R(gap)@8 X() A+@8 e5@7 R(gap)@8 S@8 2:A+@8 2:R(gap)@8 2:S@8");
}

/* --- credit
 * ------------------------------------------------------------------------------------------ */

enum { LONG_BYTES = 7000, LONG_EVENTS = 40 };

/* LONG_EVENTS events on the topic a wait to be replayed; their numbers are their places. */
static void long_begin(struct position *start) {
    rig_begin_with(RIG_HISTORY_BYTES, LONG_EVENTS);
    rig_listen();
    *start = rig_position();
    for (unsigned i = 1; i <= LONG_EVENTS; i++) {
        rig_publish_long("a", i, LONG_BYTES);
    }
    peer_connect(&peer);
    peer_expect_text(&peer, "");
}

/* Takes the REPLAYs that have come and have to go on from *last. Returns the sum of their
 * bodies. */
static size_t take_replays(unsigned *last) {
    struct wire_frame frame;
    struct wire_replay replay;
    size_t bytes = 0;
    while (peer_next(&peer, &frame)) {
        assert_int_equal(frame.type, WIRE_REPLAY);
        assert_true(wire_decode_replay(frame.body, &replay));
        assert_int_equal(event_number(&replay.event), ++*last);
        bytes += frame.body.length;
    }
    return bytes;
}

static void test_credit_is_used_up_and_renewed(void **state) {
    struct position start;
    unsigned last = 0;
    long_begin(&start);
    peer_subscribe_from(&peer, 1, "a", NULL, start);
    (void)peer_expect(&peer, WIRE_ACCEPTED);
    size_t sent = take_replays(&last);
    size_t debt = sent - WIRE_CREDIT_BYTES;
    assert_true(debt > 1);
    peer_credit(&peer, 1, (uint32_t)debt - 1);
    assert_int_equal(take_replays(&last), 0);
    peer_credit(&peer, 1, 1); /* no debt, and no credit left */
    assert_int_equal(take_replays(&last), 0);
    peer_credit(&peer, 1, 1); /* one REPLAY of any size is sent */
    size_t one = take_replays(&last);
    assert_true(last >= 10 && one > LONG_BYTES && one < LONG_BYTES + 200);
    assert_true(debt < one); /* all REPLAYs before it were within the credit */
    peer_credit(&peer, 1, (uint32_t)(one - 1 + 2 * one));
    assert_int_equal(take_replays(&last), 2 * one); /* the debt is paid first */
    assert_int_equal(replay_find(&peer.handler->delivery, 1)->state, REPLAY_STARVED);
    peer_credit(&peer, 77, 1000000); /* for an unknown token: ignored */
    assert_int_equal(take_replays(&last), 0);
    peer_credit(&peer, 1, 1000000);
    while (last < LONG_EVENTS) {
        struct wire_replay replay;
        assert_true(wire_decode_replay(peer_expect(&peer, WIRE_REPLAY), &replay));
        assert_int_equal(event_number(&replay.event), ++last);
    }
    peer_expect_text(&peer, "S@40");
}

/* Credit that comes before the replay begins counts; the largest sum does no harm. */
static void test_credit_before_it_begins(void **state) {
    struct position start;
    struct wire_frame frame;
    unsigned count = 0;
    long_begin(&start);
    rig_deaf();
    peer_subscribe_from(&peer, 1, "a", NULL, start);
    peer_credit(&peer, 1, UINT32_MAX);
    peer_credit(&peer, 1, UINT32_MAX);
    rig_listen();
    while (peer_next(&peer, &frame)) {
        count += frame.type == WIRE_REPLAY ? 1 : 0;
    }
    assert_int_equal(count, LONG_EVENTS);
    assert_int_equal(frame.type, WIRE_SUBSCRIBED);
}

/* The last event uses up the credit: the head is still reached, in the same turn. */
static void test_head_is_reached_without_credit(void **state) {
    rig_begin();
    rig_listen();
    struct position start = rig_position();
    for (unsigned i = 1; i <= 9; i++) { /* eight are less than the credit, nine are more */
        rig_publish_long("a", i, 7500);
    }
    peer_connect(&peer);
    peer_subscribe_from(&peer, 1, "a", NULL, start);
    peer_expect_text(&peer, "A+@9 e1@1 e2@2 e3@3 e4@4 e5@5 e6@6 e7@7 e8@8 e9@9 S@9");
    rig_publish("a", 10);
    peer_expect_text(&peer, "E10@10");
}

/* --- what happens in the middle
 * -------------------------------------------------------------------- */

/* Starves a replay; returns the number of the last event that was sent. */
static unsigned starve(void) {
    struct position start;
    unsigned last = 0;
    long_begin(&start);
    peer_subscribe_from(&peer, 1, "a", NULL, start);
    (void)peer_expect(&peer, WIRE_ACCEPTED);
    (void)take_replays(&last);
    assert_true(last > 5 && last < LONG_EVENTS / 2);
    assert_int_equal(replay_find(&peer.handler->delivery, 1)->state, REPLAY_STARVED);
    return last;
}

/* Expects events first to last as REPLAYs, and then that text. */
static void expect_rest(unsigned first, unsigned last, const char *wanted) {
    struct wire_replay replay;
    for (unsigned number = first; number <= last; number++) {
        assert_true(wire_decode_replay(peer_expect(&peer, WIRE_REPLAY), &replay));
        assert_int_equal(event_number(&replay.event), number);
    }
    peer_expect_text(&peer, wanted);
}

/* Skips the frames for live clients; this one is not live. */
static void skip_live(void) {
    struct wire_frame frame;
    while (peer_next(&peer, &frame)) {
        assert_int_equal(frame.type, WIRE_EVENT);
    }
}

static void expect_gap_at(unsigned place) {
    struct wire_refresh refresh;
    struct buf text = {0};
    char wanted[32];
    assert_true(wire_decode_refresh(peer_expect(&peer, WIRE_REFRESH), &refresh));
    assert_int_equal(refresh.token, 1);
    print_refresh(&refresh, &text);
    snprintf(wanted, sizeof wanted, "R(gap)@%u", place);
    expect_buf(&text, wanted);
}

/* The next events of the replay were dropped: one refresh in their place, and it goes on with the
 * kept events. */
static void test_eviction_overtakes_it(void **state) {
    unsigned last = starve();
    for (unsigned i = 1; i <= LONG_EVENTS / 2; i++) {
        rig_publish("a", LONG_EVENTS + i);
    }
    skip_live();
    peer_credit(&peer, 1, 10000000);
    expect_gap_at(last);
    expect_rest(LONG_EVENTS / 2 + 1, LONG_EVENTS * 3 / 2, "S@60");
}

/* The dropped events were sent before. */
static void test_eviction_behind_it(void **state) {
    unsigned last = starve();
    for (unsigned i = 1; i <= last; i++) {
        rig_publish("a", LONG_EVENTS + i);
    }
    skip_live();
    peer_credit(&peer, 1, 10000000);
    char wanted[16];
    snprintf(wanted, sizeof wanted, "S@%u", LONG_EVENTS + last);
    expect_rest(last + 1, LONG_EVENTS + last, wanted);
}

static void test_eviction_of_all(void **state) {
    (void)starve();
    rig.broker->journal.history.bytes_max = 0;
    rig_publish("elsewhere", 1);
    assert_int_equal(rig.broker->journal.history.count, 0);
    peer_credit(&peer, 1, 10000000);
    peer_expect_text(&peer, "R(gap)@41 S@41");
}

/* Events are dropped twice: two refreshes, since something was sent in between. */
static void test_eviction_overtakes_it_twice(void **state) {
    struct wire_replay replay;
    unsigned last = starve();
    rig.broker->journal.history.ring_capacity = 10;
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 1; i <= LONG_EVENTS; i++) {
            rig_publish_long("a", (round + 1) * LONG_EVENTS + i, 3000);
        }
        skip_live();
        struct topic *topic = topics_find(&rig.broker->journal.topics, key_of("a"));
        unsigned kept = (unsigned)topic->trail.count;
        peer_credit(&peer, 1, 1 + (uint32_t)-replay_find(&peer.handler->delivery, 1)->credit_bytes);
        expect_gap_at(last);
        assert_true(wire_decode_replay(peer_expect(&peer, WIRE_REPLAY), &replay));
        last = event_number(&replay.event);
        assert_int_equal(last, (round + 2) * LONG_EVENTS - kept + 1);
        peer_expect_text(&peer, "");
    }
}

static void test_break_in_the_middle(void **state) {
    unsigned last = starve();
    rig_break();                                      /* 41 */
    rig_publish("a", 100);                            /* 42, and event 1 goes */
    peer_expect_text(&peer, "R(gap)@41 X() E100@42"); /* for live clients */
    peer_credit(&peer, 1, 10000000);
    expect_rest(last + 1, LONG_EVENTS, "R(gap)@41 e100@42 S@42");
}

/* Events in the log are sent without Postgres. */
static void test_listen_lost_in_the_middle(void **state) {
    unsigned last = starve();
    rig_deaf();
    peer_credit(&peer, 1, 10000000);
    expect_rest(last + 1, LONG_EVENTS, "S@40");
    rig_listen();
    rig_publish("a", 100);
    peer_expect_text(&peer, "R(gap)@41 X() E100@42"); /* for live clients, once */
}

static void test_unsubscribed_in_the_middle(void **state) {
    (void)starve();
    peer_unsubscribe(&peer, 1, "a", NULL);
    assert_null(replay_find(&peer.handler->delivery, 1));
    assert_true(LIST_EMPTY(&peer.handler->delivery.interests));
    peer_credit(&peer, 1, 10000000);
    rig_publish("a", 100);
    peer_expect_text(&peer, "");
    assert_false(peer_is_closed(&peer));
}

static void test_handler_gone_in_the_middle(void **state) {
    (void)starve();
    peer_close(&peer);
    assert_int_equal(rig_handler_count(), 0);
    assert_int_equal(topics_find(&rig.broker->journal.topics, key_of("a"))->subscribers, 0);
    rig_publish("a", 100);
    rig_break();
}

/* The token of a replay that is held, ready or starved. */
static void test_token_in_use_ends_the_connection(void **state) {
    (void)starve();
    peer_subscribe(&peer, 1, "b", NULL, POSITION_NONE);
    peer_expect_text(&peer, "GOODBYE");
    assert_true(peer_is_closed(&peer));
    peer_close(&peer);
    rig_deaf();
    peer_connect(&peer);
    peer_subscribe(&peer, 1, "a", NULL, POSITION_NONE);
    peer_subscribe(&peer, 1, "a", NULL, POSITION_NONE);
    peer_expect_text(&peer, "GOODBYE");
    assert_true(peer_is_closed(&peer));
    assert_int_equal(rig_handler_count(), 0);
}

/* A client that is not live cannot be unsubscribed without its token: the topics of its replay
 * would be lost. */
static void test_unsubscribing_what_a_replay_needs(void **state) {
    static const struct {
        uint64_t token;
        const char *first;
        const char *second;
    } cases[] = {{0, "a", NULL}, {99, "a", NULL}, {0, "a", "b"}};
    for (size_t i = 0; i < length_of(cases); i++) {
        rig_begin();
        peer_connect(&peer);
        peer_subscribe(&peer, 1, "a", NULL, POSITION_ALL); /* held */
        peer_unsubscribe(&peer, cases[i].token, cases[i].first, cases[i].second);
        if (!peer_is_closed(&peer)) {
            fail_msg("case %zu", i);
        }
        rig_listen();
    }
}

/* UNSUBSCRIBE with a token ends the topics that the broker has for the token, whatever the frame
 * lists. */
static void test_unsubscribing_by_token(void **state) {
    rig_begin();
    peer_connect(&peer);
    peer_subscribe(&peer, 1, "a", "c", POSITION_ALL); /* held */
    peer_subscribe(&peer, 2, "a", NULL, POSITION_ALL);
    peer_unsubscribe(&peer, 1, "b", NULL);
    assert_null(replay_find(&peer.handler->delivery, 1));
    assert_int_equal(topics_find(&rig.broker->journal.topics, key_of("a"))->subscribers, 1);
    assert_null(topics_find(&rig.broker->journal.topics, key_of("c")));
    rig_listen();
    peer_expect_text(&peer, "2:A@0 2:S@0");
}

/* --- a queue that is full
 * ----------------------------------------------------------------------------
 */

/* A peer reads little by little: replays never fill more than half of the queue and one event, and
 * the connection stays. */
static void test_goes_on_as_the_queue_drains(void **state) {
    struct position start;
    long_begin(&start);
    size_t half = 32 * 1024;
    rig_limit_queues(2 * half);
    handler_narrow(peer.handler);
    for (uint64_t token = 1; token <= 4; token++) {
        peer_subscribe_from(&peer, token, "a", NULL, start);
        peer_credit(&peer, token, 10000000);
    }
    for (int i = 0; i < 20000 && !TAILQ_EMPTY(&peer.handler->delivery.ready); i++) {
        assert_true(peer.handler->delivery.outbox.queue.queued_bytes < half + LONG_BYTES + 200);
        assert_int_equal(peer.handler->state, HANDLER_SERVED);
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
}

/* A full queue delays no other handler: their events flow, and live events of this one as far as
 * its queue goes. */
static void test_full_queue_holds_up_nobody(void **state) {
    struct peer other;
    struct position start;
    long_begin(&start);
    rig_limit_queues(64 * 1024);
    handler_narrow(peer.handler);
    peer_subscribe_from(&peer, 1, "a", NULL, start);
    peer_credit(&peer, 1, 10000000);
    assert_int_equal(replay_find(&peer.handler->delivery, 1)->state,
                     REPLAY_READY); /* there is more than its queue takes */
    peer_connect(&other);
    peer_subscribe(&other, 1, "b", NULL, POSITION_NONE);
    peer_expect_text(&other, "A@40 S@40");
    for (unsigned i = 1; i <= 50; i++) {
        char wanted[32];
        rig_publish("b", i);
        snprintf(wanted, sizeof wanted, "E%u@%u", i, LONG_EVENTS + i);
        peer_expect_text(&other, wanted);
    }
    assert_int_equal(peer.handler->state, HANDLER_SERVED);
    assert_int_equal(replay_find(&peer.handler->delivery, 1)->state, REPLAY_READY);
    peer_close(&other);
}

/* Live events that do not fit close the connection; a replay never does. */
static void test_live_events_may_close_it(void **state) {
    struct position start;
    long_begin(&start);
    rig_limit_queues(64 * 1024);
    handler_narrow(peer.handler);
    peer_subscribe_from(&peer, 1, "a", NULL, start);
    peer_credit(&peer, 1, 10000000);
    for (unsigned i = 0; i < 20 && rig_handler_count() > 0; i++) {
        rig_publish_long("a", i, LONG_BYTES);
    }
    run_turns(rig.loop, 1);
    assert_int_equal(rig_handler_count(), 0);
}

/* Live only from SUBSCRIBED on: what is published before it comes as a REPLAY, what comes after it
 * does not; and events of the handler's other clients come meanwhile. */
static void test_head_moves_while_it_replays(void **state) {
    unsigned last = starve();
    rig.broker->journal.history.ring_capacity = 2 * LONG_EVENTS;
    peer_subscribe(&peer, 2, "a", NULL, POSITION_NONE);
    peer_expect_text(&peer, "2:A@40 2:S@40");
    rig_publish("a", 41);
    peer_expect_text(&peer, "E41@41");
    peer_credit(&peer, 1, 10000000);
    expect_rest(last + 1, 41, "S@41");
    rig_publish("a", 42);
    peer_expect_text(&peer, "E42@42"); /* one for both */
}

RUN_TESTS(TEST(test_kinds_without_position), TEST(test_known_positions),
          TEST(test_known_positions_from_another_marker), TEST(test_foreign_marker),
          TEST(test_durable_places), TEST(test_ids_are_the_events_own),
          TEST(test_replayed_is_what_was_live), TEST(test_unknown_marker_waits_for_the_barrier),
          TEST(test_marker_in_flight_does_not_decide), TEST(test_barrier_is_shared),
          TEST(test_place_beyond_the_count), TEST(test_unknown_marker_becomes_known),
          TEST(test_marker_forgotten), TEST(test_break_while_it_waits_for_the_barrier),
          TEST(test_floors), TEST(test_floor_above_the_next_event),
          TEST(test_floor_before_the_start), TEST(test_all_that_is_kept_is_asked_again),
          TEST(test_breaks_before_all_that_is_kept),
          TEST(test_loss_after_another_topic_of_the_slot_lost), TEST(test_causes_are_merged),
          TEST(test_breaks_inside), TEST(test_subscribed_while_deaf),
          TEST(test_credit_is_used_up_and_renewed), TEST(test_credit_before_it_begins),
          TEST(test_head_is_reached_without_credit), TEST(test_eviction_overtakes_it),
          TEST(test_eviction_behind_it), TEST(test_eviction_of_all),
          TEST(test_eviction_overtakes_it_twice), TEST(test_break_in_the_middle),
          TEST(test_listen_lost_in_the_middle), TEST(test_unsubscribed_in_the_middle),
          TEST(test_handler_gone_in_the_middle), TEST(test_token_in_use_ends_the_connection),
          TEST(test_unsubscribing_what_a_replay_needs), TEST(test_unsubscribing_by_token),
          TEST(test_goes_on_as_the_queue_drains), TEST(test_full_queue_holds_up_nobody),
          TEST(test_live_events_may_close_it), TEST(test_head_moves_while_it_replays))
