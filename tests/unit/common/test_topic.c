/* Names of topics and event types, and the channels that carry them. */
#include "support.h"
#include "topic.h"

static void test_topic_is_valid(void **state) {
    static const struct {
        struct slice name;
        bool is_valid;
    } cases[] = {
        {LITERAL(""), false},           {LITERAL("a"), true},
        {LITERAL("Alpha Beta"), true},  {LITERAL("user:1"), true},
        {LITERAL("a,b"), true},         {LITERAL("*"), true},
        {LITERAL("caf\xc3\xa9"), true}, {LITERAL("\xf0\x9f\x98\x80"), true},
        {LITERAL("a\0b"), false},       {LITERAL("a\n"), false},
        {LITERAL("\ta"), false},        {LITERAL("a\x1f"), false},
        {LITERAL("a\x7f"), false},      {LITERAL("a\xc2\x85"), false},
        {LITERAL("\xc2\x80"), false},   {LITERAL("\xc2\x9f"), false},
        {LITERAL("\xc2\xa0"), true},    {LITERAL("\xff"), false},
        {LITERAL("a\xc3"), false},      {LITERAL("\xed\xa0\x80"), false},
        {LITERAL("\xc0\xaf"), false},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        if (topic_is_valid(cases[i].name) != cases[i].is_valid ||
            event_type_is_valid(cases[i].name) != cases[i].is_valid) {
            fail_msg("case %zu", i);
        }
    }
}

static void test_patterns(void **state) {
    static const struct {
        struct slice name;
        bool is_pattern;
    } cases[] = {{LITERAL("*"), true},    {LITERAL("orders.*"), true}, {LITERAL("a**"), true},
                 {LITERAL("a *"), true},  {LITERAL("a"), false},       {LITERAL("*a"), false},
                 {LITERAL("a*b"), false}, {LITERAL("a* "), false},     {LITERAL(""), false}};
    for (size_t i = 0; i < length_of(cases); i++) {
        char *memory;
        struct slice name = exact(cases[i].name, &memory);
        assert_int_equal(topic_is_pattern(name), cases[i].is_pattern);
        free(memory);
    }
    assert_true(topic_is_valid(slice_of(TOPIC_BROADCAST)));
    assert_true(topic_is_pattern(slice_of(TOPIC_BROADCAST)));
}

static void test_topics_of_users(void **state) {
    assert_true(topic_is_of_user(LITERAL("user:anna")));
    assert_true(topic_is_of_user(LITERAL("user:")));
    assert_false(topic_is_of_user(LITERAL("user")));
    assert_false(topic_is_of_user(LITERAL("User:anna")));
    assert_false(topic_is_of_user(LITERAL("a user:")));
    assert_false(topic_is_of_user(LITERAL("")));
}

static void test_lengths(void **state) {
    static const struct {
        size_t length;
        bool is_topic;
        bool fits_path;
    } cases[] = {{1, true, true},    {127, true, true},  {128, true, true},   {129, true, false},
                 {254, true, false}, {255, true, false}, {256, false, false}, {9999, false, false}};
    for (size_t i = 0; i < length_of(cases); i++) {
        char *memory;
        char *text = repeated('x', cases[i].length);
        char lowered[TOPIC_PATH_BYTES_MAX + 1];
        struct slice name = exact((struct slice){text, cases[i].length}, &memory);
        assert_int_equal(topic_is_valid(name), cases[i].is_topic);
        assert_int_equal(event_type_is_valid(name), cases[i].is_topic);
        assert_int_equal(topic_parse_path(name, lowered), cases[i].fits_path);
        if (cases[i].fits_path) {
            assert_int_equal(strlen(lowered), cases[i].length);
        }
        free(memory);
        free(text);
    }
}

/* 255 bytes that end in the middle of a character are not a name. */
static void test_length_counts_bytes(void **state) {
    char name[257];
    for (size_t i = 0; i < sizeof name - 1; i += 2) {
        memcpy(name + i, "\xc3\xa9", 2);
    }
    assert_true(topic_is_valid((struct slice){name, 254}));
    assert_false(topic_is_valid((struct slice){name, 255}));
    assert_false(topic_is_valid((struct slice){name, 256}));
}

