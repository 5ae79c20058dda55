/* The protocol between broker and handlers: every message there and back, and every way to break
 * one. */
#include "support.h"
#include "wire.h"

static const struct position place = {7, "abcdefghijklm", 1234567890123456789u};
static const struct position nowhere = {0};

/* --- frames ----------------------------------------------------------------------------------- */

static struct slice body_of(const struct payload *frame, enum wire_type type) {
    struct slice input = {frame->bytes, frame->length};
    struct wire_frame taken;
    assert_int_equal(wire_next(&input, WIRE_ANSWER_BYTES_MAX, &taken), WIRE_NEXT_FRAME);
    assert_int_equal(taken.type, type);
    assert_int_equal(input.length, 0);
    return taken.body;
}

static void test_frame_bytes(void **state) {
    (void)state;
    struct payload *frame = wire_encode_ask_report(0x04030201);
    expect_slice((struct slice){frame->bytes, frame->length},
                 LITERAL("\x04\0\0\0\x49\x01\x02\x03\x04"), "ASK_REPORT");
    payload_unref(&frame);
}

static void test_position_bytes(void **state) {
    (void)state;
    struct wire_position message = {.token = 5, .position = {1, "abcdefghijklm", 2}};
    struct payload *frame = wire_encode_position(WIRE_POSITION, &message);
    expect_slice((struct slice){frame->bytes, frame->length},
                 LITERAL("\x29\0\0\0\x47"
                         "\x05\0\0\0\0\0\0\0"
                         "\x01\0\0\0\0\0\0\0"
                         "\x0d\0\0\0"
                         "abcdefghijklm"
                         "\x02\0\0\0\0\0\0\0"),
                 "POSITION");
    payload_unref(&frame);
}

static void test_frames_split_at_every_byte(void **state) {
    (void)state;
    struct payload *frame = wire_encode_goodbye("so long");
    for (size_t length = 0; length < frame->length; length++) {
        char *memory;
        struct wire_frame taken;
        struct slice input = exact((struct slice){frame->bytes, length}, &memory);
        assert_int_equal(wire_next(&input, WIRE_REQUEST_BYTES_MAX, &taken), WIRE_NEXT_INCOMPLETE);
        assert_int_equal(input.length, length);
        free(memory);
    }
    payload_unref(&frame);
}

static void test_frames_one_after_the_other(void **state) {
    (void)state;
    struct buf bytes = {0};
    for (uint32_t i = 0; i < 10; i++) {
        struct payload *frame = wire_encode_ask_report(i);
        buf_append(&bytes, frame->bytes, frame->length);
        payload_unref(&frame);
    }
    struct slice input = {bytes.bytes, bytes.length - 1};
    struct wire_frame frame;
    for (uint32_t i = 0; i < 9; i++) {
        uint32_t serial;
        assert_int_equal(wire_next(&input, 4, &frame), WIRE_NEXT_FRAME);
        assert_true(wire_decode_ask_report(frame.body, &serial));
        assert_int_equal(serial, i);
    }
    assert_int_equal(wire_next(&input, 4, &frame), WIRE_NEXT_INCOMPLETE);
    assert_int_equal(input.length, WIRE_HEADER_BYTES + 3);
    buf_release(&bytes);
}

static void test_frames_too_long(void **state) {
    (void)state;
    static const struct {
        struct slice bytes;
        size_t most;
        enum wire_next wanted;
    } cases[] = {
        {LITERAL("\x04\0\0\0\x01"), 4, WIRE_NEXT_INCOMPLETE},
        {LITERAL("\x05\0\0\0\x01"), 4, WIRE_NEXT_TOO_LONG},
        {LITERAL("\xff\xff\xff\xff\x01"), WIRE_ANSWER_BYTES_MAX, WIRE_NEXT_TOO_LONG},
        {LITERAL("\xff\xff\xff\xff"), WIRE_ANSWER_BYTES_MAX, WIRE_NEXT_INCOMPLETE},
        {LITERAL("\x00\x00\x01\0\x01"), WIRE_REQUEST_BYTES_MAX, WIRE_NEXT_INCOMPLETE},
        {LITERAL("\x01\x00\x01\0\x01"), WIRE_REQUEST_BYTES_MAX, WIRE_NEXT_TOO_LONG},
        {LITERAL("\0\0\0\0\x01"), 0, WIRE_NEXT_FRAME},
        {LITERAL("\0\0\0\0\xee"), 0, WIRE_NEXT_FRAME},
        {LITERAL(""), 0, WIRE_NEXT_INCOMPLETE},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        char *memory;
        struct slice input = exact(cases[i].bytes, &memory);
        struct wire_frame frame;
        if (wire_next(&input, cases[i].most, &frame) != cases[i].wanted) {
            fail_msg("case %zu", i);
        }
        free(memory);
    }
}

/* --- there and back --------------------------------------------------------------------------- */

static void expect_position(const struct position *got, const struct position *wanted) {
    assert_true(position_equals(got, wanted));
}

static void test_hello(void **state) {
    (void)state;
    static const enum wire_type types[] = {WIRE_HELLO, WIRE_WELCOME};
    for (size_t i = 0; i < length_of(types); i++) {
        struct payload *frame = wire_encode_hello(types[i], 4711);
        struct wire_hello message;
        assert_true(wire_decode_hello(body_of(frame, types[i]), &message));
        assert_int_equal(message.magic, WIRE_MAGIC);
        assert_int_equal(message.version, WIRE_VERSION);
        assert_int_equal(message.pid, 4711);
        payload_unref(&frame);
    }
}

