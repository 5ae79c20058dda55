/* From a notification's text to an event: each rule of the envelope once. */
#include "event.h"
#include "support.h"

struct good_case {
    const char *payload;
    const char *topic;
    const char *publisher_id;
    const char *comment; /* its lines */
    const char *rest;    /* the body after the id line */
};

static const struct good_case good[] = {
    {"{\"topic\":\"alpha\",\"data\":{\"n\":1}}", "alpha", "", "",
     "event: message\ndata: {\"n\":1}\n\n"},
    {" { \"data\" : [ 1 , 2.0 ] , \"topic\" : \"a\" } ", "a", "", "",
     "event: message\ndata: [1,2.0]\n\n"},
    /* data of every type */
    {"{\"topic\":\"a\",\"data\":null}", "a", "", "", "event: message\ndata: null\n\n"},
    {"{\"topic\":\"a\",\"data\":false}", "a", "", "", "event: message\ndata: false\n\n"},
    {"{\"topic\":\"a\",\"data\":0}", "a", "", "", "event: message\ndata: 0\n\n"},
    {"{\"topic\":\"a\",\"data\":\"\"}", "a", "", "", "event: message\ndata: \"\"\n\n"},
    {"{\"topic\":\"a\",\"data\":\"x y\\n\"}", "a", "", "", "event: message\ndata: \"x y\\n\"\n\n"},
    {"{\"topic\":\"a\",\"data\":{\"n\":123456789012345678901234567890, \"x\":1.0, "
     "\"s\":\"\xc3\xa9\\u0000<\", \"k\":1, \"k\":2}}",
     "a", "", "",
     "event: message\ndata: {\"n\":123456789012345678901234567890,\"x\":1.0,"
     "\"s\":\"\xc3\xa9\\u0000<\",\"k\":1,\"k\":2}\n\n"},
    /* line ends between tokens vanish, so data never breaks its line */
    {"{\"topic\":\"a\",\"data\":[1,\r\n2]}", "a", "", "", "event: message\ndata: [1,2]\n\n"},
    /* event */
    {"{\"topic\":\"a\",\"event\":\"order\",\"data\":1}", "a", "", "", "event: order\ndata: 1\n\n"},
    {"{\"topic\":\"a\",\"event\":\"\",\"data\":1}", "a", "", "", "event: message\ndata: 1\n\n"},
    {"{\"topic\":\"a\",\"event\":null,\"data\":1}", "a", "", "", "event: message\ndata: 1\n\n"},
    {"{\"topic\":\"a\",\"event\":\"Refresh\",\"data\":1}", "a", "", "",
     "event: Refresh\ndata: 1\n\n"},
    {"{\"topic\":\"a\",\"event\":\"closed\",\"data\":1}", "a", "", "",
     "event: closed\ndata: 1\n\n"},
    {"{\"topic\":\"a\",\"event\":\"\\u00e9\",\"data\":1}", "a", "", "",
     "event: \xc3\xa9\ndata: 1\n\n"},
    /* id */
    {"{\"topic\":\"a\",\"id\":\"A-z_0.9\",\"data\":1}", "a", "A-z_0.9", "",
     "event: message\ndata: 1\n\n"},
    {"{\"topic\":\"a\",\"id\":null,\"data\":1}", "a", "", "", "event: message\ndata: 1\n\n"},
    /* retry */
    {"{\"topic\":\"a\",\"retry\":0,\"data\":1}", "a", "", "",
     "event: message\nretry: 0\ndata: 1\n\n"},
    {"{\"topic\":\"a\",\"retry\":3600000,\"data\":1}", "a", "", "",
     "event: message\nretry: 3600000\ndata: 1\n\n"},
    {"{\"topic\":\"a\",\"retry\":null,\"data\":1}", "a", "", "", "event: message\ndata: 1\n\n"},
    /* comment */
    {"{\"topic\":\"a\",\"comment\":\"hi\",\"data\":1}", "a", "", ": hi\n",
     "event: message\ndata: 1\n\n"},
    {"{\"topic\":\"a\",\"comment\":\"b\\nc\\r\\nd\",\"data\":1}", "a", "", ": b\n: c\n: d\n",
     "event: message\ndata: 1\n\n"},
    {"{\"topic\":\"a\",\"comment\":\"\",\"data\":1}", "a", "", "", "event: message\ndata: 1\n\n"},
    {"{\"topic\":\"a\",\"comment\":null,\"data\":1}", "a", "", "", "event: message\ndata: 1\n\n"},
    /* text */
    {"{\"topic\":\"a\",\"text\":true,\"data\":\"x \\\"y\\\"\\nz\"}", "a", "", "",
     "event: message\ndata: x \"y\"\ndata: z\n\n"},
    {"{\"topic\":\"a\",\"text\":true,\"data\":\"\"}", "a", "", "", "event: message\ndata:\n\n"},
    {"{\"topic\":\"a\",\"text\":false,\"data\":\"x\"}", "a", "", "",
     "event: message\ndata: \"x\"\n\n"},
    {"{\"topic\":\"a\",\"text\":null,\"data\":\"x\"}", "a", "", "",
     "event: message\ndata: \"x\"\n\n"},
    {"{\"topic\":\"a\",\"text\":true,\"data\":\"id: 1\\n\\nevent: close\"}", "a", "", "",
     "event: message\ndata: id: 1\ndata:\ndata: event: close\n\n"},
    /* nonce, tenant, other keys */
    {"{\"topic\":\"a\",\"nonce\":\"1234\",\"data\":1}", "a", "", "", "event: message\ndata: 1\n\n"},
    {"{\"topic\":\"a\",\"nonce\":[{}],\"data\":1}", "a", "", "", "event: message\ndata: 1\n\n"},
    {"{\"topic\":\"a\",\"tenant\":null,\"data\":1}", "a", "", "", "event: message\ndata: 1\n\n"},
    {"{\"topic\":\"a\",\"Topic\":5,\"other\":{\"topic\":\"b\"},\"data\":1}", "a", "", "",
     "event: message\ndata: 1\n\n"},
    /* of duplicates the last one wins, also where an earlier one is bad */
    {"{\"topic\":\"a\",\"topic\":\"b\",\"data\":1,\"data\":2}", "b", "", "",
     "event: message\ndata: 2\n\n"},
    {"{\"topic\":5,\"topic\":\"b\",\"data\":1}", "b", "", "", "event: message\ndata: 1\n\n"},
    {"{\"topic\":\"a\",\"tenant\":\"t\",\"tenant\":null,\"data\":1}", "a", "", "",
     "event: message\ndata: 1\n\n"},
    /* keys and names may be escaped */
    {"{\"t\\u006fpic\":\"\\u0061\",\"d\\u0061ta\":1}", "a", "", "", "event: message\ndata: 1\n\n"},
    /* names are taken as they are */
    {"{\"topic\":\"Alpha Beta/\\\"\",\"data\":1}", "Alpha Beta/\"", "", "",
     "event: message\ndata: 1\n\n"},
};

