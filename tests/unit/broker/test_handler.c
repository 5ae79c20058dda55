/* One connected handler: its greeting, its requests, what ends it, and that no other handler
 * notices. */
#include "broker_rig.h"

static void test_greeting(void **state) {
    struct wire_hello welcome;
    rig_begin();
    peer_connect_silently(&peer);
    assert_int_equal(peer.handler->state, HANDLER_GREETING);
    peer_expect_nothing(&peer);
    peer_send(&peer, wire_encode_hello(WIRE_HELLO, 99));
    assert_true(wire_decode_hello(peer_expect(&peer, WIRE_WELCOME), &welcome));
    assert_int_equal(welcome.version, WIRE_VERSION);
    assert_int_equal(welcome.pid, getpid());
    assert_int_equal(peer.handler->state, HANDLER_INTRODUCED);
    peer_expect_nothing(&peer);
    peer_send(&peer, resume_of(POSITION_NONE, NULL, NULL, NULL));
    assert_int_equal(peer.handler->state, HANDLER_SERVED);
    peer_expect_nothing(&peer);
    assert_int_equal(peer.told_count, 1); /* the head */
    expect_position(&peer.told, rig_position());
    peer_close(&peer);
    assert_null(rig_handler());
}

/* --- what ends a connection ---------------------------------------------------------------------
 */

#define U64(byte)               byte "\0\0\0\0\0\0\0"
#define TEXT(length, text)      length "\0\0\0" text
#define NOWHERE                 U64("\0") TEXT("\0", "") U64("\0")
#define TOPIC_A                 "\x01\0" TEXT("\x02", "\na")
#define HELLO_FRAME             "\x0a\0\0\0\x01pgss\x08\0\x01\0\0\0"
#define RESUME_FRAME            "\x1a\0\0\0\x07\x01\0" NOWHERE "\0\0\0\0"
#define GREETING                HELLO_FRAME RESUME_FRAME
#define ASK_POSITION_FRAME      "\x08\0\0\0\x04" U64("\x01")
#define SUBSCRIBE_FRAME(form)   "\x2a\0\0\0\x02" U64("\x01") form "\0" NOWHERE TEXT("\0", "") TOPIC_A
#define UNSUBSCRIBE_FRAME(form) "\x11\0\0\0\x03" U64("\0") form TOPIC_A
#define RESUME_OF(name, clients) \
    "\x24\0\0\0\x07\x01\0" NOWHERE "\x01\0\0\0" TEXT("\x02", "\n" name) clients "\0\0\0"

struct offence {
    const char *about;
    struct slice bytes;
};

