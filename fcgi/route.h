/* A request's path -> what it is about. Pure; the same for both handlers.
 *
 * The path is REQUEST_URI up to '?', as the client sent it: what the web server makes of it has
 * been decoded and merged. It is split at '/', then each segment is decoded once, and nothing is
 * normalised. If no route matches, SCRIPT_NAME is taken off the front and it is tried again: then
 * the handler is mounted somewhere else. */
#pragma once

#include "topic.h"

enum route_kind {
    ROUTE_NONE,         /* 404 */
    ROUTE_BAD_TOPIC,    /* 400: BASE/{something}/events, but that names no topic */
    ROUTE_TOPIC_EVENTS, /* BASE/{topic}/events */
    ROUTE_HEALTH,
};

struct route {
    enum route_kind kind;
    char topic[TOPIC_PATH_BYTES_MAX + 1]; /* lower-cased */
};

/* base_path and healthz_path as configured. */
void route_parse(const char *request_uri, const char *script_name, const char *base_path,
                 const char *healthz_path, struct route *route);
