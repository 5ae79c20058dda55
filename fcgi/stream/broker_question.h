/* What a stream asks the broker: to subscribe it. Each question has a token of its own. It exists
 * until the stream is live, so that a live stream needs no memory for it. All other questions are
 * shared by the clients that ask the same (shared_question.h). */
#pragma once

#include "hash.h"
#include "position.h"
#include "uplink.h"

struct subscriber;
struct broker_question;

/* All questions of a process. */
struct broker_questions {
    struct uplink *uplink;            /* borrowed */
    struct broker_question *by_token; /* those that were asked */
    uint64_t last_token;
};

struct broker_question {
    UT_hash_handle hh;
    struct broker_questions *questions; /* borrowed */
    struct subscriber *subscriber;      /* borrowed; not used here */
    uint64_t token;                     /* 0: it was not sent, or the broker has gone since */
    /* The position that the client came with, or has reached since. With POSITION_ALL: the one at
     * which it was accepted, see SUBSCRIBE in wire.h. */
    enum position_kind position_kind;
    struct position position;
    uint32_t owed_credit_bytes; /* replayed bytes for which no CREDIT was sent yet */
};

struct broker_question *broker_question_create(struct broker_questions *questions,
                                               struct subscriber *subscriber) must_check;

/* *question becomes NULL. Harmless if it is NULL already. */
void broker_question_destroy(struct broker_question **question);

/* A token that was never used before. */
uint64_t broker_questions_next_token(struct broker_questions *questions) must_check;

/* NULL if no question has the token: then an answer to it is ignored. */
struct broker_question *broker_questions_find(const struct broker_questions *questions,
                                              uint64_t token) must_check;

/* Gives it a token that was never used before. */
void broker_question_draw_token(struct broker_question *question);
void broker_question_drop_token(struct broker_question *question);

/* The client has reached that position. One that is written "0" counts as none, since "0" asks for
 * all that is kept. (A user stream has it when the table has gone, as it has no place among
 * ephemeral events.) */
void broker_question_set_resume_point(struct broker_question *question,
                                      const struct position *position);

/* True if its position can be written as an id. */
bool broker_question_has_position(const struct broker_question *question) must_check;
