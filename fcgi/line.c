#include "line.h"

void line_init(struct line *line) {
    *line = (struct line){0};
    check(pthread_mutex_init(&line->lock, NULL) == 0);
    check(pthread_cond_init(&line->not_empty, NULL) == 0);
}

void line_release(struct line *line) {
    check(line->count == 0);
    pthread_cond_destroy(&line->not_empty);
    pthread_mutex_destroy(&line->lock);
}

bool line_put(struct line *line, int fd, bool *is_full) {
    pthread_mutex_lock(&line->lock);
    bool has_room = line->count < LINE_MAX;
    if (has_room) {
        line->fds[(line->first + line->count++) % LINE_MAX] = fd;
        pthread_cond_signal(&line->not_empty);
    }
    *is_full = line->count == LINE_MAX;
    pthread_mutex_unlock(&line->lock);
    return has_room;
}

int line_take(struct line *line, bool *was_full) {
    int fd = -1;
    pthread_mutex_lock(&line->lock);
    while (line->count == 0 && !line->is_closed) {
        pthread_cond_wait(&line->not_empty, &line->lock);
    }
    *was_full = line->count == LINE_MAX;
    if (line->count > 0) {
        fd = line->fds[line->first++ % LINE_MAX];
        line->count--;
        line->busy++;
    }
    pthread_mutex_unlock(&line->lock);
    return fd;
}

void line_done(struct line *line) {
    pthread_mutex_lock(&line->lock);
    line->busy--;
    pthread_mutex_unlock(&line->lock);
}

bool line_is_idle(struct line *line) {
    pthread_mutex_lock(&line->lock);
    bool is_idle = line->count == 0 && line->busy == 0;
    pthread_mutex_unlock(&line->lock);
    return is_idle;
}

void line_close(struct line *line) {
    pthread_mutex_lock(&line->lock);
    line->is_closed = true;
    pthread_cond_broadcast(&line->not_empty);
    pthread_mutex_unlock(&line->lock);
}
