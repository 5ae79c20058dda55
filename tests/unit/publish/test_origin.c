#include "origin.h"

#include "support.h"

struct pair {
    const char *name;
    const char *value;
};

static const char *get(const void *source, const char *name) {
    for (const struct pair *pair = source; pair->name != NULL; pair++) {
        if (strcmp(pair->name, name) == 0) {
            return pair->value;
        }
    }
    return "";
}

#define ORIGIN(value) \
    { "HTTP_ORIGIN", value }
#define HOST(value) \
    { "HTTP_HOST", value }
#define SITE(value) \
    { "HTTP_SEC_FETCH_SITE", value }
#define PEER(value) \
    { "REMOTE_ADDR", value }
#define TLS \
    { "HTTPS", "on" }
#define PROTO(value) \
    { "HTTP_X_FORWARDED_PROTO", value }
#define FHOST(value) \
    { "HTTP_X_FORWARDED_HOST", value }
#define FPORT(value) \
    { "HTTP_X_FORWARDED_PORT", value }

static const struct {
    const char *name;
    bool is_permitted;
    struct pair pairs[8];
} cases[] = {
    {"no browser", true, {HOST("a.example")}},
    {"no browser, no host", true, {{NULL, NULL}}},
    {"an old browser's same site", true, {HOST("a.example"), SITE("same-origin")}},
    {"its own page", true, {ORIGIN("http://a.example"), HOST("a.example")}},
    {"its own page, by both headers",
     true,
     {ORIGIN("http://a.example"), HOST("a.example"), SITE("same-origin")}},
    {"letters", true, {ORIGIN("http://a.example"), HOST("A.Example")}},
    {"a port", true, {ORIGIN("http://a.example:8080"), HOST("a.example:8080")}},
    {"the usual port", true, {ORIGIN("http://a.example"), HOST("a.example:80")}},
    {"the usual port of TLS", true, {ORIGIN("https://a.example:443"), HOST("a.example"), TLS}},
    {"the other's usual port", false, {ORIGIN("https://a.example"), HOST("a.example:80"), TLS}},
    {"an IPv6 address", true, {ORIGIN("http://[::1]:81"), HOST("[::1]:81")}},
    {"TLS by scheme",
     true,
     {ORIGIN("https://a.example"), HOST("a.example"), {"REQUEST_SCHEME", "https"}}},
    {"another scheme", false, {ORIGIN("https://a.example"), HOST("a.example")}},
    {"another port", false, {ORIGIN("http://a.example:81"), HOST("a.example")}},
    {"another host", false, {ORIGIN("http://evil.example"), HOST("a.example")}},
    {"a longer host", false, {ORIGIN("http://a.example.evil.example"), HOST("a.example")}},
    {"a sandboxed page", false, {ORIGIN("null"), HOST("a.example")}},
    {"no origin at all", false, {ORIGIN("x"), HOST("a.example")}},
    {"no host", false, {ORIGIN("http://a.example")}},
    {"an empty host", false, {ORIGIN("http://"), HOST("")}},
    {"neither can be read", false, {ORIGIN("http://a/b"), HOST("a/b")}},
    {"another site without origin", false, {HOST("a.example"), SITE("cross-site")}},
    {"a contradiction", false, {ORIGIN("http://a.example"), HOST("a.example"), SITE("cross-site")}},
    {"a listed site", true, {ORIGIN("https://b.example"), HOST("a.example"), SITE("cross-site")}},
    {"a listed site in capitals", true, {ORIGIN("HTTPS://B.example:443"), HOST("a.example")}},
    {"a listed site's other port", false, {ORIGIN("https://b.example:444"), HOST("a.example")}},
    {"what a proxy says",
     true,
     {ORIGIN("https://a.example"), HOST("inner:9000"), PEER("10.1.2.3"), PROTO("https"),
      FHOST("a.example")}},
    {"what two proxies say",
     true,
     {ORIGIN("https://a.example"), HOST("inner"), PEER("::ffff:10.1.2.3"), PROTO("https, http"),
      FHOST("a.example, middle")}},
    {"what a proxy says of the port",
     true,
     {ORIGIN("https://a.example:8443"), HOST("a.example"), PEER("fd00:1::2"), PROTO("https"),
      FPORT("8443")}},
    {"a port that stands there already",
     true,
     {ORIGIN("https://a.example:8443"), HOST("a.example:8443"), PEER("10.1.2.3"), PROTO("https"),
      FPORT("443")}},
    {"a proxy that says nothing",
     true,
     {ORIGIN("http://a.example"), HOST("a.example"), PEER("10.1.2.3")}},
    {"what anybody says",
     false,
     {ORIGIN("https://a.example"), HOST("a.example"), PEER("11.1.2.3"), PROTO("https")}},
    {"what a neighbour of the block says",
     false,
     {ORIGIN("https://a.example"), HOST("a.example"), PEER("fd00:2::2"), PROTO("https")}},
    {"what nobody known says",
     false,
     {ORIGIN("https://a.example"), HOST("a.example"), PEER("unix"), PROTO("https")}},
};

