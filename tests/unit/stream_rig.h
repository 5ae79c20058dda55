/* A stream handler without broker, web server and libfcgi: clients are real ones, made live by
 * hand; the test plays the broker. */
#pragma once

#include "admission.h"
#include "answer.h"
#include "stream.h"
#include "support.h"

struct rig {
    struct loop *loop;
    struct config config;
    struct stream stream;
};

static unused void rig_begin(struct rig *rig) {
    *rig = (struct rig){0};
    log_init("pgsse-unit", LOG_LEVEL_ERROR);
    config_set_defaults(&rig->config);
    rig->loop = loop_create();
    rig->stream.loop = rig->loop;
    rig->stream.config = &rig->config;
    rig->stream.uplink.state = UPLINK_STOPPED;
    LIST_INIT(&rig->stream.clients);
    fanout_init(&rig->stream.fanout, rig->loop);
}

static unused void rig_end(struct rig *rig) {
    fanout_release(&rig->stream.fanout);
    loop_destroy(&rig->loop);
    config_release(&rig->config);
}

static unused struct wire_topics topics_of(const char *first, const char *second,
                                           const char *third) {
    const char *names[] = {first, second, third};
    struct wire_topics topics = {0};
    for (size_t i = 0; i < length_of(names) && names[i] != NULL; i++) {
        topics.names[topics.count++] = slice_of(names[i]);
    }
    return topics;
}

/* --- clients ------------------------------------------------------------------------------------
 */

struct member {
    struct client *client; /* freed by the loop once it is closed */
    int peer;
    struct buf got;
};

static unused void on_member_flush(struct loop_task *task) {
    client_flush(container_of(task, struct client, flush));
}

/* As client.c has it: the socket takes more. */
static unused void on_member_ready(struct loop_io *io, unsigned ready) {
    struct client *client = container_of(io, struct client, io);
    if ((ready & LOOP_WRITE) != 0) {
        client->is_blocked = false;
        loop_flush_soon(client->stream->loop, &client->flush, on_member_flush);
        if (client->state == CLIENT_LIVE) {
            audience_trim_soon(client->audience);
        }
    }
}

static unused void member_join_as(struct rig *rig, struct member *member, enum wire_form form,
                                  const char *first, const char *second) {
    int fds[2];
    struct wire_topics topics = topics_of(first, second, NULL);
    struct client *client = must_zalloc(sizeof *client);
    small_pair(fds);
    *member = (struct member){.client = client, .peer = fds[1]};
    client->stream = &rig->stream;
    client->fd = fds[0];
    client->io = LOOP_IO_INIT;
    client->state = CLIENT_LIVE;
    client->audience = fanout_attach(&rig->stream.fanout, form, &topics);
    outlet_init(&client->outlet, 1);
    LIST_INSERT_HEAD(&rig->stream.clients, client, link);
    rig->stream.client_count++;
    loop_io_start(rig->loop, &client->io, fds[0], LOOP_READ, on_member_ready);
    audience_join(client->audience, client);
}

static unused void member_join(struct rig *rig, struct member *member, const char *first,
                               const char *second) {
    member_join_as(rig, member, WIRE_FORM_TOPICS, first, second);
}

/* The content of the records that have come. */
static unused void member_read(struct rig *rig, struct member *member, struct buf *content) {
    run_turns(rig->loop, 2);
    (void)(drain_all(member->peer, &member->got) == true);
    size_t at = 0;
    while (member->got.length - at >= RECORD_HEADER_BYTES) {
        const char *header = member->got.bytes + at;
        size_t length = (size_t)(unsigned char)header[4] << 8 | (unsigned char)header[5];
        if (member->got.length - at < RECORD_HEADER_BYTES + length) {
            break;
        }
        buf_append(content, header + RECORD_HEADER_BYTES, length);
        at += RECORD_HEADER_BYTES + length;
    }
    buf_consume(&member->got, at);
}

static unused void expect_content(struct rig *rig, struct member *member, const char *wanted) {
    struct buf content = {0};
    member_read(rig, member, &content);
    expect_slice(buf_slice(&content), slice_of(wanted), "what the client got");
    buf_release(&content);
}

static unused void member_leave(struct rig *rig, struct member *member) {
    client_close(member->client, "the test is over");
    run_turns(rig->loop, 2);
    close(member->peer);
    buf_release(&member->got);
}

/* Its id is 0.abcdefghijklm.since. */
static unused void publish_at(struct rig *rig, const char *topic, const char *data,
                              uint64_t since) {
    struct buf body = {0};
    buf_printf(&body, "event: message\ndata: %s\n\n", data);
    struct wire_event event = {.position = {0, "abcdefghijklm", since},
                               .topic = slice_of(topic),
                               .body = buf_slice(&body)};
    fanout_publish(&rig->stream.fanout, &event, rig->stream.position.durable);
    rig->stream.position = event.position;
    buf_release(&body);
}

static unused void publish(struct rig *rig, const char *topic, const char *data) {
    publish_at(rig, topic, data, 5);
}

#define FRAME(data) "id: 0.abcdefghijklm.5\nevent: message\ndata: " data "\n\n"