static void test_path_lowers(void **state) {
    static const struct {
        const char *name;
        const char *lowered; /* NULL: refused */
    } cases[] = {
        {"alpha", "alpha"}, {"ALPHA", "alpha"}, {"Az09_-", "az09_-"}, {"-", "-"},
        {"", NULL},         {"a.b", NULL},      {"a b", NULL},        {"a/b", NULL},
        {"a:b", NULL},      {"a,b", NULL},      {"*", NULL},          {"caf\xc3\xa9", NULL},
        {"\xc3\x84", NULL}, {"@[`{", NULL},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        char lowered[TOPIC_PATH_BYTES_MAX + 1];
        bool fits = topic_parse_path(slice_of(cases[i].name), lowered);
        assert_int_equal(fits, cases[i].lowered != NULL);
        if (fits) {
            assert_string_equal(lowered, cases[i].lowered);
        }
    }
}

static void test_path_every_byte(void **state) {
    static const char good[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    for (int c = 0; c < 256; c++) {
        char name = (char)c;
        char lowered[TOPIC_PATH_BYTES_MAX + 1];
        bool fits = c != 0 && strchr(good, c) != NULL;
        assert_int_equal(topic_parse_path((struct slice){&name, 1}, lowered), fits);
    }
}

/* The published test vectors of FNV-1a, 32 bit. */
static void test_channel_is_fnv1a_modulo_8(void **state) {
    static const struct {
        const char *name;
        uint32_t hash;
    } vectors[] = {{"a", 0xe40c292c},     {"b", 0xe70c2de5},      {"c", 0xe60c2c52},
                   {"d", 0xe10c2473},     {"e", 0xe00c22e0},      {"f", 0xe30c2799},
                   {"fo", 0x6222e842},    {"foo", 0xa9f37ed7},    {"foob", 0x3f5076ef},
                   {"fooba", 0x39aaa18a}, {"foobar", 0xbf9cf968}, {"", 0x811c9dc5}};
    for (size_t i = 0; i < length_of(vectors); i++) {
        char wanted[TOPIC_CHANNEL_BYTES];
        char channel[TOPIC_CHANNEL_BYTES];
        snprintf(wanted, sizeof wanted, "topic_broadcast_%u", vectors[i].hash % 8);
        topic_channel(slice_of(vectors[i].name), channel);
        assert_string_equal(channel, wanted);
    }
}

static void test_channel_ignores_ascii_case_only(void **state) {
    char upper[TOPIC_CHANNEL_BYTES];
    char lower[TOPIC_CHANNEL_BYTES];
    topic_channel(slice_of("FooBar"), upper);
    assert_string_equal(upper, "topic_broadcast_0");
    /* U+00C4 and U+00E4 hash to different channels: their bytes are taken as they are. */
    topic_channel(slice_of("\xc3\x84"), upper);
    topic_channel(slice_of("\xc3\xa4"), lower);
    uint32_t hash = 2166136261u;
    hash = (hash ^ 0xc3) * 16777619u;
    hash = (hash ^ 0xa4) * 16777619u;
    char wanted[TOPIC_CHANNEL_BYTES];
    snprintf(wanted, sizeof wanted, "topic_broadcast_%u", hash % 8);
    assert_string_equal(lower, wanted);
}

static void test_channel_at(void **state) {
    for (unsigned i = 0; i < TOPIC_CHANNELS; i++) {
        char channel[TOPIC_CHANNEL_BYTES];
        topic_channel_at(i, channel);
        assert_int_equal(strlen(channel), TOPIC_CHANNEL_BYTES - 1);
        assert_memory_equal(channel, "topic_broadcast_", 16);
        assert_int_equal(channel[16], '0' + (int)i);
    }
}

static void test_reserved_types(void **state) {
    static const struct {
        const char *type;
        bool is_reserved;
    } cases[] = {{"refresh", true},  {"close", true},   {"error", true}, {"open", true},
                 {"position", true}, {"end", true},     {"state", true}, {"message", false},
                 {"Close", false},   {"closed", false}, {"", false},     {"clos", false},
                 {"opens", false},   {" open", false}};
    for (size_t i = 0; i < length_of(cases); i++) {
        assert_int_equal(event_type_is_reserved(slice_of(cases[i].type)), cases[i].is_reserved);
    }
}

RUN_TESTS(TEST(test_topic_is_valid), TEST(test_patterns), TEST(test_topics_of_users),
          TEST(test_lengths), TEST(test_length_counts_bytes), TEST(test_path_lowers),
          TEST(test_path_every_byte), TEST(test_channel_is_fnv1a_modulo_8),
          TEST(test_channel_ignores_ascii_case_only), TEST(test_channel_at),
          TEST(test_reserved_types))
