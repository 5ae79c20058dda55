#include "client.h"

#include "admission.h"
#include "answer.h"
#include "log.h"
#include "reply.h"
#include "stream.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static void on_flush(struct loop_task *task);
static void on_pulse(struct loop_timer *timer);
static void end_of_age(struct client *client);

static int64_t now_ms(const struct client *client) {
    return loop_now_ms(client->stream->loop);
}

void client_ask(struct client *client) {
    if (client->inquiry == NULL || !uplink_is_up(&client->stream->uplink)) {
        return;
    }
    if (client->state == CLIENT_ASKING) {
        inquiry_draw_token(client->inquiry);
        answer_ask(client);
    } else {
        admission_ask(client);
    }
}

/* --- ends ------------------------------------------------------------------------------------- */

static void on_reap(struct loop_task *task) {
    struct client *client = container_of(task, struct client, reap);
    close(client->fd);
    outlet_release(&client->outlet);
    overflow_destroy(&client->overflow);
    free(client->user);
    free(client);
}

void client_close(struct client *client, const char *reason) {
    if (client->state == CLIENT_CLOSED) {
        return;
    }
    struct stream *stream = client->stream;
    log_debug("client %d: closed: %s", client->fd, reason);
    admission_end(client);
    client->state = CLIENT_CLOSED;
    if (client->audience != NULL) {
        fanout_detach(&client->audience);
    }
    LIST_REMOVE(client, link);
    stream->client_count--;
    loop_io_stop(stream->loop, &client->io);
    loop_timer_stop(stream->loop, &client->timer);
    loop_flush_cancel(stream->loop, &client->flush);
    loop_reap_soon(stream->loop, &client->reap, on_reap);
    stream_on_client_closed(stream);
}

/* What is queued is all that there will ever be; what waits in the feed is dropped. */
static void client_finish_as(struct client *client, enum client_state state) {
    admission_end(client);
    client->state = state;
    client->ends_ms = INT64_MAX;
    client->written_ms = now_ms(client);
    outlet_end(&client->outlet);
    loop_timer_start(client->stream->loop, &client->timer, client->stream->config->stall_timeout,
                     on_pulse);
    loop_flush_soon(client->stream->loop, &client->flush, on_flush);
}

void client_finish(struct client *client) {
    client_finish_as(client, CLIENT_ENDING);
}

void client_refuse(struct client *client, unsigned status, const char *text, const char *allow) {
    struct buf *out = &client->outlet.own;
    if (client->is_third_door) {
        reply_error(out, status, text, allow, client->without_body);
    } else {
        reply_text(out, status, text, allow, client->without_body);
    }
    client_finish(client);
}

/* --- too slow ------------------------------------------------------------------------------------
 *
 * The client is told in-band, or resumes from what it has: in both cases nothing is lost silently.
 */

/* Once for each client: one that was ended for it may still stall. */
static void count_drop(const struct client *client, const char *reason) {
    static struct log_limit limit;
    struct fan_loss loss = {.reason = SSE_REFRESH_OVERFLOW};
    log_limited(&limit, LOG_LEVEL_INFO, "a client is too slow: %s", reason);
    if (client->audience != NULL && client->state != CLIENT_ENDING) {
        audience_count_dropped_client(client->audience);
    }
    if (client->state == CLIENT_LIVE) {
        audience_count_dropped(client->audience, &client->outlet, &loss);
    }
}

static void on_overflow(struct client *client) {
    switch ((enum config_slow_client)client->stream->config->slow_client) {
    case CONFIG_SLOW_REFRESH:
        if (client->audience->form == WIRE_FORM_CONNECTIONS) {
            admission_renew(client); /* it can get all of it from the table */
        } else {
            overflow_skip(&client->overflow, &client->outlet, client->audience);
        }
        return;
    case CONFIG_SLOW_DISCONNECT:
        count_drop(client, "more than client_queue_bytes wait for it");
        client_finish(client);
        return;
    }
}

/* Nothing gets through to it: it would stay attached and deaf. */
static void on_stall(struct client *client) {
    static const char reason[] = "it took nothing for stall_timeout";
    count_drop(client, reason);
    client_close(client, reason);
}

/* --- output ----------------------------------------------------------------------------------- */

