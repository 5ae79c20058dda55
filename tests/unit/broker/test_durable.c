/* Durable events on their way to a client: from the log, from pages of the table, and from both.
 * What a peer hears is written as text, see broker_rig.h; "@3/7" is behind the durable event 3 and
 * place 7.
 */
#include "table_rig.h"

struct scene {
    struct rig rig;
    struct peer peer;
    struct handler *handler;
};

static void scene_connect(struct scene *scene) {
    scene->handler = peer_connect(&scene->rig, &scene->peer);
    peer_expect_text(&scene->peer, "");
}

static void scene_begin_with(struct scene *scene, int64_t history_bytes, int64_t ring_capacity) {
    table_rig_begin_with(&scene->rig, history_bytes, ring_capacity);
    scene_connect(scene);
}

static void scene_end(struct scene *scene) {
    peer_close(&scene->peer);
    rig_end(&scene->rig);
}

/* --- live
 * ---------------------------------------------------------------------------------------- */

static void test_live(void **state) {
    (void)state;
    struct scene scene;
    database_clear(1);
    scene_begin_with(&scene, RIG_HISTORY_BYTES, 10);
    peer_subscribe(&scene.peer, 1, "a", NULL, POSITION_NONE);
    peer_expect_text(&scene.peer, "A@1/0 S@1/0");
    table_rig_publish(&scene.rig, "a", 2);
    rig_publish(&scene.rig, "a", 100);
    table_rig_publish(&scene.rig, "b", 3);
    table_rig_publish(&scene.rig, "a", 4);
    peer_expect_text(&scene.peer, "D2@2/0 E100@2/1 D4@4/1");
    scene_end(&scene);
}

/* --- every cursor, wherever it is found
 * ---------------------------------------------------------- */

/* As it comes: in upper case durable events, whose numbers are their ids; in lower case ephemeral
 * ones, whose numbers are 100 and their place. */
