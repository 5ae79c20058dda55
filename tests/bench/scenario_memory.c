#include "scenario.h"

#include <stdio.h>

#include "clock.h"

enum { FEW_STREAMS = 1000, MANY_STREAMS = 4000, QUICK_STREAMS = 2000 };

static double growth_kb(const struct procs *before, const struct procs *after, enum procs_role role,
                        double streams) {
    return (double)(after->pss_bytes[role] - before->pss_bytes[role]) / 1024.0 / streams;
}

static void measure_memory(const struct scenario_setting *setting, struct streams *streams,
                           struct report_outcome *outcome) {
    const size_t few = FEW_STREAMS;
    const size_t many = setting->is_quick ? QUICK_STREAMS : MANY_STREAMS;
    double grown = (double)(many - few);
    struct procs before;
    struct procs after;
    double web;
    double stream;
    double broker;

    if (!scenario_open_streams(streams, few, outcome)) {
        return;
    }
    scenario_settle(setting, streams);
    if (!scenario_measure(setting, &before, outcome) ||
        !scenario_open_streams(streams, many, outcome)) {
        return;
    }
    scenario_settle(setting, streams);
    if (!scenario_measure(setting, &after, outcome)) {
        return;
    }
    web = growth_kb(&before, &after, PROCS_WEB, grown);
    stream = growth_kb(&before, &after, PROCS_STREAM, grown);
    broker = growth_kb(&before, &after, PROCS_BROKER, grown);
    report_value(outcome, web + stream + broker);
    report_note(outcome,
                "PSS, %zu to %zu streams: lighttpd %.2f, stream handlers %.2f, broker %.2f", few,
                many, web, stream, broker);
    report_note(outcome, "these were opened at %.0f/s",
                grown / clock_seconds(0, streams_opening_ns(streams)));
}

void scenario_memory(const struct scenario_setting *setting, struct report_outcome *outcome) {
    struct scenario_topic topic = scenario_topic(setting, "memory");
    struct streams *streams = streams_create(setting->address, topic.name, MANY_STREAMS);

    scenario_settle(setting, NULL);
    measure_memory(setting, streams, outcome);
    streams_destroy(&streams);
    scenario_settle(setting, NULL);
}
