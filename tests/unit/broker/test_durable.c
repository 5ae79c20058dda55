/* Durable events on their way to a client: from the log, from pages of the table, and from both.
 * What a peer hears is written as text, see broker_rig.h; "@3/7" is after the durable event 3 and
 * place 7. */
#include "table_rig.h"

static void scene_connect(void) {
    peer_connect(&peer);
    peer_expect_text(&peer, "");
}

static void scene_begin_with(int64_t history_bytes, int64_t ring_capacity) {
    table_rig_begin_with(history_bytes, ring_capacity);
    scene_connect();
}

/* --- live
 * ---------------------------------------------------------------------------------------- */

static void test_live(void **state) {
    database_clear(1);
    scene_begin_with(RIG_HISTORY_BYTES, 10);
    peer_subscribe(&peer, 1, "a", NULL, POSITION_NONE);
    peer_expect_text(&peer, "A@1/0 S@1/0");
    table_rig_publish("a", 2);
    rig_publish("a", 100);
    table_rig_publish("b", 3);
    table_rig_publish("a", 4);
    peer_expect_text(&peer, "D2@2/0 E100@2/1 D4@4/1");
}

/* --- every cursor, wherever it is found
 * ---------------------------------------------------------- */

/* A letter is an event: in upper case a durable one, whose number is its id; in lower case an
 * ephemeral one, whose number is 100 plus its place. */
static void publish_all(const char *what) {
    static const char *const names[] = {"a", "b", "c"};
    for (; *what != '\0'; what++) {
        if (*what >= 'a') {
            rig_publish(names[*what - 'a'], 101 + (unsigned)rig.broker->journal.markers.count);
        } else {
            table_rig_publish(names[*what - 'A'], (unsigned)database.last_id + 1);
        }
    }
}

static const struct {
    uint64_t durable;
    uint64_t since;
    const char *heard; /* of AaBbaAA: places 1 to 3, ids 2 to 5 */
} cursors[] = {
    {1, 0, "A+@5/3 d2@2/0 e101@2/1 e103@2/3 d4@4/3 d5@5/3 S@5/3"},
    {2, 0, "A+@5/3 e101@2/1 e103@2/3 d4@4/3 d5@5/3 S@5/3"},
    {2, 1, "A+@5/3 e103@2/3 d4@4/3 d5@5/3 S@5/3"},
    {3, 2, "A+@5/3 e103@3/3 d4@4/3 d5@5/3 S@5/3"},
    {3, 3, "A+@5/3 d4@4/3 d5@5/3 S@5/3"},
    {4, 3, "A+@5/3 d5@5/3 S@5/3"},
    {5, 3, "A@5/3 S@5/3"},
    {5, 0, "A+@5/3 e101@5/1 e103@5/3 S@5/3"}, /* D and M.S from different times */
    {1, 3, "A+@5/3 d2@2/3 d4@4/3 d5@5/3 S@5/3"},
    {4, 0, "A+@5/3 e101@4/1 e103@4/3 d5@5/3 S@5/3"},
};

static void test_from_the_log(void **state) {
    for (size_t i = 0; i < length_of(cursors); i++) {
        database_clear(1);
        scene_begin_with(RIG_HISTORY_BYTES, 10);
        struct position position = rig_position();
        publish_all("AaBbaAA");
        position.durable = cursors[i].durable;
        position.since = cursors[i].since;
        peer_subscribe_from(&peer, 1, "a", NULL, position);
        peer_expect_text(&peer, cursors[i].heard);
        assert_int_equal(fake_task(), 0); /* nothing was asked of the table */
    }
}

/* The log is empty: durable events come from the table, and a refresh tells of the others. */
static void test_from_pages(void **state) {
    static const char *const heard[] = {
        "A+@5/3 R(gap)@1/0 d2@2/0 d4@4/0 d5@5/0 S@5/3",
        "A+@5/3 R(gap)@2/0 d4@4/0 d5@5/0 S@5/3",
        "A+@5/3 R(gap)@2/1 d4@4/1 d5@5/1 S@5/3",
        "A+@5/3 R(gap)@3/2 d4@4/2 d5@5/2 S@5/3",
        "A+@5/3 d4@4/3 d5@5/3 S@5/3",
        "A+@5/3 d5@5/3 S@5/3",
        "A@5/3 S@5/3",
        "A+@5/3 R(gap)@5/3 S@5/3",
        "A+@5/3 d2@2/3 d4@4/3 d5@5/3 S@5/3",
        "A+@5/3 R(gap)@4/0 d5@5/0 S@5/3",
    };
    static const size_t page_rows[] = {0, 1, 2};
    for (size_t i = 0; i < length_of(cursors) * length_of(page_rows); i++) {
        size_t c = i / length_of(page_rows);
        database_clear(1);
        scene_begin_with(0, 10);
        database.page_rows = page_rows[i % length_of(page_rows)];
        struct position position = rig_position();
        publish_all("AaBbaAA");
        position.durable = cursors[c].durable;
        position.since = cursors[c].since;
        peer_subscribe_from(&peer, 1, "a", NULL, position);
        fake_settle();
        peer_expect_text(&peer, heard[c]);
        publish_all("A");
        peer_expect_text(&peer, "D6@6/3");
    }
}

/* After a restart of the broker: older events are in the table, newer ones in the log. */
static void test_from_pages_and_then_the_log(void **state) {
    database_clear(1);
    for (unsigned id = 2; id <= 9; id++) {
        (void)database_store(id % 3 == 0 ? "b" : "a", id, 0);
    }
    database.page_rows = 3;
    scene_begin_with(RIG_HISTORY_BYTES, 10);
    struct position position = rig_position();
    publish_all("aAaBA");
    position.durable = 4;
    peer_subscribe_from(&peer, 1, "a", NULL, position);
    peer_expect_text(&peer, "A+@12/2");
    fake_settle();
    peer_expect_text(&peer, "d5@5/0 d7@7/0 d8@8/0 e101@9/1 d10@10/1 e102@10/2 "
                            "d12@12/2 S@12/2");
}

