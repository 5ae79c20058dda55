/* A handler that comes back for its live clients: where it goes on, and what waits until it is at
 * the head. What a peer hears is written as text, see broker_rig.h. */
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

static void scene_begin(struct scene *scene) {
    static const char *const topics[] = {"", NULL, "a", "b", "a", NULL, "c", "a"};
    unsigned number = 0;
    rig_begin(&scene->rig);
    rig_listen(&scene->rig);
    scene->places[0] = rig_position(&scene->rig);
    for (size_t place = 1; place <= HEAD; place++) {
        if (topics[place] == NULL) {
            rig_marker(&scene->rig);
        } else {
            rig_publish(&scene->rig, topics[place], ++number);
        }
        scene->places[place] = rig_position(&scene->rig);
    }
    scene->handler = peer_introduce(&scene->rig, &scene->peer);
}

static void scene_end(struct scene *scene) {
    peer_close(&scene->peer);
    rig_end(&scene->rig);
}

static const struct position of_a_stranger = {0, "strangersname", 3};

/* --- where it goes on
 * -------------------------------------------------------------------------------- */

/* As if the connection had not been lost: events as EVENT frames, and then the position. */
static void test_from_every_place(void **state) {
    (void)state;
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
        {1, NULL, NULL, "P@7"}, /* nobody is live */
        {3, "b", "a", "E3@4 E5@7 P@7"},
        {4, "a", "c", "E4@6 E5@7 P@7"},
        {6, "a", "c", "E5@7 P@7"},
        {HEAD, "a", "b", "P@7"},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        struct scene scene;
        scene_begin(&scene);
        peer_send(&scene.peer, resume_of(POSITION_KNOWN, &scene.places[cases[i].place],
                                         cases[i].first, cases[i].second));
        peer_expect_all(&scene.peer, cases[i].heard);
        assert_int_equal(scene.handler->state, HANDLER_SERVED);
        scene_end(&scene);
    }
}

/* From there on fan-out serves them; their counts are those that the handler told. */
static void test_live_from_there_on(void **state) {
    (void)state;
    struct scene scene;
    struct buf resume = {0};
    struct wire_resume_entry entry = {LITERAL("a"), 12};
    scene_begin(&scene);
    wire_resume_begin(&resume, POSITION_KNOWN, &scene.places[4]);
    assert_true(wire_resume_add(&resume, &entry));
    peer_send(&scene.peer, wire_resume_end(&resume, true));
    peer_expect_text(&scene.peer, "E5@7");
    assert_int_equal(topics_find(&scene.rig.broker->topics, LITERAL("a"))->subscribers, 12);
    rig_publish(&scene.rig, "a", 6);
    rig_publish(&scene.rig, "b", 7);
    peer_expect_text(&scene.peer, "E6@8");
    for (int i = 0; i < 12; i++) {
        peer_unsubscribe(&scene.peer, 0, "a", NULL);
    }
    assert_true(LIST_EMPTY(&scene.handler->subscriptions));
    rig_publish(&scene.rig, "a", 8);
    peer_expect_text(&scene.peer, "");
    assert_false(peer_is_closed(&scene.peer));
    scene_end(&scene);
}

/* Its first connection: nobody can have missed anything, even while Postgres is away. */
static void test_no_position(void **state) {
    (void)state;
    static const char *const topics[] = {NULL, "a"};
    for (size_t i = 0; i < length_of(topics); i++) {
        struct scene scene;
        scene_begin(&scene);
        rig_deaf(&scene.rig);
        peer_send(&scene.peer, resume_of(POSITION_NONE, NULL, topics[i], NULL));
        peer_expect_all(&scene.peer, "P@7");
        assert_int_equal(scene.handler->state, HANDLER_SERVED);
        scene_end(&scene);
    }
}

/* What is in the log is sent while Postgres is away, and the break when it is back. */
static void test_known_while_deaf(void **state) {
    (void)state;
    struct scene scene;
    scene_begin(&scene);
    rig_deaf(&scene.rig);
    peer_send(&scene.peer, resume_of(POSITION_KNOWN, &scene.places[4], "a", NULL));
    peer_expect_all(&scene.peer, "E5@7 P@7");
    rig_listen(&scene.rig);
    peer_expect_text(&scene.peer, "R(gap)@8 X()");
    scene_end(&scene);
}

/* --- what is not there any more
 * ---------------------------------------------------------------------- */

