#include "reader.h"

#include "database.h"
#include "played.h"
#include "real.h"
#include "sock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { RECORD_BYTES = 8, FCGI_BEGIN = 1, FCGI_END = 3, FCGI_PARAMS = 4, FCGI_STDIN = 5 };
enum { FCGI_STDOUT = 6, READ_BYTES = 65536 };

/* --- the request ------------------------------------------------------------------------------ */

static void append_record(struct buf *out, char type, struct slice content) {
    char header[RECORD_BYTES] = {1, type, 0, 1, (char)(content.length >> 8), (char)content.length};
    buf_append(out, header, sizeof header);
    buf_append_slice(out, content);
}

static void append_parameter(struct buf *out, const char *name, const char *value) {
    char lengths[] = {(char)strlen(name), (char)strlen(value)};
    check(strlen(name) < 128 && strlen(value) < 128);
    buf_append(out, lengths, sizeof lengths);
    buf_append_text(out, name);
    buf_append_text(out, value);
}

static void query_of(const struct reader *reader, char query[128]) {
    size_t length = (size_t)snprintf(query, 128, "position=1&userId=u%d&channels=", reader->user);
    for (int topic = 0; topic < TOPICS; topic++) {
        if (reader->claim.is_wanted[topic]) {
            length += (size_t)snprintf(query + length, 128 - length, "%s,", topic_name(topic));
        }
    }
}

/* Whichever it says: a header, or the query. */
static void append_position(const struct reader *reader, struct buf *parameters, char query[128]) {
    const char *id = reader->id[0] == '\0' && reader->begins_at_0 ? "0" : reader->id;
    size_t length = strlen(query);
    bool is_in_query = one_in(3) && length + strlen(id) + 20 < 128;
    if (is_in_query) {
        snprintf(query + length, 128 - length, "&last_event_id=%s", id);
    }
    append_parameter(parameters, "HTTP_LAST_EVENT_ID", is_in_query ? "" : id);
}

static void send_request(const struct reader *reader) {
    char uri[64] = "/api/events/stream";
    char query[128] = "";
    struct buf parameters = {0};
    struct buf request = {0};
    if (reader->claim.is_of_user) {
        query_of(reader, query);
    } else {
        bool has_patterns = reader->patterns[0] != '\0';
        snprintf(uri, sizeof uri, "/topics/%s/events",
                 has_patterns ? reader->patterns : topic_name(reader->topic));
    }
    append_parameter(&parameters, "REQUEST_METHOD", reader->is_asking ? "HEAD" : "GET");
    append_parameter(&parameters, "REQUEST_URI", uri);
    append_parameter(&parameters, "HTTP_ACCEPT", "text/event-stream");
    append_parameter(&parameters, "HTTP_ACCEPT_ENCODING",
                     reader->takes_gzip ? "gzip, deflate, br" : "identity");
    append_parameter(&parameters, "PGSSE_TENANT", judge_tenant);
    append_position(reader, &parameters, query);
    append_parameter(&parameters, "QUERY_STRING", query);
    append_record(&request, FCGI_BEGIN, (struct slice){"\0\1\0\0\0\0\0\0", RECORD_BYTES});
    append_record(&request, FCGI_PARAMS, buf_slice(&parameters));
    append_record(&request, FCGI_PARAMS, (struct slice){0});
    append_record(&request, FCGI_STDIN, (struct slice){0});
    (void)!send(reader->fd, request.bytes, request.length, MSG_NOSIGNAL);
    buf_release(&parameters);
    buf_release(&request);
}

void reader_open(struct reader *reader, const char *path, int broker) {
    reader->fd = sock_connect(path);
    reader->broker = broker;
    reader->is_asking = reader->asks_first && reader->id[0] == '\0';
    claim_on_open(&reader->claim);
    if (reader->fd >= 0) {
        trace("reader %d %s from '%s'", reader->claim.reader, reader->is_asking ? "asks" : "opens",
              reader->id);
        reader->has_status = reader->is_over = reader->is_decoded = false;
        send_request(reader);
    }
}

void reader_leave(struct reader *reader) {
    if (reader->fd >= 0) {
        close(reader->fd);
        reader->fd = -1;
        if (reader->is_gzip) {
            (void)inflateEnd(&reader->decoder);
            reader->is_gzip = false;
        }
        buf_release(&reader->records);
        buf_release(&reader->content);
        reader->again_us = played_us() + (int64_t)draw(one_in(10) ? 3000 : 100) * 1000;
    }
}

void reader_forget(struct reader *reader) {
    reader_leave(reader);
    reader->id[0] = '\0';
    reader->is_forged = false;
    claim_forget(&reader->claim);
}

/* Garbage, a marker that nobody sent, an id that no table has come to. */
void reader_forge(struct reader *reader) {
    static const char *const ids[] = {"x",
                                      "1.2",
                                      "-1",
                                      "0x10",
                                      "5.abc.6",
                                      "1~",
                                      "9.",
                                      "999999999999999999.zzzzzzzzzzzzz.1",
                                      "999999999999999999"};
    reader_forget(reader);
    reader->is_forged = true;
    snprintf(reader->id, sizeof reader->id, "%s", ids[draw(length_of(ids))]);
}