static const struct offence offences[] = {
    {"garbage", LITERAL("GET / HTTP/1.0\r\n\r\n")},
    {"zeros", LITERAL("\0\0\0\0\0\0\0\0\0\0")},
    {"a frame that is too long", LITERAL("\xff\xff\xff\x7f\x01")},
    {"one byte over the limit", LITERAL("\x01\0\x01\0\x02")},
    {"SUBSCRIBE before HELLO", LITERAL(SUBSCRIBE_FRAME("\0"))},
    {"HELLO with another magic", LITERAL("\x0a\0\0\0\x01pgsX\x06\0\x01\0\0\0")},
    {"a short HELLO", LITERAL("\x04\0\0\0\x01pgss")},
    {"a newer version", LITERAL("\x0a\0\0\0\x01pgss\x09\0\x01\0\0\0")},
    {"an older version", LITERAL("\x0a\0\0\0\x01pgss\x02\0\x01\0\0\0")},
    {"HELLO twice", LITERAL(HELLO_FRAME HELLO_FRAME)},
    {"HELLO again, behind RESUME", LITERAL(GREETING HELLO_FRAME)},
    {"RESUME before HELLO", LITERAL(RESUME_FRAME)},
    {"RESUME twice", LITERAL(GREETING RESUME_FRAME)},
    {"SUBSCRIBE before RESUME", LITERAL(HELLO_FRAME SUBSCRIBE_FRAME("\0"))},
    {"ASK_POSITION before RESUME", LITERAL(HELLO_FRAME ASK_POSITION_FRAME)},
    {"ASK_POSITION between two parts of RESUME",
     LITERAL(HELLO_FRAME "\x1a\0\0\0\x07\0\0" NOWHERE "\0\0\0\0" ASK_POSITION_FRAME)},
    {"a short RESUME", LITERAL(HELLO_FRAME "\x02\0\0\0\x07\x01\0")},
    {"RESUME that lacks its entry",
     LITERAL(HELLO_FRAME "\x1a\0\0\0\x07\x01\0" NOWHERE "\x01\0\0\0")},
    {"RESUME with a byte too many",
     LITERAL(HELLO_FRAME "\x1b\0\0\0\x07\x01\0" NOWHERE "\0\0\0\0x")},
    {"RESUME from everything", LITERAL(HELLO_FRAME "\x1a\0\0\0\x07\x01\x02" NOWHERE "\0\0\0\0")},
    {"RESUME of a topic without client", LITERAL(HELLO_FRAME RESUME_OF("a", "\0"))},
    {"RESUME of a bad topic", LITERAL(HELLO_FRAME RESUME_OF("\n", "\x01"))},
    {"CREDIT of nothing", LITERAL(GREETING "\x0c\0\0\0\x08" U64("\x01") "\0\0\0\0")},
    {"CREDIT for nobody", LITERAL(GREETING "\x0c\0\0\0\x08" U64("\0") "\x01\0\0\0")},
    {"REPLAY, a broker's frame", LITERAL(GREETING "\0\0\0\0\x4b")},
    {"RECHECK, a broker's frame", LITERAL(GREETING "\x08\0\0\0\x4c\0\0\0\0\0\0\0\0")},
    {"an unknown type", LITERAL(GREETING "\0\0\0\0\x63")},
    {"type 0", LITERAL(GREETING "\0\0\0\0\0")},
    {"a broker's frame", LITERAL(GREETING "\x04\0\0\0\x49\x01\0\0\0")},
    {"an empty SUBSCRIBE", LITERAL(GREETING "\0\0\0\0\x02")},
    {"SUBSCRIBE of an unknown form", LITERAL(GREETING SUBSCRIBE_FRAME("\x02"))},
    {"ASK_POSITION with token 0", LITERAL(GREETING "\x08\0\0\0\x04" U64("\0"))},
    {"ASK_DOCUMENT with token 0",
     LITERAL(GREETING "\x11\0\0\0\x05" U64("\0") "\x01\0\0\0\0\0\0\0\0")},
    {"ASK_DOCUMENT of an unknown kind",
     LITERAL(GREETING "\x11\0\0\0\x05" U64("\x01") "\x04\0\0\0\0\0\0\0\0")},
    {"ASK_DOCUMENT of what is no tenant",
     LITERAL(GREETING "\x13\0\0\0\x05" U64("\x01") "\0\0\0\x01\0" TEXT("\x02", "a/"))},
    {"UNSUBSCRIBE of what is not there", LITERAL(GREETING UNSUBSCRIBE_FRAME("\0"))},
    {"UNSUBSCRIBE of an unknown form",
     LITERAL(GREETING SUBSCRIBE_FRAME("\0") UNSUBSCRIBE_FRAME("\x02"))},
    {"ASK_DOCUMENT beyond the limit",
     LITERAL(GREETING "\x11\0\0\0\x05" U64("\x01") "\0\x01\0\x01\0\0\0\0\0")},
    {"a short REPORT", LITERAL(GREETING "\x08\0\0\0\x06\x01\0\0\0\x05\0\0\0")},
    {"a REPORT with a byte too many",
     LITERAL(GREETING "\x1e\0\0\0\x06\x01\0\0\0\x05\0\0\0" U64("\0") U64("\0") "\x01\0\0\0\0x")},
    {"a REPORT that lacks two entries",
     LITERAL(GREETING "\x1d\0\0\0\x06\x01\0\0\0\x05\0\0\0" U64("\0") U64("\0") "\x01\x02\0\0\0")},
    {"a REPORT that lacks its one entry",
     LITERAL(GREETING "\x1d\0\0\0\x06\x01\0\0\0\x05\0\0\0" U64("\0") U64("\0") "\x01\x01\0\0\0")},
    {"a REPORT whose entry is cut off",
     LITERAL(GREETING "\x2a\0\0\0\x06\x01\0\0\0\x05\0\0\0" U64("\0")
                 U64("\0") "\x01\x01\0\0\0" TEXT("\x01", "a") U64("\0"))},
};

