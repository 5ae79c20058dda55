/* User streams: what they are granted, which ids they see, and how
 * they subscribe again without losing or doubling anything. The test is web server and broker. */
#include "fake_send.h"
#include "handler_rig.h"

#define STREAM "/api/events/stream"
#define QUERY  "userId=1&channels=a,b"

static struct position place(uint64_t durable) {
    return (struct position){durable, "abcdefghijklm", 3};
}

static struct names names(const char *first, const char *second) {
    struct names topics = {0};
    const char *all[] = {first, second};
    for (size_t i = 0; i < length_of(all) && all[i] != NULL; i++) {
        topics.keys[topics.count++] = key_of(all[i]);
    }
    return topics;
}

static void expect_topics(const struct names *topics, const char *first, const char *second) {
    struct names wanted = names(first, second);
    assert_int_equal(topics->count, wanted.count);
    for (size_t i = 0; i < wanted.count; i++) {
        expect_slice(topics->keys[i].bytes, wanted.keys[i].bytes, "topic");
    }
}

/* --- what the broker says -----------------------------------------------------------------------
 */

static void accept_as(uint64_t token, bool follows, uint64_t durable, struct names topics) {
    struct wire_accepted message = {token, follows, place(durable), topics};
    broker_say(wire_encode_accepted(&message));
}

static void refuse(uint64_t token, uint16_t status) {
    struct wire_refused message = {token, status, LITERAL("it \"may\" not")};
    broker_say(wire_encode_refused(&message));
}

static uint64_t live_token; /* the last one that went live */

static void go_live(uint64_t token, uint64_t durable) {
    struct wire_position message = {token, place(durable)};
    live_token = token;
    broker_say(wire_encode_position(WIRE_SUBSCRIBED, &message));
}

static void tell_position(uint64_t durable) {
    struct wire_position message = {0, place(durable)};
    broker_say(wire_encode_position(WIRE_POSITION, &message));
}

static struct wire_event event_of(const char *topic, uint64_t durable) {
    return (struct wire_event){.is_durable = true,
                               .position = place(durable),
                               .topic = key_of(topic),
                               .body = LITERAL("event: e\ndata: 1\n\n")};
}

static void send_event(const char *topic, uint64_t durable) {
    struct wire_event event = event_of(topic, durable);
    broker_say(wire_encode_event(&event));
}

static void send_replay(uint64_t token, const char *topic, uint64_t durable) {
    struct wire_replay replay = {token, event_of(topic, durable)};
    broker_say(wire_encode_replay(&replay));
}

static void send_refresh(uint64_t token, bool is_durable, uint64_t durable) {
    struct wire_refresh message = {.token = token,
                                   .is_durable = is_durable,
                                   .position = place(durable),
                                   .reason = SSE_REFRESH_UNKNOWN_POSITION,
                                   .dropped = SSE_DROPPED_UNKNOWN};
    broker_say(wire_encode_refresh(&message));
}

static void recheck(const char *user) {
    broker_say(wire_encode_recheck(&(struct wire_recheck){LITERAL(""), slice_of(user)}));
}

#define FRAME(durable) "id: " durable "\nevent: e\ndata: 1\n\n"
#define POSITION(text) "event: position\nid: " text "\ndata: {\"position\":\"" text "\"}\n\n"
#define HEARTBEAT      ": heartbeat\n\n"

static const char refreshed[] = "id: 9\nevent: refresh\ndata: {\"reason\":\"unknown_position\","
                                "\"dropped\":null,\"topics\":[\"a\",\"b\"]}\n\n";

/* --- what it hears ------------------------------------------------------------------------------
 */

static struct wire_subscribe hear_subscribe(void) {
    struct wire_subscribe message;
    assert_true(wire_decode_subscribe(broker_hear(WIRE_SUBSCRIBE), &message));
    assert_int_equal(message.form, WIRE_FORM_USER);
    assert_true(slice_is(message.user, "1"));
    assert_true(message.position.marker[0] == '\0' && message.position.since == 0);
    return message;
}

/* From that place; returns the token. */
static uint64_t hear_subscribe_from(uint64_t durable, const char *first, const char *second) {
    struct wire_subscribe message = hear_subscribe();
    assert_int_equal(message.position_kind, POSITION_KNOWN);
    assert_int_equal(message.position.durable, durable);
    expect_topics(&message.topics, first, second);
    return message.token;
}

/* token 0: of a live one, which keeps the one that it was admitted with. */
static void hear_unsubscribe(uint64_t token, const char *first, const char *second) {
    struct wire_unsubscribe message;
    assert_true(wire_decode_unsubscribe(broker_hear(WIRE_UNSUBSCRIBE), &message));
    assert_int_equal(message.token, token == 0 ? live_token : token);
    assert_int_equal(message.form, WIRE_FORM_USER);
    expect_topics(&message.topics, first, second);
}

/* --- scenes -------------------------------------------------------------------------------------
 */

static struct scene {
    struct visit visit;
    uint64_t token; /* of its subscription */
} scene;

static void scene_end(void) {
    if (scene.visit.fd >= 0) {
        visit_end(&scene.visit);
    }
    handler_end();
}

/* The rig ends with its visit. */
static void scene_visit(struct visit visit) {
    scene.visit = visit;
    fixture_end = scene_end;
}

static void scene_ask(const char *last_event_id, const char *accept) {
    handler_begin();
    scene_visit(
        VISIT("GET", STREAM, QUERY, "HTTP_LAST_EVENT_ID", last_event_id, "HTTP_ACCEPT", accept));
    scene.token = hear_subscribe().token;
}