/* --- what comes while pages are read
 * -------------------------------------------------------------- */

/* Events between a page's statement and its outcome are neither lost nor doubled, and come in the
 * order of ids. */
static void test_events_while_a_page_is_read(void **state) {
    struct fake_rows rows = {0};
    database_clear(1);
    (void)database_store("a", 2, 0);
    (void)database_store("a", 3, 0);
    scene_begin_with(RIG_HISTORY_BYTES, 10);
    peer_subscribe_from(&peer, 1, "a", NULL, (struct position){.durable = 1});
    peer_expect_text(&peer, "A+@3/0");
    assert_int_equal(fake_task(), 'p');
    fake_execute(&rows);
    (void)database_store("a", 4, 0);
    rig_publish("a", 101);
    table_rig_hint("{}");                /* place 2 */
    peer_expect_text(&peer, "E101@3/1"); /* for live clients; this one is not live */
    fake_deliver(&rows);
    peer_expect_text(&peer, "d2@2/0 d3@3/0 e101@3/1 S@3/2");
    assert_int_equal(fake_task(), 'r');
    fake_settle();
    peer_expect_text(&peer, "D4@4/2");
}

/* Readings between two pages: the second page is not needed any more, or the log keeps nothing of
 * what was read. */
static void test_readings_between_pages(void **state) {
    static const int64_t history_bytes[] = {RIG_HISTORY_BYTES, 0};
    for (size_t i = 0; i < length_of(history_bytes); i++) {
        database_clear(1);
        for (unsigned id = 2; id <= 7; id++) {
            (void)database_store("a", id, 0);
        }
        scene_begin_with(history_bytes[i], 10);
        database.page_rows = 2;
        struct position position = rig_position();
        position.durable = 1;
        peer_subscribe_from(&peer, 1, "a", NULL, position);
        for (unsigned id = 8; id <= 13; id++) {
            (void)database_store("a", id, 0);
            (void)table_ask_reading(&rig.broker->journal.table);
            assert_true(fake_step());
        }
        fake_settle();
        struct buf text = {0};
        struct wire_frame frame;
        unsigned last = 1;
        while (peer_next(&peer, &frame)) {
            struct wire_replay replay;
            struct wire_event event;
            if (frame.type == WIRE_REPLAY && wire_decode_replay(frame.body, &replay)) {
                assert_int_equal(event_number(&replay.event), ++last);
                assert_int_equal(replay.event.position.durable, last);
            } else if (frame.type != WIRE_EVENT) {
                print_frame(&frame, &text);
            } else {
                assert_true(wire_decode_event(frame.body, &event));
                last += memchr(text.bytes, 'S', text.length) != NULL ? 1 : 0; /* it is live */
            }
        }
        assert_int_equal(last, 13);
        assert_memory_equal(text.bytes, "A+@7/0 S@", 9);
        buf_release(&text);
    }
}

/* A hint during a reading causes another reading. */
static void test_hint_while_the_table_is_read(void **state) {
    struct fake_rows rows = {0};
    database_clear(1);
    scene_begin_with(RIG_HISTORY_BYTES, 10);
    peer_subscribe(&peer, 1, "a", NULL, POSITION_NONE);
    peer_expect_text(&peer, "A@1/0 S@1/0");
    table_rig_hint("{}");
    assert_int_equal(fake_task(), 'r');
    fake_execute(&rows);
    (void)database_store("a", 2, 0);
    table_rig_hint("{}");
    fake_deliver(&rows);
    fake_settle();
    peer_expect_text(&peer, "D2@2/2");
}

/* The page that has to be read has no event of the client's topic. */
static void test_page_without_anything(void **state) {
    static const size_t page_rows[] = {0, 1};
    for (size_t i = 0; i < length_of(page_rows); i++) {
        database_clear(1);
        for (unsigned id = 2; id <= 5; id++) {
            (void)database_store("b", id, 0);
        }
        database.page_rows = page_rows[i];
        scene_begin_with(RIG_HISTORY_BYTES, 10);
        struct position position = rig_position();
        position.durable = 2;
        peer_subscribe_from(&peer, 1, "a", NULL, position);
        fake_settle();
        peer_expect_text(&peer, "A+@5/0 S@5/0");
    }
}

/* --- positions that are not known, or only by half
 * -------------------------------------------------- */

/* A client without an id gets one refresh if the table has events of its topics; then it is
 * live. */
static void test_without_id(void **state) {
    static const struct {
        const char *first;
        const char *second;
        const char *heard;
    } cases[] = {{"a", NULL, "A+@5/3 R(unknown_position)@5/0 e101@5/1 e103@5/3 S@5/3"},
                 {"c", NULL, "A+@5/3 S@5/3"},
                 {"c", "b", "A+@5/3 R(unknown_position)@5/0 e102@5/2 S@5/3"}};
    for (size_t i = 0; i < length_of(cases); i++) {
        database_clear(1);
        scene_begin_with(RIG_HISTORY_BYTES, 10);
        struct position position = rig_position();
        publish_all("AaBbaAA");
        peer_subscribe_from(&peer, 1, cases[i].first, cases[i].second, position);
        fake_settle();
        peer_expect_text(&peer, cases[i].heard);
    }
}

/* An old page, from before the table had an event, is not used for that. */
static void test_without_id_on_an_old_page(void **state) {
    database_clear(1);
    scene_begin_with(RIG_HISTORY_BYTES, 10);
    struct position position = rig_position();
    publish_all("B");
    peer_subscribe_from(&peer, 1, "a", NULL, position);
    fake_settle();
    peer_expect_text(&peer, "A+@2/0 S@2/0");
    publish_all("A");
    peer_expect_text(&peer, "D3@3/0");
    peer_subscribe_from(&peer, 2, "a", NULL, position);
    fake_settle();
    peer_expect_text(&peer, "2:A+@3/0 2:R(unknown_position)@3/0 2:S@3/0");
}

