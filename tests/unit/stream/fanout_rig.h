/* A stream handler without broker, web server and libfcgi: clients are real ones, made live by
 * hand; the test plays the broker. All clients end with the rig. */
#pragma once

#include "greeting.h"
#include "subscribe.h"
#include "support.h"

#include "log.h"

enum { MEMBERS_MAX = 16 };

/* A client, as its web server sees it. */
struct member {
    struct subscriber *subscriber; /* freed by the loop once it is closed */
    int peer;
    struct buf got;
};

static unused struct rig {
    struct loop *loop;
    struct config config;
    struct uplink uplink; /* it is never up */
    struct broker_questions questions;
    struct clients clients;
    struct subscribers subscribers;
    struct member members[MEMBERS_MAX];
    size_t member_count;
} rig;

static unused void on_rig_closed(void *owner) {
}

static unused void rig_end(void) {
    struct client *client;
    LIST_FOREACH(client, &rig.clients.list, link) {
        client_close(client, "the test is over");
    }
    run_turns(rig.loop, 2);
    for (size_t i = 0; i < rig.member_count; i++) {
        close(rig.members[i].peer);
        buf_release(&rig.members[i].got);
    }
    subscribe_release(&rig.subscribers);
    loop_destroy(&rig.loop);
    config_release(&rig.config);
}

static unused void rig_begin(void) {
    fixture_begin(rig_end);
    rig = (struct rig){0};
    log_init("pgsse-unit", LOG_LEVEL_ERROR);
    config_set_defaults(&rig.config);
    rig.loop = loop_create();
    rig.uplink.state = UPLINK_STOPPED;
    rig.questions.uplink = &rig.uplink;
    rig.clients =
        (struct clients){.loop = rig.loop, .config = &rig.config, .on_closed = on_rig_closed};
    LIST_INIT(&rig.clients.list);
    subscribe_init(&rig.subscribers, &rig.clients, &rig.questions);
}

static unused struct names topics_of(const char *first, const char *second, const char *third) {
    const char *names[] = {first, second, third};
    struct names topics = {0};
    for (size_t i = 0; i < length_of(names) && names[i] != NULL; i++) {
        topics.keys[topics.count++] = key_of(names[i]);
    }
    return topics;
}

/* --- clients ------------------------------------------------------------------------------------
 */

/* A stream that nobody has answered yet. fds[0] is its socket. */
static unused struct member *member_begin(const int fds[2], const struct request *request,
                                          const struct stream_query *wanted) {
    struct client *client = subscribe_begin(&rig.subscribers, fds[0], 1, request, wanted);
    assert_true(rig.member_count < MEMBERS_MAX);
    struct member *member = &rig.members[rig.member_count++];
    member->subscriber = container_of(client, struct subscriber, client);
    member->peer = fds[1];
    return member;
}

static unused struct member *member_join_as(enum stream_form form, const char *first,
                                            const char *second) {
    int fds[2];
    struct request request = {.method = METHOD_GET};
    struct stream_query wanted = {
        .form = form, .user = LITERAL("1"), .topics = topics_of(first, second, NULL)};
    small_pair(fds);
    struct member *member = member_begin(fds, &request, &wanted);
    loop_timer_stop(rig.loop, &member->subscriber->client.timer);
    subscriber_join(member->subscriber);
    return member;
}

/* A client that takes gzip; its headers are queued. */
static unused struct member *member_join_gzip(const char *first, const char *second) {
    int fds[2];
    struct request request = {.method = METHOD_GET, .accepts_gzip = true};
    struct stream_query wanted = {.form = STREAM_FORM_TOPIC,
                                  .topics = topics_of(first, second, NULL)};
    small_pair(fds);
    struct member *member = member_begin(fds, &request, &wanted);
    loop_timer_stop(rig.loop, &member->subscriber->client.timer);
    greeting_open(member->subscriber);
    subscriber_join(member->subscriber);
    return member;
}

static unused struct member *member_join(const char *first, const char *second) {
    return member_join_as(STREAM_FORM_TOPIC, first, second);
}

/* Appends the content of the records that have come. */
static unused void member_read(struct member *member, struct buf *content) {
    run_turns(rig.loop, 2);
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

static unused void expect_content(struct member *member, const char *wanted) {
    struct buf content = {0};
    member_read(member, &content);
    expect_slice(buf_slice(&content), slice_of(wanted), "what the client got");
    buf_release(&content);
}

static unused void member_leave(struct member *member) {
    client_close(&member->subscriber->client, "the test closes it");
    run_turns(rig.loop, 2);
}

/* A position with D only. */
#define DURABLE(id) (&(const struct position){.durable = (id)})

/* Its id is 0.abcdefghijklm.since. */
static unused void publish_at(const char *topic, const char *data, uint64_t since) {
    struct buf body = {0};
    buf_printf(&body, "event: message\ndata: %s\n\n", data);
    struct wire_event event = {
        .position = {0, "abcdefghijklm", since}, .topic = key_of(topic), .body = buf_slice(&body)};
    fanout_publish(&rig.subscribers.fanout, &event, &rig.subscribers.position);
    rig.subscribers.position = event.position;
    buf_release(&body);
}

static unused void publish(const char *topic, const char *data) {
    publish_at(topic, data, 5);
}

#define FRAME(data) "id: 0.abcdefghijklm.5\nevent: message\ndata: " data "\n\n"
