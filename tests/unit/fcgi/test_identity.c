/* In whose name a request may act. */
#include "identity.h"
#include "support.h"

static void test_identity(void **state) {
    struct identity anna = identity_of("anna");
    struct identity nobody = identity_of("");
    assert_true(identity_is_authenticated(&anna));
    assert_false(identity_is_authenticated(&nobody));
    assert_true(identity_may_be(&anna, LITERAL("anna")));
    assert_false(identity_may_be(&anna, LITERAL("ann")));
    assert_false(identity_may_be(&anna, LITERAL("annaa")));
    assert_false(identity_may_be(&anna, LITERAL("")));
    assert_true(identity_may_be(&nobody, LITERAL("anna"))); /* nobody is kept from saying so */
}

RUN_TESTS(TEST(test_identity))