static void test_unknown_place_is_refused_once(void **state) {
    (void)state;
    struct scene scene;
    scene_begin(&scene);
    peer_send(&scene.peer, resume_of(POSITION_KNOWN, &of_a_stranger, "a", "b"));
    peer_expect_all(&scene.peer, "R(restart)@7 P@7");
    rig_publish(&scene.rig, "a", 6);
    peer_expect_all(&scene.peer, "E6@8");
    scene_end(&scene);
}

static void test_place_beyond_the_count_is_refused(void **state) {
    (void)state;
    struct scene scene;
    scene_begin(&scene);
    struct position position = scene.places[HEAD];
    position.since++;
    peer_send(&scene.peer, resume_of(POSITION_KNOWN, &position, "a", NULL));
    peer_expect_all(&scene.peer, "R(restart)@7 P@7");
    scene_end(&scene);
}

/* A broker that has just been started: nothing is said before it listens. */
static void test_refusal_waits_for_listen(void **state) {
    (void)state;
    for (int was_listening = 0; was_listening < 2; was_listening++) {
        struct rig rig;
        struct peer peer;
        rig_begin(&rig);
        if (was_listening) {
            rig_listen(&rig);
            rig_deaf(&rig);
        }
        struct handler *handler = peer_introduce(&rig, &peer);
        peer_send(&peer, resume_of(POSITION_KNOWN, &of_a_stranger, "a", NULL));
        peer_subscribe(&peer, 1, "b", NULL, POSITION_NONE);
        peer_send(&peer, wire_encode_ask(WIRE_ASK_POSITION, 2));
        handler_tell_position(handler);
        peer_expect_all(&peer, "");
        assert_int_equal(handler->state, HANDLER_RESUMING);
        rig_listen(&rig);
        /* one refresh, though there was a break as well */
        peer_expect_all(&peer,
                        was_listening ? "R(restart)@1 P@1 A@1 S@1" : "R(restart)@0 P@0 A@0 S@0");
        rig_marker(&rig);
        peer_expect_text(&peer, was_listening ? "2:P@2" : "2:P@1");
        peer_close(&peer);
        rig_end(&rig);
    }
}

/* Nobody is live: there is nobody to be told. */
static void test_unknown_place_of_nobody(void **state) {
    (void)state;
    struct scene scene;
    scene_begin(&scene);
    peer_send(&scene.peer, resume_of(POSITION_KNOWN, &of_a_stranger, NULL, NULL));
    peer_expect_all(&scene.peer, "P@7");
    scene_end(&scene);
}

/* A name heard twice is nobody's. */
static void test_marker_forgotten(void **state) {
    (void)state;
    struct scene scene;
    char payload[DRAWN_MARKER_BYTES];
    scene_begin(&scene);
    snprintf(payload, sizeof payload, "{\"marker\":\"%s\",\"set\":\"%s\",\"pid\":5}",
             scene.places[4].marker, scene.rig.broker->markers.set);
    broker_receive(scene.rig.broker, MARKER_CHANNEL, slice_of(payload), 5); /* 8 */
    peer_send(&scene.peer, resume_of(POSITION_KNOWN, &scene.places[4], "a", NULL));
    peer_expect_all(&scene.peer, "R(restart)@8 P@8");
    scene_end(&scene);
}

static void test_breaks_inside(void **state) {
    (void)state;
    struct scene scene;
    scene_begin(&scene);
    rig_break(&scene.rig);           /* 8 */
    rig_publish(&scene.rig, "a", 6); /* 9 */
    rig_publish(&scene.rig, "b", 7);
    rig_break(&scene.rig); /* 11 */
    peer_send(&scene.peer, resume_of(POSITION_KNOWN, &scene.places[4], "a", "c"));
    peer_expect_all(&scene.peer, "E4@6 E5@7 R(gap)@8 E6@9 R(gap)@11 P@11");
    scene_end(&scene);
}

/* Two entries of a topic are kept: of a, that has lost something, its clients are told; once. */
static void test_floor_of_one_topic(void **state) {
    (void)state;
    static const struct {
        size_t place;
        const char *heard;
    } cases[] = {{0, "R(gap,a)@0 E2@2 E3@3 E4@4 P@4"}, {1, "E2@2 E3@3 E4@4 P@4"}, {3, "E4@4 P@4"}};
    for (size_t i = 0; i < length_of(cases); i++) {
        struct rig rig;
        struct peer peer;
        struct position places[5];
        rig_begin_with(&rig, RIG_HISTORY_BYTES, 2);
        rig_listen(&rig);
        places[0] = rig_position(&rig);
        for (unsigned place = 1; place <= 4; place++) {
            rig_publish(&rig, place == 2 ? "b" : "a", place);
            places[place] = rig_position(&rig);
        }
        (void)peer_introduce(&rig, &peer);
        peer_send(&peer, resume_of(POSITION_KNOWN, &places[cases[i].place], "a", "b"));
        peer_expect_all(&peer, cases[i].heard);
        peer_close(&peer);
        rig_end(&rig);
    }
}

