/* The protocol between broker and handlers: every message encoded and decoded, and every way to
 * break one. */
#include "support.h"
#include "wire.h"

static const struct position place = {7, "abcdefghijklm", 1234567890123456789u};
static const struct position nowhere = {0};

/* The pieces of bodies. */
#define U64(byte)          byte "\0\0\0\0\0\0\0"
#define TEXT(length, text) length "\0\0\0" text
#define TOKEN              U64("\x05")
#define NOWHERE            U64("\0") TEXT("\0", "") U64("\0")
#define MARKED(marker)     U64("\0") TEXT("\x0d", marker) U64("\0")
#define SINCE              "\x15\x81\xe9\x7d\xf4\x10\x22\x11"
#define PLACE              U64("\x07") TEXT("\x0d", "abcdefghijklm") SINCE
#define A_TOPIC            "\x01\0" TEXT("\x01", "a")

/* --- frames ----------------------------------------------------------------------------------- */

static struct slice body_of(const struct payload *frame, enum wire_type type) {
    struct slice input = {frame->bytes, frame->length};
    struct wire_frame taken;
    assert_int_equal(wire_next(&input, WIRE_ANSWER_BYTES_MAX, &taken), WIRE_NEXT_FRAME);
    assert_int_equal(taken.type, type);
    assert_int_equal(input.length, 0);
    return taken.body;
}

