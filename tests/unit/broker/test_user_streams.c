/* User streams, of the durable API: their users' rights are looked up, they get durable events
 * only, and the broker counts them. */
#include "document.h"
#include "table_rig.h"

static void scene_connect(void) {
    peer_connect(&peer);
    peer_expect_text(&peer, "");
}

/* Durable events 2 to 5: a b a b; u may have a and b, v only b. */
static void scene_begin_with(int64_t history_bytes) {
    database_clear(1);
    snprintf(database.rights, sizeof database.rights, " u/a u/b v/b ");
    table_rig_begin_with(history_bytes, 1024);
    for (unsigned id = 2; id <= 5; id++) {
        table_rig_publish(id % 2 == 0 ? "a" : "b", id);
    }
    scene_connect();
}

static void scene_begin(void) {
    scene_begin_with(RIG_HISTORY_BYTES);
}

static uint64_t subscribers_of(const char *name) {
    const struct topic *topic = topics_find(&rig.broker->journal.topics, key_of(name));
    return topic == NULL ? 0 : topic->subscribers;
}

/* --- what the user may have
 * ------------------------------------------------------------------------- */

static void test_rights(void **state) {
    static const struct {
        const char *user;
        const char *first;
        const char *second;
        const char *granted; /* NULL: 403 */
    } cases[] = {
        {"u", "a", NULL, "a"}, {"u", "a", "b", "ab"},  {"u", "b", "a", "ba"},
        {"v", "a", "b", "b"},  {"v", "b", "a", "b"},   {"v", "a", NULL, NULL},
        {"w", "a", "b", NULL}, {"u", "c", NULL, NULL}, {"", "a", NULL, NULL},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        struct wire_accepted accepted;
        struct wire_frame frame;
        char granted[8] = "";
        scene_begin();
        peer_connection(&peer, 1, cases[i].user, cases[i].first, cases[i].second, POSITION_NONE, 0);
        peer_expect_text(&peer, ""); /* not before the schema is known */
        assert_int_equal(fake_task(), 'c');
        fake_settle();
        assert_true(peer_next(&peer, &frame));
        if (cases[i].granted == NULL) {
            struct wire_refused refused;
            assert_int_equal(frame.type, WIRE_REFUSED);
            assert_true(wire_decode_refused(frame.body, &refused));
            assert_int_equal(refused.status, 403);
            assert_null(replay_find(&peer.handler->delivery, 1));
            assert_true(LIST_EMPTY(&peer.handler->delivery.interests));
        } else {
            assert_int_equal(frame.type, WIRE_ACCEPTED);
            assert_true(wire_decode_accepted(frame.body, &accepted));
            for (size_t t = 0; t < accepted.topics.count; t++) {
                granted[t] = topic_key_name(accepted.topics.keys[t]).at[0];
            }
            assert_string_equal(granted, cases[i].granted);
            peer_expect_text(&peer, "S@5/0");
            assert_int_equal(subscribers_of("a"), strchr(granted, 'a') != NULL);
            assert_int_equal(subscribers_of("b"), strchr(granted, 'b') != NULL);
        }
        table_rig_publish("a", 6);
        table_rig_publish("b", 7);
        peer_expect_text(&peer, strchr(granted, 'a') == NULL
                                    ? strchr(granted, 'b') == NULL ? "" : "D7@7/0"
                                : strchr(granted, 'b') == NULL ? "D6@6/0"
                                                               : "D6@6/0 D7@7/0");
    }
}

static void test_no_table(void **state) {
    struct wire_refused refused;
    database_clear(1);
    database.is_missing = true;
    rig_begin();
    rig.broker->journal.table.state = TABLE_UNKNOWN;
    rig_listen();
    peer_connect(&peer);
    peer_connection(&peer, 1, "u", "a", NULL, POSITION_NONE, 0);
    peer_subscribe(&peer, 2, "a", NULL, POSITION_NONE);
    rig_marker();
    peer_send(&peer, wire_encode_ask_position(7));
    peer_expect_text(&peer, ""); /* Postgres has not said yet */
    fake_connect();
    fake_settle();
    assert_true(wire_decode_refused(peer_expect(&peer, WIRE_REFUSED), &refused));
    assert_int_equal(refused.token, 1);
    assert_int_equal(refused.status, 501);
    expect_text(refused.text, TABLE_IS_ABSENT); /* and not what Postgres said */
    peer_expect_text(&peer, "2:A@1 2:S@1 7:P@1");
    peer_connection(&peer, 3, "u", "a", NULL, POSITION_NONE, 0);
    peer_expect_text(&peer, "3:F(501)");
}

