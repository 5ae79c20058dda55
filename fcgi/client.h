/* One request of the web server, from its hand-over to its end: mostly a stream to a browser.
 *
 * The life of a stream:
 *
 *   SUBSCRIBING   the broker was asked, nothing is written; after 200 ms:
 *   WAITING       headers, "retry:" and ": waiting" are out; the broker has not answered yet
 *   GREETED       it was accepted: headers and first block are on their way; what it missed follows
 *   LIVE          it is subscribed: it shares its audience's feed
 *   ENDING        all that it will ever get is queued; then END_REQUEST
 *   GONE          the other side has left: END_REQUEST, if it goes out at once, else the web server
 *                 would log a crash
 *   CLOSED        freed at the end of this turn
 *
 * When the broker goes away, LIVE streams stay what they are: the next connection resumes for all
 * of them. GREETED ones become RESUBSCRIBING, and ask again from the last id that they were sent.
 * Requests that are no stream go through ASKING, if the broker has to be asked, to ENDING.
 *
 * A client for which more than client_queue_bytes wait loses what waits and is told how much, or is
 * ended to resume later, as slow_client says. */
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
    CLIENT_ASKING,
    CLIENT_ENDING,
    CLIENT_GONE,
    CLIENT_CLOSED,
};

enum client_question { CLIENT_ASKS_NOTHING, CLIENT_ASKS_POSITION, CLIENT_ASKS_HEALTH };

struct client {
    struct stream *stream;          /* borrowed */
    LIST_ENTRY(client) link;        /* in stream.clients */
    LIST_ENTRY(client) of_audience; /* while LIVE */
    struct audience *audience;      /* attached until it is CLOSED; NULL: no stream */
    struct overflow *overflow;      /* owned; a refresh that waits, for what was dropped; or NULL */
    struct inquiry *inquiry;        /* owned; NULL: nothing is asked */
    struct outlet outlet;
    struct loop_io io;
    struct loop_timer timer; /* ASKING, SUBSCRIBING: patience; else heartbeat, stall, age */
    struct loop_task flush;
    struct loop_task reap;
    int64_t written_ms; /* when the socket last took something, or took no more */
    int64_t ends_ms;    /* when it is as old as a stream may become; INT64_MAX: it may */
    int fd;
    uint32_t limit; /* of health */
    enum client_state state;
    enum client_question question;
    bool is_blocked;     /* the socket takes no more now */
    bool without_body;   /* HEAD */
    bool accepts_events; /* perhaps an EventSource: no status but 200 */
};

/* Takes fd over and answers the request, or asks the broker first. */
void client_create(struct stream *stream, int fd, uint16_t request_id,
                   const struct request *request);

/* Writes what waits; called in the flush phase only. */
void client_flush(struct client *client);

/* --- what the broker says --------------------------------------------------------------------- */

void client_on_accepted(struct client *client, const struct wire_accepted *message);
void client_on_refused(struct client *client, const struct wire_refused *message);
void client_on_refresh(struct client *client, const struct wire_refresh *message);
/* wire_bytes: what it used of the credit. */
void client_on_replay(struct client *client, const struct wire_event *event, size_t wire_bytes);
void client_on_subscribed(struct client *client, const struct wire_position *message);

/* The broker can be asked again: sends what is to be asked. */
void client_ask(struct client *client);

/* The broker is away. */
void client_on_broker_lost(struct client *client);

/* --- answers: see answer.h -------------------------------------------------------------------- */

/* Asks the broker for a subscription. */
void client_begin_stream(struct client *client, const struct request *request);

/* What is in its own bytes is the whole answer. */
void client_finish(struct client *client);

/* text/plain; allow may be NULL. */
void client_finish_with_text(struct client *client, unsigned status, const char *text,
                             const char *allow);

/* --- ends ------------------------------------------------------------------------------------- */

/* The handler stops: a stream is told when to come back, anything else is answered 503. */
void client_end(struct client *client, int64_t retry_ms);

/* At once, without a word. */
void client_close(struct client *client, const char *reason);
