/* A handler that comes back for live clients that want durable events: the two parts of its
 * position go on each for itself. What a peer hears is written as text, see broker_rig.h. */
#include "table_rig.h"

struct scene {
    struct rig rig;
    struct peer peer;
    struct handler *handler;
    struct position start; /* D = 1, before anything was heard */
};

/* Heard: 1:a, #2:a #3:b, 2:a, #4:a, 3:b #5:b; numbers are ids, or 100 and the place. */
static void scene_begin_with(struct scene *scene, int64_t history_bytes) {
    struct rig *rig = &scene->rig;
    database_clear(1);
    table_rig_begin_with(rig, history_bytes, 1024);
    scene->start = table_rig_position(rig);
    rig_publish(rig, "a", 101);
    table_rig_publish(rig, "a", 2);
    table_rig_publish(rig, "b", 3);
    rig_publish(rig, "a", 102);
    table_rig_publish(rig, "a", 4);
    rig_publish(rig, "b", 103);
    table_rig_publish(rig, "b", 5);
    scene->handler = peer_introduce(rig, &scene->peer);
}

static void scene_end(struct scene *scene) {
    peer_close(&scene->peer);
    rig_end(&scene->rig);
}

static void scene_resume(struct scene *scene, struct position position, const char *first,
                         const char *second) {
    peer_send(&scene->peer, resume_of(POSITION_KNOWN, &position, first, second));
}

static struct position at(const struct scene *scene, uint64_t durable, uint64_t since) {
    struct position position = scene->start;
    position.durable = durable;
    position.since += since;
    return position;
}

/* --- where it goes on
 * ---------------------------------------------------------------------------- */

static void test_from_the_log(void **state) {
    (void)state;
    static const struct {
        uint64_t durable;
        uint64_t place;
        const char *first;
        const char *second;
        const char *heard;
    } cases[] = {
        {1, 0, "a", NULL, "E101@1/1 D2@2/1 E102@3/2 D4@4/2 P@5/3"},
        {1, 0, "a", "b", "E101@1/1 D2@2/1 D3@3/1 E102@3/2 D4@4/2 E103@4/3 D5@5/3 P@5/3"},
        {3, 1, "a", "b", "E102@3/2 D4@4/2 E103@4/3 D5@5/3 P@5/3"},
        {5, 3, "a", "b", "P@5/3"},
        {5, 0, "a", "b", "E101@5/1 E102@5/2 E103@5/3 P@5/3"}, /* parts that are out of step */
        {1, 3, "a", "b", "D2@2/3 D3@3/3 D4@4/3 D5@5/3 P@5/3"},
        {4, 1, "a", "b", "E102@4/2 E103@4/3 D5@5/3 P@5/3"},
        {2, 2, "a", "b", "D3@3/2 D4@4/2 E103@4/3 D5@5/3 P@5/3"},
        {2, 2, "b", NULL, "D3@3/2 E103@4/3 D5@5/3 P@5/3"},
        {1, 0, "c", NULL, "P@5/3"},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        struct scene scene;
        scene_begin_with(&scene, RIG_HISTORY_BYTES);
        scene_resume(&scene, at(&scene, cases[i].durable, cases[i].place), cases[i].first,
                     cases[i].second);
        peer_expect_all(&scene.peer, cases[i].heard);
        assert_int_equal(fake_task(), 0);
        scene_end(&scene);
    }
}

