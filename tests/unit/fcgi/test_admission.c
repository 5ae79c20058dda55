/* Connections, the streams of the third door: what they are granted, which ids they see, and how
 * they subscribe again without losing or doubling anything. The test is web server and broker. */
#include "admission.h"
#include "fake_send.h"
#include "handler_rig.h"

#define STREAM "/api/events/stream"
#define QUERY  "userId=1&channels=a,b"

static struct position place(uint64_t durable) {
    return (struct position){durable, "abcdefghijklm", 3};
}

static struct wire_topics names(const char *first, const char *second) {
    struct wire_topics topics = {0};
    const char *all[] = {first, second};
    for (size_t i = 0; i < length_of(all) && all[i] != NULL; i++) {
        topics.names[topics.count++] = slice_of(all[i]);
    }
    return topics;
}

static void expect_topics(const struct wire_topics *topics, const char *first, const char *second) {
    struct wire_topics wanted = names(first, second);
    assert_int_equal(topics->count, wanted.count);
    for (size_t i = 0; i < wanted.count; i++) {
        expect_slice(topics->names[i], wanted.names[i], "topic");
    }
}

/* --- what the broker says -----------------------------------------------------------------------
 */

static void accept_as(struct handler_rig *rig, uint64_t token, bool follows, uint64_t durable,
                      struct wire_topics topics) {
    struct wire_accepted message = {token, follows, place(durable), topics};
    broker_say(rig, wire_encode_accepted(&message));
}

static void refuse(struct handler_rig *rig, uint64_t token, uint16_t status) {
    struct wire_refused message = {token, status, LITERAL("it \"may\" not")};
    broker_say(rig, wire_encode_refused(&message));
}

static uint64_t live_token; /* the last one that went live */

static void go_live(struct handler_rig *rig, uint64_t token, uint64_t durable) {
    struct wire_position message = {token, place(durable)};
    live_token = token;
    broker_say(rig, wire_encode_position(WIRE_SUBSCRIBED, &message));
}

static void tell_position(struct handler_rig *rig, uint64_t durable) {
    struct wire_position message = {0, place(durable)};
    broker_say(rig, wire_encode_position(WIRE_POSITION, &message));
}

static struct wire_event event_of(const char *topic, uint64_t durable) {
    return (struct wire_event){.is_durable = true,
                               .position = place(durable),
                               .topic = slice_of(topic),
                               .body = LITERAL("event: e\ndata: 1\n\n")};
}

static void send_event(struct handler_rig *rig, const char *topic, uint64_t durable) {
    struct wire_event event = event_of(topic, durable);
    broker_say(rig, wire_encode_event(&event));
}

static void send_replay(struct handler_rig *rig, uint64_t token, const char *topic,
                        uint64_t durable) {
    struct wire_replay replay = {token, event_of(topic, durable)};
    broker_say(rig, wire_encode_replay(&replay));
}

static void send_refresh(struct handler_rig *rig, uint64_t token, bool is_durable,
                         uint64_t durable) {
    struct wire_refresh message = {.token = token,
                                   .is_durable = is_durable,
                                   .position = place(durable),
                                   .reason = SSE_REFRESH_UNKNOWN_POSITION,
                                   .dropped = SSE_DROPPED_UNKNOWN};
    broker_say(rig, wire_encode_refresh(&message));
}

static void recheck(struct handler_rig *rig, const char *user) {
    broker_say(rig, wire_encode_recheck(slice_of(user)));
}

#define FRAME(durable) "id: " durable "\nevent: e\ndata: 1\n\n"
#define ID(durable)    "id: " durable "\n\n"

static const char refreshed[] = "id: 9\nevent: refresh\ndata: {\"reason\":\"unknown_position\","
                                "\"dropped\":null,\"topics\":[\"a\",\"b\"]}\n\n";

/* --- what it hears ------------------------------------------------------------------------------
 */

static struct wire_subscribe hear_subscribe(struct handler_rig *rig) {
    struct wire_subscribe message;
    assert_true(wire_decode_subscribe(broker_hear(rig, WIRE_SUBSCRIBE), &message));
    assert_int_equal(message.form, WIRE_FORM_CONNECTIONS);
    assert_true(slice_is(message.user, "1"));
    assert_true(message.position.marker[0] == '\0' && message.position.since == 0);
    return message;
}

/* From that place; returns the token. */
static uint64_t hear_subscribe_from(struct handler_rig *rig, uint64_t durable, const char *first,
                                    const char *second) {
    struct wire_subscribe message = hear_subscribe(rig);
    assert_int_equal(message.position_kind, POSITION_KNOWN);
    assert_int_equal(message.position.durable, durable);
    expect_topics(&message.topics, first, second);
    return message.token;
}

/* token 0: of a live one, which keeps the one that it was admitted with. */
static void hear_unsubscribe(struct handler_rig *rig, uint64_t token, const char *first,
                             const char *second) {
    struct wire_unsubscribe message;
    assert_true(wire_decode_unsubscribe(broker_hear(rig, WIRE_UNSUBSCRIBE), &message));
    assert_int_equal(message.token, token == 0 ? live_token : token);
    assert_int_equal(message.form, WIRE_FORM_CONNECTIONS);
    expect_topics(&message.topics, first, second);
}

