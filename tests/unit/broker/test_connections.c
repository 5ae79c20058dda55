/* Streams of the third door: what their user may have is looked up, they get durable events only,
 * and the broker knows how many there are. */
#include "document.h"
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

/* Durable events 2 to 5: a b a b; u may have a and b, v only b. */
static void scene_begin_with(struct scene *scene, int64_t history_bytes) {
    database_clear(1);
    snprintf(database.rights, sizeof database.rights, " u/a u/b v/b ");
    table_rig_begin_with(&scene->rig, history_bytes, 1024);
    for (unsigned id = 2; id <= 5; id++) {
        table_rig_publish(&scene->rig, id % 2 == 0 ? "a" : "b", id);
    }
    scene_connect(scene);
}

static void scene_begin(struct scene *scene) {
    scene_begin_with(scene, RIG_HISTORY_BYTES);
}

static void scene_end(struct scene *scene) {
    peer_close(&scene->peer);
    rig_end(&scene->rig);
}

static uint64_t subscribers_of(const struct scene *scene, const char *name) {
    const struct topic *topic = topics_find(&scene->rig.broker->topics, slice_of(name));
    return topic == NULL ? 0 : topic->subscribers;
}

/* --- what the user may have
 * ------------------------------------------------------------------------- */

static void test_rights(void **state) {
    (void)state;
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
        struct scene scene;
        struct wire_accepted accepted;
        struct wire_frame frame;
        char granted[8] = "";
        scene_begin(&scene);
        peer_connection(&scene.peer, 1, cases[i].user, cases[i].first, cases[i].second,
                        POSITION_NONE, 0);
        peer_expect_text(&scene.peer, ""); /* not before it is known */
        assert_int_equal(fake_task(), 'c');
        fake_settle();
        assert_true(peer_next(&scene.peer, &frame));
        if (cases[i].granted == NULL) {
            struct wire_refused refused;
            assert_int_equal(frame.type, WIRE_REFUSED);
            assert_true(wire_decode_refused(frame.body, &refused));
            assert_int_equal(refused.status, 403);
            assert_null(replay_find(scene.handler, 1));
            assert_true(LIST_EMPTY(&scene.handler->subscriptions));
        } else {
            assert_int_equal(frame.type, WIRE_ACCEPTED);
            assert_true(wire_decode_accepted(frame.body, &accepted));
            for (size_t t = 0; t < accepted.topics.count; t++) {
                granted[t] = accepted.topics.names[t].at[0];
            }
            assert_string_equal(granted, cases[i].granted);
            peer_expect_text(&scene.peer, "S@5/0");
            assert_int_equal(subscribers_of(&scene, "a"), strchr(granted, 'a') != NULL);
            assert_int_equal(subscribers_of(&scene, "b"), strchr(granted, 'b') != NULL);
        }
        table_rig_publish(&scene.rig, "a", 6);
        table_rig_publish(&scene.rig, "b", 7);
        peer_expect_text(&scene.peer, strchr(granted, 'a') == NULL
                                          ? strchr(granted, 'b') == NULL ? "" : "D7@7/0"
                                      : strchr(granted, 'b') == NULL ? "D6@6/0"
                                                                     : "D6@6/0 D7@7/0");
        scene_end(&scene);
    }
}

static void test_no_table(void **state) {
    (void)state;
    struct rig rig;
    struct peer peer;
    struct wire_refused refused;
    database_clear(1);
    database.is_missing = true;
    rig_begin(&rig);
    rig.broker->table.state = TABLE_UNKNOWN;
    rig_listen(&rig);
    (void)peer_connect(&rig, &peer);
    peer_connection(&peer, 1, "u", "a", NULL, POSITION_NONE, 0);
    peer_subscribe(&peer, 2, "a", NULL, POSITION_NONE);
    rig_marker(&rig);
    peer_send(&peer, wire_encode_ask(WIRE_ASK_POSITION, 7));
    peer_expect_text(&peer, ""); /* Postgres has not said yet */
    fake_connect();
    fake_settle();
    assert_true(wire_decode_refused(peer_expect(&peer, WIRE_REFUSED), &refused));
    assert_int_equal(refused.token, 1);
    assert_int_equal(refused.status, 501);
    assert_true(refused.text.length > 0);
    peer_expect_text(&peer, "2:A@1 2:S@1 7:P@1");
    peer_connection(&peer, 3, "u", "a", NULL, POSITION_NONE, 0);
    peer_expect_text(&peer, "3:F(501)");
    peer_close(&peer);
    rig_end(&rig);
}

