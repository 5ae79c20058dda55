/* Where we are in the notification order, and how that place is written. Pure.
 *
 * Postgres delivers notifications to all listeners in one global order. The broker counts what it
 * hears; a marker is a notification with a random name, and the place of everything behind it is
 * "so many notifications since that marker". Two brokers that heard the same marker mean the same
 * place by it, so a client may take its position from one to the other.
 *
 *   - Positions are written only from markers that this broker sent itself, and only from the first
 *     one on that it sent after its LISTEN was in force. Until then they are written from a private
 *     name, which is never sent and which nobody else can know: such positions resume only here.
 *   - Markers of others are remembered, for clients that come from there.
 *   - A name that is heard twice names two places: it is forgotten at both.
 *
 * A marker's payload: {"marker":"<13 of [0-9a-z]>","set":"<16 hex digits>","pid":<sender's
 * backend>}. set tells which channels its sender counts: places of another set are not ours. */
#pragma once

#include "position.h"

#include <sys/queue.h>
#include <uthash.h>

#define MARKER_CHANNEL "pgsse_marker"

#define MARKER_UNENDED UINT64_MAX
enum { MARKER_SET_BYTES = 16, MARKER_HEAD_BYTES = 64, MARKERS_MAX = 262144 };

struct marker {
    char name[MARKER_BYTES + 1];
    uint64_t place; /* in markers.count */
    uint64_t end;   /* places up to here are counted from it; MARKER_UNENDED until a break */
    bool is_ambiguous;
    int64_t heard_ms;
    TAILQ_ENTRY(marker) link;
    UT_hash_handle hh;
};

TAILQ_HEAD(marker_list, marker);

struct markers {
    uint64_t count; /* notifications heard, and breaks, since the broker started */
    char set[MARKER_SET_BYTES + 1];
    char origin[MARKER_BYTES + 1];  /* private: place 0, the start, for as long as we run */
    char written[MARKER_BYTES + 1]; /* the name that positions are written from */
    uint64_t written_place;
    bool is_public;                  /* written was sent and heard; else it is private */
    char expected[MARKER_BYTES + 1]; /* our own, on its way; "" when none is */
    int64_t memory_ms;
    struct marker *by_name;    /* owned */
    struct marker_list by_age; /* the same, oldest first */
};

/* channels: the ones that are counted, in sorted order. */
void markers_init(struct markers *markers, int64_t memory_ms, const char *const *channels,
                  size_t channel_count, int64_t now_ms);
void markers_release(struct markers *markers);

/* LISTEN was lost, and a new one is in force: what was sent meanwhile was not counted. So places of
 * the markers heard before end here, the break takes a place of its own, and counting goes on from
 * a new private name. A marker of ours that is still on its way does not count any more. */
void markers_break(struct markers *markers, int64_t now_ms);

/* A notification was heard. Every one counts, whatever it holds; call it first. */
void markers_count(struct markers *markers);

/* Draws the next marker of our own and writes its payload up to the pid, which only the session
 * that sends it knows (behind a pooler it is not the one that we connected to):
 * {"marker":"...","set":"..." */
void markers_draw(struct markers *markers, char head[MARKER_HEAD_BYTES]);

enum marker_verdict {
    MARKER_OWN,     /* the one that was drawn last: positions are written from it now */
    MARKER_FOREIGN, /* another broker's, or an old one of ours: remembered */
    MARKER_BAD,     /* malformed, forged, heard twice, or of another set: of no use */
};

/* Judges the payload of the notification counted last. */
enum marker_verdict markers_hear(struct markers *markers, struct slice payload, int sender_pid,
                                 int64_t now_ms) must_check;

/* Where we are now. */
void markers_position(const struct markers *markers, struct position *position);

/* Before everything that we have heard. */
void markers_origin(const struct markers *markers, struct position *position);

/* The place that a position means in our count. False if its marker is unknown, ambiguous or too
 * old, or if we have not counted so far (or not without a break). */
bool markers_resolve(const struct markers *markers, const struct position *position,
                     uint64_t *place) must_check;
