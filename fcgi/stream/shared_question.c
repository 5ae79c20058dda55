#include "shared_question.h"

#include <stdio.h>

/* --- asking ---------------------------------------------------------------------------------- */

static struct payload *encode(const struct shared_question *question) {
    struct wire_ask_document document = {question->token, question->document_kind, question->limit,
                                         slice_of(question->tenant)};
    return question->is_position ? wire_encode_ask_position(question->token)
                                 : wire_encode_ask_document(&document);
}

static bool is_asked_for(const struct shared_question *question,
                         const struct shared_waiter *waiter) {
    return strcmp(question->tenant, waiter->tenant) == 0;
}

/* The tenant whose client came first. There is a client that waits. */
static void choose_tenant(struct shared_question *question) {
    const struct shared_waiter *waiter;
    LIST_FOREACH(waiter, &question->waiting, link) {
        if (LIST_NEXT(waiter, link) == NULL) {
            snprintf(question->tenant, sizeof question->tenant, "%s", waiter->tenant);
        }
    }
}

static uint32_t largest_limit(const struct shared_question *question) {
    uint32_t limit = 0;
    const struct shared_waiter *waiter;
    LIST_FOREACH(waiter, &question->waiting, link) {
        if (is_asked_for(question, waiter)) {
            limit = waiter->limit > limit ? waiter->limit : limit;
        }
    }
    return limit;
}

static void ask_if_wanted(struct shared_question *question) {
    struct broker_questions *questions = question->broker_questions;
    if (question->state != SHARED_QUESTION_IDLE || LIST_EMPTY(&question->waiting) ||
        !uplink_is_up(questions->uplink)) {
        return;
    }
    question->state = SHARED_QUESTION_ASKED;
    question->token = broker_questions_next_token(questions);
    choose_tenant(question);
    question->limit = largest_limit(question);
    uplink_queue(questions->uplink, encode(question));
}

/* Short health, stats and a position are small. */
static size_t waiting_max(const struct shared_question *question) {
    bool is_small = question->is_position || question->document_kind == WIRE_SHORT_HEALTH ||
                    question->document_kind == WIRE_STREAM_STATS;
    return is_small ? SHARED_QUESTION_SMALL_WAITING_MAX : SHARED_QUESTION_LARGE_WAITING_MAX;
}

bool shared_question_join(struct shared_question *question, struct shared_waiter *waiter) {
    if (question->count == waiting_max(question)) {
        return false;
    }
    question->count++;
    waiter->question = question;
    LIST_INSERT_HEAD(&question->waiting, waiter, link);
    ask_if_wanted(question);
    return true;
}

void shared_question_leave(struct shared_waiter *waiter) {
    if (waiter->question != NULL) {
        LIST_REMOVE(waiter, link);
        waiter->question->count--;
        waiter->question = NULL;
    }
}

struct shared_waiter *shared_question_first(const struct shared_question *question) {
    struct shared_waiter *first = LIST_FIRST(&question->served);
    return first != NULL ? first : LIST_FIRST(&question->waiting);
}

/* --- answering ------------------------------------------------------------------------------- */

static void on_turn(struct loop_timer *timer) {
    struct shared_question *question = container_of(timer, struct shared_question, turn);
    struct shared_waiter *waiter;
    size_t bytes = 0;
    while (bytes < SHARED_QUESTION_TURN_BYTES && (waiter = LIST_FIRST(&question->served)) != NULL) {
        bytes += question->document.length;
        question->on_answer(waiter, question);
    }
    if (!LIST_EMPTY(&question->served)) {
        loop_timer_start(question->loop, &question->turn, 0, on_turn);
        return;
    }
    buf_release(&question->document);
    question->state = SHARED_QUESTION_IDLE;
    ask_if_wanted(question);
}

/* Those of other tenants, and those that want a longer list, wait for a later answer. */
static void begin_answering(struct shared_question *question) {
    struct shared_waiter *waiter = LIST_FIRST(&question->waiting);
    question->state = SHARED_QUESTION_ANSWERING;
    while (waiter != NULL) {
        struct shared_waiter *next = LIST_NEXT(waiter, link);
        if (is_asked_for(question, waiter) && waiter->limit <= question->limit) {
            LIST_REMOVE(waiter, link);
            LIST_INSERT_HEAD(&question->served, waiter, link);
        }
        waiter = next;
    }
    on_turn(&question->turn);
}

static struct shared_question *find(struct shared_question questions[SHARED_QUESTION_KINDS],
                                    uint64_t token) {
    for (size_t kind = 0; kind < SHARED_QUESTION_KINDS; kind++) {
        if (questions[kind].state == SHARED_QUESTION_ASKED && questions[kind].token == token) {
            return &questions[kind];
        }
    }
    return NULL;
}

void shared_questions_on_position(struct shared_question questions[SHARED_QUESTION_KINDS],
                                  const struct wire_position *message) {
    struct shared_question *question = find(questions, message->token);
    if (question != NULL && question->is_position) {
        question->position = message->position;
        begin_answering(question);
    }
}

void shared_questions_on_document(struct shared_question questions[SHARED_QUESTION_KINDS],
                                  const struct wire_document *message) {
    struct shared_question *question = find(questions, message->token);
    if (question != NULL && !question->is_position) {
        question->status = message->status;
        buf_append_slice(&question->document, message->document);
        begin_answering(question);
    }
}

/* --- life ------------------------------------------------------------------------------------ */

void shared_questions_on_up(struct shared_question questions[SHARED_QUESTION_KINDS]) {
    for (size_t kind = 0; kind < SHARED_QUESTION_KINDS; kind++) {
        ask_if_wanted(&questions[kind]);
    }
}

void shared_questions_on_down(struct shared_question questions[SHARED_QUESTION_KINDS]) {
    for (size_t kind = 0; kind < SHARED_QUESTION_KINDS; kind++) {
        if (questions[kind].state == SHARED_QUESTION_ASKED) {
            questions[kind].state = SHARED_QUESTION_IDLE;
        }
    }
}

void shared_questions_init(struct shared_question questions[SHARED_QUESTION_KINDS],
                           struct loop *loop, struct broker_questions *broker_questions,
                           shared_question_callback *on_answer) {
    for (size_t kind = 0; kind < SHARED_QUESTION_KINDS; kind++) {
        questions[kind] = (struct shared_question){
            .loop = loop,
            .broker_questions = broker_questions,
            .is_position = kind == SHARED_QUESTION_POSITION,
            .document_kind = (enum wire_document_kind)kind,
            .on_answer = on_answer,
        };
    }
}

void shared_questions_release(struct shared_question questions[SHARED_QUESTION_KINDS]) {
    for (size_t kind = 0; kind < SHARED_QUESTION_KINDS; kind++) {
        check(questions[kind].count == 0);
        loop_timer_stop(questions[kind].loop, &questions[kind].turn);
        buf_release(&questions[kind].document);
    }
}
