/* Subscriptions that name patterns: what they are replayed, what a handler resumes with, and what
 * they are told that the log or the table has lost. What a peer hears is written as text, see
 * broker_rig.h. An event's number is its place, or its id. */
#include "one_slot.h"
#include "table_rig.h"

static void publish(const char *topic) {
    rig_publish(topic, (unsigned)rig.broker->journal.markers.count + 1);
}

/* 1 marker   2 o.a   3 o.b   4 x   5 user:o.a   6 o   7 marker   8 o.a */
enum { HEAD = 8 };

static struct position places[HEAD + 1];

static void scene_begin(void) {
    static const char *const topics[] = {"", NULL, "o.a", "o.b", "x", "user:o.a", "o", NULL, "o.a"};
    rig_begin();
    rig_listen();
    places[0] = rig_position();
    for (size_t place = 1; place <= HEAD; place++) {
        if (topics[place] == NULL) {
            rig_marker();
        } else {
            publish(topics[place]);
        }
        places[place] = rig_position();
    }
}

/* --- from a position to the head
 * ------------------------------------------------------------------ */

static const struct {
    size_t place;
    const char *first;
    const char *second;
    const char *numbers; /* what comes after the place */
} cases[] = {
    {0, "o.*", NULL, "2 3 8"},
    {1, "o*", NULL, "2 3 6 8"},
    {2, "*", NULL, "3 4 6 8"},
    {1, "o.a", "o.*", "2 3 8"},
    {1, "o.*", "x", "2 3 4 8"},
    {1, "user:*", NULL, ""},
    {1, "user:o.a", "*", "2 3 4 5 6 8"},
    {1, "o.a*", "o*", "2 3 6 8"},
    {4, "y*", NULL, ""},
    {HEAD, "*", NULL, ""},
    {6, "*", NULL, "8"},
};

/* "2 3": "e2@2 e3@3 " */
static void print_events(struct buf *text, char kind, const char *numbers) {
    for (const char *at = numbers; *at != '\0'; at += *at == ' ' ? 1 : 0) {
        int number = *at++ - '0';
        buf_printf(text, "%c%d@%d ", kind, number, number);
    }
}

static void expect_events(const char *before, char kind, const char *numbers, const char *after) {
    struct buf text = {0};
    buf_append_text(&text, before);
    print_events(&text, kind, numbers);
    buf_append_text(&text, after);
    buf_append(&text, "", 1);
    peer_expect_all(&peer, text.bytes);
    buf_release(&text);
}

static void test_replays_from_every_kind_of_name(void **state) {
    for (size_t i = 0; i < length_of(cases); i++) {
        scene_begin();
        peer_connect(&peer);
        peer_expect_text(&peer, "");
        peer_subscribe_from(&peer, 1, cases[i].first, cases[i].second, places[cases[i].place]);
        expect_events(cases[i].numbers[0] == '\0' ? "A@8 " : "A+@8 ", 'e', cases[i].numbers, "S@8");
    }
}

static void test_resumes_from_every_kind_of_name(void **state) {
    for (size_t i = 0; i < length_of(cases); i++) {
        scene_begin();
        peer_introduce(&peer);
        peer_send(&peer, resume_of(POSITION_KNOWN, &places[cases[i].place], cases[i].first,
                                   cases[i].second));
        expect_events("", 'E', cases[i].numbers, "P@8");
    }
}

/* A handler gets an event once, and one that only a pattern wants counts on its topic. */
static void test_live_events(void **state) {
    scene_begin();
    peer_connect(&peer);
    peer_subscribe(&peer, 1, "o.*", "*", POSITION_NONE);
    peer_subscribe(&peer, 2, "o.a", NULL, POSITION_NONE);
    peer_expect_text(&peer, "A@8 S@8 2:A@8 2:S@8");
    publish("o.a");
    publish("user:o");
    publish("x");
    peer_expect_text(&peer, "E9@9 E11@11");
    struct topics *topics = &rig.broker->journal.topics;
    assert_int_equal(topics_find(topics, key_of("x"))->traffic.broadcast, 1);
    assert_int_equal(topics->total.broadcast, 2);
    peer_unsubscribe(&peer, 0, "o.*", "*");
    publish("x");
    publish("o.a");
    peer_expect_text(&peer, "E13@13");
    assert_int_equal(topics->patterns.count, 0);
    assert_null(topics_find(topics, key_of("*")));
}

