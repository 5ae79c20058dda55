/* The health document: all handlers are asked, and it is built when they have answered or time is
 * up. */
#include "broker_rig.h"
#include "listing.h"
#include "utf8.h"

/* An owner of a request, and what it got. */
struct asker {
    struct health_request request;
    int count;
    uint16_t status;
    struct buf document;
};

static void on_health(struct health_request *request, uint16_t status, struct slice document) {
    struct asker *asker = container_of(request, struct asker, request);
    asker->count++;
    asker->status = status;
    asker->document.length = 0;
    buf_append_slice(&asker->document, document);
    buf_append(&asker->document, "", 1);
    asker->document.length--;
}

static void ask_as(struct asker *asker, enum document_scope scope, uint32_t limit) {
    struct health_question question = {WIRE_FULL_HEALTH, scope, limit, ""};
    health_ask(&rig.broker->health, &asker->request, &question, on_health);
}

static void ask(struct asker *asker, uint32_t limit) {
    ask_as(asker, DOCUMENT_PUBLIC, limit);
}

/* Runs until the last round's pause is over, and a new round, too, if it awaits no handler. */
static void run_round(void) {
    run_for(rig.loop, HEALTH_PAUSE_MS_MIN + 20);
}

static bool says(const struct asker *asker, const char *part) {
    return asker->document.bytes != NULL && strstr(asker->document.bytes, part) != NULL;
}

static uint32_t expect_question(struct peer *asked) {
    uint32_t serial;
    assert_true(wire_decode_ask_report(peer_expect(asked, WIRE_ASK_REPORT), &serial));
    return serial;
}

static void send_report(struct peer *asked, uint32_t serial, bool is_last) {
    struct buf report = {0};
    wire_report_begin(&report, serial, 5);
    peer_send(asked, wire_report_end(&report, is_last));
}

static void test_without_handlers(void **state) {
    struct asker asker = {0};
    rig_begin();
    ask(&asker, 10);
    run_round();
    assert_int_equal(asker.count, 1);
    assert_int_equal(asker.status, 503);
    assert_true(says(&asker, "\"status\":\"degraded\""));
    assert_true(says(&asker, "\"listen_connected\":false"));
    assert_true(says(&asker, "\"topics\":[]"));
    rig.broker->journal.topics.plain_bytes = 100;
    rig.broker->journal.topics.gzip_bytes = 130;
    rig_listen();
    ask(&asker, 10);
    run_round();
    assert_int_equal(asker.status, 200);
    assert_true(says(&asker, "\"listen_connected\":true"));
    assert_true(says(&asker, "\"gzip_bytes\":130,\"gzip_saved_bytes\":-30,"));
    buf_release(&asker.document);
}

static void test_waits_for_all_handlers(void **state) {
    struct peer one;
    struct peer two;
    struct asker asker = {0};
    rig_begin();
    peer_connect(&one);
    peer_connect(&two);
    ask(&asker, 10);
    uint32_t serial = expect_question(&one);
    assert_int_equal(expect_question(&two), serial);
    send_report(&one, serial, false);
    send_report(&one, serial, true);
    assert_int_equal(asker.count, 0);
    send_report(&two, serial, true);
    run_turns(rig.loop, 2);
    assert_int_equal(asker.count, 1);
    buf_release(&asker.document);
    peer_close(&one);
    peer_close(&two);
}

static void test_does_not_wait_for_ever(void **state) {
    struct peer silent;
    struct asker asker = {0};
    rig_begin();
    peer_connect(&silent);
    ask(&asker, 10);
    run_for(rig.loop, HEALTH_WAIT_MS / 2);
    assert_int_equal(asker.count, 0);
    run_for(rig.loop, HEALTH_WAIT_MS);
    assert_int_equal(asker.count, 1);
    buf_release(&asker.document);
    peer_close(&silent);
}

static void test_handler_that_goes_is_not_awaited(void **state) {
    struct asker asker = {0};
    rig_begin();
    peer_connect(&peer);
    ask(&asker, 10);
    peer_close(&peer);
    run_round();
    assert_int_equal(asker.count, 1);
    buf_release(&asker.document);
}

/* A handler that comes in the middle of a round is not asked, and does not answer for others. */
static void test_late_handler_does_not_answer_for_others(void **state) {
    for (int goes = 0; goes < 2; goes++) {
        struct peer early;
        struct peer late;
        struct asker asker = {0};
        rig_begin();
        peer_connect(&early);
        ask(&asker, 10);
        uint32_t serial = expect_question(&early);
        peer_connect(&late);
        peer_expect_nothing(&late);
        if (goes == 1) {
            peer_close(&late);
        }
        run_turns(rig.loop, 2);
        assert_int_equal(asker.count, 0);
        send_report(&early, serial, true);
        run_turns(rig.loop, 2);
        assert_int_equal(asker.count, 1);
        buf_release(&asker.document);
        peer_close(&early);
        if (goes == 0) {
            peer_close(&late);
        }
    }
}

