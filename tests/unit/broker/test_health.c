/* The health document: asked of all handlers, built once they have answered or time is up. */
#include "broker_rig.h"
#include "document.h"

struct answer {
    int count;
    uint64_t token;
    uint16_t status;
    struct buf document;
};

static void on_health(void *owner, uint64_t token, uint16_t status, struct slice document) {
    struct answer *answer = owner;
    answer->count++;
    answer->token = token;
    answer->status = status;
    answer->document.length = 0;
    buf_append_slice(&answer->document, document);
    buf_append(&answer->document, "", 1);
    answer->document.length--;
}

static bool says(const struct answer *answer, const char *part) {
    return answer->document.bytes != NULL && strstr(answer->document.bytes, part) != NULL;
}

static uint32_t expect_question(struct peer *peer) {
    uint32_t serial;
    assert_true(wire_decode_ask_report(peer_expect(peer, WIRE_ASK_REPORT), &serial));
    return serial;
}

static void send_report(struct peer *peer, uint32_t serial, bool is_last) {
    struct buf report = {0};
    wire_report_begin(&report, serial);
    peer_send(peer, wire_report_end(&report, is_last));
}

static void test_without_handlers(void **state) {
    (void)state;
    struct rig rig;
    struct answer answer = {0};
    rig_begin(&rig);
    health_ask(&rig.broker->health, 10, &answer, 42, on_health);
    run_turns(rig.loop, 2);
    assert_int_equal(answer.count, 1);
    assert_int_equal(answer.token, 42);
    assert_int_equal(answer.status, 503);
    assert_true(says(&answer, "\"status\":\"degraded\""));
    assert_true(says(&answer, "\"listen_connected\":false"));
    assert_true(says(&answer, "\"topics\":[]"));
    rig_listen(&rig);
    health_ask(&rig.broker->health, 10, &answer, 43, on_health);
    run_turns(rig.loop, 2);
    assert_int_equal(answer.status, 200);
    assert_true(says(&answer, "\"listen_connected\":true"));
    buf_release(&answer.document);
    rig_end(&rig);
}

static void test_waits_for_all_handlers(void **state) {
    (void)state;
    struct rig rig;
    struct peer one;
    struct peer two;
    struct answer answer = {0};
    rig_begin(&rig);
    (void)peer_connect(&rig, &one);
    (void)peer_connect(&rig, &two);
    health_ask(&rig.broker->health, 10, &answer, 1, on_health);
    uint32_t serial = expect_question(&one);
    assert_int_equal(expect_question(&two), serial);
    send_report(&one, serial, false);
    send_report(&one, serial, true);
    assert_int_equal(answer.count, 0);
    send_report(&two, serial, true);
    run_turns(rig.loop, 2);
    assert_int_equal(answer.count, 1);
    buf_release(&answer.document);
    peer_close(&one);
    peer_close(&two);
    rig_end(&rig);
}

static void test_does_not_wait_for_ever(void **state) {
    (void)state;
    struct rig rig;
    struct peer silent;
    struct answer answer = {0};
    rig_begin(&rig);
    (void)peer_connect(&rig, &silent);
    health_ask(&rig.broker->health, 10, &answer, 1, on_health);
    run_for(rig.loop, HEALTH_WAIT_MS / 2);
    assert_int_equal(answer.count, 0);
    run_for(rig.loop, HEALTH_WAIT_MS);
    assert_int_equal(answer.count, 1);
    buf_release(&answer.document);
    peer_close(&silent);
    rig_end(&rig);
}

static void test_handler_that_goes_is_not_awaited(void **state) {
    (void)state;
    struct rig rig;
    struct peer peer;
    struct answer answer = {0};
    rig_begin(&rig);
    (void)peer_connect(&rig, &peer);
    health_ask(&rig.broker->health, 10, &answer, 1, on_health);
    peer_close(&peer);
    run_turns(rig.loop, 2);
    assert_int_equal(answer.count, 1);
    buf_release(&answer.document);
    rig_end(&rig);
}