static void test_everything(void **state) {
    static const struct {
        int64_t history_bytes;
        const char *heard;
    } cases[] = {{RIG_HISTORY_BYTES, "A+@5/3 d2@2/0 e101@2/1 e103@2/3 d4@4/3 d5@5/3 S@5/3"},
                 {0, "A+@5/3 R(gap)@1/3 d2@2/3 d4@4/3 d5@5/3 S@5/3"}};
    for (size_t i = 0; i < length_of(cases); i++) {
        database_clear(1);
        scene_begin_with(cases[i].history_bytes, 10);
        publish_all("AaBbaAA");
        peer_subscribe(&peer, 1, "a", NULL, POSITION_ALL);
        fake_settle();
        peer_expect_text(&peer, cases[i].heard);
    }
}

/* The first id of a client that came with "0" is one that other brokers know: it is counted from a
 * marker that was sent. */
static void test_position_of_the_start(void **state) {
    static const int64_t history_bytes[] = {RIG_HISTORY_BYTES, 0};
    for (size_t i = 0; i < length_of(history_bytes); i++) {
        struct wire_replay replay;
        database_clear(1);
        scene_begin_with(history_bytes[i], 10);
        rig_marker();
        struct position marker = rig_position();
        publish_all("Ab");
        if (history_bytes[i] > 0) {
            publish_all("a");
        }
        peer_subscribe(&peer, 1, "a", NULL, POSITION_ALL);
        fake_settle();
        (void)peer_expect(&peer, WIRE_ACCEPTED);
        assert_true(wire_decode_replay(peer_expect(&peer, WIRE_REPLAY), &replay));
        assert_true(replay.event.is_durable);
        assert_memory_equal(replay.event.position.marker, marker.marker, sizeof marker.marker);
    }
}

/* A client that came with "0", and was accepted by an earlier schema. */
static void test_everything_of_another_table(void **state) {
    static const struct {
        uint64_t id; /* at which it was accepted */
        const char *heard;
    } cases[] = {{4, "A+@5/3 R(gap)@1/0 d2@2/0 e101@2/1 e103@2/3 d4@4/3 d5@5/3 S@5/3"},
                 {2, "A+@5/3 d2@2/0 e101@2/1 e103@2/3 d4@4/3 d5@5/3 S@5/3"},
                 {5, "A+@5/3 d2@2/0 e101@2/1 e103@2/3 d4@4/3 d5@5/3 S@5/3"}};
    for (size_t i = 0; i < length_of(cases); i++) {
        database_clear(1);
        scene_begin_with(RIG_HISTORY_BYTES, 10);
        publish_all("AaBbaAA");
        database.leap_from = 4;
        database.leap_to = 5;
        struct position position = rig_position();
        position.durable = cases[i].id;
        peer_subscribe_at(&peer, 1, "a", POSITION_ALL, position);
        fake_settle();
        peer_expect_text(&peer, cases[i].heard);
    }
}

/* The table is replaced while the client waits for the page that proves its id: one refresh. */
static void test_table_replaced_while_it_is_proved(void **state) {
    database_clear(1);
    scene_begin_with(RIG_HISTORY_BYTES, 10);
    publish_all("AA");
    struct position position = rig_position();
    position.durable = 2;
    peer_subscribe_at(&peer, 1, "a", POSITION_ALL, position);
    assert_int_equal(fake_task(), 'p');
    pg_drop(fake, "the test pulled the plug");
    database_clear(2);
    (void)database_store("a", 2, 0);
    fake_connect();
    fake_settle();
    peer_expect_text(&peer, "A+@3/0 RR(gap)@2/0 R(gap)@2/0 S@2/0");
}

static void test_unknown_place_and_known_id(void **state) {
    static const struct {
        const char *marker;
        int64_t history_bytes;
        const char *heard;
    } cases[] = {
        {"strangersname", RIG_HISTORY_BYTES, "A+@5/4 R(unknown_position)@2/4 d4@4/4 d5@5/4 S@5/4"},
        {"strangersname", 0, "A+@5/4 R(unknown_position)@2/4 d4@4/4 d5@5/4 S@5/4"},
        /* D alone: no marker to wait for, and no place was lost */
        {"", RIG_HISTORY_BYTES, "A+@5/3 d4@4/3 d5@5/3 S@5/3 "},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        struct position position = {.durable = 2, .since = 1};
        database_clear(1);
        scene_begin_with(cases[i].history_bytes, 10);
        publish_all("AaBbaAA");
        snprintf(position.marker, sizeof position.marker, "%s", cases[i].marker);
        peer_subscribe_from(&peer, 1, "a", NULL, position);
        fake_settle();
        if (position.marker[0] != '\0') {
            peer_expect_text(&peer, "");
            rig_marker();
        }
        fake_settle();
        struct buf text = {0};
        struct wire_frame frame;
        while (peer_next(&peer, &frame)) {
            print_frame(&frame, &text);
        }
        buf_append_text(&text, position.marker[0] == '\0' ? " " : "");
        expect_buf(&text, cases[i].heard);
    }
}

/* An id beyond the head may come from a broker that is ahead: first the barrier, then a reading. */
static void test_id_beyond_the_head(void **state) {
    static const struct {
        uint64_t id;
        const char *heard;
    } cases[] = {{6, "D6@6/4 D7@7/4 A+@7/4 e103@6/3 d7@7/3 S@7/4"},
                 {7, "D6@6/4 D7@7/4 A+@7/4 e103@7/3 S@7/4"},
                 {8, "D6@6/4 D7@7/4 A+@7/4 R(unknown_position)@7/2 e103@7/3 S@7/4"}};
    for (size_t i = 0; i < length_of(cases); i++) {
        database_clear(1);
        scene_begin_with(RIG_HISTORY_BYTES, 10);
        struct position position = rig_position();
        publish_all("AaBbaAA");
        position.durable = cases[i].id;
        position.since = 2;
        (void)database_store("a", 6, 0);
        peer_subscribe_from(&peer, 1, "a", NULL, position);
        assert_int_equal(fake_task(), 0);
        peer_expect_text(&peer, "");
        rig_marker();
        peer_expect_text(&peer, "");
        assert_int_equal(fake_task(), 'r');
        (void)database_store("a", 7, 0);
        fake_settle();
        peer_expect_text(&peer, cases[i].heard);
    }
}