static size_t topics_in(const struct asker *asker) {
    size_t count = 0;
    const char *at = asker->document.bytes;
    while ((at = strstr(at, "{\"topic\":")) != NULL) {
        count++;
        at++;
    }
    return count;
}

/* Many requests make one round: handlers are asked once, and each request gets its number of
 * topics. */
static void test_one_round_for_all(void **state) {
    enum { ASKERS = 40 };
    struct asker askers[ASKERS] = {0};
    rig_begin();
    for (unsigned i = 0; i < 10; i++) {
        char topic[16];
        snprintf(topic, sizeof topic, "t%u", i);
        rig_publish(topic, i);
    }
    peer_connect(&peer);
    for (uint32_t i = 0; i < ASKERS / 2; i++) {
        ask(&askers[i], i);
    }
    uint32_t serial = expect_question(&peer);
    for (uint32_t i = ASKERS / 2; i < ASKERS; i++) {
        ask(&askers[i], i - ASKERS / 2); /* the round is under way */
    }
    peer_expect_nothing(&peer);
    send_report(&peer, serial, true);
    run_turns(rig.loop, 2);
    peer_expect_nothing(&peer);
    for (size_t i = 0; i < ASKERS; i++) {
        size_t limit = i % (ASKERS / 2);
        assert_int_equal(askers[i].count, 1);
        assert_int_equal(topics_in(&askers[i]), limit < 10 ? limit : 10);
        assert_int_equal(askers[i].document.bytes[askers[i].document.length - 1], '}');
        buf_release(&askers[i].document);
    }
}

static void publish_many(const char *prefix, int count) {
    for (int i = 0; i < count; i++) {
        struct buf payload = {0};
        buf_printf(&payload, "{\"topic\":\"%s%d\",\"data\":1}", prefix, i);
        rig_hear("topic_broadcast_0", buf_slice(&payload), 1);
        buf_release(&payload);
    }
}

/* Requests that come as fast as answers get few rounds, if each round is expensive. */
static void test_pause(void **state) {
    static const struct {
        int topics;
        int rounds_max; /* in ten times the shortest pause, and one more that begins at once */
    } cases[] = {{1, 11}, {20000, 1}};
    for (size_t i = 0; i < length_of(cases); i++) {
        struct asker asker = {0};
        rig_begin();
        publish_many("t", cases[i].topics);
        int64_t start_ms = clock_ms();
        while (clock_ms() - start_ms < (int64_t)10 * HEALTH_PAUSE_MS_MIN) {
            ask(&asker, WIRE_HEALTH_LIMIT_MAX);
            run_for(rig.loop, 1);
        }
        assert_in_range(asker.count, 1, cases[i].rounds_max);
        health_cancel(&rig.broker->health, &asker.request);
        buf_release(&asker.document);
    }
}

/* A pause ends: no request waits longer than the longest pause, a round, and the machine's
 * delay. */
static void test_pause_ends(void **state) {
    struct asker asker = {0};
    rig_begin();
    publish_many("t", 20000);
    for (int i = 1; i <= 2; i++) {
        ask(&asker, WIRE_HEALTH_LIMIT_MAX);
        run_for(rig.loop, HEALTH_PAUSE_MS_MAX + 100);
        assert_int_equal(asker.count, i);
    }
    buf_release(&asker.document);
}

/* A round ends when all its requests are cancelled, whenever that happens. */
static void test_given_up(void **state) {
    struct asker asker = {0};
    struct health *health;
    rig_begin();
    health = &rig.broker->health;
    publish_many("t", 2 * SURVEY_STEP);
    peer_connect(&peer);
    ask(&asker, 10);
    health_cancel(health, &asker.request);
    run_round();
    assert_int_equal(health->state, HEALTH_IDLE);
    peer_expect_nothing(&peer);
    ask(&asker, 10);
    send_report(&peer, expect_question(&peer), true);
    while (health->state != HEALTH_COUNTING) {
        run_turns(rig.loop, 1);
    }
    health_cancel(health, &asker.request);
    run_for(rig.loop, 5);
    assert_int_equal(health->state, HEALTH_IDLE);
    assert_int_not_equal(health->survey.phase, SURVEY_DONE);
    assert_int_equal(asker.count, 0);
}

