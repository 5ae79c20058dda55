/* Queries without Postgres: each is answered in time and in order. (With it: the integration
 * tests.) */
#include "log.h"
#include "queries.h"
#include "support.h"

struct rig {
    struct loop *loop;
    struct config config;
    struct queries *queries;
};

struct one {
    struct query query;
    int calls;
    enum outcome_kind outcome;
    int place; /* in the order of answers */
};

static int answered;

static void on_done(struct query *query, struct outcome outcome, const struct pg_result *result) {
    struct one *one = container_of(query, struct one, query);
    assert_null(result);
    one->calls++;
    one->outcome = outcome.kind;
    one->place = answered++;
}

static struct one one_of(void) {
    return (struct one){.query = {.sql = "SELECT 1", .on_done = on_done}};
}

static void rig_begin(struct rig *rig) {
    const char *reason;
    *rig = (struct rig){0};
    answered = 0;
    log_init("pgsse-unit", LOG_LEVEL_ERROR);
    config_set_defaults(&rig->config);
    assert_true(config_set(&rig->config, "database_url", "host=/nowhere/at/all", &reason));
    assert_true(config_set(&rig->config, "publish_timeout", "100ms", &reason));
    rig->loop = loop_create();
    rig->queries = queries_create(rig->loop, &rig->config);
}

static void rig_end(struct rig *rig) {
    queries_destroy(&rig->queries);
    assert_null(rig->queries);
    loop_reap(rig->loop);
    loop_destroy(&rig->loop);
    config_release(&rig->config);
}

static void test_unavailable_in_time_and_order(void **state) {
    struct rig rig;
    struct one ones[] = {one_of(), one_of(), one_of()};
    rig_begin(&rig);
    queries_add(rig.queries, &ones[0].query);
    queries_add(rig.queries, &ones[1].query);
    run_for(rig.loop, 60);
    queries_add(rig.queries, &ones[2].query);
    assert_int_equal(answered, 0);
    run_for(rig.loop, 60);
    assert_int_equal(answered, 2);
    run_for(rig.loop, 80);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(ones[i].calls, 1);
        assert_int_equal(ones[i].outcome, OUTCOME_UNAVAILABLE);
        assert_int_equal(ones[i].place, i);
    }
    rig_end(&rig);
}

static void test_destroyed_with_queries(void **state) {
    struct rig rig;
    struct one one = one_of();
    rig_begin(&rig);
    queries_add(rig.queries, &one.query);
    run_for(rig.loop, 10);
    rig_end(&rig);
    assert_int_equal(one.calls, 0);
}

RUN_TESTS(TEST(test_unavailable_in_time_and_order), TEST(test_destroyed_with_queries))