static void publish_all(struct rig *rig, const char *what) {
    static const char *const names[] = {"a", "b", "c"};
    for (; *what != '\0'; what++) {
        if (*what >= 'a') {
            rig_publish(rig, names[*what - 'a'], 101 + (unsigned)rig->broker->markers.count);
        } else {
            table_rig_publish(rig, names[*what - 'A'], (unsigned)database.last_id + 1);
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
    {5, 0, "A+@5/3 e101@5/1 e103@5/3 S@5/3"}, /* parts that are out of step */
    {1, 3, "A+@5/3 d2@2/3 d4@4/3 d5@5/3 S@5/3"},
    {4, 0, "A+@5/3 e101@4/1 e103@4/3 d5@5/3 S@5/3"},
};

static void test_from_the_log(void **state) {
    (void)state;
    for (size_t i = 0; i < length_of(cursors); i++) {
        struct scene scene;
        database_clear(1);
        scene_begin_with(&scene, RIG_HISTORY_BYTES, 10);
        struct position position = rig_position(&scene.rig);
        publish_all(&scene.rig, "AaBbaAA");
        position.durable = cursors[i].durable;
        position.since = cursors[i].since;
        peer_subscribe_from(&scene.peer, 1, "a", NULL, position);
        peer_expect_text(&scene.peer, cursors[i].heard);
        assert_int_equal(fake_task(), 0); /* nothing was asked of the table */
        scene_end(&scene);
    }
}

/* The log has nothing: the table has all that is durable, and of the rest it is told. */
static void test_from_pages(void **state) {
    (void)state;
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
        struct scene scene;
        size_t c = i / length_of(page_rows);
        database_clear(1);
        scene_begin_with(&scene, 0, 10);
        database.page_rows = page_rows[i % length_of(page_rows)];
        struct position position = rig_position(&scene.rig);
        publish_all(&scene.rig, "AaBbaAA");
        position.durable = cursors[c].durable;
        position.since = cursors[c].since;
        peer_subscribe_from(&scene.peer, 1, "a", NULL, position);
        fake_settle();
        peer_expect_text(&scene.peer, heard[c]);
        publish_all(&scene.rig, "A");
        peer_expect_text(&scene.peer, "D6@6/3");
        scene_end(&scene);
    }
}

/* The broker was started again: what is older than that stands in the table, what is younger in the
 * log. */
static void test_from_pages_and_then_the_log(void **state) {
    (void)state;
    struct scene scene;
    database_clear(1);
    for (unsigned id = 2; id <= 9; id++) {
        (void)database_store(id % 3 == 0 ? "b" : "a", id, 0);
    }
    database.page_rows = 3;
    scene_begin_with(&scene, RIG_HISTORY_BYTES, 10);
    struct position position = rig_position(&scene.rig);
    publish_all(&scene.rig, "aAaBA");
    position.durable = 4;
    peer_subscribe_from(&scene.peer, 1, "a", NULL, position);
    peer_expect_text(&scene.peer, "A+@12/2");
    fake_settle();
    peer_expect_text(&scene.peer, "d5@5/0 d7@7/0 d8@8/0 d10@10/0 d12@12/0 e101@12/1 "
                                  "e102@12/2 S@12/2");
    scene_end(&scene);
}

/* --- what comes while pages are read
 * -------------------------------------------------------------- */

/* Between the statement and its outcome: neither lost nor doubled, and in the order of ids. */
static void test_events_while_a_page_is_read(void **state) {
    (void)state;
    struct scene scene;
    struct fake_rows rows = {0};
    database_clear(1);
    (void)database_store("a", 2, 0);
    (void)database_store("a", 3, 0);
    scene_begin_with(&scene, RIG_HISTORY_BYTES, 10);
    peer_subscribe_from(&scene.peer, 1, "a", NULL, (struct position){.durable = 1});
    peer_expect_text(&scene.peer, "A+@3/0");
    assert_int_equal(fake_task(), 'p');
    fake_execute(&rows);
    (void)database_store("a", 4, 0);
    rig_publish(&scene.rig, "a", 101);
    table_rig_hint(&scene.rig, "{}");          /* place 2 */
    peer_expect_text(&scene.peer, "E101@3/1"); /* for those that are live; this one is not */
    fake_deliver(&rows);
    peer_expect_text(&scene.peer, "R(unknown_position)@1/0 d2@2/0 d3@3/0 e101@3/1 S@3/2");
    assert_int_equal(fake_task(), 'r');
    fake_settle();
    peer_expect_text(&scene.peer, "D4@4/2");
    scene_end(&scene);
}

/* The broker reads on between two pages, of which the second is not needed any more, or of which
 * the log keeps nothing. */
static void test_readings_between_pages(void **state) {
    (void)state;
    static const int64_t history_bytes[] = {RIG_HISTORY_BYTES, 0};
    for (size_t i = 0; i < length_of(history_bytes); i++) {
        struct scene scene;
        database_clear(1);
        for (unsigned id = 2; id <= 7; id++) {
            (void)database_store("a", id, 0);
        }
        scene_begin_with(&scene, history_bytes[i], 10);
        database.page_rows = 2;
        struct position position = rig_position(&scene.rig);
        position.durable = 1;
        peer_subscribe_from(&scene.peer, 1, "a", NULL, position);
        for (unsigned id = 8; id <= 13; id++) {
            (void)database_store("a", id, 0);
            (void)table_ask_reading(&scene.rig.broker->table);
            assert_true(fake_step());
        }
        fake_settle();
        struct buf text = {0};
        struct wire_frame frame;
        unsigned last = 1;
        while (peer_next(&scene.peer, &frame)) {
            struct wire_replay replay;
            struct wire_event event;
            if (frame.type == WIRE_REPLAY && wire_decode_replay(frame.body, &replay)) {
                assert_int_equal(event_number(&replay.event), ++last);
                assert_int_equal(replay.event.position.durable, last);
            } else if (frame.type != WIRE_EVENT) {
                print_frame(&scene.rig, &frame, &text);
            } else {
                assert_true(wire_decode_event(frame.body, &event));
                last += memchr(text.bytes, 'S', text.length) != NULL ? 1 : 0; /* it is live */
            }
        }
        assert_int_equal(last, 13);
        assert_memory_equal(text.bytes, "A+@7/0 S@", 9);
        buf_release(&text);
        scene_end(&scene);
    }
}

/* What comes while a reading is under way causes one more. */
static void test_hint_while_the_table_is_read(void **state) {
    (void)state;
    struct scene scene;
    struct fake_rows rows = {0};
    database_clear(1);
    scene_begin_with(&scene, RIG_HISTORY_BYTES, 10);
    peer_subscribe(&scene.peer, 1, "a", NULL, POSITION_NONE);
    peer_expect_text(&scene.peer, "A@1/0 S@1/0");
    table_rig_hint(&scene.rig, "{}");
    assert_int_equal(fake_task(), 'r');
    fake_execute(&rows);
    (void)database_store("a", 2, 0);
    table_rig_hint(&scene.rig, "{}");
    fake_deliver(&rows);
    fake_settle();
    peer_expect_text(&scene.peer, "D2@2/2");
    scene_end(&scene);
}

/* Nothing of its topic stands on the page that it has to read. */
static void test_page_without_anything(void **state) {
    (void)state;
    static const size_t page_rows[] = {0, 1};
    for (size_t i = 0; i < length_of(page_rows); i++) {
        struct scene scene;
        database_clear(1);
        for (unsigned id = 2; id <= 5; id++) {
            (void)database_store("b", id, 0);
        }
        database.page_rows = page_rows[i];
        scene_begin_with(&scene, RIG_HISTORY_BYTES, 10);
        struct position position = rig_position(&scene.rig);
        position.durable = 2;
        peer_subscribe_from(&scene.peer, 1, "a", NULL, position);
        fake_settle();
        peer_expect_text(&scene.peer, "A+@5/0 S@5/0");
        scene_end(&scene);
    }
}

/* --- positions that are not known, or only by half
 * -------------------------------------------------- */

/* Whoever has no id is told if there is anything in the table for it, once; then live. */
static void test_without_id(void **state) {
    (void)state;
    static const struct {
        const char *first;
        const char *second;
        const char *heard;
    } cases[] = {{"a", NULL, "A+@5/3 R(unknown_position)@5/0 e101@5/1 e103@5/3 S@5/3"},
                 {"c", NULL, "A+@5/3 S@5/3"},
                 {"c", "b", "A+@5/3 R(unknown_position)@5/0 e102@5/2 S@5/3"}};
    for (size_t i = 0; i < length_of(cases); i++) {
        struct scene scene;
        database_clear(1);
        scene_begin_with(&scene, RIG_HISTORY_BYTES, 10);
        struct position position = rig_position(&scene.rig);
        publish_all(&scene.rig, "AaBbaAA");
        peer_subscribe_from(&scene.peer, 1, cases[i].first, cases[i].second, position);
        fake_settle();
        peer_expect_text(&scene.peer, cases[i].heard);
        scene_end(&scene);
    }
}

/* The page that says so is not one from before there was anything. */
static void test_without_id_on_an_old_page(void **state) {
    (void)state;
    struct scene scene;
    database_clear(1);
    scene_begin_with(&scene, RIG_HISTORY_BYTES, 10);
    struct position position = rig_position(&scene.rig);
    publish_all(&scene.rig, "B");
    peer_subscribe_from(&scene.peer, 1, "a", NULL, position);
    fake_settle();
    peer_expect_text(&scene.peer, "A+@2/0 S@2/0");
    publish_all(&scene.rig, "A");
    peer_expect_text(&scene.peer, "D3@3/0");
    peer_subscribe_from(&scene.peer, 2, "a", NULL, position);
    fake_settle();
    peer_expect_text(&scene.peer, "2:A+@3/0 2:R(unknown_position)@3/0 2:S@3/0");
    scene_end(&scene);
}

static void test_everything(void **state) {
    (void)state;
    static const struct {
        int64_t history_bytes;
        const char *heard;
    } cases[] = {{RIG_HISTORY_BYTES, "A+@5/3 d2@2/0 e101@2/1 e103@2/3 d4@4/3 d5@5/3 S@5/3"},
                 {0, "A+@5/3 R(gap)@1/0 d2@2/0 d4@4/0 d5@5/0 S@5/3"}};
    for (size_t i = 0; i < length_of(cases); i++) {
        struct scene scene;
        database_clear(1);
        scene_begin_with(&scene, cases[i].history_bytes, 10);
        publish_all(&scene.rig, "AaBbaAA");
        peer_subscribe(&scene.peer, 1, "a", NULL, POSITION_ALL);
        fake_settle();
        peer_expect_text(&scene.peer, cases[i].heard);
        scene_end(&scene);
    }
}

static void test_unknown_place_and_known_id(void **state) {
    (void)state;
    static const struct {
        const char *marker;
        int64_t history_bytes;
        const char *heard;
    } cases[] = {
        {"strangersname", RIG_HISTORY_BYTES, "A+@5/4 R(unknown_position)@2/4 d4@4/4 d5@5/4 S@5/4"},
        {"strangersname", 0, "A+@5/4 R(unknown_position)@2/4 d4@4/4 d5@5/4 S@5/4"},
        /* of the third door: there is none to wait for */
        {"", RIG_HISTORY_BYTES, "A+@5/3 R(unknown_position)@2/3 d4@4/3 d5@5/3 S@5/3 "},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        struct scene scene;
        struct position position = {.durable = 2, .since = 1};
        database_clear(1);
        scene_begin_with(&scene, cases[i].history_bytes, 10);
        publish_all(&scene.rig, "AaBbaAA");
        snprintf(position.marker, sizeof position.marker, "%s", cases[i].marker);
        peer_subscribe_from(&scene.peer, 1, "a", NULL, position);
        fake_settle();
        if (position.marker[0] != '\0') {
            peer_expect_text(&scene.peer, "");
            rig_marker(&scene.rig);
        }
        fake_settle();
        struct buf text = {0};
        struct wire_frame frame;
        while (peer_next(&scene.peer, &frame)) {
            print_frame(&scene.rig, &frame, &text);
        }
        buf_append_text(&text, position.marker[0] == '\0' ? " " : "");
        expect_buf(&text, cases[i].heard);
        scene_end(&scene);
    }
}

/* An id beyond the head may be that of a broker that is ahead: first the barrier, then the table.
 */
static void test_id_beyond_the_head(void **state) {
    (void)state;
    static const struct {
        uint64_t id;
        const char *heard;
    } cases[] = {{6, "D6@6/4 D7@7/4 A+@7/4 e103@6/3 d7@7/3 S@7/4"},
                 {7, "D6@6/4 D7@7/4 A+@7/4 e103@7/3 S@7/4"},
                 {8, "D6@6/4 D7@7/4 A+@7/4 R(unknown_position)@7/2 e103@7/3 S@7/4"}};
    for (size_t i = 0; i < length_of(cases); i++) {
        struct scene scene;
        database_clear(1);
        scene_begin_with(&scene, RIG_HISTORY_BYTES, 10);
        struct position position = rig_position(&scene.rig);
        publish_all(&scene.rig, "AaBbaAA");
        position.durable = cases[i].id;
        position.since = 2;
        (void)database_store("a", 6, 0);
        peer_subscribe_from(&scene.peer, 1, "a", NULL, position);
        assert_int_equal(fake_task(), 0);
        peer_expect_text(&scene.peer, "");
        rig_marker(&scene.rig);
        peer_expect_text(&scene.peer, "");
        assert_int_equal(fake_task(), 'r');
        (void)database_store("a", 7, 0);
        fake_settle();
        peer_expect_text(&scene.peer, cases[i].heard);
        scene_end(&scene);
    }
}

/* --- gaps
 * ---------------------------------------------------------------------------------------- */

static void test_gaps(void **state) {
    (void)state;
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
        struct scene scene;
        database_clear(1);
        scene_begin_with(&scene, cases[i].history_bytes, 10);
        struct position position = rig_position(&scene.rig);
        publish_all(&scene.rig, "ABABA");
        database_prune("a", 4);
        position.durable = cases[i].from;
        peer_subscribe_from(&scene.peer, 1, "a", "b", position);
        fake_settle();
        peer_expect_text(&scene.peer, cases[i].heard);
        scene_end(&scene);
    }
}

