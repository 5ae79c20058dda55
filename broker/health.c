#include "health.h"

#include "http.h"
#include "listing.h"

enum {
    HEALTH_ITEMS_PER_MS = 20, /* of pause, so that counting takes about one hundredth of the time */
    HEALTH_LISTED_ITEMS = 10, /* listing a topic costs as much as counting so many items */
};

static void enter(struct health *health, enum health_state state, int64_t delay_ms,
                  void (*on_due)(struct loop_timer *timer)) {
    health->state = state;
    loop_timer_start(health->loop, &health->timer, delay_ms, on_due);
}

/* --- answers --------------------------------------------------------------------------------- */

static bool is_of_tenant(const struct health_request *request, const char *tenant) {
    return strcmp(request->question.tenant, tenant) == 0;
}

static struct health_request *first_of_tenant(const struct health *health, const char *tenant) {
    struct health_request *request;
    TAILQ_FOREACH(request, &health->served, link) {
        if (is_of_tenant(request, tenant)) {
            break;
        }
    }
    return request;
}

static uint32_t largest_limit(const struct health *health, const char *tenant) {
    uint32_t limit = 0;
    const struct health_request *request;
    TAILQ_FOREACH(request, &health->served, link) {
        if (is_of_tenant(request, tenant)) {
            limit = request->question.limit > limit ? request->question.limit : limit;
        }
    }
    return limit;
}

static void finish(struct health *health, struct health_request *request, uint16_t status,
                   struct slice document) {
    health_callback *on_done = request->on_done;
    health_cancel(health, request);
    on_done(request, status, document);
}

/* The documents that all requests of a tenant share in a round. Each is made for the first request
 * that needs it. */
struct documents {
    const char *tenant; /* borrowed from a request */
    uint32_t limit;     /* of the list */
    size_t listed;
    struct buf list;
    struct buf full[DOCUMENT_SCOPES];
    struct buf counted[WIRE_DOCUMENT_KINDS];
    struct buf cut; /* the last shortened document */
};

static void documents_release(struct documents *documents) {
    buf_release(&documents->list);
    for (size_t scope = 0; scope < DOCUMENT_SCOPES; scope++) {
        buf_release(&documents->full[scope]);
    }
    for (size_t kind = 0; kind < WIRE_DOCUMENT_KINDS; kind++) {
        buf_release(&documents->counted[kind]);
    }
    buf_release(&documents->cut);
}

static struct slice full_document(const struct health *health, struct documents *documents,
                                  const struct health_question *question) {
    struct buf *full = &documents->full[question->scope];
    if (documents->list.length == 0) {
        documents->listed = listing_append(&health->survey, slice_of(documents->tenant),
                                           documents->limit, &documents->list);
    }
    if (full->length == 0) {
        document_health(health->overview, &health->survey, question->scope,
                        buf_slice(&documents->list), full);
    }
    if (question->limit >= documents->listed) {
        return buf_slice(full);
    }
    documents->cut.length = 0;
    wire_cut_health(buf_slice(full), question->limit, &documents->cut);
    return buf_slice(&documents->cut);
}

/* The documents that need nothing but what was counted. */
typedef void make_document(const struct survey *survey, struct slice tenant, struct buf *out);
static make_document *const counted[WIRE_DOCUMENT_KINDS] = {
    [WIRE_USER_STREAMS] = document_user_streams,
    [WIRE_STREAM_STATS] = document_stream_stats,
};

static struct slice counted_document(const struct health *health, struct documents *documents,
                                     enum wire_document_kind kind) {
    struct buf *document = &documents->counted[kind];
    if (document->length == 0) {
        counted[kind](&health->survey, slice_of(documents->tenant), document);
    }
    return buf_slice(document);
}

static void answer(struct health *health, struct documents *documents,
                   struct health_request *request) {
    switch (request->question.kind) {
    case WIRE_FULL_HEALTH:
        finish(health, request, document_health_status(health->overview),
               full_document(health, documents, &request->question));
        return;
    case WIRE_USER_STREAMS:
    case WIRE_STREAM_STATS:
        finish(health, request, HTTP_OK,
               counted_document(health, documents, request->question.kind));
        return;
    case WIRE_SHORT_HEALTH: /* such a request never waits */
        return;
    }
}

/* --- rounds ---------------------------------------------------------------------------------- */

static void on_begin(struct loop_timer *timer);

static void begin_soon(struct health *health) {
    int64_t left_ms = health->next_ms - loop_now_ms(health->loop);
    enter(health, HEALTH_PAUSED, left_ms > 0 ? left_ms : 0, on_begin);
}

static int64_t pause_ms(uint64_t items) {
    int64_t pause = (int64_t)(items / HEALTH_ITEMS_PER_MS);
    pause = pause > HEALTH_PAUSE_MS_MIN ? pause : HEALTH_PAUSE_MS_MIN;
    return pause < HEALTH_PAUSE_MS_MAX ? pause : HEALTH_PAUSE_MS_MAX;
}

/* Answers all requests of the first one's tenant. */
static void answer_tenant(struct health *health) {
    struct health_request *request = TAILQ_FIRST(&health->served);
    char tenant[TENANT_BYTES_MAX + 1];
    memcpy(tenant, request->question.tenant, sizeof tenant);
    struct documents documents = {.tenant = tenant, .limit = largest_limit(health, tenant)};
    while ((request = first_of_tenant(health, tenant)) != NULL) {
        answer(health, &documents, request);
    }
    health->listed += documents.listed;
    documents_release(&documents);
}

