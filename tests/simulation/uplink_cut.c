#include "uplink_cut.h"

#include "played.h"
#include "real.h"
#include "sock.h"
#include "wire.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READ_BYTES = 65536, HELD_BYTES_MAX = 3 << 20 };

void uplink_cut_init(struct uplink_cut *cut, int listen_fd) {
    *cut = (struct uplink_cut){.listen_fd = listen_fd, .handler_fd = -1, .broker_fd = -1};
}

static void disconnect(struct uplink_cut *cut) {
    if (cut->handler_fd >= 0) {
        close(cut->handler_fd);
        close(cut->broker_fd);
        cut->handler_fd = cut->broker_fd = -1;
        buf_release(&cut->up);
        buf_release(&cut->down);
        cut->down_rest = 0;
    }
}

void uplink_cut_release(struct uplink_cut *cut) {
    disconnect(cut);
    close(cut->listen_fd);
}

static void connect_both(struct uplink_cut *cut, struct broker *broker) {
    int ends[2];
    int fd = sock_accept(cut->listen_fd);
    if (fd < 0) {
        return;
    }
    if (broker == NULL) {
        close(fd);
        return;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) != 0) {
        die(3, "socketpair: %s", strerror(errno));
    }
    if (one_in(2)) {
        int room = 1 + (int)draw(20000); /* so that the broker has to queue */
        (void)setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    }
    real_broker_adopt(broker, ends[0]);
    cut->handler_fd = fd;
    cut->broker_fd = ends[1];
}

/* False: that side has gone. */
static bool read_into(struct buf *buf, int fd) {
    while (buf->length < HELD_BYTES_MAX) {
        ssize_t got = recv(fd, buf_reserve(buf, READ_BYTES), READ_BYTES, MSG_DONTWAIT);
        if (got < 0 && errno == EAGAIN) {
            return true;
        }
        if (got <= 0) {
            return false;
        }
        buf->length += (size_t)got;
    }
    return true;
}

/* As many bytes as the next frame has; 0: it is not whole. */
static size_t frame_bytes(const struct buf *buf, size_t at) {
    const unsigned char *length = (const unsigned char *)buf->bytes + at;
    if (buf->length - at < WIRE_HEADER_BYTES) {
        return 0;
    }
    size_t bytes = WIRE_HEADER_BYTES + ((size_t)length[0] | (size_t)length[1] << 8 |
                                        (size_t)length[2] << 16 | (size_t)length[3] << 24);
    return bytes <= buf->length - at ? bytes : 0;
}

static size_t frames_in(const struct uplink_cut *cut) {
    size_t count = 0;
    size_t at = cut->down_rest;
    size_t bytes;
    while (at <= cut->down.length && (bytes = frame_bytes(&cut->down, at)) > 0) {
        at += bytes;
        count++;
    }
    return count;
}

/* Of a frame that does not come whole. */
static void send_part(int fd, const struct buf *buf, size_t at) {
    if (at < buf->length) {
        size_t bytes = draw((uint32_t)(buf->length - at < 4000 ? buf->length - at : 4000));
        (void)!send(fd, buf->bytes + at, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
}

/* False: the socket has taken less. */
static bool send_down(struct uplink_cut *cut, size_t bytes) {
    ssize_t sent = send(cut->handler_fd, cut->down.bytes, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
    size_t done = sent > 0 ? (size_t)sent : 0;
    buf_consume(&cut->down, done);
    cut->down_rest = done > 0 || cut->down_rest > 0 ? bytes - done : 0;
    return done == bytes;
}

static void hand_down(struct uplink_cut *cut, size_t most_frames) {
    size_t bytes = cut->down_rest < cut->down.length ? cut->down_rest : cut->down.length;
    if (cut->down_rest > 0 && (bytes < cut->down_rest || !send_down(cut, bytes))) {
        return;
    }
    while (most_frames-- > 0 && (bytes = frame_bytes(&cut->down, 0)) > 0 && send_down(cut, bytes)) {
    }
}

static bool hand_up(struct uplink_cut *cut) {
    bool is_there = read_into(&cut->up, cut->handler_fd);
    if (cut->up.length > 0) {
        ssize_t sent = send(cut->broker_fd, cut->up.bytes, cut->up.length, MSG_NOSIGNAL);
        is_there = is_there && (sent > 0 || errno == EAGAIN);
        buf_consume(&cut->up, sent > 0 ? (size_t)sent : 0);
    }
    return is_there;
}

void uplink_cut_pump(struct uplink_cut *cut, struct broker *broker) {
    if (cut->handler_fd < 0) {
        connect_both(cut, broker);
    }
    if (cut->handler_fd < 0) {
        return;
    }
    if (!hand_up(cut)) {
        trace("a handler leaves its broker");
        disconnect(cut);
    } else if (!cut->is_held) {
        bool is_there = read_into(&cut->down, cut->broker_fd);
        hand_down(cut, cut->is_slow && is_there ? 1 + draw(2) : SIZE_MAX);
        if (!is_there) {
            trace("a broker leaves a handler");
            disconnect(cut);
        }
    }
}

void uplink_cut_finish(struct uplink_cut *cut) {
    if (cut->handler_fd >= 0) {
        (void)read_into(&cut->down, cut->broker_fd);
        hand_down(cut, SIZE_MAX);
        disconnect(cut);
    }
}

void uplink_cut_end(struct uplink_cut *cut) {
    if (cut->handler_fd >= 0) {
        (void)read_into(&cut->down, cut->broker_fd);
        size_t frames = frames_in(cut);
        size_t kept = draw((uint32_t)frames + 1);
        bool is_torn = one_in(2);
        trace("an uplink ends behind %zu of %zu frames%s", kept, frames,
              is_torn ? ", in the middle of the next" : "");
        hand_down(cut, kept);
        if (is_torn && cut->down_rest == 0) {
            send_part(cut->handler_fd, &cut->down, 0);
        }
        if (is_torn && read_into(&cut->up, cut->handler_fd)) {
            send_part(cut->broker_fd, &cut->up, 0);
        }
        disconnect(cut);
    }
}
