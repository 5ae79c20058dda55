/* A request's path -> what it is about. Pure; the same for both handlers.
 *
 * The path is REQUEST_URI up to '?', as the client sent it: what the web server makes of it has
 * been decoded and merged. It is split at '/', then each segment is decoded once, and nothing is
 * normalised. If no route matches, SCRIPT_NAME is taken off the front and it is tried again: then
 * the handler is mounted somewhere else. */
#pragma once

#include "config.h"
#include "topic.h"

enum route_kind {
    ROUTE_NONE,         /* 404 */
    ROUTE_BAD_TOPIC,    /* 400: BASE/{something}/events, but that names no topic */
    ROUTE_TOPIC_EVENTS, /* BASE/{topic}/events */
    ROUTE_HEALTH,       /* the whole document */
    /* Third door: */
    ROUTE_PUBLISH,     /* EVENTS/publish */
    ROUTE_SUBSCRIBE,   /* EVENTS/channels/subscribe */
    ROUTE_UNSUBSCRIBE, /* EVENTS/channels/unsubscribe */
    ROUTE_CHANNELS,    /* EVENTS/channels and EVENTS/channels/list */
    ROUTE_HISTORY,     /* EVENTS/history */
    ROUTE_STREAM,      /* EVENTS/stream */
    ROUTE_CONNECTIONS, /* EVENTS/active-connections */
    ROUTE_STATUS,      /* its short health */
};

struct route_paths {
    const char *base;
    const char *healthz;
    const char *events;
    const char *health;
};

/* As configured; borrowed from there. */
struct route_paths route_paths_of(const struct config *config) must_check;

struct route {
    enum route_kind kind;
    char topic[TOPIC_PATH_BYTES_MAX + 1]; /* lower-cased */
};

void route_parse(const char *request_uri, const char *script_name, const struct route_paths *paths,
                 struct route *route);