/* Pruned before they were read: told where they were, live, from the log and from a page. */
static void test_gap_in_what_is_read(void **state) {
    (void)state;
    static const int64_t history_bytes[] = {RIG_HISTORY_BYTES, 0};
    for (size_t i = 0; i < length_of(history_bytes); i++) {
        struct scene scene;
        database_clear(1);
        scene_begin_with(&scene, history_bytes[i], 10);
        struct position position = rig_position(&scene.rig);
        peer_subscribe(&scene.peer, 1, "a", NULL, POSITION_NONE);
        peer_expect_text(&scene.peer, "A@1/0 S@1/0");
        for (unsigned id = 2; id <= 5; id++) {
            (void)database_store(id == 3 ? "b" : "a", id, 0);
        }
        database_prune("a", 4);
        table_rig_read(&scene.rig);
        peer_expect_text(&scene.peer, "RR(gap,a)@2/0 D5@5/0");
        position.durable = 1;
        peer_subscribe_from(&scene.peer, 2, "a", NULL, position);
        fake_settle();
        peer_expect_text(&scene.peer, "2:A+@5/0 2:R(gap)@4/0 2:d5@5/0 2:S@5/0");
        peer_subscribe_from(&scene.peer, 3, "b", NULL, position);
        fake_settle();
        peer_expect_text(&scene.peer, "3:A+@5/0 3:d3@3/0 3:S@5/0");
        scene_end(&scene);
    }
}