/* The table cannot be asked: who never used it does not depend on it, the others wait. */
static void test_table_that_cannot_be_asked(void **state) {
    (void)state;
    struct rig rig;
    struct peer peer;
    database_clear(1);
    rig_begin(&rig);
    rig.broker->table.state = TABLE_UNKNOWN;
    rig_listen(&rig);
    (void)peer_connect(&rig, &peer);
    struct position position = rig_position(&rig);
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
    peer_close(&peer);
    rig_end(&rig);
}

/* LISTEN may have found another server: so does the table's connection. */
static void test_table_follows_listen(void **state) {
    (void)state;
    struct scene scene;
    scene_begin(&scene);
    rig_break(&scene.rig);
    assert_int_equal(fake->state, FAKE_DOWN);
    assert_int_equal(scene.rig.broker->table_fault[0], '\0'); /* nobody's fault */
    fake_settle();
    scene_end(&scene);
}

/* All that wait are one statement, each its own verdict. */
static void test_many_are_checked_at_once(void **state) {
    (void)state;
    struct scene scene;
    scene_begin(&scene);
    peer_connection(&scene.peer, 1, "u", "a", "b", POSITION_NONE, 0); /* this one is under way */
    peer_connection(&scene.peer, 2, "v", "a", "b", POSITION_NONE, 0);
    peer_connection(&scene.peer, 3, "w", "a", "b", POSITION_NONE, 0);
    peer_connection(&scene.peer, 4, "u", "b", NULL, POSITION_NONE, 0);
    peer_expect_text(&scene.peer, "");
    assert_true(fake_step());
    peer_expect_text(&scene.peer, "A@5/0 S@5/0");
    assert_int_equal(fake_task(), 'c');
    assert_true(fake_step());
    peer_expect_text(&scene.peer, "2:A@5/0 2:S@5/0 3:F(403) 4:A@5/0 4:S@5/0");
    assert_int_equal(fake_task(), 0);
    scene_end(&scene);
}

/* Some have left while the statement was under way: the verdicts of the others are their own. */
static void test_left_while_it_is_checked(void **state) {
    (void)state;
    struct scene scene;
    scene_begin(&scene);
    struct fake_rows rows = {0};
    peer_subscribe(&scene.peer, 9, "c", NULL, POSITION_NONE);
    peer_expect_text(&scene.peer, "9:A@5/0 9:S@5/0");
    (void)table_ask_reading(&scene.rig.broker->table); /* so that all of them wait */
    peer_connection(&scene.peer, 1, "u", "a", NULL, POSITION_NONE, 0);
    peer_connection(&scene.peer, 2, "w", "a", NULL, POSITION_NONE, 0);
    peer_connection(&scene.peer, 3, "u", "a", NULL, POSITION_NONE, 0);
    peer_connection(&scene.peer, 4, "w", "b", NULL, POSITION_NONE, 0);
    peer_connection(&scene.peer, 5, "v", "b", NULL, POSITION_NONE, 0);
    assert_int_equal(fake_task(), 'r');
    assert_true(fake_step());
    assert_int_equal(fake_task(), 'c');
    fake_execute(&rows);
    peer_leave_connection(&scene.peer, 1, "a", NULL);
    peer_leave_connection(&scene.peer, 4, "b", NULL);
    fake_deliver(&rows);
    peer_expect_text(&scene.peer, "2:F(403) 3:A@5/0 3:S@5/0 5:A@5/0 5:S@5/0");
    fake_settle();
    scene_end(&scene);
}

