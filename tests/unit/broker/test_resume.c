/* A handler that reconnects with live clients: from where it goes on, and what waits until it is at
 * the head. What a peer hears is written as text, see broker_rig.h. */
#include "broker_rig.h"

/* A broker that has heard, place by place:
 *
 *   1 marker   2 event 1 on a   3 event 2 on b   4 event 3 on a   5 marker   6 event 4 on c
 *   7 event 5 on a                                                                              */
enum { HEAD = 7 };

static struct {
    struct position places[HEAD + 1]; /* as the broker wrote them; 0: with its private name */
} scene;

static void scene_begin(void) {
    static const char *const topics[] = {"", NULL, "a", "b", "a", NULL, "c", "a"};
    unsigned number = 0;
    rig_begin();
    rig_listen();
    scene.places[0] = rig_position();
    for (size_t place = 1; place <= HEAD; place++) {
        if (topics[place] == NULL) {
            rig_marker();
        } else {
            rig_publish(topics[place], ++number);
        }
        scene.places[place] = rig_position();
    }
    peer_introduce(&peer);
}

static const struct position of_a_stranger = {0, "strangersname", 3};

/* --- where it goes on
 * -------------------------------------------------------------------------------- */

/* As if the connection had not been lost: events as EVENT frames, and then the position. */
static void test_from_every_place(void **state) {
    static const struct {
        size_t place;
        const char *first;
        const char *second;
        const char *heard;
    } cases[] = {
        {0, "a", "b", "E1@2 E2@3 E3@4 E5@7 P@7"},
        {1, "a", NULL, "E1@2 E3@4 E5@7 P@7"},
        {1, "a", "b", "E1@2 E2@3 E3@4 E5@7 P@7"},
        {1, "b", NULL, "E2@3 P@7"},
        {1, "c", "unread", "E4@6 P@7"},
        {1, "unread", NULL, "P@7"},
        {1, NULL, NULL, "P@7"}, /* no live client */
        {3, "b", "a", "E3@4 E5@7 P@7"},
        {4, "a", "c", "E4@6 E5@7 P@7"},
        {6, "a", "c", "E5@7 P@7"},
        {HEAD, "a", "b", "P@7"},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        scene_begin();
        peer_send(&peer, resume_of(POSITION_KNOWN, &scene.places[cases[i].place], cases[i].first,
                                   cases[i].second));
        peer_expect_all(&peer, cases[i].heard);
        assert_int_equal(peer.handler->state, HANDLER_SERVED);
    }
}

/* At the head fan-out takes over; the numbers of clients are those of the RESUME. */
static void test_live_from_there_on(void **state) {
    struct buf resume = {0};
    struct wire_resume_entry entry = {key_of("a"), 12};
    scene_begin();
    wire_resume_begin(&resume, POSITION_KNOWN, &scene.places[4]);
    assert_true(wire_resume_add(&resume, &entry));
    peer_send(&peer, wire_resume_end(&resume, true));
    peer_expect_text(&peer, "E5@7");
    assert_int_equal(topics_find(&rig.broker->journal.topics, key_of("a"))->subscribers, 12);
    rig_publish("a", 6);
    rig_publish("b", 7);
    peer_expect_text(&peer, "E6@8");
    for (int i = 0; i < 12; i++) {
        peer_unsubscribe(&peer, 0, "a", NULL);
    }
    assert_true(LIST_EMPTY(&peer.handler->delivery.interests));
    rig_publish("a", 8);
    peer_expect_text(&peer, "");
    assert_false(peer_is_closed(&peer));
}

/* The handler's first connection: no client can have missed anything, even while Postgres is
 * away. */
static void test_no_position(void **state) {
    static const char *const topics[] = {NULL, "a"};
    for (size_t i = 0; i < length_of(topics); i++) {
        scene_begin();
        rig_deaf();
        peer_send(&peer, resume_of(POSITION_NONE, NULL, topics[i], NULL));
        peer_expect_all(&peer, "P@7");
        assert_int_equal(peer.handler->state, HANDLER_SERVED);
    }
}