/* --- scenes -------------------------------------------------------------------------------------
 */

struct scene {
    struct handler_rig rig;
    struct visit visit;
    uint64_t token; /* of its subscription */
};

static void scene_ask(struct scene *scene, const char *last_event_id, const char *accept) {
    handler_begin(&scene->rig);
    scene->visit = VISIT(&scene->rig, "GET", STREAM, QUERY, "HTTP_LAST_EVENT_ID", last_event_id,
                         "HTTP_ACCEPT", accept);
    scene->token = hear_subscribe(&scene->rig).token;
}

static void scene_greet(struct scene *scene, bool follows) {
    scene_ask(scene, "5", "text/event-stream");
    accept_as(&scene->rig, scene->token, follows, 7, names("a", "b"));
    visit_expect_begun(&scene->rig, &scene->visit,
                       follows ? ": connected\n" ID("5") : ": connected\n" ID("7"));
}

static void scene_live(struct scene *scene) {
    scene_greet(scene, false);
    go_live(&scene->rig, scene->token, 7);
    assert_int_equal(scene->visit.client->state, CLIENT_LIVE);
    visit_expect(&scene->rig, &scene->visit, "");
}

static void scene_expect(struct scene *scene, const char *wanted) {
    visit_expect(&scene->rig, &scene->visit, wanted);
}

/* Nothing was said for long. */
static void scene_heartbeat(struct scene *scene, const char *wanted) {
    struct client *client = scene->visit.client;
    client->written_ms = loop_now_ms(scene->rig.loop) - scene->rig.config.keep_alive;
    loop_timer_start(scene->rig.loop, &client->timer, 0, client->timer.on_due);
    scene_expect(scene, wanted);
}

static void scene_end(struct scene *scene) {
    visit_end(&scene->rig, &scene->visit);
    handler_end(&scene->rig);
}

/* --- admission ----------------------------------------------------------------------------------
 */

/* What is handed in as a position, and what the broker is asked for. */
static void test_what_is_asked(void **state) {
    (void)state;
    static const struct {
        const char *last_event_id;
        enum position_kind kind;
        uint64_t durable;
    } cases[] = {{"", POSITION_NONE, 0},       {"5", POSITION_KNOWN, 5},
                 {"0", POSITION_ALL, 0},       {"5.abcdefghijklm.9", POSITION_KNOWN, 5},
                 {"5~own", POSITION_KNOWN, 5}, {"0.abcdefghijklm.9", POSITION_KNOWN, 0},
                 {"x", POSITION_MALFORMED, 0}};
    for (size_t i = 0; i < length_of(cases); i++) {
        struct handler_rig rig;
        handler_begin(&rig);
        struct visit visit =
            VISIT(&rig, "GET", STREAM, "userId=1&channels=b,a", "HTTP_LAST_EVENT_ID",
                  cases[i].last_event_id, "REMOTE_USER", "1");
        struct wire_subscribe message = hear_subscribe(&rig);
        assert_int_equal(message.position_kind, cases[i].kind);
        assert_int_equal(message.position.durable, cases[i].durable);
        expect_topics(&message.topics, "a", "b");
        visit_end(&rig, &visit);
        hear_unsubscribe(&rig, message.token, "a", "b");
        handler_end(&rig);
    }
}

static void test_ids_of_a_replay(void **state) {
    (void)state;
    struct scene scene;
    scene_greet(&scene, true);
    scene_heartbeat(&scene, ": heartbeat\n" ID("5"));
    send_replay(&scene.rig, scene.token, "a", 6);
    scene_expect(&scene, FRAME("6"));
    send_refresh(&scene.rig, scene.token, true, 9);
    scene_expect(&scene, refreshed);
    send_replay(&scene.rig, scene.token, "b", 12);
    tell_position(&scene.rig, 30); /* what others have got */
    scene_expect(&scene, FRAME("12"));
    scene_heartbeat(&scene, ": heartbeat\n" ID("12"));
    go_live(&scene.rig, scene.token, 12);
    scene_expect(&scene, ""); /* it was said */
    tell_position(&scene.rig, 31);
    scene_heartbeat(&scene, ": heartbeat\n" ID("31"));
    scene_end(&scene);
}

static void test_id_behind_a_replay(void **state) {
    (void)state;
    struct scene scene;
    scene_greet(&scene, true);
    send_replay(&scene.rig, scene.token, "a", 6);
    go_live(&scene.rig, scene.token, 9);
    scene_expect(&scene, FRAME("6") ID("9"));
    scene_end(&scene);
}

/* Who hands in what cannot be written as an id gets greeting and refresh as one block. */
static void test_unknown_position(void **state) {
    (void)state;
    static const char *const ids[] = {"x", "0.abcdefghijklm.9"};
    for (size_t i = 0; i < length_of(ids); i++) {
        struct scene scene;
        struct buf wanted = {0};
        scene_ask(&scene, ids[i], "");
        accept_as(&scene.rig, scene.token, true, 9, names("a", "b"));
        send_refresh(&scene.rig, scene.token, true, 9);
        buf_printf(&wanted, ": connected\n%s", refreshed);
        buf_append(&wanted, "", 1);
        visit_expect_begun(&scene.rig, &scene.visit, wanted.bytes);
        buf_release(&wanted);
        scene_end(&scene);
    }
}

