/* A handler that reconnects with live clients that want durable events: each of the two parts of
 * its position goes on independently. What a peer hears is written as text, see broker_rig.h. */
#include "table_rig.h"

static struct { struct position start; /* D = 1, before anything was heard */ } scene;

/* The broker has heard 1:a, #2:a #3:b, 2:a, #4:a, 3:b #5:b; numbers are ids, or 100 plus the
 * place. */
static void scene_begin_with(int64_t history_bytes) {
    database_clear(1);
    table_rig_begin_with(history_bytes, 1024);
    scene.start = table_rig_position();
    rig_publish("a", 101);
    table_rig_publish("a", 2);
    table_rig_publish("b", 3);
    rig_publish("a", 102);
    table_rig_publish("a", 4);
    rig_publish("b", 103);
    table_rig_publish("b", 5);
    peer_introduce(&peer);
}

static void scene_resume(struct position position, const char *first, const char *second) {
    peer_send(&peer, resume_of(POSITION_KNOWN, &position, first, second));
}

static struct position at(uint64_t durable, uint64_t since) {
    struct position position = scene.start;
    position.durable = durable;
    position.since += since;
    return position;
}

/* --- where it goes on
 * ---------------------------------------------------------------------------- */

static void test_from_the_log(void **state) {
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
        {5, 0, "a", "b", "E101@5/1 E102@5/2 E103@5/3 P@5/3"}, /* D and M.S from different times */
        {1, 3, "a", "b", "D2@2/3 D3@3/3 D4@4/3 D5@5/3 P@5/3"},
        {4, 1, "a", "b", "E102@4/2 E103@4/3 D5@5/3 P@5/3"},
        {2, 2, "a", "b", "D3@3/2 D4@4/2 E103@4/3 D5@5/3 P@5/3"},
        {2, 2, "b", NULL, "D3@3/2 E103@4/3 D5@5/3 P@5/3"},
        {1, 0, "c", NULL, "P@5/3"},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        scene_begin_with(RIG_HISTORY_BYTES);
        scene_resume(at(cases[i].durable, cases[i].place), cases[i].first, cases[i].second);
        peer_expect_all(&peer, cases[i].heard);
        assert_int_equal(fake_task(), 0);
    }
}

/* Durable events come from the table, of all topics; a refresh tells of the others. */
static void test_from_pages(void **state) {
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
        size_t c = i / length_of(page_rows);
        scene_begin_with(0);
        database.page_rows = page_rows[i % length_of(page_rows)];
        scene_resume(at(cases[c].durable, cases[c].place), cases[c].first, NULL);
        fake_settle();
        for (int turn = 0; turn < 10; turn++) {
            run_turns(rig.loop, 1);
            fake_settle();
        }
        peer_expect_all(&peer, cases[c].heard);
        table_rig_publish("a", 6);
        peer_expect_text(&peer, strcmp(cases[c].first, "a") == 0 ? "D6@6/3" : "");
    }
}

/* Events of both kinds come while the resume waits for a page: each is sent once, in the order of
 * ids. */
static void test_events_while_a_page_is_read(void **state) {
    struct fake_rows rows = {0};
    scene_begin_with(0);
    rig.broker->journal.history.bytes_max = RIG_HISTORY_BYTES;
    scene_resume(at(3, 3), "a", "b");
    assert_int_equal(fake_task(), 'p');
    fake_execute(&rows);
    (void)database_store("a", 6, 0);
    rig_publish("a", 104);
    table_rig_hint("{}"); /* 5 */
    peer_expect_all(&peer, "");
    fake_deliver(&rows);
    fake_settle();
    peer_expect_all(&peer, "D4@4/3 D5@5/3 E104@5/4 D6@6/5 P@6/5");
}

/* A restarted broker does not know earlier markers, but ids are the table's. */
static void test_unknown_place_and_known_id(void **state) {
    static const int64_t history_bytes[] = {RIG_HISTORY_BYTES, 0};
    for (size_t i = 0; i < length_of(history_bytes); i++) {
        scene_begin_with(history_bytes[i]);
        scene_resume((struct position){3, "strangersname", 3}, "a", "b");
        fake_settle();
        peer_expect_all(&peer, "R(restart)@3/3 D4@4/3 D5@5/3 P@5/3");
    }
}