/* Events in the log are sent while Postgres is away, and the break when it is back. */
static void test_known_while_deaf(void **state) {
    scene_begin();
    rig_deaf();
    peer_send(&peer, resume_of(POSITION_KNOWN, &scene.places[4], "a", NULL));
    peer_expect_all(&peer, "E5@7 P@7");
    rig_listen();
    peer_expect_text(&peer, "R(gap)@8 X()");
}

/* --- what is not there any more
 * ---------------------------------------------------------------------- */

static void test_unknown_place_is_refused_once(void **state) {
    scene_begin();
    peer_send(&peer, resume_of(POSITION_KNOWN, &of_a_stranger, "a", "b"));
    peer_expect_all(&peer, "R(restart)@7 P@7");
    rig_publish("a", 6);
    peer_expect_all(&peer, "E6@8");
}

static void test_place_beyond_the_count_is_refused(void **state) {
    scene_begin();
    struct position position = scene.places[HEAD];
    position.since++;
    peer_send(&peer, resume_of(POSITION_KNOWN, &position, "a", NULL));
    peer_expect_all(&peer, "R(restart)@7 P@7");
}

/* A broker that has just been started says nothing before it listens. */
static void test_refusal_waits_for_listen(void **state) {
    for (int was_listening = 0; was_listening < 2; was_listening++) {
        rig_begin();
        if (was_listening) {
            rig_listen();
            rig_deaf();
        }
        peer_introduce(&peer);
        peer_send(&peer, resume_of(POSITION_KNOWN, &of_a_stranger, "a", NULL));
        peer_subscribe(&peer, 1, "b", NULL, POSITION_NONE);
        peer_send(&peer, wire_encode_ask_position(2));
        delivery_tell_position(&peer.handler->delivery);
        peer_expect_all(&peer, "");
        assert_int_equal(peer.handler->state, HANDLER_RESUMING);
        rig_listen();
        /* one refresh, though there was a break as well */
        peer_expect_all(&peer,
                        was_listening ? "R(restart)@1 P@1 A@1 S@1" : "R(restart)@0 P@0 A@0 S@0");
        rig_marker();
        peer_expect_text(&peer, was_listening ? "2:P@2" : "2:P@1");
    }
}

/* No client is live, so no refresh is sent. */
static void test_unknown_place_of_nobody(void **state) {
    scene_begin();
    peer_send(&peer, resume_of(POSITION_KNOWN, &of_a_stranger, NULL, NULL));
    peer_expect_all(&peer, "P@7");
}

/* A marker that was heard twice is unknown. */
static void test_marker_forgotten(void **state) {
    scene_begin();
    rig_hear_marker(); /* 8 */
    peer_send(&peer, resume_of(POSITION_KNOWN, &scene.places[6], "a", NULL));
    peer_expect_all(&peer, "R(restart)@8 P@8");
}

static void test_breaks_inside(void **state) {
    scene_begin();
    rig_break();         /* 8 */
    rig_publish("a", 6); /* 9 */
    rig_publish("b", 7);
    rig_break(); /* 11 */
    peer_send(&peer, resume_of(POSITION_KNOWN, &scene.places[4], "a", "c"));
    peer_expect_all(&peer, "E4@6 E5@7 R(gap)@8 E6@9 R(gap)@11 P@11");
}

/* Two entries of each topic are kept: only a has lost something, and its clients are told once. */
static void test_floor_of_one_topic(void **state) {
    static const struct {
        size_t place;
        const char *heard;
    } cases[] = {{0, "R(gap,a)@0 E2@2 E3@3 E4@4 P@4"}, {1, "E2@2 E3@3 E4@4 P@4"}, {3, "E4@4 P@4"}};
    for (size_t i = 0; i < length_of(cases); i++) {
        struct position places[5];
        rig_begin_with(RIG_HISTORY_BYTES, 2);
        rig_listen();
        places[0] = rig_position();
        for (unsigned place = 1; place <= 4; place++) {
            rig_publish(place == 2 ? "b" : "a", place);
            places[place] = rig_position();
        }
        peer_introduce(&peer);
        peer_send(&peer, resume_of(POSITION_KNOWN, &places[cases[i].place], "a", "b"));
        peer_expect_all(&peer, cases[i].heard);
    }
}

