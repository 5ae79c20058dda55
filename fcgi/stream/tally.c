#include "tally.h"

#include "wire.h"

bool tally_has_changed(const struct tally *tally) {
    return tally->delivered > 0 || tally->dropped_events > 0 || tally->dropped_clients > 0 ||
           tally->pending_events > 0 || tally->was_pending || tally->has_other_streams;
}

bool tally_report(struct tally *tally, struct topic_key topic, struct buf *report) {
    struct wire_report_entry entry = {
        .topic = topic,
        .delivered = tally->delivered,
        .dropped_events = tally->dropped_events,
        .dropped_clients = tally->dropped_clients,
        .pending_events = tally->pending_events,
        .queued_bytes = tally->queued_bytes,
        .streams = tally->streams,
    };
    if (!wire_report_add(report, &entry)) {
        return false;
    }
    tally->delivered = 0;
    tally->dropped_events = 0;
    tally->dropped_clients = 0;
    tally->was_pending = tally->pending_events > 0;
    tally->has_other_streams = false;
    return true;
}
