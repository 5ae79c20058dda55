/* Which channels the broker listens to, and how raw ones are written. */
#include "channels.h"
#include "support.h"

#include <stdlib.h>

/* name=topic of the raw ones, in the order of the names, each ended by a bar. */
static void expect_raw(const char *text, const char *wanted) {
    struct channels channels = {0};
    struct buf got = {0};
    char reason[CHANNELS_REASON_BYTES] = "";
    if (!channels_parse(&channels, text, false, reason)) {
        fail_msg("%s: %s", text, reason);
    }
    for (size_t i = 0; i < channels.count; i++) {
        const struct channel *channel = &channels.list[i];
        if (channel->kind == CHANNEL_RAW) {
            buf_printf(&got, "%s=", channel->name);
            assert_int_equal(topic_key_tenant(channel_topic(channel)).length, 0);
            buf_append_slice(&got, topic_key_name(channel_topic(channel)));
            buf_append_text(&got, "|");
        }
    }
    expect_slice(buf_slice(&got), slice_of(wanted), text);
    buf_release(&got);
    channels_release(&channels);
}

#define SIXTY_THREE "abcdefghijklmnopqrstuvwxyz_abcdefghijklmnopqrstuvwxyz_012345678"

static void test_good(void **state) {
    static const char *const cases[][2] = {
        {"", ""},
        {"  ", ""},
        {"orders", "orders=orders|"},
        {" orders ,cache_invalidate->cache , \"Weird.Name\" -> weird",
         "Weird.Name=weird|cache_invalidate=cache|orders=orders|"},
        {"Orders", "orders=orders|"},
        {"\"Orders\"", "Orders=Orders|"},
        {"Orders, \"Orders\"", "Orders=Orders|orders=orders|"},
        {"_a$1", "_a$1=_a$1|"},
        {"gr\xc3\xb6\xc3\x9f"
         "E",
         "gr\xc3\xb6\xc3\x9f"
         "e=gr\xc3\xb6\xc3\x9f"
         "e|"},
        {"a -> b c", "a=b c|"},
        {"a -> \"b, c\"", "a=b, c|"},
        {"a -> \" b \"", "a= b |"},
        {"a -> \"b\"\"c\"", "a=b\"c|"},
        {"a -> Orders.Paid", "a=Orders.Paid|"},
        {"a -> user:7", "a=user:7|"},
        {"a -> t, b -> t", "a=t|b=t|"},
        {"\"a\"\"b\"", "a\"b=a\"b|"},
        {"\"\"\"\"", "\"=\"|"},
        {"\"a, b -> c\" -> d", "a, b -> c=d|"},
        {"\"a\nb\" -> c", "a\nb=c|"},
        {"\" \" -> blank", " =blank|"},
        {"\"1a\"", "1a=1a|"},
        {"topic_broadcast_8", "topic_broadcast_8=topic_broadcast_8|"},
        {"\"PGSSE_MARKER\"", "PGSSE_MARKER=PGSSE_MARKER|"},
        {SIXTY_THREE " -> x", SIXTY_THREE "=x|"},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        expect_raw(cases[i][0], cases[i][1]);
    }
}

static void test_bad(void **state) {
    static const struct {
        const char *text;
        const char *entry; /* is named */
        const char *reason;
    } cases[] = {
        {",", "''", "empty entry"},
        {"a,", "''", "empty entry"},
        {"a,,b", "''", "empty entry"},
        {"a, ,b", "''", "empty entry"},
        {"a, a", "'a'", "twice"},
        {"Orders, orders -> x", "'orders -> x'", "twice"},
        {"a, \"a\"", "'\"a\"'", "twice"},
        {"topic_broadcast_0", "'topic_broadcast_0'", "own"},
        {"a, TOPIC_broadcast_7 -> x", "'TOPIC_broadcast_7 -> x'", "own"},
        {"\"pgsse_marker\"", "'\"pgsse_marker\"'", "own"},
        {"pgsse_hint", "'pgsse_hint'", "own"},
        {"forge_events -> x", "'forge_events -> x'", "own"},
        {"1a", "'1a'", "double quotes"},
        {"$a", "'$a'", "double quotes"},
        {"-> x", "'-> x'", "double quotes"},
        {"Weird.Name", "'Weird.Name'", "double quotes"},
        {"a b", "'a b'", "double quotes"},
        {"\"\"", "'\"\"'", "no name"},
        {"\"a", "'\"a'", "not closed"},
        {"a -> \"b", "'a -> \"b'", "not closed"},
        {"\"a\" b", "'\"a\" b'", "may follow"},
        {"a -> \"b\" c", "'a -> \"b\" c'", "after the topic"},
        {"a ->", "'a ->'", "topic"},
        {"a -> \"\"", "'a -> \"\"'", "topic"},
        {"a -> b*", "'a -> b*'", "topic"},
        {"a -> b\"c", "'a -> b\"c'", "double quotes"},
        {"a -> b\"c, d -> e", "'a -> b\"c, d -> e'", "double quotes"},
        {"a -> *", "'a -> *'", "topic"},
        {"\"a*\"", "'\"a*\"'", "topic"},
        {"\"a\nb\"", "", "topic"},
        {"a -> b\xff", "", "topic"},
        {"\"\xff\" -> b", "", "not UTF-8"},
        {"\xc3 -> b", "", "not UTF-8"},
        {SIXTY_THREE "a -> x", SIXTY_THREE "a -> x", "63 bytes"},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        struct channels channels = {0};
        char reason[CHANNELS_REASON_BYTES] = "";
        if (channels_parse(&channels, cases[i].text, false, reason)) {
            fail_msg("%s is taken", cases[i].text);
        }
        if (strstr(reason, cases[i].entry) == NULL || strstr(reason, cases[i].reason) == NULL) {
            fail_msg("%s: %s", cases[i].text, reason);
        }
        assert_null(channels.list);
    }
}