/* A handler's later question replaces its earlier one. */
static void test_handler_asks_again(void **state) {
    struct wire_document answer;
    rig_begin_served();
    for (uint32_t i = 1; i <= 1000; i++) {
        struct wire_ask_document question = {i, WIRE_FULL_HEALTH, 5, {0}};
        peer_send(&peer, wire_encode_ask_document(&question));
    }
    send_report(&peer, expect_question(&peer), true);
    run_round();
    assert_true(wire_decode_document(peer_expect(&peer, WIRE_DOCUMENT), &answer));
    assert_int_equal(answer.token, 1000);
    peer_expect_nothing(&peer);
}

/* --- who is told what ------------------------------------------------------------------------- */

/* What libpq says may name hosts, ports, paths and roles, and is not always UTF-8. */
static void test_faults_are_for_this_machine(void **state) {
    static const char said[] =
        "connection to server at \"db.internal\", port 5432 failed: \xe9\xff";
    static const char local[] =
        "\"reason\":\"the query connection is down: connection to server at \\\"db.internal\\\", "
        "port 5432 failed: \xef\xbf\xbd\xef\xbf\xbd\"";
    struct asker asker = {0};
    struct buf status = {0};
    rig_begin();
    rig_listen();
    condition_on_lost(&rig.broker->condition, CONDITION_QUERY, said);
    snprintf(rig.broker->journal.table.reason, sizeof rig.broker->journal.table.reason, "%s", said);
    ask_as(&asker, DOCUMENT_PUBLIC, 10);
    run_round();
    assert_true(says(&asker, "\"reason\":\"the query connection is down\","));
    assert_true(
        says(&asker, "\"durable_absent\":\"the schema pgsse is not installed, or of no use"));
    assert_false(says(&asker, "internal"));
    ask_as(&asker, DOCUMENT_LOCAL, 10);
    run_round();
    assert_true(says(&asker, local));
    assert_true(utf8_is_valid(buf_slice(&asker.document)));
    document_short_health(&rig.broker->overview, &status);
    assert_non_null(memmem(status.bytes, status.length, "\"the query connection is down\"", 30));
    assert_null(memmem(status.bytes, status.length, "internal", 8));
    buf_release(&status);
    buf_release(&asker.document);
}

static void test_cancelled(void **state) {
    struct asker asker = {0};
    rig_begin();
    peer_connect(&peer);
    ask(&asker, 10);
    health_cancel(&rig.broker->health, &asker.request);
    run_for(rig.loop, HEALTH_WAIT_MS + 20);
    assert_int_equal(asker.count, 0);
    assert_true(TAILQ_EMPTY(&rig.broker->health.requests));
}

/* The list of topics has a limit, subscribed ones first; totals have none. */
static void test_limit(void **state) {
    struct asker asker = {0};
    rig_begin();
    rig_listen();
    rig_notify("{\"topic\":\"idle-one\",\"data\":1}");
    rig_notify("{\"topic\":\"idle-two\",\"data\":1}");
    peer_connect(&peer);
    peer_subscribe(&peer, 1, "wanted", NULL, POSITION_NONE);
    static const struct {
        uint32_t limit;
        bool has_wanted;
        size_t idle;
    } cases[] = {{0, false, 0}, {1, true, 0}, {2, true, 1}, {3, true, 2}, {1000, true, 2}};
    for (size_t i = 0; i < length_of(cases); i++) {
        asker.count = 0;
        ask(&asker, cases[i].limit);
        run_for(rig.loop, HEALTH_WAIT_MS + 50);
        assert_int_equal(asker.count, 1);
        assert_int_equal(says(&asker, "\"topic\":\"wanted\""), cases[i].has_wanted);
        size_t idle = (says(&asker, "idle-one") ? 1u : 0u) + (says(&asker, "idle-two") ? 1u : 0u);
        assert_int_equal(idle, cases[i].idle);
        assert_true(says(&asker, "\"topics\":3,"));
        assert_true(says(&asker, "\"published\":2,"));
    }
    buf_release(&asker.document);
}

/* With any number of topics, the document fits into a frame and a queue. */
static void test_document_is_bounded(void **state) {
    struct asker asker = {0};
    char *name = repeated('n', 240);
    rig_begin();
    publish_many(name, 20000);
    ask(&asker, WIRE_HEALTH_LIMIT_MAX);
    run_turns(rig.loop, 1); /* the clock goes on */
    run_for(rig.loop, 500);
    assert_int_equal(asker.count, 1);
    assert_true(asker.document.length < 2 * LISTING_BYTES_MAX);
    assert_true(asker.document.length < (size_t)rig.config.client_queue_bytes);
    assert_true(says(&asker, "\"topics\":20000,")); /* totals are never cut */
    free(name);
    buf_release(&asker.document);
}