/* What is durable comes from the table, of all topics; of the rest they are told. */
static void test_from_pages(void **state) {
    (void)state;
    static const struct {
        uint64_t durable;
        uint64_t place;
        const char *first;
        const char *heard;
    } cases[] = {
        {1, 0, "a", "R(gap,a)@1/0 D2@2/0 D4@4/0 P@5/3"},
        {2, 2, "a", "D4@4/2 P@5/3"},
        {2, 2, "b", "R(gap,b)@2/2 D3@3/2 D5@5/2 P@5/3"},
        {5, 3, "a", "P@5/3"},
        {1, 3, "c", "P@5/3"},
    };
    static const size_t page_rows[] = {0, 1, 2};
    for (size_t i = 0; i < length_of(cases) * length_of(page_rows); i++) {
        struct scene scene;
        size_t c = i / length_of(page_rows);
        scene_begin_with(&scene, 0);
        database.page_rows = page_rows[i % length_of(page_rows)];
        scene_resume(&scene, at(&scene, cases[c].durable, cases[c].place), cases[c].first, NULL);
        fake_settle();
        for (int turn = 0; turn < 10; turn++) {
            run_turns(scene.rig.loop, 1);
            fake_settle();
        }
        peer_expect_all(&scene.peer, cases[c].heard);
        table_rig_publish(&scene.rig, "a", 6);
        peer_expect_text(&scene.peer, strcmp(cases[c].first, "a") == 0 ? "D6@6/3" : "");
        scene_end(&scene);
    }
}

/* While it waits for the page, events of both kinds come: each once, ids in order. */
static void test_events_while_a_page_is_read(void **state) {
    (void)state;
    struct scene scene;
    struct fake_rows rows = {0};
    scene_begin_with(&scene, 0);
    scene.rig.broker->history.bytes_max = RIG_HISTORY_BYTES;
    scene_resume(&scene, at(&scene, 3, 3), "a", "b");
    assert_int_equal(fake_task(), 'p');
    fake_execute(&rows);
    (void)database_store("a", 6, 0);
    rig_publish(&scene.rig, "a", 104);
    table_rig_hint(&scene.rig, "{}"); /* 5 */
    peer_expect_all(&scene.peer, "");
    fake_deliver(&rows);
    fake_settle();
    peer_expect_all(&scene.peer, "D4@4/3 D5@5/3 E104@5/4 D6@6/5 P@6/5");
    scene_end(&scene);
}

/* A broker that was started again knows no marker of before; ids are the table's. */
static void test_unknown_place_and_known_id(void **state) {
    (void)state;
    static const int64_t history_bytes[] = {RIG_HISTORY_BYTES, 0};
    for (size_t i = 0; i < length_of(history_bytes); i++) {
        struct scene scene;
        scene_begin_with(&scene, history_bytes[i]);
        scene_resume(&scene, (struct position){3, "strangersname", 3}, "a", "b");
        fake_settle();
        peer_expect_all(&scene.peer, "R(restart)@3/3 D4@4/3 D5@5/3 P@5/3");
        scene_end(&scene);
    }
}

static void test_id_beyond_the_head(void **state) {
    (void)state;
    static const struct {
        uint64_t id;
        const char *heard;
    } cases[] = {{6, "D7@7/3 P@7/3"}, {7, "P@7/3"}, {8, "RR(unknown_position)@7/3 P@7/3"}};
    for (size_t i = 0; i < length_of(cases); i++) {
        struct scene scene;
        scene_begin_with(&scene, RIG_HISTORY_BYTES);
        (void)database_store("b", 6, 0);
        (void)database_store("a", 7, 0);
        scene_resume(&scene, at(&scene, cases[i].id, 3), "a", NULL);
        peer_expect_all(&scene.peer, ""); /* it may be that of a broker that is ahead */
        fake_settle();
        peer_expect_all(&scene.peer, cases[i].heard);
        scene_end(&scene);
    }
}

/* It was served when there was no table. */
static void test_id_of_no_table(void **state) {
    (void)state;
    struct scene scene;
    scene_begin_with(&scene, RIG_HISTORY_BYTES);
    scene_resume(&scene, at(&scene, 0, 2), "a", "b");
    peer_expect_all(&scene.peer, "RR(unknown_position)@5/2 E103@5/3 P@5/3");
    scene_end(&scene);
}

