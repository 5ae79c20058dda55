/* Many clients, one question: whole, from the web server's bytes to the answers'. */
#include "handler_rig.h"

static uint64_t hear_health(uint32_t limit) {
    struct wire_ask_document question;
    assert_true(wire_decode_ask_document(broker_hear(WIRE_ASK_DOCUMENT), &question));
    assert_int_equal(question.limit, limit);
    return question.token;
}

static void say_document(uint64_t token, struct slice text) {
    struct wire_document document = {token, 200, text};
    broker_say(wire_encode_document(&document));
}

static struct visit visit_health(uint32_t limit) {
    char query[32];
    snprintf(query, sizeof query, "limit=%u", limit);
    return VISIT("GET", "/healthz", query);
}

static void expect_and_end(struct visit *visit, const char *status, const char *body) {
    visit_expect_answer(visit, status, "", body);
    visit_end(visit);
}

#define TWO  "{\"topics\":[\n{\"a\":1}\n,{\"b\":1}]}"
#define ONE  "{\"topics\":[\n{\"a\":1}]}"
#define NONE "{\"topics\":[]}"

static void test_one_question_for_all(void **state) {
    handler_begin();
    struct visit visits[] = {visit_health(2), visit_health(0), visit_health(1), visit_health(2)};
    static const char *const bodies[] = {TWO, NONE, ONE, TWO};
    uint64_t token = hear_health(2);
    broker_expect_silence();
    say_document(token, LITERAL(TWO));
    for (size_t i = 0; i < length_of(visits); i++) {
        expect_and_end(&visits[i], "200", bodies[i]);
    }
    broker_expect_silence();
}

/* It cannot be cut from what was asked for: it waits for the next answer, the others do not. */
static void test_longer_list(void **state) {
    handler_begin();
    struct visit first = visit_health(1);
    struct visit longer = visit_health(1000);
    struct visit longest = visit_health(2000);
    say_document(hear_health(1), LITERAL(ONE));
    expect_and_end(&first, "200", ONE);
    say_document(hear_health(2000), LITERAL(TWO));
    expect_and_end(&longer, "200", TWO);
    expect_and_end(&longest, "200", TWO);
}

static struct visit visit_as(const char *tenant, const char *uri) {
    return VISIT("GET", uri, "", "PGSSE_TENANT", tenant);
}

static uint64_t hear_question_of(const char *tenant, enum wire_document_kind kind) {
    struct wire_ask_document question;
    assert_true(wire_decode_ask_document(broker_hear(WIRE_ASK_DOCUMENT), &question));
    expect_text(question.tenant, tenant);
    assert_int_equal(question.kind, kind);
    return question.token;
}

/* Nobody gets another tenant's answer. The one that has waited longest is asked for next. */
static void test_tenants(void **state) {
    handler_begin();
    struct visit first = visit_as("a", "/healthz");
    uint64_t token = hear_question_of("a", WIRE_FULL_HEALTH);
    struct visit others[] = {visit_as("b", "/healthz"), visit_as("", "/healthz"),
                             visit_as("a", "/healthz"), visit_as("b", "/healthz")};
    broker_expect_silence();
    say_document(token, LITERAL("{\"for\":\"a\"}"));
    expect_and_end(&first, "200", "{\"for\":\"a\"}");
    expect_and_end(&others[2], "200", "{\"for\":\"a\"}");
    say_document(hear_question_of("b", WIRE_FULL_HEALTH), LITERAL("{\"for\":\"b\"}"));
    expect_and_end(&others[0], "200", "{\"for\":\"b\"}");
    expect_and_end(&others[3], "200", "{\"for\":\"b\"}");
    say_document(hear_question_of("", WIRE_FULL_HEALTH), LITERAL("{\"for\":\"\"}"));
    expect_and_end(&others[1], "200", "{\"for\":\"\"}");
    broker_expect_silence();
}

/* What is the same for all is asked once. */
static void test_what_is_no_tenants(void **state) {
    handler_begin();
    struct visit visits[] = {visit_as("a", "/health"), visit_as("b", "/health"),
                             visit_as("", "/health")};
    say_document(hear_question_of("", WIRE_SHORT_HEALTH), LITERAL("{}"));
    for (size_t i = 0; i < length_of(visits); i++) {
        expect_and_end(&visits[i], "200", "{}");
    }
    broker_expect_silence();
}

static void test_too_many(void **state) {
    struct visit visits[SHARED_QUESTION_LARGE_WAITING_MAX];
    handler_begin();
    for (size_t i = 0; i < length_of(visits); i++) {
        visits[i] = visit_health(1);
    }
    struct visit refused = visit_health(1);
    visit_expect_answer(&refused, "503 Service Unavailable\r\n",
                        "Retry-After: ", "too many clients ask for this at once\n");
    visit_end(&refused);
    struct visit other = VISIT("GET", "/health", ""); /* each kind has its own bound */
    uint64_t token = hear_health(1);
    (void)broker_hear(WIRE_ASK_DOCUMENT);
    visit_end(&visits[0]); /* it makes room */
    struct visit next = visit_health(1);
    say_document(token, LITERAL(ONE));
    for (size_t i = 1; i < length_of(visits); i++) {
        expect_and_end(&visits[i], "200", ONE);
    }
    expect_and_end(&next, "200", ONE);
    visit_end(&other);
}

/* Nobody waits any more when the answer comes; the next one asks anew. */
static void test_given_up(void **state) {
    handler_begin();
    struct visit gone = visit_health(1);
    uint64_t token = hear_health(1);
    visit_end(&gone);
    say_document(token, LITERAL(ONE));
    struct visit next = visit_health(2);
    say_document(token, LITERAL(ONE)); /* of a question that was answered */
    say_document(hear_health(2), LITERAL(TWO));
    expect_and_end(&next, "200", TWO);
}

