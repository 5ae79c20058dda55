/* A marker's whole payload, as Postgres would complete it for the session that sends it. */
#pragma once

#include "markers.h"
#include "support.h"

enum { DRAWN_MARKER_BYTES = MARKER_HEAD_BYTES + 32 };

static inline void draw_marker(struct markers *markers, int pid, char payload[DRAWN_MARKER_BYTES]) {
    char head[MARKER_HEAD_BYTES];
    markers_draw(markers, head);
    snprintf(payload, DRAWN_MARKER_BYTES, "%s,\"pid\":%d}", head, pid);
}
