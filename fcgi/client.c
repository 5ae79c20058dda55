#include "client.h"

#include "log.h"
#include "reply.h"
#include "stream.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    CLIENT_PATIENCE_MS = 200,  /* until headers leave without the broker's answer */
    CLIENT_QUESTION_MS = 2000, /* until a question is answered 503 */
};

static void on_flush(struct loop_task *task);
static void on_pulse(struct loop_timer *timer);

static int64_t now_ms(const struct client *client) {
    return loop_now_ms(client->stream->loop);
}

/* --- asking the broker
 * ---------------------------------------------------------------------------- */

static void ask_subscription(struct client *client) {
    const struct inquiry *inquiry = client->inquiry;
    struct wire_subscribe message = {
        .token = inquiry->token,
        .form = WIRE_FORM_TOPICS,
        .position_kind = inquiry->position_kind,
        .position = inquiry->position,
    };
    audience_topics(client->audience, &message.topics);
    uplink_take(&client->stream->uplink, wire_encode_subscribe(&message));
}

static void ask_question(struct client *client) {
    struct uplink *uplink = &client->stream->uplink;
    struct wire_ask_health health = {client->inquiry->token, client->limit};
    switch (client->question) {
    case CLIENT_ASKS_POSITION:
        uplink_take(uplink, wire_encode_ask_position(client->inquiry->token));
        return;
    case CLIENT_ASKS_HEALTH:
        uplink_take(uplink, wire_encode_ask_health(&health));
        return;
    case CLIENT_ASKS_NOTHING:
        return;
    }
}

void client_ask(struct client *client) {
    if (client->inquiry == NULL || !uplink_is_up(&client->stream->uplink)) {
        return;
    }
    inquiry_draw_token(client->inquiry);
    if (client->state == CLIENT_ASKING) {
        ask_question(client);
    } else {
        ask_subscription(client);
    }
}

static void unsubscribe(struct client *client) {
    if (client->audience == NULL) {
        return;
    }
    if (uplink_is_up(&client->stream->uplink)) {
        struct wire_unsubscribe message = {
            .token = client->inquiry == NULL ? 0 : client->inquiry->token};
        audience_topics(client->audience, &message.topics);
        uplink_take(&client->stream->uplink, wire_encode_unsubscribe(&message));
    }
    fanout_detach(&client->audience);
}

/* --- ends ---------------------------------------------------------------------------------------
 */

static void on_reap(struct loop_task *task) {
    struct client *client = container_of(task, struct client, reap);
    close(client->fd);
    outlet_release(&client->outlet);
    free(client);
}

void client_close(struct client *client, const char *reason) {
    if (client->state == CLIENT_CLOSED) {
        return;
    }
    struct stream *stream = client->stream;
    log_debug("client %d: closed: %s", client->fd, reason);
    if (client->state == CLIENT_LIVE) {
        audience_leave(client->audience, client, OUTLET_KEEP_BEGUN);
    }
    client->state = CLIENT_CLOSED;
    unsubscribe(client);
    inquiry_destroy(&client->inquiry);
    LIST_REMOVE(client, link);
    stream->client_count--;
    loop_io_stop(stream->loop, &client->io);
    loop_timer_stop(stream->loop, &client->timer);
    loop_flush_cancel(stream->loop, &client->flush);
    loop_reap_soon(stream->loop, &client->reap, on_reap);
    stream_on_client_closed(stream);
}

/* Too slow: counted, so that nothing is lost silently. The client resumes from what it has. */
static void client_drop(struct client *client, const char *reason) {
    static struct log_limit limit;
    log_limited(&limit, LOG_LEVEL_INFO, "a client is dropped: %s", reason);
    if (client->state == CLIENT_LIVE) {
        audience_count_dropped(client->audience, client);
    }
    client_close(client, reason);
}

/* What is queued is all that there will ever be. */
static void client_finish_as(struct client *client, enum client_state state) {
    if (client->state == CLIENT_LIVE) {
        audience_leave(client->audience, client, OUTLET_KEEP_BEGUN);
    }
    unsubscribe(client);
    inquiry_destroy(&client->inquiry);
    client->state = state;
    client->written_ms = now_ms(client);
    outlet_end(&client->outlet);
    loop_timer_start(client->stream->loop, &client->timer, client->stream->config->stall_timeout,
                     on_pulse);
    loop_flush_soon(client->stream->loop, &client->flush, on_flush);
}

