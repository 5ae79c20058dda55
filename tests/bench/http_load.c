#include "http_load.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "clock.h"
#include "fault.h"

#define ANSWER_BYTES  8192
#define READY_AT_ONCE 64
#define GRACE_MS      2000

enum client_state { CLIENT_IDLE, CLIENT_CONNECTING, CLIENT_WAITING };

struct client {
    int fd; /* -1: not connected */
    enum client_state state;
    size_t answer_bytes;
    char answer[ANSWER_BYTES + 1]; /* always ends in a NUL */
};

struct run {
    struct http_load *load;        /* borrowed */
    const struct address *address; /* borrowed */
    const char *request;           /* borrowed */
    size_t request_bytes;
    int expected_status;
    int epoll_fd;
    unsigned waiting;
    bool is_over;
};

static void client_watch(struct run *run, struct client *client, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = client};

    if (epoll_ctl(run->epoll_fd, operation, client->fd, &event) != 0) {
        fault_die("epoll: %s", strerror(errno));
    }
}

static void client_close(struct run *run, struct client *client) {
    if (client->state == CLIENT_WAITING) {
        run->waiting--;
    }
    if (client->fd >= 0) {
        close(client->fd);
    }
    client->fd = -1;
    client->state = CLIENT_IDLE;
}

static void client_connect(struct run *run, struct client *client) {
    client->fd = address_connect(run->address);
    if (client->fd < 0) {
        fault_die("cannot connect: %s", strerror(errno));
    }
    client->state = CLIENT_CONNECTING;
    client_watch(run, client, EPOLL_CTL_ADD, EPOLLOUT);
}

static void client_fail(struct run *run, struct client *client) {
    run->load->errors++;
    client_close(run, client);
    if (!run->is_over) {
        client_connect(run, client);
    }
}

static void client_send(struct run *run, struct client *client) {
    ssize_t sent = send(client->fd, run->request, run->request_bytes, MSG_NOSIGNAL);

    if (sent != (ssize_t)run->request_bytes) {
        client_fail(run, client);
        return;
    }
    client->answer_bytes = 0;
    client->answer[0] = '\0';
    client->state = CLIENT_WAITING;
    run->waiting++;
}

/* Where the body begins, or NULL while the head is not complete. */
static const char *answer_body(const struct client *client) {
    const char *end = memmem(client->answer, client->answer_bytes, "\r\n\r\n", 4);

    return end != NULL ? end + 4 : NULL;
}

/* The value of a header (name with CRLF before and colon behind), or NULL. */
static const char *answer_header(const struct client *client, const char *body, const char *name) {
    const char *found = strcasestr(client->answer, name);

    return found != NULL && found < body ? found + strlen(name) : NULL;
}

static bool answer_is_complete(const struct client *client, const char *body) {
    size_t body_bytes = client->answer_bytes - (size_t)(body - client->answer);
    const char *length = answer_header(client, body, "\r\nContent-Length:");

    if (length != NULL) {
        return body_bytes >= (size_t)strtoul(length, NULL, 10);
    }
    return body_bytes >= 5 && memcmp(body + body_bytes - 5, "0\r\n\r\n", 5) == 0;
}

static void client_take_answer(struct run *run, struct client *client, const char *body) {
    int status = (int)strtol(client->answer + sizeof("HTTP/1.1 ") - 1, NULL, 10);
    bool must_close = answer_header(client, body, "\r\nConnection: close") != NULL;

    client->state = CLIENT_IDLE;
    run->waiting--;
    if (status != run->expected_status) {
        run->load->errors++;
        run->load->bad_status = status;
    } else if (!run->is_over) {
        run->load->answered++;
    }
    if (must_close) {
        run->load->reconnects++;
        client_close(run, client);
    }
    if (run->is_over) {
        return;
    }
    if (must_close) {
        client_connect(run, client);
    } else {
        client_send(run, client);
    }
}

static void client_read(struct run *run, struct client *client) {
    ssize_t got = recv(client->fd, client->answer + client->answer_bytes,
                       ANSWER_BYTES - client->answer_bytes, 0);
    const char *body;

    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (got <= 0 || client->state != CLIENT_WAITING) {
        client_fail(run, client);
        return;
    }
    client->answer_bytes += (size_t)got;
    client->answer[client->answer_bytes] = '\0';
    body = answer_body(client);
    if (body != NULL && answer_is_complete(client, body)) {
        client_take_answer(run, client, body);
    }
}

static void run_turn(struct run *run, int timeout_ms) {
    struct epoll_event ready[READY_AT_ONCE];
    int count = epoll_wait(run->epoll_fd, ready, READY_AT_ONCE, timeout_ms);

    for (int i = 0; i < count; i++) {
        struct client *client = ready[i].data.ptr;

        if (client->state != CLIENT_CONNECTING) {
            client_read(run, client);
            continue;
        }
        client_watch(run, client, EPOLL_CTL_MOD, EPOLLIN);
        client_send(run, client);
    }
}

static void run_until(struct run *run, int64_t deadline_ns) {
    while ((!run->is_over || run->waiting > 0) && clock_now_ns() < deadline_ns) {
        run_turn(run, 10);
    }
}

void http_load_run(struct http_load *load, const struct address *address, const char *request,
                   int expected_status, unsigned clients, int64_t duration_ms) {
    struct client *pool = fault_calloc(clients, sizeof(*pool));
    struct run run = {.load = load,
                      .address = address,
                      .request = request,
                      .request_bytes = strlen(request),
                      .expected_status = expected_status,
                      .epoll_fd = epoll_create1(EPOLL_CLOEXEC)};
    int64_t since_ns = clock_now_ns();

    if (run.epoll_fd < 0) {
        fault_die("epoll: %s", strerror(errno));
    }
    *load = (struct http_load){0};
    for (unsigned i = 0; i < clients; i++) {
        client_connect(&run, &pool[i]);
    }
    run_until(&run, since_ns + duration_ms * CLOCK_NS_PER_MS);
    load->per_second = (double)load->answered / clock_seconds(since_ns, clock_now_ns());

    run.is_over = true;
    run_until(&run, clock_now_ns() + GRACE_MS * CLOCK_NS_PER_MS);
    load->errors += run.waiting;
    for (unsigned i = 0; i < clients; i++) {
        client_close(&run, &pool[i]);
    }
    close(run.epoll_fd);
    free(pool);
}
