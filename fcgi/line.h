/* Connections that wait for a worker: from the loop's thread to the worker threads. */
#pragma once

#include "base.h"

#include <pthread.h>

enum { LINE_MAX = 256 };

struct line {
    pthread_mutex_t lock;
    pthread_cond_t not_empty;
    int fds[LINE_MAX]; /* a ring */
    size_t first;
    size_t count;
    size_t busy; /* workers that have taken one and are not done */
    bool is_closed;
};

void line_init(struct line *line);
void line_release(struct line *line);

/* False when it is full. is_full tells whether this was the last place. */
bool line_put(struct line *line, int fd, bool *is_full) must_check;

/* Waits for a connection; -1 when the line was closed. The worker calls line_done when it is done
 * with it. was_full: the line has room again, and who fills it may want to know. */
int line_take(struct line *line, bool *was_full) must_check;
void line_done(struct line *line);

/* No worker has anything to do, and nothing waits. */
bool line_is_idle(struct line *line);

/* All workers come back from line_take. */
void line_close(struct line *line);