/* The peer can tell another version from garbage, whatever that version adds. */
static void test_hello_of_other_versions(void **state) {
    (void)state;
    struct wire_hello message;
    assert_true(wire_decode_hello(LITERAL("pgss\x03\0"), &message));
    assert_int_equal(message.version, 3);
    assert_true(wire_decode_hello(LITERAL("pgss\x01\0more than we know"), &message));
    assert_true(wire_decode_hello(LITERAL("pgss\0\0\x01\x02\x03\x04"), &message));
    assert_int_equal(message.version, 0);
    assert_false(wire_decode_hello(LITERAL("pgsX\x03\0"), &message));
    assert_false(wire_decode_hello(LITERAL("pgss\x02\0"), &message));
    assert_false(wire_decode_hello(LITERAL("pgss\x02\0\0\0\0\0\0"), &message));
}

static struct wire_subscribe full_subscription(void) {
    struct wire_subscribe message = {.token = UINT64_MAX,
                                     .form = WIRE_FORM_TOPICS,
                                     .position_kind = POSITION_KNOWN,
                                     .position = place,
                                     .user = LITERAL("anna"),
                                     .tenant = LITERAL("t\0t")};
    message.topics.count = 3;
    message.topics.names[0] = LITERAL("alpha");
    message.topics.names[1] = LITERAL("");
    message.topics.names[2] = LITERAL("b\xc3\xa9ta");
    return message;
}

static void test_subscribe(void **state) {
    (void)state;
    struct wire_subscribe wanted = full_subscription();
    struct wire_subscribe got;
    struct payload *frame = wire_encode_subscribe(&wanted);
    assert_true(wire_decode_subscribe(body_of(frame, WIRE_SUBSCRIBE), &got));
    assert_true(got.token == wanted.token && got.form == wanted.form);
    assert_int_equal(got.position_kind, POSITION_KNOWN);
    expect_position(&got.position, &place);
    expect_slice(got.user, wanted.user, "user");
    expect_slice(got.tenant, wanted.tenant, "tenant");
    assert_int_equal(got.topics.count, 3);
    for (size_t i = 0; i < 3; i++) {
        expect_slice(got.topics.names[i], wanted.topics.names[i], "topic");
    }
    payload_unref(&frame);
}

static void test_subscribe_without_position(void **state) {
    (void)state;
    for (int kind = POSITION_NONE; kind <= POSITION_KNOWN; kind++) {
        struct wire_subscribe wanted = {
            .token = 1, .position_kind = (enum position_kind)kind, .topics.count = 1};
        struct wire_subscribe got;
        wanted.topics.names[0] = LITERAL("a");
        struct payload *frame = wire_encode_subscribe(&wanted);
        assert_true(wire_decode_subscribe(body_of(frame, WIRE_SUBSCRIBE), &got));
        assert_int_equal(got.position_kind, kind);
        expect_position(&got.position, &nowhere);
        payload_unref(&frame);
    }
}

static void test_topics_up_to_the_maximum(void **state) {
    (void)state;
    struct wire_unsubscribe wanted = {.token = 9};
    for (size_t i = 0; i < WIRE_TOPICS_MAX; i++) {
        wanted.topics.names[i] = (struct slice){"0123456789012345678901234567890123456789", i % 40};
    }
    for (size_t count = 0; count <= WIRE_TOPICS_MAX; count++) {
        struct wire_unsubscribe got;
        wanted.topics.count = count;
        struct payload *frame = wire_encode_unsubscribe(&wanted);
        assert_int_equal(wire_decode_unsubscribe(body_of(frame, WIRE_UNSUBSCRIBE), &got),
                         count > 0);
        if (count > 0) {
            assert_int_equal(got.topics.count, count);
            expect_slice(got.topics.names[count - 1], wanted.topics.names[count - 1], "last");
        }
        payload_unref(&frame);
    }
}

/* 65 topics, announced and there. */
static void test_topics_one_over_the_maximum(void **state) {
    (void)state;
    struct buf body = {0};
    struct wire_unsubscribe got;
    buf_append(&body, "\x01\0\0\0\0\0\0\0\x41\0", 10);
    for (int i = 0; i < WIRE_TOPICS_MAX + 1; i++) {
        buf_append(&body, "\x01\0\0\0a", 5);
    }
    assert_false(wire_decode_unsubscribe(buf_slice(&body), &got));
    buf_release(&body);
}

static void test_ask_position(void **state) {
    (void)state;
    struct payload *frame = wire_encode_ask_position(UINT64_MAX);
    uint64_t token;
    assert_true(wire_decode_ask_position(body_of(frame, WIRE_ASK_POSITION), &token));
    assert_true(token == UINT64_MAX);
    payload_unref(&frame);
}

static void test_ask_health(void **state) {
    (void)state;
    static const struct {
        uint32_t limit;
        bool is_good;
    } cases[] = {{0, true}, {65536, true}, {65537, false}, {UINT32_MAX, false}};
    for (size_t i = 0; i < length_of(cases); i++) {
        struct wire_ask_health wanted = {12, cases[i].limit};
        struct wire_ask_health got;
        struct payload *frame = wire_encode_ask_health(&wanted);
        bool is_good = wire_decode_ask_health(body_of(frame, WIRE_ASK_HEALTH), &got);
        assert_int_equal(is_good, cases[i].is_good);
        if (is_good) {
            assert_int_equal(got.token, 12);
            assert_int_equal(got.limit, cases[i].limit);
        }
        payload_unref(&frame);
    }
}