static void test_good_events(void **state) {
    struct event_parser parser = {0};
    for (size_t i = 0; i < length_of(good); i++) {
        char *memory;
        struct event event;
        const char *reason = NULL;
        if (!event_parse(&parser, exact(slice_of(good[i].payload), &memory), &event, &reason)) {
            fail_msg("%s: %s", good[i].payload, reason);
        }
        free(memory);
        expect_slice(event.topic.bytes, key_of(good[i].topic).bytes, good[i].payload);
        expect_slice(event.publisher_id, slice_of(good[i].publisher_id), good[i].payload);
        assert_true(event.id_at <= event.body.length);
        expect_slice((struct slice){event.body.at, event.id_at}, slice_of(good[i].comment),
                     good[i].payload);
        expect_slice((struct slice){event.body.at + event.id_at, event.body.length - event.id_at},
                     slice_of(good[i].rest), good[i].payload);
    }
    event_parser_release(&parser);
}

static void test_tenants(void **state) {
    static const struct {
        const char *tenant;
        bool is_good;
    } cases[] = {
        {"t", true},
        {"Acme_1.x-", true},
        {"", true},
        {"8b5f2c1e-8a4e-4a53-9a1b-0f6f3d2c1b0a", true},
        {"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", true},
        {"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdefg", false},
    };
    struct event_parser parser = {0};
    for (size_t i = 0; i < length_of(cases); i++) {
        char payload[256];
        struct event event;
        const char *reason = "";
        snprintf(payload, sizeof payload, "{\"topic\":\"a\",\"data\":1,\"tenant\":\"%s\"}",
                 cases[i].tenant);
        assert_int_equal(event_parse(&parser, slice_of(payload), &event, &reason),
                         cases[i].is_good);
        if (cases[i].is_good) {
            expect_text(topic_key_tenant(event.topic), cases[i].tenant);
            expect_text(topic_key_name(event.topic), "a");
        } else {
            assert_non_null(strstr(reason, "tenant"));
        }
    }
    /* the next event has none */
    struct event event;
    const char *reason;
    assert_true(event_parse(&parser, LITERAL("{\"topic\":\"a\",\"data\":1}"), &event, &reason));
    assert_int_equal(topic_key_tenant(event.topic).length, 0);
    event_parser_release(&parser);
}

