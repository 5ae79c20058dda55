/* A whole stream handler between a web server and a broker, both of which the test plays: requests
 * are FastCGI, and frames are as on the wire. */
#pragma once

#include "sock.h"
#include "stream.h"
#include "support.h"

static unused struct handler_rig {
    struct loop *loop;
    struct config config;
    struct directory directory;
    char web_path[128];
    char broker_path[128];
    int web_fd; /* both are listening sockets */
    int broker_fd;
    int broker; /* the handler's connection, or -1 */
    struct buf input;
    struct buf frame; /* the last one that the broker received */
    struct stream *stream;
} rig;

static unused void handler_turns(void) {
    run_turns(rig.loop, 4);
}

static unused int listen_in(const char *name, char path[128]) {
    const char *reason;
    snprintf(path, 128, "%s/%s", rig.directory.path, name);
    int fd = sock_listen(path, 0600, &reason);
    assert_true(fd >= 0);
    return fd;
}

/* libfcgi expects a listening socket as descriptor 0, once. */
static unused void start_libfcgi(int listen_fd) {
    static bool is_started;
    assert_true(is_started || dup2(listen_fd, 0) == 0);
    assert_true(is_started || handover_init());
    is_started = true;
}

/* --- the broker ------------------------------------------------------------------------------- */

static unused void broker_say(struct payload *frame) {
    send_all(rig.broker, (struct slice){frame->bytes, frame->length});
    payload_unref(&frame);
    handler_turns();
}

/* The next frame that is not a REPORT, or false. The frame is good until the next call. */
static unused bool broker_hears(struct wire_frame *frame) {
    handler_turns();
    (void)(drain_all(rig.broker, &rig.input) == true);
    for (;;) {
        struct slice left = buf_slice(&rig.input);
        if (wire_next(&left, WIRE_REQUEST_BYTES_MAX, frame) != WIRE_NEXT_FRAME) {
            return false;
        }
        rig.frame.length = 0;
        buf_append_slice(&rig.frame, frame->body);
        buf_append(&rig.frame, "", 1);
        frame->body = (struct slice){rig.frame.bytes, frame->body.length};
        buf_consume(&rig.input, rig.input.length - left.length);
        if (frame->type != WIRE_REPORT) {
            return true;
        }
    }
}

static unused struct slice broker_hear(enum wire_type type) {
    struct wire_frame frame = {0};
    assert_true(broker_hears(&frame));
    assert_int_equal(frame.type, type);
    return frame.body;
}

static unused void broker_expect_silence(void) {
    struct wire_frame frame = {0};
    if (broker_hears(&frame)) {
        fail_msg("a frame of type %d came", (int)frame.type);
    }
}

/* The handler connects; its RESUME is not read yet. */
static unused void broker_come(void) {
    for (int i = 0; i < 300 && (rig.broker = sock_accept(rig.broker_fd)) < 0; i++) {
        run_for(rig.loop, 10);
    }
    assert_true(rig.broker >= 0);
    (void)broker_hear(WIRE_HELLO);
    broker_say(wire_encode_hello(WIRE_WELCOME, 5));
    assert_true(uplink_is_up(&rig.stream->uplink));
}

static unused void broker_go(void) {
    close(rig.broker);
    rig.broker = -1;
    buf_release(&rig.input);
    handler_turns();
    assert_false(uplink_is_up(&rig.stream->uplink));
}

static unused void handler_end(void) {
    stream_destroy(&rig.stream);
    loop_destroy(&rig.loop);
    config_release(&rig.config);
    if (rig.broker >= 0) {
        close(rig.broker);
    }
    close(rig.web_fd);
    close(rig.broker_fd);
    buf_release(&rig.input);
    buf_release(&rig.frame);
    directory_remove(&rig.directory);
}

/* --- life ---------------------------------------------------------------------------------------
 */

static unused void handler_begin_alone(void) {
    const char *reason;
    fixture_begin(handler_end);
    rig = (struct handler_rig){.broker = -1};
    log_init("pgsse-unit", LOG_LEVEL_ERROR);
    directory_make(&rig.directory);
    rig.web_fd = listen_in("web.sock", rig.web_path);
    rig.broker_fd = listen_in("broker.sock", rig.broker_path);
    start_libfcgi(rig.web_fd);
    config_set_defaults(&rig.config);
    assert_true(config_set(&rig.config, "socket_dir", rig.directory.path, &reason));
    rig.config.retry = 5;
    rig.loop = loop_create();
    rig.stream = stream_create(rig.loop, &rig.config, rig.web_fd);
}

static unused void handler_begin(void) {
    handler_begin_alone();
    broker_come();
    (void)broker_hear(WIRE_RESUME);
}

/* --- the web server -----------------------------------------------------------------------------
 */

