/* Requests that wait for Postgres, each embedded in a post or a db_request. Their memory counts
 * against the budget. When they are too many, no connection is accepted: new ones stay in the
 * backlog.
 */
#pragma once

#include "incoming.h"
#include "response.h"
#include "route.h"

/* Or fewer, if there are fewer descriptors. */
#define PENDING_REQUESTS_MAX 4096

struct pending_requests;

struct pending_request {
    LIST_ENTRY(pending_request) link;
    struct pending_requests *requests; /* borrowed */
    int fd;
    uint16_t request_id;
    bool is_head;
    enum api api; /* the form of its errors */
    size_t held_bytes;
    /* The program ends: answers it and frees it. */
    void (*abandon)(struct pending_request *pending);
};
LIST_HEAD(pending_request_list, pending_request);

struct pending_requests {
    struct incoming_requests *incoming_requests; /* borrowed: paused when there are too many */
    struct budget *budget;                       /* borrowed */
    struct responses responses;
    struct pending_request_list list;
    size_t count;
    size_t count_max; /* PENDING_REQUESTS_MAX, or what descriptors allow */
};

void pending_requests_init(struct pending_requests *requests, struct loop *loop, int64_t stall_ms,
                           struct incoming_requests *incoming_requests, struct budget *budget);
/* Abandons all of them, and the answers that are not written yet. */
void pending_requests_release(struct pending_requests *requests);

/* True if neither a request nor an answer waits. */
bool pending_requests_are_empty(const struct pending_requests *requests) must_check;

/* From now on the request waits, and holds that much memory. */
void pending_request_admit(struct pending_request *pending, size_t held_bytes);

/* Answers one that was admitted, and takes it off the list. The caller frees it. */
void pending_request_dismiss(struct pending_request *pending, struct slice answer);

/* Answers one that was not admitted. */
void pending_request_refuse(const struct pending_request *pending, unsigned status,
                            const char *reason, const char *allow);