static void test_tenants_of_rows(void **state) {
    struct event_parser parser = {0};
    struct event_row row = {.tenant = LITERAL("t"), .topic = LITERAL("a"), .data = LITERAL("1")};
    struct event event;
    const char *reason;
    char room[TOPIC_KEY_BYTES_MAX];
    assert_true(event_from_row(&parser, &row, &event, &reason));
    expect_text(event.topic.bytes, "t\na");
    expect_text(event_row_topic(&row, room).bytes, "t\na");
    row.tenant = LITERAL("t\n");
    assert_false(event_from_row(&parser, &row, &event, &reason));
    assert_non_null(strstr(reason, "tenant"));
    assert_true(topic_key_is_none(event_row_topic(&row, room)));
    event_parser_release(&parser);
}

static void test_forge(void **state) {
#define OF_ACME "\"tenant_id\":\"8b5f2c1e-8a4e-4a53-9a1b-0f6f3d2c1b0a\""
    static const struct {
        const char *text;
        const char *rest; /* NULL: it is bad, and the reason names: */
        const char *field;
    } cases[] = {
        {"{\"channel\":\"a\"," OF_ACME ",\"payload\":{\"n\": 1.0}}",
         "event: message\ndata: {\"n\":1.0}\n\n", NULL},
        {"{\"payload\":null,\"type\":\"paid\"," OF_ACME ",\"channel\":\"a\",\"data\":5}",
         "event: paid\ndata: null\n\n", NULL},
        {"{\"channel\":\"a\"," OF_ACME ",\"payload\":\"x\",\"type\":null,\"text\":true}",
         "event: message\ndata: \"x\"\n\n", NULL},
        {"{\"channel\":\"a\",\"payload\":1}", NULL, "tenant_id"},
        {"{\"channel\":\"a\",\"tenant_id\":null,\"payload\":1}", NULL, "tenant_id"},
        {"{\"channel\":\"a\",\"tenant_id\":\"\",\"payload\":1}", NULL, "tenant_id"},
        {"{\"channel\":\"a\",\"tenant\":\"t\",\"payload\":1}", NULL, "tenant_id"},
        {"{\"channel\":\"a\",\"tenant_id\":\"a b\",\"payload\":1}", NULL, "tenant"},
        {"{\"channel\":\"a\",\"tenant_id\":5,\"payload\":1}", NULL, "tenant"},
        {"{\"channel\":\"a*\"," OF_ACME ",\"payload\":1}", NULL, "pattern"},
        {"{\"channel\":\"*\"," OF_ACME ",\"payload\":1}", NULL, "no broadcasts"},
        {"{" OF_ACME ",\"payload\":1}", NULL, "topic"},
        {"{\"channel\":\"a\"," OF_ACME "}", NULL, "missing"},
        {"{\"channel\":\"a\"," OF_ACME ",\"payload\":1,\"type\":\"close\"}", NULL, "own"},
        {"{\"channel\":\"a\"," OF_ACME ",\"payload\":1,\"type\":\"refresh\"}", NULL, "own"},
        {"[]", NULL, "object"},
        {"", NULL, "value is missing"},
        {"{\"recheck\":\"\"}", NULL, "tenant_id"},
    };
    struct event_parser parser = {0};
    for (size_t i = 0; i < length_of(cases); i++) {
        struct event event;
        const char *reason = "";
        bool is_good = event_parse_forge(&parser, slice_of(cases[i].text), false, &event, &reason);
        if (is_good != (cases[i].rest != NULL)) {
            fail_msg("%s: %s", cases[i].text, reason);
        }
        if (is_good) {
            expect_text(event.topic.bytes, "8b5f2c1e-8a4e-4a53-9a1b-0f6f3d2c1b0a\na");
            expect_slice(event.body, slice_of(cases[i].rest), cases[i].text);
            assert_false(event.is_live_only);
        } else if (strstr(reason, cases[i].field) == NULL) {
            fail_msg("%s: %s", cases[i].text, reason);
        }
    }
    event_parser_release(&parser);
}

/* Where the configuration allows it, this publisher's own sentinels are passed: a refresh is kept, a
 * close is not. Other types of the stream's own are not passed. */
