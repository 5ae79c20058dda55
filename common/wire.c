#include "wire.h"

#include "buf.h"
#include "decimal.h"

/* --- writing ----------------------------------------------------------------------------- */

static void put_integer(struct buf *out, uint64_t value, size_t bytes) {
    char *to = buf_reserve(out, bytes);
    for (size_t i = 0; i < bytes; i++) {
        to[i] = (char)(value >> (8 * i));
    }
    out->length += bytes;
}

static void put_u8(struct buf *out, unsigned value) {
    put_integer(out, value, 1);
}

static void put_u16(struct buf *out, uint16_t value) {
    put_integer(out, value, 2);
}

static void put_u32(struct buf *out, uint32_t value) {
    put_integer(out, value, 4);
}

static void put_u64(struct buf *out, uint64_t value) {
    put_integer(out, value, 8);
}

static void put_str(struct buf *out, struct slice text) {
    check(text.length <= WIRE_ANSWER_BYTES_MAX);
    put_u32(out, (uint32_t)text.length);
    buf_append_slice(out, text);
}

static void put_position(struct buf *out, const struct position *position) {
    put_u64(out, position->durable);
    put_str(out, slice_of(position->marker));
    put_u64(out, position->since);
}

static void put_topic(struct buf *out, struct topic_key topic) {
    put_str(out, topic.bytes);
}

static void put_topics(struct buf *out, const struct names *topics) {
    check(topics->count <= NAMES_MAX);
    put_u16(out, (uint16_t)topics->count);
    for (size_t i = 0; i < topics->count; i++) {
        put_topic(out, topics->keys[i]);
    }
}

/* frame_end fills in the length. */
static struct buf frame_begin(enum wire_type type) {
    struct buf frame = {0};
    put_u32(&frame, 0);
    put_u8(&frame, type);
    return frame;
}

static struct payload *frame_end(struct buf *frame) {
    size_t body_length = frame->length - WIRE_HEADER_BYTES;
    check(body_length <= WIRE_ANSWER_BYTES_MAX);
    for (size_t i = 0; i < 4; i++) {
        frame->bytes[i] = (char)(body_length >> (8 * i));
    }
    struct payload *payload = payload_create(frame->bytes, frame->length);
    buf_release(frame);
    return payload;
}

/* --- reading ----------------------------------------------------------------------------- */

/* The rest of a body. A read past its end sets is_bad, and from then on all reads return 0. So a
 * decoder reads all fields and checks once, at the end. */
struct reader {
    struct slice left;
    bool is_bad;
};

static uint64_t get_integer(struct reader *reader, size_t bytes) {
    if (reader->left.length < bytes) {
        reader->is_bad = true;
        reader->left.length = 0;
        return 0;
    }
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; i++) {
        value |= (uint64_t)(unsigned char)reader->left.at[i] << (8 * i);
    }
    reader->left.at += bytes;
    reader->left.length -= bytes;
    return value;
}

static uint32_t get_u32(struct reader *reader) {
    return (uint32_t)get_integer(reader, 4);
}

static uint64_t get_u64(struct reader *reader) {
    return get_integer(reader, 8);
}

/* An integer of one byte that must be below bound. */
static unsigned get_choice(struct reader *reader, unsigned bound) {
    unsigned value = (unsigned)get_integer(reader, 1);
    if (value >= bound) {
        reader->is_bad = true;
        return 0;
    }
    return value;
}

static struct slice get_str(struct reader *reader) {
    size_t length = get_u32(reader);
    if (length > reader->left.length) {
        reader->is_bad = true;
        reader->left.length = 0;
        return (struct slice){"", 0};
    }
    struct slice text = {reader->left.at, length};
    reader->left.at += length;
    reader->left.length -= length;
    return text;
}

static void get_position(struct reader *reader, struct position *position) {
    *position = (struct position){.durable = get_u64(reader)};
    struct slice marker = get_str(reader);
    if (marker.length > 0) {
        if (marker_is_valid(marker)) {
            memcpy(position->marker, marker.at, MARKER_BYTES);
        } else {
            reader->is_bad = true;
        }
    }
    position->since = get_u64(reader);
}

/* Who needs a valid key checks it: the broker does not check its own. */
static struct topic_key get_topic(struct reader *reader) {
    return (struct topic_key){get_str(reader)};
}

static void get_topics(struct reader *reader, struct names *topics) {
    topics->count = (size_t)get_integer(reader, 2);
    if (topics->count == 0 || topics->count > NAMES_MAX) {
        reader->is_bad = true;
        topics->count = 0;
    }
    for (size_t i = 0; i < topics->count; i++) {
        topics->keys[i] = get_topic(reader);
    }
}

