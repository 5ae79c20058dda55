/* The user that a request comes from, and the users that it may act for. Both handlers decide that
 * here and nowhere else. The user is the one that the web server has authenticated. Without
 * authentication, a request may act for any user. Pure. */
#pragma once

#include "base.h"

struct identity {
    const char *user; /* borrowed; "": nobody was authenticated */
};

/* From the parameter REMOTE_USER. */
static inline struct identity identity_of(const char *remote_user) {
    return (struct identity){.user = remote_user};
}

static inline bool identity_is_authenticated(const struct identity *identity) {
    return identity->user[0] != '\0';
}

/* True if the request may act for that user. */
static inline bool identity_may_be(const struct identity *identity, struct slice user) {
    return !identity_is_authenticated(identity) || slice_is(user, identity->user);
}