/* The log has no room for any event: its topic has gone before the event is sent. */
static void test_live_without_a_log(void **state) {
    rig_begin_with(0, 10);
    rig_listen();
    peer_connect(&peer);
    peer_subscribe(&peer, 1, "a*", NULL, POSITION_NONE);
    publish("ab");
    publish("ab");
    peer_expect_text(&peer, "A@0 S@0 E1@1 E2@2");
    assert_int_equal(rig.broker->journal.topics.total.broadcast, 2);
    assert_null(topics_find(&rig.broker->journal.topics, key_of("ab")));
}

/* The first position is before the first event that is kept of any topic. */
static void test_all_that_is_kept(void **state) {
    scene_begin();
    rig_break(); /* 9 */
    publish("o.b");
    peer_connect(&peer);
    peer_subscribe(&peer, 1, "o.b*", NULL, POSITION_ALL);
    peer_expect_text(&peer, "A+@10 e3@3 R(gap)@9 e10@10 S@10");
    rig.broker->journal.history.bytes_max = 0;
    publish("x");
    peer_subscribe(&peer, 2, "o.b*", NULL, POSITION_ALL);
    peer_expect_text(&peer, "2:A+@11 2:R(gap)@11 2:S@11");
}

static void test_user_streams_have_none(void **state) {
    rig_begin();
    rig_listen();
    peer_connect(&peer);
    peer_connection(&peer, 1, "u", "a", "b*", POSITION_NONE, 0);
    peer_expect_text(&peer, "GOODBYE");
    assert_true(peer_is_closed(&peer));
}

/* --- what the log has dropped
 * --------------------------------------------------------------------- */

/* An event of any topic counts, of whichever the pattern's clients hear. A client of the topics
 * alone is told of these only. */
static void test_floors(void **state) {
    static const struct {
        const char *first;
        const char *second;
        const char *heard;
    } replays[] = {{"a*", NULL, "A+@4 R(gap)@0 e1@1 S@4"},
                   {"a", NULL, "A+@4 e1@1 S@4"},
                   {"x", "b*", "A+@4 R(gap)@0 e4@4 S@4"},
                   {"b*", NULL, "A+@4 R(gap)@4 S@4"}};
    for (size_t i = 0; i < length_of(replays); i++) {
        rig_begin_with(RIG_HISTORY_BYTES, 1);
        rig_listen();
        struct position start = rig_position();
        for (const char *topic = "axxx"; *topic != '\0'; topic++) {
            publish((char[]){*topic, '\0'});
        }
        peer_connect(&peer);
        peer_subscribe_from(&peer, 1, replays[i].first, replays[i].second, start);
        peer_expect_text(&peer, replays[i].heard);
    }
}

/* '|' is a break: its refresh tells of what was dropped before it, if no event is between. */
static void test_floors_of_a_handler(void **state) {
    static const struct {
        const char *published;
        const char *heard;
    } resumes[] = {{"axx", "R(gap,a*)@0 E1@1 P@3"},
                   {"xx|a", "R(gap,a*)@0 R(gap)@3 E4@4 P@4"},
                   {"x|xa", "R(gap)@2 E4@4 P@4"},
                   {"a|a", "R(gap)@2 E3@3 P@3"}};
    for (size_t i = 0; i < length_of(resumes); i++) {
        rig_begin_with(RIG_HISTORY_BYTES, 1);
        rig_listen();
        struct position start = rig_position();
        for (const char *what = resumes[i].published; *what != '\0'; what++) {
            if (*what == '|') {
                rig_break();
            } else {
                publish((char[]){*what, '\0'});
            }
        }
        peer_introduce(&peer);
        peer_send(&peer, resume_of(POSITION_KNOWN, &start, "a", "a*"));
        peer_expect_all(&peer, resumes[i].heard);
    }
}

/* What is dropped later is older than what was dropped before, and comes after what was sent
 * meanwhile. */
static void test_drop_below_the_floor(void **state) {
    rig_begin_with(RIG_HISTORY_BYTES, 2);
    rig_listen();
    struct position start = rig_position();
    rig_publish_long("b", 1, WIRE_CREDIT_BYTES);
    for (const char *topic = "baaa"; *topic != '\0'; topic++) {
        publish((char[]){*topic, '\0'});
    }
    peer_connect(&peer);
    peer_subscribe_from(&peer, 1, "*", NULL, start);
    peer_expect_text(&peer, "A+@5 R(gap)@0 e1@1");
    publish("b");
    publish("b"); /* 2 is lost, 3 was before */
    assert_int_equal(rig.broker->journal.history.newest.place, 3);
    peer_credit(&peer, 1, WIRE_CREDIT_BYTES);
    peer_expect_text(&peer, "E6@6 E7@7 R(gap)@1 e4@4 e5@5 e6@6 e7@7 S@7");
}