/* The connection to the table is lost while it checks: it is checked on the next one. */
static void test_table_lost_while_it_checks(void **state) {
    (void)state;
    struct scene scene;
    scene_begin(&scene);
    peer_connection(&scene.peer, 1, "v", "b", NULL, POSITION_NONE, 0);
    assert_int_equal(fake_task(), 'c');
    pg_drop(fake, "the test pulled the plug");
    assert_int_equal(replay_find(scene.handler, 1)->state, REPLAY_UNCHECKED);
    peer_expect_text(&scene.peer, "");
    snprintf(database.rights, sizeof database.rights, " ");
    fake_connect();
    fake_settle();
    peer_expect_text(&scene.peer, "F(403)");
    scene_end(&scene);
}

/* What was seen before LISTEN was lost is not what is so afterwards. */
static void test_deaf_while_it_checks(void **state) {
    (void)state;
    struct scene scene;
    scene_begin(&scene);
    peer_connection(&scene.peer, 1, "u", "a", NULL, POSITION_NONE, 0);
    rig_deaf(&scene.rig);
    assert_true(fake_step());
    peer_expect_text(&scene.peer, "");
    snprintf(database.rights, sizeof database.rights, " ");
    rig_listen(&scene.rig);
    fake_settle();
    peer_expect_text(&scene.peer, "R(gap)@5/1 X() F(403)");
    scene_end(&scene);
}

/* --- durable events only
 * --------------------------------------------------------------------------- */

static void test_positions(void **state) {
    (void)state;
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
        struct scene scene;
        scene_begin_with(&scene, history_bytes[i % 2]);
        rig_publish(&scene.rig, "a", 9);
        peer_connection(&scene.peer, 1, "u", "a", "b", cases[i / 2].kind, cases[i / 2].durable);
        fake_settle();
        struct buf text = {0};
        struct wire_frame frame;
        while (peer_next(&scene.peer, &frame)) {
            struct wire_replay replay;
            struct position head = table_rig_position(&scene.rig);
            if (frame.type == WIRE_REPLAY && wire_decode_replay(frame.body, &replay)) {
                head.durable = event_number(&replay.event);
                assert_int_equal(replay.event.position.durable, head.durable);
                buf_printf(&text, " d%u@%u/1", (unsigned)head.durable, (unsigned)head.durable);
            } else {
                print_frame(&scene.rig, &frame, &text);
            }
        }
        expect_buf(&text, cases[i / 2].heard);
        scene_end(&scene);
    }
}

/* Neither by what is behind a break, nor by what was dropped; a gap of the table is told. */
static void test_not_refreshed_for_ephemeral_losses(void **state) {
    (void)state;
    struct scene scene;
    struct wire_refresh refresh;
    struct slice user;
    scene_begin(&scene);
    scene.rig.broker->history.ring_capacity = 5;
    for (unsigned i = 0; i < 3; i++) {
        rig_publish(&scene.rig, "a", i);
    }
    rig_break(&scene.rig);
    fake_settle();
    assert_true(wire_decode_refresh(peer_expect(&scene.peer, WIRE_REFRESH), &refresh));
    assert_false(refresh.is_durable);
    assert_true(wire_decode_recheck(peer_expect(&scene.peer, WIRE_RECHECK), &user));
    peer_connection(&scene.peer, 1, "u", "a", NULL, POSITION_KNOWN, 2);
    fake_settle();
    peer_expect_text(&scene.peer, "A+@5/4 d4@4/4 S@5/4");
    (void)database_store("a", 6, 0);
    database_prune("a", 6);
    table_rig_read(&scene.rig);
    peer_expect_text(&scene.peer, "RR(gap,a)@6/4");
    peer_connection(&scene.peer, 2, "u", "a", NULL, POSITION_KNOWN, 2);
    fake_settle();
    peer_expect_text(&scene.peer, "2:A+@6/4 2:R(gap)@6/4 2:S@6/4");
    scene_end(&scene);
}

