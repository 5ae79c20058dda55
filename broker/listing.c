#include "listing.h"

#include "json.h"
#include "survey.h"

#include <inttypes.h>

/* The events that wait for a topic's clients, and the topic's memory. */
struct topic_sums {
    uint64_t client_events;
    uint64_t memory_bytes;
};

static struct topic_sums sum_topic(const struct topic *topic) {
    struct topic_sums sums = {.memory_bytes = topic_bytes(topic) + trail_bytes(&topic->trail)};
    const struct interest *interest;
    LIST_FOREACH(interest, &topic->interests, of_topic) {
        sums.client_events += interest->pending_events;
        sums.memory_bytes += sizeof *interest + interest->queued_bytes;
    }
    return sums;
}

/* Without json-c, which is slower: thousands of topics may be written in one turn. */
static void append_topic(const struct survey *survey, const struct topic *topic, int64_t now_ms,
                         struct buf *out) {
    struct topic_sums sums = sum_topic(topic);
    const struct traffic *traffic = &topic->traffic;
    bool is_idle = topic_is_idle(topic, survey->overview->journal->config->topic_idle, now_ms);
    buf_append_text(out, "{\"topic\":");
    json_quote(topic_key_name(topic_key_of(topic)), out);
    if (topic->tenant->name[0] != '\0') {
        buf_printf(out, ",\"tenant\":\"%s\"", topic->tenant->name);
    }
    buf_printf(out,
               ",\"subscribers\":%" PRIu64 ",\"dispatch_depth\":%" PRIu64
               ",\"pending_to_clients\":%" PRIu64 ",\"published\":%" PRIu64
               ",\"broadcast\":%" PRIu64 ",\"delivered_frames\":%" PRIu64
               ",\"dropped_clients\":%" PRIu64 ",\"dropped_events\":%" PRIu64
               ",\"memory_usage_bytes\":%" PRIu64 ",\"last_activity_unix\":%" PRIu64
               ",\"is_idle\":%s}",
               topic->subscribers, survey_queued_frames(survey, topic), sums.client_events,
               traffic->published, traffic->broadcast, traffic->delivered, traffic->dropped_clients,
               traffic->dropped_events, sums.memory_bytes,
               (uint64_t)(topic->last_activity_ms / 1000), is_idle ? "true" : "false");
}

struct listing {
    const struct survey *survey;
    struct buf *out;
    size_t start; /* of out, where the list begins */
    size_t count;
    uint32_t limit;
    int64_t now_ms;
};

/* False when the list has limit topics or LISTING_BYTES_MAX bytes. */
static bool add_topic(struct listing *listing, const struct topic *topic) {
    size_t before = listing->out->length;
    if (listing->count >= listing->limit) {
        return false;
    }
    buf_append_text(listing->out, listing->count > 0 ? "\n," : "\n");
    append_topic(listing->survey, topic, listing->now_ms, listing->out);
    if (listing->out->length - listing->start > LISTING_BYTES_MAX) {
        listing->out->length = before;
        return false;
    }
    listing->count++;
    return true;
}

static size_t append_all(struct listing *listing) {
    const struct topics *topics = &listing->survey->overview->journal->topics;
    const struct topic *topic;
    TAILQ_FOREACH(topic, &topics->wanted, link) {
        if (!add_topic(listing, topic)) {
            return listing->count;
        }
    }
    TAILQ_FOREACH_REVERSE(topic, &topics->idle, topic_list, link) {
        if (!add_topic(listing, topic)) {
            break;
        }
    }
    return listing->count;
}

static size_t append_tenant(struct listing *listing, const struct topic_tenant *tenant) {
    const struct topic *topic;
    TAILQ_FOREACH(topic, &tenant->wanted, of_tenant) {
        if (!add_topic(listing, topic)) {
            return listing->count;
        }
    }
    TAILQ_FOREACH_REVERSE(topic, &tenant->idle, topic_list, of_tenant) {
        if (!add_topic(listing, topic)) {
            break;
        }
    }
    return listing->count;
}

size_t listing_append(const struct survey *survey, struct slice tenant, uint32_t limit,
                      struct buf *out) {
    struct listing listing = {
        .survey = survey, .out = out, .start = out->length, .limit = limit, .now_ms = wall_ms()};
    if (slice_is(tenant, LISTING_ALL_TENANTS)) {
        return append_all(&listing);
    }
    const struct topic_tenant *found = topics_tenant(&survey->overview->journal->topics, tenant);
    return found == NULL ? 0 : append_tenant(&listing, found);
}
