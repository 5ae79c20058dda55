#include "scenario.h"

#include <stdio.h>
#include <unistd.h>

#include "clock.h"

enum { OPEN_TIMEOUT_MS = 20000, QUIET_MS = 300, QUIET_TIMEOUT_MS = 6000 };

struct scenario_topic scenario_topic(const struct scenario_setting *setting, const char *scenario) {
    struct scenario_topic topic;

    snprintf(topic.name, sizeof(topic.name), "bench-%s-%ld-%d", scenario, (long)getpid(),
             setting->turn);
    return topic;
}

static void pause_ms(struct streams *streams, int64_t duration_ms) {
    if (streams != NULL) {
        streams_run(streams, duration_ms);
    } else {
        clock_sleep_until(clock_now_ns() + duration_ms * CLOCK_NS_PER_MS);
    }
}

static int64_t sum_cpu_ns(const struct procs *procs) {
    int64_t sum_ns = 0;

    for (int role = 0; role < PROCS_ROLES; role++) {
        sum_ns += procs->cpu_ns[role];
    }
    return sum_ns;
}

void scenario_settle(const struct scenario_setting *setting, struct streams *streams) {
    int64_t last_cpu_ns = -1;

    for (int waited_ms = 0; waited_ms < QUIET_TIMEOUT_MS; waited_ms += QUIET_MS) {
        struct procs procs;

        if (!procs_measure(&procs, setting->supervisor) || sum_cpu_ns(&procs) == last_cpu_ns) {
            return;
        }
        last_cpu_ns = sum_cpu_ns(&procs);
        pause_ms(streams, QUIET_MS);
    }
}

bool scenario_measure(const struct scenario_setting *setting, struct procs *procs,
                      struct report_outcome *outcome) {
    if (procs_measure(procs, setting->supervisor)) {
        return true;
    }
    report_fail(outcome, "no lighttpd, pgsse-stream or pgsse-broker found below --supervisor");
    return false;
}

bool scenario_open_streams(struct streams *streams, size_t count, struct report_outcome *outcome) {
    report_progress("opening %zu streams", count);
    if (streams_open(streams, count, OPEN_TIMEOUT_MS)) {
        return true;
    }
    report_fail(outcome, streams_fault(streams));
    return false;
}

double scenario_cpu_us(const struct procs *before, const struct procs *after, enum procs_role role,
                       double deliveries) {
    return (double)(after->cpu_ns[role] - before->cpu_ns[role]) / 1000.0 / deliveries;
}