/* The table cannot be asked: clients without an id do not depend on it, the others wait. */
static void test_table_that_cannot_be_asked(void **state) {
    database_clear(1);
    rig_begin();
    rig.broker->journal.table.state = TABLE_UNKNOWN;
    rig_listen();
    peer_connect(&peer);
    struct position position = rig_position();
    peer_subscribe_from(&peer, 1, "a", NULL, position);
    peer_connection(&peer, 2, "u", "a", NULL, POSITION_NONE, 0);
    position.durable = 1;
    peer_subscribe_from(&peer, 3, "a", NULL, position);
    for (int losses = 0; losses < TABLE_PATIENCE; losses++) {
        peer_expect_text(&peer, "");
        fake_connect();
        pg_drop(fake, "the test pulled the plug");
    }
    peer_expect_text(&peer, "A@0 S@0");
    (void)database_store("a", 2, 0);
    fake_settle();
    peer_expect_text(&peer, "RR(gap)@2/0 3:A+@2/0 2:F(403) 3:d2@2/0 3:S@2/0");
}

/* When LISTEN may have found another server, the table's connection connects again. */
static void test_table_follows_listen(void **state) {
    scene_begin();
    rig_break();
    assert_int_equal(fake->state, FAKE_DOWN);
    assert_int_equal(rig.broker->condition.faults[CONDITION_TABLE][0], '\0'); /* no fault */
    fake_settle();
}

/* All waiting checks are one statement, and each gets its own result. */
static void test_many_are_checked_at_once(void **state) {
    scene_begin();
    peer_connection(&peer, 1, "u", "a", "b", POSITION_NONE, 0); /* this one is under way */
    peer_connection(&peer, 2, "v", "a", "b", POSITION_NONE, 0);
    peer_connection(&peer, 3, "w", "a", "b", POSITION_NONE, 0);
    peer_connection(&peer, 4, "u", "b", NULL, POSITION_NONE, 0);
    peer_expect_text(&peer, "");
    assert_true(fake_step());
    peer_expect_text(&peer, "A@5/0 S@5/0");
    assert_int_equal(fake_task(), 'c');
    assert_true(fake_step());
    peer_expect_text(&peer, "2:A@5/0 2:S@5/0 3:F(403) 4:A@5/0 4:S@5/0");
    assert_int_equal(fake_task(), 0);
}

/* Some leave while the statement is under way: the others still get their own results. */
static void test_left_while_it_is_checked(void **state) {
    scene_begin();
    struct fake_rows rows = {0};
    peer_subscribe(&peer, 9, "c", NULL, POSITION_NONE);
    peer_expect_text(&peer, "9:A@5/0 9:S@5/0");
    (void)table_ask_reading(&rig.broker->journal.table); /* so that all of them wait */
    peer_connection(&peer, 1, "u", "a", NULL, POSITION_NONE, 0);
    peer_connection(&peer, 2, "w", "a", NULL, POSITION_NONE, 0);
    peer_connection(&peer, 3, "u", "a", NULL, POSITION_NONE, 0);
    peer_connection(&peer, 4, "w", "b", NULL, POSITION_NONE, 0);
    peer_connection(&peer, 5, "v", "b", NULL, POSITION_NONE, 0);
    assert_int_equal(fake_task(), 'r');
    assert_true(fake_step());
    assert_int_equal(fake_task(), 'c');
    fake_execute(&rows);
    peer_leave_connection(&peer, 1, "a", NULL);
    peer_leave_connection(&peer, 4, "b", NULL);
    fake_deliver(&rows);
    peer_expect_text(&peer, "2:F(403) 3:A@5/0 3:S@5/0 5:A@5/0 5:S@5/0");
    fake_settle();
}

