/* Owns everything in the stream handler: the requests that come in, the uplink to the broker, and
 * the clients with their subscriptions and answers. It hands each request to `answer`, and each
 * frame of the broker to the part that the frame is for. docs/architecture.md follows one event,
 * and one request, through it.
 *
 * What needs what, from the top; every arrow goes down:
 *
 *   stream           owns all of it, and takes the broker's frames
 *   answer           what a request gets
 *   subscribe        how a stream gets its events, and gets them again
 *   stream_query     what a stream asks for
 *   greeting         what a stream is sent before it is live
 *   pulse            its clock
 *   overflow         a client that reads too slowly
 *   subscriber       asks, joins, leaves, asks again
 *   fanout           which clients get which events
 *   fanout_report    what the broker is told of it
 *   audience         clients that share a feed
 *   shared_question  what is asked once for many clients
 *   broker_question  what one stream asks, and under which token
 *   client           a request's socket and end
 *   uplink           the connection to the broker
 *   stream_text      the first and the last bytes of a stream
 *   seat             a client in its audience
 *   output           a client's bytes on their way
 *   feed, tally      an audience's bytes; what was done with them
 *   gzip_stream      what one client has of its own when its stream is compressed
 *   gzip_group       how a feed is compressed, once for all its clients
 *   compressors      of the process
 *   gzip             the format, and zlib
 *
 * Never here: Postgres, or anything that waits. */
#pragma once

#include "answer.h"
#include "config.h"
#include "handover.h"
#include "incoming.h"
#include "subscribe.h"
#include "uplink.h"

struct stream {
    const struct config *config; /* borrowed */
    struct loop *loop;           /* borrowed */
    struct budget budget;        /* of the incoming_requests */
    struct incoming_requests incoming_requests;
    struct handover *handover;
    struct uplink uplink;
    struct broker_questions questions;
    struct clients clients;
    struct subscribers subscribers;
    struct answers answers;
    struct loop_timer report; /* every second */
    struct loop_timer drain;  /* graceful_drain is over */
    bool is_draining;
    int exit_status;
};

struct stream *stream_create(struct loop *loop, const struct config *config,
                             int listen_fd) must_check;
void stream_destroy(struct stream **stream);

/* Ends all streams in order, then stops the loop; at the latest after graceful_drain. */
void stream_drain(struct stream *stream);
