#include "route.h"

#include "url.h"

enum { SEGMENT_BYTES_MAX = 512 };

/* Takes "/segment" off the path. */
static bool next_segment(struct slice *path, struct slice *segment) {
    if (path->length == 0 || path->at[0] != '/') {
        return false;
    }
    const char *end = memchr(path->at + 1, '/', path->length - 1);
    size_t length = end == NULL ? path->length : (size_t)(end - path->at);
    *segment = (struct slice){path->at + 1, length - 1};
    *path = (struct slice){path->at + length, path->length - length};
    return true;
}

static bool segment_is(struct slice segment, struct slice wanted) {
    char decoded[SEGMENT_BYTES_MAX];
    size_t length;
    return url_decode(segment, decoded, sizeof decoded, &length) &&
           slice_equals((struct slice){decoded, length}, wanted);
}

/* Takes a configured path off the front of the requested one. */
static bool take_prefix(struct slice *path, struct slice prefix) {
    struct slice wanted;
    struct slice segment;
    while (next_segment(&prefix, &wanted)) {
        if (!next_segment(path, &segment) || !segment_is(segment, wanted)) {
            return false;
        }
    }
    return true;
}

static enum route_kind parse_topic(struct slice segment, char topic[TOPIC_PATH_BYTES_MAX + 1]) {
    char decoded[SEGMENT_BYTES_MAX];
    size_t length;
    if (segment.length == 0) {
        return ROUTE_NONE;
    }
    return url_decode(segment, decoded, sizeof decoded, &length) &&
                   topic_parse_path((struct slice){decoded, length}, topic)
               ? ROUTE_TOPIC_EVENTS
               : ROUTE_BAD_TOPIC;
}

static bool path_is(struct slice path, const char *wanted) {
    return take_prefix(&path, slice_of(wanted)) && path.length == 0;
}

static enum route_kind match_events(struct slice rest) {
    static const struct {
        const char *path;
        enum route_kind kind;
    } routes[] = {
        {"/publish", ROUTE_PUBLISH},
        {"/channels/subscribe", ROUTE_SUBSCRIBE},
        {"/channels/unsubscribe", ROUTE_UNSUBSCRIBE},
        {"/channels", ROUTE_CHANNELS},
        {"/channels/list", ROUTE_CHANNELS},
        {"/history", ROUTE_HISTORY},
        {"/stream", ROUTE_STREAM},
        {"/active-connections", ROUTE_CONNECTIONS},
    };
    for (size_t i = 0; i < length_of(routes); i++) {
        if (path_is(rest, routes[i].path)) {
            return routes[i].kind;
        }
    }
    return ROUTE_NONE;
}

static enum route_kind match(struct slice path, const struct route_paths *paths,
                             struct route *route) {
    struct slice rest = path;
    struct slice topic;
    struct slice events;
    if (path_is(path, paths->healthz)) {
        return ROUTE_HEALTH;
    }
    if (path_is(path, paths->health)) {
        return ROUTE_STATUS;
    }
    if (take_prefix(&rest, slice_of(paths->events))) {
        enum route_kind kind = match_events(rest);
        if (kind != ROUTE_NONE) {
            return kind;
        }
    }
    rest = path;
    if (take_prefix(&rest, slice_of(paths->base)) && next_segment(&rest, &topic) &&
        next_segment(&rest, &events) && rest.length == 0 &&
        segment_is(events, slice_of("events"))) {
        return parse_topic(topic, route->topic);
    }
    return ROUTE_NONE;
}

struct route_paths route_paths_of(const struct config *config) {
    return (struct route_paths){.base = config->base_path,
                                .healthz = config->healthz_path,
                                .events = config->events_path,
                                .health = config->health_path};
}

void route_parse(const char *request_uri, const char *script_name, const struct route_paths *paths,
                 struct route *route) {
    struct slice path = {request_uri, strcspn(request_uri, "?")};
    size_t mount = strlen(script_name);
    route->topic[0] = '\0';
    route->kind = match(path, paths, route);
    if (route->kind == ROUTE_NONE && mount > 0 && mount < path.length &&
        memcmp(path.at, script_name, mount) == 0) {
        struct slice mounted = {path.at + mount, path.length - mount};
        route->kind = match(mounted, paths, route);
    }
}