static void test_accepted(void **state) {
    (void)state;
    for (int follows = 0; follows < 2; follows++) {
        struct wire_accepted wanted = {3, follows == 1, place};
        struct wire_accepted got;
        struct payload *frame = wire_encode_accepted(&wanted);
        assert_true(wire_decode_accepted(body_of(frame, WIRE_ACCEPTED), &got));
        assert_int_equal(got.token, 3);
        assert_int_equal(got.follows, follows);
        expect_position(&got.position, &place);
        payload_unref(&frame);
    }
}

static void test_refused(void **state) {
    (void)state;
    struct wire_refused wanted = {3, 403, LITERAL("not \0 yours")};
    struct wire_refused got;
    struct payload *frame = wire_encode_refused(&wanted);
    assert_true(wire_decode_refused(body_of(frame, WIRE_REFUSED), &got));
    assert_int_equal(got.token, 3);
    assert_int_equal(got.status, 403);
    expect_slice(got.text, wanted.text, "text");
    payload_unref(&frame);
}

static void test_refresh(void **state) {
    (void)state;
    for (int reason = 0; reason < SSE_REFRESH_REASONS; reason++) {
        struct wire_refresh wanted = {0, LITERAL("al\0pha"), place, (enum sse_refresh_reason)reason,
                                      SSE_DROPPED_UNKNOWN};
        struct wire_refresh got;
        struct payload *frame = wire_encode_refresh(&wanted);
        assert_true(wire_decode_refresh(body_of(frame, WIRE_REFRESH), &got));
        assert_int_equal(got.token, 0);
        assert_int_equal(got.reason, reason);
        expect_slice(got.topic, wanted.topic, "topic");
        assert_true(got.dropped == SSE_DROPPED_UNKNOWN);
        expect_position(&got.position, &place);
        payload_unref(&frame);
    }
}

static void test_position(void **state) {
    (void)state;
    static const enum wire_type types[] = {WIRE_SUBSCRIBED, WIRE_POSITION};
    for (size_t i = 0; i < length_of(types); i++) {
        struct wire_position wanted = {UINT64_MAX - 1, place};
        struct wire_position got;
        struct payload *frame = wire_encode_position(types[i], &wanted);
        assert_true(wire_decode_position(body_of(frame, types[i]), &got));
        assert_true(got.token == wanted.token);
        expect_position(&got.position, &place);
        payload_unref(&frame);
    }
}

static void test_event(void **state) {
    (void)state;
    for (size_t id_at = 0; id_at <= 4; id_at++) {
        struct wire_event wanted = {place, LITERAL("alpha"), LITERAL("own"), id_at,
                                    LITERAL("b\0dy")};
        struct wire_event got;
        struct payload *frame = wire_encode_event(&wanted);
        assert_true(wire_decode_event(body_of(frame, WIRE_EVENT), &got));
        expect_position(&got.position, &place);
        expect_slice(got.topic, wanted.topic, "topic");
        expect_slice(got.publisher_id, wanted.publisher_id, "publisher id");
        expect_slice(got.body, wanted.body, "body");
        assert_int_equal(got.id_at, id_at);
        payload_unref(&frame);
    }
}

static void test_replay(void **state) {
    (void)state;
    struct wire_replay wanted = {UINT64_MAX,
                                 {place, LITERAL("alpha"), LITERAL("own"), 2, LITERAL("b\0dy")}};
    struct wire_replay got;
    struct payload *frame = wire_encode_replay(&wanted);
    struct payload *event = wire_encode_event(&wanted.event);
    assert_true(wire_decode_replay(body_of(frame, WIRE_REPLAY), &got));
    assert_true(got.token == UINT64_MAX);
    expect_position(&got.event.position, &place);
    expect_slice(got.event.topic, wanted.event.topic, "topic");
    expect_slice(got.event.publisher_id, wanted.event.publisher_id, "publisher id");
    assert_int_equal(got.event.id_at, 2);
    expect_slice(got.event.body, wanted.event.body, "body");
    /* behind the token, an EVENT's body */
    struct slice body = wire_body(frame);
    expect_slice((struct slice){body.at + 8, body.length - 8}, wire_body(event), "an EVENT's body");
    payload_unref(&frame);
    payload_unref(&event);
}

static void test_replay_with_id_behind_its_body(void **state) {
    (void)state;
    struct wire_replay wanted = {1, {.topic = LITERAL("a"), .id_at = 5, .body = LITERAL("body")}};
    struct wire_replay got;
    struct payload *frame = wire_encode_replay(&wanted);
    assert_false(wire_decode_replay(body_of(frame, WIRE_REPLAY), &got));
    payload_unref(&frame);
}

static void test_credit(void **state) {
    (void)state;
    static const struct {
        struct wire_credit message;
        bool is_good;
    } cases[] = {
        {{1, 1}, true}, {{UINT64_MAX, UINT32_MAX}, true}, {{0, 1}, false}, {{1, 0}, false}};
    for (size_t i = 0; i < length_of(cases); i++) {
        struct wire_credit got;
        struct payload *frame = wire_encode_credit(&cases[i].message);
        assert_int_equal(wire_decode_credit(body_of(frame, WIRE_CREDIT), &got), cases[i].is_good);
        assert_true(!cases[i].is_good ||
                    (got.token == cases[i].message.token && got.bytes == cases[i].message.bytes));
        payload_unref(&frame);
    }
}

