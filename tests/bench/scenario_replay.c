#include "scenario.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "clock.h"
#include "fault.h"
#include "publishers.h"

/* Far more than the log keeps of a topic (ring_capacity): all but the end stands in the table only.
 */
enum { EVENTS = 100000, QUICK_EVENTS = 20000, EVENTS_PER_TRANSACTION = 10000, SAMPLE_MS = 5 };

struct replay {
    const struct scenario_setting *setting; /* borrowed */
    struct report_outcome *outcome;         /* borrowed; has the fault when a step returns false */
    struct scenario_topic topic;
    uint64_t events;
    char before[FRAMES_ID_BYTES]; /* the position that all events lie behind */
    double seconds;
    double cpu_s[PROCS_ROLES];
};

/* The memory of broker and handlers, looked at by a thread of its own. */
struct sampler {
    pthread_t thread;
    pid_t supervisor;
    atomic_bool is_over;
    int64_t first_bytes;
    int64_t most_bytes;
    unsigned samples;
};

static bool replay_fail(struct replay *replay, const char *fault) {
    report_fail(replay->outcome, fault);
    return false;
}

/* --- memory ---------------------------------------------------------------------------------- */

static void sample(struct sampler *sampler) {
    struct procs procs;
    int64_t bytes;

    if (!procs_measure(&procs, sampler->supervisor)) {
        return;
    }
    bytes = procs.pss_bytes[PROCS_STREAM] + procs.pss_bytes[PROCS_BROKER];
    if (sampler->samples++ == 0) {
        sampler->first_bytes = bytes;
    }
    if (bytes > sampler->most_bytes) {
        sampler->most_bytes = bytes;
    }
}

static void *sampler_run(void *argument) {
    struct sampler *sampler = argument;

    while (!atomic_load(&sampler->is_over)) {
        sample(sampler);
        clock_sleep_until(clock_now_ns() + SAMPLE_MS * CLOCK_NS_PER_MS);
    }
    return NULL;
}

static void sampler_start(struct sampler *sampler, const struct scenario_setting *setting) {
    *sampler = (struct sampler){.supervisor = setting->supervisor};
    sample(sampler);
    if (pthread_create(&sampler->thread, NULL, sampler_run, sampler) != 0) {
        fault_die("cannot start a thread");
    }
}

static void sampler_finish(struct sampler *sampler) {
    atomic_store(&sampler->is_over, true);
    pthread_join(sampler->thread, NULL);
}

/* --- the replay ------------------------------------------------------------------------------ */

static bool publish_events(struct replay *replay, struct streams *watcher) {
    struct publisher *publisher = publisher_create(replay->setting->database_url);
    struct publisher_plan plan = {.topic = replay->topic.name,
                                  .first_number = 1,
                                  .count = replay->events,
                                  .per_transaction = EVENTS_PER_TRANSACTION};
    bool has_arrived;

    report_progress("%s: %d durable events", replay->topic.name, (int)replay->events);
    streams_expect(watcher, replay->events);
    publisher_start(publisher, &plan);
    has_arrived = streams_await(watcher, SCENARIO_DELIVERY_MS);
    publisher_finish(publisher);
    publisher_destroy(&publisher);
    return (has_arrived && streams_fault(watcher) == NULL) ||
           replay_fail(replay, streams_fault(watcher));
}

/* One stream hears them all, so the broker has read them all. */
static bool prepare(struct replay *replay) {
    struct streams *watcher = streams_create(replay->setting->address, replay->topic.name, 1);
    bool is_prepared = scenario_open_streams(watcher, 1, replay->outcome);

    if (is_prepared) {
        snprintf(replay->before, sizeof(replay->before), "%s", streams_tally(watcher)->position);
        is_prepared = publish_events(replay, watcher);
    }
    streams_destroy(&watcher);
    scenario_settle(replay->setting, NULL);
    return is_prepared;
}

static bool come_back(struct replay *replay) {
    struct streams *streams = streams_create(replay->setting->address, replay->topic.name, 1);
    struct procs before;
    struct procs after;
    bool is_measured = procs_measure(&before, replay->setting->supervisor);
    int64_t since_ns = clock_now_ns();
    bool is_sound;

    streams_resume(streams, replay->before);
    streams_expect(streams, replay->events);
    is_sound = scenario_open_streams(streams, 1, replay->outcome);
    if (is_sound) {
        is_sound = streams_await(streams, SCENARIO_DELIVERY_MS) && streams_fault(streams) == NULL;
        replay->seconds = clock_seconds(since_ns, streams_reached_ns(streams));
        if (!is_sound) {
            replay_fail(replay, streams_fault(streams));
        }
    }
    if (is_measured && procs_measure(&after, replay->setting->supervisor)) {
        for (int role = 0; role < PROCS_ROLES; role++) {
            replay->cpu_s[role] = clock_seconds(before.cpu_ns[role], after.cpu_ns[role]);
        }
    }
    streams_destroy(&streams);
    return is_sound;
}

static struct replay replay_of(const struct scenario_setting *setting, const char *name,
                               struct report_outcome *outcome) {
    return (struct replay){.setting = setting,
                           .outcome = outcome,
                           .topic = scenario_topic(setting, name),
                           .events = setting->is_quick ? QUICK_EVENTS : EVENTS};
}

void scenario_replay(const struct scenario_setting *setting, struct report_outcome *outcome) {
    struct replay replay = replay_of(setting, "replay", outcome);

    if (prepare(&replay) && come_back(&replay)) {
        report_value(outcome, replay.seconds);
        report_note(outcome, "%.0f events/s from the table",
                    (double)replay.events / replay.seconds);
        report_note(outcome, "s of CPU: lighttpd %.2f, stream handlers %.2f, broker %.2f",
                    replay.cpu_s[PROCS_WEB], replay.cpu_s[PROCS_STREAM],
                    replay.cpu_s[PROCS_BROKER]);
    }
    scenario_settle(setting, NULL);
}

void scenario_replay_memory(const struct scenario_setting *setting,
                            struct report_outcome *outcome) {
    struct replay replay = replay_of(setting, "replay-mb", outcome);
    struct sampler sampler;
    bool is_sound = prepare(&replay);

    if (is_sound) {
        sampler_start(&sampler, setting);
        is_sound = come_back(&replay);
        sampler_finish(&sampler);
    }
    if (is_sound && sampler.samples == 0) {
        is_sound = replay_fail(&replay, "no pgsse-stream or pgsse-broker found below --supervisor");
    }
    if (is_sound) {
        report_value(outcome,
                     (double)(sampler.most_bytes - sampler.first_bytes) / (1024.0 * 1024.0));
        report_note(outcome,
                    "PSS of broker and stream handlers: %.1f MB before, %.1f at most while %d "
                    "events went to one client",
                    (double)sampler.first_bytes / (1024.0 * 1024.0),
                    (double)sampler.most_bytes / (1024.0 * 1024.0), (int)replay.events);
    }
    scenario_settle(setting, NULL);
}