/* All that is kept, of which it has got nothing yet. */
static void test_from_the_start(void **state) {
    (void)state;
    struct scene scene;
    scene_ask(&scene, "0", "");
    accept_as(&scene.rig, scene.token, true, 9, names("a", "b"));
    visit_expect_begun(&scene.rig, &scene.visit, ": connected\n" ID("0"));
    broker_go(&scene.rig);
    broker_come(&scene.rig);
    (void)broker_hear(&scene.rig, WIRE_RESUME);
    assert_int_equal(hear_subscribe(&scene.rig).position_kind, POSITION_ALL);
    scene_end(&scene);
}

/* Its audience is the one of what it was granted. */
static void test_granted_in_part(void **state) {
    (void)state;
    struct scene scene;
    scene_ask(&scene, "", "");
    accept_as(&scene.rig, scene.token, false, 7, names("b", NULL));
    go_live(&scene.rig, scene.token, 7);
    visit_expect_begun(&scene.rig, &scene.visit, ": connected\n" ID("7"));
    send_event(&scene.rig, "a", 8);
    send_event(&scene.rig, "b", 9);
    send_refresh(&scene.rig, 0, true, 9);
    scene_expect(&scene, FRAME("9") "id: 9\nevent: refresh\ndata: {\"reason\":\"unknown_position\","
                                    "\"dropped\":null,\"topics\":[\"b\"]}\n\n");
    visit_end(&scene.rig, &scene.visit);
    hear_unsubscribe(&scene.rig, 0, "b", NULL);
    handler_end(&scene.rig);
}

/* What was not asked for, nothing at all, another order, one twice: the broker is not believed. */
static void test_granted_wrongly(void **state) {
    (void)state;
    static const char *const grants[][2] = {{"c", NULL}, {NULL, NULL}, {"b", "a"},
                                            {"a", "a"},  {"a", "c"},   {"aa", NULL}};
    for (size_t i = 0; i < length_of(grants); i++) {
        struct scene scene;
        scene_ask(&scene, "", "");
        accept_as(&scene.rig, scene.token, false, 7, names(grants[i][0], grants[i][1]));
        assert_false(uplink_is_up(&scene.rig.stream->uplink));
        scene_expect(&scene, "");
        scene_end(&scene);
    }
}

static void test_refused(void **state) {
    (void)state;
    static const struct {
        uint16_t status;
        const char *line;
    } cases[] = {{403, "403 Forbidden\r\n"},
                 {501, "501 Not Implemented\r\n"},
                 {503, "503 Service Unavailable\r\n"}};
    for (size_t i = 0; i < length_of(cases); i++) {
        struct scene scene;
        scene_ask(&scene, "5", "text/event-stream");
        refuse(&scene.rig, scene.token, cases[i].status);
        visit_expect_answer(&scene.rig, &scene.visit, cases[i].line,
                            "Content-Type: application/json\r\n",
                            "{\"error\":\"it \\\"may\\\" not\"}");
        broker_expect_silence(&scene.rig); /* it has forgotten it already */
        scene_end(&scene);
    }
}

/* No 200 before the broker has said so; then it is given up, each as it can understand it. */
static void test_no_answer(void **state) {
    (void)state;
    for (int accepts = 0; accepts < 2; accepts++) {
        struct scene scene;
        scene_ask(&scene, "5", accepts ? "text/event-stream" : "*/*");
        struct loop_timer *timer = &scene.visit.client->timer;
        assert_true(timer->due_ms - loop_now_ms(scene.rig.loop) > 1500);
        loop_timer_start(scene.rig.loop, timer, 0, timer->on_due);
        if (accepts) {
            visit_expect_begun(&scene.rig, &scene.visit,
                               ": the broker does not answer\nid: 5\nevent: close\ndata: {}\n\n");
            assert_true(scene.visit.is_over);
        } else {
            visit_expect_answer(&scene.rig, &scene.visit, "503",
                                "\r\nRetry-After: ", "{\"error\":\"the broker does not answer\"}");
        }
        hear_unsubscribe(&scene.rig, scene.token, "a", "b");
        scene_end(&scene);
    }
}

/* --- live ---------------------------------------------------------------------------------------
 */