static void test_event_with_id_behind_its_body(void **state) {
    (void)state;
    struct wire_event wanted = {.topic = LITERAL("a"), .id_at = 5, .body = LITERAL("body")};
    struct wire_event got;
    struct payload *frame = wire_encode_event(&wanted);
    assert_false(wire_decode_event(body_of(frame, WIRE_EVENT), &got));
    payload_unref(&frame);
}

static void test_health(void **state) {
    (void)state;
    struct wire_health wanted = {8, 503, LITERAL("{}")};
    struct wire_health got;
    struct payload *frame = wire_encode_health(&wanted);
    assert_true(wire_decode_health(body_of(frame, WIRE_HEALTH), &got));
    assert_int_equal(got.token, 8);
    assert_int_equal(got.status, 503);
    expect_text(got.document, "{}");
    payload_unref(&frame);
}

static void test_goodbye(void **state) {
    (void)state;
    struct payload *frame = wire_encode_goodbye("so long");
    struct slice reason;
    assert_true(wire_decode_goodbye(body_of(frame, WIRE_GOODBYE), &reason));
    expect_text(reason, "so long");
    payload_unref(&frame);
}

/* --- what breaks the rules -------------------------------------------------------------------- */

/* One value of each kind behind one shape, so that all can be broken in the same ways. */
static bool decode(enum wire_type type, struct slice body) {
    union {
        struct wire_hello hello;
        struct wire_subscribe subscribe;
        struct wire_unsubscribe unsubscribe;
        struct wire_resume resume;
        struct wire_credit credit;
        struct wire_replay replay;
        struct wire_ask_health ask_health;
        struct wire_accepted accepted;
        struct wire_refused refused;
        struct wire_refresh refresh;
        struct wire_position position;
        struct wire_event event;
        struct wire_health health;
        struct slice reason;
        uint64_t token;
        uint32_t serial;
    } to;
    switch (type) {
    case WIRE_HELLO:
    case WIRE_WELCOME:
        return wire_decode_hello(body, &to.hello);
    case WIRE_SUBSCRIBE:
        return wire_decode_subscribe(body, &to.subscribe);
    case WIRE_UNSUBSCRIBE:
        return wire_decode_unsubscribe(body, &to.unsubscribe);
    case WIRE_ASK_POSITION:
        return wire_decode_ask_position(body, &to.token);
    case WIRE_ASK_HEALTH:
        return wire_decode_ask_health(body, &to.ask_health);
    case WIRE_ACCEPTED:
        return wire_decode_accepted(body, &to.accepted);
    case WIRE_REFUSED:
        return wire_decode_refused(body, &to.refused);
    case WIRE_REFRESH:
        return wire_decode_refresh(body, &to.refresh);
    case WIRE_SUBSCRIBED:
    case WIRE_POSITION:
        return wire_decode_position(body, &to.position);
    case WIRE_EVENT:
        return wire_decode_event(body, &to.event);
    case WIRE_HEALTH:
        return wire_decode_health(body, &to.health);
    case WIRE_ASK_REPORT:
        return wire_decode_ask_report(body, &to.serial);
    case WIRE_GOODBYE:
        return wire_decode_goodbye(body, &to.reason);
    case WIRE_CREDIT:
        return wire_decode_credit(body, &to.credit);
    case WIRE_REPLAY:
        return wire_decode_replay(body, &to.replay);
    case WIRE_RESUME:
        return wire_decode_resume(body, &to.resume);
    case WIRE_REPORT:
        break;
    }
    fail_msg("type %d", (int)type);
    return false;
}

enum { SAMPLES = 15 };

static void samples_encode(struct payload *samples[SAMPLES]) {
    struct wire_subscribe subscribe = full_subscription();
    struct wire_unsubscribe unsubscribe = {5, subscribe.topics};
    struct wire_ask_health ask_health = {6, 1000};
    struct wire_accepted accepted = {7, true, place};
    struct wire_refused refused = {8, 403, LITERAL("no")};
    struct wire_refresh refresh = {9, LITERAL("alpha"), place, SSE_REFRESH_GAP, 12};
    struct wire_position position = {10, place};
    struct wire_event event = {place, LITERAL("alpha"), LITERAL("own"), 2, LITERAL("body")};
    struct wire_replay replay = {14, event};
    struct wire_credit credit = {15, 16};
    struct wire_health health = {11, 200, LITERAL("{}")};
    struct payload *all[SAMPLES] = {
        wire_encode_hello(WIRE_HELLO, 1),
        wire_encode_subscribe(&subscribe),
        wire_encode_unsubscribe(&unsubscribe),
        wire_encode_ask_position(12),
        wire_encode_ask_health(&ask_health),
        wire_encode_accepted(&accepted),
        wire_encode_refused(&refused),
        wire_encode_refresh(&refresh),
        wire_encode_position(WIRE_POSITION, &position),
        wire_encode_event(&event),
        wire_encode_replay(&replay),
        wire_encode_credit(&credit),
        wire_encode_health(&health),
        wire_encode_ask_report(13),
        wire_encode_goodbye("bye"),
    };
    memcpy(samples, all, sizeof all);
}

static void test_truncated_and_too_long(void **state) {
    (void)state;
    struct payload *samples[SAMPLES];
    samples_encode(samples);
    for (size_t i = 0; i < SAMPLES; i++) {
        enum wire_type type = (enum wire_type)samples[i]->bytes[4];
        struct slice body = body_of(samples[i], type);
        assert_true(decode(type, body));
        for (size_t length = 0; length < body.length; length++) {
            char *memory;
            struct slice part = exact((struct slice){body.at, length}, &memory);
            if (decode(type, part)) {
                fail_msg("type %d takes %zu of %zu bytes", (int)type, length, body.length);
            }
            free(memory);
        }
        char *longer = must_alloc(body.length + 1);
        memcpy(longer, body.at, body.length);
        longer[body.length] = 0;
        if (decode(type, (struct slice){longer, body.length + 1})) {
            fail_msg("type %d takes one byte too many", (int)type);
        }
        free(longer);
        payload_unref(&samples[i]);
    }
}

