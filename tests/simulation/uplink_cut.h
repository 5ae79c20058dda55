/* A handler's connection to its broker, through our hands: frames to the handler can be held up,
 * come one by one, or end behind any of them, or within one, as if a machine or a process had died
 * there. */
#pragma once

#include "buf.h"

struct broker;

struct uplink_cut {
    struct buf up;    /* from the handler, not handed on yet */
    struct buf down;  /* from the broker: the rest of a frame, whole frames, a part of one */
    size_t down_rest; /* bytes of that rest */
    int listen_fd;    /* owned; where the handler looks for its broker */
    int handler_fd;   /* owned; -1: it is not connected */
    int broker_fd;    /* owned, with it */
    bool is_held;     /* nothing is handed on to the handler */
    bool is_slow;     /* one or two frames at a time */
};

void uplink_cut_init(struct uplink_cut *cut, int listen_fd);
void uplink_cut_release(struct uplink_cut *cut);

/* Accepts the handler if it has come, and hands on what there is. broker: NULL if there is none. */
void uplink_cut_pump(struct uplink_cut *cut, struct broker *broker);

/* The broker has gone in order: all that it wrote arrives. */
void uplink_cut_finish(struct uplink_cut *cut);

/* The connection ends behind a frame at random of those that are on their way, or within the next.
 * */
void uplink_cut_end(struct uplink_cut *cut);
