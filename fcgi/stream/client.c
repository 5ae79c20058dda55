#include "client.h"

#include "log.h"
#include "reply.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static void on_flush(struct loop_task *task);
static void on_timer(struct loop_timer *timer);

int64_t client_now_ms(const struct client *client) {
    return loop_now_ms(client->clients->loop);
}

/* --- ends ------------------------------------------------------------------------------------- */

static void on_reap(struct loop_task *task) {
    struct client *client = container_of(task, struct client, reap);
    struct clients *clients = client->clients;
    client->role->leave(client);
    LIST_REMOVE(client, link);
    close(client->fd);
    output_release(&client->seat.output);
    client->role->release(client);
    free(client);
    clients->on_closed(clients->owner);
}

/* The one place where the state changes. CLOSED is final. A closed client leaves its audience when
 * it is reaped, since the audience may be walking over its clients now. */
static void become(struct client *client, enum client_state state) {
    struct loop *loop = client->clients->loop;
    if (client->state == CLIENT_CLOSED) {
        return;
    }
    client->state = state;
    switch (state) {
    case CLIENT_OPEN:
        return;
    case CLIENT_ENDING:
    case CLIENT_GONE:
        client->role->leave(client);
        client->written_ms = client_now_ms(client);
        output_end(&client->seat.output);
        client_start_timer(client, client->clients->config->stall_timeout);
        client_flush_soon(client);
        return;
    case CLIENT_CLOSED:
        client->clients->count--; /* its place is free for a client that comes in this turn */
        loop_io_stop(loop, &client->io);
        loop_timer_stop(loop, &client->timer);
        loop_flush_cancel(loop, &client->flush);
        loop_reap_soon(loop, &client->reap, on_reap);
        return;
    }
}

void client_close(struct client *client, const char *reason) {
    log_debug("client %d: closed: %s", client->fd, reason);
    become(client, CLIENT_CLOSED);
}

void client_finish(struct client *client) {
    become(client, CLIENT_ENDING);
}

void client_refuse(struct client *client, unsigned status, const char *text, const char *allow) {
    reply_refusal(client_own(client), client->is_refused_in_json, status, text, allow,
                  client->without_body);
    client_finish(client);
}

void client_end(struct client *client, int64_t retry_ms) {
    if (client_is_open(client)) {
        client->role->end(client, retry_ms, "server shutting down", "server draining");
    }
}

void client_note_slow(const char *reason) {
    static struct log_limit limit;
    log_limited(&limit, LOG_LEVEL_INFO, "a client is too slow: %s", reason);
}

void client_stall(struct client *client) {
    static const char reason[] = "it took nothing for stall_timeout";
    client_note_slow(reason);
    client_close(client, reason);
}

/* --- output ----------------------------------------------------------------------------------- */

struct buf *client_own(struct client *client) {
    return output_own(&client->seat.output);
}

static void become_blocked(struct client *client) {
    int64_t stall_ms = client->clients->config->stall_timeout;
    client->is_blocked = true;
    client->written_ms = client_now_ms(client); /* the time to a stall begins now */
    if (client->timer.due_ms > client_now_ms(client) + stall_ms) {
        client_start_timer(client, stall_ms);
    }
}

static void client_write(struct client *client) {
    struct output *output = &client->seat.output;
    enum output_result result = output_write(output, client->fd);
    if (output->has_written) {
        client->written_ms = client_now_ms(client);
    }
    switch (result) {
    case OUTPUT_DRAINED:
        client->role->on_drained(client);
        return;
    case OUTPUT_BLOCKED:
        become_blocked(client);
        return;
    case OUTPUT_DONE:
        client_close(client, "it is complete");
        return;
    case OUTPUT_BROKEN:
        client_close(client, strerror(errno));
        return;
    }
}

/* It matters whether the socket is writable only while the client is blocked. */
static void watch_socket(struct client *client) {
    if (client->state != CLIENT_CLOSED) {
        loop_io_change(client->clients->loop, &client->io,
                       client->is_blocked ? LOOP_READ | LOOP_WRITE : LOOP_READ);
    }
}

void client_flush(struct client *client) {
    if (client->state == CLIENT_CLOSED) {
        return;
    }
    if (!client->is_blocked && !output_is_empty(&client->seat.output)) {
        client_write(client);
    }
    if (client->state == CLIENT_GONE) {
        client_close(client, "its client went away");
    }
    watch_socket(client);
}

static void on_flush(struct loop_task *task) {
    struct client *client = container_of(task, struct client, flush);
    client_flush(client);
    if (client_is_open(client) && client->is_blocked) {
        client->role->on_blocked(client);
    }
}

void client_flush_soon(struct client *client) {
    loop_flush_soon(client->clients->loop, &client->flush, on_flush);
}

/* --- time ------------------------------------------------------------------------------------- */

void client_start_timer(struct client *client, int64_t delay_ms) {
    loop_timer_start(client->clients->loop, &client->timer, delay_ms, on_timer);
}

int64_t client_patience_ms(const struct client *client) {
    int64_t silence_ms = client_now_ms(client) - client->written_ms;
    int64_t left_ms = client->clients->config->stall_timeout - silence_ms;
    return left_ms > 0 ? left_ms : 0;
}

static void on_timer(struct loop_timer *timer) {
    struct client *client = container_of(timer, struct client, timer);
    if (client_is_open(client)) {
        client->role->on_time(client);
    } else if (client->is_blocked && client_patience_ms(client) == 0) {
        client_stall(client);
    } else {
        client_start_timer(client, client_patience_ms(client));
    }
}

/* --- the beginning ---------------------------------------------------------------------------- */

/* What can be read is left over from the request. At its end the web server has gone. */
static void drain_leftovers(struct client *client) {
    char leftovers[512];
    for (;;) {
        ssize_t got = recv(client->fd, leftovers, sizeof leftovers, MSG_DONTWAIT);
        if (got == 0) {
            become(client, CLIENT_GONE);
            return;
        }
        if (got < 0 && errno != EAGAIN && errno != EINTR) {
            client_close(client, strerror(errno));
            return;
        }
        if (got < (ssize_t)sizeof leftovers) {
            return;
        }
    }
}

static void on_ready(struct loop_io *io, unsigned ready) {
    struct client *client = container_of(io, struct client, io);
    if ((ready & (LOOP_READ | LOOP_CLOSED)) != 0) {
        drain_leftovers(client);
    }
    bool is_here = client->state != CLIENT_CLOSED && client->state != CLIENT_GONE;
    if (is_here && (ready & LOOP_WRITE) != 0) {
        client->is_blocked = false;
        client_flush_soon(client);
        if (client_is_open(client)) {
            client->role->on_writable(client);
        }
    }
}

void client_init(struct client *client, struct clients *clients, const struct client_role *role,
                 int fd, uint16_t request_id, const struct request *request) {
    client->clients = clients;
    client->role = role;
    client->fd = fd;
    client->io = LOOP_IO_INIT;
    client->written_ms = loop_now_ms(clients->loop);
    client->without_body = request->method == METHOD_HEAD;
    client->is_refused_in_json = request->route.api != API_TOPICS;
    output_init(&client->seat.output, request_id);
    LIST_INSERT_HEAD(&clients->list, client, link);
    clients->count++;
    become(client, CLIENT_OPEN);
    loop_io_start(clients->loop, &client->io, fd, LOOP_READ, on_ready);
}
