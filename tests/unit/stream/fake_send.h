/* A socket that takes exactly as many bytes as the test says. Replaces sendmsg, in the program that
 * includes this file, for the descriptor FAKE_FD; other descriptors reach the kernel. */
#pragma once

#include "output.h"
#include "support.h"

#include <sys/syscall.h>
#include <sys/uio.h>

enum { FAKE_FD = 1 << 20 };

struct fake_socket {
    size_t allowance; /* how many more bytes it takes */
    size_t max;       /* in one call; 0: any number */
    struct buf out;
};

static struct fake_socket fake;

static unused void fake_begin(size_t allowance) {
    buf_release(&fake.out);
    fake = (struct fake_socket){.allowance = allowance};
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    if (fd != FAKE_FD) {
        return (ssize_t)syscall(SYS_sendmsg, fd, message, flags);
    }
    size_t room = fake.max > 0 && fake.max < fake.allowance ? fake.max : fake.allowance;
    size_t sent = 0;
    if (room == 0) {
        errno = EAGAIN;
        return -1;
    }
    for (size_t i = 0; i < message->msg_iovlen && sent < room; i++) {
        const struct iovec *vector = &message->msg_iov[i];
        size_t length = vector->iov_len < room - sent ? vector->iov_len : room - sent;
        buf_append(&fake.out, vector->iov_base, length);
        sent += length;
    }
    fake.allowance -= sent;
    return (ssize_t)sent;
}

/* All that waits in an output. */
static unused size_t queued_bytes(const struct output *output) {
    const struct feed *feed = output->feed;
    return output->own.length + (feed == NULL ? 0 : feed->head - output->cursor.at);
}