/* The same frames without errors, so that each row above has only its own error. */
static void test_what_is_no_offence(void **state) {
    static const struct offence good[] = {
        {"HELLO", LITERAL(HELLO_FRAME)},
        {"RESUME", LITERAL(GREETING)},
        {"RESUME in two parts",
         LITERAL(HELLO_FRAME "\x1a\0\0\0\x07\0\0" NOWHERE "\0\0\0\0" RESUME_FRAME)},
        {"RESUME of a topic", LITERAL(HELLO_FRAME RESUME_OF("a", "\x01"))},
        {"CREDIT", LITERAL(GREETING "\x0c\0\0\0\x08" U64("\x01") "\x01\0\0\0")},
        {"SUBSCRIBE", LITERAL(GREETING SUBSCRIBE_FRAME("\0"))},
        {"UNSUBSCRIBE", LITERAL(GREETING SUBSCRIBE_FRAME("\0") UNSUBSCRIBE_FRAME("\0"))},
        {"ASK_POSITION", LITERAL(GREETING ASK_POSITION_FRAME)},
        {"ASK_DOCUMENT", LITERAL(GREETING "\x11\0\0\0\x05" U64("\x01") "\0\0\0\x01\0\0\0\0\0")},
        {"ASK_DOCUMENT of a tenant",
         LITERAL(GREETING "\x13\0\0\0\x05" U64("\x01") "\0\0\0\x01\0" TEXT("\x02", "ab"))},
        {"REPORT",
         LITERAL(GREETING "\x1d\0\0\0\x06\x01\0\0\0\x05\0\0\0" U64("\0") U64("\0") "\x01\0\0\0\0")},
    };
    for (size_t i = 0; i < length_of(good); i++) {
        rig_begin();
        rig_listen();
        peer_connect_silently(&peer);
        peer_send_bytes(&peer, good[i].bytes);
        if (peer_is_closed(&peer)) {
            fail_msg("%s ends the connection", good[i].about);
        }
    }
}

static void test_offences_close_only_that_peer(void **state) {
    for (size_t i = 0; i < length_of(offences); i++) {
        struct peer good;
        struct peer bad;
        rig_begin();
        rig_listen();
        peer_connect(&good);
        peer_subscribe(&good, 1, "a", NULL, POSITION_NONE);
        peer_expect_subscribed(&good, 1);
        peer_connect_silently(&bad);
        peer_send_bytes(&bad, offences[i].bytes);
        if (!peer_is_closed(&bad) || rig_handler_count() != 1) {
            fail_msg("%s does not end the connection", offences[i].about);
        }
        rig_notify("{\"topic\":\"a\",\"data\":1}");
        peer_expect_event(&good, "a", "1");
        peer_expect_nothing(&good);
        peer_close(&good);
        peer_close(&bad);
    }
}

/* The last frame to a handler that broke the protocol says why. */
static void test_goodbye_tells_the_reason(void **state) {
    struct slice reason;
    rig_begin();
    peer_connect(&peer);
    peer_send_bytes(&peer, LITERAL("\0\0\0\0\x63"));
    assert_true(wire_decode_goodbye(peer_expect(&peer, WIRE_GOODBYE), &reason));
    assert_true(reason.length > 0);
    assert_true(peer_is_closed(&peer));
    assert_int_equal(rig.broker->condition.errors, 1);
}

/* A handler of another version is told ours. */
static void test_another_version_is_told_ours(void **state) {
    struct wire_hello welcome;
    rig_begin();
    peer_connect_silently(&peer);
    peer_send_bytes(&peer, LITERAL("\x0a\0\0\0\x01pgss\x09\0\x01\0\0\0"));
    assert_true(wire_decode_hello(peer_expect(&peer, WIRE_WELCOME), &welcome));
    assert_int_equal(welcome.version, WIRE_VERSION);
    (void)peer_expect(&peer, WIRE_GOODBYE);
    assert_true(peer_is_closed(&peer));
}

