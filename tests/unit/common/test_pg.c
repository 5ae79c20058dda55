/* The parts of common/pg that need no Postgres: connection strings and delays. */
#include "pg.h"
#include "support.h"

struct dsn_case {
    const char *dsn;
    bool is_valid;
};

/* Each bad one contains the password "hunter2", which must not be shown. */
static const struct dsn_case dsns[] = {
    {"", true},
    {"dbname=x", true},
    {"host=/run/postgresql dbname=x port=5432", true},
    {"host=a,b port=1,2", true},
    {"host=@abstract", true},
    {"host=a,@abstract", true},
    {"postgresql://", true},
    {"postgresql:///x?host=/tmp", true},
    {"postgres://u:p%40ss%2Fword@h:5432/d", true},
    {"postgresql://u@h1:1,h2:2/d?target_session_attrs=any", true},
    {"hunter2", false},
    {"password = 'hunter2", false},
    {"hunter2=1", false},
    {"passwort=hunter2", false},
    {"postgresql://u:p%zzhunter2@h/d", false},
    {"postgresql://h/d?hunter2=1", false},
    {"postgresql://u:hunter2/x@h/d", false}, /* the port would be hunter2 */
    {"postgresql://u:p@hunter2@h/d", false}, /* the host would be hunter2@h */
    {"postgresql://u:p@x@h,hunter2/d", false},
    {"host=h port=hunter2", false},
    {"mysql://u:hunter2@h/d", false},
    {"postgresql:/u:hunter2@h/d", false},
};

static void test_connection_strings(void **state) {
    for (size_t i = 0; i < length_of(dsns); i++) {
        const char *reason = "";
        if (pg_dsn_is_valid(dsns[i].dsn, &reason) != dsns[i].is_valid) {
            fail_msg("'%s': %s", dsns[i].dsn, reason);
        }
        if (!dsns[i].is_valid && (reason[0] == '\0' || strstr(reason, "hunter2") != NULL)) {
            fail_msg("'%s': %s", dsns[i].dsn, reason);
        }
    }
}

static void test_pauses_between_attempts(void **state) {
    static const struct {
        unsigned failures;
        int64_t least_ms;
        int64_t most_ms;
        int64_t from_ms;
        int64_t to_ms;
    } cases[] = {{0, 1000, 30000, 0, 0},
                 {1, 1000, 30000, 0, 0},
                 {2, 1000, 30000, 800, 1200},
                 {3, 1000, 30000, 1600, 2400},
                 {6, 1000, 30000, 12800, 19200},
                 {7, 1000, 30000, 20000, 30000},
                 {1000000, 1000, 30000, 20000, 30000},
                 {22, 3600000, 3600000, 2400000, 3600000},
                 {2, 1000, 1000, 667, 1000},
                 {5, 100, 101, 67, 101}};
    for (size_t i = 0; i < length_of(cases) * 500; i++) {
        size_t at = i % length_of(cases);
        int64_t pause_ms = pg_backoff_ms(cases[at].failures, cases[at].least_ms, cases[at].most_ms);
        if (pause_ms < cases[at].from_ms || pause_ms > cases[at].to_ms) {
            fail_msg("%u failures: %lld ms", cases[at].failures, (long long)pause_ms);
        }
    }
}

RUN_TESTS(TEST(test_connection_strings), TEST(test_pauses_between_attempts))