/* Dropped events, and a break ('|') after them: a client is told once, unless an event of one of
 * its topics is between. Events have their place as number. */
static void test_floor_before_a_break(void **state) {
    static const struct {
        const char *published;
        const char *second; /* the second topic; the first is a */
        const char *heard;
    } cases[] = {
        {"a|a", NULL, "R(gap)@2 E3@3 P@3"},
        {"ac|ca", NULL, "R(gap)@3 E5@5 P@5"}, /* events of other topics do not count */
        {"a||a", NULL, "R(gap)@2 R(gap)@3 E4@4 P@4"},
        {"aa|", NULL, "R(gap,a)@0 E2@2 R(gap)@3 P@3"},
        {"aaca|", NULL, "R(gap,a)@0 E4@4 R(gap)@5 P@5"},
        {"a|ca", NULL, "R(gap)@2 E4@4 P@4"},
        {"ba|b", "b", "R(gap,b)@0 E2@2 R(gap)@3 E4@4 P@4"}, /* b's refresh before a's event */
        {"ab|ab", "b", "R(gap)@3 E4@4 E5@5 P@5"},
    };
    static const size_t turns[] = {0, 2}; /* all in one turn; one entry a turn */
    for (size_t i = 0; i < 2 * length_of(cases); i++) {
        rig_begin_with(RIG_HISTORY_BYTES, 1);
        if (turns[i % 2] > 0) {
            rig_limit_queues(turns[i % 2]);
        }
        rig_listen();
        struct position start = rig_position();
        for (const char *what = cases[i / 2].published; *what != '\0'; what++) {
            if (*what == '|') {
                rig_break();
            } else {
                rig_publish((char[]){*what, '\0'}, (unsigned)rig.broker->journal.markers.count + 1);
            }
        }
        peer_introduce(&peer);
        peer_send(&peer, resume_of(POSITION_KNOWN, &start, "a", cases[i / 2].second));
        peer_expect_all(&peer, cases[i / 2].heard);
    }
}

/* A dropped break is a floor for all topics. */
static void test_floor_of_a_break(void **state) {
    rig_begin_with(0, 10);
    rig_listen();
    struct position start = rig_position();
    rig_break();
    peer_introduce(&peer);
    peer_send(&peer, resume_of(POSITION_KNOWN, &start, "a", NULL));
    struct wire_frame frame;
    struct wire_refresh refresh;
    assert_true(peer_next_of_all(&peer, &frame) && frame.type == WIRE_REFRESH);
    assert_true(wire_decode_refresh(frame.body, &refresh));
    assert_int_equal(refresh.token, 0);
    assert_true(topic_key_is_none(refresh.topic) || topic_key_equals(refresh.topic, key_of("a")));
    assert_int_equal(refresh.reason, SSE_REFRESH_GAP);
    peer_expect_all(&peer, "P@1");
}

/* --- a queue that is full
 * ------------------------------------------------------------------------------
 */

enum { LONG_EVENTS = 60, LONG_BYTES = 7000 };

/* A handler that resumes from before LONG_EVENTS events on a, and reads nothing yet. */
static void long_begin(void) {
    rig_begin();
    rig_limit_queues(64 * 1024);
    rig_listen();
    rig_marker();
    struct position start = rig_position();
    for (unsigned i = 1; i <= LONG_EVENTS; i++) {
        rig_publish_long("a", i, LONG_BYTES);
    }
    peer_introduce(&peer);
    handler_narrow(peer.handler);
    peer_send(&peer, resume_of(POSITION_KNOWN, &start, "a", NULL));
    assert_int_equal(peer.handler->state, HANDLER_RESUMING);
}