static void test_who_may(void **state) {
    struct origin_rules rules;
    const char *reason;
    assert_true(origin_rules_parse(&rules, "https://c.example:8443 , HTTPS://b.example",
                                   "10.0.0.0/8,fd00:1::/31 192.0.2.7", &reason));
    for (size_t i = 0; i < length_of(cases); i++) {
        struct parameters parameters = {cases[i].pairs, get};
        if (origin_is_permitted(&rules, &parameters, &reason) != cases[i].is_permitted) {
            fail_msg("%s", cases[i].name);
        }
    }
    origin_rules_release(&rules);
}

static void test_the_refusal_names_both(void **state) {
    struct origin_rules rules;
    const char *reason;
    struct pair pairs[] = {ORIGIN("https://a.example"), HOST("a.example"), {NULL, NULL}};
    struct parameters parameters = {pairs, get};
    assert_true(origin_rules_parse(&rules, "", "", &reason));
    assert_false(origin_is_permitted(&rules, &parameters, &reason));
    assert_non_null(strstr(reason, "a page of https://a.example may not post to http://a.example"));
    assert_non_null(strstr(reason, "trusted_proxies"));
    char *longest = repeated('x', 5000);
    pairs[0].value = longest;
    assert_false(origin_is_permitted(&rules, &parameters, &reason));
    assert_true(strlen(reason) < 400);
    free(longest);
    origin_rules_release(&rules);
}

static void test_lists(void **state) {
    static const struct {
        const char *allowed;
        const char *proxies;
        const char *complaint; /* NULL: it is good */
    } lists[] = {
        {"", "", NULL},
        {" , ", ",,", NULL},
        {"http://localhost:3000", "127.0.0.1", NULL},
        {"", "0.0.0.0/0 ::/0 ::1/128 1.2.3.4/32", NULL},
        {"*", "", "\"*\" is no origin"},
        {"example.org", "", "\"example.org\" is no origin"},
        {"https://a.example/", "", "\"https://a.example/\" is no origin"},
        {"null", "", "\"null\" is no origin"},
        {"https://", "", "\"https://\" is no origin"},
        {"", "10.0.0.0/33", "is no address"},
        {"", "::1/129", "is no address"},
        {"", "10.0.0.0/", "is no address"},
        {"", "10.0.0.0/8x", "is no address"},
        {"", "10.0.0.0/0008", "is no address"},
        {"", "proxy.example", "is no address"},
        {"https://good.example", "10.0.0", "is no address"},
    };
    for (size_t i = 0; i < length_of(lists); i++) {
        struct origin_rules rules;
        const char *reason = "";
        bool is_good = origin_rules_parse(&rules, lists[i].allowed, lists[i].proxies, &reason);
        if (is_good != (lists[i].complaint == NULL) ||
            (!is_good && strstr(reason, lists[i].complaint) == NULL)) {
            fail_msg("%s, %s: %s", lists[i].allowed, lists[i].proxies, reason);
        }
        if (is_good) {
            origin_rules_release(&rules);
        }
    }
}

static void test_too_many(void **state) {
    struct origin_rules rules;
    struct buf text = {0};
    const char *reason;
    for (int i = 0; i < ORIGIN_LIST_MAX; i++) {
        buf_printf(&text, "http://a%d,", i);
    }
    buf_append(&text, "", 1);
    assert_true(origin_rules_parse(&rules, text.bytes, "", &reason));
    origin_rules_release(&rules);
    text.length--;
    buf_append(&text, "http://b", sizeof "http://b");
    assert_false(origin_rules_parse(&rules, text.bytes, "", &reason));
    buf_release(&text);
}

RUN_TESTS(TEST(test_who_may), TEST(test_the_refusal_names_both), TEST(test_lists),
          TEST(test_too_many))