/* --- gaps
 * ---------------------------------------------------------------------------------------- */

static void test_gaps(void **state) {
    static const struct {
        int64_t history_bytes;
        uint64_t from;
        const char *heard;
    } cases[] = {
        {0, 1, "A+@6/0 R(gap)@2/0 d3@3/0 d5@5/0 d6@6/0 S@6/0"},
        {0, 2, "A+@6/0 R(gap)@2/0 d3@3/0 d5@5/0 d6@6/0 S@6/0"},
        {0, 4, "A+@6/0 d5@5/0 d6@6/0 S@6/0"},
        {RIG_HISTORY_BYTES, 1, "A+@6/0 d2@2/0 d3@3/0 d4@4/0 d5@5/0 d6@6/0 S@6/0"},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        database_clear(1);
        scene_begin_with(cases[i].history_bytes, 10);
        struct position position = rig_position();
        publish_all("ABABA");
        database_prune("a", 4);
        position.durable = cases[i].from;
        peer_subscribe_from(&peer, 1, "a", "b", position);
        fake_settle();
        peer_expect_text(&peer, cases[i].heard);
    }
}

/* Events that were pruned before the broker read them: a refresh in their place, for live clients,
 * from the log and from a page. */
static void test_gap_in_what_is_read(void **state) {
    static const int64_t history_bytes[] = {RIG_HISTORY_BYTES, 0};
    for (size_t i = 0; i < length_of(history_bytes); i++) {
        database_clear(1);
        scene_begin_with(history_bytes[i], 10);
        struct position position = rig_position();
        peer_subscribe(&peer, 1, "a", NULL, POSITION_NONE);
        peer_expect_text(&peer, "A@1/0 S@1/0");
        for (unsigned id = 2; id <= 5; id++) {
            (void)database_store(id == 3 ? "b" : "a", id, 0);
        }
        database_prune("a", 4);
        table_rig_read();
        peer_expect_text(&peer, "RR(gap,a)@2/0 D5@5/0");
        position.durable = 1;
        peer_subscribe_from(&peer, 2, "a", NULL, position);
        fake_settle();
        peer_expect_text(&peer, "2:A+@5/0 2:R(gap)@4/0 2:d5@5/0 2:S@5/0");
        peer_subscribe_from(&peer, 3, "b", NULL, position);
        fake_settle();
        peer_expect_text(&peer, "3:A+@5/0 3:d3@3/0 3:S@5/0");
    }
}

/* A full page ends before the floor of a pruned topic. The events after the page's end are in the
 * log, which was filled before the pruning. The client is still told of what was pruned before. */
static void test_floor_behind_a_full_page(void **state) {
    struct buf text = {0};
    struct wire_frame frame;
    database_clear(1);
    (void)database_store("a", 2, 0);
    (void)database_store("b", 3, 0);
    scene_begin_with(RIG_HISTORY_BYTES, 10);
    struct position position = rig_position();
    publish_all("A");
    database.page_rows = 1;
    database_prune("a", 4);
    position.durable = 1;
    peer_subscribe_from(&peer, 1, "a", "b", position);
    fake_settle();
    while (peer_next(&peer, &frame)) {
        print_frame(&frame, &text);
    }
    if (memmem(text.bytes, text.length, "R(gap)", 6) == NULL) {
        fail_msg("event 2 is lost: %.*s", (int)text.length, text.bytes);
    }
    buf_release(&text);
}

/* The same when the credit ends in the middle of the page and the log reaches back to there. The
 * log was filled before the pruning, the page was read after it. */
static void test_floor_on_the_rest_of_a_page(void **state) {
    struct buf text = {0};
    struct wire_frame frame;
    database_clear(1);
    (void)database_store("a", 2, 0);
    for (unsigned id = 3; id <= 12; id++) {
        (void)database_store("b", id, 7000);
    }
    scene_begin_with(RIG_HISTORY_BYTES, 100);
    struct position position = rig_position();
    for (unsigned id = 13; id <= 20; id++) {
        (void)database_store("b", id, 7000);
    }
    publish_all("A"); /* 21 */
    database_prune("a", 21);
    position.durable = 1;
    peer_subscribe_from(&peer, 1, "a", "b", position);
    fake_settle(); /* starved after 11 or so; the log begins after 12 */
    assert_int_equal(replay_find(&peer.handler->delivery, 1)->state, REPLAY_STARVED);
    for (int i = 0; i < 20; i++) {
        struct replay *replay = replay_find(&peer.handler->delivery, 1);
        if (replay != NULL && replay->state == REPLAY_STARVED) {
            peer_credit(&peer, 1, 1 + (uint32_t)-replay->credit_bytes);
            fake_settle();
        }
    }
    while (peer_next(&peer, &frame)) {
        print_frame(&frame, &text);
    }
    if (memmem(text.bytes, text.length, "R(gap)", 6) == NULL) {
        fail_msg("event 2 is lost: %.*s", (int)text.length, text.bytes);
    }
    buf_release(&text);
}

/* --- credit, queues, and pages that go
 * ----------------------------------------------------------- */

enum { LONG_BYTES = 7000, LONG_EVENTS = 30 }; /* they fit on one page */

