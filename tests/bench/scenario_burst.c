#include "scenario.h"

#include <stdio.h>

#include "clock.h"
#include "listener.h"
#include "publishers.h"
#include "stats.h"

/* Nobody but the raw client listens there: it has the machine to itself. */
#define RAW_CHANNEL "pgsse_bench_raw"

enum {
    STREAMS = 1000,
    EVENTS = 1000,
    EVENTS_PER_TRANSACTION = 20,
    ROUNDS = 5,
    RAW_EVENTS = 10000,
    QUICK_RAW_EVENTS = 2000
};

/* Rounds of one measurement each of the raw client and of a burst, in turn, so that whatever else
 * the machine does meets both. */
struct burst {
    const struct scenario_setting *setting; /* borrowed */
    struct streams *streams;                /* owned, as are the next two */
    struct publisher *publisher;
    struct listener *listener;
    struct scenario_topic topic;
    struct stats raw_rates;
    struct stats rates;
    int64_t generator_ns; /* CPU of ours while bursts were under way */
};

static void burst_init(struct burst *burst, const struct scenario_setting *setting) {
    *burst = (struct burst){.setting = setting, .topic = scenario_topic(setting, "burst")};
    burst->streams = streams_create(setting->address, burst->topic.name, STREAMS);
    burst->publisher = publisher_create(setting->database_url);
    burst->listener = listener_create(setting->database_url, RAW_CHANNEL);
    stats_init(&burst->raw_rates, ROUNDS);
    stats_init(&burst->rates, ROUNDS);
}

static void burst_release(struct burst *burst) {
    stats_release(&burst->rates);
    stats_release(&burst->raw_rates);
    listener_destroy(&burst->listener);
    publisher_destroy(&burst->publisher);
    streams_destroy(&burst->streams);
}

/* Single commits from one publisher to one raw client. */
static bool measure_raw(struct burst *burst) {
    struct publisher_plan plan = {.channel = RAW_CHANNEL,
                                  .topic = "bench-raw",
                                  .first_number = 1,
                                  .count = RAW_EVENTS,
                                  .per_transaction = 1};
    int64_t since_ns;

    if (burst->setting->is_quick) {
        plan.count = QUICK_RAW_EVENTS;
    }
    listener_start(burst->listener, plan.topic, plan.count, NULL, SCENARIO_DELIVERY_MS);
    publisher_start(burst->publisher, &plan);
    since_ns = publisher_finish(burst->publisher);
    if (!listener_finish(burst->listener)) {
        return false;
    }
    stats_add(&burst->raw_rates,
              (double)plan.count / clock_seconds(since_ns, listener_reached_ns(burst->listener)));
    return true;
}

static bool measure_burst(struct burst *burst, uint64_t first_number) {
    struct publisher_plan plan = {.channel = SCENARIO_CHANNEL,
                                  .topic = burst->topic.name,
                                  .first_number = first_number,
                                  .count = EVENTS,
                                  .per_transaction = EVENTS_PER_TRANSACTION};
    int64_t own_ns = procs_own_cpu_ns();
    bool has_arrived;
    int64_t since_ns;

    streams_expect(burst->streams, first_number + EVENTS - 1);
    publisher_start(burst->publisher, &plan);
    has_arrived = streams_await(burst->streams, SCENARIO_DELIVERY_MS);
    since_ns = publisher_finish(burst->publisher);
    if (!has_arrived || streams_fault(burst->streams) != NULL) {
        return false;
    }
    burst->generator_ns += procs_own_cpu_ns() - own_ns;
    stats_add(&burst->rates, (double)EVENTS * STREAMS /
                                 clock_seconds(since_ns, streams_reached_ns(burst->streams)));
    return true;
}

static bool measure_rounds(struct burst *burst) {
    for (unsigned round = 0; round < ROUNDS; round++) {
        report_progress("burst %u of %d", round + 1, ROUNDS);
        if (!measure_raw(burst) || !measure_burst(burst, (uint64_t)round * EVENTS + 1)) {
            return false;
        }
    }
    return true;
}

static void report_rates(struct burst *burst, struct report_outcome *outcome) {
    double raw_rate = stats_percentile(&burst->raw_rates, 0.5);
    double rate = stats_percentile(&burst->rates, 0.5);

    report_value(outcome, rate / raw_rate);
    report_note(outcome,
                "%.2f million deliveries/s (%d bursts, %.2f to %.2f), none lost, all in order",
                rate / 1e6, ROUNDS, stats_percentile(&burst->rates, 0) / 1e6,
                stats_percentile(&burst->rates, 1) / 1e6);
    report_note(outcome, "raw client: %.0f single commits/s (%.0f to %.0f)", raw_rate,
                stats_percentile(&burst->raw_rates, 0), stats_percentile(&burst->raw_rates, 1));
}

/* Beside the rates; of no account when the programs are not known. */
static void report_shares(const struct burst *burst, const struct procs *before,
                          const struct procs *after, struct report_outcome *outcome) {
    const double deliveries = (double)ROUNDS * EVENTS * STREAMS;

    report_note(outcome,
                "us of CPU a delivery: lighttpd %.2f, stream handlers %.2f, broker %.2f, "
                "the generator %.2f",
                scenario_cpu_us(before, after, PROCS_WEB, deliveries),
                scenario_cpu_us(before, after, PROCS_STREAM, deliveries),
                scenario_cpu_us(before, after, PROCS_BROKER, deliveries),
                (double)burst->generator_ns / 1000.0 / deliveries);
}

void scenario_burst(const struct scenario_setting *setting, struct report_outcome *outcome) {
    struct burst burst;
    struct procs before;
    struct procs after;

    burst_init(&burst, setting);
    if (scenario_open_streams(burst.streams, STREAMS, outcome)) {
        bool are_known;

        scenario_settle(setting, burst.streams);
        are_known = procs_measure(&before, setting->supervisor);
        if (measure_rounds(&burst)) {
            report_rates(&burst, outcome);
            if (are_known && procs_measure(&after, setting->supervisor)) {
                report_shares(&burst, &before, &after, outcome);
            }
        } else {
            const char *fault = streams_fault(burst.streams);

            report_fail(outcome, fault != NULL ? fault : "the raw client missed events");
        }
    }
    burst_release(&burst);
    scenario_settle(setting, NULL);
}
