#include "scenario.h"

#include <inttypes.h>
#include <stdio.h>

#include "listener.h"
#include "publishers.h"
#include "stats.h"

enum { EVENTS_PER_SECOND = 200, SECONDS = 6, QUICK_SECONDS = 2 };

static bool publish_to_both(const struct scenario_setting *setting, struct streams *streams,
                            struct listener *listener, const char *topic, struct stats *raw_us,
                            uint64_t count) {
    struct publisher *publisher = publisher_create(setting->database_url);
    struct publisher_plan plan = {.channel = SCENARIO_CHANNEL,
                                  .topic = topic,
                                  .first_number = 1,
                                  .count = count,
                                  .per_transaction = 1,
                                  .per_second = EVENTS_PER_SECOND,
                                  .is_stamped = true};
    bool has_arrived;
    bool was_heard;

    streams_expect(streams, count);
    listener_start(listener, topic, count, raw_us, SCENARIO_DELIVERY_MS);
    publisher_start(publisher, &plan);
    has_arrived = streams_await(streams, SCENARIO_DELIVERY_MS);
    publisher_finish(publisher);
    was_heard = listener_finish(listener);
    publisher_destroy(&publisher);
    return has_arrived && was_heard && streams_fault(streams) == NULL;
}

static void report_latency(struct report_outcome *outcome, struct stats *stream_us,
                           struct stats *raw_us) {
    double stream_p50 = stats_percentile(stream_us, 0.5);
    double raw_p50 = stats_percentile(raw_us, 0.5);

    report_value(outcome, stream_p50 / raw_p50);
    report_note(outcome, "stream p50 %.3f ms, p99 %.3f ms; raw client p50 %.3f ms, p99 %.3f ms",
                stream_p50 / 1000, stats_percentile(stream_us, 0.99) / 1000, raw_p50 / 1000,
                stats_percentile(raw_us, 0.99) / 1000);
    report_note(outcome, "%zu events at %d/s, the same for both", stream_us->count,
                EVENTS_PER_SECOND);
}

void scenario_latency(const struct scenario_setting *setting, struct report_outcome *outcome) {
    const int seconds = setting->is_quick ? QUICK_SECONDS : SECONDS;
    const uint64_t count = (uint64_t)seconds * EVENTS_PER_SECOND;
    struct scenario_topic topic = scenario_topic(setting, "latency");
    struct streams *streams = streams_create(setting->address, topic.name, 1);
    struct listener *listener = listener_create(setting->database_url, SCENARIO_CHANNEL);
    struct stats stream_us;
    struct stats raw_us;

    stats_init(&stream_us, count);
    stats_init(&raw_us, count);
    streams_tally(streams)->delays_us = &stream_us;
    if (scenario_open_streams(streams, 1, outcome)) {
        report_progress("latency: %" PRIu64 " events at %d/s", count, EVENTS_PER_SECOND);
        if (publish_to_both(setting, streams, listener, topic.name, &raw_us, count)) {
            report_latency(outcome, &stream_us, &raw_us);
        } else {
            const char *fault = streams_fault(streams);

            report_fail(outcome, fault != NULL ? fault : "the raw client missed events");
        }
    }
    stats_release(&raw_us);
    stats_release(&stream_us);
    listener_destroy(&listener);
    streams_destroy(&streams);
    scenario_settle(setting, NULL);
}