static void scene_greet(bool follows) {
    scene_ask("5", "text/event-stream");
    accept_as(scene.token, follows, 7, names("a", "b"));
    visit_expect_begun(&scene.visit, ": connected\n"); /* it has its own position */
}

static void scene_live(void) {
    scene_greet(false);
    go_live(scene.token, 7);
    assert_int_equal(scene.visit.subscriber->state, SUBSCRIBER_LIVE);
    visit_expect(&scene.visit, "");
}

static void scene_expect(const char *wanted) {
    visit_expect(&scene.visit, wanted);
}

/* Nothing was said for long. */
static void scene_heartbeat(const char *wanted) {
    struct subscriber *subscriber = scene.visit.subscriber;
    subscriber->client.written_ms = loop_now_ms(rig.loop) - rig.config.keep_alive;
    loop_timer_start(rig.loop, &subscriber->client.timer, 0, subscriber->client.timer.on_due);
    scene_expect(wanted);
}

/* --- admission ----------------------------------------------------------------------------------
 */

/* What is handed in as a position, and what the broker is asked for. */
static void test_what_is_asked(void **state) {
    static const struct {
        const char *last_event_id;
        enum position_kind kind;
        uint64_t durable;
    } cases[] = {{"", POSITION_NONE, 0},       {"5", POSITION_KNOWN, 5},
                 {"0", POSITION_ALL, 0},       {"5.abcdefghijklm.9", POSITION_KNOWN, 5},
                 {"5~own", POSITION_KNOWN, 5}, {"0.abcdefghijklm.9", POSITION_KNOWN, 0},
                 {"x", POSITION_MALFORMED, 0}};
    for (size_t i = 0; i < length_of(cases); i++) {
        handler_begin();
        struct visit visit = VISIT("GET", STREAM, "userId=1&channels=b,a", "HTTP_LAST_EVENT_ID",
                                   cases[i].last_event_id, "REMOTE_USER", "1");
        struct wire_subscribe message = hear_subscribe();
        assert_int_equal(message.position_kind, cases[i].kind);
        assert_int_equal(message.position.durable, cases[i].durable);
        expect_topics(&message.topics, "a", "b");
        visit_end(&visit);
        hear_unsubscribe(message.token, "a", "b");
    }
}

static void test_ids_of_a_replay(void **state) {
    scene_greet(true);
    scene_heartbeat(HEARTBEAT);
    send_replay(scene.token, "a", 6);
    scene_expect(FRAME("6"));
    send_refresh(scene.token, true, 9);
    scene_expect(refreshed);
    send_replay(scene.token, "b", 12);
    tell_position(30); /* what others have got */
    scene_expect(FRAME("12"));
    scene_heartbeat(HEARTBEAT);
    go_live(scene.token, 12);
    scene_expect(""); /* it was said */
    tell_position(31);
    scene_heartbeat(HEARTBEAT);
}

static void test_id_behind_a_replay(void **state) {
    scene_greet(true);
    send_replay(scene.token, "a", 6);
    go_live(scene.token, 9);
    scene_expect(FRAME("6"));
}

/* A position that cannot be written as an id: the refresh carries one that can. */
static void test_unknown_position(void **state) {
    static const char *const ids[] = {"x", "0.abcdefghijklm.9"};
    for (size_t i = 0; i < length_of(ids); i++) {
        struct buf wanted = {0};
        scene_ask(ids[i], "");
        accept_as(scene.token, true, 9, names("a", "b"));
        send_refresh(scene.token, true, 9);
        buf_printf(&wanted, ": connected\n%s", refreshed);
        buf_append(&wanted, "", 1);
        visit_expect_begun(&scene.visit, wanted.bytes);
        buf_release(&wanted);
    }
}

/* So many ms have gone by since the stream was opened, or was sent an id. */
static void scene_age(int64_t ms) {
    struct subscriber *subscriber = scene.visit.subscriber;
    subscriber->id_ms = loop_now_ms(rig.loop) - ms;
    loop_timer_start(rig.loop, &subscriber->client.timer, 0, subscriber->client.timer.on_due);
}

/* A user stream that was opened without an id and was sent nothing for 2 s is given its position:
 * else it would lose what is published while it is cut. */
static void test_position_of_a_quiet_stream(void **state) {
    scene_ask("", "");
    accept_as(scene.token, false, 7, names("a", "b"));
    go_live(scene.token, 7);
    visit_expect_begun(&scene.visit, ": connected\n");
    struct loop_timer *timer = &scene.visit.subscriber->client.timer;
    assert_in_range(timer->due_ms - loop_now_ms(rig.loop), 1500, 2000);
    tell_position(9);
    scene_age(1900);
    scene_expect("");
    scene_age(2000);
    scene_expect(POSITION("9"));
    scene_age(2000); /* once */
    scene_expect("");
}

/* An event has an id, too. */
static void test_no_position_after_an_event(void **state) {
    scene_ask("", "");
    accept_as(scene.token, false, 7, names("a", "b"));
    go_live(scene.token, 7);
    scene.visit.subscriber->id_ms -= 1000;
    send_event("a", 8);
    visit_expect_begun(&scene.visit, ": connected\n" FRAME("8"));
    scene_age(2000);
    scene_expect("");
}

/* A replay that takes its time: where it stands itself. */
static void test_position_during_a_replay(void **state) {
    scene_ask("", "");
    accept_as(scene.token, false, 7, names("a", "b"));
    visit_expect_begun(&scene.visit, ": connected\n");
    scene_age(2000);
    scene_expect(POSITION("7"));
}

static void test_position_that_is_asked_for(void **state) {
    handler_begin();
    struct visit visit = VISIT("GET", STREAM, QUERY "&position=1");
    uint64_t token = hear_subscribe().token;
    accept_as(token, false, 7, names("a", "b"));
    go_live(token, 7);
    visit_expect_begun(&visit, ": connected\n" POSITION("7"));
    visit_end(&visit);
}

