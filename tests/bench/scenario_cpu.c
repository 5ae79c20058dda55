#include "scenario.h"

#include <inttypes.h>
#include <stdio.h>

#include "floor.h"
#include "publishers.h"

enum { STREAMS = 1000, EVENTS_PER_SECOND = 100, SECONDS = 6, QUICK_SECONDS = 2 };

static void report_cpu(struct report_outcome *outcome, const struct procs *before,
                       const struct procs *after, double generator_ns, double deliveries) {
    double stream = scenario_cpu_us(before, after, PROCS_STREAM, deliveries);
    double broker = scenario_cpu_us(before, after, PROCS_BROKER, deliveries);
    double floor_us = floor_send_us();

    report_value(outcome, stream + broker);
    report_note(outcome,
                "stream handlers %.2f, broker %.2f; beside it lighttpd %.2f, the generator %.2f",
                stream, broker, scenario_cpu_us(before, after, PROCS_WEB, deliveries),
                generator_ns / 1000.0 / deliveries);
    if (floor_us > 0) {
        report_note(outcome, "that is %.2f times a bare send to a Unix socket, which takes %.2f",
                    (stream + broker) / floor_us, floor_us);
    }
    report_note(outcome, "%.0f deliveries at %d/s, none lost, all in order", deliveries,
                STREAMS * EVENTS_PER_SECOND);
}

static void measure_cpu(const struct scenario_setting *setting, struct streams *streams,
                        struct publisher *publisher, const char *topic,
                        struct report_outcome *outcome) {
    const int seconds = setting->is_quick ? QUICK_SECONDS : SECONDS;
    struct publisher_plan plan = {.channel = SCENARIO_CHANNEL,
                                  .topic = topic,
                                  .first_number = 1,
                                  .count = (uint64_t)seconds * EVENTS_PER_SECOND,
                                  .per_transaction = 1,
                                  .per_second = EVENTS_PER_SECOND};
    int64_t own_ns = procs_own_cpu_ns();
    struct procs before;
    struct procs after;
    bool has_arrived;

    if (!scenario_measure(setting, &before, outcome)) {
        return;
    }
    report_progress("cpu: %" PRIu64 " events at %d/s", plan.count, EVENTS_PER_SECOND);
    streams_expect(streams, plan.count);
    publisher_start(publisher, &plan);
    has_arrived = streams_await(streams, SCENARIO_DELIVERY_MS);
    publisher_finish(publisher);
    own_ns = procs_own_cpu_ns() - own_ns;
    if (!has_arrived || streams_fault(streams) != NULL) {
        report_fail(outcome, streams_fault(streams));
    } else if (scenario_measure(setting, &after, outcome)) {
        report_cpu(outcome, &before, &after, (double)own_ns,
                   (double)streams_tally(streams)->events);
    }
}

void scenario_cpu(const struct scenario_setting *setting, struct report_outcome *outcome) {
    struct scenario_topic topic = scenario_topic(setting, "cpu");
    struct streams *streams = streams_create(setting->address, topic.name, STREAMS);
    struct publisher *publisher = publisher_create(setting->database_url);

    if (scenario_open_streams(streams, STREAMS, outcome)) {
        scenario_settle(setting, streams);
        measure_cpu(setting, streams, publisher, topic.name, outcome);
    }
    publisher_destroy(&publisher);
    streams_destroy(&streams);
    scenario_settle(setting, NULL);
}