static struct payload *subscription_to(struct slice topic) {
    struct wire_subscribe message = {.token = 1, .topics = {1, {{topic}}}};
    return wire_encode_subscribe(&message);
}

static void test_bad_topic_names_end_it(void **state) {
    char *longest = repeated('x', 256);
    char *too_long = repeated('x', 257);
    const struct {
        struct slice name;
        bool is_good;
    } cases[] = {{LITERAL("\nAny Name"), true}, {LITERAL("Te_n.1-T\nname"), true},
                 {slice_of(longest), true},     {slice_of(too_long), false},
                 {LITERAL(""), false},          {LITERAL("\n"), false},
                 {LITERAL("a"), false},         {LITERAL("a b\nname"), false},
                 {LITERAL("\na\n"), false},     {LITERAL("\n\xff"), false},
                 {LITERAL("\na\0"), false}};
    longest[0] = too_long[0] = '\n';
    for (size_t i = 0; i < length_of(cases); i++) {
        rig_begin();
        peer_connect(&peer);
        peer_send(&peer, subscription_to(cases[i].name));
        assert_int_equal(peer_is_closed(&peer), !cases[i].is_good);
    }
    free(longest);
    free(too_long);
}

/* Frames may come in pieces of any size. */
static void test_frames_split_at_every_byte(void **state) {
    struct payload *hello = wire_encode_hello(WIRE_HELLO, 1);
    struct payload *resume = resume_of(POSITION_NONE, NULL, "beta", NULL);
    struct payload *subscribe = subscription_to(LITERAL("\nalpha"));
    struct buf bytes = {0};
    buf_append(&bytes, hello->bytes, hello->length);
    buf_append(&bytes, resume->bytes, resume->length);
    buf_append(&bytes, subscribe->bytes, subscribe->length);
    for (size_t at = 1; at < bytes.length; at++) {
        rig_begin();
        rig_listen();
        peer_connect_silently(&peer);
        peer_send_bytes(&peer, (struct slice){bytes.bytes, at});
        peer_send_bytes(&peer, (struct slice){bytes.bytes + at, bytes.length - at});
        (void)peer_expect(&peer, WIRE_WELCOME);
        peer_expect_subscribed(&peer, 1);
    }
    buf_release(&bytes);
    payload_unref(&hello);
    payload_unref(&resume);
    payload_unref(&subscribe);
}

/* The rest of a frame has a deadline; the time between frames has none. */
static void test_half_a_frame_is_watched(void **state) {
    rig_begin();
    peer_connect_silently(&peer);
    assert_true(loop_timer_is_started(&peer.handler->deadline)); /* for HELLO */
    peer_send(&peer, wire_encode_hello(WIRE_HELLO, 1));
    assert_true(loop_timer_is_started(&peer.handler->deadline)); /* for RESUME */
    peer_send(&peer, resume_of(POSITION_NONE, NULL, NULL, NULL));
    assert_false(loop_timer_is_started(&peer.handler->deadline));
    peer_send_bytes(&peer, LITERAL("\x08\0\0"));
    assert_true(loop_timer_is_started(&peer.handler->deadline));
    peer_send_bytes(&peer, LITERAL("\0\x04\x01\0\0\0\0\0\0\0"));
    assert_false(loop_timer_is_started(&peer.handler->deadline));
    assert_false(peer_is_closed(&peer));
}

/* The deadlines' timers close the connection. (The test does not wait for them.) */
static void test_deadlines_close(void **state) {
    static const struct slice sent[] = {
        LITERAL(""), LITERAL("\x0a\0"), LITERAL(HELLO_FRAME),
        LITERAL(HELLO_FRAME "\x1a\0\0\0\x07\0\0" NOWHERE "\0\0\0\0"), LITERAL(GREETING "\x08")};
    for (size_t i = 0; i < length_of(sent); i++) {
        rig_begin();
        peer_connect_silently(&peer);
        peer_send_bytes(&peer, sent[i]);
        assert_true(loop_timer_is_started(&peer.handler->deadline));
        loop_timer_start(rig.loop, &peer.handler->deadline, 0, peer.handler->deadline.on_due);
        assert_true(peer_is_closed(&peer));
        assert_int_equal(rig_handler_count(), 0);
    }
}