/* All that is kept, of which it has got nothing yet. */
static void test_from_the_start(void **state) {
    scene_ask("0", "");
    accept_as(scene.token, true, 9, names("a", "b"));
    visit_expect_begun(&scene.visit, ": connected\n");
    broker_go();
    broker_come();
    (void)broker_hear(WIRE_RESUME);
    struct wire_subscribe again = hear_subscribe();
    assert_int_equal(again.position_kind, POSITION_ALL);
    assert_int_equal(again.position.durable, 9); /* where it was accepted */
}

/* Its audience is the one of what it was granted. */
static void test_granted_in_part(void **state) {
    scene_ask("", "");
    accept_as(scene.token, false, 7, names("b", NULL));
    go_live(scene.token, 7);
    visit_expect_begun(&scene.visit, ": connected\n");
    send_event("a", 8);
    send_event("b", 9);
    send_refresh(0, true, 9);
    scene_expect(FRAME("9") "id: 9\nevent: refresh\ndata: {\"reason\":\"unknown_position\","
                            "\"dropped\":null,\"topics\":[\"b\"]}\n\n");
    visit_end(&scene.visit);
    hear_unsubscribe(0, "b", NULL);
}

/* What was not asked for, nothing at all, another order, one twice: the broker is not believed. */
static void test_granted_wrongly(void **state) {
    static const char *const grants[][2] = {{"c", NULL}, {NULL, NULL}, {"b", "a"},
                                            {"a", "a"},  {"a", "c"},   {"aa", NULL}};
    for (size_t i = 0; i < length_of(grants); i++) {
        scene_ask("", "");
        accept_as(scene.token, false, 7, names(grants[i][0], grants[i][1]));
        assert_false(uplink_is_up(&rig.stream->uplink));
        scene_expect("");
    }
}

static void test_refused(void **state) {
    static const struct {
        uint16_t status;
        const char *line;
    } cases[] = {{403, "403 Forbidden\r\n"},
                 {501, "501 Not Implemented\r\n"},
                 {503, "503 Service Unavailable\r\n"}};
    for (size_t i = 0; i < length_of(cases); i++) {
        scene_ask("5", "text/event-stream");
        refuse(scene.token, cases[i].status);
        visit_expect_answer(&scene.visit, cases[i].line, "Content-Type: application/json\r\n",
                            "{\"error\":\"it \\\"may\\\" not\"}");
        broker_expect_silence(); /* it has forgotten it already */
    }
}

/* HEAD: what would be refused as a stream is refused, what would not is told where it would begin.
 */
static void test_head(void **state) {
    static const struct {
        uint16_t refusal;
        const char *line;
        const char *header;
    } cases[] = {{0, "200 OK\r\n", "\r\nPgsse-Position: 7\r\n"},
                 {403, "403 Forbidden\r\n", "\r\nContent-Type: application/json\r\n"},
                 {501, "501 Not Implemented\r\n", "\r\nContent-Type: application/json\r\n"}};
    handler_begin();
    for (size_t i = 0; i < length_of(cases); i++) {
        struct visit visit = VISIT("HEAD", STREAM, QUERY, "HTTP_LAST_EVENT_ID", "5");
        struct wire_subscribe asked = hear_subscribe();
        assert_int_equal(asked.position_kind, POSITION_NONE);
        if (cases[i].refusal == 0) {
            accept_as(asked.token, false, 7, names("a", NULL));
            hear_unsubscribe(asked.token, "a", NULL);
        } else {
            refuse(asked.token, cases[i].refusal);
        }
        visit_expect_answer(&visit, cases[i].line, cases[i].header, "");
        broker_expect_silence();
        visit_end(&visit);
    }
}

static void test_head_without_answer(void **state) {
    handler_begin();
    struct visit visit = VISIT("HEAD", STREAM, QUERY, "HTTP_ACCEPT", "text/event-stream");
    uint64_t token = hear_subscribe().token;
    loop_timer_start(rig.loop, &visit.subscriber->client.timer, 0,
                     visit.subscriber->client.timer.on_due);
    visit_expect_answer(&visit, "503", "\r\nRetry-After: ", "");
    hear_unsubscribe(token, "a", "b");
    visit_end(&visit);
}

/* No 200 before the broker has said so; then it is given up, each as it can understand it. */
static void test_no_answer(void **state) {
    for (int accepts = 0; accepts < 2; accepts++) {
        scene_ask("5", accepts ? "text/event-stream" : "*/*");
        struct loop_timer *timer = &scene.visit.subscriber->client.timer;
        assert_true(timer->due_ms - loop_now_ms(rig.loop) > 1500);
        loop_timer_start(rig.loop, timer, 0, timer->on_due);
        if (accepts) {
            visit_expect_begun(&scene.visit,
                               ": the broker does not answer\nevent: close\ndata: {}\n\n");
            assert_true(scene.visit.is_over);
        } else {
            visit_expect_answer(&scene.visit, "503",
                                "\r\nRetry-After: ", "{\"error\":\"the broker does not answer\"}");
        }
        hear_unsubscribe(scene.token, "a", "b");
    }
}

/* --- live ---------------------------------------------------------------------------------------
 */

