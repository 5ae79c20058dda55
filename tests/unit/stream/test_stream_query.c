/* What a stream of the durable API asks for: queries, good and bad. */
#include "http.h"
#include "stream_query.h"
#include "support.h"

static unsigned parse(const char *query, const char *authenticated, struct stream_query *wanted,
                      const char **reason) {
    char *memory;
    struct slice text = exact((struct slice){query, strlen(query) + 1}, &memory);
    struct identity identity = {.user = authenticated, .is_known = true};
    unsigned status = stream_query_of_user(wanted, text.at, &identity, reason);
    free(memory); /* it is a copy */
    return status;
}

/* Names with a bar behind each. */
static void expect_query(const char *query, const char *user, const char *names) {
    struct stream_query wanted;
    struct buf all = {0};
    const char *reason = "none";
    unsigned status = parse(query, "", &wanted, &reason);
    if (status != HTTP_OK) {
        fail_msg("'%s': %u, %s", query, status, reason);
    }
    expect_slice(wanted.user, slice_of(user), query);
    for (size_t i = 0; i < wanted.topics.count; i++) {
        buf_append_slice(&all, topic_key_name(wanted.topics.keys[i]));
        buf_append_text(&all, "|");
    }
    expect_slice(buf_slice(&all), slice_of(names), query);
    buf_release(&all);
    stream_query_release(&wanted);
}

static void test_good(void **state) {
    static const struct {
        const char *query;
        const char *user;
        const char *names;
    } cases[] = {
        {"userId=1&channels=a", "1", "a|"},
        {"channels=a,b&userId=anna", "anna", "a|b|"},
        {"userId=1&channels=b,a,b,a,b", "1", "b|a|"},
        {"userId=1&channels=a&channels=b,a&x=1", "1", "a|b|"},
        {"userId=1&channels=a%2Cb", "1", "a|b|"},
        {"userId=1&channels=%61,a", "1", "a|"},
        {"userId=1&channels=a%26b%3dc%25", "1", "a&b=c%|"},
        {"userId=1&channels=Alpha,alpha", "1", "Alpha|alpha|"},
        {"userId=1&channels=a%20b,caf%c3%a9,caf\xc3\xa9", "1", "a b|caf\xc3\xa9|"},
        {"userId=%c3%a9%20%2c&channels=a", "\xc3\xa9 ,", "a|"},
        {"userId=1&userId=2&channels=a", "1", "a|"},
        {"&&userId=1&&channels=a&", "1", "a|"},
        {"userId=a+b&channels=a+b,c%2bd", "a b", "a b|c+d|"},
        {"userId=1&channels=a,", "1", "a|"},
        {"userId=1&channels=,a", "1", "a|"},
        {"userId=1&channels=a,,b", "1", "a|b|"},
        {"userId=1&channels=&channels=a&channels=", "1", "a|"},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        expect_query(cases[i].query, cases[i].user, cases[i].names);
    }
}

static void expect_bad(const char *query, const char *word) {
    struct stream_query wanted;
    const char *reason = "none";
    unsigned status = parse(query, "", &wanted, &reason);
    if (status != HTTP_BAD_REQUEST || strncmp(reason, word, strlen(word)) != 0) {
        fail_msg("'%s': %u, %s", query, status, reason);
    }
    stream_query_release(&wanted);
}