/* A page that is full ends before the floor of a topic that was pruned; what is behind that end
 * stands in the log, which was read before. What stood before it is told all the same. */
static void test_floor_behind_a_full_page(void **state) {
    (void)state;
    struct scene scene;
    struct buf text = {0};
    struct wire_frame frame;
    database_clear(1);
    (void)database_store("a", 2, 0);
    (void)database_store("b", 3, 0);
    scene_begin_with(&scene, RIG_HISTORY_BYTES, 10);
    struct position position = rig_position(&scene.rig);
    publish_all(&scene.rig, "A");
    database.page_rows = 1;
    database_prune("a", 4);
    position.durable = 1;
    peer_subscribe_from(&scene.peer, 1, "a", "b", position);
    fake_settle();
    while (peer_next(&scene.peer, &frame)) {
        print_frame(&scene.rig, &frame, &text);
    }
    if (memmem(text.bytes, text.length, "R(gap)", 6) == NULL) {
        fail_msg("event 2 is lost: %.*s", (int)text.length, text.bytes);
    }
    buf_release(&text);
    scene_end(&scene);
}

/* The same where it stops in mid page, for credit, and the log has come to reach back to there: it
 * was read before the prune, the page after it. */
static void test_floor_on_the_rest_of_a_page(void **state) {
    (void)state;
    struct scene scene;
    struct buf text = {0};
    struct wire_frame frame;
    database_clear(1);
    (void)database_store("a", 2, 0);
    for (unsigned id = 3; id <= 12; id++) {
        (void)database_store("b", id, 7000);
    }
    scene_begin_with(&scene, RIG_HISTORY_BYTES, 100);
    struct position position = rig_position(&scene.rig);
    for (unsigned id = 13; id <= 20; id++) {
        (void)database_store("b", id, 7000);
    }
    publish_all(&scene.rig, "A"); /* 21 */
    database_prune("a", 21);
    position.durable = 1;
    peer_subscribe_from(&scene.peer, 1, "a", "b", position);
    fake_settle(); /* starved behind 11 or so; the log begins behind 12 */
    assert_int_equal(replay_find(scene.handler, 1)->state, REPLAY_STARVED);
    for (int i = 0; i < 20; i++) {
        struct replay *replay = replay_find(scene.handler, 1);
        if (replay != NULL && replay->state == REPLAY_STARVED) {
            peer_credit(&scene.peer, 1, 1 + (uint32_t)-replay->credit_bytes);
            fake_settle();
        }
    }
    while (peer_next(&scene.peer, &frame)) {
        print_frame(&scene.rig, &frame, &text);
    }
    if (memmem(text.bytes, text.length, "R(gap)", 6) == NULL) {
        fail_msg("event 2 is lost: %.*s", (int)text.length, text.bytes);
    }
    buf_release(&text);
    scene_end(&scene);
}