static void test_id_beyond_the_head(void **state) {
    static const struct {
        uint64_t id;
        const char *heard;
    } cases[] = {{6, "D7@7/3 P@7/3"}, {7, "P@7/3"}, {8, "RR(unknown_position)@7/3 P@7/3"}};
    for (size_t i = 0; i < length_of(cases); i++) {
        scene_begin_with(RIG_HISTORY_BYTES);
        (void)database_store("b", 6, 0);
        (void)database_store("a", 7, 0);
        scene_resume(at(cases[i].id, 3), "a", NULL);
        peer_expect_all(&peer, ""); /* the id may come from a broker that is ahead */
        fake_settle();
        peer_expect_all(&peer, cases[i].heard);
    }
}

/* The handler was served before the table existed. */
static void test_id_of_no_table(void **state) {
    scene_begin_with(RIG_HISTORY_BYTES);
    scene_resume(at(0, 2), "a", "b");
    peer_expect_all(&peer, "RR(unknown_position)@5/2 E103@5/3 P@5/3");
}

static void test_gaps(void **state) {
    static const int64_t history_bytes[] = {RIG_HISTORY_BYTES, 0};
    static const char *const heard[] = {
        "RR(gap,a)@2/3 D3@3/3 D5@5/3 P@6/3", /* the log does not help */
        "RR(gap,a)@2/3 D3@3/3 D5@5/3 P@6/3",
    };
    for (size_t i = 0; i < length_of(history_bytes); i++) {
        scene_begin_with(history_bytes[i]);
        (void)database_store("a", 6, 0);
        database_prune("a", 6);
        table_rig_read();
        scene_resume(at(1, 3), "a", "b");
        fake_settle();
        peer_expect_all(&peer, heard[i]);
    }
}

/* Pages with other topics' events, and with large events: the resume passes them, and never fills
 * more than half of the queue and one event. */
static void test_large_pages(void **state) {
    enum { EVENTS = 60, BYTES = 7000 };
    struct wire_frame frame;
    struct wire_event event;
    uint64_t last = 1;
    database_clear(1);
    for (unsigned i = 0; i < EVENTS; i++) {
        (void)database_store(i < EVENTS / 2 ? "a" : "b", 2 + i, BYTES);
    }
    table_rig_begin();
    rig_limit_queues(64 * 1024);
    struct position position = table_rig_position();
    position.durable = 1;
    peer_introduce(&peer);
    handler_narrow(peer.handler);
    peer_send(&peer, resume_of(POSITION_KNOWN, &position, "a", NULL));
    for (int i = 0; i < 2000 && peer.handler->state == HANDLER_RESUMING; i++) {
        fake_settle();
        assert_true(peer.handler->delivery.outbox.queue.queued_bytes < 32 * 1024 + BYTES + 400);
        assert_true(drain(peer.fd, &peer.input, 1000));
        run_turns(rig.loop, 1);
    }
    assert_int_equal(peer.handler->state, HANDLER_SERVED);
    while (peer_next(&peer, &frame)) {
        assert_int_equal(frame.type, WIRE_EVENT);
        assert_true(wire_decode_event(frame.body, &event));
        assert_int_equal(event_number(&event), ++last);
    }
    assert_int_equal(last, EVENTS / 2 + 1);
    assert_int_equal(peer.told.durable, EVENTS + 1);
}

/* Rows that stay unreadable are left out, and all clients of the handler are told. */
static void test_page_that_cannot_be_read(void **state) {
    scene_begin_with(0);
    rig.config.reconnect_min = 0;
    database.page_fault = "XX001";
    scene_resume(at(1, 3), "a", "b");
    for (int turn = 0; turn < 30; turn++) {
        (void)fake_step();
        run_turns(rig.loop, 1);
    }
    peer_expect_all(&peer, "RR(gap)@5/3 P@5/3");
}

