#include "service.h"

#include "reply.h"

#define NOT_SERVED "this method is not served here"
#define NOT_OURS   "this is pgsse-stream's: the web server's routes are wrong"

/* What is served under a route. */
struct offer {
    enum service post;
    enum service get; /* and HEAD */
    const char *complaint;
    bool is_ours; /* then OPTIONS comes here, too */
};

static struct offer offer_of(enum route_kind kind) {
    static const struct offer offers[] = {
        [ROUTE_TOPIC_EVENTS] = {SERVICE_PUBLISH_TOPIC, SERVICE_NONE,
                                "all but POST is pgsse-stream's: the web server's routes are wrong",
                                false},
        [ROUTE_EVENTS] = {SERVICE_NONE, SERVICE_NONE, NOT_OURS, false},
        [ROUTE_EVENTS_PUBLISH] = {SERVICE_PUBLISH_MANY, SERVICE_NONE, NOT_SERVED, true},
        [ROUTE_SSE_PUBLISH] = {SERVICE_PUBLISH_SSE, SERVICE_NONE, NOT_SERVED, true},
        [ROUTE_SSE_STATS] = {SERVICE_NONE, SERVICE_NONE, NOT_OURS, false},
        [ROUTE_FULL_HEALTH] = {SERVICE_NONE, SERVICE_NONE, NOT_SERVED, false},
        [ROUTE_DURABLE_PUBLISH] = {SERVICE_PUBLISH_DURABLE, SERVICE_NONE, NOT_SERVED, true},
        [ROUTE_SUBSCRIBE] = {SERVICE_SUBSCRIBE, SERVICE_NONE, NOT_SERVED, true},
        [ROUTE_UNSUBSCRIBE] = {SERVICE_UNSUBSCRIBE, SERVICE_NONE, NOT_SERVED, true},
        [ROUTE_CHANNELS] = {SERVICE_NONE, SERVICE_CHANNELS, NOT_SERVED, true},
        [ROUTE_HISTORY] = {SERVICE_NONE, SERVICE_HISTORY, NOT_SERVED, true},
        [ROUTE_USER_STREAM] = {SERVICE_NONE, SERVICE_NONE, NOT_OURS, false},
        [ROUTE_USER_STREAMS] = {SERVICE_NONE, SERVICE_NONE, NOT_OURS, false},
        [ROUTE_SHORT_HEALTH] = {SERVICE_NONE, SERVICE_NONE, NOT_OURS, false},
    };
    return (size_t)kind < length_of(offers) ? offers[kind] : (struct offer){0};
}

static enum service serve(const struct offer *offer, enum method method) {
    switch (method) {
    case METHOD_POST:
        return offer->post;
    case METHOD_GET:
    case METHOD_HEAD:
        return offer->get;
    case METHOD_OPTIONS:
    case METHOD_OTHER:
        break;
    }
    return SERVICE_NONE;
}

enum service service_of(const struct request *request, struct refusal *refusal) {
    enum route_kind kind = request->route.kind;
    const char *methods = route_methods(kind);
    struct offer offer = offer_of(kind);
    enum service service = serve(&offer, request->method);
    if (!request->identity.is_known) {
        *refusal = (struct refusal){HTTP_INTERNAL_ERROR, IDENTITY_REFUSAL, NULL};
        return SERVICE_NONE;
    }
    if (kind == ROUTE_BAD_TOPIC) {
        *refusal = (struct refusal){HTTP_BAD_REQUEST, REPLY_BAD_TOPIC_TEXT, NULL};
    } else if (methods == NULL) {
        *refusal = (struct refusal){HTTP_NOT_FOUND, REPLY_NO_ROUTE_TEXT, NULL};
    } else if (offer.is_ours && request->method == METHOD_OPTIONS) {
        *refusal = (struct refusal){HTTP_NO_CONTENT, "", methods};
    } else if (service == SERVICE_NONE) {
        bool is_post = request->method == METHOD_POST;
        const char *reason = is_post ? NOT_SERVED : offer.complaint;
        *refusal = (struct refusal){HTTP_METHOD_NOT_ALLOWED, reason, methods};
    }
    return service;
}