static bool is_complete(const struct reader *reader) {
    return !reader->is_bad && reader->left.length == 0;
}

/* --- frames ------------------------------------------------------------------------------ */

enum wire_next wire_next(struct slice *input, size_t body_bytes_max, struct wire_frame *frame) {
    struct reader reader = {.left = *input};
    size_t length = get_u32(&reader);
    unsigned type = (unsigned)get_integer(&reader, 1);
    if (reader.is_bad) {
        return WIRE_NEXT_INCOMPLETE;
    }
    if (length > body_bytes_max) {
        return WIRE_NEXT_TOO_LONG;
    }
    if (length > reader.left.length) {
        return WIRE_NEXT_INCOMPLETE;
    }
    *frame = (struct wire_frame){(enum wire_type)type, {reader.left.at, length}};
    *input = (struct slice){reader.left.at + length, reader.left.length - length};
    return WIRE_NEXT_FRAME;
}

struct slice wire_body(const struct payload *frame) {
    return (struct slice){frame->bytes + WIRE_HEADER_BYTES, frame->length - WIRE_HEADER_BYTES};
}

/* --- messages, each with both directions -------------------------------------------------- */

struct payload *wire_encode_hello(enum wire_type type, uint32_t pid) {
    struct buf frame = frame_begin(type);
    put_u32(&frame, WIRE_MAGIC);
    put_u16(&frame, WIRE_VERSION);
    put_u32(&frame, pid);
    return frame_end(&frame);
}

/* In a HELLO of another version only the first two fields are read, since the others may differ. */
bool wire_decode_hello(struct slice body, struct wire_hello *message) {
    struct reader reader = {.left = body};
    message->magic = get_u32(&reader);
    message->version = (uint16_t)get_integer(&reader, 2);
    if (!reader.is_bad && message->version != WIRE_VERSION) {
        message->pid = 0;
        return message->magic == WIRE_MAGIC;
    }
    message->pid = get_u32(&reader);
    return is_complete(&reader) && message->magic == WIRE_MAGIC;
}

struct payload *wire_encode_subscribe(const struct wire_subscribe *message) {
    struct buf frame = frame_begin(WIRE_SUBSCRIBE);
    put_u64(&frame, message->token);
    put_u8(&frame, message->form);
    put_u8(&frame, message->position_kind);
    put_position(&frame, &message->position);
    put_str(&frame, message->user);
    put_topics(&frame, &message->topics);
    return frame_end(&frame);
}

bool wire_decode_subscribe(struct slice body, struct wire_subscribe *message) {
    struct reader reader = {.left = body};
    message->token = get_u64(&reader);
    message->form = (enum wire_form)get_choice(&reader, WIRE_FORMS);
    message->position_kind = (enum position_kind)get_choice(&reader, POSITION_KNOWN + 1);
    get_position(&reader, &message->position);
    message->user = get_str(&reader);
    get_topics(&reader, &message->topics);
    return is_complete(&reader) && message->token != 0;
}

struct payload *wire_encode_credit(const struct wire_credit *message) {
    struct buf frame = frame_begin(WIRE_CREDIT);
    put_u64(&frame, message->token);
    put_u32(&frame, message->bytes);
    return frame_end(&frame);
}

bool wire_decode_credit(struct slice body, struct wire_credit *message) {
    struct reader reader = {.left = body};
    message->token = get_u64(&reader);
    message->bytes = get_u32(&reader);
    return is_complete(&reader) && message->token != 0 && message->bytes > 0;
}

struct payload *wire_encode_unsubscribe(const struct wire_unsubscribe *message) {
    struct buf frame = frame_begin(WIRE_UNSUBSCRIBE);
    put_u64(&frame, message->token);
    put_u8(&frame, message->form);
    put_topics(&frame, &message->topics);
    return frame_end(&frame);
}

bool wire_decode_unsubscribe(struct slice body, struct wire_unsubscribe *message) {
    struct reader reader = {.left = body};
    message->token = get_u64(&reader);
    message->form = (enum wire_form)get_choice(&reader, WIRE_FORMS);
    get_topics(&reader, &message->topics);
    return is_complete(&reader);
}

struct payload *wire_encode_ask_position(uint64_t token) {
    struct buf frame = frame_begin(WIRE_ASK_POSITION);
    put_u64(&frame, token);
    return frame_end(&frame);
}