/* One topic, both forms: each gets its own events, ids and refreshes. */
static void test_forms_side_by_side(void **state) {
    scene_live();
    struct visit topic = VISIT("GET", "/topics/a/events", "");
    struct wire_subscribe asked;
    assert_true(wire_decode_subscribe(broker_hear(WIRE_SUBSCRIBE), &asked));
    assert_int_equal(asked.form, WIRE_FORM_TOPICS);
    assert_int_equal(asked.user.length, 0);
    accept_as(asked.token, false, 7, names("a", NULL));
    go_live(asked.token, 7);
    visit_expect_begun(&topic, ": listening a\n" POSITION("7.abcdefghijklm.3"));
    struct wire_event own = event_of("a", 8);
    own.publisher_id = slice_of("own");
    broker_say(wire_encode_event(&own));
    struct wire_event ephemeral = event_of("a", 8);
    ephemeral.is_durable = false;
    ephemeral.position.since = 4;
    broker_say(wire_encode_event(&ephemeral));
    send_refresh(0, false, 8);
    send_refresh(0, true, 9);
    scene_expect("id: 8~own\nevent: e\ndata: 1\n\nid: 9\nevent: refresh\ndata: {\"reason\":"
                 "\"unknown_position\",\"dropped\":null,\"topics\":[\"a\",\"b\"]}\n\n");
    visit_expect(&topic, "id: 8.abcdefghijklm.3~own\nevent: e\ndata: 1\n\n" FRAME(
                             "8.abcdefghijklm.4") "id: 8.abcdefghijklm.3\nevent: refresh\ndata: "
                                                  "{\"reason\":\"unknown_position\",\"dropped\":"
                                                  "null,\"topics\":[\"a\"]}\n\n"
                                                  "id: 9.abcdefghijklm.3\nevent: refresh\ndata: "
                                                  "{\"reason\":\"unknown_position\",\"dropped\":"
                                                  "null,\"topics\":[\"a\"]}\n\n");
    recheck(""); /* of no concern to the topics API */
    hear_unsubscribe(scene.token, "a", "b");
    (void)hear_subscribe_from(9, "a", "b");
    broker_expect_silence();
    visit_end(&topic);
    struct wire_unsubscribe gone;
    assert_true(wire_decode_unsubscribe(broker_hear(WIRE_UNSUBSCRIBE), &gone));
    assert_int_equal(gone.form, WIRE_FORM_TOPICS);
}

/* --- the broker goes ----------------------------------------------------------------------------
 */

/* Their user is looked up again before they get anything more. */
static void test_live_ones_ask_again(void **state) {
    struct wire_resume resume;
    struct wire_resume_entry entry;
    scene_live();
    broker_go();
    broker_come();
    assert_true(wire_decode_resume(broker_hear(WIRE_RESUME), &resume));
    assert_false(wire_next_resume_entry(&resume, &entry));
    assert_int_equal(resume.position.durable, 7);
    uint64_t token = hear_subscribe_from(7, "a", "b");
    send_event("a", 8);
    accept_as(token, true, 9, names("a", NULL));
    send_replay(token, "a", 8);
    go_live(token, 8);
    scene_expect(FRAME("8"));
}

/* In the middle of a replay. */
static void test_others_ask_again(void **state) {
    struct wire_resume resume;
    scene_greet(true);
    send_replay(scene.token, "a", 6);
    broker_go();
    scene_expect(FRAME("6"));
    broker_come();
    assert_true(wire_decode_resume(broker_hear(WIRE_RESUME), &resume));
    uint64_t token = hear_subscribe_from(6, "a", "b");
    accept_as(token, true, 9, names("a", NULL)); /* less than before */
    send_replay(token, "b", 7);
    send_replay(token, "a", 8);
    go_live(token, 9);
    scene_expect(FRAME("8"));
}

/* --- what it may have has changed ---------------------------------------------------------------
 */

static void test_recheck_while_asking(void **state) {
    scene_ask("5", "");
    recheck("1");
    hear_unsubscribe(scene.token, "a", "b");
    uint64_t token = hear_subscribe_from(5, "a", "b");
    assert_true(token > scene.token);
    accept_as(scene.token, false, 7, names("a", "b")); /* from before */
    scene_expect("");
    accept_as(token, false, 7, names("a", NULL));
    visit_expect_begun(&scene.visit, ": connected\n");
}

static void test_recheck_in_a_replay(void **state) {
    scene_greet(true);
    send_replay(scene.token, "a", 6);
    scene_expect(FRAME("6"));
    recheck("");
    hear_unsubscribe(scene.token, "a", "b");
    uint64_t token = hear_subscribe_from(6, "a", "b");
    send_replay(scene.token, "b", 7); /* on its way since before */
    go_live(scene.token, 7);
    scene_expect("");
    recheck("1"); /* once more, before the answer */
    hear_unsubscribe(token, "a", "b");
    token = hear_subscribe_from(6, "a", "b");
    accept_as(token, true, 8, names("b", NULL));
    send_replay(token, "b", 7);
    go_live(token, 8);
    scene_expect(FRAME("7"));
}

static void test_recheck_of_a_live_one(void **state) {
    scene_live();
    send_event("a", 8);
    tell_position(20);
    recheck("2");
    recheck("11");
    broker_expect_silence();
    recheck("1");
    hear_unsubscribe(0, "a", "b");
    uint64_t token = hear_subscribe_from(20, "a", "b");
    send_event("a", 21); /* for others: it is not live */
    scene_expect(FRAME("8"));
    scene_heartbeat(HEARTBEAT);
    accept_as(token, true, 22, names("a", NULL));
    send_replay(token, "a", 21);
    go_live(token, 22);
    scene_expect(FRAME("21"));
    recheck("1"); /* with what it has now */
    hear_unsubscribe(0, "a", NULL);
    (void)hear_subscribe_from(22, "a", NULL);
}