/* --- credit, queues, and pages that go
 * ----------------------------------------------------------- */

enum { LONG_BYTES = 7000, LONG_EVENTS = 30 }; /* on one page */

/* LONG_EVENTS events on a stand in the table only: ids from 2 on, whose numbers they are. */
static void long_begin(struct scene *scene) {
    database_clear(1);
    for (unsigned i = 0; i < LONG_EVENTS; i++) {
        (void)database_store("a", 2 + i, LONG_BYTES);
    }
    scene_begin_with(scene, RIG_HISTORY_BYTES, 1024);
}

static struct position long_start(const struct scene *scene) {
    struct position position = rig_position(&scene->rig);
    position.durable = 1;
    return position;
}

/* REPLAYs for token 1 from first on; where they end. */
static unsigned take_replays(struct peer *peer, unsigned first) {
    struct wire_frame frame;
    struct wire_replay replay;
    while (peer_next(peer, &frame) && frame.type == WIRE_REPLAY) {
        assert_true(wire_decode_replay(frame.body, &replay));
        assert_int_equal(replay.token, 1);
        assert_int_equal(event_number(&replay.event), first++);
    }
    return first;
}

static struct replay *starve(struct scene *scene, unsigned *next) {
    long_begin(scene);
    peer_subscribe_from(&scene->peer, 1, "a", NULL, long_start(scene));
    peer_expect_text(&scene->peer, "A+@31/0");
    fake_settle();
    *next = take_replays(&scene->peer, 2);
    assert_true(*next > 6 && *next < 20);
    struct replay *replay = replay_find(scene->handler, 1);
    assert_int_equal(replay->state, REPLAY_STARVED);
    return replay;
}

