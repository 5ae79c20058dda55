#include "frames.h"

#include <string.h>
#include <strings.h>

static bool starts_with(const char *line, size_t length, const char *prefix, size_t prefix_bytes) {
    return length >= prefix_bytes && memcmp(line, prefix, prefix_bytes) == 0;
}

#define STARTS_WITH(line, length, text) starts_with(line, length, text, sizeof(text) - 1)

/* Digits at *at, which is moved behind them. */
static uint64_t take_number(const char **at, const char *end) {
    uint64_t number = 0;

    for (; *at < end && **at >= '0' && **at <= '9'; (*at)++) {
        number = number * 10 + (uint64_t)(**at - '0');
    }
    return number;
}

static void read_data(struct frames *frames, struct frames_tally *tally, const char *line,
                      size_t length) {
    const char *end = line + length;

    frames->has_data = true;
    if (frames->type != FRAMES_TYPE_MESSAGE) {
        return;
    }
    if (!STARTS_WITH(line, length, "data: {\"n\":")) {
        tally->foreign++;
        frames->has_data = false;
        return;
    }
    line += sizeof("data: {\"n\":") - 1;
    frames->number = take_number(&line, end);
    frames->stamp_ns = 0;
    if (STARTS_WITH(line, (size_t)(end - line), ",\"t\":")) {
        line += sizeof(",\"t\":") - 1;
        frames->stamp_ns = (int64_t)take_number(&line, end);
    }
}

static void read_type(struct frames *frames, struct frames_tally *tally, const char *line,
                      size_t length) {
    if (STARTS_WITH(line, length, "event: message")) {
        frames->type = FRAMES_TYPE_MESSAGE;
    } else if (STARTS_WITH(line, length, "event: position")) {
        frames->type = FRAMES_TYPE_POSITION;
    } else if (STARTS_WITH(line, length, "event: refresh")) {
        frames->type = FRAMES_TYPE_REFRESH;
    } else if (STARTS_WITH(line, length, "event: close")) {
        frames->type = FRAMES_TYPE_CLOSE;
    } else {
        tally->foreign++;
    }
}

static void read_position(struct frames_tally *tally, const char *line, size_t length) {
    static const char prefix[] = "id: ";
    size_t id_bytes;

    if (!STARTS_WITH(line, length, prefix) ||
        length - (sizeof(prefix) - 1) >= sizeof(tally->position)) {
        tally->foreign++;
        return;
    }
    id_bytes = length - (sizeof(prefix) - 1);
    memcpy(tally->position, line + sizeof(prefix) - 1, id_bytes);
    tally->position[id_bytes] = '\0';
}

static void count_greeting(struct frames *frames, struct frames_tally *tally) {
    if (!frames->is_greeted) {
        tally->greeted++;
    }
    frames->is_greeted = true;
}

static void read_line(struct frames *frames, struct frames_tally *tally, const char *line,
                      size_t length) {
    switch (line[0]) {
    case 'd':
        read_data(frames, tally, line, length);
        break;
    case 'e':
        read_type(frames, tally, line, length);
        break;
    case ':':
        tally->comments++;
        if (STARTS_WITH(line, length, ": listening") || STARTS_WITH(line, length, ": connected")) {
            count_greeting(frames, tally);
        }
        break;
    case 'i':
        if (frames->type == FRAMES_TYPE_POSITION) { /* its event line comes first */
            read_position(tally, line, length);
        }
        break;
    case 'r':
        break;
    default:
        tally->foreign++;
    }
}

static void count_event(struct frames *frames, struct frames_tally *tally, int64_t now_ns) {
    tally->events++;
    if (frames->first_number == 0) {
        frames->first_number = frames->number;
        frames->last_number = frames->begins_late ? frames->number - 1 : 0;
    }
    if (frames->number > frames->last_number + 1) {
        tally->lost += frames->number - frames->last_number - 1;
    }
    if (frames->number <= frames->last_number) {
        tally->disordered++;
        return;
    }
    if (frames->last_number < tally->target && frames->number >= tally->target) {
        tally->at_target++;
    }
    frames->last_number = frames->number;
    if (frames->stamp_ns != 0 && tally->delays_us != NULL) {
        stats_add(tally->delays_us, (double)(now_ns - frames->stamp_ns) / 1000.0);
    }
}

static void end_block(struct frames *frames, struct frames_tally *tally, int64_t now_ns) {
    if (!frames->has_data) {
        return;
    }
    switch (frames->type) {
    case FRAMES_TYPE_MESSAGE:
        count_event(frames, tally, now_ns);
        break;
    case FRAMES_TYPE_POSITION:
        break;
    case FRAMES_TYPE_REFRESH:
        tally->refreshes++;
        break;
    case FRAMES_TYPE_CLOSE:
        tally->closes++;
        break;
    }
    frames->has_data = false;
    frames->type = FRAMES_TYPE_MESSAGE;
}

static void keep_line(struct frames *frames, const char *bytes, size_t length) {
    size_t room = sizeof(frames->line) - frames->line_bytes;

    if (length > room) {
        length = room;
    }
    memcpy(frames->line + frames->line_bytes, bytes, length);
    frames->line_bytes += (uint32_t)length;
}

/* The next line, without its end; *line may lie in `bytes` or in `frames`, and is good until the
 * next call. Returns the number of bytes used; *line is NULL when they do not end one. */
static size_t take_line(struct frames *frames, const char *bytes, size_t length, const char **line,
                        size_t *line_bytes) {
    const char *end = memchr(bytes, '\n', length);
    size_t used = end != NULL ? (size_t)(end - bytes) : length;

    *line = NULL;
    if (end == NULL) {
        keep_line(frames, bytes, used);
        return length;
    }
    *line = bytes;
    *line_bytes = used;
    if (frames->line_bytes > 0) {
        keep_line(frames, bytes, used);
        *line = frames->line;
        *line_bytes = frames->line_bytes;
        frames->line_bytes = 0;
    }
    return used + 1;
}

