/* What a client wants to know from the broker, and under which token: it exists from the request
 * until the answer is complete, so a live stream costs nothing for it. */
#pragma once

#include "position.h"

#include <uthash.h>

struct client;

enum inquiry_question {
    INQUIRY_SUBSCRIPTION,
    INQUIRY_POSITION, /* of the first door, written D.M.S */
    INQUIRY_DURABLE_POSITION,
    INQUIRY_HEALTH,
    INQUIRY_CONNECTIONS,
    INQUIRY_STATUS,
};

struct inquiry {
    UT_hash_handle hh; /* by token, in the stream's table */
    struct client *client;
    uint64_t token; /* 0: it was not sent, or the broker has gone since */
    enum inquiry_question question;
    uint32_t limit; /* of health */
    /* Of a subscription: the position that the client handed in, or that it has reached since. */
    enum position_kind position_kind;
    struct position position;
    uint32_t owed_credit_bytes; /* of replays, that the broker was not granted anew yet */
    bool is_block_open; /* greeting and refresh become one block, which the refresh will end */
};

struct inquiry *inquiry_create(struct client *client, enum inquiry_question question) must_check;

/* Harmless when *inquiry is NULL, which it becomes. */
void inquiry_destroy(struct inquiry **inquiry);

/* Gives it a token that was never used before: answers to an earlier one are for nobody any more.
 */
void inquiry_draw_token(struct inquiry *inquiry);
void inquiry_drop_token(struct inquiry *inquiry);

/* The client has reached it. */
void inquiry_set_position(struct inquiry *inquiry, const struct position *position);

/* A position that can be written as an id. */
bool inquiry_has_position(const struct inquiry *inquiry) must_check;
