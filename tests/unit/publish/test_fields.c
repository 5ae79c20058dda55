/* What a publisher says of an event besides topic, type and data. */
#include "fields.h"
#include "support.h"

static bool parse(struct fields *fields, const char *body, const char **reason) {
    struct body_member members[] = {FIELDS_MEMBERS};
    *fields = (struct fields){0};
    return body_parse(slice_of(body), members, length_of(members), reason) &&
           fields_read(fields, members, reason);
}

static void test_good(void **state) {
    static const struct {
        const char *body;
        const char *members;
    } cases[] = {
        {"{}", ""},
        {"{\"id\":null,\"retry\":null,\"comment\":null,\"text\":null}", ""},
        {"{\"id\":\"A_z.9-\"}", ",\"id\":\"A_z.9-\""},
        {"{\"retry\":0}", ",\"retry\":0"},
        {"{\"retry\":3600000}", ",\"retry\":3600000"},
        {"{\"comment\":\"\"}", ""},
        {"{\"comment\":\"a\\r\\nb \\u00e9\"}", ",\"comment\":\"a\\u000d\\u000ab \xc3\xa9\""},
        {"{\"text\":true}", ",\"text\":true"},
        {"{\"text\":false}", ""},
        {"{\"text\":true,\"id\":\"x\",\"id\":\"y\",\"comment\":\"c\",\"retry\":5,\"other\":1}",
         ",\"id\":\"y\",\"retry\":5,\"comment\":\"c\",\"text\":true"},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        struct fields fields;
        struct buf members = {0};
        const char *reason = "none";
        if (!parse(&fields, cases[i].body, &reason)) {
            fail_msg("%s: %s", cases[i].body, reason);
        }
        fields_append(&fields, &members);
        expect_slice(buf_slice(&members), slice_of(cases[i].members), cases[i].body);
        buf_release(&members);
        fields_release(&fields);
    }
}

static void test_bad(void **state) {
    static const struct {
        const char *body;
        const char *name;
    } cases[] = {
        {"{\"id\":\"\"}", "\"id\""},          {"{\"id\":1}", "\"id\""},
        {"{\"id\":\"a b\"}", "\"id\""},       {"{\"id\":\"a\\nb\"}", "\"id\""},
        {"{\"id\":\"\\u0000\"}", "\"id\""},   {"{\"retry\":-1}", "\"retry\""},
        {"{\"retry\":3600001}", "\"retry\""}, {"{\"retry\":1.0}", "\"retry\""},
        {"{\"retry\":\"5\"}", "\"retry\""},   {"{\"retry\":99999999999999999999999}", "\"retry\""},
        {"{\"comment\":1}", "\"comment\""},   {"{\"comment\":\"\\u0000\"}", "\"comment\""},
        {"{\"text\":1}", "\"text\""},         {"{\"text\":\"true\"}", "\"text\""},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        struct fields fields;
        const char *reason = "none";
        bool is_good = parse(&fields, cases[i].body, &reason);
        if (is_good || strncmp(reason, cases[i].name, strlen(cases[i].name)) != 0) {
            fail_msg("%s: %s", cases[i].body, reason);
        }
        fields_release(&fields);
    }
}

static void test_id_of_64_bytes(void **state) {
    for (size_t length = 64; length <= 65; length++) {
        struct fields fields;
        struct buf body = {0};
        const char *reason;
        char *id = repeated('i', length);
        buf_printf(&body, "{\"id\":\"%s\"}", id);
        buf_append(&body, "", 1);
        assert_int_equal(parse(&fields, body.bytes, &reason), length == 64);
        fields_release(&fields);
        buf_release(&body);
        free(id);
    }
}

RUN_TESTS(TEST(test_good), TEST(test_bad), TEST(test_id_of_64_bytes))
