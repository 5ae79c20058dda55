/* Who asks: in whose name a request may act, and of which tenant it is. */
#include "identity.h"
#include "pairs.h"

static struct identity identity_from(const char *const *pairs) {
    struct parameters parameters = {pairs, pairs_get};
    struct identity identity;
    memset(&identity, 'x', sizeof identity);
    identity_read(&identity, &parameters);
    return identity;
}

#define READ(...) identity_from((const char *const[]){__VA_ARGS__, NULL, NULL})

static void test_users(void **state) {
    struct identity anna = READ("REMOTE_USER", "anna");
    struct identity nobody = READ("HTTP_REMOTE_USER", "anna");
    assert_true(identity_is_authenticated(&anna));
    assert_false(identity_is_authenticated(&nobody));
    assert_true(identity_may_be(&anna, LITERAL("anna")));
    assert_false(identity_may_be(&anna, LITERAL("ann")));
    assert_false(identity_may_be(&anna, LITERAL("annaa")));
    assert_false(identity_may_be(&anna, LITERAL("")));
    assert_true(identity_may_be(&nobody, LITERAL("anna"))); /* nobody is kept from saying so */
}

static void test_topics_of_users(void **state) {
    static const struct {
        struct slice name;
        bool is_annas;
        bool is_anybodys;
    } cases[] = {
        {LITERAL("user:anna"), true, false},   {LITERAL("user:ann"), false, false},
        {LITERAL("user:annaa"), false, false}, {LITERAL("user:"), false, false},
        {LITERAL("user:*"), false, false},     {LITERAL("user:anna*"), false, false},
        {LITERAL("user"), true, true},         {LITERAL("User:bob"), true, true},
        {LITERAL("use*"), true, true},         {LITERAL("*"), true, true},
        {LITERAL("orders"), true, true},
    };
    struct identity anna = READ("REMOTE_USER", "anna");
    struct identity nobody = READ("HTTP_REMOTE_USER", "anna");
    struct identity star = READ("REMOTE_USER", "an*");
    for (size_t i = 0; i < length_of(cases); i++) {
        assert_int_equal(identity_may_read(&anna, cases[i].name), cases[i].is_annas);
        assert_int_equal(identity_may_read(&nobody, cases[i].name), cases[i].is_anybodys);
    }
    assert_false(identity_may_read(&star, LITERAL("user:an*"))); /* it would be read as a pattern */
}

#define SIXTY_FOUR "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void test_tenants(void **state) {
    static const struct {
        const char *value;
        bool is_known;
    } cases[] = {
        {"", true},
        {"acme", true},
        {"Acme_1.x-", true},
        {SIXTY_FOUR, true},
        {SIXTY_FOUR "g", false},
        {" ", false},
        {"acme ", false},
        {"a/b", false},
        {"a,b", false},
        {"a\nb", false},
        {"*", false},
        {"\xc3\xa9", false},
        {"\xff", false},
        {"(null)", false},
        {"%{TENANT}e", false},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        char room[TENANT_BYTES_MAX + 1];
        struct identity identity = READ("PGSSE_TENANT", cases[i].value, "REMOTE_USER", "anna");
        if (identity.is_known != cases[i].is_known) {
            fail_msg("'%s'", cases[i].value);
        }
        expect_text(identity.tenant, cases[i].is_known ? cases[i].value : "");
        if (identity.is_known) {
            identity_copy_tenant(&identity, room);
            assert_string_equal(room, cases[i].value);
        }
    }
}

/* Only the web server's own word counts. */
static void test_words_of_others(void **state) {
    struct identity identity =
        READ("HTTP_PGSSE_TENANT", "evil", "PGSSE_TENANT_", "evil", "pgsse_tenant", "evil",
             "REDIRECT_PGSSE_TENANT", "evil", "HTTP_X_PGSSE_TENANT", "evil", "TENANT", "evil",
             "QUERY_STRING", "PGSSE_TENANT=evil&tenant=evil");
    assert_true(identity.is_known);
    assert_int_equal(identity.tenant.length, 0);
}

RUN_TESTS(TEST(test_users), TEST(test_topics_of_users), TEST(test_tenants),
          TEST(test_words_of_others))
