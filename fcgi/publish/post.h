/* One publish: from the body to the batch, and from the outcome to the answer. An event that is too
 * large for a notification is published as a durable one, if there is the schema. */
#pragma once

#include "batch.h"
#include "pending_request.h"
#include "request.h"
#include "service.h"

struct posts {
    const struct config *config; /* borrowed */
    struct batch *ephemeral;     /* owned */
    struct batch *durable;       /* owned */
    uint64_t next_nonce; /* counts from a random number, so that no two processes use the same */
};

void posts_init(struct posts *posts, struct loop *loop, const struct config *config);
/* Posts that still wait for a batch are not called: they have to be abandoned after this. */
void posts_release(struct posts *posts);

/* Returns HTTP_OK, and the request is answered when Postgres has committed; or the status of the
 * refusal with *reason, good until the next call. */
unsigned post_begin(struct posts *posts, const struct pending_request *pending,
                    enum service service, const struct request *request, struct slice body,
                    const char **reason) must_check;
