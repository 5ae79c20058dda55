#include "pending_request.h"

#include "descriptors.h"
#include "reply.h"

/* Leaves descriptors for the connections to Postgres, however many requests wait.
 */
static size_t count_max(void) {
    int max = descriptors_reserved_from();
    return max < PENDING_REQUESTS_MAX ? (size_t)max : PENDING_REQUESTS_MAX;
}

void pending_requests_init(struct pending_requests *requests, struct loop *loop, int64_t stall_ms,
                           struct incoming_requests *incoming_requests, struct budget *budget) {
    *requests = (struct pending_requests){
        .incoming_requests = incoming_requests, .budget = budget, .count_max = count_max()};
    responses_start(&requests->responses, loop, stall_ms);
    LIST_INIT(&requests->list);
}

void pending_requests_release(struct pending_requests *requests) {
    struct pending_request *pending;
    while ((pending = LIST_FIRST(&requests->list)) != NULL) {
        pending->abandon(pending);
    }
    responses_stop(&requests->responses);
}

bool pending_requests_are_empty(const struct pending_requests *requests) {
    return requests->count == 0 && responses_are_empty(&requests->responses);
}

static void update_door(struct pending_requests *requests) {
    incoming_requests_set_paused(requests->incoming_requests,
                                 requests->count >= requests->count_max);
}

void pending_request_admit(struct pending_request *pending, size_t held_bytes) {
    struct pending_requests *requests = pending->requests;
    pending->held_bytes = held_bytes;
    LIST_INSERT_HEAD(&requests->list, pending, link);
    requests->count++;
    budget_take(requests->budget, held_bytes);
    update_door(requests);
}

void pending_request_dismiss(struct pending_request *pending, struct slice answer) {
    struct pending_requests *requests = pending->requests;
    responses_send(&requests->responses, pending->fd, pending->request_id, answer);
    LIST_REMOVE(pending, link);
    requests->count--;
    budget_give(requests->budget, pending->held_bytes);
    update_door(requests);
}

void pending_request_refuse(const struct pending_request *pending, unsigned status,
                            const char *reason, const char *allow) {
    struct buf answer = {0};
    reply_refusal(&answer, pending->api != API_TOPICS, status, reason, allow, pending->is_head);
    responses_send(&pending->requests->responses, pending->fd, pending->request_id,
                   buf_slice(&answer));
    buf_release(&answer);
}
