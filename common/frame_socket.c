#include "frame_socket.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READ_BYTES = 128 * 1024 };

void frame_socket_open(struct frame_socket *socket, struct loop *loop, int fd,
                       size_t body_bytes_max,
                       void (*on_ready)(struct loop_io *io, unsigned ready)) {
    *socket = (struct frame_socket){
        .loop = loop, .io = LOOP_IO_INIT, .fd = fd, .body_bytes_max = body_bytes_max};
    loop_io_start(loop, &socket->io, fd, LOOP_READ, on_ready);
}

static void on_reap(struct loop_task *task) {
    struct frame_socket *socket = container_of(task, struct frame_socket, reap);
    close(socket->fd);
    buf_release(&socket->input);
}

static bool is_open(const struct frame_socket *socket) {
    return socket->io.fd >= 0;
}

void frame_socket_close(struct frame_socket *socket) {
    if (is_open(socket)) {
        loop_io_stop(socket->loop, &socket->io);
        loop_reap_soon(socket->loop, &socket->reap, on_reap);
    }
}

/* What the peer did wrong, or NULL. */
static const char *hand_out(struct frame_socket *socket, void *self, frame_callback *on_frame) {
    struct slice left = buf_slice(&socket->input);
    struct wire_frame frame;
    while (is_open(socket)) {
        enum wire_next next = wire_next(&left, socket->body_bytes_max, &frame);
        if (next == WIRE_NEXT_INCOMPLETE) {
            break;
        }
        if (next == WIRE_NEXT_TOO_LONG) {
            return "sent a frame that is too long";
        }
        if (!on_frame(self, &frame)) {
            return "sent a frame that breaks the protocol";
        }
    }
    buf_consume(&socket->input, socket->input.length - left.length);
    return NULL;
}

bool frame_socket_read(struct frame_socket *socket, void *self, frame_callback *on_frame,
                       const char **offence) {
    char *room = buf_reserve(&socket->input, READ_BYTES);
    errno = 0;
    ssize_t got = recv(socket->fd, room, READ_BYTES, MSG_DONTWAIT);
    *offence = NULL;
    if (got <= 0) {
        return errno == EAGAIN || errno == EINTR;
    }
    socket->input.length += (size_t)got;
    *offence = hand_out(socket, self, on_frame);
    return *offence == NULL;
}

enum outq_result frame_socket_write(struct frame_socket *socket, struct outq *queue) {
    enum outq_result result = outq_write(queue, socket->fd);
    if (result != OUTQ_BROKEN) {
        loop_io_change(socket->loop, &socket->io,
                       result == OUTQ_BLOCKED ? LOOP_READ | LOOP_WRITE : LOOP_READ);
    }
    return result;
}