static void test_forge_control(void **state) {
    static const struct {
        const char *text;
        const char *body; /* NULL: it is bad */
        bool is_live_only;
    } cases[] = {
        {"{\"channel\":\"a\"," OF_ACME ",\"type\":\"close\"}", "event: close\ndata: {}\n\n", true},
        {"{\"channel\":\"a\"," OF_ACME ",\"type\":\"refresh\",\"payload\":{\"n\":1}}",
         "event: refresh\ndata: {\"n\":1}\n\n", false},
        {"{\"channel\":\"a\"," OF_ACME ",\"type\":\"paid\",\"payload\":1}",
         "event: paid\ndata: 1\n\n", false},
        {"{\"channel\":\"a\"," OF_ACME ",\"type\":\"paid\"}", NULL, false},
        {"{\"channel\":\"a\"," OF_ACME ",\"type\":\"position\",\"payload\":1}", NULL, false},
        {"{\"channel\":\"a\",\"type\":\"close\"}", NULL, false},
        {"{\"channel\":\"*\"," OF_ACME ",\"type\":\"close\"}", NULL, false},
        {"{" OF_ACME ",\"type\":\"close\"}", NULL, false},
    };
    struct event_parser parser = {0};
    for (size_t i = 0; i < length_of(cases); i++) {
        struct event event;
        const char *reason = "";
        bool is_good = event_parse_forge(&parser, slice_of(cases[i].text), true, &event, &reason);
        if (is_good != (cases[i].body != NULL)) {
            fail_msg("%s: %s", cases[i].text, reason);
        }
        if (is_good) {
            expect_slice(event.body, slice_of(cases[i].body), cases[i].text);
            assert_int_equal(event.is_live_only, cases[i].is_live_only);
        }
    }
    event_parser_release(&parser);
}

struct bad_case {
    struct slice payload;
    const char *field; /* the field that the reason names; NULL: any reason */
};

static const struct bad_case bad[] = {
    {LITERAL(""), NULL},
    {LITERAL("x"), NULL},
    {LITERAL("{'topic':'a','data':1}"), NULL},
    {LITERAL("{\"topic\":\"a\",\"data\":1}x"), NULL},
    {LITERAL("{\"topic\":\"a\",\"data\":1"), NULL},
    {LITERAL("{\"topic\":\"a\",\"data\":NaN}"), NULL},
    {LITERAL("{\"topic\":\"a\",\"data\":\"\x01\"}"), NULL},
    {LITERAL("{\"topic\":\"a\",\"data\":\"\xff\"}"), NULL},
    {LITERAL("{\"topic\":\"\xc0\xaf\",\"data\":1}"), NULL},
    {LITERAL("null"), "object"},
    {LITERAL("[]"), "object"},
    {LITERAL("\"topic\""), "object"},
    {LITERAL("[{\"topic\":\"a\",\"data\":1}]"), "object"},
    {LITERAL("{}"), "topic"},
    {LITERAL("{\"data\":1}"), "topic"},
    {LITERAL("{\"topic\":null,\"data\":1}"), "topic"},
    {LITERAL("{\"topic\":\"\",\"data\":1}"), "topic"},
    {LITERAL("{\"topic\":5,\"data\":1}"), "topic"},
    {LITERAL("{\"topic\":[\"a\"],\"data\":1}"), "topic"},
    {LITERAL("{\"topic\":\"a\\u0000\",\"data\":1}"), "topic"},
    {LITERAL("{\"topic\":\"a\\n\",\"data\":1}"), "topic"},
    {LITERAL("{\"topic\":\"a\\u0085\",\"data\":1}"), "topic"},
    {LITERAL("{\"topic\":\"a\\u007f\",\"data\":1}"), "topic"},
    {LITERAL("{\"topic\":\"b\",\"topic\":null,\"data\":1}"), "topic"},
    {LITERAL("{\"topic\":\"a\"}"), "data"},
    {LITERAL("{\"topic\":\"a\",\"Data\":1}"), "data"},
    {LITERAL("{\"topic\":\"a\",\"event\":5,\"data\":1}"), "event"},
    {LITERAL("{\"topic\":\"a\",\"event\":true,\"data\":1}"), "event"},
    {LITERAL("{\"topic\":\"a\",\"event\":{},\"data\":1}"), "event"},
    {LITERAL("{\"topic\":\"a\",\"event\":\"a\\nb\",\"data\":1}"), "event"},
    {LITERAL("{\"topic\":\"a\",\"event\":\"a\\r\",\"data\":1}"), "event"},
    {LITERAL("{\"topic\":\"a\",\"event\":\"\\u0085\",\"data\":1}"), "event"},
    {LITERAL("{\"topic\":\"a\",\"id\":\"\",\"data\":1}"), "id"},
    {LITERAL("{\"topic\":\"a\",\"id\":5,\"data\":1}"), "id"},
    {LITERAL("{\"topic\":\"a\",\"id\":\"a b\",\"data\":1}"), "id"},
    {LITERAL("{\"topic\":\"a\",\"id\":\"a\\n\",\"data\":1}"), "id"},
    {LITERAL("{\"topic\":\"a\",\"id\":\"a~b\",\"data\":1}"), "id"},
    {LITERAL("{\"topic\":\"a\",\"id\":\"\\u0000\",\"data\":1}"), "id"},
    {LITERAL("{\"topic\":\"a\",\"retry\":-1,\"data\":1}"), "retry"},
    {LITERAL("{\"topic\":\"a\",\"retry\":3600001,\"data\":1}"), "retry"},
    {LITERAL("{\"topic\":\"a\",\"retry\":1.0,\"data\":1}"), "retry"},
    {LITERAL("{\"topic\":\"a\",\"retry\":1e3,\"data\":1}"), "retry"},
    {LITERAL("{\"topic\":\"a\",\"retry\":\"1\",\"data\":1}"), "retry"},
    {LITERAL("{\"topic\":\"a\",\"retry\":false,\"data\":1}"), "retry"},
    {LITERAL("{\"topic\":\"a\",\"retry\":99999999999999999999,\"data\":1}"), "retry"},
    {LITERAL("{\"topic\":\"a\",\"comment\":5,\"data\":1}"), "comment"},
    {LITERAL("{\"topic\":\"a\",\"text\":1,\"data\":\"x\"}"), "text"},
    {LITERAL("{\"topic\":\"a\",\"text\":\"true\",\"data\":\"x\"}"), "text"},
    {LITERAL("{\"topic\":\"a\",\"tenant\":\"t/\",\"data\":1}"), "tenant"},
    {LITERAL("{\"topic\":\"a\",\"tenant\":\" \",\"data\":1}"), "tenant"},
    {LITERAL("{\"topic\":\"a\",\"tenant\":\"t\\n\",\"data\":1}"), "tenant"},
    {LITERAL("{\"topic\":\"a\",\"tenant\":\"t\\u0000\",\"data\":1}"), "tenant"},
    {LITERAL("{\"topic\":\"a\",\"tenant\":\"\xc3\xa9\",\"data\":1}"), "tenant"},
    {LITERAL("{\"topic\":\"a\",\"tenant\":\"*\",\"data\":1}"), "tenant"},
    {LITERAL("{\"topic\":\"a\",\"tenant\":5,\"data\":1}"), "tenant"},
    {LITERAL("{\"topic\":\"a\",\"tenant\":[],\"data\":1}"), "tenant"},
    {LITERAL("{\"topic\":\"a\",\"tenant\":true,\"data\":1}"), "tenant"},
};

