/* Collects the requests for the broker's documents (document.h) and decides when the documents are
 * made.
 *
 *   IDLE      no request waits
 *   PAUSED    a request waits, because the last round was too short ago
 *   ASKING    a round: all handlers are asked for their figures, so that these are of this moment;
 *             it goes on when all have answered or after HEALTH_WAIT_MS
 *   COUNTING  the survey (survey.h) goes on turn by turn; when it is done,
 *   ANSWERING the requests that were there are answered: all of one tenant in a turn, with one list
 *             of topics; those that come meanwhile wait for the next round
 *
 * So the cost of a round depends on the number of topics, and not on the number of requests but for
 * tenants that ask in the same round: each gets a list of its own. The pause
 * after a round grows with what it has cost, up to HEALTH_PAUSE_MS_MAX: however fast documents are
 * asked for, they take a small part of the broker's time. A request is embedded in its owner and
 * each owner has a fixed number of them, so the number of waiting requests is bounded. */
#pragma once

#include "document.h"
#include "loop.h"
#include "survey.h"

#include <sys/queue.h>

enum {
    HEALTH_WAIT_MS = 200,
    HEALTH_PAUSE_MS_MIN = 10,
    HEALTH_PAUSE_MS_MAX = 1000,
};

struct health_question {
    enum wire_document_kind kind;
    enum document_scope scope; /* FULL_HEALTH */
    uint32_t limit; /* FULL_HEALTH: how many topics are listed at most; totals are never cut */
    char tenant[TENANT_BYTES_MAX + 1]; /* who asks, or LISTING_ALL_TENANTS */
};

struct health_request;

/* document is good during the call; status is that of HTTP. */
typedef void health_callback(struct health_request *request, uint16_t status,
                             struct slice document);

/* Embedded in its owner; zero-initialised. */
struct health_request {
    TAILQ_ENTRY(health_request) link;
    struct health_question question;
    health_callback *on_done; /* NULL: the request does not wait */
    bool is_served;           /* in the list of that name */
};
TAILQ_HEAD(health_request_list, health_request);

enum health_state { HEALTH_IDLE, HEALTH_PAUSED, HEALTH_ASKING, HEALTH_COUNTING, HEALTH_ANSWERING };

struct health {
    struct loop *loop;               /* borrowed */
    const struct overview *overview; /* borrowed */
    enum health_state state;
    struct health_request_list requests;
    struct health_request_list served; /* ANSWERING: those that this round answers */
    size_t listed;                     /* ANSWERING: topics, so far */
    struct loop_timer
        timer; /* the end of PAUSED or ASKING, or the next step of COUNTING or ANSWERING */
    uint32_t last_serial; /* of the last ASK_REPORT */
    size_t awaited;       /* ASKING: handlers that have not answered yet */
    int64_t next_ms;      /* the next round does not begin earlier */
    struct survey survey;
};

void health_init(struct health *health, struct loop *loop, const struct overview *overview);
void health_release(struct health *health);

/* on_done is called once, unless the request is cancelled: during this call if the document needs
 * no survey, else later. If the request waits already, the new question replaces the old one. */
void health_ask(struct health *health, struct health_request *request,
                const struct health_question *question, health_callback *on_done);

/* The owner does not want the answer any more. Harmless when the request does not wait. */
void health_cancel(struct health *health, struct health_request *request);

/* The handler has answered up to delivery.report_given. `before` is report_given before this
 * REPORT. */
void health_on_report(struct health *health, const struct delivery *handler, uint32_t before);

/* The handler will not answer. Call this before it leaves the list. */
void health_on_handler_closing(struct health *health, const struct delivery *handler);