/* Between the event's coming and its way out. */
static void test_recheck_with_an_event_in_the_feed(void **state) {
    struct wire_event event = event_of("a", 8);
    struct payload *frames[] = {
        wire_encode_event(&event),
        wire_encode_recheck(&(struct wire_recheck){LITERAL(""), LITERAL("1")})};
    struct buf both = {0};
    scene_live();
    for (size_t i = 0; i < length_of(frames); i++) {
        buf_append(&both, frames[i]->bytes, frames[i]->length);
        payload_unref(&frames[i]);
    }
    send_all(rig.broker, buf_slice(&both));
    buf_release(&both);
    hear_unsubscribe(0, "a", "b");
    uint64_t token = hear_subscribe_from(7, "a", "b"); /* it is not out: it comes again */
    accept_as(token, true, 8, names("b", NULL));
    go_live(token, 8);
    scene_expect("");
}

/* Nothing is left to it: it stays, and what it says is where it stands. */
static void test_quiet(void **state) {
    scene_live();
    recheck("1");
    hear_unsubscribe(0, "a", "b");
    refuse(hear_subscribe_from(7, "a", "b"), 403);
    assert_int_equal(scene.visit.subscriber->state, SUBSCRIBER_QUIET);
    send_event("a", 8);
    tell_position(30);
    scene_heartbeat(HEARTBEAT);
    broker_expect_silence();
    recheck("1"); /* perhaps it has some again */
    uint64_t token = hear_subscribe_from(7, "a", "b");
    refuse(token, 403);
    broker_go();
    broker_come();
    (void)broker_hear(WIRE_RESUME);
    token = hear_subscribe_from(7, "a", "b");
    accept_as(token, false, 31, names("a", "b"));
    go_live(token, 31);
    send_event("b", 32);
    scene_expect(FRAME("32"));
    recheck("1");
    hear_unsubscribe(0, "a", "b");
    refuse(hear_subscribe_from(32, "a", "b"), 403);
    visit_end(&scene.visit);
    broker_expect_silence(); /* nothing to unsubscribe */
}

/* Everything but "you may not" ends it in order. */
static void test_refused_when_open(void **state) {
    static const uint16_t statuses[] = {501, 503};
    for (size_t i = 0; i < length_of(statuses); i++) {
        scene_live();
        recheck("1");
        hear_unsubscribe(0, "a", "b");
        refuse(hear_subscribe_from(7, "a", "b"), statuses[i]);
        scene_expect("event: close\ndata: {}\n\n");
        assert_true(scene.visit.is_over);
        broker_expect_silence();
    }
}

/* It was promised a refresh and asked again before that came: nobody knows what it missed since it
 * was greeted. */
static void test_recheck_before_the_promised_refresh(void **state) {
    for (int follows = 0; follows < 2; follows++) {
        for (int was_refused = 0; was_refused < 2; was_refused++) {
            scene_ask("", "");
            accept_as(scene.token, true, 7, names("a", "b"));
            recheck("1");
            hear_unsubscribe(scene.token, "a", "b");
            uint64_t token = hear_subscribe().token;
            if (was_refused) {
                refuse(token, 403);
                recheck("1");
                token = hear_subscribe().token;
            }
            accept_as(token, follows, 9, names("a", "b"));
            if (follows) {
                send_refresh(token, true, 9);
            }
            go_live(token, 9);
            struct buf wanted = {0};
            buf_printf(&wanted,
                       ": connected\nid: 9\nevent: refresh\ndata: {\"reason\":\"%s\",\"dropped\":"
                       "null,\"topics\":[\"a\",\"b\"]}\n\n",
                       follows ? "unknown_position" : "gap");
            buf_append(&wanted, "", 1);
            visit_expect_begun(&scene.visit, wanted.bytes);
            buf_release(&wanted);
        }
    }
}

/* An ending, or a question, is none of its concern. */
static void test_recheck_of_others(void **state) {
    scene_live();
    int min = 1;
    char *filler = repeated('x', 50000);
    struct wire_event event = event_of("a", 8);
    assert_int_equal(
        setsockopt(scene.visit.subscriber->client.fd, SOL_SOCKET, SO_SNDBUF, &min, sizeof min), 0);
    event.body = slice_of(filler);
    broker_say(wire_encode_event(&event));
    free(filler);
    assert_true(scene.visit.subscriber->client.is_blocked);
    client_end(scene.visit.client, 5);
    hear_unsubscribe(0, "a", "b");
    struct visit head = VISIT("HEAD", "/topics/a/events", "");
    (void)broker_hear(WIRE_ASK_POSITION);
    recheck("");
    assert_int_equal(scene.visit.subscriber->client.state, CLIENT_ENDING);
    assert_int_equal(head.client->state, CLIENT_OPEN);
    broker_expect_silence();
    visit_end(&head);
}

/* --- too slow -----------------------------------------------------------------------------------
 */

enum { LIMIT = 20000, TABLE = 3000 };

/* A broker with a table: event i has the id 2 * i + 2, since other topics have some, too. */
static struct table {
    uint32_t sizes[TABLE];
    uint64_t count;
    uint64_t next_to_replay; /* while it replays */
    int64_t credit_bytes;
    bool is_replaying;
    uint64_t subscriptions;
} table;

static uint64_t id_of(uint64_t i) {
    return 2 * i + 2;
}

static struct payload *encode_row(uint64_t i, uint64_t token) {
    char *filler = repeated('x', table.sizes[i]);
    struct buf body = {0};
    buf_printf(&body, "event: e\ndata: %llu %s\n\n", (unsigned long long)i, filler);
    struct wire_replay replay = {token, event_of(i % 3 == 0 ? "a" : "b", id_of(i))};
    replay.event.body = buf_slice(&body);
    struct payload *frame =
        token == 0 ? wire_encode_event(&replay.event) : wire_encode_replay(&replay);
    buf_release(&body);
    free(filler);
    return frame;
}