/* LONG_EVENTS events on a, only in the table, with ids from 2 on; their numbers are their ids. */
static void long_begin(void) {
    database_clear(1);
    for (unsigned i = 0; i < LONG_EVENTS; i++) {
        (void)database_store("a", 2 + i, LONG_BYTES);
    }
    scene_begin_with(RIG_HISTORY_BYTES, 1024);
}

static struct position long_start(void) {
    struct position position = rig_position();
    position.durable = 1;
    return position;
}

/* Takes the REPLAYs for token 1, from first on; returns the number after the last. */
static unsigned take_replays(unsigned first) {
    struct wire_frame frame;
    struct wire_replay replay;
    while (peer_next(&peer, &frame) && frame.type == WIRE_REPLAY) {
        assert_true(wire_decode_replay(frame.body, &replay));
        assert_int_equal(replay.token, 1);
        assert_int_equal(event_number(&replay.event), first++);
    }
    return first;
}

static struct replay *starve(unsigned *next) {
    long_begin();
    peer_subscribe_from(&peer, 1, "a", NULL, long_start());
    peer_expect_text(&peer, "A+@31/0");
    fake_settle();
    *next = take_replays(2);
    assert_true(*next > 6 && *next < 20);
    struct replay *replay = replay_find(&peer.handler->delivery, 1);
    assert_int_equal(replay->state, REPLAY_STARVED);
    return replay;
}

/* Credit ends in the middle of a page. The page is read once, and again only if it was
 * displaced. */
static void test_credit(void **state) {
    for (int is_evicted = 0; is_evicted < 2; is_evicted++) {
        unsigned next;
        (void)starve(&next);
        if (is_evicted) {
            table_pages_forget(&rig.broker->journal.table.pages);
        }
        peer_credit(&peer, 1, 10000000);
        assert_int_equal(fake_task(), is_evicted ? 'p' : 0);
        fake_settle();
        next = take_replays(next); /* takes SUBSCRIBED, too */
        assert_int_equal(next, LONG_EVENTS + 2);
        assert_null(replay_find(&peer.handler->delivery, 1));
        table_rig_publish("a", 32);
        peer_expect_text(&peer, "D32@32/0");
    }
}

/* Events pruned meanwhile still come from the kept page; without the page, a refresh tells of
 * them. */
static void test_pruned_in_the_middle(void **state) {
    for (int is_evicted = 0; is_evicted < 2; is_evicted++) {
        struct wire_frame frame;
        struct buf text = {0};
        unsigned next;
        (void)starve(&next);
        database_prune("a", LONG_EVENTS);
        if (is_evicted) {
            table_pages_forget(&rig.broker->journal.table.pages);
        }
        peer_credit(&peer, 1, 10000000);
        fake_settle();
        while (peer_next(&peer, &frame)) {
            print_frame(&frame, &text);
        }
        if (is_evicted) {
            char wanted[64];
            snprintf(wanted, sizeof wanted, "R(gap)@30/0 d31@31/0 S@31/0");
            expect_buf(&text, wanted);
        } else {
            assert_null(memmem(text.bytes, text.length, "R(", 2));
            assert_non_null(memmem(text.bytes, text.length, "d30@30/0 d31@31/0 S@31/0", 24));
            buf_release(&text);
        }
    }
}

/* The client is told of a gap while events before the gap are still to come, from a page that was
 * read before the pruning. It is told again after these events. */
static void test_gap_after_an_old_page(void **state) {
    database_clear(1);
    (void)database_store("a", 2, 0);
    (void)database_store("a", 3, 0);
    scene_begin_with(0, 10);
    struct position position = rig_position();
    position.durable = 1;
    peer_subscribe_from(&peer, 1, "a", NULL, position);
    fake_settle();
    peer_expect_text(&peer, "A+@3/0 d2@2/0 d3@3/0 S@3/0"); /* now the page is READY */
    for (unsigned id = 4; id <= 6; id++) {
        (void)database_store("a", id, 0);
    }
    (void)database_store("b", 7, 0);
    database_prune("a", 5);
    database.page_rows = 1;
    (void)table_ask_reading(&rig.broker->journal.table);
    assert_true(fake_step()); /* the reading has met the gap and is not complete */
    peer_subscribe_from(&peer, 2, "a", NULL, position);
    fake_settle();
    peer_expect_text(&peer, "RR(gap,a)@5/0 D6@6/0 2:A+@6/0 2:R(gap)@1/0 2:d2@2/0 2:d3@3/0 "
                            "2:R(gap)@5/0 2:d6@6/0 2:S@7/0");
}

/* Replays never fill more than half of the handler's queue and one event, and the connection
 * stays. */
static void test_queue_of_the_handler(void **state) {
    struct wire_frame frame;
    size_t half = 32 * 1024;
    unsigned replayed = 0;
    unsigned live = 0;
    long_begin();
    rig_limit_queues(2 * half);
    handler_narrow(peer.handler);
    for (uint64_t token = 1; token <= 3; token++) {
        peer_subscribe_from(&peer, token, "a", NULL, long_start());
        peer_credit(&peer, token, 10000000);
    }
    for (int i = 0; i < 2000; i++) {
        fake_settle();
        assert_true(peer.handler->delivery.outbox.queue.queued_bytes < half + LONG_BYTES + 400);
        assert_true(drain(peer.fd, &peer.input, 1000));
        run_turns(rig.loop, 1);
    }
    while (peer_next(&peer, &frame)) {
        replayed += frame.type == WIRE_REPLAY ? 1 : 0;
        live += frame.type == WIRE_SUBSCRIBED ? 1 : 0;
    }
    assert_int_equal(replayed, 3 * LONG_EVENTS);
    assert_int_equal(live, 3);
}