static void test_id_beyond_the_head(void **state) {
    (void)state;
    static const struct {
        uint64_t id;
        const char *heard;
    } cases[] = {{7, "D6@6/1 D7@7/1 D8@8/1 A+@8/1 d8@8/1 S@8/1"},
                 {8, "D6@6/1 D7@7/1 D8@8/1 A@8/1 S@8/1"},
                 {9, "D6@6/1 D7@7/1 D8@8/1 A+@8/1 R(unknown_position)@8/1 S@8/1"}};
    for (size_t i = 0; i < length_of(cases); i++) {
        struct scene scene;
        scene_begin(&scene);
        peer_connection(&scene.peer, 1, "u", "a", NULL, POSITION_KNOWN, cases[i].id);
        fake_settle();
        peer_expect_text(&scene.peer, ""); /* the barrier */
        for (unsigned id = 6; id <= 8; id++) {
            (void)database_store("a", id, 0);
        }
        rig_marker(&scene.rig);
        fake_settle(); /* checked again, the reading, and checked again */
        peer_expect_text(&scene.peer, cases[i].heard);
        scene_end(&scene);
    }
}

/* --- leaving
 * -------------------------------------------------------------------------------------- */

static const struct scene_state {
    const char *name;
    enum replay_state state;
} states[] = {{"HELD", REPLAY_HELD},         {"UNCHECKED", REPLAY_UNCHECKED},
              {"CHECKING", REPLAY_CHECKING}, {"READY", REPLAY_READY},
              {"STARVED", REPLAY_STARVED},   {"PAGING", REPLAY_PAGING},
              {"LIVE", REPLAY_LIVE}};

/* A connection 1 of u on a and b in that state. */
static void scene_begin_in(struct scene *scene, enum replay_state state) {
    bool is_log = state == REPLAY_STARVED || state == REPLAY_READY;
    scene_begin_with(scene, is_log ? RIG_HISTORY_BYTES : 0);
    struct table *table = &scene->rig.broker->table;
    if (state == REPLAY_STARVED || state == REPLAY_READY) {
        for (unsigned i = 0; i < 20; i++) {
            (void)database_store("a", 6 + i, 7000);
        }
        table_rig_read(&scene->rig);
        peer_expect_text(&scene->peer, "");
    }
    if (state == REPLAY_READY) {
        scene->rig.config.handler_queue_bytes = 16 * 1024;
        handler_narrow(scene->handler);
    }
    if (state == REPLAY_HELD) {
        rig_deaf(&scene->rig);
    } else if (state == REPLAY_UNCHECKED) {
        (void)table_ask_reading(table); /* keeps it waiting */
    }
    peer_connection(&scene->peer, 1, "u", "a", "b",
                    state == REPLAY_LIVE ? POSITION_NONE : POSITION_KNOWN, 2);
    if (state != REPLAY_HELD && state != REPLAY_UNCHECKED && state != REPLAY_CHECKING) {
        assert_true(fake_step());
    }
    assert_int_equal(replay_find(scene->handler, 1)->state, state);
}

static void expect_gone(struct scene *scene, const char *name) {
    struct buf document = {0};
    document_connections(scene->rig.broker, &document);
    expect_buf(&document,
               "{\"count\":0,\"activeConnections\":0,\"totalConnections\":0,\"byChannel\":{}}");
    if (subscribers_of(scene, "a") != 0 || subscribers_of(scene, "b") != 0) {
        fail_msg("%s: it is subscribed still", name);
    }
}

/* By its token, with what it asked for: nothing of it stays. */
static void test_unsubscribed_in_every_state(void **state) {
    (void)state;
    for (size_t i = 0; i < length_of(states); i++) {
        struct scene scene;
        scene_begin_in(&scene, states[i].state);
        peer_leave_connection(&scene.peer, 1, "a", "b");
        if (peer_is_closed(&scene.peer)) {
            fail_msg("%s: that ends the handler's connection", states[i].name);
        }
        assert_null(replay_find(scene.handler, 1));
        assert_int_equal(scene.handler->live_connections, 0);
        expect_gone(&scene, states[i].name);
        fake_settle();
        assert_int_equal(scene.handler->state, HANDLER_SERVED);
        scene_end(&scene);
    }
}