/* --- what it reads ---------------------------------------------------------------------------- */

struct block {
    char id[160];
    char type[32];
    char data[64]; /* its beginning; "": none */
};

static bool is_greeting(const char *line) {
    return strncmp(line, ": listening ", 12) == 0 || strcmp(line, ": connected") == 0;
}

static void take_line(struct reader *reader, struct block *block, const char *line) {
    if (strncmp(line, "id: ", 4) == 0) {
        snprintf(block->id, sizeof block->id, "%s", line + 4);
    } else if (strncmp(line, "event: ", 7) == 0) {
        snprintf(block->type, sizeof block->type, "%s", line + 7);
    } else if (strncmp(line, "data: ", 6) == 0) {
        snprintf(block->data, sizeof block->data, "%.60s", line + 6);
    } else if (is_greeting(line)) {
        bool has_position = reader->id[0] != '\0' && !reader->is_forged;
        trace("reader %d is greeted", reader->claim.reader);
        claim_on_greeting(&reader->claim, has_position, database_rights(reader->user));
        reader->claim.must_be_told = reader->is_forged;
    } else if (line[0] != ':' && line[0] != '\0' && strncmp(line, "retry: ", 7) != 0) {
        complain(&reader->claim, "LINE", "'%.60s'", line);
    }
}

static void take_id(struct reader *reader, const struct block *block) {
    bool is_refresh = strcmp(block->type, "refresh") == 0;
    bool may_fall = is_refresh && reader->tables != database_tables();
    snprintf(reader->id, sizeof reader->id, "%s", block->id);
    reader->is_forged = false;
    claim_on_id(&reader->claim, block->id, real_order_place(block->id), may_fall);
}

static void take_event(struct reader *reader, unsigned number) {
    int64_t forbidden_us[TOPICS];
    database_forbidden_us(reader->broker, reader->user, forbidden_us);
    claim_on_event(&reader->claim, number, forbidden_us);
}

/* A refresh is for a new reader no sign of a loss when it had to wait. */
static void take_block(struct reader *reader, char *text) {
    struct block block = {0};
    bool was_new = reader->id[0] == '\0';
    char *line;
    unsigned number;
    while ((line = strsep(&text, "\n")) != NULL) {
        take_line(reader, &block, line);
    }
    if (block.data[0] == '\0') {
        bool is_heartbeat =
            reader->claim.is_of_user && block.id[0] == '\0' && block.type[0] == '\0';
        if (!is_heartbeat) {
            complain(&reader->claim, "EMPTY", "a block without data, id '%s'", block.id);
        }
        return;
    }
    if (block.id[0] != '\0') {
        take_id(reader, &block);
    }
    trace("reader %d got %s %s, id '%s'", reader->claim.reader, block.type, block.data, block.id);
    if (strcmp(block.type, "refresh") == 0) {
        claim_on_refresh(&reader->claim, reader->is_calm && !was_new);
    } else if (strcmp(block.type, "message") == 0 &&
               sscanf(block.data, "{\"n\":%u", &number) == 1) {
        take_event(reader, number);
    } else if (strcmp(block.type, "position") == 0 || strcmp(block.type, "close") == 0) {
        claim_on_block(&reader->claim, strcmp(block.type, "close") == 0);
    } else {
        complain(&reader->claim, "TYPE", "'%s', data %s", block.type, block.data);
    }
}

static char *end_of(const struct buf *buf, const char *end) {
    return buf->length == 0 ? NULL : memmem(buf->bytes, buf->length, end, strlen(end));
}

/* The answer to HEAD: what is published from now on is owed to the one that opens from there. */
static void take_headers(struct reader *reader, const char *end) {
    static const char name[] = "\r\nPgsse-Position: ";
    const struct buf *content = &reader->content;
    const char *value =
        memmem(content->bytes, (size_t)(end - content->bytes), name, sizeof name - 1);
    if (!reader->is_asking || reader->status != 200) {
        return;
    }
    if (value == NULL) {
        complain(&reader->claim, "HEAD", "without a position");
        return;
    }
    value += sizeof name - 1;
    snprintf(reader->id, sizeof reader->id, "%.*s", (int)strcspn(value, "\r\n"), value);
    trace("reader %d has the position '%s'", reader->claim.reader, reader->id);
    claim_on_id(&reader->claim, reader->id, real_order_place(reader->id), false);
    claim_on_position(&reader->claim);
}

