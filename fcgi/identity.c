#include "identity.h"

#include "log.h"

/* Its bytes are not shown: where a web server passes on what a client sent, they are a
 * stranger's. */
static void complain(struct slice tenant) {
    static struct log_limit limit;
    log_limited(
        &limit, LOG_LEVEL_ERROR,
        "a request is refused: PGSSE_TENANT has %zu bytes and is no tenant, which is 1 to %d "
        "of [A-Za-z0-9_.-]: the web server's configuration is wrong",
        tenant.length, TENANT_BYTES_MAX);
}

void identity_read(struct identity *identity, const struct parameters *parameters) {
    struct slice tenant = slice_of(parameters->get(parameters->source, "PGSSE_TENANT"));
    identity->user = parameters->get(parameters->source, "REMOTE_USER");
    identity->is_known = tenant_is_valid(tenant);
    identity->tenant = identity->is_known ? tenant : (struct slice){0};
    if (!identity->is_known) {
        complain(tenant);
    }
}

bool identity_may_read(const struct identity *identity, struct slice name) {
    size_t prefix = strlen(TOPIC_USER_PREFIX);
    if (!topic_is_of_user(name)) {
        return true;
    }
    struct slice user = {name.at + prefix, name.length - prefix};
    return identity_is_authenticated(identity) && slice_is(user, identity->user) &&
           !topic_is_pattern(name);
}

void identity_copy_tenant(const struct identity *identity, char tenant[TENANT_BYTES_MAX + 1]) {
    check(identity->is_known && identity->tenant.length <= TENANT_BYTES_MAX);
    if (identity->tenant.length > 0) {
        memcpy(tenant, identity->tenant.at, identity->tenant.length);
    }
    tenant[identity->tenant.length] = '\0';
}
