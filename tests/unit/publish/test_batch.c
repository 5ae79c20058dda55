/* Publishing without Postgres: nothing is sent, so every item is answered "unavailable" in time and
 * in order. (With Postgres: the integration tests.) */
#include "batch.h"
#include "log.h"
#include "support.h"

struct rig {
    struct loop *loop;
    struct config config;
    struct batch *batch;
};

static char order[64];

struct item {
    struct batch_item item;
    char name;
    int calls;
    enum outcome_kind outcome;
};

static void on_done(struct batch_item *batch_item, struct outcome outcome) {
    struct item *item = container_of(batch_item, struct item, item);
    size_t length = strlen(order);
    item->calls++;
    item->outcome = outcome.kind;
    order[length] = item->name;
    order[length + 1] = '\0';
}

static void rig_begin_with(struct rig *rig, const struct batch_kind *kind) {
    const char *reason;
    *rig = (struct rig){0};
    order[0] = '\0';
    log_init("pgsse-unit", LOG_LEVEL_ERROR);
    config_set_defaults(&rig->config);
    assert_true(config_set(&rig->config, "database_url", "host=/nowhere/at/all", &reason));
    assert_true(config_set(&rig->config, "publish_timeout", "100ms", &reason));
    rig->loop = loop_create();
    rig->batch = batch_create(rig->loop, &rig->config, kind);
}

static void rig_begin(struct rig *rig) {
    rig_begin_with(rig, &batch_ephemeral);
}

static void rig_end(struct rig *rig) {
    batch_destroy(&rig->batch);
    assert_null(rig->batch);
    loop_reap(rig->loop);
    loop_destroy(&rig->loop);
    config_release(&rig->config);
}

static struct item item_of(char name) {
    static const struct batch_row row = {.columns = {LITERAL("topic_broadcast_0"),
                                                     LITERAL("{\"topic\":\"a\",\"data\":1}"),
                                                     LITERAL("")}};
    return (struct item){.item = {.rows = &row, .row_count = 1, .on_done = on_done}, .name = name};
}

static void test_unavailable_in_time(void **state) {
    struct rig rig;
    struct item item = item_of('a');
    rig_begin(&rig);
    batch_add(rig.batch, &item.item);
    assert_int_equal(item.calls, 0); /* the outcome comes from the loop */
    run_for(rig.loop, 50);
    assert_int_equal(item.calls, 0);
    run_for(rig.loop, 100);
    assert_int_equal(item.calls, 1);
    assert_int_equal(item.outcome, OUTCOME_UNAVAILABLE);
    run_for(rig.loop, 150);
    assert_int_equal(item.calls, 1);
    rig_end(&rig);
}

static void test_each_has_its_own_deadline(void **state) {
    struct rig rig;
    struct item items[] = {item_of('a'), item_of('b'), item_of('c'), item_of('d')};
    rig_begin(&rig);
    batch_add(rig.batch, &items[0].item);
    batch_add(rig.batch, &items[1].item);
    run_for(rig.loop, 60);
    batch_add(rig.batch, &items[2].item);
    batch_add(rig.batch, &items[3].item);
    run_for(rig.loop, 60);
    assert_string_equal(order, "ab");
    run_for(rig.loop, 80);
    assert_string_equal(order, "abcd");
    for (size_t i = 0; i < length_of(items); i++) {
        assert_int_equal(items[i].calls, 1);
        assert_int_equal(items[i].outcome, OUTCOME_UNAVAILABLE);
    }
    rig_end(&rig);
}

/* The batch works again after all of a first round have expired. */
static void test_second_round(void **state) {
    struct rig rig;
    struct item first = item_of('a');
    struct item second = item_of('b');
    rig_begin(&rig);
    batch_add(rig.batch, &first.item);
    run_for(rig.loop, 150);
    batch_add(rig.batch, &second.item);
    run_for(rig.loop, 150);
    assert_string_equal(order, "ab");
    rig_end(&rig);
}

static void test_destroyed_with_items(void **state) {
    struct rig rig;
    struct item item = item_of('a');
    rig_begin(&rig);
    batch_add(rig.batch, &item.item);
    run_for(rig.loop, 10);
    rig_end(&rig);
    assert_int_equal(item.calls, 0);
}

/* Its connection is opened by its first item; one that cannot be had costs it no longer. */
static void test_durable(void **state) {
    struct rig rig;
    struct item item = item_of('a');
    rig_begin_with(&rig, &batch_durable);
    run_for(rig.loop, 20);
    batch_add(rig.batch, &item.item);
    run_for(rig.loop, 150);
    assert_int_equal(item.calls, 1);
    assert_int_equal(item.outcome, OUTCOME_UNAVAILABLE);
    rig_end(&rig);
}

RUN_TESTS(TEST(test_durable), TEST(test_unavailable_in_time), TEST(test_each_has_its_own_deadline),
          TEST(test_second_round), TEST(test_destroyed_with_items))
