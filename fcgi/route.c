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

/* Below a configured path. */
struct known_path {
    const char *path;
    enum route_kind kind;
};

static enum route_kind match_one(struct slice rest, const struct known_path *known, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (path_is(rest, known[i].path)) {
            return known[i].kind;
        }
    }
    return ROUTE_NONE;
}

static enum route_kind match_durable(struct slice rest) {
    static const struct known_path known[] = {
        {"/publish", ROUTE_DURABLE_PUBLISH},
        {"/channels/subscribe", ROUTE_SUBSCRIBE},
        {"/channels/unsubscribe", ROUTE_UNSUBSCRIBE},
        {"/channels", ROUTE_CHANNELS},
        {"/channels/list", ROUTE_CHANNELS},
        {"/history", ROUTE_HISTORY},
        {"/stream", ROUTE_USER_STREAM},
        {"/active-connections", ROUTE_USER_STREAMS},
    };
    return match_one(rest, known, length_of(known));
}

static enum route_kind match_events(struct slice rest) {
    static const struct known_path known[] = {{"", ROUTE_EVENTS},
                                              {"/publish", ROUTE_EVENTS_PUBLISH}};
    return match_one(rest, known, length_of(known));
}

static enum route_kind match_sse(struct slice rest) {
    static const struct known_path known[] = {{"/publish", ROUTE_SSE_PUBLISH},
                                              {"/stats", ROUTE_SSE_STATS}};
    return match_one(rest, known, length_of(known));
}

static enum route_kind match_topics(struct slice rest, char topic[TOPIC_PATH_BYTES_MAX + 1]) {
    struct slice name;
    struct slice events;
    return next_segment(&rest, &name) && next_segment(&rest, &events) && rest.length == 0 &&
                   segment_is(events, slice_of("events"))
               ? parse_topic(name, topic)
               : ROUTE_NONE;
}

static enum route_kind match(struct slice path, const struct route_paths *paths,
                             struct route *route) {
    struct slice rest;
    if (path_is(path, paths->healthz)) {
        return ROUTE_FULL_HEALTH;
    }
    if (path_is(path, paths->health)) {
        return ROUTE_SHORT_HEALTH;
    }
    const struct {
        const char *path;
        enum route_kind (*match)(struct slice rest);
    } places[] = {
        {paths->durable, match_durable}, {paths->events, match_events}, {paths->sse, match_sse}};
    for (size_t i = 0; i < length_of(places); i++) {
        rest = path;
        enum route_kind kind =
            take_prefix(&rest, slice_of(places[i].path)) ? places[i].match(rest) : ROUTE_NONE;
        if (kind != ROUTE_NONE) {
            return kind;
        }
    }
    rest = path;
    return take_prefix(&rest, slice_of(paths->base)) ? match_topics(rest, route->topic)
                                                     : ROUTE_NONE;
}

/* What is known of a kind of route. */
static const struct {
    enum api api;
    const char *methods;
} kinds[] = {
    [ROUTE_NONE] = {API_TOPICS, NULL},
    [ROUTE_BAD_TOPIC] = {API_TOPICS, NULL},
    [ROUTE_TOPIC_EVENTS] = {API_TOPICS, "GET, HEAD, POST, OPTIONS"},
    [ROUTE_FULL_HEALTH] = {API_TOPICS, "GET, HEAD, OPTIONS"},
    [ROUTE_EVENTS] = {API_EVENTS, "GET, HEAD, OPTIONS"},
    [ROUTE_EVENTS_PUBLISH] = {API_EVENTS, "POST, OPTIONS"},
    [ROUTE_SSE_PUBLISH] = {API_EVENTS, "POST, OPTIONS"},
    [ROUTE_SSE_STATS] = {API_EVENTS, "GET, HEAD, OPTIONS"},
    [ROUTE_DURABLE_PUBLISH] = {API_DURABLE, "POST, OPTIONS"},
    [ROUTE_SUBSCRIBE] = {API_DURABLE, "POST, OPTIONS"},
    [ROUTE_UNSUBSCRIBE] = {API_DURABLE, "POST, OPTIONS"},
    [ROUTE_CHANNELS] = {API_DURABLE, "GET, HEAD, OPTIONS"},
    [ROUTE_HISTORY] = {API_DURABLE, "GET, HEAD, OPTIONS"},
    [ROUTE_USER_STREAM] = {API_DURABLE, "GET, HEAD, OPTIONS"},
    [ROUTE_USER_STREAMS] = {API_DURABLE, "GET, HEAD, OPTIONS"},
    [ROUTE_SHORT_HEALTH] = {API_DURABLE, "GET, HEAD, OPTIONS"},
};

const char *route_methods(enum route_kind kind) {
    check((size_t)kind < length_of(kinds));
    return kinds[kind].methods;
}

struct route_paths route_paths_of(const struct config *config) {
    return (struct route_paths){.base = config->base_path,
                                .healthz = config->healthz_path,
                                .durable = config->durable_path,
                                .events = config->events_path,
                                .sse = config->sse_path,
                                .health = config->health_path};
}

/* Whether the path is the configured one or lies under it, also if it is no route. */
static bool is_under(struct slice path, const char *configured) {
    return take_prefix(&path, slice_of(configured));
}

/* A path that is no route is refused in the form of the API that it seems to be of. */
static enum api api_of(struct slice path, const struct route_paths *paths) {
    if (is_under(path, paths->durable) || is_under(path, paths->health)) {
        return API_DURABLE;
    }
    return is_under(path, paths->events) || is_under(path, paths->sse) ? API_EVENTS : API_TOPICS;
}

static void parse(struct slice path, const struct route_paths *paths, struct route *route) {
    route->kind = match(path, paths, route);
    route->api = route->kind == ROUTE_NONE ? api_of(path, paths) : kinds[route->kind].api;
}

void route_parse(const char *request_uri, const char *script_name, const struct route_paths *paths,
                 struct route *route) {
    struct slice path = {request_uri, strcspn(request_uri, "?")};
    size_t mount = strlen(script_name);
    route->topic[0] = '\0';
    parse(path, paths, route);
    if (route->kind == ROUTE_NONE && mount > 0 && mount < path.length &&
        memcmp(path.at, script_name, mount) == 0) {
        struct slice mounted = {path.at + mount, path.length - mount};
        enum api api = route->api;
        parse(mounted, paths, route);
        route->api = route->kind == ROUTE_NONE && route->api == API_TOPICS ? api : route->api;
    }
}