static void test_frames_split_at_every_byte(void **state) {
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

/* Another version's HELLO is not taken for garbage, whatever that version adds. */
static void test_hello_of_other_versions(void **state) {
    struct wire_hello message;
    assert_true(wire_decode_hello(LITERAL("pgss\x09\0"), &message));
    assert_int_equal(message.version, 9);
    assert_true(wire_decode_hello(LITERAL("pgss\x02\0\x01\x02\x03\x04"), &message));
    assert_int_equal(message.version, 2);
    assert_true(wire_decode_hello(LITERAL("pgss\x01\0more than we know"), &message));
    assert_true(wire_decode_hello(LITERAL("pgss\0\0\x01\x02\x03\x04"), &message));
    assert_int_equal(message.version, 0);
    assert_false(wire_decode_hello(LITERAL("pgsX\x06\0"), &message));
    assert_false(wire_decode_hello(LITERAL("pgss\x08\0"), &message));
    assert_false(wire_decode_hello(LITERAL("pgss\x08\0\0\0\0\0\0"), &message));
}

static struct wire_subscribe full_subscription(enum wire_form form) {
    struct wire_subscribe message = {.token = UINT64_MAX,
                                     .form = form,
                                     .position_kind = POSITION_KNOWN,
                                     .position = place,
                                     .user = LITERAL("an\0na")};
    message.topics.count = 3;
    message.topics.keys[0].bytes = LITERAL("alpha");
    message.topics.keys[1].bytes = LITERAL("");
    message.topics.keys[2].bytes = LITERAL("b\xc3\xa9ta");
    return message;
}

static void expect_topics(const struct names *got, const struct names *wanted) {
    assert_int_equal(got->count, wanted->count);
    for (size_t i = 0; i < wanted->count; i++) {
        expect_slice(got->keys[i].bytes, wanted->keys[i].bytes, "topic");
    }
}

static void test_subscribe(void **state) {
    for (int form = 0; form < WIRE_FORMS; form++) {
        struct wire_subscribe wanted = full_subscription((enum wire_form)form);
        struct wire_subscribe got;
        struct payload *frame = wire_encode_subscribe(&wanted);
        assert_true(wire_decode_subscribe(body_of(frame, WIRE_SUBSCRIBE), &got));
        assert_true(got.token == UINT64_MAX);
        assert_int_equal(got.form, form);
        assert_int_equal(got.position_kind, POSITION_KNOWN);
        expect_position(&got.position, &place);
        expect_slice(got.user, wanted.user, "user");
        expect_topics(&got.topics, &wanted.topics);
        payload_unref(&frame);
    }
}

static void test_subscribe_without_position(void **state) {
    for (int kind = POSITION_NONE; kind <= POSITION_KNOWN; kind++) {
        struct wire_subscribe wanted = {
            .token = 1, .position_kind = (enum position_kind)kind, .topics.count = 1};
        struct wire_subscribe got;
        wanted.topics.keys[0].bytes = LITERAL("a");
        struct payload *frame = wire_encode_subscribe(&wanted);
        assert_true(wire_decode_subscribe(body_of(frame, WIRE_SUBSCRIBE), &got));
        assert_int_equal(got.position_kind, kind);
        expect_position(&got.position, &nowhere);
        payload_unref(&frame);
    }
}

/* Names of all lengths up to 39, the empty one included. */
static struct names many_topics(size_t count) {
    struct names topics = {.count = count};
    for (size_t i = 0; i < count; i++) {
        topics.keys[i].bytes = (struct slice){"0123456789012345678901234567890123456789", i % 40};
    }
    return topics;
}

static void test_topics_up_to_the_maximum(void **state) {
    for (size_t count = 0; count <= NAMES_MAX; count++) {
        struct wire_subscribe subscribe = {.token = 9, .topics = many_topics(count)};
        struct wire_unsubscribe unsubscribe = {.token = 9, .topics = many_topics(count)};
        struct wire_accepted accepted = {.token = 9, .topics = many_topics(count)};
        struct wire_subscribe got_subscribe;
        struct wire_unsubscribe got_unsubscribe;
        struct wire_accepted got_accepted;
        struct payload *frames[] = {wire_encode_subscribe(&subscribe),
                                    wire_encode_unsubscribe(&unsubscribe),
                                    wire_encode_accepted(&accepted)};
        assert_int_equal(wire_decode_subscribe(wire_body(frames[0]), &got_subscribe), count > 0);
        assert_int_equal(wire_decode_unsubscribe(wire_body(frames[1]), &got_unsubscribe),
                         count > 0);
        assert_int_equal(wire_decode_accepted(wire_body(frames[2]), &got_accepted), count > 0);
        expect_topics(&got_subscribe.topics, &subscribe.topics);
        expect_topics(&got_unsubscribe.topics, &unsubscribe.topics);
        expect_topics(&got_accepted.topics, &accepted.topics);
        for (size_t i = 0; i < length_of(frames); i++) {
            payload_unref(&frames[i]);
        }
    }
}

static void test_unsubscribe(void **state) {
    static const uint64_t tokens[] = {0, UINT64_MAX}; /* 0: a live client */
    for (size_t i = 0; i < length_of(tokens); i++) {
        for (int form = 0; form < WIRE_FORMS; form++) {
            struct wire_unsubscribe wanted = {tokens[i], (enum wire_form)form, many_topics(3)};
            struct wire_unsubscribe got;
            struct payload *frame = wire_encode_unsubscribe(&wanted);
            assert_true(wire_decode_unsubscribe(body_of(frame, WIRE_UNSUBSCRIBE), &got));
            assert_true(got.token == tokens[i]);
            assert_int_equal(got.form, form);
            expect_topics(&got.topics, &wanted.topics);
            payload_unref(&frame);
        }
    }
}

static void test_ask_position(void **state) {
    static const uint64_t tokens[] = {0, 1, UINT64_MAX};
    for (size_t i = 0; i < length_of(tokens); i++) {
        struct payload *frame = wire_encode_ask_position(tokens[i]);
        uint64_t token;
        assert_int_equal(wire_decode_ask_position(body_of(frame, WIRE_ASK_POSITION), &token),
                         tokens[i] != 0);
        assert_true(token == tokens[i]);
        payload_unref(&frame);
    }
}

static void test_ask_document(void **state) {
    static const struct {
        struct wire_ask_document wanted;
        bool is_good;
    } cases[] = {{{12, WIRE_FULL_HEALTH, 0, LITERAL("t")}, true},
                 {{12, WIRE_FULL_HEALTH, 65536, LITERAL("t")}, true},
                 {{UINT64_MAX, WIRE_USER_STREAMS, 0, LITERAL("t")}, true},
                 {{1, WIRE_SHORT_HEALTH, 0, LITERAL("t")}, true},
                 {{12, WIRE_FULL_HEALTH, 65537, LITERAL("t")}, false},
                 {{12, WIRE_FULL_HEALTH, UINT32_MAX, LITERAL("t")}, false},
                 {{12, (enum wire_document_kind)WIRE_DOCUMENT_KINDS, 0, LITERAL("t")}, false},
                 {{0, WIRE_FULL_HEALTH, 0, LITERAL("t")}, false},
                 {{12, WIRE_FULL_HEALTH, 0, LITERAL("")}, true},
                 {{12, WIRE_FULL_HEALTH, 0, LITERAL("t\n")}, false},
                 {{12, WIRE_FULL_HEALTH, 0,
                   LITERAL("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdefg")},
                  false}};
    for (size_t i = 0; i < length_of(cases); i++) {
        const struct wire_ask_document *wanted = &cases[i].wanted;
        struct wire_ask_document got;
        struct payload *frame = wire_encode_ask_document(wanted);
        bool is_good = wire_decode_ask_document(body_of(frame, WIRE_ASK_DOCUMENT), &got);
        assert_int_equal(is_good, cases[i].is_good);
        if (is_good) {
            assert_true(got.token == wanted->token && got.kind == wanted->kind);
            assert_int_equal(got.limit, wanted->limit);
            expect_slice(got.tenant, wanted->tenant, "tenant");
        }
        payload_unref(&frame);
    }
}

static void test_accepted(void **state) {
    for (int follows = 0; follows < 2; follows++) {
        struct wire_accepted wanted = {3, follows == 1, place, many_topics(2)};
        struct wire_accepted got;
        struct payload *frame = wire_encode_accepted(&wanted);
        assert_true(wire_decode_accepted(body_of(frame, WIRE_ACCEPTED), &got));
        assert_int_equal(got.token, 3);
        assert_int_equal(got.has_backlog, follows);
        expect_position(&got.position, &place);
        expect_topics(&got.topics, &wanted.topics);
        payload_unref(&frame);
    }
}

static void test_refused(void **state) {
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
    for (int reason = 0; reason < SSE_REFRESH_REASONS; reason++) {
        struct wire_refresh wanted = {.is_durable = reason % 2 == 1,
                                      .topic = {LITERAL("al\0pha")},
                                      .position = place,
                                      .reason = (enum sse_refresh_reason)reason,
                                      .dropped = SSE_DROPPED_UNKNOWN};
        struct wire_refresh got;
        struct payload *frame = wire_encode_refresh(&wanted);
        assert_true(wire_decode_refresh(body_of(frame, WIRE_REFRESH), &got));
        assert_int_equal(got.token, 0);
        assert_int_equal(got.is_durable, reason % 2);
        assert_int_equal(got.reason, reason);
        expect_slice(got.topic.bytes, wanted.topic.bytes, "topic");
        assert_true(got.dropped == SSE_DROPPED_UNKNOWN);
        expect_position(&got.position, &place);
        payload_unref(&frame);
    }
}

static void test_position(void **state) {
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

static struct wire_event event_with(size_t id_at, bool is_durable) {
    return (struct wire_event){is_durable,     id_at > 1, place,           {LITERAL("alpha")},
                               LITERAL("own"), id_at,     LITERAL("b\0dy")};
}

static void expect_event(const struct wire_event *got, const struct wire_event *wanted) {
    assert_int_equal(got->is_durable, wanted->is_durable);
    assert_int_equal(got->is_text, wanted->is_text);
    expect_position(&got->position, &wanted->position);
    expect_slice(got->topic.bytes, wanted->topic.bytes, "topic");
    expect_slice(got->publisher_id, wanted->publisher_id, "publisher id");
    expect_slice(got->body, wanted->body, "body");
    assert_int_equal(got->id_at, wanted->id_at);
}

static void test_event(void **state) {
    for (size_t id_at = 0; id_at <= 4; id_at++) {
        struct wire_event wanted = event_with(id_at, id_at % 2 == 1);
        struct wire_event got;
        struct payload *frame = wire_encode_event(&wanted);
        assert_true(wire_decode_event(body_of(frame, WIRE_EVENT), &got));
        expect_event(&got, &wanted);
        payload_unref(&frame);
    }
}

static void test_replay(void **state) {
    for (int is_durable = 0; is_durable < 2; is_durable++) {
        struct wire_replay wanted = {UINT64_MAX, event_with(2, is_durable == 1)};
        struct wire_replay got;
        struct payload *frame = wire_encode_replay(&wanted);
        struct payload *event = wire_encode_event(&wanted.event);
        assert_true(wire_decode_replay(body_of(frame, WIRE_REPLAY), &got));
        assert_true(got.token == UINT64_MAX);
        expect_event(&got.event, &wanted.event);
        /* after the token, an EVENT's body */
        struct slice body = wire_body(frame);
        expect_slice((struct slice){body.at + 8, body.length - 8}, wire_body(event),
                     "an EVENT's body");
        payload_unref(&frame);
        payload_unref(&event);
    }
}

static void test_replay_with_id_behind_its_body(void **state) {
    struct wire_replay wanted = {1, {.topic = {LITERAL("a")}, .id_at = 5, .body = LITERAL("body")}};
    struct wire_replay got;
    struct payload *frame = wire_encode_replay(&wanted);
    assert_false(wire_decode_replay(body_of(frame, WIRE_REPLAY), &got));
    payload_unref(&frame);
}

static void test_credit(void **state) {
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
    struct wire_event wanted = {.topic = {LITERAL("a")}, .id_at = 5, .body = LITERAL("body")};
    struct wire_event got;
    struct payload *frame = wire_encode_event(&wanted);
    assert_false(wire_decode_event(body_of(frame, WIRE_EVENT), &got));
    payload_unref(&frame);
}

static void test_document(void **state) {
    struct wire_document wanted = {8, 503, LITERAL("{\0}")};
    struct wire_document got;
    struct payload *frame = wire_encode_document(&wanted);
    assert_true(wire_decode_document(body_of(frame, WIRE_DOCUMENT), &got));
    assert_int_equal(got.token, 8);
    assert_int_equal(got.status, 503);
    expect_slice(got.document, wanted.document, "document");
    payload_unref(&frame);
}

/* "" means all users. */
static void test_recheck(void **state) {
    static const struct slice users[] = {LITERAL(""), LITERAL("anna"), LITERAL("an\0na")};
    for (size_t i = 0; i < length_of(users); i++) {
        struct wire_recheck wanted = {LITERAL("acme"), users[i]};
        struct payload *frame = wire_encode_recheck(&wanted);
        struct wire_recheck got;
        assert_true(wire_decode_recheck(body_of(frame, WIRE_RECHECK), &got));
        expect_slice(got.user, users[i], "user");
        expect_text(got.tenant, "acme");
        payload_unref(&frame);
    }
}

static void test_goodbye(void **state) {
    struct payload *frame = wire_encode_goodbye("so long");
    struct slice reason;
    assert_true(wire_decode_goodbye(body_of(frame, WIRE_GOODBYE), &reason));
    expect_text(reason, "so long");
    payload_unref(&frame);
}

/* --- what breaks the rules -------------------------------------------------------------------- */

/* One function to decode all types, so that all can be broken in the same ways. */
static bool decode(enum wire_type type, struct slice body) {
    union {
        struct wire_hello hello;
        struct wire_subscribe subscribe;
        struct wire_unsubscribe unsubscribe;
        struct wire_resume resume;
        struct wire_credit credit;
        struct wire_replay replay;
        struct wire_ask_document ask_document;
        struct wire_recheck recheck;
        struct wire_accepted accepted;
        struct wire_refused refused;
        struct wire_refresh refresh;
        struct wire_position position;
        struct wire_event event;
        struct wire_document document;
        struct slice text;
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
    case WIRE_ASK_DOCUMENT:
        return wire_decode_ask_document(body, &to.ask_document);
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
    case WIRE_DOCUMENT:
        return wire_decode_document(body, &to.document);
    case WIRE_RECHECK:
        return wire_decode_recheck(body, &to.recheck);
    case WIRE_ASK_REPORT:
        return wire_decode_ask_report(body, &to.serial);
    case WIRE_GOODBYE:
        return wire_decode_goodbye(body, &to.text);
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

/* A whole frame and its bytes. A change here changes the protocol, so it needs a new
 * WIRE_VERSION. */
struct sample {
    struct payload *frame;
    struct slice bytes;
};

enum { REQUEST_SAMPLES = 8, ANSWER_SAMPLES = 14, SAMPLES = REQUEST_SAMPLES + ANSWER_SAMPLES };

#define AN_EVENT(is_durable) \
    is_durable PLACE TEXT("\x05", "alpha") TEXT("\x03", "own") "\x02\0\0\0" TEXT("\x04", "body")
#define TWO_TOPICS "\x02\0" TEXT("\x05", "alpha") TEXT("\x01", "b")

static void requests_encode(struct sample samples[REQUEST_SAMPLES]) {
    struct wire_subscribe of_topics = full_subscription(WIRE_FORM_TOPICS);
    struct names two = {2, {{LITERAL("alpha")}, {LITERAL("b")}}};
    struct wire_subscribe of_connections = {.token = 2,
                                            .form = WIRE_FORM_USER,
                                            .position_kind = POSITION_ALL,
                                            .position.durable = 3,
                                            .topics = two};
    struct wire_unsubscribe live = {0, WIRE_FORM_TOPICS, two};
    struct wire_unsubscribe waiting = {5, WIRE_FORM_USER, two};
    struct wire_ask_document ask_document = {6, WIRE_USER_STREAMS, 1000, LITERAL("t")};
    struct wire_credit credit = {15, 0x04030201};
    struct sample all[] = {
        {wire_encode_hello(WIRE_HELLO, 0x04030201),
         LITERAL("\x0a\0\0\0\x01pgss\x08\0\x01\x02\x03\x04")},
        {wire_encode_subscribe(&of_topics),
         LITERAL("\x4c\0\0\0\x02"
                 "\xff\xff\xff\xff\xff\xff\xff\xff\0\x03" PLACE TEXT(
                     "\x05", "an\0na") "\x03\0" TEXT("\x05", "alpha") TEXT("\0", "")
                     TEXT("\x05", "b\xc3\xa9ta"))},
        {wire_encode_subscribe(&of_connections),
         LITERAL("\x32\0\0\0\x02" U64("\x02") "\x01\x02" U64("\x03") TEXT("\0", "") U64("\0")
                     TEXT("\0", "") TWO_TOPICS)},
        {wire_encode_unsubscribe(&live), LITERAL("\x19\0\0\0\x03" U64("\0") "\0" TWO_TOPICS)},
        {wire_encode_unsubscribe(&waiting), LITERAL("\x19\0\0\0\x03" TOKEN "\x01" TWO_TOPICS)},
        {wire_encode_ask_position(12), LITERAL("\x08\0\0\0\x04" U64("\x0c"))},
        {wire_encode_ask_document(&ask_document),
         LITERAL("\x12\0\0\0\x05" U64("\x06") "\x02\xe8\x03\0\0" TEXT("\x01", "t"))},
        {wire_encode_credit(&credit), LITERAL("\x0c\0\0\0\x08" U64("\x0f") "\x01\x02\x03\x04")},
    };
    _Static_assert(length_of(all) == REQUEST_SAMPLES, "as many as there is room for");
    memcpy(samples, all, sizeof all);
}

static void answers_encode(struct sample samples[ANSWER_SAMPLES]) {
    struct wire_accepted accepted = {7, true, place, {2, {{LITERAL("alpha")}, {LITERAL("b")}}}};
    struct wire_refused refused = {8, 403, LITERAL("no")};
    struct wire_refresh for_all = {
        .topic = {LITERAL("alpha")}, .position = place, .reason = SSE_REFRESH_GAP, .dropped = 12};
    struct wire_refresh for_one = {9,         true, {LITERAL("")}, nowhere, SSE_REFRESH_RESTART,
                                   UINT64_MAX};
    struct wire_position position = {10, place};
    struct wire_event event = {false,          true, place,          {LITERAL("alpha")},
                               LITERAL("own"), 2,    LITERAL("body")};
    struct wire_event durable = event;
    struct wire_replay replay = {14, event};
    struct wire_document document = {11, 200, LITERAL("{}")};
    struct wire_recheck recheck = {LITERAL("t"), LITERAL("anna")};
    durable.is_durable = true;
    struct sample all[] = {
        {wire_encode_hello(WIRE_WELCOME, 1), LITERAL("\x0a\0\0\0\x41pgss\x08\0\x01\0\0\0")},
        {wire_encode_accepted(&accepted),
         LITERAL("\x3a\0\0\0\x42" U64("\x07") "\x01" PLACE TWO_TOPICS)},
        {wire_encode_refused(&refused),
         LITERAL("\x10\0\0\0\x43" U64("\x08") "\x93\x01" TEXT("\x02", "no"))},
        {wire_encode_refresh(&for_all),
         LITERAL("\x3c\0\0\0\x44" U64("\0") "\0" TEXT("\x05", "alpha") PLACE "\x02" U64("\x0c"))},
        {wire_encode_refresh(&for_one),
         LITERAL("\x2a\0\0\0\x44" U64("\x09") "\x01" TEXT("\0", "") NOWHERE
                 "\x01\xff\xff\xff\xff\xff\xff\xff\xff")},
        {wire_encode_position(WIRE_SUBSCRIBED, &position),
         LITERAL("\x29\0\0\0\x45" U64("\x0a") PLACE)},
        {wire_encode_event(&event), LITERAL("\x3e\0\0\0\x46" AN_EVENT("\x02"))},
        {wire_encode_event(&durable), LITERAL("\x3e\0\0\0\x46" AN_EVENT("\x03"))},
        {wire_encode_position(WIRE_POSITION, &position),
         LITERAL("\x29\0\0\0\x47" U64("\x0a") PLACE)},
        {wire_encode_document(&document),
         LITERAL("\x10\0\0\0\x48" U64("\x0b") "\xc8\0" TEXT("\x02", "{}"))},
        {wire_encode_ask_report(0x04030201), LITERAL("\x04\0\0\0\x49\x01\x02\x03\x04")},
        {wire_encode_goodbye("bye"), LITERAL("\x07\0\0\0\x4a" TEXT("\x03", "bye"))},
        {wire_encode_replay(&replay), LITERAL("\x46\0\0\0\x4b" U64("\x0e") AN_EVENT("\x02"))},
        {wire_encode_recheck(&recheck),
         LITERAL("\x0d\0\0\0\x4c" TEXT("\x01", "t") TEXT("\x04", "anna"))},
    };
    _Static_assert(length_of(all) == ANSWER_SAMPLES, "as many as there is room for");
    memcpy(samples, all, sizeof all);
}

static void samples_encode(struct sample samples[SAMPLES]) {
    requests_encode(samples);
    answers_encode(samples + REQUEST_SAMPLES);
}

static void test_bytes_of_each_frame(void **state) {
    struct sample samples[SAMPLES];
    samples_encode(samples);
    for (size_t i = 0; i < SAMPLES; i++) {
        struct slice got = {samples[i].frame->bytes, samples[i].frame->length};
        if (!slice_equals(got, samples[i].bytes)) {
            fail_msg("sample %zu, of type %d, has other bytes", i, got.at[4]);
        }
        payload_unref(&samples[i].frame);
    }
}

static void test_truncated_and_too_long(void **state) {
    struct sample samples[SAMPLES];
    samples_encode(samples);
    for (size_t i = 0; i < SAMPLES; i++) {
        enum wire_type type = (enum wire_type)samples[i].frame->bytes[4];
        struct slice body = body_of(samples[i].frame, type);
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
        payload_unref(&samples[i].frame);
    }
}

/* With any bit flipped and any byte replaced, decoding returns an answer. */
static void test_flipped_bytes(void **state) {
    static const unsigned char others[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
    struct sample samples[SAMPLES];
    samples_encode(samples);
    for (size_t i = 0; i < SAMPLES; i++) {
        enum wire_type type = (enum wire_type)samples[i].frame->bytes[4];
        char *memory;
        struct slice body = exact(body_of(samples[i].frame, type), &memory);
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
        payload_unref(&samples[i].frame);
    }
}

struct broken_case {
    const char *about;
    enum wire_type type;
    struct slice body;
};

/* The part after is_durable; the body is one byte long. */
#define SHORT_EVENT(id_at) NOWHERE TEXT("\x01", "a") TEXT("\0", "") id_at TEXT("\x01", "b")

static const struct broken_case broken[] = {
    {"HELLO with another magic", WIRE_HELLO, LITERAL("pgsX\x06\0\0\0\0\0")},
    {"SUBSCRIBE with token 0", WIRE_SUBSCRIBE,
     LITERAL(U64("\0") "\0\0" NOWHERE TEXT("\0", "") A_TOPIC)},
    {"SUBSCRIBE of an unknown form", WIRE_SUBSCRIBE,
     LITERAL(TOKEN "\x02\0" NOWHERE TEXT("\0", "") A_TOPIC)},
    {"SUBSCRIBE of an unknown kind", WIRE_SUBSCRIBE,
     LITERAL(TOKEN "\0\x04" NOWHERE TEXT("\0", "") A_TOPIC)},
    {"SUBSCRIBE without topic", WIRE_SUBSCRIBE,
     LITERAL(TOKEN "\0\0" NOWHERE TEXT("\0", "") "\0\0")},
    {"SUBSCRIBE with a user of 4 GiB", WIRE_SUBSCRIBE,
     LITERAL(TOKEN "\0\0" NOWHERE "\xff\xff\xff\xff" TEXT("\0", "") A_TOPIC)},
    {"UNSUBSCRIBE of an unknown form", WIRE_UNSUBSCRIBE, LITERAL(TOKEN "\x02" A_TOPIC)},
    {"UNSUBSCRIBE of a form far away", WIRE_UNSUBSCRIBE, LITERAL(TOKEN "\xff" A_TOPIC)},
    {"UNSUBSCRIBE without form", WIRE_UNSUBSCRIBE, LITERAL(TOKEN A_TOPIC)},
    {"UNSUBSCRIBE of 65535 topics", WIRE_UNSUBSCRIBE, LITERAL(TOKEN "\0\xff\xff" TEXT("\0", ""))},
    {"UNSUBSCRIBE of two with one there", WIRE_UNSUBSCRIBE,
     LITERAL(TOKEN "\0\x02\0" TEXT("\0", ""))},
    {"ASK_POSITION with token 0", WIRE_ASK_POSITION, LITERAL(U64("\0"))},
    {"ASK_DOCUMENT with token 0", WIRE_ASK_DOCUMENT, LITERAL(U64("\0") "\0\0\0\0\0\0\0\0\0")},
    {"ASK_DOCUMENT of an unknown kind", WIRE_ASK_DOCUMENT,
     LITERAL(U64("\x01") "\x04\0\0\0\0\0\0\0\0")},
    {"POSITION with a marker of 12", WIRE_POSITION,
     LITERAL(TOKEN U64("\0") TEXT("\x0c", "abcdefghijkl") U64("\0"))},
    {"POSITION with a marker of 14", WIRE_POSITION,
     LITERAL(TOKEN U64("\0") TEXT("\x0e", "abcdefghijklmn") U64("\0"))},
    {"POSITION with a marker in capitals", WIRE_POSITION, LITERAL(TOKEN MARKED("ABCDEFGHIJKLM"))},
    {"POSITION with a NUL in its marker", WIRE_POSITION, LITERAL(TOKEN MARKED("abcdef\0hijklm"))},
    {"ACCEPTED where follows is 2", WIRE_ACCEPTED, LITERAL(TOKEN "\x02" NOWHERE A_TOPIC)},
    {"ACCEPTED that ends before its topics", WIRE_ACCEPTED, LITERAL(TOKEN "\x01" NOWHERE)},
    {"ACCEPTED of no topic", WIRE_ACCEPTED, LITERAL(TOKEN "\x01" NOWHERE "\0\0")},
    {"ACCEPTED of 65535 topics", WIRE_ACCEPTED,
     LITERAL(TOKEN "\x01" NOWHERE "\xff\xff" TEXT("\0", ""))},
    {"ACCEPTED of two with one there", WIRE_ACCEPTED,
     LITERAL(TOKEN "\x01" NOWHERE "\x02\0" TEXT("\0", ""))},
    {"ACCEPTED of one with two there", WIRE_ACCEPTED,
     LITERAL(TOKEN "\x01" NOWHERE A_TOPIC TEXT("\0", ""))},
    {"REFRESH with an unknown reason", WIRE_REFRESH,
     LITERAL(TOKEN "\0" TEXT("\0", "") NOWHERE "\x04" TOKEN)},
    {"REFRESH where is_durable is 2", WIRE_REFRESH,
     LITERAL(TOKEN "\x02" TEXT("\0", "") NOWHERE "\x03" TOKEN)},
    {"EVENT of kind 4", WIRE_EVENT, LITERAL("\x04" SHORT_EVENT("\x01\0\0\0"))},
    {"EVENT of kind 255", WIRE_EVENT, LITERAL("\xff" SHORT_EVENT("\x01\0\0\0"))},
    {"EVENT without is_durable", WIRE_EVENT, LITERAL(SHORT_EVENT("\x01\0\0\0"))},
    {"EVENT with id_at of 4 GiB", WIRE_EVENT, LITERAL("\0" SHORT_EVENT("\xff\xff\xff\xff"))},
    {"REPLAY of kind 4", WIRE_REPLAY, LITERAL(TOKEN "\x04" SHORT_EVENT("\x01\0\0\0"))},
    {"RECHECK of a user of 4 GiB", WIRE_RECHECK, LITERAL("\0\0\0\0\xff\xff\xff\xff")},
    {"RECHECK of nothing", WIRE_RECHECK, LITERAL("")},
    {"DOCUMENT of 4 GiB", WIRE_DOCUMENT, LITERAL(TOKEN "\xc8\0\xff\xff\xff\xff")},
};

static void test_broken_rules(void **state) {
    for (size_t i = 0; i < length_of(broken); i++) {
        char *memory;
        struct slice body = exact(broken[i].body, &memory);
        if (decode(broken[i].type, body)) {
            fail_msg("%s", broken[i].about);
        }
        free(memory);
    }
}

/* The same frames without errors, so that each row above has only its own error. */
static void test_unbroken_shapes(void **state) {
    static const struct broken_case shapes[] = {
        {"HELLO", WIRE_HELLO, LITERAL("pgss\x08\0\0\0\0\0")},
        {"SUBSCRIBE", WIRE_SUBSCRIBE, LITERAL(TOKEN "\0\0" NOWHERE TEXT("\0", "") A_TOPIC)},
        {"SUBSCRIBE of connections", WIRE_SUBSCRIBE,
         LITERAL(TOKEN "\x01\0" NOWHERE TEXT("\0", "") A_TOPIC)},
        {"UNSUBSCRIBE", WIRE_UNSUBSCRIBE, LITERAL(TOKEN "\0" A_TOPIC)},
        {"UNSUBSCRIBE of connections", WIRE_UNSUBSCRIBE, LITERAL(TOKEN "\x01" A_TOPIC)},
        {"ASK_DOCUMENT", WIRE_ASK_DOCUMENT, LITERAL(TOKEN "\x02\0\0\0\0\0\0\0\0")},
        {"POSITION", WIRE_POSITION, LITERAL(TOKEN MARKED("abcdefghijklm"))},
        {"ACCEPTED", WIRE_ACCEPTED, LITERAL(TOKEN "\x01" NOWHERE A_TOPIC)},
        {"REFRESH", WIRE_REFRESH, LITERAL(TOKEN "\0" TEXT("\0", "") NOWHERE "\x03" TOKEN)},
        {"REFRESH, durable", WIRE_REFRESH,
         LITERAL(TOKEN "\x01" TEXT("\0", "") NOWHERE "\x03" TOKEN)},
        {"EVENT", WIRE_EVENT, LITERAL("\0" SHORT_EVENT("\x01\0\0\0"))},
        {"EVENT, durable", WIRE_EVENT, LITERAL("\x01" SHORT_EVENT("\x01\0\0\0"))},
        {"REPLAY", WIRE_REPLAY, LITERAL(TOKEN "\x01" SHORT_EVENT("\x01\0\0\0"))},
        {"RECHECK", WIRE_RECHECK, LITERAL("\0\0\0\0\0\0\0\0")},
        {"DOCUMENT", WIRE_DOCUMENT, LITERAL(TOKEN "\xc8\0\0\0\0\0")},
    };
    for (size_t i = 0; i < length_of(shapes); i++) {
        if (!decode(shapes[i].type, shapes[i].body)) {
            fail_msg("%s", shapes[i].about);
        }
    }
}

/* 0 to 66 topics, counted and present. */
static void test_topics_one_over_the_maximum(void **state) {
    static const struct broken_case before[] = {
        {"SUBSCRIBE", WIRE_SUBSCRIBE, LITERAL(TOKEN "\0\0" NOWHERE TEXT("\0", ""))},
        {"UNSUBSCRIBE", WIRE_UNSUBSCRIBE, LITERAL(TOKEN "\0")},
        {"ACCEPTED", WIRE_ACCEPTED, LITERAL(TOKEN "\0" NOWHERE)},
    };
    for (size_t i = 0; i < length_of(before); i++) {
        for (int count = 0; count <= NAMES_MAX + 2; count++) {
            struct buf body = {0};
            char announced[2] = {(char)count, 0};
            buf_append_slice(&body, before[i].body);
            buf_append(&body, announced, sizeof announced);
            for (int topic = 0; topic < count; topic++) {
                buf_append(&body, TEXT("\x01", "a"), 5);
            }
            if (decode(before[i].type, buf_slice(&body)) != (count > 0 && count <= NAMES_MAX)) {
                fail_msg("%s with %d topics", before[i].about, count);
            }
            buf_release(&body);
        }
    }
}

/* --- reports ---------------------------------------------------------------------------------- */

static void test_report(void **state) {
    struct buf builder = {0};
    struct wire_report_entry wanted = {{LITERAL("alpha")}, 1, 2, 3, 4, UINT64_MAX, 6};
    struct wire_report report;
    struct wire_report_entry got;
    wire_report_begin(&builder, 77, 5);
    wire_report_set_gzip(&builder, UINT64_MAX, 3);
    assert_true(wire_report_add(&builder, &wanted));
    struct payload *frame = wire_report_end(&builder, true);
    assert_int_equal(builder.length, 0);
    assert_true(wire_decode_report(body_of(frame, WIRE_REPORT), &report));
    assert_int_equal(report.serial, 77);
    assert_true(report.streams == 5 && report.plain_bytes == UINT64_MAX && report.gzip_bytes == 3);
    assert_true(report.is_last);
    assert_int_equal(report.count, 1);
    assert_true(wire_next_report_entry(&report, &got));
    expect_text(got.topic.bytes, "alpha");
    assert_true(got.delivered == 1 && got.dropped_events == 2 && got.dropped_clients == 3 &&
                got.pending_events == 4 && got.queued_bytes == UINT64_MAX && got.streams == 6);
    assert_false(wire_next_report_entry(&report, &got));
    payload_unref(&frame);
}

static void test_report_without_entries(void **state) {
    struct buf builder = {0};
    struct wire_report report;
    struct wire_report_entry got;
    wire_report_begin(&builder, UINT32_MAX, 5);
    struct payload *frame = wire_report_end(&builder, false);
    assert_true(wire_decode_report(body_of(frame, WIRE_REPORT), &report));
    assert_true(report.serial == UINT32_MAX && !report.is_last && report.count == 0);
    assert_true(report.plain_bytes == 0 && report.gzip_bytes == 0);
    assert_false(wire_next_report_entry(&report, &got));
    payload_unref(&frame);
}

/* The count carries into its second byte at 256, and a full builder takes no more entries. Entries
 * without a name are the smallest, so this is also the largest count of a frame. */
static void test_report_up_to_full(void **state) {
    struct buf builder = {0};
    struct wire_report_entry entry = {.topic = {LITERAL("")}};
    struct wire_report report;
    struct wire_report_entry got;
    uint32_t count = 0;
    wire_report_begin(&builder, 1, 5);
    while (wire_report_add(&builder, &entry)) {
        count++;
        entry.delivered = count;
    }
    size_t length = builder.length;
    assert_true(count > 1000);
    assert_true(length <= WIRE_REQUEST_BYTES_MAX && length + 48 > WIRE_REQUEST_BYTES_MAX);
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
    static const uint32_t counts[] = {127, 128, 254, 255, 256, 257, 511, 512, 513};
    for (size_t i = 0; i < length_of(counts); i++) {
        struct buf builder = {0};
        struct wire_report report;
        struct wire_report_entry entry = {.topic = {LITERAL("t")}};
        wire_report_begin(&builder, 1, 5);
        for (uint32_t n = 0; n < counts[i]; n++) {
            assert_true(wire_report_add(&builder, &entry));
        }
        struct payload *frame = wire_report_end(&builder, true);
        assert_true(wire_decode_report(body_of(frame, WIRE_REPORT), &report));
        assert_int_equal(report.count, counts[i]);
        payload_unref(&frame);
    }
}

/* An entry that a full builder refuses fits into the next one. */
static void test_report_largest_name_when_nearly_full(void **state) {
    struct buf builder = {0};
    char *name = repeated('n', 255);
    struct wire_report_entry small = {.topic = {LITERAL("")}};
    struct wire_report_entry large = {.topic = {{name, 255}}};
    wire_report_begin(&builder, 1, 5);
    while (wire_report_add(&builder, &large)) {
    }
    size_t left = WIRE_REQUEST_BYTES_MAX - builder.length;
    assert_int_equal(wire_report_add(&builder, &small), left >= 44);
    struct payload *frame = wire_report_end(&builder, false);
    wire_report_begin(&builder, 1, 5);
    assert_true(wire_report_add(&builder, &large));
    struct payload *next = wire_report_end(&builder, true);
    assert_true(next->length < frame->length);
    payload_unref(&frame);
    payload_unref(&next);
    free(name);
}

/* Reads a damaged report: all entries of its count come, and nothing is left. */
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
    struct buf builder = {0};
    struct wire_report_entry entry = {{LITERAL("alpha")}, 1, 2, 3, 4, 5, 6};
    wire_report_begin(&builder, 1, 5);
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
    assert_true(
        report_is_sound(LITERAL("\x01\0\0\0\x05\0\0\0" U64("\0") U64("\0") "\x01\0\0\0\0")));
    assert_false(
        report_is_sound(LITERAL("\x01\0\0\0\x05\0\0\0" U64("\0") U64("\0") "\x02\0\0\0\0")));
    struct wire_report report;
    struct wire_report_entry entry;
    assert_true(wire_decode_report(
        LITERAL("\x01\0\0\0\x05\0\0\0" U64("\0") U64("\0") "\x01\xff\xff\xff\xff"), &report));
    assert_false(wire_next_report_entry(&report, &entry));
}

/* --- resuming ----------------------------------------------------------------------------------
 */

static void test_resume(void **state) {
    static const struct {
        enum position_kind kind;
        const struct position *position;
        bool is_last;
    } cases[] = {{POSITION_KNOWN, &place, true},
                 {POSITION_KNOWN, &place, false},
                 {POSITION_NONE, &nowhere, true}};
    static const struct wire_resume_entry entries[] = {
        {{LITERAL("alpha")}, 1},
        {{LITERAL("beta")}, 2},
        {{LITERAL("")}, UINT32_MAX},
        {{LITERAL("alpha")}, UINT32_MAX},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        struct buf builder = {0};
        struct wire_resume resume;
        struct wire_resume_entry got;
        wire_resume_begin(&builder, cases[i].kind, cases[i].position);
        for (size_t e = 0; e < length_of(entries); e++) {
            assert_true(wire_resume_add(&builder, &entries[e]));
        }
        struct payload *frame = wire_resume_end(&builder, cases[i].is_last);
        assert_int_equal(builder.length, 0);
        assert_true(wire_decode_resume(body_of(frame, WIRE_RESUME), &resume));
        assert_int_equal(resume.is_last, cases[i].is_last);
        assert_int_equal(resume.position_kind, cases[i].kind);
        expect_position(&resume.position, cases[i].position);
        assert_int_equal(resume.count, length_of(entries));
        for (size_t e = 0; e < length_of(entries); e++) {
            assert_true(wire_next_resume_entry(&resume, &got));
            expect_slice(got.topic.bytes, entries[e].topic.bytes, "topic");
            assert_true(got.clients == entries[e].clients);
        }
        assert_false(wire_next_resume_entry(&resume, &got));
        assert_true(resume.count == 0 && resume.entries.length == 0);
        payload_unref(&frame);
    }
}

static void test_bytes_of_a_resume(void **state) {
    static const struct {
        enum position_kind kind;
        const struct position *position;
        bool is_last;
        struct slice bytes;
    } cases[] = {
        {POSITION_KNOWN, &place, true,
         LITERAL("\x34\0\0\0\x07\x01\x03" PLACE "\x01\0\0\0" TEXT("\x05", "alpha") "\x03\0\0\0")},
        {POSITION_NONE, &nowhere, false,
         LITERAL("\x27\0\0\0\x07\0\0" NOWHERE "\x01\0\0\0" TEXT("\x05", "alpha") "\x03\0\0\0")},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        struct buf builder = {0};
        struct wire_resume_entry entry = {{LITERAL("alpha")}, 3};
        wire_resume_begin(&builder, cases[i].kind, cases[i].position);
        assert_true(wire_resume_add(&builder, &entry));
        struct payload *frame = wire_resume_end(&builder, cases[i].is_last);
        expect_slice((struct slice){frame->bytes, frame->length}, cases[i].bytes, "RESUME");
        payload_unref(&frame);
    }
}

enum { SMALLEST_ENTRY = 8 }; /* of a RESUME: no name, and a count */

/* For each place of the count (after a marker or none), with carries, and for each number of bytes
 * that is left (the first name shifts that): a full builder stays full. */
static void test_resume_up_to_full(void **state) {
    static const struct position *const positions[] = {&place, &nowhere};
    for (size_t i = 0; i < length_of(positions) * SMALLEST_ENTRY; i++) {
        const struct position *position = positions[i % length_of(positions)];
        struct buf builder = {0};
        struct wire_resume_entry entry = {{{"8 bytes.", i / length_of(positions)}}, 1};
        struct wire_resume resume;
        struct wire_resume_entry got;
        uint32_t count = 0;
        wire_resume_begin(&builder, POSITION_KNOWN, position);
        while (wire_resume_add(&builder, &entry)) {
            entry.topic.bytes.length = 0;
            entry.clients = ++count + 1;
        }
        size_t length = builder.length;
        assert_true(count > 1000);
        assert_true(length <= WIRE_REQUEST_BYTES_MAX &&
                    length + SMALLEST_ENTRY > WIRE_REQUEST_BYTES_MAX);
        assert_false(wire_resume_add(&builder, &entry));
        assert_int_equal(builder.length, length);
        struct payload *frame = wire_resume_end(&builder, true);
        struct slice input = {frame->bytes, frame->length};
        struct wire_frame taken;
        assert_int_equal(wire_next(&input, WIRE_REQUEST_BYTES_MAX, &taken), WIRE_NEXT_FRAME);
        assert_true(wire_decode_resume(taken.body, &resume));
        assert_int_equal(resume.count, count);
        expect_position(&resume.position, position);
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
    struct buf builder = {0};
    struct wire_resume_entry entry = {{LITERAL("alpha")}, 3};
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

/* The part after the position. */
#define NO_ENTRIES        "\0\0\0\0"
#define AN_ENTRY(clients) "\x01\0\0\0" TEXT("\x01", "a") clients "\0\0\0"

static void test_resume_that_breaks_the_rules(void **state) {
    static const struct {
        const char *about;
        struct slice body;
        bool is_sound;
    } cases[] = {
        {"none", LITERAL("\x01\0" NOWHERE NO_ENTRIES), true},
        {"one topic", LITERAL("\x01\x03" MARKED("abcdefghijklm") AN_ENTRY("\x01")), true},
        {"no clients", LITERAL("\x01\0" NOWHERE AN_ENTRY("\0")), false},
        {"is_last is 2", LITERAL("\x02\0" NOWHERE NO_ENTRIES), false},
        {"of kind MALFORMED", LITERAL("\x01\x01" NOWHERE NO_ENTRIES), false},
        {"of kind ALL", LITERAL("\x01\x02" NOWHERE NO_ENTRIES), false},
        {"of an unknown kind", LITERAL("\x01\x04" NOWHERE NO_ENTRIES), false},
        {"a marker in capitals", LITERAL("\x01\x03" MARKED("ABCDEFGHIJKLM") NO_ENTRIES), false},
        {"ends before its count", LITERAL("\x01\0" NOWHERE), false},
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

/* The wanted number of topics, with the text before and after them. */
static void test_cut_health(void **state) {
    static const char whole[] = "{\"n\":1,\"topics\":[\n{\"a\":1}\n,{\"b\":2}\n,{\"c\":3}]}";
    static const struct {
        const char *document;
        uint32_t limit;
        const char *wanted;
    } cases[] = {
        {whole, 0, "{\"n\":1,\"topics\":[]}"},
        {whole, 1, "{\"n\":1,\"topics\":[\n{\"a\":1}]}"},
        {whole, 2, "{\"n\":1,\"topics\":[\n{\"a\":1}\n,{\"b\":2}]}"},
        {whole, 3, whole},
        {whole, UINT32_MAX, whole},
        {"{\"topics\":[]}", 0, "{\"topics\":[]}"},
        {"{\"status\":\"degraded\"}", 0, "{\"status\":\"degraded\"}"}, /* it has no list */
        {"", 0, ""},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        struct buf out = {0};
        wire_cut_health(slice_of(cases[i].document), cases[i].limit, &out);
        expect_buf(&out, cases[i].wanted);
    }
}

static void test_health_limit(void **state) {
    static const struct {
        const char *text;
        bool is_number;
        uint32_t limit;
    } cases[] = {
        {"0", true, 0},
        {"007", true, 7},
        {"65536", true, WIRE_HEALTH_LIMIT_MAX},
        {"65537", true, WIRE_HEALTH_LIMIT_MAX},
        {"4294967297", true, WIRE_HEALTH_LIMIT_MAX},
        {"18446744073709551617", true, WIRE_HEALTH_LIMIT_MAX},
        {"", false, 0},
        {"-1", false, 0},
        {"1x", false, 0},
        {" 1", false, 0},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        uint32_t limit;
        bool is_number = wire_parse_health_limit(slice_of(cases[i].text), &limit);
        if (is_number != cases[i].is_number || (is_number && limit != cases[i].limit)) {
            fail_msg("'%s': %u", cases[i].text, limit);
        }
    }
}

RUN_TESTS(TEST(test_cut_health), TEST(test_health_limit), TEST(test_frames_split_at_every_byte),
          TEST(test_frames_one_after_the_other), TEST(test_frames_too_long), TEST(test_hello),
          TEST(test_hello_of_other_versions), TEST(test_subscribe),
          TEST(test_subscribe_without_position), TEST(test_topics_up_to_the_maximum),
          TEST(test_unsubscribe), TEST(test_ask_position), TEST(test_ask_document),
          TEST(test_accepted), TEST(test_refused), TEST(test_refresh), TEST(test_position),
          TEST(test_event), TEST(test_replay), TEST(test_replay_with_id_behind_its_body),
          TEST(test_credit), TEST(test_event_with_id_behind_its_body), TEST(test_document),
          TEST(test_recheck), TEST(test_goodbye), TEST(test_bytes_of_each_frame),
          TEST(test_truncated_and_too_long), TEST(test_flipped_bytes), TEST(test_broken_rules),
          TEST(test_unbroken_shapes), TEST(test_topics_one_over_the_maximum), TEST(test_report),
          TEST(test_report_without_entries), TEST(test_report_up_to_full),
          TEST(test_report_counts_around_the_carry),
          TEST(test_report_largest_name_when_nearly_full),
          TEST(test_report_truncated_too_long_and_flipped),
          TEST(test_report_that_promises_too_much), TEST(test_resume), TEST(test_bytes_of_a_resume),
          TEST(test_resume_up_to_full), TEST(test_resume_truncated_too_long_and_flipped),
          TEST(test_resume_that_breaks_the_rules))