static void test_gaps(void **state) {
    (void)state;
    static const int64_t history_bytes[] = {RIG_HISTORY_BYTES, 0};
    static const char *const heard[] = {
        "RR(gap,a)@2/3 D3@3/3 D5@5/3 P@6/3", /* what the log has is nothing to go on from */
        "RR(gap,a)@2/3 D3@3/3 D5@5/3 P@6/3",
    };
    for (size_t i = 0; i < length_of(history_bytes); i++) {
        struct scene scene;
        scene_begin_with(&scene, history_bytes[i]);
        (void)database_store("a", 6, 0);
        database_prune("a", 6);
        table_rig_read(&scene.rig);
        scene_resume(&scene, at(&scene, 1, 3), "a", "b");
        fake_settle();
        peer_expect_all(&scene.peer, heard[i]);
        scene_end(&scene);
    }
}

/* Pages of others' events, and of large ones: it passes them, and holds no more than half of its
 * queue and one event. */
static void test_large_pages(void **state) {
    (void)state;
    enum { EVENTS = 60, BYTES = 7000 };
    struct rig rig;
    struct peer peer;
    struct wire_frame frame;
    struct wire_event event;
    uint64_t last = 1;
    database_clear(1);
    for (unsigned i = 0; i < EVENTS; i++) {
        (void)database_store(i < EVENTS / 2 ? "a" : "b", 2 + i, BYTES);
    }
    table_rig_begin(&rig);
    rig.config.handler_queue_bytes = 64 * 1024;
    struct position position = table_rig_position(&rig);
    position.durable = 1;
    struct handler *handler = peer_introduce(&rig, &peer);
    handler_narrow(handler);
    peer_send(&peer, resume_of(POSITION_KNOWN, &position, "a", NULL));
    for (int i = 0; i < 2000 && handler->state == HANDLER_RESUMING; i++) {
        fake_settle();
        assert_true(handler->output.queued_bytes < 32 * 1024 + BYTES + 400);
        assert_true(drain(peer.fd, &peer.input, 1000));
        run_turns(rig.loop, 1);
    }
    assert_int_equal(handler->state, HANDLER_SERVED);
    while (peer_next(&peer, &frame)) {
        assert_int_equal(frame.type, WIRE_EVENT);
        assert_true(wire_decode_event(frame.body, &event));
        assert_int_equal(event_number(&event), ++last);
    }
    assert_int_equal(last, EVENTS / 2 + 1);
    assert_int_equal(peer.told.durable, EVENTS + 1);
    peer_close(&peer);
    rig_end(&rig);
}

/* What is broken for good is left out, and all its clients are told. */
static void test_page_that_cannot_be_read(void **state) {
    (void)state;
    struct scene scene;
    scene_begin_with(&scene, 0);
    scene.rig.config.reconnect_min = 0;
    database.page_fault = "XX001";
    scene_resume(&scene, at(&scene, 1, 3), "a", "b");
    for (int turn = 0; turn < 30; turn++) {
        (void)fake_step();
        run_turns(scene.rig.loop, 1);
    }
    peer_expect_all(&scene.peer, "RR(gap,b)@5/3 RR(gap,a)@5/3 P@5/3");
    scene_end(&scene);
}

/* Nothing can be sent of the last row. */
static void test_page_that_ends_with_a_bad_row(void **state) {
    (void)state;
    struct rig rig;
    struct peer peer;
    database_clear(1);
    (void)database_store("a", 2, 0);
    (void)database_store("a", 3, 0);
    database.rows[1].is_bad = true;
    table_rig_begin(&rig);
    struct position position = table_rig_position(&rig);
    position.durable = 1;
    (void)peer_introduce(&rig, &peer);
    peer_send(&peer, resume_of(POSITION_KNOWN, &position, "a", NULL));
    fake_settle();
    peer_expect_all(&peer, "D2@2/0 P@3/0");
    peer_close(&peer);
    rig_end(&rig);
}