/* Of several refreshes at one position only the last carries the position after all gaps. If the
 * connection ends before the last, the next connection tells the rest. */
static void test_connection_ends_between_gaps(void **state) {
    static const bool is_resuming[] = {false, true};
    for (size_t i = 0; i < length_of(is_resuming); i++) {
        struct wire_refresh first;
        database_clear(1);
        table_rig_begin_with(0, 1024);
        struct position start = table_rig_position();
        peer_introduce(&peer);
        if (!is_resuming[i]) {
            peer_send(&peer, resume_of(POSITION_KNOWN, &start, "a", "b"));
            peer_expect_text(&peer, "");
        }
        (void)database_store("a", 2, 0);
        (void)database_store("b", 3, 0);
        (void)database_store("c", 4, 0);
        database_prune("a", 2);
        database_prune("b", 3);
        table_rig_read();
        if (is_resuming[i]) {
            peer_send(&peer, resume_of(POSITION_KNOWN, &start, "a", "b"));
            fake_settle();
        }
        assert_true(wire_decode_refresh(peer_expect(&peer, WIRE_REFRESH), &first));
        assert_int_equal(first.position.durable, 1);
        struct wire_refresh last;
        assert_true(wire_decode_refresh(peer_expect(&peer, WIRE_REFRESH), &last));
        assert_int_equal(last.position.durable, 3);
        peer_close(&peer);
        peer_introduce(&peer); /* only the first refresh has arrived */
        peer_send(&peer, resume_of(POSITION_KNOWN, &first.position, "a", "b"));
        fake_settle();
        assert_true(wire_decode_refresh(peer_expect(&peer, WIRE_REFRESH), &first));
        assert_true(wire_decode_refresh(peer_expect(&peer, WIRE_REFRESH), &last));
        assert_true(topic_key_name(first.topic).at[0] + topic_key_name(last.topic).at[0] ==
                    'a' + 'b');
    }
}

enum { ONE_A_TURN = 2 }; /* queue limit in bytes, so small that the queue takes one frame a turn */

static void run_to_the_end(void) {
    for (int turn = 0; turn < 20; turn++) {
        fake_settle();
        run_turns(rig.loop, 1);
    }
}

/* --- more gaps than its queue takes -------------------------------------------------------------
 */

enum { MANY = 200 };

/* Many topics, of each the first event pruned and the second kept. Ids of 2 and up, in turn. */
static void many_begin(struct buf *resume, struct position *position) {
    static char names[MANY][8];
    database_clear(1);
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(names[i], sizeof names[i], "m%u", i);
        (void)database_store(names[i], 2 * i, 0);
        (void)database_store(names[i], 2 * i + 1, 0);
    }
    table_rig_begin_with(0, 1024);
    for (unsigned i = 0; i < MANY; i++) {
        database_prune(names[i], 2 + 2 * i);
    }
    *position = table_rig_position();
    position->durable = 1;
    wire_resume_begin(resume, POSITION_KNOWN, position);
    for (unsigned i = 0; i < MANY; i++) {
        struct wire_resume_entry entry = {key_of(names[i]), 1};
        assert_true(wire_resume_add(resume, &entry));
    }
}

/* The handler is told of each gap once, as its queue drains; the last refresh carries the position
 * after all. */
static void test_more_gaps_than_the_queue_takes(void **state) {
    struct buf resume = {0};
    struct position position;
    unsigned refreshes = 0;
    unsigned events = 0;
    bool was_told[MANY] = {false};
    many_begin(&resume, &position);
    rig_limit_queues(1024);
    peer_introduce(&peer);
    handler_narrow(peer.handler);
    peer_send(&peer, wire_resume_end(&resume, true));
    for (int i = 0; i < 2000 && peer.handler->state == HANDLER_RESUMING; i++) {
        fake_settle();
        assert_true(peer.handler->delivery.outbox.queue.queued_bytes < 1024);
        assert_true(drain(peer.fd, &peer.input, 1000));
        run_turns(rig.loop, 1);
    }
    assert_int_equal(peer.handler->state, HANDLER_SERVED);
    struct wire_frame frame;
    struct wire_refresh refresh;
    while (peer_next(&peer, &frame)) {
        if (frame.type == WIRE_EVENT) {
            events++;
            continue;
        }
        assert_int_equal(frame.type, WIRE_REFRESH);
        assert_true(wire_decode_refresh(frame.body, &refresh));
        unsigned long number = strtoul(topic_key_name(refresh.topic).at + 1, NULL, 10);
        assert_true(number < MANY && !was_told[number] && events == 0);
        was_told[number] = true;
        assert_int_equal(refresh.position.durable, ++refreshes < MANY ? 1 : 2);
    }
    assert_int_equal(refreshes, MANY);
    assert_int_equal(events, MANY);
}

