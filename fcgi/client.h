/* One request of the web server, from its hand-over to its end: mostly a stream to a browser. This
 * is its socket, its clock and its end; admission.h is how a stream comes to its events, answer.h
 * what any other request gets.
 *
 * The life of a stream:
 *
 *   SUBSCRIBING   the broker was asked, nothing is written; after 200 ms:
 *   WAITING       headers, "retry:" and ": waiting" are out; the broker has not answered yet
 *   GREETED       it was accepted: headers and first block are on their way; what it missed follows
 *   LIVE          it is subscribed: it shares its audience's feed
 *   RESUBSCRIBING it asks again, from the last id that was queued for it, when that is out
 *   QUIET         it asked again and may have nothing any more: heartbeats only
 *   ENDING        all that it will ever get is queued; then END_REQUEST
 *   GONE          the other side has left: END_REQUEST, if it goes out at once, else the web server
 *                 would log a crash
 *   CLOSED        freed at the end of this turn
 *
 * When the broker goes away, LIVE streams stay what they are: the next uplink resumes for all of
 * them. GREETED ones become RESUBSCRIBING. Requests that are no stream go through ASKING, if the
 * broker has to be asked, to ENDING.
 *
 * A connection (see wire.h) is never WAITING: whether it gets a 200 is the broker's to say. It
 * subscribes again when the broker has gone, and when what its user may have has changed.
 *
 * A client for which more than client_queue_bytes wait loses what waits and is told how much, or is
 * ended to resume later, as slow_client says. A connection loses nothing: instead of being told it
 * subscribes again. */
#pragma once

#include "fanout.h"
#include "inquiry.h"
#include "outlet.h"
#include "overflow.h"
#include "request.h"

struct stream;

enum client_state {
    CLIENT_SUBSCRIBING,
    CLIENT_WAITING,
    CLIENT_GREETED,
    CLIENT_LIVE,
    CLIENT_RESUBSCRIBING,
    CLIENT_QUIET,
    CLIENT_ASKING,
    CLIENT_ENDING,
    CLIENT_GONE,
    CLIENT_CLOSED,
};

struct client {
    struct stream *stream;          /* borrowed */
    LIST_ENTRY(client) link;        /* in stream.clients */
    LIST_ENTRY(client) of_audience; /* while LIVE */
    struct audience *audience;      /* attached until it is CLOSED; NULL: no stream */
    struct overflow *overflow;      /* owned; a refresh that waits, for what was dropped; or NULL */
    struct inquiry *inquiry;        /* owned; NULL: nothing is asked */
    char *user;                     /* owned; of a connection; else NULL */
    uint64_t token;                 /* of a LIVE connection: what the broker knows it under */
    struct outlet outlet;
    struct loop_io io;
    struct loop_timer timer; /* ASKING, SUBSCRIBING: patience; else heartbeat, stall, age */
    struct loop_task flush;
    struct loop_task reap;
    int64_t written_ms; /* when the socket last took something, or took no more */
    int64_t ends_ms;    /* when it is as old as a stream may become; INT64_MAX: it may */
    int fd;
    enum client_state state;
    bool is_blocked;     /* the socket takes no more now */
    bool without_body;   /* HEAD */
    bool accepts_events; /* perhaps an EventSource: no status but 200 */
    bool is_third_door;  /* it is refused in JSON */
};

/* Takes fd over and answers the request, or asks the broker first. */
void client_create(struct stream *stream, int fd, uint16_t request_id,
                   const struct request *request);

/* Writes what waits; called in the flush phase only. */
void client_flush(struct client *client);

void client_flush_soon(struct client *client);

/* The broker can be asked, perhaps again: sends what is to be asked. */
void client_ask(struct client *client);

/* Headers are queued: from now on it has a stream's clock. */
void client_start_pulse(struct client *client);

/* From now on it grows old. */
void client_start_age(struct client *client);

/* --- ends ------------------------------------------------------------------------------------- */

/* What is in its own bytes is the whole answer. */
void client_finish(struct client *client);

/* A line of text, or JSON, as its door has it; allow may be NULL. */
void client_refuse(struct client *client, unsigned status, const char *text, const char *allow);

/* Nobody decides about it in time: 503, or an EventSource is told when to come back. */
void client_give_up(struct client *client, const char *why);

/* The handler stops: a stream is told when to come back, anything else is answered 503. */
void client_end(struct client *client, int64_t retry_ms);

/* At once, without a word. */
void client_close(struct client *client, const char *reason);
