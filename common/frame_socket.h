/* One end of the Unix socket between the broker and a handler: whole frames come in, a queue of
 * frames goes out. Its owner opens and closes it, and names the reasons.
 *
 * Closing stops it at once; its descriptor and its input are freed at the end of the turn. */
#pragma once

#include "loop.h"
#include "outq.h"
#include "wire.h"

struct frame_socket {
    struct loop *loop; /* borrowed */
    struct loop_io io; /* stopped when closed */
    int fd;
    size_t body_bytes_max; /* of a frame that comes in */
    struct buf input;      /* after a read: what has come of an incomplete frame */
    struct loop_task reap;
};

/* Takes fd over. The socket is closed, or has never been open. */
void frame_socket_open(struct frame_socket *socket, struct loop *loop, int fd,
                       size_t body_bytes_max, void (*on_ready)(struct loop_io *io, unsigned ready));

/* Harmless when closed: then io.fd is -1. */
void frame_socket_close(struct frame_socket *socket);

/* Returns false if the frame breaks the protocol. The callback may close the socket. */
typedef bool frame_callback(void *self, const struct wire_frame *frame);

/* Reads once, and hands out each frame that is complete, until the socket is closed. False: the
 * owner has to close it. *offence says what the peer did wrong. NULL: the connection has ended, and
 * errno says why; 0: the peer has closed it. */
bool frame_socket_read(struct frame_socket *socket, void *self, frame_callback *on_frame,
                       const char **offence) must_check;

/* Writes what the socket takes, and waits until it takes more. */
enum outq_result frame_socket_write(struct frame_socket *socket, struct outq *queue) must_check;
