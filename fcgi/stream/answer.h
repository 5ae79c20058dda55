/* What a request gets: a stream, an answer at once, or an answer that the broker is asked for
 * first, which is a position (HEAD) or a document. */
#pragma once

#include "shared_question.h"
#include "subscribe.h"

struct answers {
    struct clients *clients;         /* borrowed */
    struct subscribers *subscribers; /* borrowed */
    struct shared_question questions[SHARED_QUESTION_KINDS];
    size_t document_bytes; /* of answers with documents, until their clients are freed */
};

void answers_init(struct answers *answers, struct clients *clients,
                  struct subscribers *subscribers);
/* All clients must be gone. */
void answers_release(struct answers *answers);

/* Takes fd over. */
struct client *answer_request(struct answers *answers, int fd, uint16_t request_id,
                              const struct request *request);

/* The broker is away: clients that wait for a document are answered at once. */
void answers_on_down(struct answers *answers);
