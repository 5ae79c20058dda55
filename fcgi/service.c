#include "service.h"

#include "reply.h"

#define POST_METHODS "POST, OPTIONS"
#define GET_METHODS  "GET, HEAD, OPTIONS"

#define NOT_SERVED "this method is not served here"
#define NOT_OURS   "this is pgsse-stream's: the web server's routes are wrong"

/* What there is under a route. */
struct offer {
    const char *methods; /* all of them, whichever handler serves them; NULL: it is no route */
    enum service post;
    enum service get; /* and HEAD */
    const char *complaint;
    bool is_ours; /* then OPTIONS comes here, too */
};

static struct offer offer_of(enum route_kind kind) {
    static const struct offer offers[] = {
        [ROUTE_TOPIC_EVENTS] = {REPLY_TOPIC_METHODS, SERVICE_PUBLISH, SERVICE_NONE,
                                "all but POST is pgsse-stream's: the web server's routes are wrong",
                                false},
        [ROUTE_HEALTH] = {REPLY_HEALTH_METHODS, SERVICE_NONE, SERVICE_NONE, NOT_SERVED, false},
        [ROUTE_PUBLISH] = {POST_METHODS, SERVICE_PUBLISH_DURABLE, SERVICE_NONE, NOT_SERVED, true},
        [ROUTE_SUBSCRIBE] = {POST_METHODS, SERVICE_SUBSCRIBE, SERVICE_NONE, NOT_SERVED, true},
        [ROUTE_UNSUBSCRIBE] = {POST_METHODS, SERVICE_UNSUBSCRIBE, SERVICE_NONE, NOT_SERVED, true},
        [ROUTE_CHANNELS] = {GET_METHODS, SERVICE_NONE, SERVICE_CHANNELS, NOT_SERVED, true},
        [ROUTE_HISTORY] = {GET_METHODS, SERVICE_NONE, SERVICE_HISTORY, NOT_SERVED, true},
        [ROUTE_STREAM] = {GET_METHODS, SERVICE_NONE, SERVICE_NONE, NOT_OURS, false},
        [ROUTE_CONNECTIONS] = {GET_METHODS, SERVICE_NONE, SERVICE_NONE, NOT_OURS, false},
        [ROUTE_STATUS] = {GET_METHODS, SERVICE_NONE, SERVICE_NONE, NOT_OURS, false},
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
    struct offer offer = offer_of(kind);
    enum service service = serve(&offer, request->method);
    if (kind == ROUTE_BAD_TOPIC) {
        *refusal = (struct refusal){REPLY_BAD_REQUEST, REPLY_BAD_TOPIC_TEXT, NULL};
    } else if (offer.methods == NULL) {
        *refusal = (struct refusal){REPLY_NOT_FOUND, REPLY_NO_ROUTE_TEXT, NULL};
    } else if (offer.is_ours && request->method == METHOD_OPTIONS) {
        *refusal = (struct refusal){REPLY_NO_CONTENT, "", offer.methods};
    } else if (service == SERVICE_NONE) {
        bool is_post = request->method == METHOD_POST;
        const char *reason = is_post ? NOT_SERVED : offer.complaint;
        *refusal = (struct refusal){REPLY_METHOD_NOT_ALLOWED, reason, offer.methods};
    }
    return service;
}
