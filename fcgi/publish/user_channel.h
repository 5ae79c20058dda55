/* Subscriptions of users to channels: the bodies of subscribe and unsubscribe, the query for a
 * user's channels, and the answers. Pure.
 *
 * A userId is kept as its text: 1 and "1" are the same user. It is answered as it was given: a
 * number as a number, a string as a string; in a query, what is spelled like a whole number is one.
 */
#pragma once

#include "buf.h"

struct user_channel {
    struct buf user;    /* its text, ended by NUL, which does not count; so is channel */
    struct buf channel; /* empty in the query for a user's channels */
    bool is_number;     /* userId was one */
};

/* Zero-initialised before it is parsed; released after that, also after a refusal. */
void user_channel_release(struct user_channel *user_channel);

/* {"userId":1,"channel":"c"}. A "tenant" is refused. Both return HTTP_OK, or the status of the
 * refusal with *reason, good until the next call. */
unsigned user_channel_parse(struct user_channel *user_channel, struct slice body,
                            const char **reason) must_check;

/* userId=1 in a query string. */
unsigned user_channel_parse_query(struct user_channel *user_channel, const char *query,
                                  const char **reason) must_check;

/* {"status":"subscribed","userId":1,"channel":"c"} */
void user_channel_append_status(const struct user_channel *user_channel, const char *status,
                                struct buf *out);

/* {"userId":1,"channels":[, then each channel, then ]}. */
void user_channel_begin_list(const struct user_channel *user_channel, struct buf *out);
void user_channel_append_channel(struct slice channel, bool is_first, struct buf *out);
void user_channel_end_list(struct buf *out);
