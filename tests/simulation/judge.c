#include "judge.h"

#include "played.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { EVENTS_MAX = 200000 };

struct event {
    int topic;
    enum judge_kind kind;
    uint32_t place; /* within its order */
    uint64_t at;    /* its id, or the notification's number */
    int64_t published_us;
    uint64_t moment;
};

static struct event events[EVENTS_MAX];
static uint32_t event_count;
static uint32_t orders[TOPICS][KINDS][EVENTS_MAX];
static uint32_t order_lengths[TOPICS][KINDS];
static uint64_t moment;
unsigned judge_violations;
const char *judge_tenant = "";

static char topic_names[TOPICS][TOPIC_NAME_BYTES] = {"ta0", "ta1", "tb2", "tb3", "u4"};

const char *topic_name(int topic) {
    return topic_names[topic];
}

void topic_rename(int topic, const char *name) {
    snprintf(topic_names[topic], TOPIC_NAME_BYTES, "%s", name);
}

int topic_find(struct slice name) {
    for (int topic = 0; topic < TOPICS; topic++) {
        if (slice_is(name, topic_names[topic])) {
            return topic;
        }
    }
    return -1;
}

void complain(const struct claim *claim, const char *kind, const char *format, ...) {
    va_list arguments;
    printf("%10.3f %s: reader %d (%s): ", (double)played_us() / 1e6, kind, claim->reader,
           claim->is_of_user ? "user stream" : "topic stream");
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
    judge_violations++;
}

uint32_t judge_event_count(void) {
    return event_count;
}

uint32_t judge_published(int topic, enum judge_kind kind, uint64_t place) {
    uint32_t *length = &order_lengths[topic][kind];
    if (event_count == EVENTS_MAX) {
        die(3, "more than %d events", EVENTS_MAX);
    }
    events[event_count] = (struct event){topic, kind, *length, place, played_us(), ++moment};
    orders[topic][kind][(*length)++] = event_count;
    trace("published %u: %s %u of t%d", event_count, kind == DURABLE ? "durable" : "ephemeral",
          events[event_count].place, topic);
    return event_count++;
}

/* --- claims ----------------------------------------------------------------------------------- */

static void claim_from_now(struct claim *claim, int topic) {
    for (int kind = 0; kind < KINDS; kind++) {
        claim->from[topic][kind] = moment;
    }
}

void claim_forget(struct claim *claim) {
    for (int topic = 0; topic < TOPICS; topic++) {
        for (int kind = 0; kind < KINDS; kind++) {
            claim->from[topic][kind] = UINT64_MAX; /* nothing, until it is greeted */
            claim->next[topic][kind] = 0;
        }
    }
    memset(claim->last_moment, 0, sizeof claim->last_moment);
    claim->place = 0;
    claim->has_id = claim->must_be_told = claim->was_closed = false;
}

void claim_excuse(struct claim *claim, int topic) {
    claim->is_excused[topic] = claim->has_changed[topic] = true;
}

void claim_on_drop(struct claim *claim) {
    for (int topic = 0; topic < TOPICS; topic++) {
        uint64_t *from = &claim->from[topic][DURABLE];
        /* Open: 1 is the start of whichever table, see begin_at_start in broker/replay.c. A client
         * that was told it with a refresh, and is cut before its first event, is not told that
         * the table was replaced. */
        if (claim->has_id && claim->position.durable <= 1 && *from < moment) {
            *from = moment;
        }
    }
}

void claim_on_position(struct claim *claim) {
    for (int topic = 0; topic < TOPICS; topic++) {
        claim_from_now(claim, topic);
    }
}

void claim_on_open(struct claim *claim) {
    memset(claim->has_changed, 0, sizeof claim->has_changed);
    claim->was_closed = false;
}

void claim_on_greeting(struct claim *claim, bool has_position, const bool rights[TOPICS]) {
    for (int topic = 0; topic < TOPICS; topic++) {
        bool is_back = claim->is_excused[topic] && rights[topic];
        if (!has_position || is_back) {
            claim_from_now(claim, topic);
        }
        claim->is_excused[topic] =
            claim->is_of_user && (!rights[topic] || claim->has_changed[topic]);
    }
}

static const struct event *event_at(int topic, int kind, uint32_t place) {
    return &events[orders[topic][kind][place]];
}

static bool is_owed(const struct claim *claim, const struct event *event) {
    return claim->is_wanted[event->topic] && !claim->is_excused[event->topic] &&
           (event->kind == DURABLE || !claim->is_of_user) &&
           event->moment > claim->from[event->topic][event->kind];
}

