/* Who asks: the tenant and the user that a request comes from, and the users that it may act for.
 * Both handlers decide that here and nowhere else. Pure.
 *
 * Only the web server is believed: PGSSE_TENANT is the tenant of its virtual host, REMOTE_USER is
 * the user that it has authenticated. The host that a client asks for decides which virtual host
 * that is. Nothing else of a request matters: neither its other headers (whose parameters begin
 * with HTTP_), nor its path, query or body. Without PGSSE_TENANT, or if it is empty, the tenant is
 * "". Without authentication, a request may act for any user of its tenant. */
#pragma once

#include "base.h"
#include "parameters.h"
#include "topic.h"

/* Texts are borrowed from the parameters. */
struct identity {
    struct slice tenant;
    const char *user; /* "": nobody was authenticated */
    bool is_known;    /* false: PGSSE_TENANT is no tenant. The request must be refused */
};

/* Why a request is refused whose identity is not known. */
#define IDENTITY_REFUSAL "the web server's configuration is wrong: PGSSE_TENANT is no tenant"

/* Logs it, with a limit, if the identity is not known. */
void identity_read(struct identity *identity, const struct parameters *parameters);

/* Writes the tenant, ended by NUL. */
void identity_copy_tenant(const struct identity *identity, char tenant[TENANT_BYTES_MAX + 1]);

static inline bool identity_is_authenticated(const struct identity *identity) {
    return identity->user[0] != '\0';
}

/* True if the request may read the topic, or what a pattern matches: topics that begin with "user:"
 * are that user's alone, on every API, and must be named whole. */
bool identity_may_read(const struct identity *identity, struct slice name) must_check;
#define IDENTITY_UNREADABLE "a topic of that user may be read by that user only"

/* True if the request may act for that user. */
static inline bool identity_may_be(const struct identity *identity, struct slice user) {
    return !identity_is_authenticated(identity) || slice_is(user, identity->user);
}