/* Gaps that the reading under way has met. */
static void test_more_open_gaps_than_the_queue_takes(void **state) {
    struct buf resume = {0};
    struct wire_frame frame;
    struct position position;
    unsigned refreshes = 0;
    many_begin(&resume, &position);
    database.count = 0; /* they come now */
    for (unsigned i = 0; i < MANY; i++) {
        static char names[MANY][8];
        snprintf(names[i], sizeof names[i], "m%u", i);
        (void)database_store(names[i], i, 0);
        database_prune(names[i], database.last_id);
    }
    (void)database_store("other", 1, 0);
    (void)database_store("other", 2, 0);
    database.page_rows = 1;
    position.durable = rig.broker->journal.table.head;
    rig_limit_queues(1024);
    (void)table_ask_reading(&rig.broker->journal.table);
    assert_true(fake_step()); /* the first page: it has more */
    assert_false(gap_memory_is_empty(&rig.broker->journal.table.gaps));
    peer_introduce(&peer);
    handler_narrow(peer.handler);
    peer_send(&peer, wire_resume_end(&resume, true));
    for (int i = 0; i < 2000 && peer.handler->state == HANDLER_RESUMING; i++) {
        assert_true(drain(peer.fd, &peer.input, 1000));
        run_turns(rig.loop, 1);
        fake_settle();
    }
    assert_int_equal(peer.handler->state, HANDLER_SERVED);
    while (peer_next(&peer, &frame)) {
        assert_int_equal(frame.type, WIRE_REFRESH);
        refreshes++;
    }
    assert_true(refreshes >= MANY);
}

/* A gap that was told is not told again after ephemeral events. */
static void test_gap_is_told_once_beside_ephemeral_events(void **state) {
    struct buf text = {0};
    struct wire_frame frame;
    database_clear(1);
    (void)database_store("a", 2, 0);
    (void)database_store("a", 3, 0);
    table_rig_begin();
    rig_marker();
    struct position position = table_rig_position();
    rig_limit_queues(ONE_A_TURN);
    rig_publish("a", 101);
    rig_publish("a", 102);
    (void)database_store("b", 4, 0);
    (void)database_store("a", 5, 0);
    (void)database_store("b", 6, 0);
    database_prune("a", 5);
    database.page_rows = 1;
    (void)table_ask_reading(&rig.broker->journal.table);
    assert_true(fake_step()); /* up to 4: the reading has met the gap and is not complete */
    position.durable = 4;
    peer_introduce(&peer);
    peer_send(&peer, resume_of(POSITION_KNOWN, &position, "a", NULL));
    run_turns(rig.loop, 20);
    while (peer_next_of_all(&peer, &frame)) {
        print_frame(&frame, &text);
    }
    buf_append(&text, "", 1);
    const char *refresh = strstr(text.bytes, "R(gap");
    assert_non_null(refresh);
    if (strstr(refresh + 1, "R(gap") != NULL || strstr(text.bytes, "E102@") == NULL) {
        fail_msg("it was told twice: %s", text.bytes);
    }
    buf_release(&text);
}

/* The handler is told of a gap in the middle of a page that was read before the pruning. The gap is
 * after that page's events, so it is told again after them. */