/* One topic, both forms: each gets its own events, ids and refreshes. */
static void test_forms_side_by_side(void **state) {
    (void)state;
    struct scene scene;
    struct handler_rig *rig = &scene.rig;
    scene_live(&scene);
    struct visit topic = VISIT(rig, "GET", "/topics/a/events", "");
    struct wire_subscribe asked;
    assert_true(wire_decode_subscribe(broker_hear(rig, WIRE_SUBSCRIBE), &asked));
    assert_int_equal(asked.form, WIRE_FORM_TOPICS);
    assert_int_equal(asked.user.length, 0);
    accept_as(rig, asked.token, false, 7, names("a", NULL));
    go_live(rig, asked.token, 7);
    visit_expect_begun(rig, &topic, ": listening a\n" ID("7.abcdefghijklm.3"));
    struct wire_event own = event_of("a", 8);
    own.publisher_id = slice_of("own");
    broker_say(rig, wire_encode_event(&own));
    struct wire_event ephemeral = event_of("a", 8);
    ephemeral.is_durable = false;
    ephemeral.position.since = 4;
    broker_say(rig, wire_encode_event(&ephemeral));
    send_refresh(rig, 0, false, 8);
    send_refresh(rig, 0, true, 9);
    scene_expect(&scene, "id: 8~own\nevent: e\ndata: 1\n\nid: 9\nevent: refresh\ndata: {\"reason\":"
                         "\"unknown_position\",\"dropped\":null,\"topics\":[\"a\",\"b\"]}\n\n");
    visit_expect(rig, &topic,
                 "id: 8.abcdefghijklm.3~own\nevent: e\ndata: 1\n\n" FRAME(
                     "8.abcdefghijklm.4") "id: 8.abcdefghijklm.3\nevent: refresh\ndata: "
                                          "{\"reason\":\"unknown_position\",\"dropped\":"
                                          "null,\"topics\":[\"a\"]}\n\n"
                                          "id: 9.abcdefghijklm.3\nevent: refresh\ndata: "
                                          "{\"reason\":\"unknown_position\",\"dropped\":"
                                          "null,\"topics\":[\"a\"]}\n\n");
    recheck(rig, ""); /* of no concern to the first door */
    hear_unsubscribe(rig, scene.token, "a", "b");
    (void)hear_subscribe_from(rig, 9, "a", "b");
    broker_expect_silence(rig);
    visit_end(rig, &topic);
    struct wire_unsubscribe gone;
    assert_true(wire_decode_unsubscribe(broker_hear(rig, WIRE_UNSUBSCRIBE), &gone));
    assert_int_equal(gone.form, WIRE_FORM_TOPICS);
    scene_end(&scene);
}

/* --- the broker goes ----------------------------------------------------------------------------
 */

/* Their user is looked up again before they get anything more. */
static void test_live_ones_ask_again(void **state) {
    (void)state;
    struct scene scene;
    struct wire_resume resume;
    struct wire_resume_entry entry;
    scene_live(&scene);
    broker_go(&scene.rig);
    broker_come(&scene.rig);
    assert_true(wire_decode_resume(broker_hear(&scene.rig, WIRE_RESUME), &resume));
    assert_false(wire_next_resume_entry(&resume, &entry));
    assert_int_equal(resume.position.durable, 7);
    uint64_t token = hear_subscribe_from(&scene.rig, 7, "a", "b");
    send_event(&scene.rig, "a", 8);
    accept_as(&scene.rig, token, true, 9, names("a", NULL));
    send_replay(&scene.rig, token, "a", 8);
    go_live(&scene.rig, token, 8);
    scene_expect(&scene, FRAME("8"));
    scene_end(&scene);
}

/* In the middle of a replay. */
static void test_others_ask_again(void **state) {
    (void)state;
    struct scene scene;
    struct wire_resume resume;
    scene_greet(&scene, true);
    send_replay(&scene.rig, scene.token, "a", 6);
    broker_go(&scene.rig);
    scene_expect(&scene, FRAME("6"));
    broker_come(&scene.rig);
    assert_true(wire_decode_resume(broker_hear(&scene.rig, WIRE_RESUME), &resume));
    uint64_t token = hear_subscribe_from(&scene.rig, 6, "a", "b");
    accept_as(&scene.rig, token, true, 9, names("a", NULL)); /* less than before */
    send_replay(&scene.rig, token, "b", 7);
    send_replay(&scene.rig, token, "a", 8);
    go_live(&scene.rig, token, 9);
    scene_expect(&scene, FRAME("8") ID("9"));
    scene_end(&scene);
}

/* --- what it may have has changed ---------------------------------------------------------------
 */

static void test_recheck_while_asking(void **state) {
    (void)state;
    struct scene scene;
    scene_ask(&scene, "5", "");
    recheck(&scene.rig, "1");
    hear_unsubscribe(&scene.rig, scene.token, "a", "b");
    uint64_t token = hear_subscribe_from(&scene.rig, 5, "a", "b");
    assert_true(token > scene.token);
    accept_as(&scene.rig, scene.token, false, 7, names("a", "b")); /* from before */
    scene_expect(&scene, "");
    accept_as(&scene.rig, token, false, 7, names("a", NULL));
    visit_expect_begun(&scene.rig, &scene.visit, ": connected\n" ID("7"));
    scene_end(&scene);
}

