/* What is JSON: RFC 8259, at most 128 levels deep. */
#include "json.h"
#include "support.h"

static bool accepts(struct slice text) {
    char *memory;
    struct json_value value;
    struct json_error error = {0};
    bool is_json = json_parse(exact(text, &memory), &value, &error);
    if (!is_json && (error.message == NULL || error.at > text.length)) {
        fail_msg("an error without message or with a place outside: %.*s", (int)text.length,
                 text.at);
    }
    free(memory);
    return is_json;
}

static void expect_all(const struct slice *texts, size_t count, bool wanted) {
    for (size_t i = 0; i < count; i++) {
        if (accepts(texts[i]) != wanted) {
            fail_msg("%.*s: %s", (int)texts[i].length, texts[i].at,
                     wanted ? "should be JSON" : "should not be JSON");
        }
    }
}

#define EXPECT_GOOD(...) EXPECT(true, __VA_ARGS__)
#define EXPECT_BAD(...)  EXPECT(false, __VA_ARGS__)
#define EXPECT(wanted, ...)                                \
    do {                                                   \
        static const struct slice texts[] = {__VA_ARGS__}; \
        expect_all(texts, length_of(texts), wanted);       \
    } while (0)

static void test_values(void **state) {
    EXPECT_GOOD(LITERAL("null"), LITERAL("true"), LITERAL("false"), LITERAL("0"), LITERAL("\"\""),
                LITERAL("[]"), LITERAL("{}"), LITERAL("[ ]"), LITERAL("{ }"),
                LITERAL("[1,[2],{\"a\":[]}]"), LITERAL(" \t\r\n1\t\n\r "),
                LITERAL("{\"a\":1,\"a\":2}"), LITERAL("{\"\":0}"), LITERAL("[[],[]]"),
                LITERAL("[{},{}]"), LITERAL("{\"a\":{},\"b\":[]}"), LITERAL("[\"\",{}]"));
}

static void test_not_values(void **state) {
    EXPECT_BAD(LITERAL(""), LITERAL(" "), LITERAL("nul"), LITERAL("nulll"), LITERAL("Null"),
               LITERAL("True"), LITERAL("TRUE"), LITERAL("tru"), LITERAL("falsey"),
               LITERAL("undefined"), LITERAL("NaN"), LITERAL("-NaN"), LITERAL("Infinity"),
               LITERAL("-Infinity"), LITERAL("inf"), LITERAL("nan"), LITERAL("a"), LITERAL("\\"),
               LITERAL("'a'"), LITERAL("`a`"), LITERAL("/**/1"), LITERAL("1//"), LITERAL("#"),
               LITERAL("\0"), LITERAL("1\0"),
               LITERAL("\0"
                       "1"),
               LITERAL("\x0b"
                       "1"),
               LITERAL("\x0c"
                       "1"),
               LITERAL("\xc2\xa0"
                       "1"),
               LITERAL("\xe2\x80\xa8"
                       "1"));
}

static void test_numbers(void **state) {
    EXPECT_GOOD(LITERAL("0"), LITERAL("-0"), LITERAL("10"), LITERAL("-1"), LITERAL("1.0"),
                LITERAL("0.0"), LITERAL("-0.5"), LITERAL("1e5"), LITERAL("1E5"), LITERAL("1e+5"),
                LITERAL("1e-5"), LITERAL("1.25E-05"), LITERAL("0e0"), LITERAL("0e00"),
                LITERAL("123456789012345678901234567890"), LITERAL("1e999999"), LITERAL("[0,0]"),
                LITERAL("[-0]"));
}

static void test_not_numbers(void **state) {
    EXPECT_BAD(LITERAL("1."), LITERAL(".5"), LITERAL("01"), LITERAL("00"), LITERAL("-01"),
               LITERAL("+1"), LITERAL("-"), LITERAL("--1"), LITERAL("1.e5"), LITERAL("1e"),
               LITERAL("1e+"), LITERAL("1e-"), LITERAL("1e5.0"), LITERAL("1.2.3"), LITERAL("0x10"),
               LITERAL("1_000"), LITERAL("1 2"), LITERAL("1a"), LITERAL("-.5"), LITERAL("-a"),
               LITERAL("1,"), LITERAL("\xef\xbc\x91"), LITERAL("[1.]"), LITERAL("[01]"),
               LITERAL("[-]"), LITERAL("1ee5"), LITERAL("1e5e5"), LITERAL("- 1"));
}

