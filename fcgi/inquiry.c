#include "inquiry.h"

#include "stream.h"

#include <stdlib.h>

struct inquiry *inquiry_create(struct client *client) {
    struct inquiry *inquiry = must_zalloc(sizeof *inquiry);
    inquiry->client = client;
    return inquiry;
}

void inquiry_destroy(struct inquiry **place) {
    struct inquiry *inquiry = *place;
    *place = NULL;
    if (inquiry != NULL) {
        inquiry_drop_token(inquiry);
        free(inquiry);
    }
}

void inquiry_drop_token(struct inquiry *inquiry) {
    if (inquiry->token != 0) {
        HASH_DEL(inquiry->client->stream->inquiries, inquiry);
        inquiry->token = 0;
    }
    inquiry->owed_credit_bytes = 0;
}

void inquiry_draw_token(struct inquiry *inquiry) {
    struct stream *stream = inquiry->client->stream;
    inquiry_drop_token(inquiry);
    inquiry->token = ++stream->last_token;
    HASH_ADD(hh, stream->inquiries, token, sizeof inquiry->token, inquiry);
}

bool inquiry_has_position(const struct inquiry *inquiry) {
    return inquiry->position_kind == POSITION_KNOWN || inquiry->position_kind == POSITION_ALL;
}