bool wire_decode_ask_position(struct slice body, uint64_t *token) {
    struct reader reader = {.left = body};
    *token = get_u64(&reader);
    return is_complete(&reader) && *token != 0;
}

struct payload *wire_encode_ask_document(const struct wire_ask_document *message) {
    struct buf frame = frame_begin(WIRE_ASK_DOCUMENT);
    put_u64(&frame, message->token);
    put_u8(&frame, (uint8_t)message->kind);
    put_u32(&frame, message->limit);
    put_str(&frame, message->tenant);
    return frame_end(&frame);
}

bool wire_decode_ask_document(struct slice body, struct wire_ask_document *message) {
    struct reader reader = {.left = body};
    message->token = get_u64(&reader);
    message->kind = (enum wire_document_kind)get_choice(&reader, WIRE_DOCUMENT_KINDS);
    message->limit = get_u32(&reader);
    message->tenant = get_str(&reader);
    return is_complete(&reader) && message->token != 0 && message->limit <= WIRE_HEALTH_LIMIT_MAX &&
           tenant_is_valid(message->tenant);
}

/* Adds 1 to the u32 at count_at: one more entry. */
static void count_entry(struct buf *frame, size_t count_at) {
    for (size_t i = count_at; ++frame->bytes[i] == 0; i++) {
        check(i < count_at + 3); /* carry to the next byte */
    }
}

/* The offsets of fields in a REPORT frame. */
enum {
    REPORT_GZIP_AT = WIRE_HEADER_BYTES + 8,
    REPORT_LAST_AT = REPORT_GZIP_AT + 16,
    REPORT_COUNT_AT = REPORT_LAST_AT + 1
};

void wire_report_begin(struct buf *report, uint32_t serial, uint32_t streams) {
    check(report->length == 0);
    *report = frame_begin(WIRE_REPORT);
    put_u32(report, serial);
    put_u32(report, streams);
    put_u64(report, 0);
    put_u64(report, 0);
    put_u8(report, 0);
    put_u32(report, 0);
}

void wire_report_set_gzip(struct buf *report, uint64_t plain_bytes, uint64_t gzip_bytes) {
    struct buf values = {0};
    put_u64(&values, plain_bytes);
    put_u64(&values, gzip_bytes);
    memcpy(report->bytes + REPORT_GZIP_AT, values.bytes, values.length);
    buf_release(&values);
}

bool wire_report_add(struct buf *report, const struct wire_report_entry *entry) {
    size_t length = 4 + entry->topic.bytes.length + 5 * sizeof(uint64_t) + sizeof(uint32_t);
    if (report->length + length > WIRE_REQUEST_BYTES_MAX) {
        return false;
    }
    put_topic(report, entry->topic);
    put_u64(report, entry->delivered);
    put_u64(report, entry->dropped_events);
    put_u64(report, entry->dropped_clients);
    put_u64(report, entry->pending_events);
    put_u64(report, entry->queued_bytes);
    put_u32(report, entry->streams);
    count_entry(report, REPORT_COUNT_AT);
    return true;
}

struct payload *wire_report_end(struct buf *report, bool is_last) {
    report->bytes[REPORT_LAST_AT] = is_last ? 1 : 0;
    return frame_end(report);
}

bool wire_decode_report(struct slice body, struct wire_report *message) {
    struct reader reader = {.left = body};
    message->serial = get_u32(&reader);
    message->streams = get_u32(&reader);
    message->plain_bytes = get_u64(&reader);
    message->gzip_bytes = get_u64(&reader);
    message->is_last = get_choice(&reader, 2) == 1;
    message->count = get_u32(&reader);
    message->entries = reader.left;
    return !reader.is_bad;
}

bool wire_next_report_entry(struct wire_report *report, struct wire_report_entry *entry) {
    if (report->count == 0) {
        return false;
    }
    struct reader reader = {.left = report->entries};
    entry->topic = get_topic(&reader);
    entry->delivered = get_u64(&reader);
    entry->dropped_events = get_u64(&reader);
    entry->dropped_clients = get_u64(&reader);
    entry->pending_events = get_u64(&reader);
    entry->queued_bytes = get_u64(&reader);
    entry->streams = get_u32(&reader);
    if (reader.is_bad) {
        return false;
    }
    report->entries = reader.left;
    report->count--;
    return true;
}

/* The offset of is_last in a RESUME frame. Then come the kind, D, M as a str, S and the count. */
enum { RESUME_LAST_AT = WIRE_HEADER_BYTES };

static size_t resume_count_at(const struct buf *resume) {
    size_t marker_at = RESUME_LAST_AT + 2 + 8;
    return marker_at + 4 + (unsigned char)resume->bytes[marker_at] + 8;
}

