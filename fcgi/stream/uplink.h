/* The one connection from a handler process to the broker: kept up with back-off, frames in and
 * out.
 *
 *   WAITING  ->  GREETING (HELLO is out)  ->  UP (WELCOME is in)  ->  WAITING ...
 *
 * What is sent while it is not up is dropped. So a sender asks uplink_is_up, and sends anew when
 * on_up is called. */
#pragma once

#include "frame_socket.h"

enum uplink_state { UPLINK_STOPPED, UPLINK_WAITING, UPLINK_GREETING, UPLINK_UP };

struct uplink_owner {
    void *self;
    void (*on_up)(void *self);
    void (*on_down)(void *self); /* after on_up only */
    /* False: the frame breaks the protocol. */
    bool (*on_frame)(void *self, const struct wire_frame *frame);
    void (*on_foreign_version)(void *self);
};

struct uplink {
    struct loop *loop;
    struct uplink_owner owner;
    char *path; /* owned */
    enum uplink_state state;
    struct frame_socket socket;
    struct loop_timer timer; /* WAITING: the next attempt; GREETING: give up */
    struct loop_task flush;
    unsigned failures;
    int64_t written_ms; /* when the socket last took something */
    struct outq output;
};

/* Starts to connect to socket_dir/broker.sock. */
void uplink_start(struct uplink *uplink, struct loop *loop, const char *socket_dir,
                  const struct uplink_owner *owner);
void uplink_stop(struct uplink *uplink);

bool uplink_is_up(const struct uplink *uplink);

/* It is not up, and not only just about to be: it was lost, or an attempt has failed. Not so in a
 * process that has only begun; under some web servers that is one that has its first request. */
bool uplink_is_away(const struct uplink *uplink);

/* Takes the caller's reference over. */
void uplink_queue(struct uplink *uplink, struct payload *frame);
