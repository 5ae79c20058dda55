#include "scenario.h"

#include <stdio.h>

#include "clock.h"

enum { STREAMS = 4000, QUICK_STREAMS = 1000 };

void scenario_open(const struct scenario_setting *setting, struct report_outcome *outcome) {
    const size_t count = setting->is_quick ? QUICK_STREAMS : STREAMS;
    struct scenario_topic topic = scenario_topic(setting, "open");
    struct streams *streams = streams_create(setting->address, topic.name, count);
    int64_t own_ns = procs_own_cpu_ns();

    if (scenario_open_streams(streams, count, outcome)) {
        double seconds = clock_seconds(0, streams_opening_ns(streams));

        report_value(outcome, (double)count / seconds);
        report_note(outcome, "%zu streams in %.2f s, of which the generator used %.2f s of CPU",
                    count, seconds, clock_seconds(own_ns, procs_own_cpu_ns()));
    }
    streams_destroy(&streams);
    scenario_settle(setting, NULL);
}