/* Reads all frames, little by little, as text: "E1 E2 ...", other frames by their type. */
static void read_slowly(struct buf *text) {
    size_t half = (size_t)rig.config.handler_queue_bytes / 2;
    struct wire_frame frame;
    for (int i = 0; i < 3000 && rig_handler_count() > 0; i++) {
        assert_true(peer.handler->state != HANDLER_RESUMING ||
                    peer.handler->delivery.outbox.queue.queued_bytes < half + LONG_BYTES + 200);
        assert_true(drain(peer.fd, &peer.input, 700));
        run_turns(rig.loop, 1);
    }
    while (peer_next_of_all(&peer, &frame)) {
        print_frame(&frame, text);
    }
}

static void append_events(struct buf *text, unsigned first, unsigned last) {
    for (; first <= last; first++) {
        buf_printf(text, "%sE%u@%u", text->length > 0 ? " " : "", first, first + 1);
    }
}

static void test_goes_on_as_the_queue_drains(void **state) {
    struct buf wanted = {0};
    struct buf heard = {0};
    long_begin();
    read_slowly(&heard);
    append_events(&wanted, 1, LONG_EVENTS);
    buf_append_text(&wanted, " P@61");
    expect_slice(buf_slice(&heard), buf_slice(&wanted), "all events, and then the position");
    assert_int_equal(peer.handler->state, HANDLER_SERVED);
    buf_release(&wanted);
    buf_release(&heard);
}

/* What happens before the head is reached comes in its place, once, and answers come after it. */
static void test_all_else_waits_for_the_head(void **state) {
    struct buf wanted = {0};
    struct buf heard = {0};
    long_begin();
    peer_subscribe(&peer, 1, "b", NULL, POSITION_NONE);
    peer_send(&peer, wire_encode_ask_position(2));
    rig_publish("a", LONG_EVENTS + 1); /* 62 */
    rig_break();                       /* 63 */
    rig_publish("a", LONG_EVENTS + 3); /* 64 */
    rig_marker();                      /* 65 */
    delivery_tell_position(&peer.handler->delivery);
    assert_int_equal(peer.handler->state, HANDLER_RESUMING);
    read_slowly(&heard);
    append_events(&wanted, 1, LONG_EVENTS + 1);
    buf_append_text(&wanted, " R(gap)@63 E63@64 P@65 A@65 S@65 2:P@65");
    expect_slice(buf_slice(&heard), buf_slice(&wanted), "in order");
    buf_release(&wanted);
    buf_release(&heard);
}

/* The last client of the topic leaves meanwhile: the rest of its events is not sent. */
static void test_unsubscribed_meanwhile(void **state) {
    struct buf heard = {0};
    long_begin();
    peer_unsubscribe(&peer, 0, "a", NULL);
    read_slowly(&heard);
    assert_int_equal(peer.handler->state, HANDLER_SERVED);
    assert_null(memmem(heard.bytes, heard.length, "E60@61", 6));
    assert_memory_equal(heard.bytes + heard.length - 5, " P@61", 5);
    buf_release(&heard);
}

static void test_eviction_overtakes_it(void **state) {
    struct buf heard = {0};
    long_begin();
    rig.broker->journal.history.ring_capacity = 1;
    rig.broker->journal.history.bytes_max = 3 * (LONG_BYTES + 300);
    rig_publish_long("a", LONG_EVENTS + 1, LONG_BYTES);
    assert_true(rig.broker->journal.history.count <= 3);
    read_slowly(&heard);
    const char *refresh = memmem(heard.bytes, heard.length, "R(gap,a)", 8);
    assert_non_null(refresh); /* once, in its place */
    assert_null(memmem(refresh + 1, (size_t)(heard.bytes + heard.length - refresh) - 1, "R(", 2));
    assert_non_null(
        memmem(refresh, (size_t)(heard.bytes + heard.length - refresh), "E61@62 P@62", 11));
    buf_release(&heard);
}

/* A queue limit so small that the queue takes one entry a turn. */
enum { ONE_A_TURN = 2 };

/* A drop is told once, even if the resume needs many turns to come to it. */
static void test_floor_is_told_once_in_many_turns(void **state) {
    rig_begin_with(RIG_HISTORY_BYTES, 2);
    rig_limit_queues(ONE_A_TURN);
    rig_listen();
    struct position start = rig_position();
    for (const char *topic = "bbaaa"; *topic != '\0'; topic++) {
        rig_publish((char[]){*topic, '\0'}, (unsigned)rig.broker->journal.markers.count + 1);
    }
    peer_introduce(&peer);
    peer_send(&peer, resume_of(POSITION_KNOWN, &start, "a", "b"));
    peer_expect_all(&peer, "R(gap,a)@0 E1@1 E2@2 E4@4 E5@5 P@5");
}