static void test_strings(void **state) {
    EXPECT_GOOD(LITERAL("\"a\""), LITERAL("\"\\\"\""), LITERAL("\"\\\\\""), LITERAL("\"\\/\""),
                LITERAL("\"\\b\\f\\n\\r\\t\""), LITERAL("\"\\u0000\""), LITERAL("\"\\uabCD\""),
                LITERAL("\"\\ud83d\\ude00\""), LITERAL("\"\\ud800\""), LITERAL("\"\\udc00\""),
                LITERAL("\"\x7f\""), LITERAL("\"\xc2\x80\""), LITERAL("\"\xf0\x9f\x98\x80\""),
                LITERAL("\"/\""), LITERAL("\"'\""), LITERAL("\"\\\\\\\"\""));
}

static void test_not_strings(void **state) {
    EXPECT_BAD(LITERAL("\""), LITERAL("\"a"), LITERAL("\"\\\""), LITERAL("\"\\\\\\\""),
               LITERAL("\"\\a\""), LITERAL("\"\\x41\""), LITERAL("\"\\'\""), LITERAL("\"\\0\""),
               LITERAL("\"\\u\""), LITERAL("\"\\u1\""), LITERAL("\"\\u123\""),
               LITERAL("\"\\u123g\""), LITERAL("\"\\u 123\""), LITERAL("\"\\u+123\""),
               LITERAL("\"\\U0041\""), LITERAL("\"\\\0\""), LITERAL("\"\\\n\""), LITERAL("\"\\N\""),
               LITERAL("\"a\"\"b\""), LITERAL("\"\\u{41}\""));
}

static void test_every_raw_control_character(void **state) {
    for (int c = 0; c < 256; c++) {
        char text[] = {'"', 'a', (char)c, '"'};
        bool wanted = c >= 0x20 && c < 0x80 && c != '"' && c != '\\';
        if (accepts((struct slice){text, sizeof text}) != wanted) {
            fail_msg("byte %02x in a string", (unsigned)c);
        }
        char escape[] = {'"', '\\', (char)c, '"'};
        wanted = c > 0 && strchr("\\/bfnrt", c) != NULL;
        if (c != '"' && accepts((struct slice){escape, sizeof escape}) != wanted) {
            fail_msg("the escape %02x", (unsigned)c);
        }
    }
}

static void test_not_utf8(void **state) {
    EXPECT_BAD(LITERAL("\"\xff\""), LITERAL("\"\xc0\xaf\""), LITERAL("\"\xed\xa0\x80\""),
               LITERAL("\"\xc3\""), LITERAL("{\"\xc3\":1}"),
               LITERAL("[\"ok\",\"\xf4\x90\x80\x80\"]"), LITERAL("\"\xe2\x82\""), LITERAL("\x80"),
               LITERAL("1\xff"));
}

static void test_byte_order_marks(void **state) {
    EXPECT_BAD(LITERAL("\xef\xbb\xbf{}"), LITERAL("{}\xef\xbb\xbf"), LITERAL("\xff\xfe{\0}\0"),
               LITERAL("\xef\xbb\xbf"), LITERAL("{\xef\xbb\xbf}"));
    EXPECT_GOOD(LITERAL("\"\xef\xbb\xbf\""));
}

static void test_not_containers(void **state) {
    EXPECT_BAD(LITERAL("["), LITERAL("]"), LITERAL("{"), LITERAL("}"), LITERAL("[1,]"),
               LITERAL("[,1]"), LITERAL("[,]"), LITERAL("[1,,2]"), LITERAL("[1 2]"),
               LITERAL("[1;2]"), LITERAL("[1}"), LITERAL("{\"a\":1]"), LITERAL("{\"a\":1,}"),
               LITERAL("{,}"), LITERAL("{,\"a\":1}"), LITERAL("{\"a\"}"), LITERAL("{\"a\":}"),
               LITERAL("{\"a\":,\"b\":1}"), LITERAL("{:1}"), LITERAL("{'a':1}"), LITERAL("{a:1}"),
               LITERAL("{1:1}"), LITERAL("{null:1}"), LITERAL("{\"a\" 1}"), LITERAL("{\"a\"::1}"),
               LITERAL("{\"a\"=1}"), LITERAL("{\"a\":1 \"b\":2}"), LITERAL("{\"a\",\"b\"}"),
               LITERAL("[\"a\":1]"), LITERAL("{[]:1}"), LITERAL("{{}}"), LITERAL("{[]}"),
               LITERAL("[[]"), LITERAL("[]]"), LITERAL("{}}"), LITERAL("[{]}"),
               LITERAL("{\"a\":[}]"));
}

