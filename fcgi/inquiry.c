#include "inquiry.h"

#include "stream.h"

#include <stdlib.h>

struct inquiry *inquiry_create(struct client *client, enum inquiry_question question) {
    struct inquiry *inquiry = must_zalloc(sizeof *inquiry);
    inquiry->client = client;
    inquiry->question = question;
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

/* Who asked for all that is kept and has got nothing of it yet goes on asking for that. */
void inquiry_set_position(struct inquiry *inquiry, const struct position *position) {
    inquiry->position = *position;
    inquiry->position_kind = position_is_start(position) ? POSITION_ALL : POSITION_KNOWN;
}

/* One that is known but of which no part fits this door would be written as "0", too. */
bool inquiry_has_position(const struct inquiry *inquiry) {
    return inquiry->position_kind == POSITION_ALL ||
           (inquiry->position_kind == POSITION_KNOWN && !position_is_start(&inquiry->position));
}
