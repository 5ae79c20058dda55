#include "scenario.h"

#include <inttypes.h>
#include <stdio.h>

#include "clock.h"
#include "publishers.h"

/* Far less than the log keeps of a topic (ring_capacity): a refresh would be wrong. */
enum { STREAMS = 5000, QUICK_STREAMS = 1000, EVENTS = 100, EVENTS_PER_TRANSACTION = 20 };

struct resume {
    const struct scenario_setting *setting; /* borrowed */
    struct report_outcome *outcome;         /* borrowed; has the fault when a step returns false */
    struct scenario_topic topic;
    size_t count;
    char before[FRAMES_ID_BYTES]; /* positions: all events lie behind the one, */
    char head[FRAMES_ID_BYTES];   /* none behind the other */
};

/* All streams coming back with one position. */
struct wave {
    double greeted_s;          /* since the first connect: the last greeting, */
    double reached_s;          /* and the last event of the last stream */
    double cpu_s[PROCS_ROLES]; /* until all is quiet again */
    double generator_s;        /* until all is reached */
    bool is_cpu_known;
};

static bool resume_fail(struct resume *resume, const char *fault) {
    report_fail(resume->outcome, fault);
    return false;
}

/* What a stream is told when it comes without a position. */
static bool read_position(struct resume *resume, struct streams *streams,
                          char position[FRAMES_ID_BYTES]) {
    if (!scenario_open_streams(streams, 1, resume->outcome)) {
        return false;
    }
    snprintf(position, FRAMES_ID_BYTES, "%s", streams_tally(streams)->position);
    return position[0] != '\0' || resume_fail(resume, "a greeting without a position");
}

/* What the streams will have missed. One stream sees it all, so it is in the log. */
static bool publish_events(struct resume *resume, struct streams *watcher) {
    struct publisher *publisher = publisher_create(resume->setting->database_url);
    struct publisher_plan plan = {.channel = SCENARIO_CHANNEL,
                                  .topic = resume->topic.name,
                                  .first_number = 1,
                                  .count = EVENTS,
                                  .per_transaction = EVENTS_PER_TRANSACTION};
    bool has_arrived;

    streams_expect(watcher, EVENTS);
    publisher_start(publisher, &plan);
    has_arrived = streams_await(watcher, SCENARIO_DELIVERY_MS);
    publisher_finish(publisher);
    publisher_destroy(&publisher);
    return (has_arrived && streams_fault(watcher) == NULL) ||
           resume_fail(resume, streams_fault(watcher));
}

static bool prepare(struct resume *resume) {
    const struct scenario_setting *setting = resume->setting;
    struct streams *watcher = streams_create(setting->address, resume->topic.name, 1);
    struct streams *late = streams_create(setting->address, resume->topic.name, 1);
    bool is_prepared = read_position(resume, watcher, resume->before) &&
                       publish_events(resume, watcher) && read_position(resume, late, resume->head);

    streams_destroy(&late);
    streams_destroy(&watcher);
    return is_prepared;
}

static void note_cpu(struct wave *wave, const struct procs *before, const struct procs *after) {
    for (int role = 0; role < PROCS_ROLES; role++) {
        wave->cpu_s[role] = clock_seconds(before->cpu_ns[role], after->cpu_ns[role]);
    }
}

/* Every stream is to get each of the events, once and in order, and nothing else. */
static bool measure_wave(struct resume *resume, struct streams *streams, uint64_t events,
                         struct wave *wave) {
    struct procs before;
    struct procs after;
    int64_t own_ns;
    int64_t since_ns;

    wave->is_cpu_known = procs_measure(&before, resume->setting->supervisor);
    streams_expect(streams, events);
    own_ns = procs_own_cpu_ns();
    since_ns = clock_now_ns();
    if (!scenario_open_streams(streams, resume->count, resume->outcome)) {
        return false;
    }
    if (events > 0 && !streams_await(streams, SCENARIO_DELIVERY_MS)) {
        return resume_fail(resume, streams_fault(streams));
    }
    wave->greeted_s = clock_seconds(0, streams_opening_ns(streams));
    wave->reached_s = events > 0 ? clock_seconds(since_ns, streams_reached_ns(streams)) : 0;
    wave->generator_s = clock_seconds(own_ns, procs_own_cpu_ns());
    scenario_settle(resume->setting, streams); /* what comes too often comes now */
    if (wave->is_cpu_known && procs_measure(&after, resume->setting->supervisor)) {
        note_cpu(wave, &before, &after);
    }
    if (streams_fault(streams) != NULL) {
        return resume_fail(resume, streams_fault(streams));
    }
    return streams_tally(streams)->events == events * resume->count ||
           resume_fail(resume, "streams got events that they had before");
}

static bool run_wave(struct resume *resume, const char *position, uint64_t events,
                     struct wave *wave) {
    struct streams *streams =
        streams_create(resume->setting->address, resume->topic.name, resume->count);
    bool is_sound;

    streams_resume(streams, position);
    scenario_settle(resume->setting, NULL);
    is_sound = measure_wave(resume, streams, events, wave);
    streams_destroy(&streams);
    scenario_settle(resume->setting, NULL);
    return is_sound;
}

static void report_cpu(struct report_outcome *outcome, const struct wave *wave) {
    if (wave->is_cpu_known) {
        report_note(outcome,
                    "s of CPU: lighttpd %.2f, stream handlers %.2f, broker %.2f, the generator "
                    "%.2f",
                    wave->cpu_s[PROCS_WEB], wave->cpu_s[PROCS_STREAM], wave->cpu_s[PROCS_BROKER],
                    wave->generator_s);
    } else {
        report_note(outcome, "s of CPU: the generator %.2f", wave->generator_s);
    }
}

static void report_waves(const struct resume *resume, const struct wave *missed,
                         const struct wave *head) {
    const double deliveries = (double)resume->count * EVENTS;
    struct report_outcome *outcome = resume->outcome;

    report_value(outcome, missed->reached_s);
    report_note(outcome,
                "%zu streams, the last greeted after %.2f s; %d events replayed to each, none "
                "lost, all in order: %.0f deliveries/s",
                resume->count, missed->greeted_s, EVENTS, deliveries / missed->reached_s);
    report_cpu(outcome, missed);
    report_note(outcome, "with nothing to replay, all greeted after %.2f s", head->greeted_s);
    report_cpu(outcome, head);
}

void scenario_resume(const struct scenario_setting *setting, struct report_outcome *outcome) {
    struct resume resume = {.setting = setting,
                            .outcome = outcome,
                            .topic = scenario_topic(setting, "resume"),
                            .count = setting->is_quick ? QUICK_STREAMS : STREAMS};
    struct wave missed = {0};
    struct wave head = {0};

    if (prepare(&resume) && run_wave(&resume, resume.before, EVENTS, &missed) &&
        run_wave(&resume, resume.head, 0, &head)) {
        report_waves(&resume, &missed, &head);
    }
}