/* A connection is known by its token as long as it lasts: without one there is none. */
static void test_unsubscribed_without_token(void **state) {
    (void)state;
    struct scene scene;
    scene_begin_in(&scene, REPLAY_LIVE);
    peer_leave_connection(&scene.peer, 0, "a", "b");
    assert_true(peer_is_closed(&scene.peer));
    expect_gone(&scene, "LIVE");
    scene_end(&scene);
}

/* Its REFUSED was on its way: nothing is left to be ended, and nobody has offended. */
static void test_unsubscribed_when_refused(void **state) {
    (void)state;
    struct scene scene;
    scene_begin(&scene);
    peer_connection(&scene.peer, 1, "w", "a", NULL, POSITION_NONE, 0);
    fake_settle();
    peer_leave_connection(&scene.peer, 1, "a", NULL);
    peer_expect_text(&scene.peer, "F(403)");
    assert_false(peer_is_closed(&scene.peer));
    scene_end(&scene);
}

/* Whoever comes in the turn in which the handler goes meets nothing of it. */
static void test_handler_closed_in_every_state(void **state) {
    (void)state;
    for (size_t i = 0; i < length_of(states); i++) {
        struct scene scene;
        scene_begin_in(&scene, states[i].state);
        handler_close(scene.handler, "the test closes it");
        (void)fake_step(); /* before it is freed */
        rig_publish(&scene.rig, "a", 1);
        (void)fake_step();
        run_turns(scene.rig.loop, 2);
        expect_gone(&scene, states[i].name);
        fake_settle();
        peer_close(&scene.peer);
        rig_end(&scene.rig);
    }
}

/* --- a handler that comes back
 * ---------------------------------------------------------------------- */

/* Its connections subscribe anew, and are looked up when it is served, not before: what is told
 * meanwhile of what their users may have needs not be told to it. */
static void test_handler_that_comes_back(void **state) {
    (void)state;
    struct scene scene;
    scene_begin(&scene);
    struct position position = table_rig_position(&scene.rig);
    position.durable = 7; /* beyond the head: the table is read first */
    peer_close(&scene.peer);
    scene.handler = peer_introduce(&scene.rig, &scene.peer);
    peer_send(&scene.peer, resume_of(POSITION_KNOWN, &position, "a", NULL));
    peer_connection(&scene.peer, 1, "u", "a", "b", POSITION_KNOWN, 3);
    assert_int_equal(scene.handler->state, HANDLER_RESUMING);
    assert_int_equal(replay_find(scene.handler, 1)->state, REPLAY_HELD);
    snprintf(database.rights, sizeof database.rights, " u/a ");
    table_rig_hint(&scene.rig, "{\"recheck\":\"u\"}");
    fake_settle();
    peer_expect_all(&scene.peer, "RR(unknown_position)@5/0 P@5/1 A+@5/1 d4@4/1 S@5/1");
    scene_end(&scene);
}

/* --- what is told
 * --------------------------------------------------------------------------------- */

static void test_recheck(void **state) {
    (void)state;
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
        struct scene scene;
        scene_begin(&scene);
        peer_subscribe(&scene.peer, 1, "a", NULL, POSITION_NONE);
        peer_expect_text(&scene.peer, "A@5/0 S@5/0");
        table_rig_hint(&scene.rig, cases[i].payload);
        peer_expect_text(&scene.peer, cases[i].heard);
        assert_int_equal(fake_task(), 'r'); /* any of them is a hint */
        assert_int_equal(scene.rig.broker->markers.count, 1);
        fake_settle();
        scene_end(&scene);
    }
}