/* In mid page; the page is read once, and once more only when it has been displaced. */
static void test_credit(void **state) {
    (void)state;
    for (int is_evicted = 0; is_evicted < 2; is_evicted++) {
        struct scene scene;
        unsigned next;
        (void)starve(&scene, &next);
        if (is_evicted) {
            pages_forget(&scene.rig.broker->table.pages);
        }
        peer_credit(&scene.peer, 1, 10000000);
        assert_int_equal(fake_task(), is_evicted ? 'p' : 0);
        fake_settle();
        next = take_replays(&scene.peer, next); /* which takes SUBSCRIBED, too */
        assert_int_equal(next, LONG_EVENTS + 2);
        assert_null(replay_find(scene.handler, 1));
        table_rig_publish(&scene.rig, "a", 32);
        peer_expect_text(&scene.peer, "D32@32/0");
        scene_end(&scene);
    }
}

/* What was pruned meanwhile stands on the page that is kept; else it is told. */
static void test_pruned_in_the_middle(void **state) {
    (void)state;
    for (int is_evicted = 0; is_evicted < 2; is_evicted++) {
        struct scene scene;
        struct wire_frame frame;
        struct buf text = {0};
        unsigned next;
        (void)starve(&scene, &next);
        database_prune("a", LONG_EVENTS);
        if (is_evicted) {
            pages_forget(&scene.rig.broker->table.pages);
        }
        peer_credit(&scene.peer, 1, 10000000);
        fake_settle();
        while (peer_next(&scene.peer, &frame)) {
            print_frame(&scene.rig, &frame, &text);
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
        scene_end(&scene);
    }
}

/* It never holds more than half of its queue and one event, and the connection stays. */
static void test_queue_of_the_handler(void **state) {
    (void)state;
    struct scene scene;
    struct wire_frame frame;
    size_t half = 32 * 1024;
    unsigned replayed = 0;
    unsigned live = 0;
    long_begin(&scene);
    scene.rig.config.handler_queue_bytes = 2 * (int64_t)half;
    handler_narrow(scene.handler);
    for (uint64_t token = 1; token <= 3; token++) {
        peer_subscribe_from(&scene.peer, token, "a", NULL, long_start(&scene));
        peer_credit(&scene.peer, token, 10000000);
    }
    for (int i = 0; i < 2000; i++) {
        fake_settle();
        assert_true(scene.handler->output.queued_bytes < half + LONG_BYTES + 400);
        assert_true(drain(scene.peer.fd, &scene.peer.input, 1000));
        run_turns(scene.rig.loop, 1);
    }
    while (peer_next(&scene.peer, &frame)) {
        replayed += frame.type == WIRE_REPLAY ? 1 : 0;
        live += frame.type == WIRE_SUBSCRIBED ? 1 : 0;
    }
    assert_int_equal(replayed, 3 * LONG_EVENTS);
    assert_int_equal(live, 3);
    scene_end(&scene);
}

static void test_clients_share_a_page(void **state) {
    (void)state;
    struct scene scene;
    struct peer other;
    int pages = 0;
    database_clear(1);
    (void)database_store("a", 2, 0);
    (void)database_store("b", 3, 0);
    scene_begin_with(&scene, RIG_HISTORY_BYTES, 10);
    (void)peer_connect(&scene.rig, &other);
    struct position position = long_start(&scene);
    peer_subscribe_from(&scene.peer, 1, "a", "b", position);
    peer_subscribe_from(&scene.peer, 2, "b", "a", position);
    peer_subscribe_from(&other, 3, "a", "b", position);
    for (; fake_task() == 'p'; pages++) {
        assert_true(fake_step());
    }
    peer_subscribe_from(&other, 4, "b", "a", (struct position){.durable = 2});
    assert_int_equal(fake_task(), 0);
    assert_int_equal(pages, 1);
    peer_expect_text(&scene.peer, "A+@3/0 2:A+@3/0 d2@2/0 d3@3/0 S@3/0 2:d2@2/0 2:d3@3/0 2:S@3/0");
    peer_expect_text(&other, "3:A+@3/0 3:d2@2/0 3:d3@3/0 3:S@3/0 "
                             "4:A+@3/0 4:R(unknown_position)@2/0 4:d3@3/0 4:S@3/0");
    peer_close(&other);
    scene_end(&scene);
}

/* --- pages that cannot be read
 * -------------------------------------------------------------------- */

/* So many statements, each as soon as the table has rested. */
static void answer(struct scene *scene, int statements) {
    for (int i = 0; i < 100 && statements > 0; i++) {
        statements -= fake_step() ? 1 : 0;
        run_turns(scene->rig.loop, 1);
    }
}

/* What is broken for good is left out and told; what is refused for the moment is read again. */
static void test_page_that_cannot_be_read(void **state) {
    (void)state;
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
        struct scene scene;
        database_clear(1);
        (void)database_store("a", 2, 0);
        (void)database_store("a", 3, 0);
        scene_begin_with(&scene, RIG_HISTORY_BYTES, 10);
        scene.rig.config.reconnect_min = 0;
        database.page_fault = cases[i].fault;
        struct position position = rig_position(&scene.rig);
        position.durable = 1;
        peer_subscribe_from(&scene.peer, 1, "a", NULL, position);
        answer(&scene, 20);
        peer_expect_text(&scene.peer, cases[i].heard);
        assert_int_equal(scene.handler->state, HANDLER_SERVED);
        database.page_fault = NULL;
        answer(&scene, 20);
        peer_expect_text(&scene.peer, cases[i].afterwards);
        scene_end(&scene);
    }
}