/* Events are dropped when the resume has passed a break: positions do not go back before the
 * break. */
static void test_eviction_behind_a_break(void **state) {
    rig_begin();
    rig_limit_queues(ONE_A_TURN);
    rig_listen();
    struct position start = rig_position();
    rig_publish("a", 1);
    rig_break();
    for (unsigned place = 3; place <= 9; place++) {
        rig_publish("a", place);
    }
    peer_introduce(&peer);
    peer_send(&peer, resume_of(POSITION_KNOWN, &start, "a", NULL));
    for (int i = 0; i < 10 && peer.handler->resume.walk.cursor.place < 2; i++) {
        run_turns(rig.loop, 1);
    }
    assert_int_equal(peer.handler->resume.walk.cursor.place, 2);
    rig.broker->journal.history.bytes_max = 0;
    rig_publish("elsewhere", 10);
    peer_expect_all(&peer, "E1@1 R(gap)@2 R(gap,a)@2 P@10");
}

/* Entries of other topics take turns, too: other handlers are served in between. */
static void test_passes_others_entries_turn_by_turn(void **state) {
    enum { A_TURN = 8192, OTHERS = 3 * A_TURN + 10 };
    struct peer other;
    rig_begin_with(INT64_C(1) << 30, OTHERS + 10);
    rig_listen();
    struct position start = rig_position();
    for (unsigned i = 1; i <= OTHERS; i++) {
        rig_publish("others", 1);
    }
    peer_connect(&other);
    peer_subscribe(&other, 2, "b", NULL, POSITION_NONE);
    peer_expect_subscribed(&other, 2);
    peer_introduce(&peer);
    struct payload *resume = resume_of(POSITION_KNOWN, &start, "a", NULL);
    send_all(peer.fd, (struct slice){resume->bytes, resume->length});
    payload_unref(&resume);
    uint64_t before = 0;
    unsigned stops = 0;
    for (int turn = 0; turn < 10000 && peer.handler->state != HANDLER_SERVED; turn++) {
        run_turns(rig.loop, 1);
        if (peer.handler->state == HANDLER_RESUMING &&
            peer.handler->resume.walk.cursor.place > before) {
            assert_true(peer.handler->resume.walk.cursor.place - before <=
                        2 * A_TURN); /* run_turns may make two */
            before = peer.handler->resume.walk.cursor.place;
            stops++;
            rig_publish("b", stops);
        }
    }
    assert_true(stops >= 2);
    assert_int_equal(peer.handler->state, HANDLER_SERVED);
    (void)peer_expect_event(&other, "b", "1");
    struct wire_frame frame;
    assert_true(peer_next_of_all(&peer, &frame) && frame.type == WIRE_POSITION);
    assert_false(peer_next_of_all(&peer, &frame));
    peer_close(&other);
}

static void test_handler_gone_meanwhile(void **state) {
    long_begin();
    peer_close(&peer);
    assert_int_equal(rig_handler_count(), 0);
    rig_publish("a", 1);
}

/* More topics with refreshes than the queue has room for. If they overflowed the queue, the handler
 * would reconnect for ever. */
static void test_many_floors_fit_the_queue(void **state) {
    enum { TOPICS = 2500 };
    struct buf resume = {0};
    struct wire_frame frame;
    char name[64];
    bool is_at_head = false;
    rig_begin_with(0, 10);
    rig_limit_queues(64 * 1024);
    rig_listen();
    struct position start = rig_position();
    rig_break(); /* it leaves the log at once */
    peer_introduce(&peer);
    handler_narrow(peer.handler);
    for (unsigned part = 0; part < 5; part++) {
        wire_resume_begin(&resume, POSITION_KNOWN, &start);
        for (unsigned i = 0; i < TOPICS / 5; i++) {
            snprintf(name, sizeof name, "a-topic-of-a-usual-name-%u", part * TOPICS / 5 + i);
            struct wire_resume_entry entry = {key_of(name), 1};
            assert_true(wire_resume_add(&resume, &entry));
        }
        peer_send(&peer, wire_resume_end(&resume, part == 4));
    }
    while (peer_next_of_all(&peer, &frame)) {
        is_at_head = is_at_head || frame.type == WIRE_POSITION;
    }
    assert_true(is_at_head);
    assert_false(peer_is_closed(&peer));
}

