#include "scenario.h"

#include <stdio.h>

#include "clock.h"
#include "publishers.h"
#include "stats.h"

enum {
    STREAMS = 1000,
    BURSTS = 5,
    EVENTS = 1000, /* of a burst */
    EVENTS_PER_TRANSACTION = 20,
    EVENTS_PER_SECOND = 100, /* between the bursts */
    SECONDS = 5,
    QUICK_SECONDS = 1
};

/* Streams that are all open at the same time as the others', so that the programs are in the same
 * state for both. Each stream gets all events of one topic. */
struct party {
    const char *what;
    struct scenario_topic topic;
    struct streams *streams; /* owned */
    uint64_t published;
    struct stats rates;       /* deliveries a second, of bursts */
    struct stats burst_costs; /* us of CPU a delivery, in bursts */
    struct stats costs;       /* us of CPU a delivery, of events that come one by one */
};

/* What both parties share. */
struct comparison {
    const struct scenario_setting *setting; /* borrowed */
    struct report_outcome *outcome;         /* borrowed */
    struct publisher *publisher;            /* owned */
};

static void party_init(struct party *party, const struct scenario_setting *setting,
                       const char *what) {
    *party = (struct party){.what = what, .topic = scenario_topic(setting, what)};
    party->streams = streams_create(setting->address, party->topic.name, STREAMS);
    stats_init(&party->rates, BURSTS);
    stats_init(&party->burst_costs, BURSTS);
    stats_init(&party->costs, BURSTS);
}

static void party_release(struct party *party) {
    stats_release(&party->costs);
    stats_release(&party->burst_costs);
    stats_release(&party->rates);
    streams_destroy(&party->streams);
}

/* What one plan gave. */
struct result {
    double rate; /* deliveries a second */
    double cost; /* us of CPU a delivery, in handlers and broker */
};

/* Publishes for that party, until all have got everything. */
static bool party_measure(struct party *party, const struct comparison *comparison,
                          struct publisher_plan plan, struct result *result) {
    const double deliveries = (double)plan.count * STREAMS;
    struct procs before;
    struct procs after;
    bool has_arrived;
    int64_t since_ns;

    if (!scenario_measure(comparison->setting, &before, comparison->outcome)) {
        return false;
    }
    plan.channel = SCENARIO_CHANNEL;
    plan.topic = party->topic.name;
    plan.first_number = party->published + 1;
    party->published += plan.count;
    streams_expect(party->streams, party->published);
    publisher_start(comparison->publisher, &plan);
    has_arrived = streams_await(party->streams, SCENARIO_DELIVERY_MS);
    since_ns = publisher_finish(comparison->publisher);
    if (!has_arrived || streams_fault(party->streams) != NULL ||
        !scenario_measure(comparison->setting, &after, comparison->outcome)) {
        return false;
    }
    result->rate = deliveries / clock_seconds(since_ns, streams_reached_ns(party->streams));
    result->cost = scenario_cpu_us(&before, &after, PROCS_STREAM, deliveries) +
                   scenario_cpu_us(&before, &after, PROCS_BROKER, deliveries);
    return true;
}

static bool measure_burst(struct party *party, const struct comparison *comparison) {
    const struct publisher_plan plan = {.count = EVENTS, .per_transaction = EVENTS_PER_TRANSACTION};
    struct result result;

    if (!party_measure(party, comparison, plan, &result)) {
        return false;
    }
    stats_add(&party->rates, result.rate);
    stats_add(&party->burst_costs, result.cost);
    return true;
}

static bool measure_paced(struct party *party, const struct comparison *comparison) {
    const int seconds = comparison->setting->is_quick ? QUICK_SECONDS : SECONDS;
    const struct publisher_plan plan = {.count = (uint64_t)seconds * EVENTS_PER_SECOND / BURSTS,
                                        .per_transaction = 1,
                                        .per_second = EVENTS_PER_SECOND};
    struct result result;

    if (!party_measure(party, comparison, plan, &result)) {
        return false;
    }
    stats_add(&party->costs, result.cost);
    return true;
}

/* In turn, so that whatever else the machine does meets both. */
static bool measure_parties(struct party *parties[2], const struct comparison *comparison) {
    for (int turn = 0; turn < 2 * BURSTS; turn++) {
        struct party *party = parties[turn % 2];

        report_progress("%s, burst %d of %d", party->what, turn / 2 + 1, BURSTS);
        if (!measure_burst(party, comparison) || !measure_paced(party, comparison)) {
            return false;
        }
    }
    return true;
}

static double ratio(struct stats *above, struct stats *below) {
    return stats_percentile(above, 0.5) / stats_percentile(below, 0.5);
}

static void report_parties(struct party *one, struct party *party, struct report_outcome *outcome) {
    struct party *parties[2] = {one, party};
    double cost = ratio(&party->costs, &one->costs);
    double time = ratio(&one->rates, &party->rates);

    report_value(outcome, cost > time ? cost : time);
    for (int i = 0; i < 2; i++) {
        report_note(outcome,
                    "%s: %.2f us of CPU a delivery at %d events/s; in bursts %.2f us, and %.2f "
                    "million deliveries/s",
                    parties[i]->what, stats_percentile(&parties[i]->costs, 0.5), EVENTS_PER_SECOND,
                    stats_percentile(&parties[i]->burst_costs, 0.5),
                    stats_percentile(&parties[i]->rates, 0.5) / 1e6);
    }
    report_note(outcome, "%.2f times the CPU, %.2f times the time of a burst: the worse counts",
                cost, time);
    report_note(outcome, "medians of %d, in turn; none lost, all in order", BURSTS);
}

static void compare(const struct scenario_setting *setting, struct party *party,
                    struct report_outcome *outcome) {
    struct comparison comparison = {
        .setting = setting,
        .outcome = outcome,
        .publisher = publisher_create(setting->database_url),
    };
    struct party one;
    struct party *parties[2] = {&one, party};

    party_init(&one, setting, "one");
    if (scenario_open_streams(one.streams, STREAMS, outcome) &&
        scenario_open_streams(party->streams, STREAMS, outcome)) {
        scenario_settle(setting, one.streams);
        scenario_settle(setting, party->streams);
        if (measure_parties(parties, &comparison)) {
            report_parties(&one, party, outcome);
        } else if (outcome->fault[0] == '\0') {
            const char *fault = streams_fault(one.streams);

            report_fail(outcome, fault != NULL ? fault : streams_fault(party->streams));
        }
    }
    publisher_destroy(&comparison.publisher);
    party_release(&one);
    party_release(party);
    scenario_settle(setting, NULL);
}

/* Each stream has one topic with all the others, and one for itself. */
void scenario_pairs(const struct scenario_setting *setting, struct report_outcome *outcome) {
    struct party party;
    char target[256];

    party_init(&party, setting, "pairs");
    snprintf(target, sizeof(target), "/events?topics=%s,%s-", party.topic.name, party.topic.name);
    streams_ask(party.streams, target, true);
    compare(setting, &party, outcome);
}

void scenario_pattern(const struct scenario_setting *setting, struct report_outcome *outcome) {
    struct party party;
    char target[256];

    party_init(&party, setting, "pattern");
    snprintf(target, sizeof(target), "/events?topics=%s*", party.topic.name);
    streams_ask(party.streams, target, false);
    compare(setting, &party, outcome);
}