/* The table's connection is lost during a check: the next connection checks. */
static void test_table_lost_while_it_checks(void **state) {
    scene_begin();
    peer_connection(&peer, 1, "v", "b", NULL, POSITION_NONE, 0);
    assert_int_equal(fake_task(), 'c');
    pg_drop(fake, "the test pulled the plug");
    assert_int_equal(replay_find(&peer.handler->delivery, 1)->state, REPLAY_CHECKING);
    peer_expect_text(&peer, "");
    snprintf(database.rights, sizeof database.rights, " ");
    fake_connect();
    fake_settle();
    peer_expect_text(&peer, "F(403)");
}

/* Rights that were read before LISTEN was lost are not used afterwards. */
static void test_deaf_while_it_checks(void **state) {
    scene_begin();
    peer_connection(&peer, 1, "u", "a", NULL, POSITION_NONE, 0);
    rig_deaf();
    assert_true(fake_step());
    peer_expect_text(&peer, "");
    snprintf(database.rights, sizeof database.rights, " ");
    rig_listen();
    fake_settle();
    peer_expect_text(&peer, "R(gap)@5/1 X() F(403)");
}

/* --- durable events only
 * --------------------------------------------------------------------------- */

static void test_positions(void **state) {
    static const struct {
        enum position_kind kind;
        uint64_t durable;
        const char *heard;
    } cases[] = {
        {POSITION_NONE, 0, "A@5/1 S@5/1"},
        {POSITION_ALL, 0, "A+@5/1 d2@2/1 d3@3/1 d4@4/1 d5@5/1 S@5/1"},
        {POSITION_KNOWN, 1, "A+@5/1 d2@2/1 d3@3/1 d4@4/1 d5@5/1 S@5/1"},
        {POSITION_KNOWN, 3, "A+@5/1 d4@4/1 d5@5/1 S@5/1"},
        {POSITION_KNOWN, 5, "A@5/1 S@5/1"},
        {POSITION_KNOWN, 0, "A+@5/1 R(unknown_position)@5/1 S@5/1"},
        {POSITION_MALFORMED, 0, "A+@5/1 R(unknown_position)@5/1 S@5/1"},
    };
    static const int64_t history_bytes[] = {RIG_HISTORY_BYTES, 0};
    for (size_t i = 0; i < 2 * length_of(cases); i++) {
        scene_begin_with(history_bytes[i % 2]);
        rig_publish("a", 9);
        peer_connection(&peer, 1, "u", "a", "b", cases[i / 2].kind, cases[i / 2].durable);
        fake_settle();
        struct buf text = {0};
        struct wire_frame frame;
        while (peer_next(&peer, &frame)) {
            struct wire_replay replay;
            struct position head = table_rig_position();
            if (frame.type == WIRE_REPLAY && wire_decode_replay(frame.body, &replay)) {
                head.durable = event_number(&replay.event);
                assert_int_equal(replay.event.position.durable, head.durable);
                buf_printf(&text, " d%u@%u/1", (unsigned)head.durable, (unsigned)head.durable);
            } else {
                print_frame(&frame, &text);
            }
        }
        expect_buf(&text, cases[i / 2].heard);
    }
}

/* User streams get no refresh for a break or for dropped ephemeral events, but for a gap of the
 * table. */
static void test_not_refreshed_for_ephemeral_losses(void **state) {
    struct wire_refresh refresh;
    struct wire_recheck recheck;
    scene_begin();
    rig.broker->journal.history.ring_capacity = 5;
    for (unsigned i = 0; i < 3; i++) {
        rig_publish("a", i);
    }
    rig_break();
    fake_settle();
    assert_true(wire_decode_refresh(peer_expect(&peer, WIRE_REFRESH), &refresh));
    assert_false(refresh.is_durable);
    assert_true(wire_decode_recheck(peer_expect(&peer, WIRE_RECHECK), &recheck));
    peer_connection(&peer, 1, "u", "a", NULL, POSITION_KNOWN, 2);
    fake_settle();
    peer_expect_text(&peer, "A+@5/4 d4@4/4 S@5/4");
    (void)database_store("a", 6, 0);
    database_prune("a", 6);
    table_rig_read();
    peer_expect_text(&peer, "RR(gap,a)@6/4");
    peer_connection(&peer, 2, "u", "a", NULL, POSITION_KNOWN, 2);
    fake_settle();
    peer_expect_text(&peer, "2:A+@6/4 2:R(gap)@6/4 2:S@6/4");
}

