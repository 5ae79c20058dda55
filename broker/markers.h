/* Where this broker is in the order of notifications, and how that place is written as a position.
 * Pure.
 *
 * Postgres delivers notifications to all listeners in one global order. The broker counts what it
 * hears. A marker is a notification with a unique name, and a place after it is written as "so many
 * notifications since that marker". All brokers that heard the marker mean the same place by that,
 * so a client may take its position from one broker to another.
 *
 *   - Positions are written only with markers that this broker sent itself after its LISTEN was in
 *     force. Until the first of these is heard, they are written with a private name. It is never
 *     sent and nobody else can know it, so such positions resume only here.
 *   - Markers of other brokers are remembered, for clients that come from those brokers.
 *   - If a name is heard twice, nobody can tell which place is meant: it is not used any more.
 *
 * A marker's text: {"marker":"<13 of [0-9a-z], random>","set":"<16 hex digits>","pid":<sender's
 * backend>,"at":<microseconds since 1970, when its statement ran, by the server's clock>}. set
 * names the channels that its sender counts: places in another set of channels cannot be compared
 * with ours.
 *
 * Any role may send notifications, and may repeat a marker that it has heard. A broker that heard
 * the original, too, stops using the name. A broker that has not heard the original (because it was
 * restarted) must ignore the copy. Else it would place the marker too late, and clients with that
 * name in their positions would silently lose what was sent in between. So a marker's name is a
 * digest of its random part, of pid and of at, and a marker counts only if
 *
 *   - pid is the backend that Postgres names as the notification's sender: from another backend the
 *     same random part makes another name;
 *   - at is not before the moment at which this broker's LISTEN was verified. A marker that the
 *     broker has not heard was committed before LISTEN, so its at is earlier. This also stops a
 *     stranger that waits until the sender has gone and then gets a backend with the same pid.
 *
 * What remains possible: a stranger needs a backend with the same pid, and in addition one of two
 * things. Either the server's clock was set back after the marker was sent (or a fail-over led to a
 * server with such a clock). Or this broker has heard the marker and forgotten it, after memory_ms
 * or after MARKERS_MAX others. */
#pragma once

#include "hash.h"
#include "position.h"

#include <sys/queue.h>

#define MARKER_UNENDED UINT64_MAX
enum { MARKER_SET_BYTES = 16, MARKER_HEAD_BYTES = 64, MARKERS_MAX = 262144 };

struct marker {
    char name[MARKER_BYTES + 1];
    uint64_t place; /* in markers.count */
    uint64_t end;   /* the last place that may be counted from it; MARKER_UNENDED until a break */
    bool is_ambiguous;
    int64_t heard_ms;
    TAILQ_ENTRY(marker) link;
    UT_hash_handle hh;
};

TAILQ_HEAD(marker_list, marker);

struct markers {
    uint64_t count; /* notifications heard, and breaks, since the broker started */
    char set[MARKER_SET_BYTES + 1];
    char written[MARKER_BYTES + 1]; /* the name that positions are written with */
    uint64_t written_place;
    bool is_public;                  /* `written` was sent and heard; else it is private */
    char expected[MARKER_BYTES + 1]; /* our own marker on its way: its random part; "": none */
    uint64_t trusted_us; /* by the server's clock: older markers of others do not count */
    int64_t memory_ms;
    struct marker *by_name;    /* owned */
    struct marker_list by_age; /* the same, oldest first */
};

/* set: what distinguishes the set of channels whose notifications are counted, see
 * channels_print_set. */
void markers_init(struct markers *markers, int64_t memory_ms, struct slice set, int64_t now_ms);
void markers_release(struct markers *markers);

/* LISTEN was lost, and a new one is in force. Notifications sent in between were not counted, so no
 * later place can be counted from the markers heard before. The break takes a place of its own, and
 * positions are written with a new private name. A marker of ours that is still on its way is
 * ignored. */
void markers_break(struct markers *markers, int64_t now_ms);

/* Another set of channels is listened to, from some later notification on. No place after this one
 * can be counted from the markers heard before. Positions are written with a new private name, and
 * markers of other brokers are not used before markers_trust. Only while no marker of ours is on
 * its way. */
void markers_change_set(struct markers *markers, struct slice set, int64_t now_ms);

/* server_us was read from the server's clock after LISTEN was in force. Before this call, and again
 * after a break or a change of the set, markers of other brokers are not used. */
void markers_trust(struct markers *markers, uint64_t server_us);

/* A notification was heard. Call this for every notification, before anything else is done with
 * it. */
void markers_count(struct markers *markers);

/* Draws our next marker and writes the beginning of its text: {"marker":"...","set":"..." The
 * statement that sends it adds pid and at, because only Postgres knows the pid of the sending
 * backend (a pooler reports another one). */
void markers_draw(struct markers *markers, char head[MARKER_HEAD_BYTES]);

enum marker_verdict {
    MARKER_OWN,     /* the one that was drawn last: from now on positions are written with it */
    MARKER_FOREIGN, /* another broker's, or an old one of ours: remembered */
    MARKER_EARLY,   /* another broker's, and perhaps from before LISTEN: not used */
    MARKER_BAD,     /* malformed, forged, heard twice, or of another set: not used */
};

/* Judges the text of the notification counted last. */
enum marker_verdict markers_hear(struct markers *markers, struct slice text, int sender_pid,
                                 int64_t now_ms) must_check;

/* The position of the last notification that was counted. */
void markers_position(const struct markers *markers, struct position *position);

/* The place of a position in this broker's count. False if its marker is unknown, ambiguous or too
 * old, or if this broker has not counted that far since the marker, or not without a break. */
bool markers_resolve(const struct markers *markers, const struct position *position,
                     uint64_t *place) must_check;