/* Others come first meanwhile. */
static void test_page_that_cannot_be_read_holds_up_nobody(void **state) {
    (void)state;
    struct scene scene;
    database_clear(1);
    (void)database_store("a", 2, 0);
    scene_begin_with(&scene, RIG_HISTORY_BYTES, 10);
    scene.rig.config.reconnect_min = 0;
    database.page_fault = "XX001";
    struct position position = rig_position(&scene.rig);
    position.durable = 1;
    peer_subscribe(&scene.peer, 2, "a", NULL, POSITION_NONE);
    peer_subscribe_from(&scene.peer, 1, "a", NULL, position);
    peer_expect_text(&scene.peer, "2:A@2/0 2:S@2/0 A+@2/0");
    (void)database_store("a", 3, 0);
    table_rig_hint(&scene.rig, "{}");
    answer(&scene, 3); /* the page, a look, the reading */
    peer_expect_text(&scene.peer, "D3@3/1");
    answer(&scene, 20);
    peer_expect_text(&scene.peer, "R(gap)@3/1 S@3/1");
    scene_end(&scene);
}

/* --- leaving, and what happens to the table
 * ------------------------------------------------------ */

static const enum replay_state states[] = {REPLAY_HELD, REPLAY_READY, REPLAY_STARVED,
                                           REPLAY_PAGING};

/* A client 1 of a in that state, that has had nothing but ACCEPTED, or a few events of the page. */
static void scene_begin_in(struct scene *scene, enum replay_state state) {
    long_begin(scene);
    if (state == REPLAY_HELD) {
        rig_deaf(&scene->rig);
    } else if (state == REPLAY_READY) {
        scene->rig.config.handler_queue_bytes = 16 * 1024;
        handler_narrow(scene->handler);
    }
    peer_subscribe_from(&scene->peer, 1, "a", NULL, long_start(scene));
    if (state != REPLAY_PAGING) {
        fake_settle();
    }
    assert_int_equal(replay_find(scene->handler, 1)->state, state);
}

static void test_unsubscribed_in_every_state(void **state) {
    (void)state;
    for (size_t i = 0; i < length_of(states); i++) {
        struct scene scene;
        scene_begin_in(&scene, states[i]);
        peer_unsubscribe(&scene.peer, 1, "a", NULL);
        assert_null(replay_find(scene.handler, 1));
        assert_true(LIST_EMPTY(&scene.handler->subscriptions));
        fake_settle();
        table_rig_read(&scene.rig);
        assert_int_equal(scene.handler->state, HANDLER_SERVED);
        scene_end(&scene);
    }
}

static void test_handler_closed_in_every_state(void **state) {
    (void)state;
    for (size_t i = 0; i < length_of(states); i++) {
        struct scene scene;
        scene_begin_in(&scene, states[i]);
        handler_close(scene.handler, "the test closes it");
        fake_settle(); /* before it is freed */
        rig_publish(&scene.rig, "a", 1);
        run_turns(scene.rig.loop, 2);
        fake_settle();
        assert_null(topics_find(&scene.rig.broker->topics, LITERAL("b")));
        peer_close(&scene.peer);
        rig_end(&scene.rig);
    }
}