/* What was dropped, and a break ('|') behind it: a client is told once, unless an event of one of
 * its topics stands between. Events have their place as number. */
static void test_floor_before_a_break(void **state) {
    (void)state;
    static const struct {
        const char *published;
        const char *second; /* of its topics; the first is a */
        const char *heard;
    } cases[] = {
        {"a|a", NULL, "R(gap)@2 E3@3 P@3"},
        {"ac|ca", NULL, "R(gap)@3 E5@5 P@5"}, /* others' events are not between */
        {"a||a", NULL, "R(gap)@2 R(gap)@3 E4@4 P@4"},
        {"aa|", NULL, "R(gap,a)@0 E2@2 R(gap)@3 P@3"},
        {"aaca|", NULL, "R(gap,a)@0 E4@4 R(gap)@5 P@5"},
        {"a|ca", NULL, "R(gap)@2 E4@4 P@4"},
        {"ba|b", "b", "R(gap,b)@0 E2@2 R(gap)@3 E4@4 P@4"}, /* a's would overtake b's news */
        {"ab|ab", "b", "R(gap)@3 E4@4 E5@5 P@5"},
    };
    static const size_t turns[] = {0, 2}; /* all in one turn; one entry a turn */
    for (size_t i = 0; i < 2 * length_of(cases); i++) {
        struct rig rig;
        struct peer peer;
        rig_begin_with(&rig, RIG_HISTORY_BYTES, 1);
        if (turns[i % 2] > 0) {
            rig.config.handler_queue_bytes = (int64_t)turns[i % 2];
        }
        rig_listen(&rig);
        struct position start = rig_position(&rig);
        for (const char *what = cases[i / 2].published; *what != '\0'; what++) {
            if (*what == '|') {
                rig_break(&rig);
            } else {
                rig_publish(&rig, (char[]){*what, '\0'}, (unsigned)rig.broker->markers.count + 1);
            }
        }
        (void)peer_introduce(&rig, &peer);
        peer_send(&peer, resume_of(POSITION_KNOWN, &start, "a", cases[i / 2].second));
        peer_expect_all(&peer, cases[i / 2].heard);
        peer_close(&peer);
        rig_end(&rig);
    }
}

/* A break that has left the log is about all topics. */
static void test_floor_of_a_break(void **state) {
    (void)state;
    struct rig rig;
    struct peer peer;
    rig_begin_with(&rig, 0, 10);
    rig_listen(&rig);
    struct position start = rig_position(&rig);
    rig_break(&rig);
    (void)peer_introduce(&rig, &peer);
    peer_send(&peer, resume_of(POSITION_KNOWN, &start, "a", NULL));
    struct wire_frame frame;
    struct wire_refresh refresh;
    assert_true(peer_next_of_all(&peer, &frame) && frame.type == WIRE_REFRESH);
    assert_true(wire_decode_refresh(frame.body, &refresh));
    assert_int_equal(refresh.token, 0);
    assert_true(refresh.topic.length == 0 || slice_is(refresh.topic, "a"));
    assert_int_equal(refresh.reason, SSE_REFRESH_GAP);
    peer_expect_all(&peer, "P@1");
    peer_close(&peer);
    rig_end(&rig);
}

/* --- a queue that is full
 * ------------------------------------------------------------------------------
 */

enum { LONG_EVENTS = 60, LONG_BYTES = 7000 };

/* A handler that comes back from before LONG_EVENTS events on a, and reads nothing yet. */
static struct handler *long_begin(struct rig *rig, struct peer *peer) {
    rig_begin(rig);
    rig->config.handler_queue_bytes = 64 * 1024;
    rig_listen(rig);
    rig_marker(rig);
    struct position start = rig_position(rig);
    for (unsigned i = 1; i <= LONG_EVENTS; i++) {
        rig_publish_long(rig, "a", i, LONG_BYTES);
    }
    struct handler *handler = peer_introduce(rig, peer);
    handler_narrow(handler);
    peer_send(peer, resume_of(POSITION_KNOWN, &start, "a", NULL));
    assert_int_equal(handler->state, HANDLER_RESUMING);
    return handler;
}

