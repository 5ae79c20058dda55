#include "scenario.h"

#include <stdio.h>

#include "publishers.h"
#include "stats.h"

enum { EVENTS_PER_SECOND = 200, SECONDS = 5, QUICK_SECONDS = 2 };

/* One kind of events, while as many of the other kind go to a topic that nobody reads. */
struct half {
    bool is_durable;
    struct stats delays_us;
    struct stats commits_us;
    struct stats after_us; /* what is left of the delay behind the commit, which the disk decides */
};

static struct publisher_plan plan_of(bool is_durable, const char *topic, uint64_t count,
                                     struct stats *commits_us) {
    return (struct publisher_plan){.channel = is_durable ? NULL : SCENARIO_CHANNEL,
                                   .topic = topic,
                                   .first_number = 1,
                                   .count = count,
                                   .per_transaction = 1,
                                   .per_second = EVENTS_PER_SECOND,
                                   .is_stamped = true,
                                   .commits_us = commits_us};
}

static bool measure(const struct scenario_setting *setting, struct half *half, uint64_t count,
                    struct report_outcome *outcome) {
    struct scenario_topic topic =
        scenario_topic(setting, half->is_durable ? "later-durable" : "later-ephemeral");
    struct scenario_topic other = scenario_topic(setting, "later-other");
    struct streams *streams = streams_create(setting->address, topic.name, 1);
    struct publisher *publisher = publisher_create(setting->database_url);
    struct publisher *beside = publisher_create(setting->database_url);
    struct publisher_plan plan = plan_of(half->is_durable, topic.name, count, &half->commits_us);
    struct publisher_plan beside_plan = plan_of(!half->is_durable, other.name, count, NULL);
    bool is_sound = scenario_open_streams(streams, 1, outcome);

    if (is_sound) {
        report_progress("durable-ms: %s events", half->is_durable ? "durable" : "ephemeral");
        streams_tally(streams)->delays_us = &half->delays_us;
        streams_expect(streams, count);
        publisher_start(beside, &beside_plan);
        publisher_start(publisher, &plan);
        is_sound = streams_await(streams, SCENARIO_DELIVERY_MS) && streams_fault(streams) == NULL;
        publisher_finish(publisher);
        publisher_finish(beside);
        if (!is_sound) {
            report_fail(outcome, streams_fault(streams));
        }
    }
    publisher_destroy(&beside);
    publisher_destroy(&publisher);
    streams_destroy(&streams);
    return is_sound;
}

/* Both are in the order of the events, as long as nobody has sorted them. */
static void compare(struct half *half) {
    for (size_t i = 0; i < half->delays_us.count && i < half->commits_us.count; i++) {
        stats_add(&half->after_us, half->delays_us.samples[i] - half->commits_us.samples[i]);
    }
}

static void note(struct report_outcome *outcome, struct half *half) {
    report_note(outcome,
                "%s: p50 %.3f ms, p99 %.3f ms after its commit; with it p50 %.3f ms, p99 %.3f ms",
                half->is_durable ? "durable" : "ephemeral beside",
                stats_percentile(&half->after_us, 0.5) / 1000,
                stats_percentile(&half->after_us, 0.99) / 1000,
                stats_percentile(&half->delays_us, 0.5) / 1000,
                stats_percentile(&half->delays_us, 0.99) / 1000);
}

void scenario_durable_latency(const struct scenario_setting *setting,
                              struct report_outcome *outcome) {
    const uint64_t count =
        (uint64_t)(setting->is_quick ? QUICK_SECONDS : SECONDS) * EVENTS_PER_SECOND;
    struct half halves[] = {{.is_durable = true}, {.is_durable = false}};
    bool is_sound = true;

    for (size_t i = 0; i < length_of(halves); i++) {
        stats_init(&halves[i].delays_us, count);
        stats_init(&halves[i].commits_us, count);
        stats_init(&halves[i].after_us, count);
        is_sound = is_sound && measure(setting, &halves[i], count, outcome);
    }
    if (is_sound) {
        compare(&halves[0]);
        compare(&halves[1]);
        report_value(outcome, stats_percentile(&halves[0].after_us, 0.5) / 1000);
        note(outcome, &halves[0]);
        note(outcome, &halves[1]);
    }
    for (size_t i = 0; i < length_of(halves); i++) {
        stats_release(&halves[i].delays_us);
        stats_release(&halves[i].commits_us);
        stats_release(&halves[i].after_us);
    }
    scenario_settle(setting, NULL);
}