static void send_quickly(struct payload *frame) {
    send_all(rig.broker, (struct slice){frame->bytes, frame->length});
    payload_unref(&frame);
}

static void table_replay(void) {
    while (table.is_replaying && table.next_to_replay < table.count && table.credit_bytes > 0) {
        struct payload *frame = encode_row(table.next_to_replay++, scene.token);
        table.credit_bytes -= (int64_t)wire_body(frame).length;
        send_quickly(frame);
    }
    if (table.is_replaying && table.next_to_replay == table.count) {
        struct wire_position message = {scene.token, place(2 * table.count + 1)};
        send_quickly(wire_encode_position(WIRE_SUBSCRIBED, &message));
        table.is_replaying = false;
    }
}

/* What the handler wants, as the broker would have it. */
static void table_hear(void) {
    struct wire_frame frame = {0};
    while (broker_hears(&frame)) {
        struct wire_subscribe subscribe;
        struct wire_credit credit;
        if (frame.type == WIRE_SUBSCRIBE) {
            assert_true(wire_decode_subscribe(frame.body, &subscribe));
            assert_int_equal(subscribe.position_kind, POSITION_KNOWN);
            scene.token = subscribe.token;
            table.next_to_replay = subscribe.position.durable / 2;
            table.credit_bytes = WIRE_CREDIT_BYTES;
            table.is_replaying = true;
            table.subscriptions++;
            struct wire_accepted message = {subscribe.token, true, place(2 * table.count + 1),
                                            names("a", "b")};
            send_quickly(wire_encode_accepted(&message));
        } else if (frame.type == WIRE_CREDIT) {
            assert_true(wire_decode_credit(frame.body, &credit));
            table.credit_bytes += credit.token == scene.token ? credit.bytes : 0;
        } else {
            assert_int_equal(frame.type, WIRE_UNSUBSCRIBE);
        }
        table_replay();
    }
}

static void table_publish(uint32_t size) {
    table.sizes[table.count] = size;
    send_quickly(encode_row(table.count++, 0));
    table_replay();
}

/* Each row once, in order; ids never stand in front of what was not sent; no refresh. */
static uint64_t judge(struct slice content) {
    uint64_t next = 0;
    uint64_t last_id = 0;
    while (content.length > 0) {
        const char *end = memmem(content.at, content.length, "\n\n", 2);
        assert_non_null(end);
        struct slice block = {content.at, (size_t)(end - content.at) + 2};
        const char *id = memmem(block.at, block.length, "id: ", 4);
        const char *data = memmem(block.at, block.length, "data: ", 6);
        assert_null(memmem(block.at, block.length, "refresh", 7));
        assert_true((id == NULL) == (data == NULL)); /* never an id without data */
        if (data != NULL) {
            uint64_t number = strtoull(id + 4, NULL, 10);
            assert_true(number >= last_id);
            last_id = number;
            assert_int_equal(strtoull(data + 6, NULL, 10), next);
            assert_int_equal(number, id_of(next));
            next++;
        }
        content = (struct slice){end + 2, content.length - block.length};
    }
    return next;
}

static void table_begin(enum config_slow_client mode) {
    int min = 1;
    handler_begin();
    rig.config.client_queue_bytes = LIMIT;
    rig.config.slow_client = mode;
    scene_visit(VISIT("GET", STREAM, QUERY, "HTTP_LAST_EVENT_ID", "1"));
    assert_int_equal(
        setsockopt(scene.visit.subscriber->client.fd, SOL_SOCKET, SO_SNDBUF, &min, sizeof min), 0);
    table = (struct table){0};
    table_hear();
    visit_expect_begun(&scene.visit, ": connected\n");
    assert_int_equal(scene.visit.subscriber->state, SUBSCRIBER_LIVE);
}

static void table_read_all(void) {
    struct visit *visit = &scene.visit;
    size_t before;
    do {
        before = visit->content.length + visit->got.length;
        visit_read(visit);
        table_hear();
    } while (visit->content.length + visit->got.length != before || table.is_replaying);
}

static uint64_t dropped(void) {
    struct fan_topic *topic;
    uint64_t sum = 0;
    for (topic = rig.stream->subscribers.fanout.topics; topic != NULL; topic = topic->hh.next) {
        sum += topic->tally.dropped_events + topic->tally.dropped_clients;
    }
    return sum;
}

/* Sizes, reads, turns, heartbeats and rechecks by chance: each event once, whatever overflows. */
static void test_overflow_by_chance(void **state) {
    uint64_t subscriptions = 0;
    for (uint32_t seed = 1; seed <= 25; seed++) {
        uint32_t random = seed;
        table_begin(CONFIG_SLOW_REFRESH);
        for (int step = 0; step < 800; step++) {
            uint32_t what = next_random(&random) % 100;
            if (what < 50) {
                table_publish(next_random(&random) % (what < 5 ? 30000 : 3000));
            } else if (what < 70) {
                run_turns(rig.loop, 1);
                table_hear();
            } else if (what < 74) {
                struct subscriber *subscriber = scene.visit.subscriber;
                subscriber->client.written_ms = loop_now_ms(rig.loop) - rig.config.keep_alive;
                loop_timer_start(rig.loop, &subscriber->client.timer, 0,
                                 subscriber->client.timer.on_due);
            } else if (what < 76) {
                send_quickly(
                    wire_encode_recheck(&(struct wire_recheck){LITERAL(""), LITERAL("1")}));
            } else {
                assert_true(drain(scene.visit.fd, &scene.visit.got,
                                  1 + next_random(&random) % (what < 80 ? 20000 : 1500)));
            }
        }
        table_read_all();
        assert_int_equal(judge(buf_slice(&scene.visit.content)), table.count);
        assert_int_equal(dropped(), 0);
        subscriptions += table.subscriptions;
    }
    assert_true(subscriptions > 100); /* the test tests something */
}

