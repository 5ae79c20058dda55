/* Events as clients of each form get them. */
#include "support.h"

#include "stream_form.h"

#define ID "id: 7.abcdefghijklm.9~own\n"

static void expect_form(enum stream_form form, const char *body, size_t id_at, bool is_text,
                        const char *wanted) {
    struct buf out = {0};
    char *memory;
    struct wire_event event = {.is_text = is_text,
                               .position = {7, "abcdefghijklm", 9},
                               .topic = key_of("a\"b"),
                               .publisher_id = LITERAL("own"),
                               .id_at = id_at,
                               .body = exact(slice_of(body), &memory)};
    stream_form_event(form, &event, &out);
    expect_buf(&out, wanted);
    free(memory);
}

static void test_plain(void **state) {
    static const char body[] = ": c\nevent: e\nretry: 5\ndata: 1\ndata: 2\n\n";
    static const char wanted[] = ": c\n" ID "event: e\nretry: 5\ndata: 1\ndata: 2\n\n";
    expect_form(STREAM_FORM_TOPIC, body, 4, true, wanted);
    expect_form(STREAM_FORM_EVENTS, body, 4, true, wanted);
    expect_form(STREAM_FORM_USER, body, 4, true,
                ": c\nid: 7~own\nevent: e\nretry: 5\ndata: 1\ndata: 2\n\n");
}

static void test_labelled(void **state) {
    static const struct {
        const char *data; /* lines */
        bool is_text;
        const char *wanted;
    } cases[] = {
        {"data: {\"n\":1}\n", false, "{\"n\":1}"},
        {"data: null\n", false, "null"},
        {"data: \"a\"\n", false, "\"a\""},
        {"data: a\n", true, "\"a\""},
        {"data:\n", true, "\"\""},
        {"data:\ndata:\n", true, "\"\\u000a\""},
        {"data: a\ndata:\ndata:  b\n", true, "\"a\\u000a\\u000a b\""},
        {"data: data: x\n", true, "\"data: x\""},
        {"data: \"\\\n", true, "\"\\\"\\\\\""},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        struct buf body = {0};
        struct buf wanted = {0};
        buf_printf(&body, ": data: c\nevent: data: e\nretry: 5\n%s\n", cases[i].data);
        buf_printf(&wanted,
                   ": data: c\n" ID "event: data: e\nretry: 5\n"
                   "data: {\"topic\":\"a\\\"b\",\"data\":%s}\n\n",
                   cases[i].wanted);
        buf_append(&body, "", 1);
        buf_append(&wanted, "", 1);
        expect_form(STREAM_FORM_LABELLED, body.bytes, 10, cases[i].is_text, wanted.bytes);
        buf_release(&body);
        buf_release(&wanted);
    }
}

RUN_TESTS(TEST(test_plain), TEST(test_labelled))
