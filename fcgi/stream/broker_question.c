#include "broker_question.h"

#include <stdlib.h>

struct broker_question *broker_question_create(struct broker_questions *questions,
                                               struct subscriber *subscriber) {
    struct broker_question *question = must_zalloc(sizeof *question);
    question->questions = questions;
    question->subscriber = subscriber;
    return question;
}

void broker_question_destroy(struct broker_question **slot) {
    struct broker_question *question = *slot;
    *slot = NULL;
    if (question != NULL) {
        broker_question_drop_token(question);
        free(question);
    }
}

uint64_t broker_questions_next_token(struct broker_questions *questions) {
    return ++questions->last_token;
}

struct broker_question *broker_questions_find(const struct broker_questions *questions,
                                              uint64_t token) {
    struct broker_question *question;
    HASH_FIND(hh, questions->by_token, &token, sizeof token, question);
    return question;
}

void broker_question_drop_token(struct broker_question *question) {
    if (question->token != 0) {
        HASH_DEL(question->questions->by_token, question);
        question->token = 0;
    }
    question->owed_credit_bytes = 0;
}

void broker_question_draw_token(struct broker_question *question) {
    broker_question_drop_token(question);
    question->token = broker_questions_next_token(question->questions);
    HASH_ADD(hh, question->questions->by_token, token, sizeof question->token, question);
}

void broker_question_set_resume_point(struct broker_question *question,
                                      const struct position *position) {
    question->position = *position;
    question->position_kind = position_is_start(position) ? POSITION_NONE : POSITION_KNOWN;
}

/* A known position that lacks the part that this form of stream writes would be written "0", too.
 */
bool broker_question_has_position(const struct broker_question *question) {
    return question->position_kind == POSITION_ALL ||
           (question->position_kind == POSITION_KNOWN && !position_is_start(&question->position));
}
