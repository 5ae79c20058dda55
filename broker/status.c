#include "status.h"

#include "http.h"
#include "listing.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { STATUS_REQUEST_BYTES_MAX = 8192, STATUS_DEADLINE_MS = 5000 };

enum status_state {
    STATUS_LISTENING, /* nothing received yet */
    STATUS_READING,   /* a request, up to its blank line */
    STATUS_ASKING,    /* for the health document */
    STATUS_WRITING,
    STATUS_CLOSED, /* freed at the end of this turn */
};

struct status_connection {
    struct status *status; /* borrowed */
    TAILQ_ENTRY(status_connection) link;
    enum status_state state;
    bool is_http;
    bool wants_head;
    int fd;
    struct loop_io io;
    struct loop_timer timer; /* LISTENING: the silence; else the deadline for the rest */
    struct loop_task reap;
    struct buf input;
    struct outq output;
    struct health_request request;
};

/* --- end ----------------------------------------------------------------------------------- */

static void on_reap(struct loop_task *task) {
    struct status_connection *connection = container_of(task, struct status_connection, reap);
    close(connection->fd);
    buf_release(&connection->input);
    outq_release(&connection->output);
    free(connection);
}

static void connection_close(struct status_connection *connection) {
    if (connection->state == STATUS_CLOSED) {
        return;
    }
    struct status *status = connection->status;
    struct loop *loop = status->loop;
    connection->state = STATUS_CLOSED;
    health_cancel(status->health, &connection->request);
    TAILQ_REMOVE(&status->connections, connection, link);
    status->connection_count--;
    loop_io_stop(loop, &connection->io);
    loop_timer_stop(loop, &connection->timer);
    loop_reap_soon(loop, &connection->reap, on_reap);
}

static void on_deadline(struct loop_timer *timer) {
    connection_close(container_of(timer, struct status_connection, timer));
}

/* --- answers ------------------------------------------------------------------------------- */

static void on_ready(struct loop_io *io, unsigned ready);

static void connection_write(struct status_connection *connection) {
    struct loop *loop = connection->status->loop;
    switch (outq_write(&connection->output, connection->fd)) {
    case OUTQ_EMPTY:
    case OUTQ_BROKEN:
        connection_close(connection);
        return;
    case OUTQ_BLOCKED:
        loop_io_stop(loop, &connection->io);
        loop_io_start(loop, &connection->io, connection->fd, LOOP_WRITE, on_ready);
        return;
    }
}

static void answer(struct status_connection *connection, unsigned status, const char *type,
                   struct slice body) {
    struct buf text = {0};
    if (connection->is_http) {
        buf_printf(&text,
                   "HTTP/1.1 %u %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
                   "Cache-Control: no-store\r\n%sConnection: close\r\n\r\n",
                   status, http_phrase(status), type, body.length,
                   status == HTTP_METHOD_NOT_ALLOWED ? "Allow: GET, HEAD\r\n" : "");
    }
    if (!connection->wants_head) {
        buf_append_slice(&text, body);
    }
    outq_queue(&connection->output, payload_create(text.bytes, text.length));
    buf_release(&text);
    connection->state = STATUS_WRITING;
    connection_write(connection);
}

static void answer_error(struct status_connection *connection, unsigned status, const char *text) {
    answer(connection, status, "text/plain", slice_of(text));
}

static void on_health(struct health_request *request, uint16_t status, struct slice document) {
    struct status_connection *connection = container_of(request, struct status_connection, request);
    struct buf body = {0};
    buf_append_slice(&body, document);
    buf_append_text(&body, "\n");
    answer(connection, status, "application/json", buf_slice(&body));
    buf_release(&body);
}

static void ask_health(struct status_connection *connection, uint32_t limit) {
    struct status *status = connection->status;
    struct health_question question = {WIRE_FULL_HEALTH, DOCUMENT_LOCAL, limit,
                                       LISTING_ALL_TENANTS};
    connection->state = STATUS_ASKING;
    loop_timer_start(status->loop, &connection->timer, STATUS_DEADLINE_MS, on_deadline);
    health_ask(status->health, &connection->request, &question, on_health);
}

static void on_silence(struct loop_timer *timer) {
    ask_health(container_of(timer, struct status_connection, timer), WIRE_HEALTH_LIMIT);
}

/* --- requests ------------------------------------------------------------------------------ */

static bool parse_limit(const char *query, uint32_t *limit) {
    *limit = WIRE_HEALTH_LIMIT;
    return *query == '\0' || (strncmp(query, "?limit=", 7) == 0 &&
                              wire_parse_health_limit(slice_of(query + 7), limit));
}

