#include "scenario.h"

#include <inttypes.h>
#include <stdio.h>

#include "http_load.h"
#include "stats.h"

enum { CLIENTS = 32, ROUNDS = 6, MISS_MS = 400, PUBLISH_MS = 600, QUICK_PUBLISH_MS = 200 };

/* Short rounds of the one and the other in turn, so that whatever else the machine does meets
 * both. */
struct publishing {
    const struct address *address; /* borrowed */
    int64_t publish_ms;
    char publish[512]; /* the requests */
    char miss[256];
    struct http_load published; /* what all rounds have in common */
    struct http_load missed;
    struct stats published_rates;
    struct stats missed_rates;
    int64_t generator_ns;
};

static void write_requests(struct publishing *publishing, const char *topic) {
    static const char body[] = "{\"data\":{\"n\":1}}";
    const char *host = publishing->address->host;

    snprintf(publishing->publish, sizeof(publishing->publish),
             "POST /topics/%s/events HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n"
             "Content-Length: %zu\r\n\r\n%s",
             topic, host, sizeof(body) - 1, body);
    snprintf(publishing->miss, sizeof(publishing->miss),
             "GET /bench-no-such-file HTTP/1.1\r\nHost: %s\r\n\r\n", host);
}

static void add_round(struct http_load *sum, struct stats *rates, const struct http_load *round) {
    sum->answered += round->answered;
    sum->errors += round->errors;
    if (round->bad_status != 0) {
        sum->bad_status = round->bad_status;
    }
    stats_add(rates, round->per_second);
}

static void measure_round(struct publishing *publishing) {
    struct http_load round;
    int64_t own_ns;

    http_load_run(&round, publishing->address, publishing->miss, 404, CLIENTS, MISS_MS);
    add_round(&publishing->missed, &publishing->missed_rates, &round);
    own_ns = procs_own_cpu_ns();
    http_load_run(&round, publishing->address, publishing->publish, 200, CLIENTS,
                  publishing->publish_ms);
    publishing->generator_ns += procs_own_cpu_ns() - own_ns;
    add_round(&publishing->published, &publishing->published_rates, &round);
}

static void report_rates(struct publishing *publishing, struct report_outcome *outcome) {
    double published_rate = stats_percentile(&publishing->published_rates, 0.5);
    double missed_rate = stats_percentile(&publishing->missed_rates, 0.5);
    double answered = (double)publishing->published.answered;

    report_value(outcome, published_rate / missed_rate);
    report_note(outcome,
                "%.0f publishes/s (%d rounds, %.0f to %.0f; %.0f in all, without an error)",
                published_rate, ROUNDS, stats_percentile(&publishing->published_rates, 0),
                stats_percentile(&publishing->published_rates, 1), answered);
    report_note(outcome,
                "%.0f 404s/s (%.0f to %.0f); %d clients; the generator used %.1f us of CPU a "
                "publish",
                missed_rate, stats_percentile(&publishing->missed_rates, 0),
                stats_percentile(&publishing->missed_rates, 1), CLIENTS,
                (double)publishing->generator_ns / 1000.0 / answered);
}

static void report_errors(const struct publishing *publishing, struct report_outcome *outcome) {
    const struct http_load *published = &publishing->published;
    const struct http_load *missed = &publishing->missed;
    char fault[200];

    snprintf(fault, sizeof(fault),
             "publishes: %" PRIu64 " good, %" PRIu64 " errors (last bad status %d); 404s: %" PRIu64
             " good, %" PRIu64 " errors (last bad status %d)",
             published->answered, published->errors, published->bad_status, missed->answered,
             missed->errors, missed->bad_status);
    report_fail(outcome, fault);
}

void scenario_publish(const struct scenario_setting *setting, struct report_outcome *outcome) {
    struct scenario_topic topic = scenario_topic(setting, "publish");
    struct publishing publishing = {.address = setting->address};

    publishing.publish_ms = setting->is_quick ? QUICK_PUBLISH_MS : PUBLISH_MS;
    write_requests(&publishing, topic.name);
    stats_init(&publishing.published_rates, ROUNDS);
    stats_init(&publishing.missed_rates, ROUNDS);
    for (int round = 0; round < ROUNDS; round++) {
        report_progress("publish: %d clients, round %d of %d", CLIENTS, round + 1, ROUNDS);
        measure_round(&publishing);
    }
    if (publishing.published.errors + publishing.missed.errors > 0 ||
        publishing.published.answered == 0) {
        report_errors(&publishing, outcome);
    } else {
        report_rates(&publishing, outcome);
    }
    stats_release(&publishing.missed_rates);
    stats_release(&publishing.published_rates);
    scenario_settle(setting, NULL);
}