/* After an error the old ones are there. */
static void test_bad_changes_nothing(void **state) {
    struct channels channels = {0};
    char reason[CHANNELS_REASON_BYTES];
    assert_true(channels_parse(&channels, "a", false, reason));
    assert_false(channels_parse(&channels, "b, b", false, reason));
    assert_non_null(channels_find(&channels, "a"));
    assert_null(channels_find(&channels, "b"));
    assert_true(channels_parse(&channels, "b", false, reason));
    assert_null(channels_find(&channels, "a"));
    channels_release(&channels);
}

static void test_too_many(void **state) {
    for (unsigned count = CHANNELS_RAW_MAX; count <= CHANNELS_RAW_MAX + 1; count++) {
        struct channels channels = {0};
        struct buf text = {0};
        char reason[CHANNELS_REASON_BYTES];
        for (unsigned i = 0; i < count; i++) {
            buf_printf(&text, "%sc%u", i == 0 ? "" : ",", i);
        }
        buf_append(&text, "", 1);
        assert_int_equal(channels_parse(&channels, text.bytes, false, reason),
                         count == CHANNELS_RAW_MAX);
        channels_release(&channels);
        buf_release(&text);
    }
}

static void test_find(void **state) {
    struct channels channels = {0};
    char reason[CHANNELS_REASON_BYTES];
    assert_true(channels_parse(&channels, "zz, aa -> x", false, reason));
    assert_int_equal(channels.count, CHANNELS_OWN + 2);
    for (size_t i = 0; i < channels.count; i++) {
        assert_ptr_equal(channels_find(&channels, channels.list[i].name), &channels.list[i]);
    }
    assert_int_equal(channels_find(&channels, "topic_broadcast_3")->kind, CHANNEL_TOPICS);
    assert_int_equal(channels_find(&channels, "pgsse_marker")->kind, CHANNEL_MARKERS);
    assert_int_equal(channels_find(&channels, "forge_events")->kind, CHANNEL_HINTS);
    assert_null(channels_find(&channels, "topic_broadcast_8"));
    assert_null(channels_find(&channels, ""));
    assert_null(channels_find(&channels, "ZZ"));
    channels_release(&channels);
}

/* It is another set, and still one of our own. */
static void test_forge(void **state) {
    struct channels off = {0};
    struct channels on = {0};
    char reason[CHANNELS_REASON_BYTES];
    assert_true(channels_parse(&off, "a", false, reason));
    assert_true(channels_parse(&on, "a", true, reason));
    assert_int_equal(channels_find(&on, "forge_events")->kind, CHANNEL_FORGE);
    assert_false(channels_are_equal(&off, &on));
    assert_int_equal(off.count, on.count);
    assert_false(channels_parse(&on, "forge_events -> x", true, reason));
    channels_release(&off);
    channels_release(&on);
}

static void test_listen(void **state) {
    struct channels channels = {0};
    char reason[CHANNELS_REASON_BYTES];
    struct buf sql = {0};
    assert_true(
        channels_parse(&channels, "Orders, \"a\"\"; DROP TABLE x; --\" -> x", false, reason));
    channels_print_listen(&channels, &sql);
    buf_append(&sql, "", 1);
    assert_non_null(strstr(sql.bytes, "LISTEN \"a\"\"; DROP TABLE x; --\"; "));
    assert_non_null(strstr(sql.bytes, "LISTEN \"orders\"; "));
    assert_non_null(strstr(sql.bytes, "LISTEN topic_broadcast_0; "));
    buf_release(&sql);
    channels_release(&channels);
}

/* The set tells channels and topics apart, and does not depend on the order in which they are written.
 */
static void test_sets(void **state) {
    static const struct {
        const char *one;
        const char *other;
        bool are_equal;
    } cases[] = {
        {"", "", true},
        {"a, b", "b,a", true},
        {"a", "A -> a", true},
        {"a", "\"a\" -> \"a\"", true},
        {"", "a", false},
        {"a", "b", false},
        {"a", "a -> b", false},
        {"a -> x, b -> y", "a -> y, b -> x", false},
        {"\"a b\" -> c", "a -> \"b c\"", false},
        {"\"a\nb\" -> c", "a -> c, b -> c", false},
        {"a, b", "\"a\nraw 1 2 \nb b\" -> a", false},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        struct channels one = {0};
        struct channels other = {0};
        char reason[CHANNELS_REASON_BYTES];
        assert_true(channels_parse(&one, cases[i].one, false, reason));
        assert_true(channels_parse(&other, cases[i].other, false, reason));
        if (channels_are_equal(&one, &other) != cases[i].are_equal) {
            fail_msg("%s and %s", cases[i].one, cases[i].other);
        }
        channels_release(&one);
        channels_release(&other);
    }
}

RUN_TESTS(TEST(test_good), TEST(test_bad), TEST(test_bad_changes_nothing), TEST(test_too_many),
          TEST(test_find), TEST(test_forge), TEST(test_listen), TEST(test_sets))