/* The same with two topics that are named one by one. */
static void test_drop_below_another_topics_floor(void **state) {
    rig_begin_with(RIG_HISTORY_BYTES, 2);
    rig_listen();
    struct position start = rig_position();
    rig_publish_long("b", 1, WIRE_CREDIT_BYTES);
    for (const char *topic = "baaa"; *topic != '\0'; topic++) {
        publish((char[]){*topic, '\0'});
    }
    peer_connect(&peer);
    peer_subscribe_from(&peer, 1, "a", "b", start);
    peer_expect_text(&peer, "A+@5 R(gap)@0 e1@1");
    publish("b");
    publish("b");
    peer_credit(&peer, 1, WIRE_CREDIT_BYTES);
    peer_expect_text(&peer, "E6@6 E7@7 R(gap)@1 e4@4 e5@5 e6@6 e7@7 S@7");
}

/* What is heard, counted: refreshes and events. */
static void count_heard(unsigned *refreshes, unsigned *events) {
    struct wire_frame frame;
    while (peer_next_of_all(&peer, &frame)) {
        *refreshes += frame.type == WIRE_REFRESH ? 1 : 0;
        *events += frame.type == WIRE_EVENT ? 1 : 0;
    }
}

static void test_drop_below_the_floor_of_a_handler(void **state) {
    enum { LONG_EVENTS = 60, LONG_BYTES = 7000 };
    unsigned refreshes = 0;
    unsigned events = 0;
    rig_begin_with(INT64_C(1) << 30, LONG_EVENTS);
    rig_limit_queues(64 * 1024);
    rig_listen();
    struct position start = rig_position();
    for (unsigned i = 0; i < LONG_EVENTS; i++) {
        rig_publish_long("b", 1, LONG_BYTES);
    }
    for (unsigned i = 0; i <= LONG_EVENTS; i++) {
        publish("a");
    }
    peer_introduce(&peer);
    handler_narrow(peer.handler);
    peer_send(&peer, resume_of(POSITION_KNOWN, &start, "*", NULL));
    assert_int_equal(peer.handler->state, HANDLER_RESUMING);
    assert_true(peer.handler->resume.walk.cursor.place < LONG_EVENTS);
    for (unsigned i = 0; i < LONG_EVENTS; i++) {
        publish("b");
    }
    assert_int_equal(rig.broker->journal.history.newest.place, LONG_EVENTS + 1);
    for (int i = 0; i < 100; i++) {
        run_for(rig.loop, 1);
        count_heard(&refreshes, &events);
    }
    assert_int_equal(peer.handler->state, HANDLER_SERVED);
    assert_int_equal(refreshes, 2);
    assert_in_range(events, 2 * LONG_EVENTS + 1, 3 * LONG_EVENTS - 1);
}

/* A break that the handler has got stands before durable events that it does not have: what was
 * dropped after it is told. */
static void test_drop_after_a_break_that_is_known(void **state) {
    static const struct position stranger = {1, "strangersname", 3};
    database_clear(1);
    table_rig_begin_with(RIG_HISTORY_BYTES, 1);
    table_rig_publish("a", 2);
    rig_break();
    fake_connect();
    table_rig_read();
    table_rig_publish("a", 3); /* drops 2 */
    peer_introduce(&peer);
    peer_send(&peer, resume_of(POSITION_KNOWN, &stranger, "*", NULL));
    peer_expect_all(&peer, "R(restart)@1/1");
    publish("b");
    publish("b"); /* drops the one before */
    rig_break();
    fake_connect();
    for (int i = 0; i < 10; i++) {
        fake_settle();
        run_for(rig.loop, 1);
    }
    peer_expect_all(&peer, "R(gap,*)@1/1 D2@2/1 D3@3/1 E3@3/3 R(gap)@3/4 P@3/4");
}

/* --- entries that do not match
 * -------------------------------------------------------------------- */

enum { OTHERS = 6 * HISTORY_STEPS };

static struct position others_begin(void) {
    rig_begin_with(INT64_C(1) << 30, OTHERS + 10);
    rig_listen();
    struct position start = rig_position();
    for (unsigned i = 0; i < OTHERS; i++) {
        publish("x");
    }
    return start;
}