static void test_id_beyond_the_head(void **state) {
    static const struct {
        uint64_t id;
        const char *heard;
    } cases[] = {{7, "D6@6/1 D7@7/1 D8@8/1 A+@8/1 d8@8/1 S@8/1"},
                 {8, "D6@6/1 D7@7/1 D8@8/1 A@8/1 S@8/1"},
                 {9, "D6@6/1 D7@7/1 D8@8/1 A+@8/1 R(unknown_position)@8/1 S@8/1"}};
    for (size_t i = 0; i < length_of(cases); i++) {
        scene_begin();
        peer_connection(&peer, 1, "u", "a", NULL, POSITION_KNOWN, cases[i].id);
        fake_settle();
        peer_expect_text(&peer, ""); /* the barrier */
        for (unsigned id = 6; id <= 8; id++) {
            (void)database_store("a", id, 0);
        }
        rig_marker();
        fake_settle(); /* checked again, the reading, and checked again */
        peer_expect_text(&peer, cases[i].heard);
    }
}

/* --- leaving
 * -------------------------------------------------------------------------------------- */

static const struct scene_state {
    const char *name;
    enum replay_state state;
    bool is_asked; /* CHECKING: its statement is under way */
} states[] = {
    {"HELD", REPLAY_HELD, false},        {"CHECKING, not asked yet", REPLAY_CHECKING, false},
    {"CHECKING", REPLAY_CHECKING, true}, {"READY", REPLAY_READY, false},
    {"STARVED", REPLAY_STARVED, false},  {"PAGING", REPLAY_PAGING, false},
    {"LIVE", REPLAY_LIVE, false}};

/* User stream 1 of u on a and b, in that state. */
static void scene_begin_in(const struct scene_state *wanted) {
    enum replay_state state = wanted->state;
    bool is_log = state == REPLAY_STARVED || state == REPLAY_READY;
    scene_begin_with(is_log ? RIG_HISTORY_BYTES : 0);
    struct table *table = &rig.broker->journal.table;
    if (state == REPLAY_STARVED || state == REPLAY_READY) {
        for (unsigned i = 0; i < 20; i++) {
            (void)database_store("a", 6 + i, 7000);
        }
        table_rig_read();
        peer_expect_text(&peer, "");
    }
    if (state == REPLAY_READY) {
        rig_limit_queues(16 * 1024);
        handler_narrow(peer.handler);
    }
    if (state == REPLAY_HELD) {
        rig_deaf();
    } else if (state == REPLAY_CHECKING && !wanted->is_asked) {
        (void)table_ask_reading(table); /* keeps it waiting */
    }
    peer_connection(&peer, 1, "u", "a", "b", state == REPLAY_LIVE ? POSITION_NONE : POSITION_KNOWN,
                    2);
    if (state != REPLAY_HELD && state != REPLAY_CHECKING) {
        assert_true(fake_step());
    }
    assert_int_equal(replay_find(&peer.handler->delivery, 1)->state, state);
    assert_int_equal(replay_find(&peer.handler->delivery, 1)->check.is_asked, wanted->is_asked);
}

static void write_connections(struct buf *document) {
    struct survey survey;
    survey_init(&survey, &rig.broker->overview);
    survey_begin(&survey);
    while (!survey_step(&survey)) {
    }
    document_user_streams(&survey, LITERAL(""), document);
}

static void expect_gone(const char *name) {
    struct buf document = {0};
    write_connections(&document);
    expect_buf(&document,
               "{\"count\":0,\"activeConnections\":0,\"totalConnections\":0,\"byChannel\":{}}");
    if (subscribers_of("a") != 0 || subscribers_of("b") != 0) {
        fail_msg("%s: it is subscribed still", name);
    }
}

