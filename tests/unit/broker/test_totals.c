/* The totals: each has a name of its own, and the value of the right counter. */
#include "totals.h"

#include "broker_rig.h"
#include "survey.h"

static struct survey survey;
static struct total totals[TOTALS_MAX];
static size_t total_count;

static void take_totals(void) {
    survey_init(&survey, &rig.broker->overview);
    survey_begin(&survey);
    while (!survey_step(&survey)) {
    }
    total_count = totals_list(&rig.broker->overview, &survey, totals);
}

static const struct total *find(const char *name) {
    for (size_t i = 0; i < total_count; i++) {
        if (strcmp(totals[i].name, name) == 0) {
            return &totals[i];
        }
    }
    fail_msg("no total %s", name);
    return NULL;
}

static void expect(const char *name, enum total_kind kind, int64_t value) {
    const struct total *total = find(name);
    if (total->kind != kind || total->value != value) {
        fail_msg("%s: kind %d, %lld", name, (int)total->kind, (long long)total->value);
    }
}

static void test_each_name_once(void **state) {
    rig_begin();
    take_totals();
    for (size_t i = 0; i < total_count; i++) {
        assert_ptr_equal(find(totals[i].name), &totals[i]);
    }
}

static void test_values(void **state) {
    rig_begin();
    rig_publish("alpha", 1);
    rig_publish("alpha", 2);
    rig_publish("beta", 3);
    rig.broker->journal.topics.total.dropped_clients = 4;
    rig.broker->journal.topics.total.dropped_events = 5;
    rig.broker->condition.hook.totals.failures = 6;
    rig.broker->journal.canary.queue_usage = 0.5;
    take_totals();
    const struct history *history = &rig.broker->journal.history;
    expect("topics", TOTAL_COUNT, 2);
    expect("published", TOTAL_COUNT, 3);
    expect("dropped_clients", TOTAL_COUNT, 4);
    expect("dropped_events", TOTAL_COUNT, 5);
    expect("hook_failures", TOTAL_COUNT, 6);
    expect("history_events", TOTAL_COUNT, 3);
    expect("history_bytes", TOTAL_COUNT, (int64_t)history->bytes);
    expect("total_memory_usage_bytes", TOTAL_COUNT,
           (int64_t)(history->bytes + survey.memory_bytes));
    assert_true(find("queue_usage")->kind == TOTAL_NUMBER);
    assert_true(find("queue_usage")->number == 0.5);
}

/* Short events far apart grow when they are compressed. */
static void test_nothing_saved(void **state) {
    rig_begin();
    rig.broker->journal.topics.plain_bytes = 10;
    rig.broker->journal.topics.gzip_bytes = 17;
    take_totals();
    expect("gzip_bytes", TOTAL_COUNT, 17);
    expect("gzip_saved_bytes", TOTAL_DIFFERENCE, -7);
}

/* While LISTEN is not in force, nothing says since when it was. */
static void test_since_when(void **state) {
    rig_begin();
    rig.broker->condition.is_listening = true;
    rig.broker->condition.listening_since_ms = 1234;
    take_totals();
    expect("listen_connected", TOTAL_FLAG, 1);
    expect("listen_connected_since", TOTAL_TIME, 1234);
    rig.broker->condition.is_listening = false;
    take_totals();
    expect("listen_connected", TOTAL_FLAG, 0);
    expect("listen_connected_since", TOTAL_TIME, 0);
}

RUN_TESTS(TEST(test_each_name_once), TEST(test_values), TEST(test_nothing_saved),
          TEST(test_since_when))