/* All that comes, little by little, as text: "E1 E2 ...", other frames by their type. */
static void read_slowly(struct peer *peer, const struct handler *handler, struct buf *text) {
    size_t half = (size_t)peer->rig->config.handler_queue_bytes / 2;
    struct wire_frame frame;
    for (int i = 0; i < 3000 && peer->rig->broker->handler_count > 0; i++) {
        assert_true(handler->state != HANDLER_RESUMING ||
                    handler->output.queued_bytes < half + LONG_BYTES + 200);
        assert_true(drain(peer->fd, &peer->input, 700));
        run_turns(peer->rig->loop, 1);
    }
    while (peer_next_of_all(peer, &frame)) {
        print_frame(peer->rig, &frame, text);
    }
}

static void append_events(struct buf *text, unsigned first, unsigned last) {
    for (; first <= last; first++) {
        buf_printf(text, "%sE%u@%u", text->length > 0 ? " " : "", first, first + 1);
    }
}

static void test_goes_on_as_the_queue_drains(void **state) {
    (void)state;
    struct rig rig;
    struct peer peer;
    struct buf wanted = {0};
    struct buf heard = {0};
    struct handler *handler = long_begin(&rig, &peer);
    read_slowly(&peer, handler, &heard);
    append_events(&wanted, 1, LONG_EVENTS);
    buf_append_text(&wanted, " P@61");
    expect_slice(buf_slice(&heard), buf_slice(&wanted), "all events, and then the position");
    assert_int_equal(handler->state, HANDLER_SERVED);
    buf_release(&wanted);
    buf_release(&heard);
    peer_close(&peer);
    rig_end(&rig);
}

/* Whatever happens before the head is reached comes in its place, once, and answers come behind. */
static void test_all_else_waits_for_the_head(void **state) {
    (void)state;
    struct rig rig;
    struct peer peer;
    struct buf wanted = {0};
    struct buf heard = {0};
    struct handler *handler = long_begin(&rig, &peer);
    peer_subscribe(&peer, 1, "b", NULL, POSITION_NONE);
    peer_send(&peer, wire_encode_ask(WIRE_ASK_POSITION, 2));
    rig_publish(&rig, "a", LONG_EVENTS + 1); /* 62 */
    rig_break(&rig);                         /* 63 */
    rig_publish(&rig, "a", LONG_EVENTS + 3); /* 64 */
    rig_marker(&rig);                        /* 65 */
    handler_tell_position(handler);
    assert_int_equal(handler->state, HANDLER_RESUMING);
    read_slowly(&peer, handler, &heard);
    append_events(&wanted, 1, LONG_EVENTS + 1);
    buf_append_text(&wanted, " R(gap)@63 E63@64 P@65 A@65 S@65 2:P@65");
    expect_slice(buf_slice(&heard), buf_slice(&wanted), "in order");
    buf_release(&wanted);
    buf_release(&heard);
    peer_close(&peer);
    rig_end(&rig);
}

/* Its last client of the topic leaves meanwhile: the rest is nobody's. */
static void test_unsubscribed_meanwhile(void **state) {
    (void)state;
    struct rig rig;
    struct peer peer;
    struct buf heard = {0};
    struct handler *handler = long_begin(&rig, &peer);
    peer_unsubscribe(&peer, 0, "a", NULL);
    read_slowly(&peer, handler, &heard);
    assert_int_equal(handler->state, HANDLER_SERVED);
    assert_null(memmem(heard.bytes, heard.length, "E60@61", 6));
    assert_memory_equal(heard.bytes + heard.length - 5, " P@61", 5);
    buf_release(&heard);
    peer_close(&peer);
    rig_end(&rig);
}

static void test_eviction_overtakes_it(void **state) {
    (void)state;
    struct rig rig;
    struct peer peer;
    struct buf heard = {0};
    struct handler *handler = long_begin(&rig, &peer);
    rig.broker->history.ring_capacity = 1;
    rig.broker->history.bytes_max = 3 * (LONG_BYTES + 300);
    rig_publish_long(&rig, "a", LONG_EVENTS + 1, LONG_BYTES);
    assert_true(rig.broker->history.count <= 3);
    read_slowly(&peer, handler, &heard);
    const char *refresh = memmem(heard.bytes, heard.length, "R(gap,a)", 8);
    assert_non_null(refresh); /* once, where it stood */
    assert_null(memmem(refresh + 1, (size_t)(heard.bytes + heard.length - refresh) - 1, "R(", 2));
    assert_non_null(
        memmem(refresh, (size_t)(heard.bytes + heard.length - refresh), "E61@62 P@62", 11));
    buf_release(&heard);
    peer_close(&peer);
    rig_end(&rig);
}