static void test_bad(void **state) {
    static const struct {
        const char *query;
        const char *word; /* that the reason begins with */
    } cases[] = {
        {"", "userId"},
        {"channels=a", "userId"},
        {"userId&channels=a", "userId"},
        {"userId=&channels=a", "userId"},
        {"UserId=1&channels=a", "userId"},
        {"userid=1&channels=a", "userId"},
        {"userId=%zz&channels=a", "userId"},
        {"userId=a%0ab&channels=a", "userId"},
        {"userId=%00&channels=a", "userId"},
        {"userId=%7f&channels=a", "userId"},
        {"userId=%c2%80&channels=a", "userId"},
        {"userId=%ff&channels=a", "userId"},
        {"userId=&userId=1&channels=a", "userId"},
        {"userId=1", "channels is missing"},
        {"userId=1&channels", "channels is missing"},
        {"userId=1&Channels=a", "channels is missing"},
        {"userId=1&xchannels=a", "channels is missing"},
        {"userId=1&channels=", "channels is missing"},
        {"userId=1&channels=,", "channels is missing"},
        {"userId=1&channels=,,&channels=", "channels is missing"},
        {"userId=1&channels=a%0a", "channels: each"},
        {"userId=1&channels=a%00b", "channels: each"},
        {"userId=1&channels=%ff", "channels: each"},
        {"userId=1&channels=%c3,%a9", "channels: each"},
        {"userId=1&channels=a%zz", "channels cannot"},
        {"userId=1&channels=a%", "channels cannot"},
        {"userId=1&channels=a&channels=%4", "channels cannot"},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        expect_bad(cases[i].query, cases[i].word);
    }
}

static void test_lengths(void **state) {
    for (size_t length = 254; length <= 257; length++) {
        struct buf query = {0};
        char *name = repeated('x', length);
        buf_printf(&query, "userId=%s&channels=a", name);
        buf_append(&query, "", 1);
        if (length <= 255) {
            expect_query(query.bytes, name, "a|");
        } else {
            expect_bad(query.bytes, "userId");
        }
        query.length = 0;
        buf_printf(&query, "userId=1&channels=b,%s", name);
        buf_append(&query, "", 1);
        struct buf names = {0};
        buf_printf(&names, "b|%s|", name);
        buf_append(&names, "", 1);
        if (length <= 255) {
            expect_query(query.bytes, "1", names.bytes);
        } else {
            expect_bad(query.bytes, "channels: each");
        }
        buf_release(&query);
        buf_release(&names);
        free(name);
    }
}

/* As many as a stream may have, some more than once; and one more. */
static void test_most_channels(void **state) {
    for (int count = 63; count <= 66; count++) {
        struct buf query = {0};
        struct buf names = {0};
        buf_append_text(&query, "userId=1&channels=c0");
        buf_append_text(&names, "c0|");
        for (int i = 1; i < count; i++) {
            buf_printf(&query, i % 10 == 0 ? "&channels=c0,c%d" : ",c%d", i);
            buf_printf(&names, "c%d|", i);
        }
        buf_append(&query, "", 1);
        buf_append(&names, "", 1);
        if (count <= NAMES_ASKED_MAX) {
            expect_query(query.bytes, "1", names.bytes);
        } else {
            expect_bad(query.bytes, "channels: there are more");
        }
        buf_release(&query);
        buf_release(&names);
    }
}

static void test_who_it_is(void **state) {
    static const struct {
        const char *query;
        const char *authenticated;
        unsigned status;
    } cases[] = {
        {"userId=anna&channels=a", "", HTTP_OK},
        {"userId=anna&channels=a", "anna", HTTP_OK},
        {"userId=%61nna&channels=a", "anna", HTTP_OK},
        {"userId=anna&channels=a", "Anna", HTTP_FORBIDDEN},
        {"userId=anna&channels=a", "ann", HTTP_FORBIDDEN},
        {"userId=anna&channels=a", "anna ", HTTP_FORBIDDEN},
        {"userId=1&channels=a", "01", HTTP_FORBIDDEN},
        {"userId=1&channels=", "2", HTTP_BAD_REQUEST},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        struct stream_query wanted;
        const char *reason;
        assert_int_equal(parse(cases[i].query, cases[i].authenticated, &wanted, &reason),
                         cases[i].status);
        assert_true((reason == NULL) == (cases[i].status == HTTP_OK));
        stream_query_release(&wanted);
    }
}

/* --- the events API --------------------------------------------------------------------------- */