static void test_clients_share_a_page(void **state) {
    struct peer other;
    int pages = 0;
    database_clear(1);
    (void)database_store("a", 2, 0);
    (void)database_store("b", 3, 0);
    scene_begin_with(RIG_HISTORY_BYTES, 10);
    peer_connect(&other);
    struct position position = long_start();
    peer_subscribe_from(&peer, 1, "a", "b", position);
    peer_subscribe_from(&peer, 2, "b", "a", position);
    peer_subscribe_from(&other, 3, "a", "b", position);
    for (; fake_task() == 'p'; pages++) {
        assert_true(fake_step());
    }
    peer_subscribe_from(&other, 4, "b", "a", (struct position){.durable = 2});
    assert_int_equal(fake_task(), 0);
    assert_int_equal(pages, 1);
    peer_expect_text(&peer, "A+@3/0 2:A+@3/0 d2@2/0 d3@3/0 S@3/0 2:d2@2/0 2:d3@3/0 2:S@3/0");
    peer_expect_text(&other, "3:A+@3/0 3:d2@2/0 3:d3@3/0 3:S@3/0 "
                             "4:A+@3/0 4:d3@3/0 4:S@3/0");
    peer_close(&other);
}

/* --- pages that cannot be read
 * -------------------------------------------------------------------- */

/* Answers that many statements, each after the table's rest. */
static void answer(int statements) {
    for (int i = 0; i < 100 && statements > 0; i++) {
        statements -= fake_step() ? 1 : 0;
        run_turns(rig.loop, 1);
    }
}

/* Rows that stay unreadable become a gap; after a temporary error the page is read again. */
static void test_page_that_cannot_be_read(void **state) {
    static const struct {
        const char *fault;
        const char *heard;
        const char *afterwards;
    } cases[] = {{"XX001", "A+@3/0 R(gap)@3/0 S@3/0", ""},
                 {"22021", "A+@3/0 R(gap)@3/0 S@3/0", ""},
                 {"P0001", "A+@3/0 R(gap)@3/0 S@3/0", ""},
                 {"55P03", "A+@3/0", "d2@2/0 d3@3/0 S@3/0"},
                 {"57014", "A+@3/0", "d2@2/0 d3@3/0 S@3/0"}};
    for (size_t i = 0; i < length_of(cases); i++) {
        database_clear(1);
        (void)database_store("a", 2, 0);
        (void)database_store("a", 3, 0);
        scene_begin_with(RIG_HISTORY_BYTES, 10);
        rig.config.reconnect_min = 0;
        database.page_fault = cases[i].fault;
        struct position position = rig_position();
        position.durable = 1;
        peer_subscribe_from(&peer, 1, "a", NULL, position);
        answer(20);
        peer_expect_text(&peer, cases[i].heard);
        assert_int_equal(peer.handler->state, HANDLER_SERVED);
        database.page_fault = NULL;
        answer(20);
        peer_expect_text(&peer, cases[i].afterwards);
    }
}

/* Meanwhile other pages are read first. */
static void test_page_that_cannot_be_read_holds_up_nobody(void **state) {
    database_clear(1);
    (void)database_store("a", 2, 0);
    scene_begin_with(RIG_HISTORY_BYTES, 10);
    rig.config.reconnect_min = 0;
    database.page_fault = "XX001";
    struct position position = rig_position();
    position.durable = 1;
    peer_subscribe(&peer, 2, "a", NULL, POSITION_NONE);
    peer_subscribe_from(&peer, 1, "a", NULL, position);
    peer_expect_text(&peer, "2:A@2/0 2:S@2/0 A+@2/0");
    (void)database_store("a", 3, 0);
    table_rig_hint("{}");
    answer(4); /* the page, a look in two steps, the reading */
    peer_expect_text(&peer, "D3@3/1");
    answer(20);
    peer_expect_text(&peer, "R(gap)@3/1 S@3/1");
}

/* Answers that the schema's functions never give: too few columns, ids that do not rise. */
static void test_answers_that_are_no_page(void **state) {
    for (int is_garbled = 0; is_garbled < 2; is_garbled++) {
        database_clear(1);
        scene_begin_with(RIG_HISTORY_BYTES, 10);
        rig.config.reconnect_min = 0;
        peer_subscribe(&peer, 2, "a", NULL, POSITION_NONE);
        peer_expect_text(&peer, "2:A@1/0 2:S@1/0");
        (void)database_store("a", 2, 0);
        (void)database_store("a", 3, 0);
        database.is_garbled = is_garbled != 0;
        uint64_t second = database.rows[1].id;
        database.rows[1].id = is_garbled != 0 ? second : database.rows[0].id;
        table_rig_hint("{}");
        answer(5);
        assert_string_not_equal(rig.broker->condition.faults[CONDITION_TABLE], "");
        database.is_garbled = false;
        database.rows[1].id = second;
        answer(20);
        peer_expect_text(&peer, "D2@2/1 D3@3/1");
        assert_string_equal(rig.broker->condition.faults[CONDITION_TABLE], "");
    }
}

/* A page that says that it ends before its last event, or where it began. */
static void test_ends_that_are_none(void **state) {
    static const struct {
        const char *topic;
        uint64_t end;
        const char *heard; /* at once, and when the page is read again */
        const char *again;
    } cases[] = {
        {"a", 1, "A+@3/0", "d2@2/0 d3@3/0 S@3/0"},
        {"a", 2, "A+@3/0", "d2@2/0 d3@3/0 S@3/0"},
        {"a", 3, "A+@3/0 d2@2/0 d3@3/0 S@3/0", ""},
        {"b", 1, "A+@3/0", "S@3/0"},
        {"b", 3, "A+@3/0 S@3/0", ""},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        bool is_page = cases[i].end == 3;
        database_clear(1);
        (void)database_store(cases[i].topic, 2, 0);
        (void)database_store(cases[i].topic, 3, 0);
        scene_begin_with(0, 10);
        rig.config.reconnect_min = 0;
        database.stray_end = cases[i].end;
        peer_subscribe_from(&peer, 1, "a", NULL, (struct position){.durable = 1});
        (void)fake_step();
        peer_expect_text(&peer, cases[i].heard);
        assert_int_equal(rig.broker->condition.faults[CONDITION_TABLE][0] == '\0', is_page);
        database.stray_end = 0;
        answer(20);
        peer_expect_text(&peer, cases[i].again);
    }
}