/* line: "GET /healthz HTTP/1.1"; it is changed in place. */
static void on_request(struct status_connection *connection, char *line) {
    const char *method = strsep(&line, " ");
    char *path = strsep(&line, " ");
    uint32_t limit;
    if (path == NULL || line == NULL || strncmp(line, "HTTP/", 5) != 0) {
        answer_error(connection, HTTP_BAD_REQUEST, "not HTTP\n");
        return;
    }
    connection->wants_head = strcmp(method, "HEAD") == 0;
    size_t length = strcspn(path, "?");
    if (length != strlen("/healthz") || memcmp(path, "/healthz", length) != 0) {
        answer_error(connection, HTTP_NOT_FOUND, "only /healthz is here\n");
    } else if (strcmp(method, "GET") != 0 && !connection->wants_head) {
        answer_error(connection, HTTP_METHOD_NOT_ALLOWED, "only GET and HEAD\n");
    } else if (!parse_limit(path + length, &limit)) {
        answer_error(connection, HTTP_BAD_REQUEST, "limit must be a number\n");
    } else {
        ask_health(connection, limit);
    }
}

static void take_input(struct status_connection *connection) {
    struct buf *input = &connection->input;
    connection->is_http = true;
    if (connection->state == STATUS_LISTENING) {
        connection->state = STATUS_READING;
        loop_timer_start(connection->status->loop, &connection->timer, STATUS_DEADLINE_MS,
                         on_deadline);
    }
    if (memchr(input->bytes, '\0', input->length) != NULL) {
        answer_error(connection, HTTP_BAD_REQUEST, "not HTTP\n");
        return;
    }
    buf_append(input, "", 1);
    char *end = strstr(input->bytes, "\n\r\n");
    char *bare_end = strstr(input->bytes, "\n\n");
    if (end != NULL || bare_end != NULL) {
        input->bytes[strcspn(input->bytes, "\r\n")] = '\0';
        on_request(connection, input->bytes);
    } else if (input->length > STATUS_REQUEST_BYTES_MAX) {
        answer_error(connection, HTTP_BAD_REQUEST, "the request is too long\n");
    } else {
        input->length--; /* the NUL */
    }
}

static void on_ready(struct loop_io *io, unsigned ready) {
    struct status_connection *connection = container_of(io, struct status_connection, io);
    if ((ready & LOOP_WRITE) != 0) {
        connection_write(connection);
        return;
    }
    char *room = buf_reserve(&connection->input, STATUS_REQUEST_BYTES_MAX);
    ssize_t got = recv(connection->fd, room, STATUS_REQUEST_BYTES_MAX, MSG_DONTWAIT);
    bool is_reading = connection->state == STATUS_LISTENING || connection->state == STATUS_READING;
    if (got > 0 && is_reading) {
        connection->input.length += (size_t)got;
        take_input(connection);
    } else if (got == 0 && connection->state != STATUS_READING) {
        /* The peer has closed its sending side and waits for the answer, as nc does. Writing the
         * answer will show whether the peer is still there. */
        loop_io_stop(connection->status->loop, io);
    } else if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) {
        connection_close(connection);
    }
}

static void on_connection(void *owner, int fd) {
    struct status *status = owner;
    if (status->connection_count == STATUS_CONNECTIONS_MAX) {
        close(fd);
        return;
    }
    struct loop *loop = status->loop;
    struct status_connection *connection = must_zalloc(sizeof *connection);
    connection->status = status;
    connection->fd = fd;
    connection->io = LOOP_IO_INIT;
    connection->state = STATUS_LISTENING;
    TAILQ_INSERT_TAIL(&status->connections, connection, link);
    status->connection_count++;
    loop_io_start(loop, &connection->io, fd, LOOP_READ, on_ready);
    loop_timer_start(loop, &connection->timer, STATUS_SILENCE_MS, on_silence);
}

bool status_open(struct status *status, struct loop *loop, const struct config *config,
                 struct health *health, char *reason, size_t reason_bytes) {
    *status = (struct status){.loop = loop, .health = health};
    TAILQ_INIT(&status->connections);
    if (!door_open_socket(config, "status.sock", &status->fd, status->path, reason, reason_bytes)) {
        *status = (struct status){0};
        return false;
    }
    acceptor_start(&status->acceptor, loop, status->fd, status, on_connection);
    return true;
}

void status_close(struct status *status) {
    if (status->loop == NULL) {
        return;
    }
    struct status_connection *connection;
    while ((connection = TAILQ_FIRST(&status->connections)) != NULL) {
        connection_close(connection);
    }
    acceptor_stop(&status->acceptor);
    close(status->fd);
    unlink(status->path);
    *status = (struct status){0};
}