/* --- subscriptions ------------------------------------------------------------------------------
 */

static void test_held_until_listening_begins(void **state) {
    rig_begin();
    peer_connect(&peer);
    peer_subscribe(&peer, 1, "a", NULL, POSITION_NONE);
    peer_subscribe(&peer, 2, "b", NULL, POSITION_NONE);
    peer_expect_nothing(&peer);
    assert_int_equal(HASH_COUNT(peer.handler->delivery.replays), 2);
    rig_listen();
    peer_expect_subscribed(&peer, 1);
    peer_expect_subscribed(&peer, 2);
    peer_expect_nothing(&peer);
    assert_int_equal(HASH_COUNT(peer.handler->delivery.replays), 0);
}

static void test_held_while_deaf(void **state) {
    rig_begin_served();
    rig_deaf();
    peer_subscribe(&peer, 1, "a", NULL, POSITION_NONE);
    peer_expect_nothing(&peer);
    rig_listen();
    (void)peer_expect(&peer, WIRE_REFRESH); /* for clients that were live before */
    (void)peer_expect(&peer, WIRE_RECHECK);
    peer_expect_subscribed(&peer, 1);
}

/* A client that leaves while its subscription waits gets no answer. */
static void test_held_and_unsubscribed(void **state) {
    rig_begin();
    peer_connect(&peer);
    peer_subscribe(&peer, 1, "a", NULL, POSITION_NONE);
    peer_subscribe(&peer, 2, "a", NULL, POSITION_NONE);
    peer_unsubscribe(&peer, 1, "a", NULL);
    assert_int_equal(HASH_COUNT(peer.handler->delivery.replays), 1);
    rig_listen();
    peer_expect_subscribed(&peer, 2);
    peer_expect_nothing(&peer);
}

static void test_held_and_closed(void **state) {
    rig_begin();
    peer_connect(&peer);
    peer_subscribe(&peer, 1, "a", NULL, POSITION_NONE);
    peer_close(&peer);
    rig_listen();
    assert_int_equal(rig_handler_count(), 0);
}

/* --- positions ----------------------------------------------------------------------------------
 */

static void test_position_waits_for_a_marker(void **state) {
    struct wire_position answer;
    struct position position;
    rig_begin();
    peer_connect(&peer);
    peer_send(&peer, wire_encode_ask_position(9));
    peer_expect_nothing(&peer);
    rig_listen();
    peer_expect_nothing(&peer); /* other brokers do not know a private name */
    rig_marker();
    rig_notify("nonsense");
    assert_true(wire_decode_position(peer_expect(&peer, WIRE_POSITION), &answer));
    assert_int_equal(answer.token, 9);
    assert_true(rig.broker->journal.markers.is_public);
    peer_send(&peer, wire_encode_ask_position(10));
    markers_position(&rig.broker->journal.markers, &position);
    assert_true(wire_decode_position(peer_expect(&peer, WIRE_POSITION), &answer));
    assert_int_equal(answer.token, 10);
    assert_true(position_equals(&answer.position, &position));
}

static void test_tell_position_only_when_it_moved(void **state) {
    struct position position;
    rig_begin_served();
    peer_subscribe(&peer, 1, "a", NULL, POSITION_NONE);
    peer_expect_subscribed(&peer, 1);
    int told_before = peer.told_count;
    delivery_tell_position(&peer.handler->delivery);
    peer_expect_nothing(&peer);
    assert_int_equal(peer.told_count, told_before);
    rig_notify("{\"topic\":\"elsewhere\",\"data\":1}");
    delivery_tell_position(&peer.handler->delivery);
    delivery_tell_position(&peer.handler->delivery);
    peer_expect_nothing(&peer);
    markers_position(&rig.broker->journal.markers, &position);
    assert_int_equal(peer.told_count, told_before + 1);
    assert_true(position_equals(&peer.told, &position));
}

