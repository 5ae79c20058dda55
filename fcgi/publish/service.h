/* What the publish handler has to do for a request, or what it answers at once. Pure. */
#pragma once

#include "request.h"

enum service {
    SERVICE_NONE, /* answered at once */
    SERVICE_PUBLISH_TOPIC,
    SERVICE_PUBLISH_MANY,
    SERVICE_PUBLISH_SSE,
    SERVICE_PUBLISH_DURABLE,
    SERVICE_SUBSCRIBE,
    SERVICE_UNSUBSCRIBE,
    SERVICE_CHANNELS,
    SERVICE_HISTORY,
};

/* An answer that needs nothing but the request: mostly why it is refused. All texts are borrowed.
 */
struct refusal {
    unsigned status;
    const char *reason;
    const char *allow; /* the Allow header; NULL: none */
};

/* *refusal is set when it is SERVICE_NONE. */
enum service service_of(const struct request *request, struct refusal *refusal) must_check;