static void test_bad_events(void **state) {
    struct event_parser parser = {0};
    for (size_t i = 0; i < length_of(bad); i++) {
        char *memory;
        struct event event;
        const char *reason = NULL;
        if (event_parse(&parser, exact(bad[i].payload, &memory), &event, &reason)) {
            fail_msg("%.*s", (int)bad[i].payload.length, bad[i].payload.at);
        }
        if (reason == NULL || (bad[i].field != NULL && strstr(reason, bad[i].field) == NULL)) {
            fail_msg("%.*s: %s", (int)bad[i].payload.length, bad[i].payload.at, reason);
        }
        free(memory);
    }
    event_parser_release(&parser);
}

/* From a notification, where escapes may spell them, and from a row that was inserted without the
 * schema's functions. */
static void test_reserved_types(void **state) {
    static const char *const reserved[] = {"refresh",  "close", "error", "open",
                                           "position", "end",   "state", "cl\\u006fse"};
    struct event_parser parser = {0};
    for (size_t i = 0; i < length_of(reserved); i++) {
        struct buf payload = {0};
        struct event event;
        const char *reason = "";
        struct event_row row = {
            .topic = LITERAL("a"), .data = LITERAL("1"), .type = slice_of(reserved[i])};
        bool is_escaped = strchr(reserved[i], '\\') != NULL;
        buf_printf(&payload, "{\"topic\":\"a\",\"data\":1,\"event\":\"%s\"}", reserved[i]);
        assert_false(event_parse(&parser, buf_slice(&payload), &event, &reason));
        assert_non_null(strstr(reason, "the stream's own"));
        assert_int_equal(event_from_row(&parser, &row, &event, &reason), is_escaped);
        buf_release(&payload);
    }
    event_parser_release(&parser);
}

/* "text" with data that is not a string: sent as JSON, or refused with a reason that names it. */
static void test_text_with_data_that_is_no_string(void **state) {
    struct event_parser parser = {0};
    struct event event;
    const char *reason = NULL;
    if (event_parse(&parser, LITERAL("{\"topic\":\"a\",\"text\":true,\"data\":{\"n\":1}}"), &event,
                    &reason)) {
        expect_text(event.body, "event: message\ndata: {\"n\":1}\n\n");
    } else {
        assert_non_null(strstr(reason, "text"));
    }
    event_parser_release(&parser);
}

