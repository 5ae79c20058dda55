#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "address.h"
#include "base.h"
#include "procs.h"
#include "report.h"
#include "streams.h"

/* What all scenarios share. Each is one function in a file of its own; it opens what it needs on a
 * topic of its own, closes it, and waits until the programs under test are quiet again. */

/* Where a publisher that knows of no shards publishes. */
#define SCENARIO_CHANNEL "topic_broadcast_0"

/* How long events may take before they count as lost. */
#define SCENARIO_DELIVERY_MS 30000

struct scenario_setting {
    const struct address *address; /* borrowed */
    const char *database_url;      /* borrowed */
    pid_t supervisor;              /* whose descendants are the programs under test; 0: unknown */
    bool is_quick;                 /* shorter, for trying things out: less exact */
    int turn;                      /* of how often it is repeated: 0, 1, ... */
};

struct scenario_topic {
    char name[64];
};

/* A topic that nobody used before, so that its numbers count from 1. */
struct scenario_topic scenario_topic(const struct scenario_setting *setting, const char *scenario);

/* Until the programs under test use no CPU: what was opened has settled, what was closed is cleaned
 * up. Some seconds at most. Reads the streams meanwhile; they may be NULL. */
void scenario_settle(const struct scenario_setting *setting, struct streams *streams);

/* These fail the outcome when they return false. */
must_check bool scenario_measure(const struct scenario_setting *setting, struct procs *procs,
                                 struct report_outcome *outcome);
must_check bool scenario_open_streams(struct streams *streams, size_t count,
                                      struct report_outcome *outcome);

/* What the processes of that role used between the two measurements, per delivery. */
double scenario_cpu_us(const struct procs *before, const struct procs *after, enum procs_role role,
                       double deliveries);

/* PSS growth of all programs while streams are opened. Meaningful on a fresh server only: a server
 * that has had as many streams before has the memory already. */
void scenario_memory(const struct scenario_setting *setting, struct report_outcome *outcome);

/* From the first connect to the last greeting. */
void scenario_open(const struct scenario_setting *setting, struct report_outcome *outcome);

/* Deliveries per second when all events come at once, against single commits to one raw client. */
void scenario_burst(const struct scenario_setting *setting, struct report_outcome *outcome);

/* From before the publisher's send until the event was read, against the raw client. */
void scenario_latency(const struct scenario_setting *setting, struct report_outcome *outcome);

/* CPU per delivery when events come one by one. */
void scenario_cpu(const struct scenario_setting *setting, struct report_outcome *outcome);

/* What gzip streams cost, in bytes and in CPU, while some join: beside plain ones, and beside a zlib
 * stream for each client. */
void scenario_gzip(const struct scenario_setting *setting, struct report_outcome *outcome);

/* What a delivery costs streams that each have names of their own (pairs), or all the same pattern,
 * against streams of one topic. */
void scenario_pairs(const struct scenario_setting *setting, struct report_outcome *outcome);
void scenario_pattern(const struct scenario_setting *setting, struct report_outcome *outcome);

/* What an event costs where topics are many, against few. */
void scenario_topics(const struct scenario_setting *setting, struct report_outcome *outcome);

/* Publishes over HTTP, against what the web server answers alone. */
void scenario_publish(const struct scenario_setting *setting, struct report_outcome *outcome);

/* Durable publishes over HTTP, to a Postgres whose commits take 5 ms. */
void scenario_durable(const struct scenario_setting *setting, struct report_outcome *outcome);

/* A stream comes back from far behind the log: from its connect until it has got all from the
 * table; */
void scenario_replay(const struct scenario_setting *setting, struct report_outcome *outcome);

/* and how much more memory the broker and its handlers have at most while they do that. Meaningful
 * on a server that has not done it before. */
void scenario_replay_memory(const struct scenario_setting *setting, struct report_outcome *outcome);

/* From a durable event's commit until it was read, beside ephemeral ones. */
void scenario_durable_latency(const struct scenario_setting *setting,
                              struct report_outcome *outcome);

/* Thousands of streams come back at once with the same position: from the first connect until every
 * one has got what it missed. */
void scenario_resume(const struct scenario_setting *setting, struct report_outcome *outcome);