/* Whatever bit is flipped, and whatever byte is put anywhere: an answer, and nothing worse. */
static void test_flipped_bytes(void **state) {
    (void)state;
    static const unsigned char others[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
    struct payload *samples[SAMPLES];
    samples_encode(samples);
    for (size_t i = 0; i < SAMPLES; i++) {
        enum wire_type type = (enum wire_type)samples[i]->bytes[4];
        char *memory;
        struct slice body = exact(body_of(samples[i], type), &memory);
        for (size_t at = 0; at < body.length; at++) {
            char kept = memory[at];
            for (unsigned bit = 0; bit < 8; bit++) {
                memory[at] = (char)(kept ^ (1 << bit));
                (void)(decode(type, body) == true);
            }
            for (size_t o = 0; o < length_of(others); o++) {
                memory[at] = (char)others[o];
                (void)(decode(type, body) == true);
            }
            memory[at] = kept;
        }
        assert_true(decode(type, body));
        free(memory);
        payload_unref(&samples[i]);
    }
}

struct broken_case {
    const char *about;
    enum wire_type type;
    struct slice body;
};

#define TOKEN "\x05\0\0\0\0\0\0\0"
#define NOWHERE        \
    "\0\0\0\0\0\0\0\0" \
    "\0\0\0\0"         \
    "\0\0\0\0\0\0\0\0"
#define MARKED(marker) \
    "\0\0\0\0\0\0\0\0" \
    "\x0d\0\0\0" marker "\0\0\0\0\0\0\0\0"
#define A_TOPIC  \
    "\x01\0"     \
    "\x01\0\0\0" \
    "a"

static const struct broken_case broken[] = {
    {"HELLO with another magic", WIRE_HELLO, LITERAL("pgsX\x02\0\0\0\0\0")},
    {"SUBSCRIBE with token 0", WIRE_SUBSCRIBE,
     LITERAL("\0\0\0\0\0\0\0\0"
             "\0\0" NOWHERE "\0\0\0\0"
             "\0\0\0\0" A_TOPIC)},
    {"SUBSCRIBE of an unknown form", WIRE_SUBSCRIBE,
     LITERAL(TOKEN "\x01\0" NOWHERE "\0\0\0\0"
                   "\0\0\0\0" A_TOPIC)},
    {"SUBSCRIBE of an unknown kind", WIRE_SUBSCRIBE,
     LITERAL(TOKEN "\0\x04" NOWHERE "\0\0\0\0"
                   "\0\0\0\0" A_TOPIC)},
    {"SUBSCRIBE without topic", WIRE_SUBSCRIBE,
     LITERAL(TOKEN "\0\0" NOWHERE "\0\0\0\0"
                   "\0\0\0\0"
                   "\0\0")},
    {"SUBSCRIBE with a user of 4 GiB", WIRE_SUBSCRIBE,
     LITERAL(TOKEN "\0\0" NOWHERE "\xff\xff\xff\xff"
                   "\0\0\0\0" A_TOPIC)},
    {"UNSUBSCRIBE of 65535 topics", WIRE_UNSUBSCRIBE,
     LITERAL(TOKEN "\xff\xff"
                   "\0\0\0\0")},
    {"UNSUBSCRIBE of two with one there", WIRE_UNSUBSCRIBE,
     LITERAL(TOKEN "\x02\0"
                   "\0\0\0\0")},
    {"ASK_POSITION with token 0", WIRE_ASK_POSITION, LITERAL("\0\0\0\0\0\0\0\0")},
    {"POSITION with a marker of 12", WIRE_POSITION,
     LITERAL(TOKEN "\0\0\0\0\0\0\0\0"
                   "\x0c\0\0\0"
                   "abcdefghijkl"
                   "\0\0\0\0\0\0\0\0")},
    {"POSITION with a marker of 14", WIRE_POSITION,
     LITERAL(TOKEN "\0\0\0\0\0\0\0\0"
                   "\x0e\0\0\0"
                   "abcdefghijklmn"
                   "\0\0\0\0\0\0\0\0")},
    {"POSITION with a marker in capitals", WIRE_POSITION, LITERAL(TOKEN MARKED("ABCDEFGHIJKLM"))},
    {"POSITION with a NUL in its marker", WIRE_POSITION, LITERAL(TOKEN MARKED("abcdef\0hijklm"))},
    {"ACCEPTED where follows is 2", WIRE_ACCEPTED, LITERAL(TOKEN "\x02" NOWHERE)},
    {"REFRESH with an unknown reason", WIRE_REFRESH,
     LITERAL(TOKEN "\0\0\0\0" NOWHERE "\x04" TOKEN)},
    {"EVENT with id_at of 4 GiB", WIRE_EVENT,
     LITERAL(NOWHERE "\x01\0\0\0"
                     "a"
                     "\0\0\0\0"
                     "\xff\xff\xff\xff"
                     "\x01\0\0\0"
                     "b")},
};

static void test_broken_rules(void **state) {
    (void)state;
    for (size_t i = 0; i < length_of(broken); i++) {
        char *memory;
        struct slice body = exact(broken[i].body, &memory);
        if (decode(broken[i].type, body)) {
            fail_msg("%s", broken[i].about);
        }
        free(memory);
    }
}

/* The same shapes, unbroken: so that the table above breaks what it says. */
static void test_unbroken_shapes(void **state) {
    (void)state;
    static const struct broken_case shapes[] = {
        {"SUBSCRIBE", WIRE_SUBSCRIBE,
         LITERAL(TOKEN "\0\0" NOWHERE "\0\0\0\0"
                       "\0\0\0\0" A_TOPIC)},
        {"POSITION", WIRE_POSITION, LITERAL(TOKEN MARKED("abcdefghijklm"))},
        {"ACCEPTED", WIRE_ACCEPTED, LITERAL(TOKEN "\x01" NOWHERE)},
        {"REFRESH", WIRE_REFRESH, LITERAL(TOKEN "\0\0\0\0" NOWHERE "\x03" TOKEN)},
        {"EVENT", WIRE_EVENT,
         LITERAL(NOWHERE "\x01\0\0\0"
                         "a"
                         "\0\0\0\0"
                         "\x01\0\0\0"
                         "\x01\0\0\0"
                         "b")},
    };
    for (size_t i = 0; i < length_of(shapes); i++) {
        if (!decode(shapes[i].type, shapes[i].body)) {
            fail_msg("%s", shapes[i].about);
        }
    }
}

/* --- reports ---------------------------------------------------------------------------------- */

static void test_report(void **state) {
    (void)state;
    struct buf builder = {0};
    struct wire_report_entry wanted = {LITERAL("alpha"), 1, 2, 3, 4, UINT64_MAX};
    struct wire_report report;
    struct wire_report_entry got;
    wire_report_begin(&builder, 77);
    assert_true(wire_report_add(&builder, &wanted));
    struct payload *frame = wire_report_end(&builder, true);
    assert_int_equal(builder.length, 0);
    assert_true(wire_decode_report(body_of(frame, WIRE_REPORT), &report));
    assert_int_equal(report.serial, 77);
    assert_true(report.is_last);
    assert_int_equal(report.count, 1);
    assert_true(wire_next_report_entry(&report, &got));
    expect_text(got.topic, "alpha");
    assert_true(got.delivered == 1 && got.dropped_events == 2 && got.dropped_clients == 3 &&
                got.pending_events == 4 && got.queued_bytes == UINT64_MAX);
    assert_false(wire_next_report_entry(&report, &got));
    payload_unref(&frame);
}

static void test_report_without_entries(void **state) {
    (void)state;
    struct buf builder = {0};
    struct wire_report report;
    struct wire_report_entry got;
    wire_report_begin(&builder, UINT32_MAX);
    struct payload *frame = wire_report_end(&builder, false);
    assert_true(wire_decode_report(body_of(frame, WIRE_REPORT), &report));
    assert_true(report.serial == UINT32_MAX && !report.is_last && report.count == 0);
    assert_false(wire_next_report_entry(&report, &got));
    payload_unref(&frame);
}

/* The count carries into its second byte at 256, and a full builder takes nothing more. Entries of
 * no name are the smallest, so this is also the largest count that a frame can hold. */
static void test_report_up_to_full(void **state) {
    (void)state;
    struct buf builder = {0};
    struct wire_report_entry entry = {.topic = LITERAL("")};
    struct wire_report report;
    struct wire_report_entry got;
    uint32_t count = 0;
    wire_report_begin(&builder, 1);
    while (wire_report_add(&builder, &entry)) {
        count++;
        entry.delivered = count;
    }
    size_t length = builder.length;
    assert_true(count > 1000);
    assert_true(length <= WIRE_REQUEST_BYTES_MAX && length + 44 > WIRE_REQUEST_BYTES_MAX);
    assert_false(wire_report_add(&builder, &entry));
    assert_int_equal(builder.length, length);
    struct payload *frame = wire_report_end(&builder, false);
    struct slice input = {frame->bytes, frame->length};
    struct wire_frame taken;
    assert_int_equal(wire_next(&input, WIRE_REQUEST_BYTES_MAX, &taken), WIRE_NEXT_FRAME);
    assert_true(wire_decode_report(taken.body, &report));
    assert_int_equal(report.count, count);
    for (uint32_t i = 0; i < count; i++) {
        assert_true(wire_next_report_entry(&report, &got));
        assert_int_equal(got.delivered, i);
    }
    assert_false(wire_next_report_entry(&report, &got));
    assert_int_equal(report.entries.length, 0);
    payload_unref(&frame);
}

static void test_report_counts_around_the_carry(void **state) {
    (void)state;
    static const uint32_t counts[] = {127, 128, 254, 255, 256, 257, 511, 512, 513};
    for (size_t i = 0; i < length_of(counts); i++) {
        struct buf builder = {0};
        struct wire_report report;
        struct wire_report_entry entry = {.topic = LITERAL("t")};
        wire_report_begin(&builder, 1);
        for (uint32_t n = 0; n < counts[i]; n++) {
            assert_true(wire_report_add(&builder, &entry));
        }
        struct payload *frame = wire_report_end(&builder, true);
        assert_true(wire_decode_report(body_of(frame, WIRE_REPORT), &report));
        assert_int_equal(report.count, counts[i]);
        payload_unref(&frame);
    }
}

/* What a full builder refuses goes into the next one. */
static void test_report_largest_name_when_nearly_full(void **state) {
    (void)state;
    struct buf builder = {0};
    char *name = repeated('n', 255);
    struct wire_report_entry small = {.topic = LITERAL("")};
    struct wire_report_entry large = {.topic = {name, 255}};
    wire_report_begin(&builder, 1);
    while (wire_report_add(&builder, &large)) {
    }
    size_t left = WIRE_REQUEST_BYTES_MAX - builder.length;
    assert_int_equal(wire_report_add(&builder, &small), left >= 44);
    struct payload *frame = wire_report_end(&builder, false);
    wire_report_begin(&builder, 1);
    assert_true(wire_report_add(&builder, &large));
    struct payload *next = wire_report_end(&builder, true);
    assert_true(next->length < frame->length);
    payload_unref(&frame);
    payload_unref(&next);
    free(name);
}

/* Reading a report, whatever happened to it: all that it promises comes, and nothing is left. */
static bool report_is_sound(struct slice body) {
    struct wire_report report;
    struct wire_report_entry entry;
    if (!wire_decode_report(body, &report)) {
        return false;
    }
    uint32_t promised = report.count;
    uint32_t taken = 0;
    while (wire_next_report_entry(&report, &entry)) {
        taken++;
    }
    return taken == promised && report.entries.length == 0;
}

static void test_report_truncated_too_long_and_flipped(void **state) {
    (void)state;
    struct buf builder = {0};
    struct wire_report_entry entry = {LITERAL("alpha"), 1, 2, 3, 4, 5};
    wire_report_begin(&builder, 1);
    assert_true(wire_report_add(&builder, &entry) && wire_report_add(&builder, &entry));
    struct payload *frame = wire_report_end(&builder, true);
    struct slice body = body_of(frame, WIRE_REPORT);
    assert_true(report_is_sound(body));
    for (size_t length = 0; length < body.length; length++) {
        char *memory;
        struct slice part = exact((struct slice){body.at, length}, &memory);
        if (report_is_sound(part)) {
            fail_msg("%zu of %zu bytes", length, body.length);
        }
        for (size_t at = 0; at < length; at++) {
            memory[at] = (char)(memory[at] ^ 0xff);
            (void)(report_is_sound(part) == true);
            memory[at] = (char)(memory[at] ^ 0xff);
        }
        free(memory);
    }
    struct buf longer = {0};
    buf_append_slice(&longer, body);
    buf_append(&longer, "", 1);
    assert_false(report_is_sound(buf_slice(&longer)));
    buf_release(&longer);
    payload_unref(&frame);
}

static void test_report_that_promises_too_much(void **state) {
    (void)state;
    assert_true(report_is_sound(LITERAL("\x01\0\0\0\x01\0\0\0\0")));
    assert_false(report_is_sound(LITERAL("\x01\0\0\0\x02\0\0\0\0")));
    struct wire_report report;
    struct wire_report_entry entry;
    assert_true(wire_decode_report(LITERAL("\x01\0\0\0\x01\xff\xff\xff\xff"), &report));
    assert_false(wire_next_report_entry(&report, &entry));
}

/* --- resuming ----------------------------------------------------------------------------------
 */

static void test_resume(void **state) {
    (void)state;
    static const struct {
        enum position_kind kind;
        const struct position *position;
        bool is_last;
    } cases[] = {{POSITION_KNOWN, &place, true},
                 {POSITION_KNOWN, &place, false},
                 {POSITION_NONE, &nowhere, true}};
    for (size_t i = 0; i < length_of(cases); i++) {
        struct buf builder = {0};
        struct wire_resume_entry alpha = {LITERAL("alpha"), 1};
        struct wire_resume_entry nameless = {LITERAL(""), UINT32_MAX};
        struct wire_resume resume;
        struct wire_resume_entry got;
        wire_resume_begin(&builder, cases[i].kind, cases[i].position);
        assert_true(wire_resume_add(&builder, &alpha) && wire_resume_add(&builder, &nameless));
        struct payload *frame = wire_resume_end(&builder, cases[i].is_last);
        assert_int_equal(builder.length, 0);
        assert_true(wire_decode_resume(body_of(frame, WIRE_RESUME), &resume));
        assert_int_equal(resume.is_last, cases[i].is_last);
        assert_int_equal(resume.position_kind, cases[i].kind);
        expect_position(&resume.position, cases[i].position);
        assert_int_equal(resume.count, 2);
        assert_true(wire_next_resume_entry(&resume, &got));
        expect_text(got.topic, "alpha");
        assert_int_equal(got.clients, 1);
        assert_true(wire_next_resume_entry(&resume, &got));
        expect_text(got.topic, "");
        assert_true(got.clients == UINT32_MAX);
        assert_false(wire_next_resume_entry(&resume, &got));
        assert_true(resume.count == 0 && resume.entries.length == 0);
        payload_unref(&frame);
    }
}

/* Wherever the count stands (behind a marker, or none) and carries; and what is full stays so. */
static void test_resume_up_to_full(void **state) {
    (void)state;
    static const struct position *const positions[] = {&place, &nowhere};
    for (size_t i = 0; i < length_of(positions); i++) {
        struct buf builder = {0};
        struct wire_resume_entry entry = {LITERAL(""), 1};
        struct wire_resume resume;
        struct wire_resume_entry got;
        uint32_t count = 0;
        wire_resume_begin(&builder, POSITION_KNOWN, positions[i]);
        while (wire_resume_add(&builder, &entry)) {
            entry.clients = ++count + 1;
        }
        size_t length = builder.length;
        assert_true(count > 1000);
        assert_true(length <= WIRE_REQUEST_BYTES_MAX && length + 8 > WIRE_REQUEST_BYTES_MAX);
        assert_false(wire_resume_add(&builder, &entry));
        assert_int_equal(builder.length, length);
        struct payload *frame = wire_resume_end(&builder, true);
        struct slice input = {frame->bytes, frame->length};
        struct wire_frame taken;
        assert_int_equal(wire_next(&input, WIRE_REQUEST_BYTES_MAX, &taken), WIRE_NEXT_FRAME);
        assert_true(wire_decode_resume(taken.body, &resume));
        assert_int_equal(resume.count, count);
        expect_position(&resume.position, positions[i]);
        for (uint32_t n = 1; n <= count; n++) {
            assert_true(wire_next_resume_entry(&resume, &got));
            assert_int_equal(got.clients, n);
        }
        assert_false(wire_next_resume_entry(&resume, &got));
        assert_int_equal(resume.entries.length, 0);
        payload_unref(&frame);
    }
}

static bool resume_is_sound(struct slice body) {
    struct wire_resume resume;
    struct wire_resume_entry entry;
    if (!wire_decode_resume(body, &resume)) {
        return false;
    }
    while (wire_next_resume_entry(&resume, &entry)) {
    }
    return resume.count == 0 && resume.entries.length == 0;
}

static void test_resume_truncated_too_long_and_flipped(void **state) {
    (void)state;
    struct buf builder = {0};
    struct wire_resume_entry entry = {LITERAL("alpha"), 3};
    wire_resume_begin(&builder, POSITION_KNOWN, &place);
    assert_true(wire_resume_add(&builder, &entry) && wire_resume_add(&builder, &entry));
    struct payload *frame = wire_resume_end(&builder, true);
    struct slice body = body_of(frame, WIRE_RESUME);
    struct buf longer = {0};
    assert_true(resume_is_sound(body));
    for (size_t length = 0; length < body.length; length++) {
        char *memory;
        struct slice part = exact((struct slice){body.at, length}, &memory);
        if (resume_is_sound(part)) {
            fail_msg("%zu of %zu bytes", length, body.length);
        }
        for (size_t at = 0; at < length; at++) {
            memory[at] = (char)(memory[at] ^ 0xff);
            (void)(resume_is_sound(part) == true);
            memory[at] = (char)(memory[at] ^ 0xff);
        }
        free(memory);
    }
    buf_append_slice(&longer, body);
    buf_append(&longer, "", 1);
    assert_false(resume_is_sound(buf_slice(&longer)));
    buf_release(&longer);
    payload_unref(&frame);
}

static void test_resume_that_breaks_the_rules(void **state) {
    (void)state;
    static const struct {
        const char *about;
        struct slice body;
        bool is_sound;
    } cases[] = {
        {"none", LITERAL("\x01\0" NOWHERE "\0\0\0\0"), true},
        {"one topic", LITERAL("\x01\x03" MARKED("abcdefghijklm") "\x01\0\0\0\0\0\0\0\x01\0\0\0"),
         true},
        {"no clients", LITERAL("\x01\0" NOWHERE "\x01\0\0\0\0\0\0\0\0\0\0\0"), false},
        {"is_last is 2", LITERAL("\x02\0" NOWHERE "\0\0\0\0"), false},
        {"of kind MALFORMED", LITERAL("\x01\x01" NOWHERE "\0\0\0\0"), false},
        {"of kind ALL", LITERAL("\x01\x02" NOWHERE "\0\0\0\0"), false},
        {"of an unknown kind", LITERAL("\x01\x04" NOWHERE "\0\0\0\0"), false},
        {"a marker in capitals", LITERAL("\x01\x03" MARKED("ABCDEFGHIJKLM") "\0\0\0\0"), false},
        {"promises 4 GiB", LITERAL("\x01\0" NOWHERE "\xff\xff\xff\xff"), false},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        char *memory;
        struct slice body = exact(cases[i].body, &memory);
        if (resume_is_sound(body) != cases[i].is_sound) {
            fail_msg("%s", cases[i].about);
        }
        free(memory);
    }
}

RUN_TESTS(TEST(test_frame_bytes), TEST(test_position_bytes), TEST(test_frames_split_at_every_byte),
          TEST(test_frames_one_after_the_other), TEST(test_frames_too_long), TEST(test_hello),
          TEST(test_hello_of_other_versions), TEST(test_subscribe),
          TEST(test_subscribe_without_position), TEST(test_topics_up_to_the_maximum),
          TEST(test_topics_one_over_the_maximum), TEST(test_ask_position), TEST(test_ask_health),
          TEST(test_accepted), TEST(test_refused), TEST(test_refresh), TEST(test_position),
          TEST(test_event), TEST(test_replay), TEST(test_replay_with_id_behind_its_body),
          TEST(test_credit), TEST(test_event_with_id_behind_its_body), TEST(test_health),
          TEST(test_goodbye), TEST(test_truncated_and_too_long), TEST(test_flipped_bytes),
          TEST(test_broken_rules), TEST(test_unbroken_shapes), TEST(test_report),
          TEST(test_report_without_entries), TEST(test_report_up_to_full),
          TEST(test_report_counts_around_the_carry),
          TEST(test_report_largest_name_when_nearly_full),
          TEST(test_report_truncated_too_long_and_flipped),
          TEST(test_report_that_promises_too_much), TEST(test_resume), TEST(test_resume_up_to_full),
          TEST(test_resume_truncated_too_long_and_flipped), TEST(test_resume_that_breaks_the_rules))