static void test_overflow(void **state) {
    table_begin(CONFIG_SLOW_REFRESH);
    struct subscriber *subscriber = scene.visit.subscriber;
    for (int i = 0; i < 100; i++) {
        table_publish(3000);
        table_hear();
    }
    assert_int_equal(subscriber->state, SUBSCRIBER_ASKING_AGAIN);
    assert_true(table.subscriptions <= 2); /* not again before it has drained */
    uint64_t subscriptions = table.subscriptions;
    assert_true(queued_bytes(&subscriber->client.seat.output) <= LIMIT + WIRE_CREDIT_BYTES);
    assert_int_equal(subscriber->audience->live_count, 0);
    table_read_all();
    assert_int_equal(subscriber->state, SUBSCRIBER_LIVE);
    assert_true(table.subscriptions > subscriptions);
    assert_int_equal(judge(buf_slice(&scene.visit.content)), 100);
    assert_int_equal(dropped(), 0);
}

/* What comes out of the records. */
static void take_content(struct slice records, struct buf *content) {
    while (records.length > 0) {
        assert_true(records.length >= RECORD_HEADER_BYTES && records.at[1] == 6);
        size_t length = (size_t)(unsigned char)records.at[4] << 8 | (unsigned char)records.at[5];
        assert_true(records.length >= RECORD_HEADER_BYTES + length);
        buf_append(content, records.at + RECORD_HEADER_BYTES, length);
        records = (struct slice){records.at + RECORD_HEADER_BYTES + length,
                                 records.length - RECORD_HEADER_BYTES - length};
    }
}

enum { CUT_FRAMES = 4 };

/* A live client has got `bytes` of these frames, which do not fit into one record, when it leaves
 * its feed. Returns how many bytes there were to get. */
static size_t cut_at(struct subscriber *subscriber, size_t bytes, char *filler) {
    static const size_t sizes[CUT_FRAMES] = {3000, 2500, 15000, 20};
    static const uint64_t places[] = {9, 19, 29, 39, 45}; /* before each, and behind all */
    struct buf frames[CUT_FRAMES] = {0};
    struct buf wanted = {0};
    struct buf content = {0};
    fake_begin(bytes);
    sse_comment(subscriber_own(subscriber), "own\n");
    buf_append_text(&wanted, ": own\n\n");
    for (uint64_t i = 0; i < CUT_FRAMES; i++) {
        struct wire_event event = event_of(i % 2 == 0 ? "a" : "b", 10 * (i + 1));
        event.body = (struct slice){filler, sizes[i]};
        buf_printf(&frames[i], "id: %u\n%.*s", 10 * (unsigned)(i + 1), (int)sizes[i], filler);
        struct position before = place(places[i]);
        fanout_publish(&rig.stream->subscribers.fanout, &event, &before);
    }
    rig.stream->subscribers.position = place(places[CUT_FRAMES]);
    size_t total = queued_bytes(&subscriber->client.seat.output);
    assert_int_not_equal(output_write(&subscriber->client.seat.output, FAKE_FD), OUTPUT_BROKEN);
    subscriber_renew(subscriber);
    fake.allowance = SIZE_MAX;
    assert_int_equal(output_write(&subscriber->client.seat.output, FAKE_FD), OUTPUT_DRAINED);
    take_content(buf_slice(&fake.out), &content);
    size_t kept = 0;
    for (size_t i = 0; i < CUT_FRAMES && wanted.length < content.length; i++, kept++) {
        buf_append_slice(&wanted, buf_slice(&frames[i]));
    }
    if (!slice_equals(buf_slice(&content), buf_slice(&wanted))) {
        fail_msg("cut at %zu: %zu bytes, %zu wanted", bytes, content.length, wanted.length);
    }
    assert_int_equal(subscriber->question->position.durable, places[kept]);
    assert_int_equal(subscriber->question->position_kind, POSITION_KNOWN);
    assert_true(bytes > 0 || kept == 0);
    assert_true(bytes < total + 500 || kept == CUT_FRAMES); /* with the records' headers */
    assert_true(content.length + 3 * RECORD_HEADER_BYTES >= bytes || kept == CUT_FRAMES);
    for (size_t i = 0; i < CUT_FRAMES; i++) {
        buf_release(&frames[i]);
    }
    buf_release(&wanted);
    buf_release(&content);
    return total;
}

/* It leaves its feed at every byte that it can have got: what was begun is whole, nothing else is
 * there, and what it asks for begins right behind. */
static void test_cut_at_every_byte(void **state) {
    char *filler = repeated('x', 15000);
    scene_live();
    struct subscriber *subscriber = scene.visit.subscriber;
    size_t total = 1;
    for (size_t bytes = 0; bytes < total + 600; bytes++) {
        total = cut_at(subscriber, bytes, filler);
        struct wire_accepted accepted = {0, true, place(50), names("a", "b")};
        rig.stream->subscribers.position = place(50);
        assert_true(subscribe_on_accepted(subscriber, &accepted));
        subscribe_on_subscribed(subscriber);
        assert_int_equal(subscriber->state, SUBSCRIBER_LIVE);
        fake_begin(SIZE_MAX);
        assert_int_equal(output_write(&subscriber->client.seat.output, FAKE_FD), OUTPUT_DRAINED);
        if (bytes % 100 == 0) {
            buf_release(&rig.input);
            handler_turns(); /* what the broker was told goes out */
            (void)(drain_all(rig.broker, &rig.input) == true);
        }
    }
    fake_begin(0);
    free(filler);
}