static void test_recheck_in_a_replay(void **state) {
    (void)state;
    struct scene scene;
    scene_greet(&scene, true);
    send_replay(&scene.rig, scene.token, "a", 6);
    scene_expect(&scene, FRAME("6"));
    recheck(&scene.rig, "");
    hear_unsubscribe(&scene.rig, scene.token, "a", "b");
    uint64_t token = hear_subscribe_from(&scene.rig, 6, "a", "b");
    send_replay(&scene.rig, scene.token, "b", 7); /* on its way since before */
    go_live(&scene.rig, scene.token, 7);
    scene_expect(&scene, "");
    recheck(&scene.rig, "1"); /* once more, before the answer */
    hear_unsubscribe(&scene.rig, token, "a", "b");
    token = hear_subscribe_from(&scene.rig, 6, "a", "b");
    accept_as(&scene.rig, token, true, 8, names("b", NULL));
    send_replay(&scene.rig, token, "b", 7);
    go_live(&scene.rig, token, 8);
    scene_expect(&scene, FRAME("7") ID("8"));
    scene_end(&scene);
}

static void test_recheck_of_a_live_one(void **state) {
    (void)state;
    struct scene scene;
    scene_live(&scene);
    send_event(&scene.rig, "a", 8);
    tell_position(&scene.rig, 20);
    recheck(&scene.rig, "2");
    recheck(&scene.rig, "11");
    broker_expect_silence(&scene.rig);
    recheck(&scene.rig, "1");
    hear_unsubscribe(&scene.rig, 0, "a", "b");
    uint64_t token = hear_subscribe_from(&scene.rig, 20, "a", "b");
    send_event(&scene.rig, "a", 21); /* for others: it is not live */
    scene_expect(&scene, FRAME("8"));
    scene_heartbeat(&scene, ": heartbeat\n" ID("20"));
    accept_as(&scene.rig, token, true, 22, names("a", NULL));
    send_replay(&scene.rig, token, "a", 21);
    go_live(&scene.rig, token, 22);
    scene_expect(&scene, FRAME("21") ID("22"));
    recheck(&scene.rig, "1"); /* with what it has now */
    hear_unsubscribe(&scene.rig, 0, "a", NULL);
    (void)hear_subscribe_from(&scene.rig, 22, "a", NULL);
    scene_end(&scene);
}

/* Between the event's coming and its way out. */
static void test_recheck_with_an_event_in_the_feed(void **state) {
    (void)state;
    struct scene scene;
    struct wire_event event = event_of("a", 8);
    struct payload *frames[] = {wire_encode_event(&event), wire_encode_recheck(slice_of("1"))};
    struct buf both = {0};
    scene_live(&scene);
    for (size_t i = 0; i < length_of(frames); i++) {
        buf_append(&both, frames[i]->bytes, frames[i]->length);
        payload_unref(&frames[i]);
    }
    send_all(scene.rig.broker, buf_slice(&both));
    buf_release(&both);
    hear_unsubscribe(&scene.rig, 0, "a", "b");
    uint64_t token =
        hear_subscribe_from(&scene.rig, 7, "a", "b"); /* it is not out: it comes again */
    accept_as(&scene.rig, token, true, 8, names("b", NULL));
    go_live(&scene.rig, token, 8);
    scene_expect(&scene, ID("8"));
    scene_end(&scene);
}

/* Nothing is left to it: it stays, and what it says is where it stands. */
static void test_quiet(void **state) {
    (void)state;
    struct scene scene;
    scene_live(&scene);
    recheck(&scene.rig, "1");
    hear_unsubscribe(&scene.rig, 0, "a", "b");
    refuse(&scene.rig, hear_subscribe_from(&scene.rig, 7, "a", "b"), 403);
    assert_int_equal(scene.visit.client->state, CLIENT_QUIET);
    send_event(&scene.rig, "a", 8);
    tell_position(&scene.rig, 30);
    scene_heartbeat(&scene, ": heartbeat\n" ID("7"));
    broker_expect_silence(&scene.rig);
    recheck(&scene.rig, "1"); /* perhaps it has some again */
    uint64_t token = hear_subscribe_from(&scene.rig, 7, "a", "b");
    refuse(&scene.rig, token, 403);
    broker_go(&scene.rig);
    broker_come(&scene.rig);
    (void)broker_hear(&scene.rig, WIRE_RESUME);
    token = hear_subscribe_from(&scene.rig, 7, "a", "b");
    accept_as(&scene.rig, token, false, 31, names("a", "b"));
    go_live(&scene.rig, token, 31);
    send_event(&scene.rig, "b", 32);
    scene_expect(&scene, ID("31") FRAME("32"));
    recheck(&scene.rig, "1");
    hear_unsubscribe(&scene.rig, 0, "a", "b");
    refuse(&scene.rig, hear_subscribe_from(&scene.rig, 32, "a", "b"), 403);
    visit_end(&scene.rig, &scene.visit);
    broker_expect_silence(&scene.rig); /* nothing to unsubscribe */
    handler_end(&scene.rig);
}

/* Everything but "you may not" ends it in order. */
static void test_refused_when_open(void **state) {
    (void)state;
    static const uint16_t statuses[] = {501, 503};
    for (size_t i = 0; i < length_of(statuses); i++) {
        struct scene scene;
        scene_live(&scene);
        recheck(&scene.rig, "1");
        hear_unsubscribe(&scene.rig, 0, "a", "b");
        refuse(&scene.rig, hear_subscribe_from(&scene.rig, 7, "a", "b"), statuses[i]);
        scene_expect(&scene, "event: close\ndata: {}\n\n");
        assert_true(scene.visit.is_over);
        broker_expect_silence(&scene.rig);
        scene_end(&scene);
    }
}