static void become_blocked(struct client *client) {
    struct loop *loop = client->stream->loop;
    int64_t stall_ms = client->stream->config->stall_timeout;
    client->is_blocked = true;
    client->written_ms = now_ms(client); /* its patience begins now */
    loop_io_change(loop, &client->io, LOOP_READ | LOOP_WRITE);
    if (client->timer.due_ms > now_ms(client) + stall_ms) {
        loop_timer_start(loop, &client->timer, stall_ms, on_pulse);
    }
}

static void on_drained(struct client *client) {
    overflow_destroy(&client->overflow);
    if (client->state == CLIENT_RESUBSCRIBING && client->inquiry->token == 0) {
        client_ask(client);
    } else {
        admission_renew_credit(client);
    }
}

static void client_write(struct client *client) {
    uint64_t before = client->outlet.written_bytes;
    enum outlet_result result = outlet_write(&client->outlet, client->fd);
    if (client->outlet.written_bytes != before) {
        client->written_ms = now_ms(client);
    }
    switch (result) {
    case OUTLET_DRAINED:
        loop_io_change(client->stream->loop, &client->io, LOOP_READ);
        on_drained(client);
        return;
    case OUTLET_BLOCKED:
        become_blocked(client);
        return;
    case OUTLET_DONE:
        client_close(client, "it is complete");
        return;
    case OUTLET_BROKEN:
        client_close(client, strerror(errno));
        return;
    }
}

void client_flush(struct client *client) {
    if (client->state == CLIENT_CLOSED) {
        return;
    }
    if (!client->is_blocked && !outlet_is_empty(&client->outlet)) {
        client_write(client);
    }
    if (client->state == CLIENT_GONE) {
        client_close(client, "its client went away");
    }
    int64_t limit_bytes = client->stream->config->client_queue_bytes;
    if (client->state == CLIENT_LIVE && client->is_blocked &&
        overflow_is_due(&client->outlet, (uint64_t)limit_bytes)) {
        on_overflow(client);
    }
}

static void on_flush(struct loop_task *task) {
    client_flush(container_of(task, struct client, flush));
}

void client_flush_soon(struct client *client) {
    loop_flush_soon(client->stream->loop, &client->flush, on_flush);
}

/* --- time ------------------------------------------------------------------------------------- */

/* At most keep_alive, and up to a fifth less, so that those who got the same event at the same time
 * do not get their heartbeats at the same time, too. */
static int64_t heartbeat_ms(const struct client *client) {
    int64_t keep_alive_ms = client->stream->config->keep_alive;
    return keep_alive_ms - random_below((uint32_t)(keep_alive_ms / 5) + 1);
}

static void pulse_again(struct client *client, int64_t delay_ms) {
    int64_t left_ms = client->ends_ms - now_ms(client);
    delay_ms = delay_ms < left_ms ? delay_ms : left_ms;
    loop_timer_start(client->stream->loop, &client->timer, delay_ms > 0 ? delay_ms : 0, on_pulse);
}

void client_start_pulse(struct client *client) {
    client->written_ms = now_ms(client);
    pulse_again(client, heartbeat_ms(client));
    client_flush_soon(client);
}

static void append_heartbeat(struct client *client) {
    sse_comment(&client->outlet.own, "heartbeat");
    admission_append_id(client);
    buf_append_text(&client->outlet.own, "\n");
    client_flush_soon(client);
}

/* Not into a block that waits for its end; nor where something is on its way in this very turn: the
 * position of a live client stands behind it. */
static bool is_quiet(const struct client *client) {
    return client->inquiry == NULL ? outlet_is_empty(&client->outlet)
                                   : !client->inquiry->is_block_open;
}

/* A stream's clock: it is old, or something waits and does not get away, or nothing was said for
 * long. */
static void on_pulse(struct loop_timer *timer) {
    struct client *client = container_of(timer, struct client, timer);
    const struct config *config = client->stream->config;
    int64_t silence_ms = now_ms(client) - client->written_ms;
    if (now_ms(client) >= client->ends_ms) {
        end_of_age(client);
        return;
    }
    if (client->is_blocked && silence_ms >= config->stall_timeout) {
        on_stall(client);
        return;
    }
    if (client->is_blocked) {
        pulse_again(client, config->stall_timeout - silence_ms);
        return;
    }
    if (silence_ms >= config->keep_alive * 4 / 5) {
        if (is_quiet(client)) {
            append_heartbeat(client);
        }
        silence_ms = 0;
    }
    pulse_again(client, heartbeat_ms(client) - silence_ms);
}

/* --- ends on purpose -------------------------------------------------------------------------- */