/* A handler that came after the question was asked has nothing to say about it. */
static void test_late_handler_does_not_answer_for_others(void **state) {
    (void)state;
    struct rig rig;
    struct peer early;
    struct peer late;
    struct answer first = {0};
    struct answer second = {0};
    rig_begin(&rig);
    (void)peer_connect(&rig, &early);
    health_ask(&rig.broker->health, 10, &first, 1, on_health);
    uint32_t first_serial = expect_question(&early);
    (void)peer_connect(&rig, &late);
    health_ask(&rig.broker->health, 10, &second, 2, on_health);
    uint32_t second_serial = expect_question(&late);
    assert_true(second_serial > first_serial);
    send_report(&late, second_serial, true);
    run_turns(rig.loop, 2);
    assert_int_equal(first.count, 0); /* the early one has not answered */
    assert_int_equal(second.count, 0);
    send_report(&early, second_serial, true);
    run_turns(rig.loop, 2);
    assert_int_equal(first.count, 1);
    assert_int_equal(second.count, 1);
    buf_release(&first.document);
    buf_release(&second.document);
    peer_close(&early);
    peer_close(&late);
    rig_end(&rig);
}

/* The same when the late one goes instead of answering. */
static void test_late_handler_that_goes_does_not_answer_for_others(void **state) {
    (void)state;
    struct rig rig;
    struct peer early;
    struct peer late;
    struct answer first = {0};
    struct answer second = {0};
    rig_begin(&rig);
    (void)peer_connect(&rig, &early);
    health_ask(&rig.broker->health, 10, &first, 1, on_health);
    (void)peer_connect(&rig, &late);
    health_ask(&rig.broker->health, 10, &second, 2, on_health);
    peer_close(&late);
    run_turns(rig.loop, 2);
    assert_int_equal(first.count, 0);
    peer_close(&early);
    run_turns(rig.loop, 2);
    assert_int_equal(first.count, 1);
    assert_int_equal(second.count, 1);
    buf_release(&first.document);
    buf_release(&second.document);
    rig_end(&rig);
}

static void test_cancelled(void **state) {
    (void)state;
    struct rig rig;
    struct peer peer;
    struct answer answer = {0};
    rig_begin(&rig);
    (void)peer_connect(&rig, &peer);
    health_ask(&rig.broker->health, 10, &answer, 1, on_health);
    health_cancel(&rig.broker->health, &answer);
    run_for(rig.loop, HEALTH_WAIT_MS + 20);
    assert_int_equal(answer.count, 0);
    assert_true(TAILQ_EMPTY(&rig.broker->health.requests));
    peer_close(&peer);
    rig_end(&rig);
}

/* The list of topics has a limit, subscribed ones first; totals have none. */
static void test_limit(void **state) {
    (void)state;
    struct rig rig;
    struct peer peer;
    struct answer answer = {0};
    rig_begin(&rig);
    rig_listen(&rig);
    rig_notify(&rig, "{\"topic\":\"idle-one\",\"data\":1}");
    rig_notify(&rig, "{\"topic\":\"idle-two\",\"data\":1}");
    (void)peer_connect(&rig, &peer);
    peer_subscribe(&peer, 1, "wanted", NULL, POSITION_NONE);
    static const struct {
        uint32_t limit;
        bool has_wanted;
        size_t idle;
    } cases[] = {{0, false, 0}, {1, true, 0}, {2, true, 1}, {3, true, 2}, {1000, true, 2}};
    for (size_t i = 0; i < length_of(cases); i++) {
        answer.count = 0;
        health_ask(&rig.broker->health, cases[i].limit, &answer, 1, on_health);
        run_for(rig.loop, HEALTH_WAIT_MS + 20);
        assert_int_equal(answer.count, 1);
        assert_int_equal(says(&answer, "\"topic\":\"wanted\""), cases[i].has_wanted);
        size_t idle = (says(&answer, "idle-one") ? 1u : 0u) + (says(&answer, "idle-two") ? 1u : 0u);
        assert_int_equal(idle, cases[i].idle);
        assert_true(says(&answer, "\"topics\":3,"));
        assert_true(says(&answer, "\"published\":2,"));
    }
    buf_release(&answer.document);
    peer_close(&peer);
    rig_end(&rig);
}