void wire_resume_begin(struct buf *resume, enum position_kind kind,
                       const struct position *position) {
    check(resume->length == 0);
    *resume = frame_begin(WIRE_RESUME);
    put_u8(resume, 0);
    put_u8(resume, kind);
    put_position(resume, position);
    put_u32(resume, 0);
}

bool wire_resume_add(struct buf *resume, const struct wire_resume_entry *entry) {
    size_t length = 4 + entry->topic.bytes.length + 4;
    if (resume->length + length > WIRE_REQUEST_BYTES_MAX) {
        return false;
    }
    put_topic(resume, entry->topic);
    put_u32(resume, entry->clients);
    count_entry(resume, resume_count_at(resume));
    return true;
}

struct payload *wire_resume_end(struct buf *resume, bool is_last) {
    resume->bytes[RESUME_LAST_AT] = is_last ? 1 : 0;
    return frame_end(resume);
}

bool wire_decode_resume(struct slice body, struct wire_resume *message) {
    struct reader reader = {.left = body};
    message->is_last = get_choice(&reader, 2) == 1;
    message->position_kind = (enum position_kind)get_choice(&reader, POSITION_KNOWN + 1);
    get_position(&reader, &message->position);
    message->count = get_u32(&reader);
    message->entries = reader.left;
    return !reader.is_bad &&
           (message->position_kind == POSITION_NONE || message->position_kind == POSITION_KNOWN);
}

bool wire_next_resume_entry(struct wire_resume *resume, struct wire_resume_entry *entry) {
    if (resume->count == 0) {
        return false;
    }
    struct reader reader = {.left = resume->entries};
    entry->topic = get_topic(&reader);
    entry->clients = get_u32(&reader);
    if (reader.is_bad || entry->clients == 0) {
        return false;
    }
    resume->entries = reader.left;
    resume->count--;
    return true;
}

struct payload *wire_encode_accepted(const struct wire_accepted *message) {
    struct buf frame = frame_begin(WIRE_ACCEPTED);
    put_u64(&frame, message->token);
    put_u8(&frame, message->has_backlog ? 1 : 0);
    put_position(&frame, &message->position);
    put_topics(&frame, &message->topics);
    return frame_end(&frame);
}

bool wire_decode_accepted(struct slice body, struct wire_accepted *message) {
    struct reader reader = {.left = body};
    message->token = get_u64(&reader);
    message->has_backlog = get_choice(&reader, 2) == 1;
    get_position(&reader, &message->position);
    get_topics(&reader, &message->topics);
    return is_complete(&reader);
}

struct payload *wire_encode_refused(const struct wire_refused *message) {
    struct buf frame = frame_begin(WIRE_REFUSED);
    put_u64(&frame, message->token);
    put_u16(&frame, message->status);
    put_str(&frame, message->text);
    return frame_end(&frame);
}

bool wire_decode_refused(struct slice body, struct wire_refused *message) {
    struct reader reader = {.left = body};
    message->token = get_u64(&reader);
    message->status = (uint16_t)get_integer(&reader, 2);
    message->text = get_str(&reader);
    return is_complete(&reader);
}

struct payload *wire_encode_refresh(const struct wire_refresh *message) {
    struct buf frame = frame_begin(WIRE_REFRESH);
    put_u64(&frame, message->token);
    put_u8(&frame, message->is_durable ? 1 : 0);
    put_topic(&frame, message->topic);
    put_position(&frame, &message->position);
    put_u8(&frame, message->reason);
    put_u64(&frame, message->dropped);
    return frame_end(&frame);
}

bool wire_decode_refresh(struct slice body, struct wire_refresh *message) {
    struct reader reader = {.left = body};
    message->token = get_u64(&reader);
    message->is_durable = get_choice(&reader, 2) == 1;
    message->topic = get_topic(&reader);
    get_position(&reader, &message->position);
    message->reason = (enum sse_refresh_reason)get_choice(&reader, SSE_REFRESH_REASONS);
    message->dropped = get_u64(&reader);
    return is_complete(&reader);
}

struct payload *wire_encode_position(enum wire_type type, const struct wire_position *message) {
    struct buf frame = frame_begin(type);
    put_u64(&frame, message->token);
    put_position(&frame, &message->position);
    return frame_end(&frame);
}

bool wire_decode_position(struct slice body, struct wire_position *message) {
    struct reader reader = {.left = body};
    message->token = get_u64(&reader);
    get_position(&reader, &message->position);
    return is_complete(&reader);
}