static void test_lengths(void **state) {
    static const struct {
        const char *key;
        size_t length;
        bool is_good;
    } cases[] = {{"topic", 255, true},   {"topic", 256, false}, {"event", 255, true},
                 {"event", 256, false},  {"id", 64, true},      {"id", 65, false},
                 {"comment", 5000, true}};
    struct event_parser parser = {0};
    for (size_t i = 0; i < length_of(cases); i++) {
        struct buf payload = {0};
        struct event event;
        const char *reason;
        char *value = repeated('x', cases[i].length);
        buf_printf(&payload, "{\"topic\":\"a\",\"data\":1,\"%s\":\"%s\"}", cases[i].key, value);
        if (event_parse(&parser, buf_slice(&payload), &event, &reason) != cases[i].is_good) {
            fail_msg("%s of %zu bytes", cases[i].key, cases[i].length);
        }
        free(value);
        buf_release(&payload);
    }
    event_parser_release(&parser);
}

/* 255 bytes are counted after escapes are resolved. */
static void test_length_counts_decoded_bytes(void **state) {
    struct event_parser parser = {0};
    struct buf payload = {0};
    struct event event;
    const char *reason;
    buf_append_text(&payload, "{\"data\":1,\"topic\":\"");
    for (int i = 0; i < 255; i++) {
        buf_append_text(&payload, "\\u0061");
    }
    buf_append_text(&payload, "\"}");
    assert_true(event_parse(&parser, buf_slice(&payload), &event, &reason));
    assert_int_equal(topic_key_name(event.topic).length, 255);
    buf_release(&payload);
    event_parser_release(&parser);
}

/* No field of one event, good or bad, is left in the next. */
static void test_parser_starts_afresh(void **state) {
    static const char full[] = "{\"topic\":\"first\",\"event\":\"e\",\"id\":\"i\",\"retry\":5,"
                               "\"comment\":\"c\",\"text\":true,\"data\":\"d\"}";
    static const char *const between[] = {full, "{\"topic\":\"bad\",\"event\":\"e\",\"comment\":5}",
                                          "nonsense"};
    struct event_parser parser = {0};
    struct event event;
    const char *reason;
    for (size_t i = 0; i < length_of(between); i++) {
        assert_true(event_parse(&parser, slice_of(full), &event, &reason));
        (void)(event_parse(&parser, slice_of(between[i]), &event, &reason) == true);
        assert_true(event_parse(&parser, LITERAL("{\"topic\":\"b\",\"data\":2}"), &event, &reason));
        expect_topic(event.topic, "b");
        assert_int_equal(event.publisher_id.length, 0);
        assert_int_equal(event.id_at, 0);
        expect_text(event.body, "event: message\ndata: 2\n\n");
    }
    event_parser_release(&parser);
}

static void test_truncated_at_every_byte(void **state) {
    static const char whole[] = "{\"topic\":\"a\",\"event\":\"e\",\"id\":\"i\",\"retry\":5,"
                                "\"comment\":\"c\",\"text\":true,\"data\":\"d\\n\"}";
    struct event_parser parser = {0};
    for (size_t length = 0; length < sizeof whole; length++) {
        char *memory;
        struct event event;
        const char *reason;
        struct slice part = exact((struct slice){whole, length}, &memory);
        assert_int_equal(event_parse(&parser, part, &event, &reason), length == sizeof whole - 1);
        free(memory);
    }
    event_parser_release(&parser);
}

/* --- rows of the table
 * ------------------------------------------------------------------------------ */

static const struct event_row plain_row = {.topic = LITERAL("a"), .data = LITERAL("1")};

