#include "request.h"

#include "url.h"
#include "wire.h"

enum { QUERY_VALUE_BYTES_MAX = 256 };

static enum method method_of(const char *name) {
    static const struct {
        const char *name;
        enum method method;
    } methods[] = {{"GET", METHOD_GET},
                   {"HEAD", METHOD_HEAD},
                   {"POST", METHOD_POST},
                   {"OPTIONS", METHOD_OPTIONS}};
    for (size_t i = 0; i < length_of(methods); i++) {
        if (strcmp(name, methods[i].name) == 0) {
            return methods[i].method;
        }
    }
    return METHOD_OTHER;
}

/* The header wins over the query; one that is there but cannot be read was meant as a position. */
static void parse_position(const char *header, const char *query, struct request *request) {
    static const char *const names[] = {"last_event_id", "lastEventId"};
    char decoded[QUERY_VALUE_BYTES_MAX];
    struct slice text = slice_of(header);
    for (size_t i = 0; i < length_of(names) && text.length == 0; i++) {
        size_t length;
        switch (url_query_value(query, names[i], decoded, sizeof decoded, &length)) {
        case URL_VALUE_FOUND:
            text = (struct slice){decoded, length};
            break;
        case URL_VALUE_BROKEN:
            text = slice_of("?");
            break;
        case URL_VALUE_ABSENT:
            break;
        }
    }
    request->position_kind = position_parse(text, &request->position);
}

/* -1 if it is none. */
static int64_t parse_number(struct slice text) {
    int64_t value = 0;
    if (text.length < 1 || text.length > 18) {
        return -1;
    }
    for (size_t i = 0; i < text.length; i++) {
        if (text.at[i] < '0' || text.at[i] > '9') {
            return -1;
        }
        value = value * 10 + (text.at[i] - '0');
    }
    return value;
}

static uint32_t parse_limit(const char *query) {
    char decoded[QUERY_VALUE_BYTES_MAX];
    size_t length;
    int64_t value = -1;
    switch (url_query_value(query, "limit", decoded, sizeof decoded, &length)) {
    case URL_VALUE_ABSENT:
        return WIRE_HEALTH_LIMIT;
    case URL_VALUE_FOUND:
        value = parse_number((struct slice){decoded, length});
        break;
    case URL_VALUE_BROKEN:
        break;
    }
    if (value < 0) {
        return REQUEST_LIMIT_BAD;
    }
    return value < WIRE_HEALTH_LIMIT_MAX ? (uint32_t)value : WIRE_HEALTH_LIMIT_MAX;
}

static int64_t parse_length(const char *text) {
    if (text[0] == '\0') {
        return REQUEST_LENGTH_NONE;
    }
    int64_t length = parse_number(slice_of(text));
    return length < 0 ? REQUEST_LENGTH_BAD : length;
}

/* Whether the path is prefix or lies under it: what is no route there is still of that door. */
static bool is_under(const char *path, const char *prefix) {
    size_t length = strlen(prefix);
    return strncmp(path, prefix, length) == 0 && strchr("/?", path[length]) != NULL;
}

static bool is_third_door(const char *uri, const char *script_name,
                          const struct route_paths *paths) {
    size_t mount = strlen(script_name);
    const char *mounted = strncmp(uri, script_name, mount) == 0 ? uri + mount : uri;
    return is_under(uri, paths->events) || is_under(uri, paths->health) ||
           is_under(mounted, paths->events) || is_under(mounted, paths->health);
}

/* A route that was matched says it better than its spelling, which may have escapes in it. */
static bool route_is_third_door(enum route_kind kind) {
    switch (kind) {
    case ROUTE_PUBLISH:
    case ROUTE_SUBSCRIBE:
    case ROUTE_UNSUBSCRIBE:
    case ROUTE_CHANNELS:
    case ROUTE_HISTORY:
    case ROUTE_STREAM:
    case ROUTE_CONNECTIONS:
    case ROUTE_STATUS:
        return true;
    case ROUTE_NONE:
    case ROUTE_BAD_TOPIC:
    case ROUTE_TOPIC_EVENTS:
    case ROUTE_HEALTH:
        break;
    }
    return false;
}

void request_parse(const struct parameters *parameters, const struct route_paths *paths,
                   struct request *request) {
    const void *source = parameters->source;
    const char *query = parameters->get(source, "QUERY_STRING");
    const char *length = parameters->get(source, "CONTENT_LENGTH");
    request->method = method_of(parameters->get(source, "REQUEST_METHOD"));
    route_parse(parameters->get(source, "REQUEST_URI"), parameters->get(source, "SCRIPT_NAME"),
                paths, &request->route);
    parse_position(parameters->get(source, "HTTP_LAST_EVENT_ID"), query, request);
    request->limit = parse_limit(query);
    request->accepts_events =
        strstr(parameters->get(source, "HTTP_ACCEPT"), "text/event-stream") != NULL;
    request->user = parameters->get(source, "REMOTE_USER");
    request->content_type = parameters->get(source, "CONTENT_TYPE");
    request->content_length = parse_length(length);
    request->query = query;
    request->is_third_door = route_is_third_door(request->route.kind) ||
                             (request->route.kind == ROUTE_NONE &&
                              is_third_door(parameters->get(source, "REQUEST_URI"),
                                            parameters->get(source, "SCRIPT_NAME"), paths));
}