/* A position is sent after all events that it includes. */
static void test_position_never_overtakes_events(void **state) {
    struct wire_frame frame;
    struct wire_event event;
    struct wire_position told;
    rig_begin_served();
    peer_subscribe(&peer, 1, "a", NULL, POSITION_NONE);
    peer_expect_subscribed(&peer, 1);
    rig_notify("{\"topic\":\"a\",\"data\":1}");
    rig_notify("{\"topic\":\"elsewhere\",\"data\":1}");
    delivery_tell_position(&peer.handler->delivery);
    rig_notify("{\"topic\":\"a\",\"data\":2}");
    assert_true(peer_next_of_all(&peer, &frame) && wire_decode_event(frame.body, &event));
    assert_true(peer_next_of_all(&peer, &frame) && wire_decode_position(frame.body, &told));
    assert_int_equal(frame.type, WIRE_POSITION);
    assert_int_equal(told.position.since, event.position.since + 1);
    assert_true(peer_next_of_all(&peer, &frame) && wire_decode_event(frame.body, &event));
    assert_int_equal(event.position.since, told.position.since + 1);
}

/* --- slow handlers ------------------------------------------------------------------------------
 */

static void test_overflow_closes_it_and_nobody_else(void **state) {
    struct peer slow;
    struct peer good;
    struct buf payload = {0};
    char *filler = repeated('x', 7000);
    rig_begin();
    rig_limit_queues(64 * 1024);
    rig_listen();
    peer_connect(&slow);
    handler_narrow(slow.handler);
    peer_connect(&good);
    peer_subscribe(&slow, 1, "a", NULL, POSITION_NONE);
    peer_subscribe(&good, 1, "a", NULL, POSITION_NONE);
    peer_expect_subscribed(&slow, 1);
    peer_expect_subscribed(&good, 1);
    buf_printf(&payload, "{\"topic\":\"a\",\"data\":\"%s\"}", filler);
    for (int i = 0; i < 30; i++) {
        rig_hear("topic_broadcast_0", buf_slice(&payload), 1);
        assert_true(rig_handler_count() == 1 ||
                    slow.handler->delivery.outbox.queue.queued_bytes <=
                        (size_t)rig.config.handler_queue_bytes +
                            outq_largest_bytes(&slow.handler->delivery.outbox.queue));
        struct wire_frame frame;
        assert_true(peer_next(&good, &frame));
        assert_int_equal(frame.type, WIRE_EVENT);
    }
    assert_int_equal(rig_handler_count(), 1);
    assert_int_equal(topics_find(&rig.broker->journal.topics, key_of("a"))->subscribers, 1);
    assert_true(peer_is_closed(&slow));
    assert_false(peer_is_closed(&good));
    free(filler);
    buf_release(&payload);
    peer_close(&slow);
    peer_close(&good);
}

/* An event that is larger than the limit does not take the room of the next events. */
static void test_room_beside_an_event_larger_than_the_limit(void **state) {
    rig_begin();
    rig_limit_queues(64 * 1024);
    rig_listen();
    peer_connect(&peer);
    handler_narrow(peer.handler);
    peer_subscribe(&peer, 1, "a", NULL, POSITION_NONE);
    peer_expect_subscribed(&peer, 1);
    rig_publish_long("a", 0, 1000 * 1000);
    for (unsigned i = 1; i <= 100; i++) {
        rig_publish("a", i);
        run_turns(rig.loop, 1);
    }
    assert_true(peer.handler->delivery.outbox.queue.queued_bytes > 64 * 1024);
    assert_int_equal(peer.handler->state, HANDLER_SERVED);
    rig_publish_long("a", 101, 1000 * 1000); /* two of them are too many */
    assert_true(peer.handler->delivery.outbox.is_closed);
    run_turns(rig.loop, 1);
    assert_int_equal(rig_handler_count(), 0);
}