/* --- floors that the broker has not read yet
 * ----------------------------------------------------- */

enum { ONE_A_TURN = 2 }; /* bytes of a queue that takes one frame a turn */

/* What was published and pruned behind the head stands on a page, too (pgsse.page does not bound
 * floors by its end): positions do not move on to it and back. */
static void test_floors_behind_the_end_of_a_page(void **state) {
    (void)state;
    struct scene scene;
    struct wire_frame frame;
    uint64_t last = 0;
    scene_begin_with(&scene, 0);
    (void)database_store("b", 6, 0);
    (void)database_store("a", 7, 0);
    database_prune("a", 7);
    scene_resume(&scene, at(&scene, 4, 3), "a", "b");
    fake_settle();
    while (peer_next_of_all(&scene.peer, &frame)) {
        struct wire_refresh refresh;
        struct wire_event event;
        struct wire_position position;
        uint64_t durable = 0;
        if (frame.type == WIRE_REFRESH && wire_decode_refresh(frame.body, &refresh)) {
            durable = refresh.position.durable;
        } else if (frame.type == WIRE_EVENT && wire_decode_event(frame.body, &event)) {
            durable = event.position.durable;
        } else if (frame.type == WIRE_POSITION && wire_decode_position(frame.body, &position)) {
            durable = position.position.durable;
        }
        assert_true(durable >= last);
        last = durable;
    }
    assert_true(last >= 5);
    scene_end(&scene);
}

/* And nothing between the end and that floor is skipped, when the broker reads it meanwhile: the
 * handler's queue takes one frame, and that is the refresh of a's floor 7. */
static void test_events_before_floors_behind_the_end(void **state) {
    (void)state;
    struct rig rig;
    struct peer peer;
    struct buf text = {0};
    struct wire_frame frame;
    database_clear(1);
    for (unsigned id = 2; id <= 5; id++) {
        (void)database_store("d", id, 0);
    }
    table_rig_begin(&rig);
    rig.config.handler_queue_bytes = ONE_A_TURN;
    struct position position = table_rig_position(&rig);
    position.durable = 4;
    struct handler *handler = peer_introduce(&rig, &peer);
    peer_send(&peer, resume_of(POSITION_KNOWN, &position, "a", "b"));
    assert_int_equal(fake_task(), 'p');
    (void)database_store("b", 6, 0);
    (void)database_store("a", 7, 0);
    (void)database_store("b", 8, 0);
    (void)database_store("c", 9, 0);
    database_prune("a", 7);
    database_prune("c", 9);
    assert_true(fake_step());
    resume_pump(handler); /* as its timer does, and in the same turn comes what was read */
    table_rig_read(&rig);
    for (int turn = 0; turn < 20; turn++) {
        run_turns(rig.loop, 1);
        fake_settle();
    }
    while (peer_next_of_all(&peer, &frame)) {
        print_frame(&rig, &frame, &text);
    }
    if (memmem(text.bytes, text.length, "D6@", 3) == NULL ||
        memmem(text.bytes, text.length, "D8@", 3) == NULL) {
        fail_msg("event 6 or 8 is lost: %.*s", (int)text.length, text.bytes);
    }
    buf_release(&text);
    peer_close(&peer);
    rig_end(&rig);
}

/* A floor that stands behind where the log goes on from: what was pruned before that is told all
 * the same. The page was read behind the prune, the log before it. */
