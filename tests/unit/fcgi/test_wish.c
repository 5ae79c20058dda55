/* What a stream of the third door asks for: queries, good and bad. */
#include "reply.h"
#include "support.h"
#include "wish.h"

static unsigned parse(const char *query, const char *authenticated, struct wish *wish,
                      const char **reason) {
    char *memory;
    struct slice text = exact((struct slice){query, strlen(query) + 1}, &memory);
    unsigned status = wish_parse(wish, text.at, authenticated, reason);
    free(memory); /* it is a copy */
    return status;
}

/* Names with a bar behind each. */
static void expect_wish(const char *query, const char *user, const char *names) {
    struct wish wish;
    struct buf all = {0};
    const char *reason = "none";
    unsigned status = parse(query, "", &wish, &reason);
    if (status != REPLY_OK) {
        fail_msg("'%s': %u, %s", query, status, reason);
    }
    expect_slice(wish.user, slice_of(user), query);
    for (size_t i = 0; i < wish.topics.count; i++) {
        buf_append_slice(&all, wish.topics.names[i]);
        buf_append_text(&all, "|");
    }
    expect_slice(buf_slice(&all), slice_of(names), query);
    buf_release(&all);
    wish_release(&wish);
}

static void test_good(void **state) {
    (void)state;
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
        {"userId=a+b&channels=a+b", "a+b", "a+b|"},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        expect_wish(cases[i].query, cases[i].user, cases[i].names);
    }
}

static void expect_bad(const char *query, const char *word) {
    struct wish wish;
    const char *reason = "none";
    unsigned status = parse(query, "", &wish, &reason);
    if (status != REPLY_BAD_REQUEST || strncmp(reason, word, strlen(word)) != 0) {
        fail_msg("'%s': %u, %s", query, status, reason);
    }
    wish_release(&wish);
}

static void test_bad(void **state) {
    (void)state;
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
        {"userId=1&channels=", "channels: each"},
        {"userId=1&channels=,", "channels: each"},
        {"userId=1&channels=a,", "channels: each"},
        {"userId=1&channels=,a", "channels: each"},
        {"userId=1&channels=a,,b", "channels: each"},
        {"userId=1&channels=a&channels=", "channels: each"},
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
    (void)state;
    for (size_t length = 254; length <= 257; length++) {
        struct buf query = {0};
        char *name = repeated('x', length);
        buf_printf(&query, "userId=%s&channels=a", name);
        buf_append(&query, "", 1);
        if (length <= 255) {
            expect_wish(query.bytes, name, "a|");
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
            expect_wish(query.bytes, "1", names.bytes);
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
    (void)state;
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
        if (count <= WIRE_TOPICS_MAX) {
            expect_wish(query.bytes, "1", names.bytes);
        } else {
            expect_bad(query.bytes, "channels: there are more");
        }
        buf_release(&query);
        buf_release(&names);
    }
}

static void test_who_it_is(void **state) {
    (void)state;
    static const struct {
        const char *query;
        const char *authenticated;
        unsigned status;
    } cases[] = {
        {"userId=anna&channels=a", "", REPLY_OK},
        {"userId=anna&channels=a", "anna", REPLY_OK},
        {"userId=%61nna&channels=a", "anna", REPLY_OK},
        {"userId=anna&channels=a", "Anna", REPLY_FORBIDDEN},
        {"userId=anna&channels=a", "ann", REPLY_FORBIDDEN},
        {"userId=anna&channels=a", "anna ", REPLY_FORBIDDEN},
        {"userId=1&channels=a", "01", REPLY_FORBIDDEN},
        {"userId=1&channels=", "2", REPLY_BAD_REQUEST},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        struct wish wish;
        const char *reason;
        assert_int_equal(parse(cases[i].query, cases[i].authenticated, &wish, &reason),
                         cases[i].status);
        assert_true((reason == NULL) == (cases[i].status == REPLY_OK));
        wish_release(&wish);
    }
}

RUN_TESTS(TEST(test_good), TEST(test_bad), TEST(test_lengths), TEST(test_most_channels),
          TEST(test_who_it_is))
