/* A request's parameters -> what its client wants. Pure. */
#pragma once

#include "position.h"
#include "route.h"

enum method { METHOD_GET, METHOD_HEAD, METHOD_POST, METHOD_OPTIONS, METHOD_OTHER };

/* Texts belong to the parameters and are good as long as these are. */
struct request {
    enum method method;
    struct route route;
    enum position_kind position_kind; /* Last-Event-ID, or its twins in the query */
    struct position position;
    uint32_t limit;      /* health: how many topics; REQUEST_LIMIT_BAD when it was no number */
    bool accepts_events; /* Accept names text/event-stream: it may be an EventSource */
    const char *user;    /* REMOTE_USER, "" if nobody was authenticated */
    const char *content_type;
    const char *query;      /* QUERY_STRING, as it was sent */
    bool is_third_door;     /* the path lies under events_path, or is health_path */
    int64_t content_length; /* or one of the next two */
};

#define REQUEST_LIMIT_BAD UINT32_MAX
enum { REQUEST_LENGTH_NONE = -1, REQUEST_LENGTH_BAD = -2 };

struct parameters {
    const void *source;
    const char *(*get)(const void *source, const char *name); /* "" if absent */
};

void request_parse(const struct parameters *parameters, const struct route_paths *paths,
                   struct request *request);