static void client_finish(struct client *client) {
    client_finish_as(client, CLIENT_ENDING);
}

static void finish_with_text(struct client *client, unsigned status, const char *text,
                             const char *allow) {
    reply_text(&client->outlet.own, status, text, allow, client->without_body);
    client_finish(client);
}

/* --- output -------------------------------------------------------------------------------------
 */

/* An empty queue takes one event of any size; more than the limit may not wait behind it. */
static bool is_overfull(const struct client *client) {
    const struct outlet *outlet = &client->outlet;
    return outlet->feed != NULL && outlet->feed->next - outlet->cursor.frame > 1 &&
           outlet_queued_bytes(outlet) > (uint64_t)client->stream->config->client_queue_bytes;
}

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

static void client_write(struct client *client) {
    uint64_t before = client->outlet.written_bytes;
    enum outlet_result result = outlet_write(&client->outlet, client->fd);
    if (client->outlet.written_bytes != before) {
        client->written_ms = now_ms(client);
    }
    switch (result) {
    case OUTLET_DRAINED:
        loop_io_change(client->stream->loop, &client->io, LOOP_READ);
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
    if (client->state == CLIENT_LIVE && client->is_blocked && is_overfull(client)) {
        client_drop(client, "more than client_queue_bytes wait for it");
    }
}

static void on_flush(struct loop_task *task) {
    client_flush(container_of(task, struct client, flush));
}

static void flush_soon(struct client *client) {
    loop_flush_soon(client->stream->loop, &client->flush, on_flush);
}

/* --- time ---------------------------------------------------------------------------------------
 */

/* At most keep_alive, and up to a fifth less, so that those who got the same event at the same time
 * do not get their heartbeats at the same time, too. */
static int64_t heartbeat_ms(const struct client *client) {
    int64_t keep_alive_ms = client->stream->config->keep_alive;
    return keep_alive_ms - random_below((uint32_t)(keep_alive_ms / 5) + 1);
}

static void pulse_again(struct client *client, int64_t delay_ms) {
    loop_timer_start(client->stream->loop, &client->timer, delay_ms > 0 ? delay_ms : 0, on_pulse);
}

/* Behind all that was sent, so a client that comes back with it has missed nothing. */
static const struct position *position_reached(const struct client *client) {
    if (client->state == CLIENT_LIVE) {
        return &client->stream->position;
    }
    return client->inquiry != NULL && inquiry_has_position(client->inquiry)
               ? &client->inquiry->position
               : NULL;
}

static void append_id(struct client *client, const struct position *position) {
    if (position != NULL) {
        sse_id(&client->outlet.own, position, (struct slice){0});
    }
}

static void append_heartbeat(struct client *client) {
    sse_comment(&client->outlet.own, "heartbeat");
    append_id(client, position_reached(client));
    buf_append_text(&client->outlet.own, "\n");
    flush_soon(client);
}

/* A stream's clock: something waits and does not get away, or nothing was said for long. */
static void on_pulse(struct loop_timer *timer) {
    struct client *client = container_of(timer, struct client, timer);
    const struct config *config = client->stream->config;
    int64_t silence_ms = now_ms(client) - client->written_ms;
    if (client->is_blocked && silence_ms >= config->stall_timeout) {
        client_drop(client, "it took nothing for stall_timeout");
        return;
    }
    if (client->is_blocked) {
        pulse_again(client, config->stall_timeout - silence_ms);
        return;
    }
    bool is_in_block = client->inquiry != NULL && client->inquiry->is_block_open;
    if (silence_ms >= config->keep_alive * 4 / 5) {
        if (!is_in_block) { /* a block that waits for its end is no place for another */
            append_heartbeat(client);
        }
        silence_ms = 0;
    }
    pulse_again(client, heartbeat_ms(client) - silence_ms);
}

/* --- the first block ----------------------------------------------------------------------------
 */

static void append_retry(struct client *client) {
    sse_retry(&client->outlet.own, jittered(client->stream->config->retry));
}

static void on_patience_over(struct loop_timer *timer) {
    struct client *client = container_of(timer, struct client, timer);
    reply_stream_headers(&client->outlet.own, NULL);
    append_retry(client);
    sse_comment(&client->outlet.own, "waiting");
    append_id(client, position_reached(client));
    buf_append_text(&client->outlet.own, "\n");
    client->state = CLIENT_WAITING;
    client->written_ms = now_ms(client);
    pulse_again(client, heartbeat_ms(client));
    flush_soon(client);
}

static void append_refresh(struct client *client, const struct position *position,
                           enum sse_refresh_reason reason, uint64_t dropped) {
    struct wire_topics topics;
    audience_topics(client->audience, &topics);
    append_id(client, position);
    sse_refresh(&client->outlet.own, reason, dropped, topics.names, topics.count);
    client->inquiry->position = *position;
    client->inquiry->position_kind = POSITION_KNOWN;
    client->inquiry->is_block_open = false;
}

static void append_greeting(struct client *client) {
    struct wire_topics topics;
    audience_topics(client->audience, &topics);
    buf_printf(&client->outlet.own, ": listening %.*s\n", (int)topics.names[0].length,
               topics.names[0].at);
}

void client_on_accepted(struct client *client, const struct wire_accepted *message) {
    struct inquiry *inquiry = client->inquiry;
    bool was_waiting = client->state == CLIENT_WAITING;
    if (!was_waiting && client->state != CLIENT_SUBSCRIBING) {
        return; /* RESUBSCRIBING: it was greeted long ago */
    }
    if (!was_waiting) {
        reply_stream_headers(&client->outlet.own, NULL);
        append_retry(client);
    }
    append_greeting(client);
    client->state = CLIENT_GREETED;
    if (message->follows && !inquiry_has_position(inquiry)) {
        inquiry->is_block_open = true; /* the refresh that follows ends it */
    } else if (was_waiting && !message->follows) {
        append_refresh(client, &message->position, SSE_REFRESH_GAP, SSE_DROPPED_UNKNOWN);
    } else {
        if (!message->follows) {
            inquiry->position = message->position;
            inquiry->position_kind = POSITION_KNOWN;
        }
        append_id(client, &inquiry->position);
        buf_append_text(&client->outlet.own, "\n");
    }
    client->written_ms = now_ms(client);
    pulse_again(client, heartbeat_ms(client));
    flush_soon(client);
}

void client_on_refresh(struct client *client, const struct wire_refresh *message) {
    bool is_restart = client->state == CLIENT_RESUBSCRIBING &&
                      inquiry_has_position(client->inquiry) &&
                      message->reason == SSE_REFRESH_UNKNOWN_POSITION;
    if (client->state != CLIENT_GREETED && client->state != CLIENT_RESUBSCRIBING) {
        return;
    }
    append_refresh(client, &message->position, is_restart ? SSE_REFRESH_RESTART : message->reason,
                   message->dropped);
    flush_soon(client);
}

void client_on_subscribed(struct client *client, const struct wire_position *message) {
    if (client->state != CLIENT_GREETED && client->state != CLIENT_RESUBSCRIBING) {
        return;
    }
    if (!position_equals(&client->inquiry->position, &message->position)) {
        append_id(client, &message->position);
        buf_append_text(&client->outlet.own, "\n");
    }
    inquiry_destroy(&client->inquiry);
    audience_join(client->audience, client);
    client->state = CLIENT_LIVE;
    flush_soon(client);
}

void client_on_refused(struct client *client, const struct wire_refused *message) {
    if (client->state == CLIENT_SUBSCRIBING || client->state == CLIENT_ASKING) {
        char *text = must_strdup(message->text.at, message->text.length);
        finish_with_text(client, message->status, text, NULL);
        free(text);
    } else {
        sse_close(&client->outlet.own);
        client_finish(client);
    }
}

/* --- questions ----------------------------------------------------------------------------------
 */

void client_on_position(struct client *client, const struct position *position) {
    char text[POSITION_TEXT_BYTES];
    if (client->question == CLIENT_ASKS_POSITION) {
        (void)position_print(position, text);
        reply_stream_headers(&client->outlet.own, text);
        client_finish(client);
    }
}

static void finish_with_health(struct client *client, unsigned status, struct slice document) {
    struct reply reply = {
        .status = status,
        .type = "application/json",
        .body = document,
        .without_body = client->without_body,
    };
    reply_append(&client->outlet.own, &reply);
    client_finish(client);
}

void client_on_health(struct client *client, const struct wire_health *message) {
    if (client->question == CLIENT_ASKS_HEALTH) {
        finish_with_health(client, message->status, message->document);
    }
}

static void finish_without_broker(struct client *client) {
    static const char document[] = "{\"status\":\"degraded\",\"reason\":\"the broker does not "
                                   "answer\",\"version\":\"" PGSSE_VERSION "\"}";
    if (client->question == CLIENT_ASKS_HEALTH) {
        finish_with_health(client, REPLY_UNAVAILABLE, slice_of(document));
    } else {
        finish_with_text(client, REPLY_UNAVAILABLE, "no position can be had now", NULL);
    }
}

static void on_no_answer(struct loop_timer *timer) {
    finish_without_broker(container_of(timer, struct client, timer));
}

static void begin_question(struct client *client, enum client_question question) {
    client->question = question;
    client->state = CLIENT_ASKING;
    client->inquiry = inquiry_create(client);
    loop_timer_start(client->stream->loop, &client->timer, CLIENT_QUESTION_MS, on_no_answer);
    if (question == CLIENT_ASKS_HEALTH && !uplink_is_up(&client->stream->uplink)) {
        finish_without_broker(client);
        return;
    }
    client_ask(client);
}

/* --- the broker goes ----------------------------------------------------------------------------
 */

void client_on_broker_lost(struct client *client) {
    if (client->inquiry != NULL) {
        inquiry_drop_token(client->inquiry);
    }
    switch (client->state) {
    case CLIENT_LIVE:
        audience_leave(client->audience, client, OUTLET_KEEP_ALL);
        client->state = CLIENT_RESUBSCRIBING;
        client->inquiry = inquiry_create(client);
        client->inquiry->position = client->stream->position;
        client->inquiry->position_kind = POSITION_KNOWN;
        flush_soon(client);
        return;
    case CLIENT_GREETED:
        client->state = CLIENT_RESUBSCRIBING;
        return;
    case CLIENT_ASKING:
        if (client->question == CLIENT_ASKS_HEALTH) {
            finish_without_broker(client);
        }
        return;
    case CLIENT_SUBSCRIBING:
    case CLIENT_WAITING:
    case CLIENT_RESUBSCRIBING:
    case CLIENT_ENDING:
    case CLIENT_GONE:
    case CLIENT_CLOSED:
        return;
    }
}

/* --- the handler stops --------------------------------------------------------------------------
 */

/* A block that is still open would swallow the close. */
static void append_shutdown(struct client *client, int64_t retry_ms, bool has_sent_ids) {
    if (client->inquiry != NULL && client->inquiry->is_block_open) {
        buf_append_text(&client->outlet.own, "\n");
    }
    sse_retry(&client->outlet.own, retry_ms);
    sse_comment(&client->outlet.own, "server shutting down");
    if (!has_sent_ids) {
        append_id(client, position_reached(client));
    }
    sse_close(&client->outlet.own);
}

void client_end(struct client *client, int64_t retry_ms) {
    switch (client->state) {
    case CLIENT_SUBSCRIBING:
        if (!client->accepts_events) {
            finish_with_text(client, REPLY_UNAVAILABLE, "server draining", NULL);
            return;
        }
        reply_stream_headers(&client->outlet.own, NULL);
        append_shutdown(client, retry_ms, false);
        client_finish(client);
        return;
    case CLIENT_WAITING:
        append_shutdown(client, retry_ms, false);
        client_finish(client);
        return;
    case CLIENT_LIVE:
        /* What was begun goes before the goodbye, the rest is dropped: it can be resumed. */
        audience_leave(client->audience, client, OUTLET_KEEP_BEGUN);
        client->state = CLIENT_RESUBSCRIBING;
        append_shutdown(client, retry_ms, true);
        client_finish(client);
        return;
    case CLIENT_GREETED:
    case CLIENT_RESUBSCRIBING:
        append_shutdown(client, retry_ms, true);
        client_finish(client);
        return;
    case CLIENT_ASKING:
        finish_with_text(client, REPLY_UNAVAILABLE, "server draining", NULL);
        return;
    case CLIENT_ENDING:
    case CLIENT_GONE:
    case CLIENT_CLOSED:
        return;
    }
}

/* --- the beginning ------------------------------------------------------------------------------
 */

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
        flush_soon(client);
        if (client->state == CLIENT_LIVE) {
            audience_trim_soon(client->audience);
        }
    }
}

