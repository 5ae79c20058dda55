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

static enum route_kind match(struct slice path, const char *base_path, const char *healthz_path,
                             struct route *route) {
    struct slice rest = path;
    struct slice topic;
    struct slice events;
    if (take_prefix(&rest, slice_of(healthz_path)) && rest.length == 0) {
        return ROUTE_HEALTH;
    }
    rest = path;
    if (take_prefix(&rest, slice_of(base_path)) && next_segment(&rest, &topic) &&
        next_segment(&rest, &events) && rest.length == 0 &&
        segment_is(events, slice_of("events"))) {
        return parse_topic(topic, route->topic);
    }
    return ROUTE_NONE;
}

void route_parse(const char *request_uri, const char *script_name, const char *base_path,
                 const char *healthz_path, struct route *route) {
    struct slice path = {request_uri, strcspn(request_uri, "?")};
    size_t mount = strlen(script_name);
    route->topic[0] = '\0';
    route->kind = match(path, base_path, healthz_path, route);
    if (route->kind == ROUTE_NONE && mount > 0 && mount < path.length &&
        memcmp(path.at, script_name, mount) == 0) {
        struct slice mounted = {path.at + mount, path.length - mount};
        route->kind = match(mounted, base_path, healthz_path, route);
    }
}
