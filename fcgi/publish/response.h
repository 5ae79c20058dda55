/* Answers on their way to the web server, as FastCGI records.
 *
 * Usually the socket takes a whole answer at once. Otherwise the rest waits here until the web
 * server reads on, which it does not while its client is slow. No other answer waits for that. If
 * too much waits, the answer is given up whose socket has taken nothing for the longest time: its
 * client sees an answer that ends early, and asks again. */
#pragma once

#include "buf.h"
#include "loop.h"

enum { RESPONSES_BYTES_MAX = 64 * 1024 * 1024 }; /* that wait, in all */

struct response;
TAILQ_HEAD(response_list, response);

struct responses {
    struct loop *loop;          /* borrowed */
    int64_t stall_ms;           /* one that takes nothing for so long is given up */
    struct response_list slow;  /* the one that has taken nothing for the longest time first */
    uint64_t waiting_bytes;     /* of them all */
    struct loop_timer patience; /* until the first one is given up */
};

void responses_start(struct responses *responses, struct loop *loop, int64_t stall_ms);
/* Those that are not written yet are given up. */
void responses_stop(struct responses *responses);

bool responses_are_empty(const struct responses *responses);

/* Takes fd over, which is not in the loop. answer is CGI headers and a body. */
void responses_send(struct responses *responses, int fd, uint16_t request_id, struct slice answer);

/* --- for its test ------------------------------------------------------------------------- */

/* Appends an answer as records, to the end of the request. Pure. */
void response_append_records(struct buf *out, uint16_t request_id, struct slice answer);