/* A page without rows that ends before the head: the next one is read from there. */
static void test_page_that_ends_without_rows(void **state) {
    database_clear(1);
    (void)database_store("b", 2, 0);
    (void)database_store("b", 3, 0);
    (void)database_store("a", 4, 0);
    scene_begin_with(0, 10);
    peer_subscribe_from(&peer, 1, "a", NULL, (struct position){.durable = 1});
    database.rows[2].topic = "b";
    database.stray_end = 3;
    (void)fake_step();
    database.rows[2].topic = "a";
    database.stray_end = 0;
    assert_string_equal(fake_text(0), "3");
    fake_settle();
    peer_expect_text(&peer, "A+@4/0 d4@4/0 S@4/0");
}

/* Events and gaps of another tenant: the head passes them, and nobody is told. */
static void test_other_tenants(void **state) {
    database_clear(1);
    scene_begin_with(RIG_HISTORY_BYTES, 10);
    peer_subscribe(&peer, 1, "a", NULL, POSITION_NONE);
    peer_expect_text(&peer, "A@1/0 S@1/0");
    for (unsigned id = 2; id <= 5; id++) {
        (void)database_store("a", id, 0);
        database.rows[id - 2].tenant = id == 4 ? NULL : "t";
    }
    database.rows[0].is_pruned = database.rows[0].is_floor = true;
    table_rig_read();
    peer_expect_text(&peer, "D4@4/0");
    assert_int_equal(rig.broker->journal.table.head, 5);
}

/* The schema's owner is neither our role nor a superuser. */
static void test_schema_of_a_stranger(void **state) {
    database_clear(1);
    table_rig_begin();
    database.stranger = "sly";
    table_rig_look();
    assert_int_equal(rig.broker->journal.table.state, TABLE_ABSENT);
    assert_non_null(strstr(rig.broker->journal.table.reason, ": sly"));
    database.stranger = "";
    table_rig_look();
    assert_int_equal(rig.broker->journal.table.state, TABLE_PRESENT);
}

/* --- leaving, and what happens to the table
 * ------------------------------------------------------ */

static const enum replay_state states[] = {REPLAY_HELD, REPLAY_READY, REPLAY_STARVED,
                                           REPLAY_PAGING};

/* Client 1 of a in that state. It has got only ACCEPTED, or a few events of the page. */
static void scene_begin_in(enum replay_state state) {
    long_begin();
    if (state == REPLAY_HELD) {
        rig_deaf();
    } else if (state == REPLAY_READY) {
        rig_limit_queues(16 * 1024);
        handler_narrow(peer.handler);
    }
    peer_subscribe_from(&peer, 1, "a", NULL, long_start());
    if (state != REPLAY_PAGING) {
        fake_settle();
    }
    assert_int_equal(replay_find(&peer.handler->delivery, 1)->state, state);
}

static void test_unsubscribed_in_every_state(void **state) {
    for (size_t i = 0; i < length_of(states); i++) {
        scene_begin_in(states[i]);
        peer_unsubscribe(&peer, 1, "a", NULL);
        assert_null(replay_find(&peer.handler->delivery, 1));
        assert_true(LIST_EMPTY(&peer.handler->delivery.interests));
        fake_settle();
        table_rig_read();
        assert_int_equal(peer.handler->state, HANDLER_SERVED);
    }
}

static void test_handler_closed_in_every_state(void **state) {
    for (size_t i = 0; i < length_of(states); i++) {
        scene_begin_in(states[i]);
        handler_close(peer.handler, "the test closes it");
        fake_settle(); /* before it is freed */
        rig_publish("a", 1);
        run_turns(rig.loop, 2);
        fake_settle();
        assert_null(topics_find(&rig.broker->journal.topics, key_of("b")));
    }
}

/* The table goes, and later there is another one with a lower head. In each state the client gets
 * one refresh, nothing more of the first table, and goes on from the head of the second. */
static void test_table_changes_in_every_state(void **state) {
    for (size_t i = 0; i < length_of(states); i++) {
        for (int is_replaced = 0; is_replaced < 2; is_replaced++) {
            struct wire_frame frame;
            unsigned refreshes = 0;
            unsigned live = 0;
            uint64_t last_id = 0;
            scene_begin_in(states[i]);
            if (fake_task() != 0) {
                pg_drop(fake, "the test pulled the plug");
            }
            if (is_replaced) {
                database_clear(2);
                (void)database_store("a", 2, 0);
                (void)database_store("a", 3, 0);
            } else {
                database.is_missing = true;
            }
            rig.broker->journal.table.must_look = true;
            if (states[i] == REPLAY_HELD) {
                rig_listen();
            }
            if (fake->state == FAKE_DOWN) {
                fake_connect();
            }
            table_rig_read();
            rig_marker();
            peer_credit(&peer, 1, 10000000);
            for (int turn = 0; turn < 100; turn++) {
                if (fake->state == FAKE_DOWN) {
                    fake_connect();
                }
                fake_settle();
                while (peer_next(&peer, &frame)) {
                    struct wire_refresh refresh;
                    struct wire_position position;
                    if (frame.type == WIRE_REFRESH && wire_decode_refresh(frame.body, &refresh)) {
                        refreshes += refresh.token == 1 ? 1 : 0;
                    } else if (frame.type == WIRE_SUBSCRIBED &&
                               wire_decode_position(frame.body, &position)) {
                        last_id = position.position.durable;
                        live++;
                    }
                }
            }
            if (refreshes == 0 || refreshes > 1 || live != 1) {
                fail_msg("state %d: %u refreshes, live %u", (int)states[i], refreshes, live);
            }
            assert_int_equal(last_id, is_replaced ? 3 : 0);
            if (is_replaced) {
                table_rig_publish("a", 4);
                peer_expect_event(&peer, "a", "4");
            }
        }
    }
}