/* A queue so small that it takes one entry a turn. */
enum { ONE_A_TURN = 2 };

/* Once, however many turns it takes to come to where it was dropped. */
static void test_floor_is_told_once_in_many_turns(void **state) {
    (void)state;
    struct rig rig;
    struct peer peer;
    rig_begin_with(&rig, RIG_HISTORY_BYTES, 2);
    rig.config.handler_queue_bytes = ONE_A_TURN;
    rig_listen(&rig);
    struct position start = rig_position(&rig);
    for (const char *topic = "bbaaa"; *topic != '\0'; topic++) {
        rig_publish(&rig, (char[]){*topic, '\0'}, (unsigned)rig.broker->markers.count + 1);
    }
    (void)peer_introduce(&rig, &peer);
    peer_send(&peer, resume_of(POSITION_KNOWN, &start, "a", "b"));
    peer_expect_all(&peer, "R(gap,a)@0 E1@1 E2@2 E4@4 E5@5 P@5");
    peer_close(&peer);
    rig_end(&rig);
}

/* It has passed a break when it is overtaken: it never goes back before it. */
static void test_eviction_behind_a_break(void **state) {
    (void)state;
    struct rig rig;
    struct peer peer;
    rig_begin(&rig);
    rig.config.handler_queue_bytes = ONE_A_TURN;
    rig_listen(&rig);
    struct position start = rig_position(&rig);
    rig_publish(&rig, "a", 1);
    rig_break(&rig);
    for (unsigned place = 3; place <= 9; place++) {
        rig_publish(&rig, "a", place);
    }
    struct handler *handler = peer_introduce(&rig, &peer);
    peer_send(&peer, resume_of(POSITION_KNOWN, &start, "a", NULL));
    for (int i = 0; i < 10 && handler->resume.cursor.place < 2; i++) {
        run_turns(rig.loop, 1);
    }
    assert_int_equal(handler->resume.cursor.place, 2);
    rig.broker->history.bytes_max = 0;
    rig_publish(&rig, "elsewhere", 10);
    peer_expect_all(&peer, "E1@1 R(gap)@2 R(gap,a)@2 P@10");
    peer_close(&peer);
    rig_end(&rig);
}

/* What is not for it takes its turns, too: others are served in between. */
static void test_passes_others_entries_turn_by_turn(void **state) {
    (void)state;
    enum { A_TURN = 65536, OTHERS = 3 * A_TURN + 10 };
    struct rig rig;
    struct peer peer;
    struct peer other;
    rig_begin_with(&rig, INT64_C(1) << 30, OTHERS + 10);
    rig_listen(&rig);
    struct position start = rig_position(&rig);
    for (unsigned i = 1; i <= OTHERS; i++) {
        rig_publish(&rig, "others", 1);
    }
    (void)peer_connect(&rig, &other);
    peer_subscribe(&other, 2, "b", NULL, POSITION_NONE);
    peer_expect_subscribed(&other, 2);
    struct handler *handler = peer_introduce(&rig, &peer);
    struct payload *resume = resume_of(POSITION_KNOWN, &start, "a", NULL);
    send_all(peer.fd, (struct slice){resume->bytes, resume->length});
    payload_unref(&resume);
    uint64_t before = 0;
    unsigned stops = 0;
    for (int turn = 0; turn < 10000 && handler->state != HANDLER_SERVED; turn++) {
        run_turns(rig.loop, 1);
        if (handler->state == HANDLER_RESUMING && handler->resume.cursor.place > before) {
            assert_true(handler->resume.cursor.place - before <=
                        2 * A_TURN); /* run_turns may make two */
            before = handler->resume.cursor.place;
            stops++;
            rig_publish(&rig, "b", stops);
        }
    }
    assert_true(stops >= 2);
    assert_int_equal(handler->state, HANDLER_SERVED);
    (void)peer_expect_event(&other, "b", "1");
    struct wire_frame frame;
    assert_true(peer_next_of_all(&peer, &frame) && frame.type == WIRE_POSITION);
    assert_false(peer_next_of_all(&peer, &frame));
    peer_close(&other);
    peer_close(&peer);
    rig_end(&rig);
}