/* It was promised a refresh and asked again before that came: nobody knows what it missed since it
 * was greeted. */
static void test_recheck_before_the_promised_refresh(void **state) {
    (void)state;
    for (int follows = 0; follows < 2; follows++) {
        for (int was_refused = 0; was_refused < 2; was_refused++) {
            struct scene scene;
            scene_ask(&scene, "", "");
            accept_as(&scene.rig, scene.token, true, 7, names("a", "b"));
            recheck(&scene.rig, "1");
            hear_unsubscribe(&scene.rig, scene.token, "a", "b");
            uint64_t token = hear_subscribe(&scene.rig).token;
            if (was_refused) {
                refuse(&scene.rig, token, 403);
                recheck(&scene.rig, "1");
                token = hear_subscribe(&scene.rig).token;
            }
            accept_as(&scene.rig, token, follows, 9, names("a", "b"));
            if (follows) {
                send_refresh(&scene.rig, token, true, 9);
            }
            go_live(&scene.rig, token, 9);
            struct buf wanted = {0};
            buf_printf(&wanted,
                       ": connected\n%sid: 9\nevent: refresh\ndata: {\"reason\":\"%s\",\"dropped\":"
                       "null,\"topics\":[\"a\",\"b\"]}\n\n",
                       was_refused ? "\n" : "", follows ? "unknown_position" : "gap");
            buf_append(&wanted, "", 1);
            visit_expect_begun(&scene.rig, &scene.visit, wanted.bytes);
            buf_release(&wanted);
            scene_end(&scene);
        }
    }
}

/* An ending, or a question, is none of its concern. */
static void test_recheck_of_others(void **state) {
    (void)state;
    struct scene scene;
    struct handler_rig *rig = &scene.rig;
    scene_live(&scene);
    int least = 1;
    char *filler = repeated('x', 50000);
    struct wire_event event = event_of("a", 8);
    assert_int_equal(
        setsockopt(scene.visit.client->fd, SOL_SOCKET, SO_SNDBUF, &least, sizeof least), 0);
    event.body = slice_of(filler);
    broker_say(rig, wire_encode_event(&event));
    free(filler);
    assert_true(scene.visit.client->is_blocked);
    client_end(scene.visit.client, 5);
    hear_unsubscribe(rig, 0, "a", "b");
    struct visit head = VISIT(rig, "HEAD", STREAM, QUERY);
    (void)broker_hear(rig, WIRE_ASK_POSITION);
    recheck(rig, "");
    assert_int_equal(scene.visit.client->state, CLIENT_ENDING);
    assert_int_equal(head.client->state, CLIENT_ASKING);
    broker_expect_silence(rig);
    visit_end(rig, &head);
    scene_end(&scene);
}

/* --- too slow -----------------------------------------------------------------------------------
 */

enum { LIMIT = 20000, TABLE = 3000 };

/* A broker with a table: event i has the id 2 * i + 2, since other topics have some, too. */
struct table {
    struct scene scene;
    uint32_t sizes[TABLE];
    uint64_t count;
    uint64_t next_to_replay; /* while it replays */
    int64_t credit_bytes;
    bool is_replaying;
    uint64_t subscriptions;
};

static uint64_t id_of(uint64_t i) {
    return 2 * i + 2;
}

static struct payload *encode_row(struct table *table, uint64_t i, uint64_t token) {
    char *filler = repeated('x', table->sizes[i]);
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

static void send_quickly(struct table *table, struct payload *frame) {
    send_all(table->scene.rig.broker, (struct slice){frame->bytes, frame->length});
    payload_unref(&frame);
}

static void table_replay(struct table *table) {
    while (table->is_replaying && table->next_to_replay < table->count && table->credit_bytes > 0) {
        struct payload *frame = encode_row(table, table->next_to_replay++, table->scene.token);
        table->credit_bytes -= (int64_t)wire_body(frame).length;
        send_quickly(table, frame);
    }
    if (table->is_replaying && table->next_to_replay == table->count) {
        struct wire_position message = {table->scene.token, place(2 * table->count + 1)};
        send_quickly(table, wire_encode_position(WIRE_SUBSCRIBED, &message));
        table->is_replaying = false;
    }
}

/* What the handler wants, as the broker would have it. */
static void table_hear(struct table *table) {
    struct handler_rig *rig = &table->scene.rig;
    struct wire_frame frame = {0};
    while (broker_hears(rig, &frame)) {
        struct wire_subscribe subscribe;
        struct wire_credit credit;
        if (frame.type == WIRE_SUBSCRIBE) {
            assert_true(wire_decode_subscribe(frame.body, &subscribe));
            assert_int_equal(subscribe.position_kind, POSITION_KNOWN);
            table->scene.token = subscribe.token;
            table->next_to_replay = subscribe.position.durable / 2;
            table->credit_bytes = WIRE_CREDIT_BYTES;
            table->is_replaying = true;
            table->subscriptions++;
            struct wire_accepted message = {subscribe.token, true, place(2 * table->count + 1),
                                            names("a", "b")};
            send_quickly(table, wire_encode_accepted(&message));
        } else if (frame.type == WIRE_CREDIT) {
            assert_true(wire_decode_credit(frame.body, &credit));
            table->credit_bytes += credit.token == table->scene.token ? credit.bytes : 0;
        } else {
            assert_int_equal(frame.type, WIRE_UNSUBSCRIBE);
        }
        table_replay(table);
    }
}

static void table_publish(struct table *table, uint32_t size) {
    table->sizes[table->count] = size;
    send_quickly(table, encode_row(table, table->count++, 0));
    table_replay(table);
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
        assert_non_null(id);
        uint64_t number = strtoull(id + 4, NULL, 10);
        assert_true(number >= last_id);
        last_id = number;
        if (data != NULL) {
            assert_int_equal(strtoull(data + 6, NULL, 10), next);
            assert_int_equal(number, id_of(next));
            next++;
        } else {
            assert_true(number / 2 <= next); /* all up to it are here */
        }
        content = (struct slice){end + 2, content.length - block.length};
    }
    return next;
}