/* All handlers of a topic overflow in one turn; they are closed at its end. */
static void test_all_handlers_overflow_at_once(void **state) {
    struct peer peers[3];
    struct buf payload = {0};
    char *filler = repeated('x', 7000);
    rig_begin();
    rig_limit_queues(64 * 1024);
    rig_listen();
    for (size_t i = 0; i < 3; i++) {
        peer_connect(&peers[i]);
        peer_subscribe(&peers[i], 1, "a", NULL, POSITION_NONE);
    }
    buf_printf(&payload, "{\"topic\":\"a\",\"data\":\"%s\"}", filler);
    for (int i = 0; i < 80; i++) { /* more than the limit plus the socket's buffer */
        rig_hear("topic_broadcast_0", buf_slice(&payload), 1);
    }
    assert_int_equal(topics_find(&rig.broker->journal.topics, key_of("a"))->subscribers, 3);
    run_turns(rig.loop, 2);
    assert_int_equal(rig_handler_count(), 0);
    assert_int_equal(rig.broker->condition.errors, 3);
    assert_int_equal(topics_find(&rig.broker->journal.topics, key_of("a"))->subscribers, 0);
    free(filler);
    buf_release(&payload);
    for (size_t i = 0; i < 3; i++) {
        peer_close(&peers[i]);
    }
}

/* --- reports ------------------------------------------------------------------------------------
 */

static struct payload *report_of(uint32_t serial, const char *topic, uint64_t delivered,
                                 uint64_t pending) {
    struct buf report = {0};
    struct wire_report_entry entry = {key_of(topic), delivered, 2, 3, pending, 5, 6};
    wire_report_begin(&report, serial, 5);
    wire_report_set_gzip(&report, 100, 30);
    assert_true(wire_report_add(&report, &entry));
    return wire_report_end(&report, true);
}

static void test_reports_add_up(void **state) {
    rig_begin_served();
    peer_subscribe(&peer, 1, "a", NULL, POSITION_NONE);
    peer_expect_subscribed(&peer, 1);
    peer_send(&peer, report_of(0, "a", 10, 4));
    peer_send(&peer, report_of(0, "a", 5, 0));
    peer_send(&peer, report_of(0, "nowhere", 1, 1));
    const struct topic *topic = topics_find(&rig.broker->journal.topics, key_of("a"));
    const struct interest *interest =
        topics_interest(&rig.broker->journal.topics, key_of("a"), &peer.handler->delivery,
                        &peer.handler->delivery.interests);
    assert_int_equal(topic->traffic.delivered, 15);
    assert_int_equal(topic->traffic.dropped_events, 4);
    assert_int_equal(topic->traffic.dropped_clients, 6);
    assert_int_equal(interest->pending_events, 0); /* a gauge: the last one */
    assert_int_equal(rig.broker->journal.topics.total.delivered, 16);
    assert_int_equal(rig.broker->journal.topics.plain_bytes, 300);
    assert_int_equal(rig.broker->journal.topics.gzip_bytes, 90);
    assert_int_equal(rig.broker->journal.topics.total.dropped_events, 6);
    assert_null(topics_find(&rig.broker->journal.topics, key_of("nowhere")));
    assert_false(peer_is_closed(&peer));
}

RUN_TESTS(TEST(test_greeting), TEST(test_what_is_no_offence),
          TEST(test_offences_close_only_that_peer), TEST(test_goodbye_tells_the_reason),
          TEST(test_another_version_is_told_ours), TEST(test_bad_topic_names_end_it),
          TEST(test_frames_split_at_every_byte), TEST(test_half_a_frame_is_watched),
          TEST(test_deadlines_close), TEST(test_held_until_listening_begins),
          TEST(test_held_while_deaf), TEST(test_held_and_unsubscribed), TEST(test_held_and_closed),
          TEST(test_position_waits_for_a_marker), TEST(test_tell_position_only_when_it_moved),
          TEST(test_position_never_overtakes_events), TEST(test_overflow_closes_it_and_nobody_else),
          TEST(test_all_handlers_overflow_at_once),
          TEST(test_room_beside_an_event_larger_than_the_limit), TEST(test_reports_add_up))
