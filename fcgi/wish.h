/* What a stream of the third door asks for, out of its query: for whom, and which topics. Pure.
 *
 *   userId=1&channels=a,b
 *
 * Channels, which are topics, are separated by commas once they are decoded, so none has one in its
 * name; "channels" may also stand there more than once. */
#pragma once

#include "wire.h"

struct wish {
    struct slice user;
    struct wire_topics topics; /* each once, as they were first named */
    char *text;                /* owned: what both point into */
};

/* authenticated: whom the web server knows this is, or "". Returns REPLY_OK, or the status of the
 * refusal with *reason, which is static. Released after, whatever the outcome. */
unsigned wish_parse(struct wish *wish, const char *query, const char *authenticated,
                    const char **reason) must_check;
void wish_release(struct wish *wish);