struct visit {
    int fd;
    struct client *client;         /* freed by the handler when it is closed */
    struct subscriber *subscriber; /* the same, if it is a stream */
    struct buf got;
    struct buf content; /* of the complete records */
    bool is_over;       /* END_REQUEST has come */
};

static unused void append_record(struct buf *out, char type, struct slice content) {
    char header[] = {1, type, 0, 1, (char)(content.length >> 8), (char)content.length, 0, 0};
    assert_true(content.length < 65536);
    buf_append(out, header, sizeof header);
    buf_append_slice(out, content);
}

static unused void append_length(struct buf *out, size_t length) {
    char bytes[] = {(char)(length >> 24 | 0x80), (char)(length >> 16), (char)(length >> 8),
                    (char)length};
    buf_append(out, bytes, sizeof bytes);
}

/* Pairs of name and value, ended by NULL. */
static unused struct visit visit_open(const char *const *pairs) {
    struct visit visit = {.fd = sock_connect(rig.web_path)};
    struct buf parameters = {0};
    struct buf request = {0};
    for (size_t i = 0; pairs[i] != NULL; i += 2) {
        append_length(&parameters, strlen(pairs[i]));
        append_length(&parameters, strlen(pairs[i + 1]));
        buf_append_text(&parameters, pairs[i]);
        buf_append_text(&parameters, pairs[i + 1]);
    }
    append_record(&request, 1, LITERAL("\0\x01\0\0\0\0\0\0"));
    append_record(&request, 4, buf_slice(&parameters));
    append_record(&request, 4, (struct slice){0});
    append_record(&request, 5, (struct slice){0});
    assert_true(visit.fd >= 0);
    send_all(visit.fd, buf_slice(&request));
    buf_release(&parameters);
    buf_release(&request);
    handler_turns();
    visit.client = LIST_FIRST(&rig.stream->clients.list);
    visit.subscriber = container_of(visit.client, struct subscriber, client);
    return visit;
}

#define VISIT(method, uri, query, ...)                                                             \
    visit_open((const char *const[]){"REQUEST_METHOD", method, "REQUEST_URI", uri, "QUERY_STRING", \
                                     query, ##__VA_ARGS__, NULL})

/* Reads all that has come. */
static unused void visit_read(struct visit *visit) {
    handler_turns();
    (void)(drain_all(visit->fd, &visit->got) == true);
    size_t at = 0;
    while (visit->got.length - at >= RECORD_HEADER_BYTES) {
        const char *header = visit->got.bytes + at;
        size_t length = (size_t)(unsigned char)header[4] << 8 | (unsigned char)header[5];
        if (visit->got.length - at < RECORD_HEADER_BYTES + length) {
            break;
        }
        if (header[1] == 6) {
            buf_append(&visit->content, header + RECORD_HEADER_BYTES, length);
        }
        visit->is_over = header[1] == 3;
        at += RECORD_HEADER_BYTES + length;
    }
    buf_consume(&visit->got, at);
}

/* Expects exactly this output since the last call. */
static unused void visit_expect(struct visit *visit, const char *wanted) {
    visit_read(visit);
    expect_slice(buf_slice(&visit->content), slice_of(wanted), "what the browser got");
    buf_consume(&visit->content, visit->content.length);
}

/* The same, after headers that begin with that status, and after the retry line. */
static unused void visit_expect_begun(struct visit *visit, const char *wanted) {
    visit_read(visit);
    buf_append(&visit->content, "", 1);
    const char *text = visit->content.bytes;
    assert_true(strncmp(text, "Status: 200 OK\r\n", 16) == 0);
    assert_non_null(strstr(text, "\r\nContent-Type: text/event-stream; charset=utf-8\r\n"));
    const char *body = strstr(text, "\r\n\r\n");
    assert_non_null(body);
    assert_true(strncmp(body + 4, "retry: ", 7) == 0);
    assert_string_equal(strchr(body + 4, '\n') + 1, wanted);
    buf_consume(&visit->content, visit->content.length);
}

/* Expects a whole answer with that status line and these texts in it. */
static unused void visit_expect_answer(struct visit *visit, const char *status, const char *header,
                                       const char *body) {
    visit_read(visit);
    buf_append(&visit->content, "", 1);
    const char *text = visit->content.bytes;
    assert_true(visit->is_over);
    if (strncmp(text + strlen("Status: "), status, strlen(status)) != 0 ||
        strstr(text, header) == NULL || strcmp(strstr(text, "\r\n\r\n") + 4, body) != 0) {
        fail_msg("wanted %s, %s, %s; got %s", status, header, body, text);
    }
}

static unused void visit_end(struct visit *visit) {
    close(visit->fd);
    visit->fd = -1;
    handler_turns();
    buf_release(&visit->got);
    buf_release(&visit->content);
}