static void end_round(struct health *health) {
    health->state = HEALTH_IDLE;
    health->next_ms = loop_now_ms(health->loop) +
                      pause_ms(health->survey.items + HEALTH_LISTED_ITEMS * health->listed);
    if (!TAILQ_EMPTY(&health->requests)) {
        begin_soon(health);
    }
}

/* One tenant in a turn. */
static void on_answer_due(struct loop_timer *timer) {
    struct health *health = container_of(timer, struct health, timer);
    if (!TAILQ_EMPTY(&health->served)) {
        answer_tenant(health);
    }
    if (TAILQ_EMPTY(&health->served)) {
        end_round(health);
    } else {
        enter(health, HEALTH_ANSWERING, 0, on_answer_due);
    }
}

static void begin_answering(struct health *health) {
    struct health_request *request;
    while ((request = TAILQ_FIRST(&health->requests)) != NULL) {
        TAILQ_REMOVE(&health->requests, request, link);
        TAILQ_INSERT_TAIL(&health->served, request, link);
        request->is_served = true;
    }
    health->listed = 0;
    health->state = HEALTH_ANSWERING;
    on_answer_due(&health->timer);
}

/* True, and the state is IDLE, if no request waits any more. */
static bool is_given_up(struct health *health) {
    if (!TAILQ_EMPTY(&health->requests)) {
        return false;
    }
    health->state = HEALTH_IDLE;
    return true;
}

static void on_step(struct loop_timer *timer) {
    struct health *health = container_of(timer, struct health, timer);
    if (is_given_up(health)) {
        return;
    }
    if (survey_step(&health->survey)) {
        begin_answering(health);
    } else {
        enter(health, HEALTH_COUNTING, 0, on_step);
    }
}

static void on_reported(struct loop_timer *timer) {
    struct health *health = container_of(timer, struct health, timer);
    survey_begin(&health->survey);
    health->state = HEALTH_COUNTING;
    on_step(timer);
}

static void one_answer_less(struct health *health) {
    if (--health->awaited == 0) {
        enter(health, HEALTH_ASKING, 0, on_reported);
    }
}

static void ask_handlers(struct health *health) {
    struct delivery *handler;
    TAILQ_FOREACH(handler, health->overview->handlers, link) {
        if (delivery_is_served(handler)) {
            handler->report_asked = health->last_serial;
            health->awaited++;
            outbox_queue(&handler->outbox, wire_encode_ask_report(health->last_serial));
        }
    }
}

static void on_begin(struct loop_timer *timer) {
    struct health *health = container_of(timer, struct health, timer);
    if (is_given_up(health)) {
        return;
    }
    health->last_serial++;
    enter(health, HEALTH_ASKING, HEALTH_WAIT_MS, on_reported);
    /* Starts at 1, so that the round cannot end while handlers are still being asked. */
    health->awaited = 1;
    ask_handlers(health);
    one_answer_less(health);
}

static void note_answers(struct health *health, uint32_t before, uint32_t serial) {
    if (health->state == HEALTH_ASKING && health->awaited > 0 && before < health->last_serial &&
        serial >= health->last_serial) {
        one_answer_less(health);
    }
}

void health_on_report(struct health *health, const struct delivery *handler, uint32_t before) {
    note_answers(health, before, handler->report_given);
}

void health_on_handler_closing(struct health *health, const struct delivery *handler) {
    survey_on_handler_closing(&health->survey, handler);
    note_answers(health, handler->report_given, handler->report_asked);
}

/* --- requests -------------------------------------------------------------------------------- */

static void answer_short_health(struct health *health, struct health_request *request) {
    struct buf document = {0};
    document_short_health(health->overview, &document);
    finish(health, request, document_health_status(health->overview), buf_slice(&document));
    buf_release(&document);
}

void health_ask(struct health *health, struct health_request *request,
                const struct health_question *question, health_callback *on_done) {
    health_cancel(health, request);
    request->question = *question;
    request->on_done = on_done;
    TAILQ_INSERT_TAIL(&health->requests, request, link);
    if (question->kind == WIRE_SHORT_HEALTH) {
        answer_short_health(health, request);
    } else if (health->state == HEALTH_IDLE) {
        begin_soon(health);
    }
}

/* If this was the last request of a round, is_given_up ends the round later. */
void health_cancel(struct health *health, struct health_request *request) {
    if (request->on_done != NULL) {
        TAILQ_REMOVE(request->is_served ? &health->served : &health->requests, request, link);
        request->is_served = false;
        request->on_done = NULL;
    }
}

void health_init(struct health *health, struct loop *loop, const struct overview *overview) {
    *health = (struct health){.loop = loop, .overview = overview};
    TAILQ_INIT(&health->requests);
    TAILQ_INIT(&health->served);
    survey_init(&health->survey, overview);
}

void health_release(struct health *health) {
    check(TAILQ_EMPTY(&health->requests) && TAILQ_EMPTY(&health->served));
    loop_timer_stop(health->loop, &health->timer);
}