/* Unsubscribed by its token and with the topics that it asked for: nothing of it stays. */
static void test_unsubscribed_in_every_state(void **state) {
    for (size_t i = 0; i < length_of(states); i++) {
        scene_begin_in(&states[i]);
        peer_leave_connection(&peer, 1, "a", "b");
        if (peer_is_closed(&peer)) {
            fail_msg("%s: that ends the handler's connection", states[i].name);
        }
        assert_null(replay_find(&peer.handler->delivery, 1));
        assert_int_equal(peer.handler->delivery.live_user_streams, 0);
        expect_gone(states[i].name);
        fake_settle();
        assert_int_equal(peer.handler->state, HANDLER_SERVED);
    }
}

/* A user stream keeps its token as long as it lasts, so UNSUBSCRIBE without token is an error. */
static void test_granted_beyond_what_was_asked(void **state) {
    scene_begin();
    snprintf(database.rights, sizeof database.rights, " ");
    database.stray_number = 9;
    peer_connection(&peer, 1, "u", "a", "b", POSITION_NONE, 0);
    fake_settle();
    peer_expect_text(&peer, "F(403)");
}

static void test_unsubscribed_without_token(void **state) {
    scene_begin_in(&states[length_of(states) - 1]);
    peer_leave_connection(&peer, 0, "a", "b");
    assert_true(peer_is_closed(&peer));
    expect_gone("LIVE");
}

/* UNSUBSCRIBE crosses REFUSED: there is nothing to end, and this is not an error. */
static void test_unsubscribed_when_refused(void **state) {
    scene_begin();
    peer_connection(&peer, 1, "w", "a", NULL, POSITION_NONE, 0);
    fake_settle();
    peer_leave_connection(&peer, 1, "a", NULL);
    peer_expect_text(&peer, "F(403)");
    assert_false(peer_is_closed(&peer));
}

/* Other events in the turn in which the handler closes find nothing of its streams. */
static void test_handler_closed_in_every_state(void **state) {
    for (size_t i = 0; i < length_of(states); i++) {
        scene_begin_in(&states[i]);
        handler_close(peer.handler, "the test closes it");
        (void)fake_step(); /* before it is freed */
        rig_publish("a", 1);
        (void)fake_step();
        run_turns(rig.loop, 2);
        expect_gone(states[i].name);
        fake_settle();
    }
}

/* --- a handler that comes back
 * ---------------------------------------------------------------------- */

/* After a reconnect the user streams subscribe again, and are looked up when the handler is served,
 * not before. So it needs no RECHECK meanwhile. */
static void test_handler_that_comes_back(void **state) {
    scene_begin();
    struct position position = table_rig_position();
    position.durable = 7; /* beyond the head: the table is read first */
    peer_close(&peer);
    peer_introduce(&peer);
    peer_send(&peer, resume_of(POSITION_KNOWN, &position, "a", NULL));
    peer_connection(&peer, 1, "u", "a", "b", POSITION_KNOWN, 3);
    assert_int_equal(peer.handler->state, HANDLER_RESUMING);
    assert_int_equal(replay_find(&peer.handler->delivery, 1)->state, REPLAY_HELD);
    snprintf(database.rights, sizeof database.rights, " u/a ");
    table_rig_hint("{\"recheck\":\"u\"}");
    fake_settle();
    peer_expect_all(&peer, "RR(unknown_position)@5/0 P@5/1 A+@5/1 d4@4/1 S@5/1");
}

/* --- what is told
 * --------------------------------------------------------------------------------- */

static void test_recheck(void **state) {
    static const struct {
        const char *payload;
        const char *heard;
    } cases[] = {{"{\"recheck\":\"u\"}", "X(u)"},
                 {"{\"recheck\":\"\"}", "X()"},
                 {"{\"recheck\":5}", ""},
                 {"{}", ""},
                 {"nonsense", ""},
                 {"", ""},
                 {"{\"topic\":\"a\",\"data\":1}", ""}};
    for (size_t i = 0; i < length_of(cases); i++) {
        scene_begin();
        peer_subscribe(&peer, 1, "a", NULL, POSITION_NONE);
        peer_expect_text(&peer, "A@5/0 S@5/0");
        table_rig_hint(cases[i].payload);
        peer_expect_text(&peer, cases[i].heard);
        assert_int_equal(fake_task(), 'r'); /* any of them is a hint */
        assert_int_equal(rig.broker->journal.markers.count, 1);
        fake_settle();
    }
}

