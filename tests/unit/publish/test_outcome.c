/* What became of a statement. */
#include "outcome.h"
#include "support.h"

static void test_states(void **state) {
    static const struct {
        const char *sqlstate;
        enum outcome_kind kind;
        bool is_passing;
    } cases[] = {
        {"", OUTCOME_UNKNOWN, false},          {"22023", OUTCOME_REFUSED, false},
        {"22P02", OUTCOME_REFUSED, false},     {"3F000", OUTCOME_NO_SCHEMA, false},
        {"42P01", OUTCOME_NO_SCHEMA, false},   {"42883", OUTCOME_NO_SCHEMA, false},
        {"42501", OUTCOME_FORBIDDEN, false},   {"57P01", OUTCOME_UNAVAILABLE, true},
        {"57P02", OUTCOME_UNAVAILABLE, true},  {"57P03", OUTCOME_UNAVAILABLE, true},
        {"25006", OUTCOME_UNAVAILABLE, true},  {"57014", OUTCOME_UNAVAILABLE, false},
        {"53300", OUTCOME_UNAVAILABLE, false}, {"26000", OUTCOME_UNAVAILABLE, false},
        {"42601", OUTCOME_UNAVAILABLE, false}, {"XX000", OUTCOME_UNAVAILABLE, false},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        if (outcome_of(cases[i].sqlstate).kind != cases[i].kind ||
            outcome_is_passing(cases[i].sqlstate) != cases[i].is_passing) {
            fail_msg("'%s'", cases[i].sqlstate);
        }
    }
}

static void test_answers(void **state) {
    static const struct {
        enum outcome_kind kind;
        const char *status;
        const char *part; /* of the body */
    } cases[] = {
        {OUTCOME_REFUSED, "Status: 400 ", "{\"error\":\"Postgres does not take this\"}"},
        {OUTCOME_UNAVAILABLE, "Status: 503 ", "is away"},
        {OUTCOME_UNKNOWN, "Status: 503 ", ",\"outcome\":\"unknown\"}"},
        {OUTCOME_NO_SCHEMA, "Status: 501 ", "psql -f sql/pgsse.sql \\\"$DATABASE_URL\\\"\"}"},
        {OUTCOME_OTHER_SCHEMA, "Status: 501 ",
         "another version, 7, and this program needs 4: psql"},
        {OUTCOME_FOREIGN_SCHEMA, "Status: 501 ", "neither this one nor a superuser"},
        {OUTCOME_FORBIDDEN, "Status: 503 ", "GRANT USAGE ON SCHEMA pgsse"},
    };
    for (size_t i = 0; i < length_of(cases); i++) {
        struct buf answer = {0};
        outcome_append_answer((struct outcome){cases[i].kind, 7}, false, &answer);
        buf_append(&answer, "", 1);
        assert_true(strncmp(answer.bytes, cases[i].status, strlen(cases[i].status)) == 0);
        if (strstr(answer.bytes, cases[i].part) == NULL) {
            fail_msg("%s", answer.bytes);
        }
        assert_non_null(strstr(answer.bytes, "Content-Type: application/json\r\n"));
        assert_true((strstr(answer.bytes, "\r\nRetry-After: ") != NULL) ==
                    (strncmp(cases[i].status, "Status: 503", 11) == 0));
        buf_release(&answer);
        outcome_append_answer((struct outcome){cases[i].kind, 7}, true, &answer);
        assert_memory_equal(answer.bytes + answer.length - 4, "\r\n\r\n", 4);
        buf_release(&answer);
    }
}

RUN_TESTS(TEST(test_states), TEST(test_answers))
