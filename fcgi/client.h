/* One request of the web server, from its hand-over to its end: mostly a stream to a browser.
 *
 * The life of a stream:
 *
 *   SUBSCRIBING   the broker was asked, nothing is written; after 200 ms:
 *   WAITING       headers, "retry:" and ": waiting" are out; the broker has not answered yet
 *   GREETED       it was accepted: headers and first block are on their way; a refresh may follow
 *   LIVE          it is subscribed: it shares its audience's feed
 *   ENDING        all that it will ever get is queued; then END_REQUEST
 *   GONE          the other side has left: END_REQUEST, if it goes out at once, else the web server
 *                 would log a crash
 *   CLOSED        freed at the end of this turn
 *
 * When the broker goes away, GREETED and LIVE streams become RESUBSCRIBING and keep everything but
 * events. Requests that are no stream go through ASKING, if the broker has to be asked, to ENDING.
 */
#pragma once

#include "fanout.h"
#include "inquiry.h"
#include "outlet.h"
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
    struct audience *audience;      /* attached; NULL: no stream */
    struct inquiry *inquiry;        /* owned; NULL: nothing is asked */
    struct outlet outlet;
    struct loop_io io;
    struct loop_timer timer; /* ASKING, SUBSCRIBING: patience; else heartbeat or stall */
    struct loop_task flush;
    struct loop_task reap;
    int64_t written_ms; /* when the socket last took something, or took no more */
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
void client_on_subscribed(struct client *client, const struct wire_position *message);
void client_on_position(struct client *client, const struct position *position);
void client_on_health(struct client *client, const struct wire_health *message);

/* The broker can be asked again: sends what is to be asked. */
void client_ask(struct client *client);

/* The broker is away: LIVE streams leave their feed and will resubscribe. */
void client_on_broker_lost(struct client *client);

/* --- ends ------------------------------------------------------------------------------------- */

/* The handler stops: a stream is told when to come back, anything else is answered 503. */
void client_end(struct client *client, int64_t retry_ms);

/* At once, without a word. */
void client_close(struct client *client, const char *reason);
