#include "scenario.h"

#include <stdio.h>

#include "publishers.h"
#include "stats.h"

/* One stream reads them all, by a pattern: so events are what is counted, and not deliveries. */
enum {
    FEW = 10,
    MANY = 100000,
    ROUNDS = 3,
    EVENTS = 100000, /* of a round: each of the many topics has one */
    EVENTS_PER_TRANSACTION = 1000
};

struct crowd {
    unsigned topics;
    struct stats costs; /* us of CPU an event, in handlers and broker */
};

static bool publish(struct publisher *publisher, struct streams *streams, const char *topic,
                    unsigned topics, uint64_t first) {
    const struct publisher_plan plan = {.channel = SCENARIO_CHANNEL,
                                        .topic = topic,
                                        .topics = topics,
                                        .first_number = first,
                                        .count = EVENTS,
                                        .per_transaction = EVENTS_PER_TRANSACTION};
    bool has_arrived;

    streams_expect(streams, first + EVENTS - 1);
    publisher_start(publisher, &plan);
    has_arrived = streams_await(streams, SCENARIO_DELIVERY_MS);
    publisher_finish(publisher);
    return has_arrived && streams_fault(streams) == NULL;
}

/* In turn; the first round is not counted, it makes the topics. */
static bool measure(const struct scenario_setting *setting, struct streams *streams,
                    const char *topic, struct crowd crowds[2], struct report_outcome *outcome) {
    struct publisher *publisher = publisher_create(setting->database_url);
    uint64_t first = 1;
    bool is_sound = true;

    for (int turn = 0; is_sound && turn < 2 * (1 + ROUNDS); turn++, first += EVENTS) {
        struct crowd *crowd = &crowds[turn % 2];
        struct procs before;
        struct procs after;

        report_progress("%d events on %u topics", EVENTS, crowd->topics);
        is_sound = scenario_measure(setting, &before, outcome) &&
                   publish(publisher, streams, topic, crowd->topics, first) &&
                   scenario_measure(setting, &after, outcome);
        if (is_sound && turn >= 2) {
            stats_add(&crowd->costs, scenario_cpu_us(&before, &after, PROCS_STREAM, EVENTS) +
                                         scenario_cpu_us(&before, &after, PROCS_BROKER, EVENTS));
        }
    }
    publisher_destroy(&publisher);
    return is_sound;
}

static void report_crowds(struct crowd crowds[2], struct report_outcome *outcome) {
    double few = stats_percentile(&crowds[0].costs, 0.5);
    double many = stats_percentile(&crowds[1].costs, 0.5);

    report_value(outcome, many / few);
    report_note(outcome, "us of CPU an event, handlers and broker: %.2f among %d, %.2f among %d",
                few, FEW, many, MANY);
    report_note(outcome, "medians of %d rounds of %d events, in turn; none lost", ROUNDS, EVENTS);
}

void scenario_topics(const struct scenario_setting *setting, struct report_outcome *outcome) {
    struct scenario_topic topic = scenario_topic(setting, "topics");
    struct streams *streams = streams_create(setting->address, topic.name, 1);
    struct crowd crowds[2] = {{.topics = FEW}, {.topics = MANY}};
    char target[256];

    snprintf(target, sizeof(target), "/events?topics=%s*", topic.name);
    streams_ask(streams, target, false);
    stats_init(&crowds[0].costs, ROUNDS);
    stats_init(&crowds[1].costs, ROUNDS);
    if (scenario_open_streams(streams, 1, outcome)) {
        scenario_settle(setting, streams);
        if (measure(setting, streams, topic.name, crowds, outcome)) {
            report_crowds(crowds, outcome);
        } else if (outcome->fault[0] == '\0') {
            report_fail(outcome, streams_fault(streams));
        }
    }
    stats_release(&crowds[1].costs);
    stats_release(&crowds[0].costs);
    streams_destroy(&streams);
    scenario_settle(setting, NULL);
}