/* The names with '|' after each, patterns as they are written. */
static void expect_events(const char *query, const char *user, const char *names,
                          enum stream_form form) {
    struct stream_query wanted;
    struct identity identity = {.user = user, .is_known = true};
    struct buf all = {0};
    const char *reason = "none";
    char *memory;
    struct slice text = exact((struct slice){query, strlen(query) + 1}, &memory);
    unsigned status = stream_query_of_events(&wanted, text.at, &identity, &reason);
    if (status != HTTP_OK) {
        fail_msg("'%s': %u, %s", query, status, reason);
    }
    assert_int_equal(wanted.form, form);
    for (size_t i = 0; i < wanted.topics.count; i++) {
        struct topic_key key = wanted.topics.keys[i];
        buf_append_text(&all, topic_key_is_pattern(key) ? "~" : "");
        buf_append_slice(&all, topic_key_name(key));
        buf_append_text(&all, "|");
    }
    expect_slice(buf_slice(&all), slice_of(names), query);
    buf_release(&all);
    stream_query_release(&wanted);
    free(memory);
}

static void test_events(void **state) {
    static const struct {
        const char *query;
        const char *user;
        const char *names; /* '~' before patterns; what is for everybody comes last */
    } cases[] = {
        {"", "", "~*|*|"},
        {"topics=", "", "~*|*|"},
        {"topics=,&topic=", "", "~*|*|"},
        {"with_topic=0&other=1", "", "~*|*|"},
        {"topics=*", "", "~*|*|"},
        {"topics=a,b&topic=c", "", "a|b|c|*|"},
        {"topic=c&topics=a,b", "", "a|b|c|*|"},
        {"topics=a%2Cb,a", "", "a|b|*|"},
        {"topics=orders.*,orders", "", "~orders.*|orders|*|"},
        {"topics=Alpha,orders:42,gr%C3%B6%C3%9Fe,a+b", "",
         "Alpha|orders:42|gr\xc3\xb6\xc3\x9f"
         "e|a b|*|"},
        {"topics=a", "anna", "a|user:anna|*|"},
        {"", "anna", "~*|user:anna|*|"},
        {"topics=user:anna,a", "anna", "user:anna|a|*|"},
        {"topics=users,user,use*", "", "users|user|~use*|*|"},
        {"topics=a", "an*", "a|*|"},
        {"topics=a", "an\xff", "a|*|"},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        expect_events(cases[i].query, cases[i].user, cases[i].names, STREAM_FORM_EVENTS);
    }
    expect_events("topics=a&with_topic=1", "", "a|*|", STREAM_FORM_LABELLED);
}

static void expect_refused(const char *query, const char *user, unsigned wanted_status) {
    struct stream_query wanted;
    struct identity identity = {.user = user, .is_known = true};
    const char *reason = NULL;
    unsigned status = stream_query_of_events(&wanted, query, &identity, &reason);
    if (status != wanted_status || reason == NULL) {
        fail_msg("'%s': %u, %s", query, status, reason);
    }
    stream_query_release(&wanted);
}

static void test_events_that_are_refused(void **state) {
    static const char *const bad[] = {"topics=%zz", "topic=a%00", "topics=a,%0A", "topics=%ff"};
    static const char *const forbidden[] = {"topics=user:ann", "topics=a,user:", "topic=user:*",
                                            "topics=user:anna*", "topic=user:anna%20"};
    for (size_t i = 0; i < length_of(bad); i++) {
        expect_refused(bad[i], "anna", HTTP_BAD_REQUEST);
    }
    for (size_t i = 0; i < length_of(forbidden); i++) {
        expect_refused(forbidden[i], "anna", HTTP_FORBIDDEN);
        expect_refused(forbidden[i], "", HTTP_FORBIDDEN);
    }
    expect_refused("topics=user:anna", "", HTTP_FORBIDDEN);
}

RUN_TESTS(TEST(test_events), TEST(test_events_that_are_refused), TEST(test_good), TEST(test_bad),
          TEST(test_lengths), TEST(test_most_channels), TEST(test_who_it_is))
