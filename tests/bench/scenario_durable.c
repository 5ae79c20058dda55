#include "scenario.h"

#include <inttypes.h>
#include <stdio.h>

#include "http_load.h"
#include "publishers.h"
#include "stats.h"

enum { CLIENTS = 64, ROUNDS = 5, ROUND_MS = 800, QUICK_MS = 300 };

/* A commit that takes 5 ms, however many events it has: as one does that waits for a disk or a
 * standby. */
static const char slow_commits[] =
    "CREATE OR REPLACE FUNCTION public.bench_slow() RETURNS trigger LANGUAGE plpgsql AS $$"
    " BEGIN"
    " IF coalesce(current_setting('bench.slept', true), '') <> 'on' THEN"
    " PERFORM set_config('bench.slept', 'on', true);"
    " PERFORM pg_sleep(0.005);"
    " END IF;"
    " RETURN NULL; END $$;"
    "CREATE CONSTRAINT TRIGGER bench_slow AFTER INSERT ON pgsse.events"
    " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.bench_slow()";
static const char quick_commits[] = "DROP TRIGGER IF EXISTS bench_slow ON pgsse.events;"
                                    "DROP FUNCTION IF EXISTS public.bench_slow()";

struct durable {
    const struct scenario_setting *setting; /* borrowed */
    struct report_outcome *outcome;         /* borrowed; has the fault when a step returns false */
    struct publisher *publisher;            /* owned: a connection to the database */
    char request[512];
};

static void write_request(struct durable *durable, const char *topic) {
    char body[160];
    int length =
        snprintf(body, sizeof(body),
                 "{\"channel\":\"%s\",\"eventType\":\"message\",\"payload\":{\"n\":1}}", topic);

    snprintf(durable->request, sizeof(durable->request),
             "POST /api/events/publish HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n"
             "Content-Length: %d\r\n\r\n%s",
             durable->setting->address->host, length, body);
}

/* The median of some rounds; 0 when something was not answered as it should. */
static double measure(struct durable *durable, unsigned clients) {
    const int64_t round_ms = durable->setting->is_quick ? QUICK_MS : ROUND_MS;
    struct http_load round;
    struct stats rates;
    double rate;

    stats_init(&rates, ROUNDS);
    for (int i = 0; i < ROUNDS; i++) {
        report_progress("durable: %u clients, round %d of %d", clients, i + 1, ROUNDS);
        http_load_run(&round, durable->setting->address, durable->request, 202, clients, round_ms);
        if (round.errors > 0 || round.answered == 0) {
            char fault[160];

            snprintf(fault, sizeof(fault),
                     "%u clients: %" PRIu64 " good, %" PRIu64 " errors (last bad status %d)",
                     clients, round.answered, round.errors, round.bad_status);
            report_fail(durable->outcome, fault);
            stats_release(&rates);
            return 0;
        }
        stats_add(&rates, round.per_second);
    }
    rate = stats_percentile(&rates, 0.5);
    stats_release(&rates);
    return rate;
}

static void run(struct durable *durable) {
    double one = measure(durable, 1);
    double many = one > 0 ? measure(durable, CLIENTS) : 0;
    double slow_one = 0;
    double slow_many = 0;

    if (many > 0) {
        publisher_execute(durable->publisher, slow_commits);
        slow_one = measure(durable, 1);
        slow_many = slow_one > 0 ? measure(durable, CLIENTS) : 0;
        publisher_execute(durable->publisher, quick_commits);
    }
    if (slow_many > 0) {
        report_value(durable->outcome, slow_many);
        report_note(durable->outcome,
                    "%d clients; 1 client %.0f/s. Without the 5 ms: %.0f/s, and 1 client %.0f/s",
                    CLIENTS, slow_one, many, one);
    }
}

void scenario_durable(const struct scenario_setting *setting, struct report_outcome *outcome) {
    struct scenario_topic topic = scenario_topic(setting, "durable");
    struct durable durable = {.setting = setting,
                              .outcome = outcome,
                              .publisher = publisher_create(setting->database_url)};

    write_request(&durable, topic.name);
    publisher_execute(durable.publisher, quick_commits);
    run(&durable);
    publisher_destroy(&durable.publisher);
    scenario_settle(setting, NULL);
}