static void test_handler_gone_meanwhile(void **state) {
    (void)state;
    struct rig rig;
    struct peer peer;
    (void)long_begin(&rig, &peer);
    peer_close(&peer);
    assert_int_equal(rig.broker->handler_count, 0);
    rig_publish(&rig, "a", 1);
    rig_end(&rig);
}

/* Clients on more topics than its queue has room for refreshes: it would come back for ever. */
static void test_many_floors_fit_the_queue(void **state) {
    (void)state;
    enum { TOPICS = 2500 };
    struct rig rig;
    struct peer peer;
    struct buf resume = {0};
    struct wire_frame frame;
    char name[64];
    bool is_at_head = false;
    rig_begin_with(&rig, 0, 10);
    rig.config.handler_queue_bytes = 64 * 1024;
    rig_listen(&rig);
    struct position start = rig_position(&rig);
    rig_break(&rig); /* it leaves the log at once */
    struct handler *handler = peer_introduce(&rig, &peer);
    handler_narrow(handler);
    for (unsigned part = 0; part < 5; part++) {
        wire_resume_begin(&resume, POSITION_KNOWN, &start);
        for (unsigned i = 0; i < TOPICS / 5; i++) {
            snprintf(name, sizeof name, "a-topic-of-a-usual-name-%u", part * TOPICS / 5 + i);
            struct wire_resume_entry entry = {slice_of(name), 1};
            assert_true(wire_resume_add(&resume, &entry));
        }
        peer_send(&peer, wire_resume_end(&resume, part == 4));
    }
    while (peer_next_of_all(&peer, &frame)) {
        is_at_head = is_at_head || frame.type == WIRE_POSITION;
    }
    assert_true(is_at_head);
    assert_false(peer_is_closed(&peer));
    peer_close(&peer);
    rig_end(&rig);
}

/* --- RESUME itself
 * ------------------------------------------------------------------------------------ */

static void test_in_several_frames(void **state) {
    (void)state;
    struct scene scene;
    struct buf resume = {0};
    struct wire_resume_entry entries[] = {{LITERAL("a"), 2}, {LITERAL("b"), 1}, {LITERAL("a"), 3}};
    scene_begin(&scene);
    for (size_t i = 0; i < length_of(entries); i++) {
        peer_expect_all(&scene.peer, "");
        assert_int_equal(scene.handler->state, HANDLER_INTRODUCED);
        wire_resume_begin(&resume, POSITION_KNOWN, &scene.places[3]);
        assert_true(wire_resume_add(&resume, &entries[i]));
        peer_send(&scene.peer, wire_resume_end(&resume, i == length_of(entries) - 1));
    }
    peer_expect_all(&scene.peer, "E3@4 E5@7 P@7");
    assert_int_equal(topics_find(&scene.rig.broker->topics, LITERAL("a"))->subscribers, 5);
    scene_end(&scene);
}

/* The last part may be empty. */
static void test_empty_last_frame(void **state) {
    (void)state;
    struct scene scene;
    struct buf resume = {0};
    struct wire_resume_entry entry = {LITERAL("a"), 1};
    scene_begin(&scene);
    wire_resume_begin(&resume, POSITION_KNOWN, &scene.places[6]);
    assert_true(wire_resume_add(&resume, &entry));
    peer_send(&scene.peer, wire_resume_end(&resume, false));
    peer_send(&scene.peer, resume_of(POSITION_KNOWN, &scene.places[6], NULL, NULL));
    peer_expect_all(&scene.peer, "E5@7 P@7");
    scene_end(&scene);
}

/* More clients than there can be: what is counted must come to nothing when the handler goes. */
static void test_clients_beyond_all_counts(void **state) {
    (void)state;
    static const uint32_t counts[][2] = {
        {UINT32_MAX, UINT32_MAX}, {1u << 31, 1u << 31}, {UINT32_MAX, 1}};
    for (size_t i = 0; i < length_of(counts); i++) {
        struct scene scene;
        struct buf resume = {0};
        scene_begin(&scene);
        wire_resume_begin(&resume, POSITION_NONE, &(struct position){0});
        for (size_t e = 0; e < 2; e++) {
            struct wire_resume_entry entry = {LITERAL("a"), counts[i][e]};
            assert_true(wire_resume_add(&resume, &entry));
        }
        peer_send(&scene.peer, wire_resume_end(&resume, true));
        peer_close(&scene.peer);
        assert_int_equal(topics_find(&scene.rig.broker->topics, LITERAL("a"))->subscribers, 0);
        rig_end(&scene.rig);
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