static void test_trailing_garbage(void **state) {
    EXPECT_BAD(LITERAL("{}x"), LITERAL("{} {}"), LITERAL("1 1"), LITERAL("null,"), LITERAL("[]\0"),
               LITERAL("{}]"), LITERAL("\"a\" b"), LITERAL("true false"), LITERAL("{}\n\x7f"));
    EXPECT_GOOD(LITERAL("{}\n"), LITERAL("{} \t\r\n"));
}

/* --- depth ------------------------------------------------------------------------------------ */

/* levels containers around a 1, an object where the bit of its level is set. */
static void nest(struct buf *out, unsigned levels, uint32_t pattern) {
    for (unsigned i = 0; i < levels; i++) {
        buf_append_text(out, (pattern >> (i % 32) & 1) != 0 ? "{\"k\" : " : "[ ");
    }
    buf_append_text(out, "1");
    for (unsigned i = levels; i-- > 0;) {
        buf_append_text(out, (pattern >> (i % 32) & 1) != 0 ? " }" : "]");
    }
}

static void test_depth(void **state) {
    static const uint32_t patterns[] = {0, UINT32_MAX, 0x55555555, 0xaaaaaaaa, 0x0f0f1234};
    static const struct {
        unsigned levels;
        bool is_good;
    } cases[] = {{1, true}, {127, true}, {128, true}, {129, false}, {130, false}, {100000, false}};
    for (size_t p = 0; p < length_of(patterns); p++) {
        for (size_t i = 0; i < length_of(cases); i++) {
            struct buf text = {0};
            nest(&text, cases[i].levels, patterns[p]);
            if (accepts(buf_slice(&text)) != cases[i].is_good) {
                fail_msg("%u levels, pattern %08x", cases[i].levels, patterns[p]);
            }
            buf_release(&text);
        }
    }
}

/* The 129th level is one too many even when there is nothing in it. */
static void test_depth_of_empty_containers(void **state) {
    for (unsigned levels = 127; levels <= 129; levels++) {
        struct buf text = {0};
        for (unsigned i = 1; i < levels; i++) {
            buf_append_text(&text, "[");
        }
        buf_append_text(&text, levels % 2 == 0 ? "[]" : "{}");
        for (unsigned i = 1; i < levels; i++) {
            buf_append_text(&text, "]");
        }
        assert_int_equal(accepts(buf_slice(&text)), levels <= JSON_DEPTH_MAX);
        buf_release(&text);
    }
}

static void test_depth_is_not_length(void **state) {
    struct buf text = {0};
    buf_append_text(&text, "[");
    for (int i = 0; i < 1000; i++) {
        buf_append_text(&text, i > 0 ? ",[{}]" : "[{}]");
    }
    buf_append_text(&text, "]");
    assert_true(accepts(buf_slice(&text)));
    buf_release(&text);
}

/* --- truncation ------------------------------------------------------------------------------- */

static const char long_document[] =
    "{\"a\":[1,-2.5e+10,\"\\u00e9\\n\\\"\\\\\",{\"b\":{},\"c\":[]}],\"\\ud83d\\ude00\":true,"
    " \"d\" : false , \"e\":null,\"f\":\"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80\", "
    "\"n\":123456789012345678901234567890}";

static void test_unterminated_at_every_byte(void **state) {
    for (size_t length = 0; length < sizeof long_document - 1; length++) {
        if (accepts((struct slice){long_document, length})) {
            fail_msg("%zu bytes of it should be no document", length);
        }
    }
    assert_true(accepts(slice_of(long_document)));
}