static void test_floor_that_the_log_has_as_an_event(void **state) {
    (void)state;
    struct rig rig;
    struct peer peer;
    struct buf text = {0};
    struct wire_frame frame;
    database_clear(1);
    (void)database_store("a", 2, 0);
    (void)database_store("b", 3, 0);
    table_rig_begin(&rig);
    rig.config.handler_queue_bytes = ONE_A_TURN;
    struct position position = table_rig_position(&rig);
    position.durable = 1;
    table_rig_publish(&rig, "a", 4);
    database_prune("a", 4);
    (void)peer_introduce(&rig, &peer);
    peer_send(&peer, resume_of(POSITION_KNOWN, &position, "a", "b"));
    for (int turn = 0; turn < 20; turn++) {
        fake_settle();
        run_turns(rig.loop, 1);
    }
    while (peer_next_of_all(&peer, &frame)) {
        print_frame(&rig, &frame, &text);
    }
    if (memmem(text.bytes, text.length, "R(gap", 5) == NULL) {
        fail_msg("event 2 is lost: %.*s", (int)text.length, text.bytes);
    }
    buf_release(&text);
    peer_close(&peer);
    rig_end(&rig);
}

/* --- what happens to the table
 * ------------------------------------------------------------------- */

/* Before the id is decided: an id that the table must be read for. */
static void test_table_vanishes_before_it_is_decided(void **state) {
    (void)state;
    struct scene scene;
    scene_begin_with(&scene, RIG_HISTORY_BYTES);
    database.is_missing = true;
    scene.rig.broker->table.must_look = true;
    scene_resume(&scene, at(&scene, 9, 3), "a", "b");
    assert_int_equal(fake_task(), 'l');
    fake_settle();
    run_turns(scene.rig.loop, 3);
    assert_int_equal(scene.handler->state, HANDLER_SERVED); /* not only with the next marker */
    scene_end(&scene);
}

/* While it waits for a page. */
static void test_table_changes_while_it_waits_for_a_page(void **state) {
    (void)state;
    for (int is_replaced = 0; is_replaced < 2; is_replaced++) {
        struct scene scene;
        scene_begin_with(&scene, 0);
        scene_resume(&scene, at(&scene, 1, 3), "a", "b");
        assert_int_equal(fake_task(), 'p');
        pg_drop(fake, "the test pulled the plug");
        if (is_replaced) {
            database_clear(2);
            (void)database_store("a", 2, 0);
            (void)database_store("a", 3, 0);
        } else {
            database.is_missing = true;
        }
        fake_connect();
        fake_settle();
        peer_expect_all(&scene.peer, is_replaced ? "RR(gap)@3/3 P@3/3" : "RR(gap)@3 P@3");
        if (is_replaced) {
            table_rig_publish(&scene.rig, "b", 4);
            peer_expect_all(&scene.peer, "D4@4/3");
        }
        scene_end(&scene);
    }
}

static void test_table_appears_while_it_is_served(void **state) {
    (void)state;
    struct scene scene;
    scene_begin_with(&scene, RIG_HISTORY_BYTES);
    scene_resume(&scene, at(&scene, 5, 3), "a", NULL);
    peer_expect_all(&scene.peer, "P@5/3");
    database.is_missing = true;
    table_rig_look(&scene.rig);
    peer_expect_all(&scene.peer, "RR(gap)@3");
    database_clear(2);
    (void)database_store("a", 2, 0);
    table_rig_look(&scene.rig);
    table_rig_publish(&scene.rig, "a", 3);
    peer_expect_all(&scene.peer, "RR(gap)@2/3 D3@3/3");
    scene_end(&scene);
}

RUN_TESTS(TEST(test_from_the_log), TEST(test_from_pages), TEST(test_events_while_a_page_is_read),
          TEST(test_unknown_place_and_known_id), TEST(test_id_beyond_the_head),
          TEST(test_id_of_no_table), TEST(test_gaps), TEST(test_large_pages),
          TEST(test_page_that_ends_with_a_bad_row), TEST(test_page_that_cannot_be_read),
          TEST(test_floors_behind_the_end_of_a_page),
          TEST(test_events_before_floors_behind_the_end),
          TEST(test_floor_that_the_log_has_as_an_event),
          TEST(test_table_vanishes_before_it_is_decided),
          TEST(test_table_changes_while_it_waits_for_a_page),
          TEST(test_table_appears_while_it_is_served))