static void test_many_entries_take_turns(void **state) {
    struct position start = others_begin();
    publish("ob");
    peer_connect(&peer);
    peer_expect_text(&peer, "");
    peer_subscribe_from(&peer, 1, "o*", NULL, start);
    unsigned turns = 0;
    for (const struct replay *replay; (replay = replay_find(&peer.handler->delivery, 1)) != NULL;
         turns++) {
        uint64_t before = replay->walk.cursor.place;
        run_for(rig.loop, 1);
        replay = replay_find(&peer.handler->delivery, 1);
        assert_true(turns < OTHERS);
        assert_true(replay == NULL || replay->walk.cursor.place <= before + 4 * HISTORY_STEPS);
    }
    assert_in_range(turns, 1, 8);
    peer_expect_text(&peer, "A+@6145 e6145@6145 S@6145");
}

/* Nothing matches: what was announced does not come. */
static void test_many_entries_and_no_match(void **state) {
    struct position start = others_begin();
    peer_connect(&peer);
    peer_subscribe_from(&peer, 1, "o*", NULL, start);
    peer_subscribe_from(&peer, 2, "ob", NULL, start);
    run_for(rig.loop, 20);
    peer_expect_text(&peer, "A+@6144 2:A@6144 2:S@6144 S@6144");
}

/* However many replays there are, only some of them look at that many entries in a turn. */
static void test_replays_take_turns(void **state) {
    enum { REPLAYS = 200 };
    struct position start = others_begin();
    peer_connect(&peer);
    struct buf subscriptions = {0};
    struct wire_subscribe message = {
        .position_kind = POSITION_KNOWN, .position = start, .topics = topics_of("o*", "p*")};
    while (message.token++ < REPLAYS) {
        struct payload *frame = wire_encode_subscribe(&message);
        buf_append(&subscriptions, frame->bytes, frame->length);
        payload_unref(&frame);
    }
    send_all(peer.fd, buf_slice(&subscriptions));
    run_turns(rig.loop, 1);
    buf_release(&subscriptions);
    assert_int_equal(HASH_COUNT(peer.handler->delivery.replays), REPLAYS);
    for (unsigned turns = 0; HASH_COUNT(peer.handler->delivery.replays) > 0; turns++) {
        run_for(rig.loop, 1);
        assert_in_range(peer.handler->delivery.searches, 0, DELIVERY_SEARCHES_MAX);
        assert_true(turns < OTHERS);
    }
}

/* --- the table
 * ------------------------------------------------------------------------------------ */

/* Two rows on each page. */
static struct position table_begin(const char *const *topics, size_t count) {
    database_clear(1);
    for (size_t i = 0; i < count; i++) {
        (void)database_store(topics[i], (unsigned)i + 2, 0);
    }
    database.page_rows = 2;
    table_rig_begin();
    peer_introduce(&peer);
    struct position position = table_rig_position();
    position.durable = 1;
    return position;
}

static void test_pages(void **state) {
    static const char *const topics[] = {"o.a", "x", "o.b", "user:o.a", "o.b", "o", "o.a"};
    static const struct {
        const char *first;
        const char *second;
        const char *heard;
    } replays[] = {
        {"o.*", NULL, "A+@8/0 d2@2/0 d4@4/0 d6@6/0 d8@8/0 S@8/0"},
        {"*", "o.a", "A+@8/0 d2@2/0 d3@3/0 d4@4/0 d6@6/0 d7@7/0 d8@8/0 S@8/0"},
        {"y*", NULL, "A+@8/0 S@8/0"},
    };
    for (size_t i = 0; i < length_of(replays); i++) {
        struct position position = table_begin(topics, length_of(topics));
        peer_send(&peer, resume_of(POSITION_NONE, NULL, NULL, NULL));
        peer_subscribe_from(&peer, 1, replays[i].first, replays[i].second, position);
        fake_settle();
        peer_expect_text(&peer, replays[i].heard);
    }
}

/* The gap of one topic is told once to a handler that resumes, also if other topics' events come
 * before it page by page. */
static void test_gap_of_a_handler_is_told_once(void **state) {
    static const char *const topics[] = {"a", "a", "a", "a", "a", "b", "b"};
    struct position position = table_begin(topics, length_of(topics));
    database_prune("b", 7);
    peer_send(&peer, resume_of(POSITION_KNOWN, &position, "*", "b"));
    for (int i = 0; i < 10; i++) {
        fake_settle();
        run_for(rig.loop, 2);
    }
    peer_expect_text(&peer, "RR(gap,b)@1/0 D2@2/0 D3@3/0 D4@4/0 D5@5/0 D6@6/0 D8@8/0");
}

/* The same for one client. */
static void test_gap_of_a_client_is_told_once(void **state) {
    static const char *const topics[] = {"a", "a", "a", "a", "a", "b", "b"};
    struct position position = table_begin(topics, length_of(topics));
    database_prune("b", 7);
    peer_send(&peer, resume_of(POSITION_NONE, NULL, NULL, NULL));
    peer_subscribe_from(&peer, 1, "*", NULL, position);
    fake_settle();
    peer_expect_text(&peer, "A+@8/0 R(gap)@1/0 d2@2/0 d3@3/0 d4@4/0 d5@5/0 d6@6/0 d8@8/0 S@8/0");
}