/* With any byte changed to any other, the parser must return an answer. */
static void test_every_byte_flipped(void **state) {
    char text[sizeof long_document];
    struct buf out = {0};
    for (size_t at = 0; at < sizeof long_document - 1; at++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            struct json_value value;
            struct json_error error;
            memcpy(text, long_document, sizeof text);
            text[at] = (char)(text[at] ^ (1 << bit));
            out.length = 0;
            if (json_parse((struct slice){text, sizeof text - 1}, &value, &error)) {
                json_compact(value, &out);
                assert_true(accepts(buf_slice(&out)));
            }
        }
    }
    buf_release(&out);
}

/* --- reading ---------------------------------------------------------------------------------- */

static struct json_value parsed(struct slice text) {
    struct json_value value;
    struct json_error error;
    if (!json_parse(text, &value, &error)) {
        fail_msg("not JSON: %.*s", (int)text.length, text.at);
    }
    return value;
}

static void test_value_is_without_the_space_around(void **state) {
    static const struct {
        const char *text;
        enum json_type type;
        const char *value;
    } cases[] = {
        {" null ", JSON_NULL, "null"},
        {"\ttrue", JSON_BOOL, "true"},
        {"false\n", JSON_BOOL, "false"},
        {" -1.0 ", JSON_NUMBER, "-1.0"},
        {" \" a \" ", JSON_STRING, "\" a \""},
        {" [ 1 ] ", JSON_ARRAY, "[ 1 ]"},
        {"\r\n{ \"a\" : 1 } ", JSON_OBJECT, "{ \"a\" : 1 }"},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        struct json_value value = parsed(slice_of(cases[i].text));
        assert_int_equal(value.type, cases[i].type);
        expect_text(value.text, cases[i].value);
    }
}

static void test_members_in_order_with_duplicates(void **state) {
    static const char *const wanted[][2] = {
        {"\"k\"", "1"},   {"\"a\"", "[ {\"k\":0}, \"}\" ]"}, {"\"k\"", "2"}, {"\"\\\"\"", "\",\""},
        {"\"o\"", "{ }"},
    };
    struct json_members members = {
        .object = parsed(slice_of(" { \"k\" : 1 ,\"a\":[ {\"k\":0}, \"}\" ],\n\"k\":2, "
                                  "\"\\\"\" : \",\",\"o\":{ } } "))
                      .text};
    struct json_value key;
    struct json_value value;
    for (size_t i = 0; i < length_of(wanted); i++) {
        assert_true(json_next_member(&members, &key, &value));
        expect_text(key.text, wanted[i][0]);
        expect_text(value.text, wanted[i][1]);
        assert_int_equal(key.type, JSON_STRING);
    }
    assert_false(json_next_member(&members, &key, &value));
    assert_false(json_next_member(&members, &key, &value));
}

static void test_members_of_empty_objects(void **state) {
    static const char *const texts[] = {"{}", "{ }", "{\n\t}"};
    struct json_value key;
    struct json_value value;
    for (size_t i = 0; i < length_of(texts); i++) {
        struct json_members members = {.object = parsed(slice_of(texts[i])).text};
        assert_false(json_next_member(&members, &key, &value));
    }
}

static void test_elements_in_order(void **state) {
    static const struct {
        enum json_type type;
        const char *text;
    } wanted[] = {
        {JSON_NUMBER, "1"},          {JSON_ARRAY, "[ 2,[] ]"}, {JSON_OBJECT, "{\"a\":[3,4]}"},
        {JSON_STRING, "\"],\\\"\""}, {JSON_NULL, "null"},      {JSON_BOOL, "false"},
        {JSON_ARRAY, "[]"}};
    struct json_elements elements = {
        .array =
            parsed(slice_of(" [ 1 ,[ 2,[] ],\n{\"a\":[3,4]}, \"],\\\"\",null , false,[] ] ")).text};
    struct json_value value;
    for (size_t i = 0; i < length_of(wanted); i++) {
        assert_true(json_next_element(&elements, &value));
        assert_int_equal(value.type, wanted[i].type);
        expect_text(value.text, wanted[i].text);
    }
    assert_false(json_next_element(&elements, &value));
    assert_false(json_next_element(&elements, &value));
}

static void test_elements_of_empty_arrays(void **state) {
    static const char *const texts[] = {"[]", "[ ]", "[\n\t]"};
    struct json_value value;
    for (size_t i = 0; i < length_of(texts); i++) {
        struct json_elements elements = {.array = parsed(slice_of(texts[i])).text};
        assert_false(json_next_element(&elements, &value));
        assert_false(json_next_element(&elements, &value));
    }
}

