/* Who is subscribed to what: the bodies of subscribe and unsubscribe, the question for a user's
 * channels, and what is answered. Pure.
 *
 * A userId is kept as its text: 1 and "1" are the same user. It is answered as it was given: a
 * number as a number, a string as a string; in a query, what is spelled like a whole number is one.
 */
#pragma once

#include "buf.h"

struct subscription {
    struct buf user;    /* its text, ended by NUL, which does not count; so is channel */
    struct buf channel; /* empty in the question for a user's channels */
    bool is_number;     /* userId was one */
};

/* Zero-initialised before, released after, whatever the outcome. */
void subscription_release(struct subscription *subscription);

/* {"userId":1,"channel":"c"}. Both return REPLY_OK, or the status of the refusal with *reason, good
 * until the next call. */
unsigned subscription_parse(struct subscription *subscription, struct slice body,
                            const char **reason) must_check;

/* userId=1 in a query string. */
unsigned subscription_parse_query(struct subscription *subscription, const char *query,
                                  const char **reason) must_check;

/* {"status":"subscribed","userId":1,"channel":"c"} */
void subscription_append_status(const struct subscription *subscription, const char *status,
                                struct buf *out);

/* {"userId":1,"channels":[, then each channel, then ]}. */
void subscription_begin_list(const struct subscription *subscription, struct buf *out);
void subscription_append_channel(struct slice channel, bool is_first, struct buf *out);
void subscription_end_list(struct buf *out);