static void begin_stream(struct client *client, const struct request *request) {
    struct stream *stream = client->stream;
    struct wire_topics topics = {.count = 1, .names = {slice_of(request->route.topic)}};
    struct inquiry *inquiry = inquiry_create(client);
    client->inquiry = inquiry;
    inquiry->position_kind = request->position_kind;
    inquiry->position = request->position;
    client->audience = fanout_attach(&stream->fanout, &topics);
    loop_timer_start(stream->loop, &client->timer, CLIENT_PATIENCE_MS, on_patience_over);
    client_ask(client);
}

static void answer_topic(struct client *client, const struct request *request) {
    switch (request->method) {
    case METHOD_GET:
        begin_stream(client, request);
        return;
    case METHOD_HEAD:
        begin_question(client, CLIENT_ASKS_POSITION);
        return;
    case METHOD_OPTIONS:
        finish_with_text(client, REPLY_NO_CONTENT, "", REPLY_TOPIC_METHODS);
        return;
    case METHOD_POST:
        finish_with_text(client, REPLY_METHOD_NOT_ALLOWED,
                         "POST is pgsse-publish's: the web server's routes are wrong",
                         REPLY_TOPIC_METHODS);
        return;
    case METHOD_OTHER:
        finish_with_text(client, REPLY_METHOD_NOT_ALLOWED, "this method is not served here",
                         REPLY_TOPIC_METHODS);
        return;
    }
}