/* Pages of the earlier table are not used. */
static void test_pages_of_another_table(void **state) {
    database_clear(1);
    (void)database_store("a", 2, 0);
    (void)database_store("a", 3, 0);
    scene_begin_with(RIG_HISTORY_BYTES, 10);
    struct position position = rig_position();
    position.durable = 1;
    peer_subscribe_from(&peer, 1, "a", NULL, position);
    fake_settle();
    peer_expect_text(&peer, "A+@3/0 d2@2/0 d3@3/0 S@3/0");
    database_clear(2);
    (void)database_store("a", 22, 0);
    (void)database_store("a", 33, 0);
    table_rig_look();
    peer_expect_text(&peer, "RR(gap)@3/0");
    peer_subscribe_from(&peer, 2, "a", NULL, position);
    fake_settle();
    peer_expect_text(&peer, "2:A+@3/0 2:d22@2/0 2:d33@3/0 2:S@3/0");
}

/* The replay goes on from the head of the other table, which is lower: later events there are
 * new. */
static void test_table_is_replaced_while_it_is_starved(void **state) {
    unsigned next;
    (void)starve(&next);
    database_clear(2);
    (void)database_store("a", 2, 0);
    table_rig_look();
    table_rig_publish("a", 3);
    peer_expect_text(&peer, "RR(gap)@2/0 D3@3/0"); /* for those that are live */
    peer_credit(&peer, 1, 10000000);
    fake_settle();
    peer_expect_text(&peer, "R(gap)@2/0 d3@3/0 S@3/0");
}

/* The table's connection has reached another server than LISTEN: nothing is read there. Then all
 * connections reach the other server, and ids go on. */
static void test_table_of_another_server(void **state) {
    database_clear(1);
    scene_begin_with(RIG_HISTORY_BYTES, 10);
    peer_subscribe(&peer, 1, "a", NULL, POSITION_NONE);
    peer_expect_text(&peer, "A@1/0 S@1/0");
    for (int i = 0; i < 3; i++) {
        if (fake->state != FAKE_DOWN) {
            pg_drop(fake, "the test pulled the plug");
        }
        (void)database_store("a", 2 + (unsigned)i, 0);
        database.server = "another";
        fake_connect();
        assert_int_equal(fake->state, FAKE_DOWN);
        assert_int_equal(rig.broker->journal.table.head, 1);
    }
    rig_deaf();
    rig_listen_at(database.server);
    fake_settle();
    peer_expect_text(&peer, "R(gap)@1/1 X() D2@2/1 D3@3/1 D4@4/1");
}

/* A page that answers rows of a topic that was not asked for, and that nobody has. */
static void test_page_of_another_topic(void **state) {
    database_clear(1);
    scene_begin_with(0, 10);
    table_rig_publish("a", 2);
    database.stray = "nowhere";
    peer_subscribe_from(&peer, 1, "a", NULL, (struct position){.durable = 1});
    fake_settle();
    peer_expect_text(&peer, "A+@2/0 S@2/0");
    assert_null(topics_find(&rig.broker->journal.topics, key_of("nowhere")));
}

/* LISTEN is lost, so the answer cannot be compared: this is no fault. */
static void test_listen_is_lost_while_the_table_proves_itself(void **state) {
    database_clear(1);
    scene_begin_with(RIG_HISTORY_BYTES, 10);
    pg_drop(fake, "the test pulled the plug");
    rig.broker->condition.faults[CONDITION_TABLE][0] = '\0';
    fake->state = FAKE_READY;
    fake->owner.on_connected(fake->owner.self);
    assert_int_equal(fake_task(), 's');
    rig_deaf();
    assert_true(fake_step());
    assert_int_equal(fake->state, FAKE_READY);
    assert_string_equal(rig.broker->condition.faults[CONDITION_TABLE], "");
    rig_listen();
    fake_settle();
    assert_int_equal(rig.broker->journal.table.state, TABLE_PRESENT);
    assert_true(rig.broker->journal.table.is_proved);
}

RUN_TESTS(TEST(test_live), TEST(test_from_the_log), TEST(test_from_pages),
          TEST(test_from_pages_and_then_the_log), TEST(test_events_while_a_page_is_read),
          TEST(test_readings_between_pages), TEST(test_without_id),
          TEST(test_without_id_on_an_old_page), TEST(test_everything),
          TEST(test_position_of_the_start), TEST(test_everything_of_another_table),
          TEST(test_table_replaced_while_it_is_proved), TEST(test_unknown_place_and_known_id),
          TEST(test_id_beyond_the_head), TEST(test_gaps), TEST(test_gap_in_what_is_read),
          TEST(test_floor_behind_a_full_page), TEST(test_floor_on_the_rest_of_a_page),
          TEST(test_credit), TEST(test_pruned_in_the_middle), TEST(test_gap_after_an_old_page),
          TEST(test_queue_of_the_handler), TEST(test_clients_share_a_page),
          TEST(test_page_that_cannot_be_read), TEST(test_page_that_cannot_be_read_holds_up_nobody),
          TEST(test_answers_that_are_no_page), TEST(test_ends_that_are_none),
          TEST(test_page_that_ends_without_rows), TEST(test_other_tenants),
          TEST(test_schema_of_a_stranger), TEST(test_unsubscribed_in_every_state),
          TEST(test_handler_closed_in_every_state), TEST(test_table_changes_in_every_state),
          TEST(test_hint_while_the_table_is_read), TEST(test_page_without_anything),
          TEST(test_pages_of_another_table), TEST(test_table_is_replaced_while_it_is_starved),
          TEST(test_table_of_another_server),
          TEST(test_listen_is_lost_while_the_table_proves_itself), TEST(test_page_of_another_topic))