/* Opened without an id, live, and nothing was sent yet. */
static void scene_live_without_id(void) {
    scene_ask("", "");
    accept_as(scene.token, false, 7, names("a", "b"));
    go_live(scene.token, 7);
    visit_expect_begun(&scene.visit, ": connected\n");
}

/* It has the ids of its feed, also while it subscribes again and after that: it is told no other.
 */
static void test_no_position_after_an_event_of_the_feed(void **state) {
    scene_live_without_id();
    send_event("a", 8);
    scene_expect(FRAME("8"));
    recheck("1");
    hear_unsubscribe(0, "a", "b");
    uint64_t token = hear_subscribe_from(8, "a", "b");
    assert_int_equal(scene.visit.subscriber->state, SUBSCRIBER_ASKING_AGAIN);
    scene_age(2000);
    scene_expect("");
    int64_t id_ms = scene.visit.subscriber->id_ms;
    accept_as(token, false, 8, names("a", "b"));
    go_live(token, 8);
    assert_int_equal(scene.visit.subscriber->id_ms, id_ms); /* as old as its last id */
    scene_age(2000);
    scene_expect("");
}

/* One that has got none is told where it stands, whether it is live or subscribes again. */
static void test_position_while_it_subscribes_again(void **state) {
    scene_live_without_id();
    recheck("1");
    hear_unsubscribe(0, "a", "b");
    uint64_t token = hear_subscribe_from(7, "a", "b");
    scene_age(1900);
    scene_expect("");
    scene_age(2000);
    scene_expect(POSITION("7"));
    accept_as(token, false, 7, names("a", "b"));
    go_live(token, 7);
    scene_age(2000); /* once */
    scene_expect("");
}

/* So many bytes of ": own" and of an event of its feed have gone when it is blocked and subscribes
 * again. Returns whether the event is begun; it is lost where it is not. */
static bool block_and_renew(size_t bytes) {
    struct subscriber *subscriber = scene.visit.subscriber;
    struct client *client = &subscriber->client;
    int fd = client->fd;
    struct wire_event event = event_of("a", 8);
    struct position before = place(7);
    struct buf content = {0};
    fake_begin(bytes);
    sse_comment(subscriber_own(subscriber), "own\n");
    fanout_publish(&rig.stream->subscribers.fanout, &event, &before);
    client->fd = FAKE_FD;
    client_flush(client);
    client->fd = fd;
    rig.stream->subscribers.position = place(8);
    subscriber_renew(subscriber);
    fake.allowance = SIZE_MAX;
    assert_int_equal(output_write(&client->seat.output, FAKE_FD), OUTPUT_DRAINED);
    take_content(buf_slice(&fake.out), &content);
    bool is_begun = content.length > strlen(": own\n\n");
    expect_buf(&content, is_begun ? ": own\n\n" FRAME("8") : ": own\n\n");
    return is_begun;
}

/* Blocked at every byte: an event that was begun has been told as its id, one that was not comes
 * again, and the client stands before it. */
static void test_position_of_a_blocked_one(void **state) {
    bool was_begun = false;
    for (size_t bytes = 0; bytes < 60; bytes++) {
        scene_live_without_id();
        bool is_begun = block_and_renew(bytes);
        assert_true(is_begun || !was_begun);
        was_begun = is_begun;
        scene.visit.client->is_blocked = false;
        scene_age(2000);
        scene_expect(is_begun ? "" : POSITION("7"));
    }
    assert_true(was_begun);
    fake_begin(0);
}

/* With the other mode it ends, and comes back with what it has. */
static void test_disconnect(void **state) {
    table_begin(CONFIG_SLOW_DISCONNECT);
    for (int i = 0; i < 100; i++) {
        table_publish(3000);
        handler_turns();
    }
    assert_int_equal(scene.visit.subscriber->client.state, CLIENT_ENDING);
    hear_unsubscribe(0, "a", "b");
    for (int i = 0; i < 50 && !scene.visit.is_over; i++) {
        visit_read(&scene.visit);
    }
    assert_true(scene.visit.is_over);
    uint64_t events = judge(buf_slice(&scene.visit.content));
    assert_true(events > 0 && events < 100);
}

RUN_TESTS(TEST(test_what_is_asked), TEST(test_ids_of_a_replay), TEST(test_id_behind_a_replay),
          TEST(test_unknown_position), TEST(test_position_of_a_quiet_stream),
          TEST(test_no_position_after_an_event), TEST(test_position_during_a_replay),
          TEST(test_position_that_is_asked_for), TEST(test_from_the_start),
          TEST(test_granted_in_part), TEST(test_granted_wrongly), TEST(test_refused),
          TEST(test_head), TEST(test_head_without_answer), TEST(test_no_answer),
          TEST(test_forms_side_by_side), TEST(test_live_ones_ask_again),
          TEST(test_others_ask_again), TEST(test_recheck_while_asking),
          TEST(test_recheck_in_a_replay), TEST(test_recheck_of_a_live_one),
          TEST(test_recheck_with_an_event_in_the_feed), TEST(test_quiet),
          TEST(test_refused_when_open), TEST(test_recheck_before_the_promised_refresh),
          TEST(test_recheck_of_others), TEST(test_overflow), TEST(test_cut_at_every_byte),
          TEST(test_overflow_by_chance), TEST(test_disconnect),
          TEST(test_no_position_after_an_event_of_the_feed),
          TEST(test_position_while_it_subscribes_again), TEST(test_position_of_a_blocked_one))