/* As deep as json_parse takes them. */
static void test_elements_that_are_deep(void **state) {
    char text[256];
    memset(text, '[', 128);
    memset(text + 128, ']', 128);
    struct json_elements elements = {.array = parsed((struct slice){text, sizeof text}).text};
    struct json_value value;
    assert_true(json_next_element(&elements, &value));
    assert_int_equal(value.text.length, 254);
    assert_false(json_next_element(&elements, &value));
}

static void test_string_decode(void **state) {
    static const struct {
        const char *text;
        struct slice decoded;
    } cases[] = {
        {"\"\"", LITERAL("")},
        {"\"a b\"", LITERAL("a b")},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", LITERAL("\"\\/\b\f\n\r\t")},
        {"\"\\u0000\"", LITERAL("\0")},
        {"\"a\\u0000b\"", LITERAL("a\0b")},
        {"\"\\u00e9\\u00E9\"", LITERAL("\xc3\xa9\xc3\xa9")},
        {"\"\\u20ac\"", LITERAL("\xe2\x82\xac")},
        {"\"\\ud83d\\ude00\"", LITERAL("\xf0\x9f\x98\x80")},
        {"\"\\uD83D\\uDE00!\"", LITERAL("\xf0\x9f\x98\x80!")},
        {"\"\\udbff\\udfff\"", LITERAL("\xf4\x8f\xbf\xbf")},
        {"\"\\ud800\\udc00\"", LITERAL("\xf0\x90\x80\x80")},
        {"\"\\ud83d\"", LITERAL("\xef\xbf\xbd")},
        {"\"\\ude00\"", LITERAL("\xef\xbf\xbd")},
        {"\"\\ud83dx\"", LITERAL("\xef\xbf\xbd"
                                 "x")},
        {"\"\\ud83d\\n\"", LITERAL("\xef\xbf\xbd\n")},
        {"\"\\ud83d\\u0041\"", LITERAL("\xef\xbf\xbd"
                                       "A")},
        {"\"\\ud83d\\ud83d\\ude00\"", LITERAL("\xef\xbf\xbd\xf0\x9f\x98\x80")},
        {"\"\\ude00\\ud83d\"", LITERAL("\xef\xbf\xbd\xef\xbf\xbd")},
        {"\"\\ud83d\\\\u\"", LITERAL("\xef\xbf\xbd\\u")},
        {"\"\\\\ud83d\"", LITERAL("\\ud83d")},
        {"\"\xf0\x9f\x98\x80\"", LITERAL("\xf0\x9f\x98\x80")},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        char *memory;
        struct buf out = {0};
        json_string_decode(parsed(exact(slice_of(cases[i].text), &memory)), &out);
        expect_slice(buf_slice(&out), cases[i].decoded, cases[i].text);
        buf_release(&out);
        free(memory);
    }
}

static void test_string_is(void **state) {
    assert_true(json_string_is(parsed(slice_of("\"topic\"")), "topic"));
    assert_true(json_string_is(parsed(slice_of("\"t\\u006fpic\"")), "topic"));
    assert_true(json_string_is(parsed(slice_of("\"\"")), ""));
    assert_false(json_string_is(parsed(slice_of("\"topic\\u0000\"")), "topic"));
    assert_false(json_string_is(parsed(slice_of("\"topi\"")), "topic"));
    assert_false(json_string_is(parsed(slice_of("\"topics\"")), "topic"));
    assert_false(json_string_is(parsed(slice_of("\"Topic\"")), "topic"));
}

static void test_parse_unsigned(void **state) {
    static const struct {
        const char *text;
        uint64_t limit;
        bool is_good;
        uint64_t value;
    } cases[] = {
        {"0", 0, true, 0},
        {"1", 0, false, 0},
        {"3600000", 3600000, true, 3600000},
        {"3600001", 3600000, false, 0},
        {"-1", 10, false, 0},
        {"-0", 10, false, 0},
        {"1.0", 10, false, 0},
        {"1e0", 10, false, 0},
        {"\"1\"", 10, false, 0},
        {"true", 10, false, 0},
        {"null", 10, false, 0},
        {"[1]", 10, false, 0},
        {"9223372036854775807", INT64_MAX, true, INT64_MAX},
        {"9223372036854775808", INT64_MAX, false, 0},
        {"18446744073709551616", UINT64_MAX, false, 0},
        {"99999999999999999999", UINT64_MAX, false, 0},
        {"123456789012345678901234567890", UINT64_MAX, false, 0},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        uint64_t value = 77;
        bool is_good = json_parse_unsigned(parsed(slice_of(cases[i].text)), cases[i].limit, &value);
        if (is_good != cases[i].is_good || (is_good && value != cases[i].value)) {
            fail_msg("%s, at most %llu", cases[i].text, (unsigned long long)cases[i].limit);
        }
    }
}

