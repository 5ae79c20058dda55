/* From a request's path to its route. Pure; the same for both handlers.
 *
 * The path is REQUEST_URI up to '?', as the client sent it. (In other variables the web server has
 * decoded it and merged slashes.) It is split at '/', then each segment is decoded once; nothing is
 * normalised. If no route matches, SCRIPT_NAME is removed from the front and the rest is tried: the
 * handler may be mounted there. */
#pragma once

#include "config.h"
#include "topic.h"

enum route_kind {
    ROUTE_NONE,         /* 404 */
    ROUTE_BAD_TOPIC,    /* 400: BASE/{x}/events, and x is no valid topic */
    ROUTE_TOPIC_EVENTS, /* BASE/{topic}/events */
    ROUTE_FULL_HEALTH,  /* full health */
    /* The events API: */
    ROUTE_EVENTS,         /* STREAMS */
    ROUTE_EVENTS_PUBLISH, /* STREAMS/publish */
    ROUTE_SSE_PUBLISH,    /* SSE/publish */
    ROUTE_SSE_STATS,      /* SSE/stats */
    /* The durable API: */
    ROUTE_DURABLE_PUBLISH, /* EVENTS/publish */
    ROUTE_SUBSCRIBE,       /* EVENTS/channels/subscribe */
    ROUTE_UNSUBSCRIBE,     /* EVENTS/channels/unsubscribe */
    ROUTE_CHANNELS,        /* EVENTS/channels and EVENTS/channels/list */
    ROUTE_HISTORY,         /* EVENTS/history */
    ROUTE_USER_STREAM,     /* EVENTS/stream */
    ROUTE_USER_STREAMS,    /* EVENTS/active-connections */
    ROUTE_SHORT_HEALTH,    /* short health */
};

/* Each API has its own form of errors, and its own limits. */
enum api { API_TOPICS, API_EVENTS, API_DURABLE };

/* The methods of a route, of both handlers together, as the Allow header lists them. NULL for
 * ROUTE_NONE and ROUTE_BAD_TOPIC. */
const char *route_methods(enum route_kind kind) must_check;

struct route_paths {
    const char *base;
    const char *healthz;
    const char *durable;
    const char *events;
    const char *sse;
    const char *health;
};

/* The configured paths, borrowed from config. */
struct route_paths route_paths_of(const struct config *config) must_check;

struct route {
    enum route_kind kind;
    enum api api; /* also of a path that is no route, but lies under one of the paths above */
    char topic[TOPIC_PATH_BYTES_MAX + 1]; /* lower-cased */
};

void route_parse(const char *request_uri, const char *script_name, const struct route_paths *paths,
                 struct route *route);