static void answer_health(struct client *client, const struct request *request) {
    client->limit = request->limit;
    switch (request->method) {
    case METHOD_GET:
    case METHOD_HEAD:
        if (request->limit == REQUEST_LIMIT_BAD) {
            finish_with_text(client, REPLY_BAD_REQUEST, "limit must be a whole number", NULL);
        } else {
            begin_question(client, CLIENT_ASKS_HEALTH);
        }
        return;
    case METHOD_OPTIONS:
        finish_with_text(client, REPLY_NO_CONTENT, "", REPLY_HEALTH_METHODS);
        return;
    case METHOD_POST:
    case METHOD_OTHER:
        finish_with_text(client, REPLY_METHOD_NOT_ALLOWED, "this method is not served here",
                         REPLY_HEALTH_METHODS);
        return;
    }
}

static void answer(struct client *client, const struct request *request) {
    switch (request->route.kind) {
    case ROUTE_TOPIC_EVENTS:
        answer_topic(client, request);
        break;
    case ROUTE_HEALTH:
        answer_health(client, request);
        break;
    case ROUTE_BAD_TOPIC:
        finish_with_text(client, REPLY_BAD_REQUEST, REPLY_BAD_TOPIC_TEXT, NULL);
        break;
    case ROUTE_NONE:
        finish_with_text(client, REPLY_NOT_FOUND, REPLY_NO_ROUTE_TEXT, NULL);
        break;
    }
    if (client->stream->is_draining) {
        client_end(client, jittered(client->stream->config->retry));
    }
}

void client_create(struct stream *stream, int fd, uint16_t request_id,
                   const struct request *request) {
    struct client *client = must_zalloc(sizeof *client);
    client->stream = stream;
    client->fd = fd;
    client->io = LOOP_IO_INIT;
    client->written_ms = loop_now_ms(stream->loop);
    client->state = CLIENT_SUBSCRIBING;
    client->without_body = request->method == METHOD_HEAD;
    client->accepts_events = request->accepts_events;
    outlet_init(&client->outlet, request_id);
    LIST_INSERT_HEAD(&stream->clients, client, link);
    stream->client_count++;
    loop_io_start(stream->loop, &client->io, fd, LOOP_READ, on_ready);
    answer(client, request);
}