static void test_census(void **state) {
    (void)state;
    struct scene scene;
    struct peer other;
    struct buf document = {0};
    scene_begin(&scene);
    (void)peer_connect(&scene.rig, &other);
    peer_connection(&scene.peer, 1, "u", "a", "b", POSITION_NONE, 0);
    peer_connection(&scene.peer, 2, "u", "a", NULL, POSITION_NONE, 0);
    peer_subscribe(&scene.peer, 3, "a", NULL, POSITION_NONE); /* of the first door */
    peer_connection(&other, 1, "v", "a", "b", POSITION_KNOWN, 2);
    fake_settle();
    peer_connection(&other, 2, "u", "a", NULL, POSITION_NONE, 0); /* not ACCEPTED yet */
    document_connections(scene.rig.broker, &document);
    expect_buf(&document, "{\"count\":3,\"activeConnections\":3,\"totalConnections\":3,"
                          "\"byChannel\":{\"a\":2,\"b\":2}}");
    fake_settle();
    peer_close(&other);
    scene_end(&scene);
}

static void test_questions(void **state) {
    (void)state;
    struct scene scene;
    struct wire_document document;
    scene_begin(&scene);
    peer_send(&scene.peer, wire_encode_ask(WIRE_ASK_CONNECTIONS, 7));
    assert_true(wire_decode_document(peer_expect(&scene.peer, WIRE_DOCUMENT), &document));
    assert_int_equal(document.token, 7);
    assert_int_equal(document.status, 200);
    expect_text(document.document,
                "{\"count\":0,\"activeConnections\":0,\"totalConnections\":0,\"byChannel\":{}}");
    peer_send(&scene.peer, wire_encode_ask(WIRE_ASK_STATUS, 8));
    assert_true(wire_decode_document(peer_expect(&scene.peer, WIRE_DOCUMENT), &document));
    assert_int_equal(document.token, 8);
    assert_int_equal(document.status, 200);
    assert_memory_equal(
        document.document.at, "{\"status\":\"degraded\",\"message\":\"",
        strlen("{\"status\":\"degraded\",\"message\":\"")); /* no query connection */
    rig_deaf(&scene.rig);
    peer_send(&scene.peer, wire_encode_ask(WIRE_ASK_STATUS, 9));
    peer_expect_text(&scene.peer, "9:J(503)");
    scene_end(&scene);
}

/* As many channels as fit; what is asked often does not end the connection. */
static void test_census_of_many_channels(void **state) {
    (void)state;
    enum { CONNECTIONS = 30 };
    static char rights[CONNECTIONS][8];
    struct scene scene;
    struct buf document = {0};
    scene_begin(&scene);
    scene.rig.config.handler_queue_bytes = 64 * 1024;
    snprintf(database.rights, sizeof database.rights, " ");
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        snprintf(rights[i], sizeof rights[i], "t%u", i);
        snprintf(database.rights + strlen(database.rights), 16, "u/t%u ", i);
        peer_connection(&scene.peer, 1 + i, "u", rights[i], NULL, POSITION_NONE, 0);
    }
    fake_settle();
    document_connections(scene.rig.broker, &document);
    assert_memory_equal(document.bytes, "{\"count\":30,", 12);
    assert_non_null(memmem(document.bytes, document.length, "\"t29\":1", 7));
    buf_release(&document);
    scene_end(&scene);
}

RUN_TESTS(TEST(test_rights), TEST(test_no_table), TEST(test_table_that_cannot_be_asked),
          TEST(test_table_follows_listen), TEST(test_many_are_checked_at_once),
          TEST(test_left_while_it_is_checked), TEST(test_table_lost_while_it_checks),
          TEST(test_deaf_while_it_checks), TEST(test_positions),
          TEST(test_not_refreshed_for_ephemeral_losses), TEST(test_id_beyond_the_head),
          TEST(test_unsubscribed_in_every_state), TEST(test_unsubscribed_without_token),
          TEST(test_unsubscribed_when_refused), TEST(test_handler_closed_in_every_state),
          TEST(test_handler_that_comes_back), TEST(test_recheck), TEST(test_census),
          TEST(test_questions), TEST(test_census_of_many_channels))