/* --- RESUME itself
 * ------------------------------------------------------------------------------------ */

static void test_in_several_frames(void **state) {
    struct buf resume = {0};
    struct wire_resume_entry entries[] = {{key_of("a"), 2}, {key_of("b"), 1}, {key_of("a"), 3}};
    scene_begin();
    for (size_t i = 0; i < length_of(entries); i++) {
        peer_expect_all(&peer, "");
        assert_int_equal(peer.handler->state, HANDLER_INTRODUCED);
        wire_resume_begin(&resume, POSITION_KNOWN, &scene.places[3]);
        assert_true(wire_resume_add(&resume, &entries[i]));
        peer_send(&peer, wire_resume_end(&resume, i == length_of(entries) - 1));
    }
    peer_expect_all(&peer, "E3@4 E5@7 P@7");
    assert_int_equal(topics_find(&rig.broker->journal.topics, key_of("a"))->subscribers, 5);
}

/* The last part may be empty. */
static void test_empty_last_frame(void **state) {
    struct buf resume = {0};
    struct wire_resume_entry entry = {key_of("a"), 1};
    scene_begin();
    wire_resume_begin(&resume, POSITION_KNOWN, &scene.places[6]);
    assert_true(wire_resume_add(&resume, &entry));
    peer_send(&peer, wire_resume_end(&resume, false));
    peer_send(&peer, resume_of(POSITION_KNOWN, &scene.places[6], NULL, NULL));
    peer_expect_all(&peer, "E5@7 P@7");
}

/* Absurd numbers of clients: all counts must be 0 again when the handler has gone. */
static void test_clients_beyond_all_counts(void **state) {
    static const uint32_t counts[][2] = {
        {UINT32_MAX, UINT32_MAX}, {1u << 31, 1u << 31}, {UINT32_MAX, 1}};
    for (size_t i = 0; i < length_of(counts); i++) {
        struct buf resume = {0};
        scene_begin();
        wire_resume_begin(&resume, POSITION_NONE, &(struct position){0});
        for (size_t e = 0; e < 2; e++) {
            struct wire_resume_entry entry = {key_of("a"), counts[i][e]};
            assert_true(wire_resume_add(&resume, &entry));
        }
        peer_send(&peer, wire_resume_end(&resume, true));
        peer_close(&peer);
        assert_int_equal(topics_find(&rig.broker->journal.topics, key_of("a"))->subscribers, 0);
    }
}

RUN_TESTS(TEST(test_from_every_place), TEST(test_live_from_there_on), TEST(test_no_position),
          TEST(test_known_while_deaf), TEST(test_unknown_place_is_refused_once),
          TEST(test_place_beyond_the_count_is_refused), TEST(test_refusal_waits_for_listen),
          TEST(test_unknown_place_of_nobody), TEST(test_marker_forgotten), TEST(test_breaks_inside),
          TEST(test_floor_of_one_topic), TEST(test_floor_before_a_break),
          TEST(test_passes_others_entries_turn_by_turn), TEST(test_floor_of_a_break),
          TEST(test_goes_on_as_the_queue_drains), TEST(test_all_else_waits_for_the_head),
          TEST(test_unsubscribed_meanwhile), TEST(test_eviction_overtakes_it),
          TEST(test_floor_is_told_once_in_many_turns), TEST(test_eviction_behind_a_break),
          TEST(test_handler_gone_meanwhile), TEST(test_many_floors_fit_the_queue),
          TEST(test_in_several_frames), TEST(test_empty_last_frame),
          TEST(test_clients_beyond_all_counts))