/* However many topics there are and are asked for, the document fits into a frame and a queue. */
static void test_document_is_bounded(void **state) {
    (void)state;
    struct rig rig;
    struct answer answer = {0};
    char *name = repeated('n', 240);
    rig_begin(&rig);
    for (int i = 0; i < 20000; i++) {
        struct buf payload = {0};
        buf_printf(&payload, "{\"topic\":\"%s%d\",\"data\":1}", name, i);
        broker_receive(rig.broker, "topic_broadcast_0", buf_slice(&payload), 1);
        buf_release(&payload);
    }
    health_ask(&rig.broker->health, WIRE_HEALTH_LIMIT_MAX, &answer, 1, on_health);
    run_turns(rig.loop, 2);
    assert_int_equal(answer.count, 1);
    assert_true(answer.document.length < 2 * DOCUMENT_LIST_BYTES_MAX);
    assert_true(answer.document.length < (size_t)rig.config.client_queue_bytes);
    assert_true(says(&answer, "\"topics\":20000,")); /* totals are never cut */
    free(name);
    buf_release(&answer.document);
    rig_end(&rig);
}

static void test_names_are_escaped(void **state) {
    (void)state;
    struct rig rig;
    struct answer answer = {0};
    rig_begin(&rig);
    rig_notify(&rig, "{\"topic\":\"a\\\"b\\\\c\",\"data\":1}");
    health_ask(&rig.broker->health, 10, &answer, 1, on_health);
    run_turns(rig.loop, 2);
    assert_true(says(&answer, "\"topic\":\"a\\\"b\\\\c\""));
    buf_release(&answer.document);
    rig_end(&rig);
}

/* Over the wire, as a client of a handler asks. */
static void test_handler_asks(void **state) {
    (void)state;
    struct rig rig;
    struct peer peer;
    struct wire_ask_health question = {77, 5};
    struct wire_document answer;
    rig_begin(&rig);
    rig_listen(&rig);
    (void)peer_connect(&rig, &peer);
    peer_send(&peer, wire_encode_ask_health(&question));
    send_report(&peer, expect_question(&peer), true);
    assert_true(wire_decode_document(peer_expect(&peer, WIRE_DOCUMENT), &answer));
    assert_int_equal(answer.token, 77);
    assert_int_equal(answer.status, 200);
    assert_true(answer.document.length > 2 && answer.document.at[0] == '{');
    peer_close(&peer);
    rig_end(&rig);
}

/* Who asked is gone before the answer. */
static void test_handler_asks_and_goes(void **state) {
    (void)state;
    struct rig rig;
    struct peer peer;
    struct wire_ask_health question = {77, 5};
    rig_begin(&rig);
    (void)peer_connect(&rig, &peer);
    peer_send(&peer, wire_encode_ask_health(&question));
    peer_close(&peer);
    run_for(rig.loop, HEALTH_WAIT_MS + 20);
    assert_true(TAILQ_EMPTY(&rig.broker->health.requests));
    rig_end(&rig);
}

RUN_TESTS(TEST(test_without_handlers), TEST(test_waits_for_all_handlers),
          TEST(test_does_not_wait_for_ever), TEST(test_handler_that_goes_is_not_awaited),
          TEST(test_late_handler_does_not_answer_for_others),
          TEST(test_late_handler_that_goes_does_not_answer_for_others), TEST(test_cancelled),
          TEST(test_limit), TEST(test_names_are_escaped), TEST(test_document_is_bounded),
          TEST(test_handler_asks), TEST(test_handler_asks_and_goes))
