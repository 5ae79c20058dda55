/* What a stream of many topics asks for, out of its query. Pure.
 *
 *   topics=a,b,orders.*&topic=c[&with_topic=1]     the events API
 *   userId=1&channels=a,b                          the durable API
 *
 * Topics and channels, which are topics, are separated by commas once they are decoded, so none has
 * one in its name; each parameter may stand there more than once. Empty names do not count. All are
 * topics of the tenant that asks. */
#pragma once

#include "identity.h"
#include "stream_form.h"

struct stream_query {
    enum stream_form form;
    struct slice tenant; /* borrowed from the identity */
    struct slice user;   /* of a user stream */
    struct names topics; /* each once, in the order of the query; their keys are in room */
    char *text;          /* owned: what user points into */
    char room[NAMES_MAX][TOPIC_KEY_BYTES_MAX];
};

/* The topics API: one topic, whose name is valid. Needs no release. */
void stream_query_of_topic(struct stream_query *wanted, struct slice name,
                           const struct identity *identity);

/* These two return HTTP_OK, or the status of the refusal with *reason, which is static. Released
 * after, whatever the outcome.
 *
 * The events API: without a name, or with "*", every topic that is nobody's own; with the topic of
 * the user who was authenticated, and what is for everybody. Nobody may name another user's
 * topic. */
unsigned stream_query_of_events(struct stream_query *wanted, const char *query,
                                const struct identity *identity, const char **reason) must_check;
unsigned stream_query_of_user(struct stream_query *wanted, const char *query,
                              const struct identity *identity, const char **reason) must_check;
void stream_query_release(struct stream_query *wanted);