static void test_gap_after_an_old_page(void **state) {
    struct peer late;
    struct buf text = {0};
    struct wire_frame frame;
    database_clear(1);
    for (unsigned id = 2; id <= 4; id++) {
        (void)database_store("a", id, 0);
    }
    table_rig_begin_with(0, 1024);
    rig_limit_queues(ONE_A_TURN);
    struct position position = table_rig_position();
    position.durable = 1;
    peer_introduce(&peer);
    peer_send(&peer, resume_of(POSITION_KNOWN, &position, "a", NULL));
    run_to_the_end(); /* the page is there now */
    peer_close(&peer);
    peer_introduce(&late);
    peer_send(&late, resume_of(POSITION_KNOWN, &position, "a", NULL));
    for (unsigned id = 5; id <= 7; id++) {
        (void)database_store("a", id, 0);
    }
    database_prune("a", 6);
    (void)table_ask_reading(&rig.broker->journal.table);
    assert_true(fake_step());
    run_to_the_end();
    while (peer_next_of_all(&late, &frame)) {
        print_frame(&frame, &text);
    }
    buf_append(&text, "", 1);
    const char *refresh = strstr(text.bytes, "D4@");
    assert_non_null(refresh);
    refresh = strstr(refresh, "R(gap");
    assert_non_null(refresh);
    assert_non_null(strstr(refresh, "D7@"));
    buf_release(&text);
    peer_close(&late);
}

/* The last row cannot be sent: it becomes a gap. */
static void test_page_that_ends_with_a_bad_row(void **state) {
    database_clear(1);
    (void)database_store("a", 2, 0);
    (void)database_store("a", 3, 0);
    database.rows[1].is_bad = true;
    table_rig_begin();
    struct position position = table_rig_position();
    position.durable = 1;
    peer_introduce(&peer);
    peer_send(&peer, resume_of(POSITION_KNOWN, &position, "a", NULL));
    fake_settle();
    peer_expect_all(&peer, "RR(gap,a)@1/0 D2@2/0 P@3/0");
}

/* --- floors that the broker has not read yet
 * ----------------------------------------------------- */

/* Events after the head that were published and pruned are on a page, too, as floors (pgsse.page
 * does not bound floors by the page's end). Positions do not move forward to such a floor and
 * back. */