static void test_names_are_escaped(void **state) {
    struct asker asker = {0};
    rig_begin();
    rig_notify("{\"topic\":\"a\\\"b\\\\c\",\"data\":1}");
    ask(&asker, 10);
    run_round();
    assert_true(says(&asker, "\"topic\":\"a\\\"b\\\\c\""));
    buf_release(&asker.document);
}

/* Over the wire, as a client of a handler asks. */
static void test_handler_asks(void **state) {
    struct wire_ask_document question = {77, WIRE_FULL_HEALTH, 5, {0}};
    struct wire_document answer;
    rig_begin_served();
    peer_send(&peer, wire_encode_ask_document(&question));
    send_report(&peer, expect_question(&peer), true);
    assert_true(wire_decode_document(peer_expect(&peer, WIRE_DOCUMENT), &answer));
    assert_int_equal(answer.token, 77);
    assert_int_equal(answer.status, 200);
    assert_true(answer.document.length > 2 && answer.document.at[0] == '{');
}

/* The handler that asked is gone before the answer. */
static void test_handler_asks_and_goes(void **state) {
    struct wire_ask_document question = {77, WIRE_FULL_HEALTH, 5, {0}};
    rig_begin();
    peer_connect(&peer);
    peer_send(&peer, wire_encode_ask_document(&question));
    peer_close(&peer);
    run_for(rig.loop, HEALTH_WAIT_MS + 20);
    assert_true(TAILQ_EMPTY(&rig.broker->health.requests));
}

static void ask_of(struct asker *asker, const char *tenant, enum wire_document_kind kind) {
    struct health_question question = {kind, DOCUMENT_PUBLIC, 10, ""};
    snprintf(question.tenant, sizeof question.tenant, "%s", tenant);
    health_ask(&rig.broker->health, &asker->request, &question, on_health);
}

/* Each sees its own topics only, "" too; the status socket sees all, with their tenants. */
static void test_tenants(void **state) {
    static struct asker askers[5]; /* zero */
    rig_begin();
    rig_listen();
    rig_notify("{\"topic\":\"x\",\"data\":1}");
    rig_notify("{\"topic\":\"y\",\"data\":1,\"tenant\":\"a\"}");
    rig_notify("{\"topic\":\"z\",\"data\":1,\"tenant\":\"b\"}");
    ask_of(&askers[0], LISTING_ALL_TENANTS, WIRE_FULL_HEALTH);
    ask_of(&askers[1], "a", WIRE_FULL_HEALTH);
    ask_of(&askers[2], "none", WIRE_FULL_HEALTH);
    ask_of(&askers[3], "b", WIRE_STREAM_STATS);
    ask_of(&askers[4], "", WIRE_FULL_HEALTH);
    run_round();
    run_round();
    assert_true(says(&askers[0], "\"topic\":\"x\",\"subscribers\""));
    assert_true(says(&askers[0], "\"topic\":\"y\",\"tenant\":\"a\""));
    assert_true(says(&askers[0], "\"topic\":\"z\",\"tenant\":\"b\""));
    assert_true(says(&askers[1], "\"topic\":\"y\""));
    assert_false(says(&askers[1], "\"x\"") || says(&askers[1], "\"z\""));
    assert_true(says(&askers[2], "\"topics\":[]"));
    assert_true(says(&askers[3], "\"active_topics\":0"));
    assert_true(says(&askers[4], "\"topic\":\"x\",\"subscribers\""));
    assert_false(says(&askers[4], "\"y\"") || says(&askers[4], "\"z\""));
    for (size_t i = 0; i < length_of(askers); i++) {
        assert_int_equal(askers[i].count, 1);
        buf_release(&askers[i].document);
    }
}

RUN_TESTS(TEST(test_tenants), TEST(test_without_handlers), TEST(test_waits_for_all_handlers),
          TEST(test_does_not_wait_for_ever), TEST(test_handler_that_goes_is_not_awaited),
          TEST(test_late_handler_does_not_answer_for_others), TEST(test_one_round_for_all),
          TEST(test_pause), TEST(test_pause_ends), TEST(test_given_up),
          TEST(test_handler_asks_again), TEST(test_faults_are_for_this_machine),
          TEST(test_cancelled), TEST(test_limit), TEST(test_names_are_escaped),
          TEST(test_document_is_bounded), TEST(test_handler_asks), TEST(test_handler_asks_and_goes))