static void test_good_rows(void **state) {
    static const struct {
        struct event_row row;
        const char *publisher_id;
        size_t id_at;
        const char *body;
    } cases[] = {
        {{.topic = LITERAL("a"), .data = LITERAL("1")}, "", 0, "event: message\ndata: 1\n\n"},
        {{.topic = LITERAL("a"), .data = LITERAL("{ \"n\" : [1, 2] }")},
         "",
         0,
         "event: message\ndata: {\"n\":[1,2]}\n\n"},
        {{.topic = LITERAL("a"), .data = LITERAL("null")}, "", 0, "event: message\ndata: null\n\n"},
        {{.topic = LITERAL("a"), .data = LITERAL("\"x\\ny\"")},
         "",
         0,
         "event: message\ndata: \"x\\ny\"\n\n"},
        {{.topic = LITERAL("a"), .data = LITERAL("\"x\\ny\""), .is_text = true},
         "",
         0,
         "event: message\ndata: x\ndata: y\n\n"},
        {{.topic = LITERAL("a"), .data = LITERAL("[1]"), .is_text = true},
         "",
         0,
         "event: message\ndata: [1]\n\n"},
        {{.topic = LITERAL("a"),
          .type = LITERAL("order"),
          .data = LITERAL("1"),
          .publisher_id = LITERAL("x-1"),
          .retry = LITERAL("10"),
          .comment = LITERAL("c")},
         "x-1",
         4,
         ": c\nevent: order\nretry: 10\ndata: 1\n\n"},
        {{.topic = LITERAL("a"), .data = LITERAL("1"), .retry = LITERAL("0")},
         "",
         0,
         "event: message\nretry: 0\ndata: 1\n\n"},
        {{.topic = LITERAL("a"), .data = LITERAL("1"), .retry = LITERAL("3600000")},
         "",
         0,
         "event: message\nretry: 3600000\ndata: 1\n\n"},
    };
    struct event_parser parser = {0};
    for (size_t i = 0; i < length_of(cases); i++) {
        struct event event;
        const char *reason;
        assert_true(event_from_row(&parser, &cases[i].row, &event, &reason));
        expect_slice(topic_key_name(event.topic), cases[i].row.topic, "topic");
        expect_text(event.publisher_id, cases[i].publisher_id);
        assert_int_equal(event.id_at, cases[i].id_at);
        expect_text(event.body, cases[i].body);
    }
    event_parser_release(&parser);
}

/* Rows that were inserted without the schema's functions, which would have refused them. */
static void test_bad_rows(void **state) {
    char *long_name = repeated('x', 256);
    char *long_id = repeated('x', 65);
    const struct {
        const char *field;
        struct slice value;
        const char *reason; /* a part of it */
    } cases[] = {
        {"topic", LITERAL(""), "topic"},
        {"topic", slice_of(long_name), "topic"},
        {"topic", LITERAL("a\n"), "topic"},
        {"topic", LITERAL("\xff"), "topic"},
        {"type", LITERAL("a\n"), "event"},
        {"type", slice_of(long_name), "event"},
        {"id", LITERAL("a b"), "id"},
        {"id", slice_of(long_id), "id"},
        {"id", LITERAL("~"), "id"},
        {"retry", LITERAL("-1"), "retry"},
        {"retry", LITERAL("3600001"), "retry"},
        {"retry", LITERAL("x"), "retry"},
        {"retry", LITERAL("1.5"), "retry"},
        {"data", LITERAL(""), ""},
        {"data", LITERAL("x"), ""},
        {"data", LITERAL("1 2"), ""},
        {"data", LITERAL("{\"a\":}"), ""},
        {"data", LITERAL("\"\xff\""), ""},
    };
    struct event_parser parser = {0};
    for (size_t i = 0; i < length_of(cases); i++) {
        struct event_row row = plain_row;
        struct event event;
        const char *reason = NULL;
        struct slice *place = strcmp(cases[i].field, "topic") == 0   ? &row.topic
                              : strcmp(cases[i].field, "type") == 0  ? &row.type
                              : strcmp(cases[i].field, "id") == 0    ? &row.publisher_id
                              : strcmp(cases[i].field, "retry") == 0 ? &row.retry
                                                                     : &row.data;
        char *memory;
        *place = exact(cases[i].value, &memory);
        if (event_from_row(&parser, &row, &event, &reason)) {
            fail_msg("%s of case %zu is taken", cases[i].field, i);
        }
        assert_non_null(reason);
        assert_non_null(strstr(reason, cases[i].reason));
        free(memory);
    }
    event_parser_release(&parser);
    free(long_name);
    free(long_id);
}

/* No field of a notification is left in a row, or of a row in a notification. */
static void test_rows_start_afresh(void **state) {
    static const char full[] = "{\"topic\":\"first\",\"event\":\"e\",\"id\":\"i\",\"retry\":5,"
                               "\"comment\":\"c\",\"text\":true,\"data\":\"d\"}";
    static const struct event_row full_row = {.topic = LITERAL("b"),
                                              .type = LITERAL("e"),
                                              .data = LITERAL("\"d\""),
                                              .publisher_id = LITERAL("i"),
                                              .retry = LITERAL("5"),
                                              .comment = LITERAL("c"),
                                              .is_text = true};
    struct event_parser parser = {0};
    struct event event;
    const char *reason;
    assert_true(event_parse(&parser, slice_of(full), &event, &reason));
    assert_true(event_from_row(&parser, &plain_row, &event, &reason));
    expect_text(event.body, "event: message\ndata: 1\n\n");
    assert_int_equal(event.publisher_id.length, 0);
    assert_true(event_from_row(&parser, &full_row, &event, &reason));
    assert_true(event_parse(&parser, LITERAL("{\"topic\":\"b\",\"data\":2}"), &event, &reason));
    expect_text(event.body, "event: message\ndata: 2\n\n");
    assert_int_equal(event.publisher_id.length, 0);
    event_parser_release(&parser);
}