static void table_begin(struct table *table, enum config_slow_client mode) {
    int least = 1;
    struct scene *scene = &table->scene;
    handler_begin(&scene->rig);
    scene->rig.config.client_queue_bytes = LIMIT;
    scene->rig.config.slow_client = mode;
    scene->visit = VISIT(&scene->rig, "GET", STREAM, QUERY, "HTTP_LAST_EVENT_ID", "1");
    assert_int_equal(
        setsockopt(scene->visit.client->fd, SOL_SOCKET, SO_SNDBUF, &least, sizeof least), 0);
    table->count = 0;
    table->subscriptions = 0;
    table_hear(table);
    visit_expect_begun(&scene->rig, &scene->visit, ": connected\n" ID("1"));
    assert_int_equal(scene->visit.client->state, CLIENT_LIVE);
}

static void table_read_all(struct table *table) {
    struct visit *visit = &table->scene.visit;
    size_t before;
    do {
        before = visit->content.length + visit->got.length;
        visit_read(&table->scene.rig, visit);
        table_hear(table);
    } while (visit->content.length + visit->got.length != before || table->is_replaying);
}

static uint64_t dropped_in(struct table *table) {
    struct fan_topic *topic;
    uint64_t dropped = 0;
    for (topic = table->scene.rig.stream->fanout.topics; topic != NULL; topic = topic->hh.next) {
        dropped += topic->dropped_events + topic->dropped_clients;
    }
    return dropped;
}

/* Sizes, reads, turns, heartbeats and rechecks by chance: each event once, whatever overflows. */
static void test_overflow_by_chance(void **state) {
    (void)state;
    uint64_t subscriptions = 0;
    struct table *table = must_zalloc(sizeof *table);
    for (uint32_t seed = 1; seed <= 25; seed++) {
        uint32_t random = seed;
        table_begin(table, CONFIG_SLOW_REFRESH);
        struct scene *scene = &table->scene;
        for (int step = 0; step < 800; step++) {
            uint32_t what = next_random(&random) % 100;
            if (what < 50) {
                table_publish(table, next_random(&random) % (what < 5 ? 30000 : 3000));
            } else if (what < 70) {
                run_turns(scene->rig.loop, 1);
                table_hear(table);
            } else if (what < 74) {
                struct client *client = scene->visit.client;
                client->written_ms = loop_now_ms(scene->rig.loop) - scene->rig.config.keep_alive;
                loop_timer_start(scene->rig.loop, &client->timer, 0, client->timer.on_due);
            } else if (what < 76) {
                send_quickly(table, wire_encode_recheck(slice_of("1")));
            } else {
                assert_true(drain(scene->visit.fd, &scene->visit.got,
                                  1 + next_random(&random) % (what < 80 ? 20000 : 1500)));
            }
        }
        table_read_all(table);
        assert_int_equal(judge(buf_slice(&scene->visit.content)), table->count);
        assert_int_equal(dropped_in(table), 0);
        subscriptions += table->subscriptions;
        scene_end(scene);
    }
    free(table);
    assert_true(subscriptions > 100); /* the test tests something */
}

