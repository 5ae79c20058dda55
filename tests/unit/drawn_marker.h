/* A marker's whole payload, as Postgres would complete it for the session that sends it. */
#pragma once

#include "markers.h"
#include "support.h"

enum { DRAWN_MARKER_BYTES = MARKER_HEAD_BYTES + 64 };

/* The time of the server's clock at which markers' statements run in these tests. */
#define DRAWN_MARKER_US UINT64_C(1767225600000000)

static inline void complete_marker(const char *head, int pid, uint64_t at_us,
                                   char payload[DRAWN_MARKER_BYTES]) {
    snprintf(payload, DRAWN_MARKER_BYTES, "%s,\"pid\":%d,\"at\":%llu}", head, pid,
             (unsigned long long)at_us);
}

static inline void draw_marker(struct markers *markers, int pid, char payload[DRAWN_MARKER_BYTES]) {
    char head[MARKER_HEAD_BYTES];
    markers_draw(markers, head);
    complete_marker(head, pid, DRAWN_MARKER_US, payload);
}

static inline void last_marker(const struct markers *markers, char name[MARKER_BYTES + 1]) {
    memcpy(name, TAILQ_LAST(&markers->by_age, marker_list)->name, MARKER_BYTES + 1);
}

/* A marker of another broker with the same channels, at that time, and its name. */
static inline void foreign_marker(const struct markers *markers, const char *random, int pid,
                                  uint64_t at_us, char payload[DRAWN_MARKER_BYTES],
                                  char name[MARKER_BYTES + 1]) {
    char head[MARKER_HEAD_BYTES];
    struct markers other;
    snprintf(head, sizeof head, "{\"marker\":\"%.13s\",\"set\":\"%.16s\"", random, markers->set);
    complete_marker(head, pid, at_us, payload);
    markers_init(&other, 0, (struct slice){0}, 0);
    markers_trust(&other, 0);
    memcpy(other.set, markers->set, sizeof other.set);
    assert_int_equal(markers_hear(&other, slice_of(payload), pid, 0), MARKER_FOREIGN);
    last_marker(&other, name);
    markers_release(&other);
}