static void judge_missing(const struct claim *claim, const struct event *event) {
    bool is_told = claim->refresh_moment >= event->moment;
    bool is_told_between = claim->refresh_at > claim->got_at[event->topic][event->kind];
    if (is_owed(claim, event) && !(is_told && is_told_between)) {
        complain(claim, "LOSS", "%s %u of t%d was not told",
                 event->kind == DURABLE ? "durable" : "ephemeral", event->place, event->topic);
    }
}

/* --- ids -------------------------------------------------------------------------------------- */

void claim_on_id(struct claim *claim, const char *id, uint64_t place, bool may_fall) {
    struct position position;
    if (position_parse(slice_of(id), &position) != POSITION_KNOWN) {
        complain(claim, "ID", "'%s' is no position", id);
        return;
    }
    bool has_fallen = claim->has_id && position.durable < claim->position.durable && !may_fall;
    bool is_same = strcmp(position.marker, claim->position.marker) == 0;
    bool is_back = claim->has_id && ((is_same && position.since < claim->position.since) ||
                                     (place != 0 && place < claim->place));
    if (has_fallen || is_back) {
        complain(claim, "BACK", "'%s' after %" PRIu64 ".%s.%" PRIu64, id, claim->position.durable,
                 claim->position.marker, claim->position.since);
    }
    claim->has_id = true;
    claim->position = position;
    claim->is_placed = place != 0;
    claim->place = place != 0 ? place : claim->place;
}

/* The part of the id that is the event's kind's is its own. */
static void judge_id(const struct claim *claim, const struct event *event) {
    if (event->kind == DURABLE && claim->position.durable != event->at) {
        complain(claim, "ID", "durable %u of t%d has %" PRIu64, event->place, event->topic,
                 event->at);
    }
    if (event->kind == EPHEMERAL && claim->is_placed && claim->place != event->at) {
        complain(claim, "ID", "ephemeral %u of t%d stands at %" PRIu64 ", not at %" PRIu64,
                 event->place, event->topic, event->at, claim->place);
    }
}

/* --- events ----------------------------------------------------------------------------------- */

void claim_on_block(struct claim *claim, bool is_close) {
    if (claim->must_be_told && !is_close) {
        complain(claim, "UNTOLD", "nobody knows its position, and it was not told first");
    }
    if (claim->was_closed) {
        complain(claim, "LATE", "a block after the end");
    }
    claim->was_closed = is_close;
    claim->must_be_told = false;
    claim->blocks++;
}

void claim_on_event(struct claim *claim, uint32_t number, const int64_t forbidden_us[TOPICS]) {
    claim_on_block(claim, false);
    if (number >= event_count) {
        complain(claim, "INVENTED", "event %u", number);
        return;
    }
    const struct event *event = &events[number];
    uint32_t *next = &claim->next[event->topic][event->kind];
    claim->events++;
    judge_id(claim, event);
    if (claim->is_of_user && event->published_us > forbidden_us[event->topic]) {
        complain(claim, "FORBIDDEN", "event %u of t%d", number, event->topic);
    }
    if (!claim->is_wanted[event->topic] || (claim->is_of_user && event->kind == EPHEMERAL)) {
        complain(claim, "FOREIGN", "event %u of t%d", number, event->topic);
    } else if (event->place < *next) {
        complain(claim, "TWICE", "event %u, %u of t%d", number, event->place, event->topic);
    } else if (event->moment <= claim->last_moment[event->kind]) {
        complain(claim, "ORDER", "event %u, %u of t%d", number, event->place, event->topic);
    } else {
        for (uint32_t place = *next; place < event->place; place++) {
            judge_missing(claim, event_at(event->topic, event->kind, place));
        }
        *next = event->place + 1;
        claim->last_moment[event->kind] = event->moment;
        claim->got_at[event->topic][event->kind] = claim->blocks;
    }
}

void claim_on_refresh(struct claim *claim, bool is_needless) {
    claim->must_be_told = false;
    claim_on_block(claim, false);
    claim->refreshes++;
    claim->refresh_at = claim->blocks;
    claim->refresh_moment = moment;
    if (is_needless) {
        complain(claim, "NEEDLESS", "a refresh");
    }
}

void claim_at_end(const struct claim *claim) {
    for (int topic = 0; topic < TOPICS; topic++) {
        for (int kind = 0; kind < KINDS; kind++) {
            uint32_t length = order_lengths[topic][kind];
            for (uint32_t place = claim->next[topic][kind]; place < length; place++) {
                const struct event *event = event_at(topic, kind, place);
                if (is_owed(claim, event) && claim->refresh_moment < event->moment) {
                    complain(claim, "DEAF", "has %u of the %u %s events of t%d", place, length,
                             kind == DURABLE ? "durable" : "ephemeral", topic);
                    break;
                }
            }
        }
    }
}