static void test_overflow(void **state) {
    (void)state;
    struct table *table = must_zalloc(sizeof *table);
    table_begin(table, CONFIG_SLOW_REFRESH);
    struct client *client = table->scene.visit.client;
    for (int i = 0; i < 100; i++) {
        table_publish(table, 3000);
        table_hear(table);
    }
    assert_int_equal(client->state, CLIENT_RESUBSCRIBING);
    assert_true(table->subscriptions <= 2); /* not again before it has drained */
    uint64_t subscriptions = table->subscriptions;
    assert_true(outlet_queued_bytes(&client->outlet) <= LIMIT + WIRE_CREDIT_BYTES);
    assert_int_equal(client->audience->live_count, 0);
    table_read_all(table);
    assert_int_equal(client->state, CLIENT_LIVE);
    assert_true(table->subscriptions > subscriptions);
    assert_int_equal(judge(buf_slice(&table->scene.visit.content)), 100);
    assert_int_equal(dropped_in(table), 0);
    scene_end(&table->scene);
    free(table);
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
static size_t cut_at(struct handler_rig *rig, struct client *client, size_t bytes, char *filler) {
    static const size_t sizes[CUT_FRAMES] = {3000, 2500, 15000, 20};
    static const uint64_t places[] = {9, 19, 29, 39, 45}; /* before each, and behind all */
    struct buf frames[CUT_FRAMES] = {0};
    struct buf wanted = {0};
    struct buf content = {0};
    fake_begin(bytes);
    sse_comment(&client->outlet.own, "own\n");
    buf_append_text(&wanted, ": own\n\n");
    for (uint64_t i = 0; i < CUT_FRAMES; i++) {
        struct wire_event event = event_of(i % 2 == 0 ? "a" : "b", 10 * (i + 1));
        event.body = (struct slice){filler, sizes[i]};
        buf_printf(&frames[i], "id: %u\n%.*s", 10 * (unsigned)(i + 1), (int)sizes[i], filler);
        fanout_publish(&rig->stream->fanout, &event, places[i]);
    }
    rig->stream->position = place(places[CUT_FRAMES]);
    size_t total = outlet_queued_bytes(&client->outlet);
    assert_int_not_equal(outlet_write(&client->outlet, FAKE_FD), OUTLET_BROKEN);
    admission_renew(client);
    fake.allowance = SIZE_MAX;
    assert_int_equal(outlet_write(&client->outlet, FAKE_FD), OUTLET_DRAINED);
    take_content(buf_slice(&fake.out), &content);
    size_t kept = 0;
    for (size_t i = 0; i < CUT_FRAMES && wanted.length < content.length; i++, kept++) {
        buf_append_slice(&wanted, buf_slice(&frames[i]));
    }
    if (!slice_equals(buf_slice(&content), buf_slice(&wanted))) {
        fail_msg("cut at %zu: %zu bytes, %zu wanted", bytes, content.length, wanted.length);
    }
    assert_int_equal(client->inquiry->position.durable, places[kept]);
    assert_int_equal(client->inquiry->position_kind, POSITION_KNOWN);
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
    (void)state;
    struct scene scene;
    char *filler = repeated('x', 15000);
    scene_live(&scene);
    struct client *client = scene.visit.client;
    size_t total = 1;
    for (size_t bytes = 0; bytes < total + 600; bytes++) {
        total = cut_at(&scene.rig, client, bytes, filler);
        struct wire_accepted accepted = {0, true, place(50), names("a", "b")};
        struct wire_position subscribed = {0, place(50)};
        assert_true(admission_on_accepted(client, &accepted));
        admission_on_subscribed(client, &subscribed);
        assert_int_equal(client->state, CLIENT_LIVE);
        fake_begin(SIZE_MAX);
        assert_int_equal(outlet_write(&client->outlet, FAKE_FD), OUTLET_DRAINED);
        if (bytes % 100 == 0) {
            buf_release(&scene.rig.input);
            handler_turns(&scene.rig); /* what the broker was told goes out */
            (void)(drain_all(scene.rig.broker, &scene.rig.input) == true);
        }
    }
    fake_begin(0);
    free(filler);
    scene_end(&scene);
}

/* With the other mode it ends, and comes back with what it has. */
static void test_disconnect(void **state) {
    (void)state;
    struct table *table = must_zalloc(sizeof *table);
    table_begin(table, CONFIG_SLOW_DISCONNECT);
    for (int i = 0; i < 100; i++) {
        table_publish(table, 3000);
        handler_turns(&table->scene.rig);
    }
    assert_int_equal(table->scene.visit.client->state, CLIENT_ENDING);
    hear_unsubscribe(&table->scene.rig, 0, "a", "b");
    for (int i = 0; i < 50 && !table->scene.visit.is_over; i++) {
        visit_read(&table->scene.rig, &table->scene.visit);
    }
    assert_true(table->scene.visit.is_over);
    uint64_t events = judge(buf_slice(&table->scene.visit.content));
    assert_true(events > 0 && events < 100);
    scene_end(&table->scene);
    free(table);
}

RUN_TESTS(TEST(test_what_is_asked), TEST(test_ids_of_a_replay), TEST(test_id_behind_a_replay),
          TEST(test_unknown_position), TEST(test_from_the_start), TEST(test_granted_in_part),
          TEST(test_granted_wrongly), TEST(test_refused), TEST(test_no_answer),
          TEST(test_forms_side_by_side), TEST(test_live_ones_ask_again),
          TEST(test_others_ask_again), TEST(test_recheck_while_asking),
          TEST(test_recheck_in_a_replay), TEST(test_recheck_of_a_live_one),
          TEST(test_recheck_with_an_event_in_the_feed), TEST(test_quiet),
          TEST(test_refused_when_open), TEST(test_recheck_before_the_promised_refresh),
          TEST(test_recheck_of_others), TEST(test_overflow), TEST(test_cut_at_every_byte),
          TEST(test_overflow_by_chance), TEST(test_disconnect))