/* What has come can be decoded whole. After the end of the gzip stream nothing may come. */
static void decode(struct reader *reader, struct slice bytes) {
    enum { ROOM = 4096 };
    z_stream *decoder = &reader->decoder;
    decoder->next_in = (Bytef *)bytes.at;
    decoder->avail_in = (uInt)bytes.length;
    do {
        decoder->next_out = (Bytef *)buf_reserve(&reader->content, ROOM);
        decoder->avail_out = ROOM;
        int result = inflate(decoder, Z_SYNC_FLUSH);
        bool is_broken = (result != Z_OK && result != Z_BUF_ERROR && result != Z_STREAM_END) ||
                         (reader->is_decoded && bytes.length > 0);
        reader->content.length += ROOM - decoder->avail_out;
        reader->is_decoded = reader->is_decoded || result == Z_STREAM_END;
        if (is_broken || (result == Z_STREAM_END && decoder->avail_in > 0)) {
            complain(&reader->claim, "GZIP", "%d, %s", result,
                     decoder->msg == NULL ? "" : decoder->msg);
            return;
        }
    } while (decoder->avail_out == 0);
}

static void begin_gzip(struct reader *reader, struct slice headers) {
    static const char name[] = "\r\nContent-Encoding: gzip\r\n";
    reader->is_gzip = memmem(headers.at, headers.length, name, sizeof name - 1) != NULL;
    bool is_due = reader->takes_gzip && reader->status == 200;
    if (reader->is_gzip != is_due) {
        complain(&reader->claim, "GZIP", "%s", is_due ? "it is missing" : "nobody asked for it");
    }
    reader->decoder = (z_stream){0};
    if (reader->is_gzip) {
        check(inflateInit2(&reader->decoder, 15 + 16) == Z_OK);
    }
}

static void take_bytes(struct reader *reader, struct slice bytes) {
    if (reader->has_status && reader->is_gzip) {
        decode(reader, bytes);
    } else {
        buf_append_slice(&reader->content, bytes);
    }
}

/* False: they are not whole yet. What follows them is content. */
static bool take_status(struct reader *reader) {
    struct buf raw = reader->content;
    char *end = end_of(&raw, "\r\n\r\n");
    if (end == NULL) {
        return false;
    }
    size_t length = (size_t)(end + 4 - raw.bytes);
    reader->status = (unsigned)strtoul(raw.bytes + strlen("Status: "), NULL, 10);
    take_headers(reader, end);
    begin_gzip(reader, (struct slice){raw.bytes, length});
    reader->has_status = true;
    reader->content = (struct buf){0};
    take_bytes(reader, (struct slice){raw.bytes + length, raw.length - length});
    buf_release(&raw);
    return true;
}

static void take_content(struct reader *reader) {
    struct buf *content = &reader->content;
    char *end;
    if (!reader->has_status && !take_status(reader)) {
        return;
    }
    while (reader->status == 200 && (end = end_of(content, "\n\n")) != NULL) {
        size_t length = (size_t)(end - content->bytes);
        char *text = must_strdup(content->bytes, length);
        buf_consume(content, length + 2);
        take_block(reader, text);
        free(text);
    }
}

static void take_records(struct reader *reader) {
    size_t at = 0;
    while (reader->records.length - at >= RECORD_BYTES) {
        const unsigned char *header = (const unsigned char *)reader->records.bytes + at;
        size_t length = (size_t)header[4] << 8 | header[5];
        size_t padding = header[6];
        if (reader->records.length - at < RECORD_BYTES + length + padding) {
            break;
        }
        if (header[1] == FCGI_STDOUT) {
            take_bytes(reader, (struct slice){reader->records.bytes + at + RECORD_BYTES, length});
            take_content(reader);
        }
        reader->is_over = reader->is_over || header[1] == FCGI_END;
        at += RECORD_BYTES + length + padding;
    }
    buf_consume(&reader->records, at);
}

/* Lines without a block behind them count as soon as they are read: a greeting, for instance. So
 * the part of a block that ends a stream is given to it, too. */
static void take_rest(struct reader *reader) {
    struct block block = {0};
    if (!reader->has_status || reader->status != 200 || reader->content.length == 0) {
        return;
    }
    char *text = must_strdup(reader->content.bytes, reader->content.length);
    char *rest = text;
    char *line;
    while ((line = strsep(&rest, "\n")) != NULL && rest != NULL) {
        take_line(reader, &block, line);
    }
    free(text);
}

void reader_pump(struct reader *reader) {
    size_t most = reader->is_slow ? 1 + draw(3000) : READ_BYTES;
    if (reader->fd < 0 || (reader->is_slow && !one_in(20))) {
        return;
    }
    ssize_t got = recv(reader->fd, buf_reserve(&reader->records, most), most, MSG_DONTWAIT);
    bool is_there = got > 0 || (got < 0 && errno == EAGAIN);
    reader->records.length += got > 0 ? (size_t)got : 0;
    take_records(reader);
    if (reader->is_over && reader->is_gzip && !reader->is_asking && !reader->is_decoded) {
        complain(&reader->claim, "GZIP", "it has no end");
    }
    if (!is_there || reader->is_over) {
        trace("the stream of reader %d is over", reader->claim.reader);
        take_rest(reader);
        reader_leave(reader);
    }
}