/* A block that is still open would swallow the close. */
static void append_goodbye(struct client *client, int64_t retry_ms, const char *why,
                           bool has_sent_ids) {
    if (client->inquiry != NULL && client->inquiry->is_block_open) {
        buf_append_text(&client->outlet.own, "\n");
    }
    sse_retry(&client->outlet.own, retry_ms);
    sse_comment(&client->outlet.own, why);
    if (!has_sent_ids) {
        admission_append_id(client);
    }
    sse_close(&client->outlet.own);
}

/* refusal: what is answered where no stream has begun, nor can. */
static void end_in_order(struct client *client, int64_t retry_ms, const char *why,
                         const char *refusal) {
    switch (client->state) {
    case CLIENT_SUBSCRIBING:
        if (!client->accepts_events) {
            client_refuse(client, REPLY_UNAVAILABLE, refusal, NULL);
            return;
        }
        reply_stream_headers(&client->outlet.own, NULL);
        append_goodbye(client, retry_ms, why, false);
        client_finish(client);
        return;
    case CLIENT_WAITING:
        append_goodbye(client, retry_ms, why, false);
        client_finish(client);
        return;
    case CLIENT_LIVE:
        /* What was begun goes before the goodbye, the rest is dropped: it can be resumed. */
        admission_end(client);
        client->state = CLIENT_ENDING;
        append_goodbye(client, retry_ms, why, true);
        client_finish(client);
        return;
    case CLIENT_GREETED:
    case CLIENT_RESUBSCRIBING:
    case CLIENT_QUIET:
        append_goodbye(client, retry_ms, why, true);
        client_finish(client);
        return;
    case CLIENT_ASKING:
        client_refuse(client, REPLY_UNAVAILABLE, refusal, NULL);
        return;
    case CLIENT_ENDING:
    case CLIENT_GONE:
    case CLIENT_CLOSED:
        return;
    }
}

static const char draining[] = "server draining";

void client_end(struct client *client, int64_t retry_ms) {
    end_in_order(client, retry_ms, "server shutting down", draining);
}

void client_give_up(struct client *client, const char *why) {
    end_in_order(client, jittered(client->stream->config->retry), why, why);
}

/* Nothing is wrong here, so the client need not wait as long as it would for a server that is away;
 * the first block of its next stream sets the usual retry again. */
static void end_of_age(struct client *client) {
    end_in_order(client, jittered(client->stream->config->retry / 10), "max_stream_age reached",
                 draining);
}

/* --- the beginning ---------------------------------------------------------------------------- */

/* What can be read are left-overs of the request, and then the web server's going. */
static void drain_leftovers(struct client *client) {
    char leftovers[512];
    for (;;) {
        ssize_t got = recv(client->fd, leftovers, sizeof leftovers, MSG_DONTWAIT);
        if (got == 0) {
            client_finish_as(client, CLIENT_GONE);
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
    bool is_open = client->state != CLIENT_CLOSED && client->state != CLIENT_GONE;
    if (is_open && (ready & LOOP_WRITE) != 0) {
        client->is_blocked = false;
        client_flush_soon(client);
        if (client->state == CLIENT_LIVE) {
            audience_trim_soon(client->audience);
        }
    }
}

/* Not all at once that were opened at once. */
static int64_t draw_age_ms(const struct config *config) {
    return config->max_stream_age - random_below((uint32_t)(config->max_stream_age / 10) + 1);
}

void client_start_age(struct client *client) {
    const struct config *config = client->stream->config;
    if (config->max_stream_age > 0) {
        client->ends_ms = now_ms(client) + draw_age_ms(config);
    }
}

void client_create(struct stream *stream, int fd, uint16_t request_id,
                   const struct request *request) {
    struct client *client = must_zalloc(sizeof *client);
    client->stream = stream;
    client->fd = fd;
    client->io = LOOP_IO_INIT;
    client->written_ms = loop_now_ms(stream->loop);
    client->ends_ms = INT64_MAX;
    client->state = CLIENT_SUBSCRIBING;
    client->without_body = request->method == METHOD_HEAD;
    client->accepts_events = request->accepts_events;
    client->is_third_door = request->is_third_door;
    outlet_init(&client->outlet, request_id);
    LIST_INSERT_HEAD(&stream->clients, client, link);
    stream->client_count++;
    loop_io_start(stream->loop, &client->io, fd, LOOP_READ, on_ready);
    answer_request(client, request);
    if (stream->is_draining) {
        client_end(client, jittered(stream->config->retry));
    }
}
