/* Questions to the broker that many clients share: for the position, and for documents.
 *
 *   IDLE       nobody waits, or the broker is away
 *   ASKED      one question is on its way
 *   ANSWERING  the clients that waited get the answer: in each turn so many that they get
 *              SHARED_QUESTION_TURN_BYTES, or one client, so that events are not delayed
 *
 * There is one question of a kind at a time, however many clients wait: the broker and the uplink
 * carry one answer for all of them that are of one tenant. The tenant whose client has waited
 * longest is next. A client that comes while the question is on its way shares the answer, unless
 * it is of another tenant, or wants a longer list: then it waits for a later answer. The number of
 * waiting clients is bounded. */
#pragma once

#include "broker_question.h"

#include <sys/queue.h>

enum {
    SHARED_QUESTION_TURN_BYTES = 256 * 1024,
    SHARED_QUESTION_LARGE_WAITING_MAX = 64, /* for documents that may be large */
    SHARED_QUESTION_SMALL_WAITING_MAX = 4096,
};

enum shared_question_state {
    SHARED_QUESTION_IDLE,
    SHARED_QUESTION_ASKED,
    SHARED_QUESTION_ANSWERING
};

/* There is one question for each kind of document, and one for the position. */
enum { SHARED_QUESTION_POSITION = WIRE_DOCUMENT_KINDS, SHARED_QUESTION_KINDS };

struct shared_question;

/* A client that waits for an answer; embedded in its owner. */
struct shared_waiter {
    LIST_ENTRY(shared_waiter) link;
    struct shared_question *question; /* borrowed; NULL: it waits for nothing */
    uint32_t limit;                   /* of health; else 0 */
    char *tenant;                     /* the waiter's own; set before it joins */
};
LIST_HEAD(shared_waiter_list, shared_waiter);

/* The question's position or document is the waiter's answer. The waiter has to leave. */
typedef void shared_question_callback(struct shared_waiter *waiter,
                                      const struct shared_question *question);

struct shared_question {
    struct loop *loop;                         /* borrowed */
    struct broker_questions *broker_questions; /* borrowed */
    bool is_position;                          /* it asks for the position, and for no document */
    enum wire_document_kind document_kind;
    enum shared_question_state state;
    uint64_t token;                    /* ASKED */
    uint32_t limit;                    /* of the last question: how many topics of health */
    char tenant[TENANT_BYTES_MAX + 1]; /* of the last question */
    struct shared_waiter_list waiting; /* for an answer; the one that came first is last */
    struct shared_waiter_list served;  /* ANSWERING: those that get this one */
    size_t count;                      /* in both lists */
    shared_question_callback *on_answer;
    struct loop_timer turn;
    /* The answer. */
    struct position position;
    uint16_t status;
    struct buf document;
};

void shared_questions_init(struct shared_question questions[SHARED_QUESTION_KINDS],
                           struct loop *loop, struct broker_questions *broker_questions,
                           shared_question_callback *on_answer);
/* Nobody may wait any more. */
void shared_questions_release(struct shared_question questions[SHARED_QUESTION_KINDS]);

/* The waiter waits until it is answered or leaves. False: too many wait already. */
bool shared_question_join(struct shared_question *question,
                          struct shared_waiter *waiter) must_check;

/* Harmless when it waits for nothing. */
void shared_question_leave(struct shared_waiter *waiter);

/* A client that waits, or NULL. */
struct shared_waiter *shared_question_first(const struct shared_question *question) must_check;

void shared_questions_on_up(struct shared_question questions[SHARED_QUESTION_KINDS]);
void shared_questions_on_down(struct shared_question questions[SHARED_QUESTION_KINDS]);

/* An answer has come. If nobody asked with its token, it is ignored. */
void shared_questions_on_position(struct shared_question questions[SHARED_QUESTION_KINDS],
                                  const struct wire_position *message);
void shared_questions_on_document(struct shared_question questions[SHARED_QUESTION_KINDS],
                                  const struct wire_document *message);