static void put_event(struct buf *out, const struct wire_event *event) {
    put_u8(out, (event->is_durable ? 1U : 0U) + (event->is_text ? 2U : 0U));
    put_position(out, &event->position);
    put_topic(out, event->topic);
    put_str(out, event->publisher_id);
    put_u32(out, (uint32_t)event->id_at);
    put_str(out, event->body);
}

static void get_event(struct reader *reader, struct wire_event *event) {
    unsigned kind = get_choice(reader, 4);
    event->is_durable = (kind & 1) != 0;
    event->is_text = (kind & 2) != 0;
    get_position(reader, &event->position);
    event->topic = get_topic(reader);
    event->publisher_id = get_str(reader);
    event->id_at = get_u32(reader);
    event->body = get_str(reader);
    reader->is_bad = reader->is_bad || event->id_at > event->body.length;
}

struct payload *wire_encode_event(const struct wire_event *message) {
    struct buf frame = frame_begin(WIRE_EVENT);
    put_event(&frame, message);
    return frame_end(&frame);
}

bool wire_decode_event(struct slice body, struct wire_event *message) {
    struct reader reader = {.left = body};
    get_event(&reader, message);
    return is_complete(&reader);
}

struct payload *wire_encode_replay(const struct wire_replay *message) {
    struct buf frame = frame_begin(WIRE_REPLAY);
    put_u64(&frame, message->token);
    put_event(&frame, &message->event);
    return frame_end(&frame);
}

bool wire_decode_replay(struct slice body, struct wire_replay *message) {
    struct reader reader = {.left = body};
    message->token = get_u64(&reader);
    get_event(&reader, &message->event);
    return is_complete(&reader);
}

struct payload *wire_encode_document(const struct wire_document *message) {
    struct buf frame = frame_begin(WIRE_DOCUMENT);
    put_u64(&frame, message->token);
    put_u16(&frame, message->status);
    put_str(&frame, message->document);
    return frame_end(&frame);
}

bool wire_decode_document(struct slice body, struct wire_document *message) {
    struct reader reader = {.left = body};
    message->token = get_u64(&reader);
    message->status = (uint16_t)get_integer(&reader, 2);
    message->document = get_str(&reader);
    return is_complete(&reader);
}

struct payload *wire_encode_recheck(const struct wire_recheck *message) {
    struct buf frame = frame_begin(WIRE_RECHECK);
    put_str(&frame, message->tenant);
    put_str(&frame, message->user);
    return frame_end(&frame);
}

bool wire_decode_recheck(struct slice body, struct wire_recheck *message) {
    struct reader reader = {.left = body};
    message->tenant = get_str(&reader);
    message->user = get_str(&reader);
    return is_complete(&reader);
}

struct payload *wire_encode_ask_report(uint32_t serial) {
    struct buf frame = frame_begin(WIRE_ASK_REPORT);
    put_u32(&frame, serial);
    return frame_end(&frame);
}

bool wire_decode_ask_report(struct slice body, uint32_t *serial) {
    struct reader reader = {.left = body};
    *serial = get_u32(&reader);
    return is_complete(&reader);
}

struct payload *wire_encode_goodbye(const char *reason) {
    struct buf frame = frame_begin(WIRE_GOODBYE);
    put_str(&frame, slice_of(reason));
    return frame_end(&frame);
}

bool wire_decode_goodbye(struct slice body, struct slice *reason) {
    struct reader reader = {.left = body};
    *reason = get_str(&reader);
    return is_complete(&reader);
}

/* --- documents ------------------------------------------------------------------------------- */

/* The beginning of topic `number`, counted from 0; NULL if there are fewer. */
static const char *find_topic(struct slice document, uint32_t number) {
    for (;;) {
        const char *newline = memchr(document.at, '\n', document.length);
        if (newline == NULL || number == 0) {
            return newline;
        }
        number--;
        document.length -= (size_t)(newline + 1 - document.at);
        document.at = newline + 1;
    }
}

bool wire_parse_health_limit(struct slice text, uint32_t *limit) {
    uint64_t value;
    bool is_number = decimal_parse(text, SIZE_MAX, WIRE_HEALTH_LIMIT_MAX, &value);
    *limit = (uint32_t)value;
    return is_number;
}

void wire_cut_health(struct slice document, uint32_t limit, struct buf *out) {
    const char *end = find_topic(document, limit);
    if (end == NULL) {
        buf_append_slice(out, document);
        return;
    }
    buf_append(out, document.at, (size_t)(end - document.at));
    buf_append_text(out, WIRE_HEALTH_END);
}
