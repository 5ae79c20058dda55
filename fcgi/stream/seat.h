/* A client's place in an audience: what fan-out knows of a client. It is embedded in the client. */
#pragma once

#include "output.h"

#include <sys/queue.h>

struct seat {
    LIST_ENTRY(seat) link; /* while its client is live */
    struct output output;
};

LIST_HEAD(seat_list, seat);