static void feed_text(struct frames *frames, struct frames_tally *tally, const char *bytes,
                      size_t length, int64_t now_ns) {
    const char *end = bytes + length;

    while (bytes < end) {
        const char *line;
        size_t line_bytes = 0;

        bytes += take_line(frames, bytes, (size_t)(end - bytes), &line, &line_bytes);
        if (line == NULL) {
            break;
        }
        if (line_bytes == 0) {
            end_block(frames, tally, now_ns);
        } else {
            read_line(frames, tally, line, line_bytes);
        }
    }
}

struct decoding {
    struct frames *frames;
    struct frames_tally *tally;
    int64_t now_ns;
};

static void take_decoded(void *owner, const char *bytes, size_t length) {
    struct decoding *decoding = owner;

    if (decoding->frames->record != NULL) {
        buf_append(decoding->frames->record, bytes, length);
    }
    feed_text(decoding->frames, decoding->tally, bytes, length, decoding->now_ns);
}

static void feed_body(struct frames *frames, struct frames_tally *tally, const char *bytes,
                      size_t length, int64_t now_ns) {
    struct decoding decoding = {frames, tally, now_ns};

    tally->body_bytes += length;
    if (frames->unzip == NULL) {
        take_decoded(&decoding, bytes, length);
    } else if (!unzip_feed(frames->unzip, bytes, length, take_decoded, &decoding)) {
        tally->foreign++;
    }
}

static void read_status(struct frames *frames, struct frames_tally *tally, const char *line,
                        size_t length) {
    frames->state = FRAMES_HEADER;
    if (STARTS_WITH(line, length, "HTTP/1.1 200 ")) {
        return;
    }
    tally->foreign++;
    if (STARTS_WITH(line, length, "HTTP/1.1 ")) {
        const char *at = line + sizeof("HTTP/1.1 ") - 1;

        tally->last_status = (int)take_number(&at, line + length);
    }
}

static void read_header(struct frames *frames, const char *line, size_t length) {
    static const char chunked[] = "transfer-encoding: chunked";

    if (length == 0 || line[0] == '\r') {
        frames->state = frames->is_chunked ? FRAMES_CHUNK_SIZE : FRAMES_PLAIN;
    } else if (length >= sizeof(chunked) - 1 &&
               strncasecmp(line, chunked, sizeof(chunked) - 1) == 0) {
        frames->is_chunked = true;
    }
}

static size_t feed_head(struct frames *frames, struct frames_tally *tally, const char *bytes,
                        size_t length) {
    const char *line;
    size_t line_bytes = 0;
    size_t used = take_line(frames, bytes, length, &line, &line_bytes);

    if (line == NULL) {
        return used;
    }
    if (frames->state == FRAMES_STATUS) {
        read_status(frames, tally, line, line_bytes);
    } else {
        read_header(frames, line, line_bytes);
    }
    return used;
}

static void end_chunk_size(struct frames *frames) {
    frames->state = frames->chunk_left > 0 ? FRAMES_CHUNK : FRAMES_DONE;
}

static void feed_chunk_size(struct frames *frames, struct frames_tally *tally, char byte) {
    if (byte >= '0' && byte <= '9') {
        frames->chunk_left = frames->chunk_left * 16 + (uint32_t)(byte - '0');
    } else if (byte >= 'a' && byte <= 'f') {
        frames->chunk_left = frames->chunk_left * 16 + (uint32_t)(byte - 'a') + 10;
    } else if (byte >= 'A' && byte <= 'F') {
        frames->chunk_left = frames->chunk_left * 16 + (uint32_t)(byte - 'A') + 10;
    } else if (byte == '\n') {
        end_chunk_size(frames);
    } else if (byte == '\r' || byte == ';') {
        frames->state = FRAMES_CHUNK_EXTENSION;
    } else {
        tally->foreign++;
    }
}

/* Takes one step, and returns how many bytes it used: at least one. */
static size_t feed_some(struct frames *frames, struct frames_tally *tally, const char *bytes,
                        size_t length, int64_t now_ns) {
    switch (frames->state) {
    case FRAMES_STATUS:
    case FRAMES_HEADER:
        return feed_head(frames, tally, bytes, length);
    case FRAMES_CHUNK_SIZE:
        feed_chunk_size(frames, tally, *bytes);
        return 1;
    case FRAMES_CHUNK_EXTENSION:
        if (*bytes == '\n') {
            end_chunk_size(frames);
        }
        return 1;
    case FRAMES_CHUNK:
        if (length > frames->chunk_left) {
            length = frames->chunk_left;
        }
        feed_body(frames, tally, bytes, length, now_ns);
        frames->chunk_left -= (uint32_t)length;
        if (frames->chunk_left == 0) {
            frames->state = FRAMES_CHUNK_END;
        }
        return length;
    case FRAMES_CHUNK_END:
        if (*bytes == '\n') {
            frames->state = FRAMES_CHUNK_SIZE;
        }
        return 1;
    case FRAMES_PLAIN:
        feed_body(frames, tally, bytes, length, now_ns);
        return length;
    case FRAMES_DONE:
        return length;
    }
    return length;
}

void frames_feed(struct frames *frames, struct frames_tally *tally, const char *bytes,
                 size_t length, int64_t now_ns) {
    while (length > 0) {
        size_t used = feed_some(frames, tally, bytes, length, now_ns);

        bytes += used;
        length -= used;
    }
}