/* It goes, and later there is another one with a lower head. All that a client was to get from the
 * first is nothing to the second: it is told, once, and goes on from where that is. */
static void test_table_changes_in_every_state(void **state) {
    (void)state;
    for (size_t i = 0; i < length_of(states); i++) {
        for (int is_replaced = 0; is_replaced < 2; is_replaced++) {
            struct scene scene;
            struct wire_frame frame;
            unsigned refreshes = 0;
            unsigned live = 0;
            uint64_t last_id = 0;
            scene_begin_in(&scene, states[i]);
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
            scene.rig.broker->table.must_look = true;
            if (states[i] == REPLAY_HELD) {
                rig_listen(&scene.rig);
            }
            if (fake->state == FAKE_DOWN) {
                fake_connect();
            }
            table_rig_read(&scene.rig);
            rig_marker(&scene.rig);
            peer_credit(&scene.peer, 1, 10000000);
            for (int turn = 0; turn < 100; turn++) {
                if (fake->state == FAKE_DOWN) {
                    fake_connect();
                }
                fake_settle();
                while (peer_next(&scene.peer, &frame)) {
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
                table_rig_publish(&scene.rig, "a", 4);
                peer_expect_event(&scene.peer, "a", "4");
            }
            scene_end(&scene);
        }
    }
}

/* Pages of the one before are nothing to it. */
static void test_pages_of_another_table(void **state) {
    (void)state;
    struct scene scene;
    database_clear(1);
    (void)database_store("a", 2, 0);
    (void)database_store("a", 3, 0);
    scene_begin_with(&scene, RIG_HISTORY_BYTES, 10);
    struct position position = rig_position(&scene.rig);
    position.durable = 1;
    peer_subscribe_from(&scene.peer, 1, "a", NULL, position);
    fake_settle();
    peer_expect_text(&scene.peer, "A+@3/0 d2@2/0 d3@3/0 S@3/0");
    database_clear(2);
    (void)database_store("a", 22, 0);
    (void)database_store("a", 33, 0);
    table_rig_look(&scene.rig);
    peer_expect_text(&scene.peer, "RR(gap)@3/0");
    peer_subscribe_from(&scene.peer, 2, "a", NULL, position);
    fake_settle();
    peer_expect_text(&scene.peer, "2:A+@3/0 2:d22@2/0 2:d33@3/0 2:S@3/0");
    scene_end(&scene);
}

/* It goes on from the other one's head, which is lower: what comes there is new to it. */
static void test_table_is_replaced_while_it_is_starved(void **state) {
    (void)state;
    struct scene scene;
    unsigned next;
    (void)starve(&scene, &next);
    database_clear(2);
    (void)database_store("a", 2, 0);
    table_rig_look(&scene.rig);
    table_rig_publish(&scene.rig, "a", 3);
    peer_expect_text(&scene.peer, "RR(gap)@2/0 D3@3/0"); /* for those that are live */
    peer_credit(&scene.peer, 1, 10000000);
    fake_settle();
    peer_expect_text(&scene.peer, "R(gap)@2/0 d3@3/0 S@3/0");
    scene_end(&scene);
}

RUN_TESTS(TEST(test_live), TEST(test_from_the_log), TEST(test_from_pages),
          TEST(test_from_pages_and_then_the_log), TEST(test_events_while_a_page_is_read),
          TEST(test_readings_between_pages), TEST(test_without_id),
          TEST(test_without_id_on_an_old_page), TEST(test_everything),
          TEST(test_unknown_place_and_known_id), TEST(test_id_beyond_the_head), TEST(test_gaps),
          TEST(test_gap_in_what_is_read), TEST(test_floor_behind_a_full_page),
          TEST(test_floor_on_the_rest_of_a_page), TEST(test_credit),
          TEST(test_pruned_in_the_middle), TEST(test_queue_of_the_handler),
          TEST(test_clients_share_a_page), TEST(test_page_that_cannot_be_read),
          TEST(test_page_that_cannot_be_read_holds_up_nobody),
          TEST(test_unsubscribed_in_every_state), TEST(test_handler_closed_in_every_state),
          TEST(test_table_changes_in_every_state), TEST(test_hint_while_the_table_is_read),
          TEST(test_page_without_anything), TEST(test_pages_of_another_table),
          TEST(test_table_is_replaced_while_it_is_starved))
