#include "request.h"

#include "accept_encoding.h"
#include "decimal.h"
#include "url.h"
#include "wire.h"

enum { QUERY_VALUE_BYTES_MAX = 256, NUMBER_DIGITS_MAX = 18 }; /* nobody means more digits */

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

/* The header wins over the query. A value that cannot be decoded counts as a malformed position. */
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

static uint32_t parse_limit(const char *query) {
    char decoded[QUERY_VALUE_BYTES_MAX];
    size_t length;
    uint32_t limit;
    switch (url_query_value(query, "limit", decoded, sizeof decoded, &length)) {
    case URL_VALUE_ABSENT:
        return WIRE_HEALTH_LIMIT;
    case URL_VALUE_FOUND:
        if (wire_parse_health_limit((struct slice){decoded, length}, &limit)) {
            return limit;
        }
        break;
    case URL_VALUE_BROKEN:
        break;
    }
    return REQUEST_LIMIT_BAD;
}

static bool query_says(const char *query, const char *name, const char *wanted) {
    char decoded[QUERY_VALUE_BYTES_MAX];
    size_t length;
    return url_query_value(query, name, decoded, sizeof decoded, &length) == URL_VALUE_FOUND &&
           slice_is((struct slice){decoded, length}, wanted);
}

static int64_t parse_length(const char *text) {
    if (text[0] == '\0') {
        return REQUEST_LENGTH_NONE;
    }
    uint64_t length;
    bool is_number = decimal_parse(slice_of(text), NUMBER_DIGITS_MAX, INT64_MAX, &length);
    return is_number ? (int64_t)length : REQUEST_LENGTH_BAD;
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
    const char *accept = parameters->get(source, "HTTP_ACCEPT");
    request->accepts_events = strstr(accept, "text/event-stream") != NULL;
    request->is_event_source = strcmp(accept, "text/event-stream") == 0;
    request->accepts_gzip =
        accept_encoding_has_gzip(slice_of(parameters->get(source, "HTTP_ACCEPT_ENCODING")));
    request->wants_position = query_says(query, "position", "1");
    request->has_heartbeat_events = query_says(query, "heartbeat", "event");
    identity_read(&request->identity, parameters);
    request->content_type = parameters->get(source, "CONTENT_TYPE");
    request->content_length = parse_length(length);
    request->query = query;
}
