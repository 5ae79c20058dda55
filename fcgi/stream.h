/* Owns everything in the stream handler. The way of one event through it:
 *
 *   on_frame           an EVENT frame comes from the broker on the uplink
 *   fanout_publish     appends the frame once to the feed of each audience that wants its topic
 *   client_flush       at the end of the turn lets each client of these audiences
 *   outlet_write       write all that waits for it in one go, as FastCGI records, to the web server
 *
 * and of one request:
 *
 *   on_request         its bytes have come in whole: libfcgi parses it,
 *   client_create      the connection is taken over, and the broker is asked
 *   admission_on_accepted    headers and first block, in one write
 *   admission_on_subscribed  from here on the feed
 *
 * Never here: Postgres, or anything that waits. */
#pragma once

#include "arrival.h"
#include "client.h"
#include "config.h"
#include "handover.h"
#include "uplink.h"

struct stream {
    const struct config *config; /* borrowed */
    struct loop *loop;           /* borrowed */
    struct arrivals arrivals;
    struct handover *handover;
    struct uplink uplink;
    struct fanout fanout;
    struct client_list clients;
    size_t client_count;
    struct inquiry *inquiries; /* by token */
    uint64_t last_token;
    struct position position; /* the last that the broker told: all before it has been applied */
    struct loop_timer report; /* every second */
    struct loop_timer drain;  /* the end of patience with an orderly stop */
    bool is_draining;
    int exit_status;
};

struct stream *stream_create(struct loop *loop, const struct config *config,
                             int listen_fd) must_check;
void stream_destroy(struct stream **stream);

/* Ends all streams in order, then stops the loop; at the latest after graceful_drain. */
void stream_drain(struct stream *stream);

/* A client is gone; the last one ends a drain. */
void stream_on_client_closed(struct stream *stream);