static void test_floors_behind_the_end_of_a_page(void **state) {
    struct wire_frame frame;
    uint64_t last = 0;
    scene_begin_with(0);
    (void)database_store("b", 6, 0);
    (void)database_store("a", 7, 0);
    database_prune("a", 7);
    scene_resume(at(4, 3), "a", "b");
    fake_settle();
    while (peer_next_of_all(&peer, &frame)) {
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
}

/* Events between the page's end and such a floor are not skipped when the broker reads them
 * meanwhile. The handler's queue takes one frame: the refresh of a's floor 7. */
static void test_events_before_floors_behind_the_end(void **state) {
    struct buf text = {0};
    struct wire_frame frame;
    database_clear(1);
    for (unsigned id = 2; id <= 5; id++) {
        (void)database_store("d", id, 0);
    }
    table_rig_begin();
    rig_limit_queues(ONE_A_TURN);
    struct position position = table_rig_position();
    position.durable = 4;
    peer_introduce(&peer);
    peer_send(&peer, resume_of(POSITION_KNOWN, &position, "a", "b"));
    assert_int_equal(fake_task(), 'p');
    (void)database_store("b", 6, 0);
    (void)database_store("a", 7, 0);
    (void)database_store("b", 8, 0);
    (void)database_store("c", 9, 0);
    database_prune("a", 7);
    database_prune("c", 9);
    assert_true(fake_step());
    peer.handler->delivery.on_refill(
        &peer.handler->delivery.refill); /* as its timer does, in the same turn as the reading */
    table_rig_read();
    for (int turn = 0; turn < 20; turn++) {
        run_turns(rig.loop, 1);
        fake_settle();
    }
    while (peer_next_of_all(&peer, &frame)) {
        print_frame(&frame, &text);
    }
    if (memmem(text.bytes, text.length, "D6@", 3) == NULL ||
        memmem(text.bytes, text.length, "D8@", 3) == NULL) {
        fail_msg("event 6 or 8 is lost: %.*s", (int)text.length, text.bytes);
    }
    buf_release(&text);
}

/* A floor after the place from which the log goes on: the client is still told of what was pruned
 * before. The page was read after the pruning, the log was filled before it. */
static void test_floor_that_the_log_has_as_an_event(void **state) {
    struct buf text = {0};
    struct wire_frame frame;
    database_clear(1);
    (void)database_store("a", 2, 0);
    (void)database_store("b", 3, 0);
    table_rig_begin();
    rig_limit_queues(ONE_A_TURN);
    struct position position = table_rig_position();
    position.durable = 1;
    table_rig_publish("a", 4);
    database_prune("a", 4);
    peer_introduce(&peer);
    peer_send(&peer, resume_of(POSITION_KNOWN, &position, "a", "b"));
    for (int turn = 0; turn < 20; turn++) {
        fake_settle();
        run_turns(rig.loop, 1);
    }
    while (peer_next_of_all(&peer, &frame)) {
        print_frame(&frame, &text);
    }
    if (memmem(text.bytes, text.length, "R(gap", 5) == NULL) {
        fail_msg("event 2 is lost: %.*s", (int)text.length, text.bytes);
    }
    buf_release(&text);
}

/* --- what happens to the table
 * ------------------------------------------------------------------- */

/* The table vanishes before the id is decided: an id for which the table has to be read. */
static void test_table_vanishes_before_it_is_decided(void **state) {
    scene_begin_with(RIG_HISTORY_BYTES);
    database.is_missing = true;
    rig.broker->journal.table.must_look = true;
    scene_resume(at(9, 3), "a", "b");
    assert_int_equal(fake_task(), 't');
    fake_settle();
    run_turns(rig.loop, 3);
    assert_int_equal(peer.handler->state, HANDLER_SERVED); /* at once, not with the next marker */
}

/* While it waits for a page. */
static void test_table_changes_while_it_waits_for_a_page(void **state) {
    for (int is_replaced = 0; is_replaced < 2; is_replaced++) {
        scene_begin_with(0);
        scene_resume(at(1, 3), "a", "b");
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
        peer_expect_all(&peer, is_replaced ? "RR(gap)@3/3 P@3/3" : "RR(gap)@3 P@3");
        if (is_replaced) {
            table_rig_publish("b", 4);
            peer_expect_all(&peer, "D4@4/3");
        }
    }
}

static void test_table_appears_while_it_is_served(void **state) {
    scene_begin_with(RIG_HISTORY_BYTES);
    scene_resume(at(5, 3), "a", NULL);
    peer_expect_all(&peer, "P@5/3");
    database.is_missing = true;
    table_rig_look();
    peer_expect_all(&peer, "RR(gap)@3");
    database_clear(2);
    (void)database_store("a", 2, 0);
    table_rig_look();
    table_rig_publish("a", 3);
    peer_expect_all(&peer, "RR(gap)@2/3 D3@3/3");
}

RUN_TESTS(
    TEST(test_from_the_log), TEST(test_from_pages), TEST(test_events_while_a_page_is_read),
    TEST(test_unknown_place_and_known_id), TEST(test_id_beyond_the_head), TEST(test_id_of_no_table),
    TEST(test_gaps), TEST(test_large_pages), TEST(test_page_that_ends_with_a_bad_row),
    TEST(test_page_that_cannot_be_read), TEST(test_connection_ends_between_gaps),
    TEST(test_more_gaps_than_the_queue_takes), TEST(test_more_open_gaps_than_the_queue_takes),
    TEST(test_gap_is_told_once_beside_ephemeral_events), TEST(test_gap_after_an_old_page),
    TEST(test_floors_behind_the_end_of_a_page), TEST(test_events_before_floors_behind_the_end),
    TEST(test_floor_that_the_log_has_as_an_event), TEST(test_table_vanishes_before_it_is_decided),
    TEST(test_table_changes_while_it_waits_for_a_page), TEST(test_table_appears_while_it_is_served))