/* Another topic's gap was told before; an event of this topic came since. */
static void test_gap_after_an_event_is_told(void **state) {
    static const char *const topics[] = {"b", "b", "b", "b", "a", "b"};
    struct position position = table_begin(topics, length_of(topics));
    database_prune("a", 6);
    peer_send(&peer, resume_of(POSITION_KNOWN, &position, "*", NULL));
    fake_settle();
    peer_expect_text(&peer, "RR(gap,a)@1/0 D2@2/0 D3@3/0");
    database_prune("b", 5);
    for (int i = 0; i < 10; i++) {
        fake_settle();
        run_for(rig.loop, 2);
    }
    peer_expect_text(&peer, "RR(gap,b)@6/0 D7@7/0");
}

/* A page that was read before the pruning shows an event of the gap's topic. */
static void test_gap_after_an_event_of_an_old_page(void **state) {
    static const char *const topics[] = {"a", "b", "b", "b", "a"};
    static struct peer other;
    struct position position = table_begin(topics, length_of(topics));
    database.page_rows = 1;
    peer_introduce(&other);
    position.durable = 2;
    peer_send(&other, resume_of(POSITION_KNOWN, &position, "*", NULL));
    (void)(fake_step() == true); /* the page after 2 */
    database_prune("b", 5);
    position.durable = 1;
    peer_send(&peer, resume_of(POSITION_KNOWN, &position, "*", NULL));
    for (int i = 0; i < 20; i++) {
        fake_settle();
        run_for(rig.loop, 1);
    }
    peer_expect_text(&peer, "RR(gap,b)@1/0 D2@2/0 D6@6/0"); /* its page ends after the gap */
    peer_expect_text(&other, "D3@3/0 RR(gap,b)@5/0 D6@6/0");
    peer_close(&other);
}

/* The same for one client that comes back. */
static void test_gap_after_an_event_is_told_to_a_client(void **state) {
    static const char *const topics[] = {"b", "b", "b", "b", "a", "b"};
    struct position position = table_begin(topics, length_of(topics));
    peer_send(&peer, resume_of(POSITION_NONE, NULL, NULL, NULL));
    database_prune("a", 6);
    peer_subscribe_from(&peer, 1, "*", NULL, position);
    (void)(fake_step() == true);
    peer_expect_text(&peer, "A+@7/0 R(gap)@1/0 d2@2/0 d3@3/0");
    database_prune("b", 5);
    fake_settle();
    peer_expect_text(&peer, "R(gap)@6/0 d7@7/0 S@7/0");
}

/* A gap that readers at the head are told of, among them those of a pattern. */
static void test_live_gap(void **state) {
    static const char *const topics[] = {"a"};
    (void)table_begin(topics, length_of(topics));
    peer_send(&peer, resume_of(POSITION_NONE, NULL, NULL, NULL));
    peer_subscribe(&peer, 1, "a*", NULL, POSITION_NONE);
    fake_settle();
    peer_expect_text(&peer, "A@2/0 S@2/0");
    for (size_t i = 0; i < 2; i++) {
        (void)database_store(i == 0 ? "ab" : "x", 1, 0);
        database.rows[database.count - 1].is_bad = true;
        table_rig_read();
        peer_expect_text(&peer, i == 0 ? "RR(gap,ab)@3/0" : "");
    }
}

RUN_TESTS(TEST(test_replays_from_every_kind_of_name), TEST(test_resumes_from_every_kind_of_name),
          TEST(test_live_events), TEST(test_live_without_a_log), TEST(test_all_that_is_kept),
          TEST(test_user_streams_have_none), TEST(test_floors), TEST(test_floors_of_a_handler),
          TEST(test_drop_below_the_floor), TEST(test_drop_below_another_topics_floor),
          TEST(test_drop_below_the_floor_of_a_handler), TEST(test_drop_after_a_break_that_is_known),
          TEST(test_many_entries_take_turns), TEST(test_many_entries_and_no_match),
          TEST(test_replays_take_turns), TEST(test_pages), TEST(test_gap_of_a_handler_is_told_once),
          TEST(test_gap_of_a_client_is_told_once), TEST(test_gap_after_an_event_is_told),
          TEST(test_gap_after_an_event_of_an_old_page),
          TEST(test_gap_after_an_event_is_told_to_a_client), TEST(test_live_gap))
