/* From a request's parameters to what its client wants. Pure. */
#pragma once

#include "identity.h"
#include "parameters.h"
#include "position.h"
#include "route.h"

enum method { METHOD_GET, METHOD_HEAD, METHOD_POST, METHOD_OPTIONS, METHOD_OTHER };

/* Texts are borrowed from the parameters and good as long as these are. */
struct request {
    enum method method;
    struct route route;
    enum position_kind position_kind; /* of Last-Event-ID, or of last_event_id in the query */
    struct position position;
    uint32_t limit;       /* health: how many topics; REQUEST_LIMIT_BAD when it was no number */
    bool accepts_events;  /* Accept names text/event-stream: it may be an EventSource */
    bool is_event_source; /* Accept is exactly that: it is one */
    bool accepts_gzip;    /* as Accept-Encoding says */
    bool wants_position;  /* position=1: a user stream is to begin with its position */
    bool has_heartbeat_events; /* heartbeat=event: heartbeats are events that a script can see */
    struct identity identity;
    const char *content_type;
    const char *query;      /* QUERY_STRING, as it was sent */
    int64_t content_length; /* or REQUEST_LENGTH_NONE or _BAD */
};

#define REQUEST_LIMIT_BAD UINT32_MAX
enum { REQUEST_LENGTH_NONE = -1, REQUEST_LENGTH_BAD = -2 };

void request_parse(const struct parameters *parameters, const struct route_paths *paths,
                   struct request *request);