/* --- writing ---------------------------------------------------------------------------------- */

static void test_compact(void **state) {
    static const struct {
        const char *text;
        const char *compacted;
    } cases[] = {
        {" 1.0 ", "1.0"},
        {"123456789012345678901234567890", "123456789012345678901234567890"},
        {"[ 1 , 2\n,\t3 ]", "[1,2,3]"},
        {"{ \"b\" : 1 , \"a\" : 2 , \"b\" : 3 }", "{\"b\":1,\"a\":2,\"b\":3}"},
        {"\" a  b \"", "\" a  b \""},
        {"[ \"\\\" \\\\\" , \" \" ]", "[\"\\\" \\\\\",\" \"]"},
        {"[ \"\\\\\" , \"x y\" ]", "[\"\\\\\",\"x y\"]"},
        {"{ \"n\" : 123456789012345678901234567890 , \"x\" : 1.0 , \"s\":\"\xc3\xa9\\u0000<\" , "
         "\"k\" : 1, \"k\" : 2 }",
         "{\"n\":123456789012345678901234567890,\"x\":1.0,\"s\":\"\xc3\xa9\\u0000<\",\"k\":1,"
         "\"k\":2}"},
        {"1E+2", "1E+2"},
        {"-0", "-0"},
        {"[]", "[]"},
        {"{ }", "{}"},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        char *memory;
        struct buf out = {0};
        buf_append_text(&out, "<");
        json_compact(parsed(exact(slice_of(cases[i].text), &memory)), &out);
        buf_consume(&out, 1);
        expect_buf(&out, cases[i].compacted);
        free(memory);
    }
}

static void test_quote(void **state) {
    struct buf out = {0};
    json_quote(LITERAL("a\"b\\c\n\r\t\0\x1f\x7f/<\xc3\xa9"), &out);
    expect_buf(&out, "\"a\\\"b\\\\c\\u000a\\u000d\\u0009\\u0000\\u001f\x7f/<\xc3\xa9\"");
    json_quote(LITERAL(""), &out);
    expect_buf(&out, "\"\"");
}

static void test_quote_comes_back(void **state) {
    for (uint32_t c = 0; c < 0x80; c++) {
        char text[] = {'x', (char)c, 'y'};
        struct buf quoted = {0};
        struct buf decoded = {0};
        json_quote((struct slice){text, sizeof text}, &quoted);
        json_string_decode(parsed(buf_slice(&quoted)), &decoded);
        expect_slice(buf_slice(&decoded), (struct slice){text, sizeof text}, "quoted and decoded");
        buf_release(&quoted);
        buf_release(&decoded);
    }
}

RUN_TESTS(TEST(test_values), TEST(test_not_values), TEST(test_numbers), TEST(test_not_numbers),
          TEST(test_strings), TEST(test_not_strings), TEST(test_every_raw_control_character),
          TEST(test_not_utf8), TEST(test_byte_order_marks), TEST(test_not_containers),
          TEST(test_trailing_garbage), TEST(test_depth), TEST(test_depth_of_empty_containers),
          TEST(test_depth_is_not_length), TEST(test_unterminated_at_every_byte),
          TEST(test_every_byte_flipped), TEST(test_value_is_without_the_space_around),
          TEST(test_members_in_order_with_duplicates), TEST(test_members_of_empty_objects),
          TEST(test_elements_in_order), TEST(test_elements_of_empty_arrays),
          TEST(test_elements_that_are_deep), TEST(test_string_decode), TEST(test_string_is),
          TEST(test_parse_unsigned), TEST(test_compact), TEST(test_quote),
          TEST(test_quote_comes_back))