static void test_census(void **state) {
    struct peer other;
    struct buf document = {0};
    scene_begin();
    peer_connect(&other);
    peer_connection(&peer, 1, "u", "a", "b", POSITION_NONE, 0);
    peer_connection(&peer, 2, "u", "a", NULL, POSITION_NONE, 0);
    peer_subscribe(&peer, 3, "a", NULL, POSITION_NONE); /* of the topics API */
    peer_connection(&other, 1, "v", "a", "b", POSITION_KNOWN, 2);
    fake_settle();
    peer_connection(&other, 2, "u", "a", NULL, POSITION_NONE, 0); /* not ACCEPTED yet */
    write_connections(&document);
    expect_buf(&document, "{\"count\":3,\"activeConnections\":3,\"totalConnections\":3,"
                          "\"byChannel\":{\"a\":2,\"b\":2}}");
    fake_settle();
    peer_close(&other);
}

static void test_questions(void **state) {
    struct wire_document document;
    scene_begin();
    peer_send(&peer, ask_document(WIRE_USER_STREAMS, 7));
    (void)peer_expect(&peer, WIRE_ASK_REPORT);
    run_for(rig.loop, HEALTH_WAIT_MS + 50); /* the handler does not report */
    assert_true(wire_decode_document(peer_expect(&peer, WIRE_DOCUMENT), &document));
    assert_int_equal(document.token, 7);
    assert_int_equal(document.status, 200);
    expect_text(document.document,
                "{\"count\":0,\"activeConnections\":0,\"totalConnections\":0,\"byChannel\":{}}");
    peer_send(&peer, ask_document(WIRE_SHORT_HEALTH, 8));
    assert_true(wire_decode_document(peer_expect(&peer, WIRE_DOCUMENT), &document));
    assert_int_equal(document.token, 8);
    assert_int_equal(document.status, 200);
    assert_memory_equal(
        document.document.at, "{\"status\":\"degraded\",\"message\":\"",
        strlen("{\"status\":\"degraded\",\"message\":\"")); /* no query connection */
    rig_deaf();
    peer_send(&peer, ask_document(WIRE_SHORT_HEALTH, 9));
    peer_expect_text(&peer, "9:J(503)");
}

/* As many channels as fit; asking often does not end the handler's connection. */
static void test_census_of_many_channels(void **state) {
    enum { CONNECTIONS = 30 };
    static char rights[CONNECTIONS][8];
    struct buf document = {0};
    scene_begin();
    rig_limit_queues(64 * 1024);
    snprintf(database.rights, sizeof database.rights, " ");
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        snprintf(rights[i], sizeof rights[i], "t%u", i);
        snprintf(database.rights + strlen(database.rights), 16, "u/t%u ", i);
        peer_connection(&peer, 1 + i, "u", rights[i], NULL, POSITION_NONE, 0);
    }
    fake_settle();
    write_connections(&document);
    assert_memory_equal(document.bytes, "{\"count\":30,", 12);
    assert_non_null(memmem(document.bytes, document.length, "\"t29\":1", 7));
    buf_release(&document);
}

RUN_TESTS(TEST(test_rights), TEST(test_no_table), TEST(test_table_that_cannot_be_asked),
          TEST(test_table_follows_listen), TEST(test_many_are_checked_at_once),
          TEST(test_left_while_it_is_checked), TEST(test_table_lost_while_it_checks),
          TEST(test_deaf_while_it_checks), TEST(test_positions),
          TEST(test_not_refreshed_for_ephemeral_losses), TEST(test_id_beyond_the_head),
          TEST(test_unsubscribed_in_every_state), TEST(test_unsubscribed_without_token),
          TEST(test_granted_beyond_what_was_asked), TEST(test_unsubscribed_when_refused),
          TEST(test_handler_closed_in_every_state), TEST(test_handler_that_comes_back),
          TEST(test_recheck), TEST(test_census), TEST(test_questions),
          TEST(test_census_of_many_channels))