static void test_recheck(void **state) {
    static const struct {
        const char *payload;
        const char *user;   /* NULL: not a recheck */
        const char *tenant; /* NULL: "" */
    } cases[] = {
        {"{\"recheck\":\"u\",\"tenant\":\"Acme_1.x-\"}", "u", "Acme_1.x-"},
        {"{\"tenant\":\"t\",\"recheck\":\"u\"}", "u", "t"},
        {"{\"tenant\":\"\",\"recheck\":\"u\"}", "u", NULL},
        {"{\"tenant\":null,\"recheck\":\"u\"}", "u", NULL},
        {"{\"tenant\":\"t/\",\"recheck\":\"u\"}", NULL, NULL},
        {"{\"tenant\":\"t\\n\",\"recheck\":\"u\"}", NULL, NULL},
        {"{\"tenant\":5,\"recheck\":\"u\"}", NULL, NULL},
        {"{\"recheck\":\"u\",\"recheck\":5}", NULL, NULL},
        {"{\"recheck\":\"u\"}", "u", NULL},
        {"{\"recheck\":\"\"}", "", NULL},
        {" { \"id\" : 5, \"recheck\" : \"\\u0075\\\\x\" } ", "u\\x", NULL},
        {"{\"recheck\":null}", NULL, NULL},
        {"{\"recheck\":5}", NULL, NULL},
        {"{\"recheck\":[\"u\"]}", NULL, NULL},
        {"{\"Recheck\":\"u\"}", NULL, NULL},
        {"{}", NULL, NULL},
        {"[\"recheck\",\"u\"]", NULL, NULL},
        {"\"recheck\"", NULL, NULL},
        {"", NULL, NULL},
        {"{\"recheck\":\"u\"", NULL, NULL},
        {"{\"recheck\":\"u\"}x", NULL, NULL},
        {"5", NULL, NULL},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        struct buf tenant = {0};
        struct buf user = {0};
        char *memory;
        struct slice payload = exact(slice_of(cases[i].payload), &memory);
        bool is_recheck = event_parse_recheck(payload, &tenant, &user);
        assert_int_equal(is_recheck, cases[i].user != NULL);
        if (is_recheck) {
            expect_slice(buf_slice(&user), slice_of(cases[i].user), cases[i].payload);
            expect_slice(buf_slice(&tenant), slice_of(cases[i].tenant), cases[i].payload);
        }
        buf_release(&tenant);
        buf_release(&user);
        free(memory);
    }
}

/* A name that ends in '*' names topics, and is none; but for the one that goes to all streams. */
static void test_topics_that_end_in_a_star(void **state) {
    static const struct {
        const char *topic;
        bool is_good;
    } cases[] = {{"*", true}, {"**", false}, {"a*", false}, {"a*b", true}, {"*a", true}};
    for (size_t i = 0; i < length_of(cases); i++) {
        struct event_parser parser = {0};
        struct event event;
        struct event_row row = {
            .topic = slice_of(cases[i].topic), .data = LITERAL("1"), .retry = LITERAL("")};
        const char *reason = "";
        char text[64];
        snprintf(text, sizeof text, "{\"topic\":\"%s\",\"data\":1}", cases[i].topic);
        bool is_event = event_parse(&parser, slice_of(text), &event, &reason);
        assert_int_equal(is_event, cases[i].is_good);
        if (is_event) {
            expect_text(topic_key_name(event.topic), cases[i].topic);
            assert_false(topic_key_is_pattern(event.topic));
        } else {
            assert_string_equal(reason, "\"topic\" ends in \"*\": that is a pattern, and no topic");
        }
        assert_int_equal(event_from_row(&parser, &row, &event, &reason), cases[i].is_good);
        event_parser_release(&parser);
    }
}

RUN_TESTS(TEST(test_good_events), TEST(test_bad_events), TEST(test_reserved_types),
          TEST(test_text_with_data_that_is_no_string), TEST(test_lengths),
          TEST(test_length_counts_decoded_bytes), TEST(test_parser_starts_afresh),
          TEST(test_truncated_at_every_byte), TEST(test_good_rows), TEST(test_bad_rows),
          TEST(test_rows_start_afresh), TEST(test_recheck), TEST(test_tenants), TEST(test_forge),
          TEST(test_forge_control), TEST(test_tenants_of_rows),
          TEST(test_topics_that_end_in_a_star))