/* A client is closed in the turn in which its answer, or the loss of the broker, comes. */
static void test_closed_in_that_turn(void **state) {
    handler_begin();
    struct visit gone = visit_health(1);
    struct visit stays = visit_health(1);
    uint64_t token = hear_health(1);
    client_close(gone.client, "the test says so");
    say_document(token, LITERAL(ONE));
    visit_end(&gone);
    expect_and_end(&stays, "200", ONE);
    gone = visit_health(1);
    client_close(gone.client, "the test says so");
    broker_go();
    visit_end(&gone);
    assert_int_equal(rig.stream->clients.count, 0);
}

/* Positions are asked for once, too, and asked for again when the broker comes back. */
static void test_positions(void **state) {
    struct visit visits[3];
    struct wire_position answer = {.position = {7, "abcdefghijklm", 3}};
    handler_begin();
    for (size_t i = 0; i < length_of(visits); i++) {
        visits[i] = VISIT("HEAD", "/topics/a/events", "");
    }
    assert_true(wire_decode_ask_position(broker_hear(WIRE_ASK_POSITION), &answer.token));
    broker_expect_silence();
    broker_go();
    broker_come();
    (void)broker_hear(WIRE_RESUME);
    broker_say(wire_encode_position(WIRE_POSITION, &answer)); /* of the last connection */
    assert_true(wire_decode_ask_position(broker_hear(WIRE_ASK_POSITION), &answer.token));
    broker_say(wire_encode_position(WIRE_POSITION, &answer));
    for (size_t i = 0; i < length_of(visits); i++) {
        visit_expect_answer(&visits[i], "200", "Pgsse-Position: 7.abcdefghijklm.3\r\n", "");
        visit_end(&visits[i]);
    }
}

/* --- large documents -------------------------------------------------------------------------- */

enum { LARGE_BYTES = 512 * 1024, MANY = 40 };

static void begin_many(struct visit visits[MANY], uint64_t *token) {
    handler_begin();
    for (size_t i = 0; i < MANY; i++) {
        visits[i] = visit_health(1);
    }
    *token = hear_health(1);
}

static void end_many(struct visit visits[MANY]) {
    for (size_t i = 0; i < MANY; i++) {
        visit_end(&visits[i]);
    }
    assert_int_equal(rig.stream->answers.document_bytes, 0);
}

static void send_large(uint64_t token) {
    char *text = repeated('x', LARGE_BYTES);
    struct wire_document document = {token, 200, {text, LARGE_BYTES}};
    struct payload *frame = wire_encode_document(&document);
    for (size_t sent = 0; sent < frame->length;) {
        ssize_t now = send(rig.broker, frame->bytes + sent, frame->length - sent, MSG_DONTWAIT);
        sent += now > 0 ? (size_t)now : 0;
        run_turns(rig.loop, 1);
    }
    payload_unref(&frame);
    free(text);
}

/* In one turn a few clients are answered, and not all of them. */
static void test_answers_are_spread(void **state) {
    struct visit visits[MANY];
    uint64_t token;
    begin_many(visits, &token);
    struct shared_question *question = &rig.stream->answers.questions[WIRE_FULL_HEALTH];
    send_large(token);
    for (int i = 0; i < 1000 && question->state == SHARED_QUESTION_ASKED; i++) {
        run_turns(rig.loop, 1);
    }
    assert_int_equal(question->state, SHARED_QUESTION_ANSWERING);
    assert_in_range(question->count, MANY / 2, MANY - 1);
    struct visit late = visit_health(1); /* not from the document that is being given out */
    run_for(rig.loop, 200);
    assert_int_equal(question->count, 1);
    (void)hear_health(1);
    visit_end(&late);
    end_many(visits);
}

/* Clients that do not read their answers cannot fill the memory. */
static void test_unread_documents_are_bounded(void **state) {
    struct visit visits[MANY];
    uint64_t token;
    size_t refused = 0;
    begin_many(visits, &token);
    send_large(token);
    run_for(rig.loop, 200);
    assert_in_range(rig.stream->answers.document_bytes, 15 * 1024 * 1024, 16 * 1024 * 1024);
    for (size_t i = 0; i < MANY; i++) {
        visit_read(&visits[i]);
        refused +=
            memmem(visits[i].content.bytes, visits[i].content.length, "Status: 503", 11) != NULL;
    }
    assert_int_equal(refused, MANY - 16 * 1024 * 1024 / LARGE_BYTES);
    end_many(visits);
}

/* An answer that its client takes up again when it is about to stall: nothing gets into it. */
static void test_no_heartbeat_in_an_answer(void **state) {
    struct visit visits[MANY];
    uint64_t token;
    begin_many(visits, &token);
    send_large(token);
    run_for(rig.loop, 200);
    struct client *client = visits[0].client;
    assert_true(client->is_blocked && client->state == CLIENT_ENDING);
    client->is_blocked = false;
    client->written_ms = loop_now_ms(rig.loop) - rig.config.keep_alive;
    loop_timer_start(rig.loop, &client->timer, 0, client->timer.on_due);
    client_flush_soon(client);
    visit_read(&visits[0]);
    struct buf *content = &visits[0].content;
    assert_null(memmem(content->bytes, content->length, "heartbeat", 9));
    end_many(visits);
}

RUN_TESTS(TEST(test_tenants), TEST(test_what_is_no_tenants), TEST(test_one_question_for_all),
          TEST(test_longer_list), TEST(test_too_many), TEST(test_given_up),
          TEST(test_closed_in_that_turn), TEST(test_no_heartbeat_in_an_answer),
          TEST(test_positions), TEST(test_answers_are_spread),
          TEST(test_unread_documents_are_bounded))
