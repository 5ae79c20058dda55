#include "scenario.h"

#include <inttypes.h>
#include <stdio.h>

#include "buf.h"
#include "clock.h"
#include "publishers.h"
#include "unzip.h"

/* Streams come while events do: newcomers are what a shared compressor has to cope with. */
enum {
    STREAMS = 1000,
    JOINING_PER_SECOND = 10,
    SECONDS = 6,
    QUICK_SECONDS = 3,
    FAST = 100, /* events a second */
    SLOW = 10,
    OPEN_MS = 5000,
};

/* Of one pool of streams. */
struct run {
    bool has_value;
    double wire_bytes;  /* of the bodies, per delivery */
    double alone_bytes; /* what a zlib stream for each client would have been */
    double handler_us;  /* per delivery */
    double web_us;
    double deliveries;
};

/* The text from the event with that number on. */
static struct slice text_from(const struct buf *record, uint64_t number) {
    char data[64];
    struct slice text = buf_slice(record);
    int length = snprintf(data, sizeof(data), "data: {\"n\":%" PRIu64 ",", number);
    const char *at = length < 0 ? NULL : memmem(text.at, text.length, data, (size_t)length);

    while (at != NULL && at > text.at + 1 && memcmp(at - 2, "\n\n", 2) != 0) {
        at--;
    }
    return at == NULL ? (struct slice){0}
                      : (struct slice){at, text.length - (size_t)(at - text.at)};
}

/* Streams that begin with the same event have the same bytes. */
static double alone_bytes(const struct streams *streams, const struct buf *record, size_t count) {
    uint64_t sum = 0;
    uint64_t known_first = 0;
    uint64_t known = 0;

    for (size_t i = 0; i < count; i++) {
        uint64_t first = streams_first(streams, i);

        if (first != known_first) {
            known = unzip_length_alone(text_from(record, first));
            known_first = first;
        }
        sum += known;
    }
    return (double)sum;
}

static bool join_while_events_come(struct streams *streams, int64_t seconds, size_t *count) {
    int64_t end_ns = clock_now_ns() + seconds * CLOCK_NS_PER_S - CLOCK_NS_PER_S / 2;

    streams_begin_late(streams);
    while (clock_now_ns() < end_ns) {
        streams_run(streams, 1000 / JOINING_PER_SECOND);
        if (!streams_open(streams, ++*count, OPEN_MS)) {
            return false;
        }
    }
    return streams_await(streams, SCENARIO_DELIVERY_MS);
}

static void note_run(struct run *run, const struct procs *before, const struct procs *after,
                     const struct streams *streams, const struct buf *record, size_t count,
                     uint64_t bytes_before) {
    const struct frames_tally *tally = streams_tally((struct streams *)streams);

    run->deliveries = (double)tally->events;
    run->wire_bytes = (double)(tally->body_bytes - bytes_before) / run->deliveries;
    run->alone_bytes = alone_bytes(streams, record, count) / run->deliveries;
    run->handler_us = scenario_cpu_us(before, after, PROCS_STREAM, run->deliveries) +
                      scenario_cpu_us(before, after, PROCS_BROKER, run->deliveries);
    run->web_us = scenario_cpu_us(before, after, PROCS_WEB, run->deliveries);
    run->has_value = true;
}

static void measure(const struct scenario_setting *setting, struct streams *streams,
                    const char *topic, unsigned per_second, struct run *run,
                    struct report_outcome *outcome) {
    const int seconds = setting->is_quick ? QUICK_SECONDS : SECONDS;
    struct publisher *publisher = publisher_create(setting->database_url);
    struct publisher_plan plan = {.channel = SCENARIO_CHANNEL,
                                  .topic = topic,
                                  .first_number = 1,
                                  .count = (uint64_t)seconds * per_second,
                                  .per_transaction = 1,
                                  .per_second = per_second,
                                  .is_long = true};
    struct buf record = {0};
    struct procs before;
    struct procs after;
    size_t count = STREAMS;

    if (scenario_open_streams(streams, count, outcome)) {
        scenario_settle(setting, streams);
        if (scenario_measure(setting, &before, outcome)) {
            uint64_t bytes_before = streams_tally(streams)->body_bytes;
            bool has_arrived;

            streams_record(streams, &record);
            streams_expect(streams, plan.count);
            publisher_start(publisher, &plan);
            has_arrived = join_while_events_come(streams, seconds, &count);
            publisher_finish(publisher);
            if (!has_arrived || streams_fault(streams) != NULL) {
                report_fail(outcome, streams_fault(streams));
            } else if (scenario_measure(setting, &after, outcome)) {
                note_run(run, &before, &after, streams, &record, count, bytes_before);
            }
        }
    }
    publisher_destroy(&publisher);
    buf_release(&record);
}

static struct run run_pool(const struct scenario_setting *setting, const char *name, bool is_gzip,
                           unsigned per_second, struct report_outcome *outcome) {
    struct scenario_topic topic = scenario_topic(setting, name);
    struct streams *streams =
        streams_create(setting->address, topic.name, STREAMS + (SECONDS + 1) * JOINING_PER_SECOND);
    struct run run = {0};

    report_progress("%s: %u events at %u/s", name, per_second, per_second);
    if (is_gzip) {
        streams_accept_gzip(streams);
    }
    measure(setting, streams, topic.name, per_second, &run, outcome);
    streams_destroy(&streams);
    scenario_settle(setting, NULL);
    return run;
}

static void note(struct report_outcome *outcome, unsigned per_second, const struct run *gzip,
                 const struct run *plain) {
    report_note(outcome,
                "%u/s: bytes per delivery %.1f, plain %.1f, a zlib stream for each client %.1f "
                "(%.2f times that)",
                per_second, gzip->wire_bytes, plain->wire_bytes, gzip->alone_bytes,
                gzip->wire_bytes / gzip->alone_bytes);
    report_note(outcome,
                "us per delivery in handlers and broker %.2f, plain %.2f (%.2f times that); "
                "lighttpd %.2f, plain %.2f",
                gzip->handler_us, plain->handler_us, gzip->handler_us / plain->handler_us,
                gzip->web_us, plain->web_us);
}

void scenario_gzip(const struct scenario_setting *setting, struct report_outcome *outcome) {
    static const unsigned rates[] = {FAST, SLOW};

    for (size_t i = 0; i < length_of(rates); i++) {
        struct run plain =
            run_pool(setting, i == 0 ? "plain" : "plain-slow", false, rates[i], outcome);
        struct run gzip = run_pool(setting, i == 0 ? "gzip" : "gzip-slow", true, rates[i], outcome);

        if (!plain.has_value || !gzip.has_value) {
            return;
        }
        if (i == 0) {
            report_value(outcome, gzip.wire_bytes / gzip.alone_bytes);
        }
        note(outcome, rates[i], &gzip, &plain);
    }
}
