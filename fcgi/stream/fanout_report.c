#include "fanout_report.h"

#include <stdlib.h>

/* --- counting ----------------------------------------------------------------------------------
 */

/* Adds a frame to the gauges of its tally. Its bytes count once, however many clients wait for
 * it. */
static void gauge_frame(const struct feed_mark *mark, uint64_t clients, uint64_t bytes) {
    if (mark->tally != NULL) {
        mark->tally->pending_events += clients;
        mark->tally->queued_bytes += bytes;
    }
}

/* newcomers[i] is how many clients wait for the i-th kept frame and all after it, and for none
 * before. So the cost is the sum of clients and frames, not their product. */
static void gauge_audience(const struct audience *audience, uint32_t *newcomers) {
    const struct feed *feed = &audience->feed;
    const struct seat *seat;
    uint64_t from = feed->head;
    uint64_t clients = 0;
    LIST_FOREACH(seat, &audience->live, link) {
        const struct feed_cursor *cursor = &seat->output.cursor;
        if (cursor->frame < feed->next) {
            newcomers[cursor->frame - feed->first]++;
            from = cursor->at < from ? cursor->at : from;
        }
    }
    for (uint64_t frame = feed->first; frame < feed->next; frame++) {
        const struct feed_mark *mark = feed_mark(feed, frame);
        clients += newcomers[frame - feed->first];
        if (clients > 0) {
            gauge_frame(mark, clients, mark->end - from);
            from = mark->end;
        }
    }
}

static void gauge_all(struct fanout *fanout) {
    struct fan_topic *topic;
    struct fan_topic *next_topic;
    HASH_ITER(hh, fanout->topics, topic, next_topic) {
        topic->tally.pending_events = 0;
        topic->tally.queued_bytes = 0;
    }
    struct audience *audience;
    struct audience *next_audience;
    HASH_ITER(hh, fanout->audiences, audience, next_audience) {
        size_t frames = (size_t)(audience->feed.next - audience->feed.first);
        if (frames > 0) { /* else nobody waits for anything */
            uint32_t *newcomers = must_zalloc(frames * sizeof *newcomers);
            gauge_audience(audience, newcomers);
            free(newcomers);
        }
    }
}

void fanout_report(struct fanout *fanout, uint32_t serial, uint32_t streams, void *owner,
                   void (*send)(void *owner, struct payload *report)) {
    struct buf report = {0};
    struct fan_topic *topic;
    struct fan_topic *next;
    gauge_all(fanout);
    wire_report_begin(&report, serial, streams);
    HASH_ITER(hh, fanout->topics, topic, next) {
        if (tally_has_changed(&topic->tally) &&
            !tally_report(&topic->tally, fan_topic_key(topic), &report)) {
            send(owner, wire_report_end(&report, false));
            wire_report_begin(&report, serial, streams);
            check(tally_report(&topic->tally, fan_topic_key(topic), &report));
        }
        fanout_forget(fanout, topic);
    }
    send(owner, wire_report_end(&report, true));
}

/* --- resuming ------------------------------------------------------------------------------ */

/* User streams are not resumed: they subscribe again. */
static uint32_t resumed_clients(const struct fan_topic *topic) {
    uint32_t clients = 0;
    const struct membership *membership;
    for (enum stream_form form = 0; form < STREAM_FORM_USER; form++) {
        LIST_FOREACH(membership, &topic->members[form], link) {
            clients += membership->audience->live_count;
        }
    }
    return clients;
}

void fanout_resume(struct fanout *fanout, const struct position *position, void *owner,
                   void (*send)(void *owner, struct payload *resume)) {
    enum position_kind kind = position->marker[0] == '\0' ? POSITION_NONE : POSITION_KNOWN;
    struct buf resume = {0};
    struct fan_topic *topic;
    struct fan_topic *next;
    wire_resume_begin(&resume, kind, position);
    HASH_ITER(hh, fanout->topics, topic, next) {
        struct wire_resume_entry entry = {fan_topic_key(topic), resumed_clients(topic)};
        topic->tally.has_other_streams = true; /* this broker does not know of any */
        if (entry.clients > 0 && !wire_resume_add(&resume, &entry)) {
            send(owner, wire_resume_end(&resume, false));
            wire_resume_begin(&resume, kind, position);
            check(wire_resume_add(&resume, &entry));
        }
    }
    send(owner, wire_resume_end(&resume, true));
}
