#include "stream_form.h"

#include "json.h"

struct position stream_form_position(enum stream_form form, const struct position *position) {
    return form == STREAM_FORM_USER ? position_durable(position) : *position;
}

/* What a line of data holds: "data: x" and "data:" are what sse_event_body writes. */
static bool is_data(struct slice line, struct slice *content) {
    static const char field[] = "data:";
    size_t length = sizeof field - 1;
    if (!slice_begins_with(line, slice_of(field))) {
        return false;
    }
    length += line.length > length ? 1 : 0;
    *content = (struct slice){line.at + length, line.length - length};
    return true;
}

/* Appends the lines before the data, and collects the data, joined by newlines. */
static void take_apart(struct slice lines, struct buf *out, struct buf *data) {
    bool has_end;
    struct slice line = slice_take_until(&lines, '\n', &has_end);
    struct slice content;
    bool is_first = true;
    for (; has_end && line.length > 0; line = slice_take_until(&lines, '\n', &has_end)) {
        if (is_data(line, &content)) {
            buf_append(data, "\n", is_first ? 0 : 1);
            buf_append_slice(data, content);
            is_first = false;
        } else {
            buf_append_slice(out, line);
            buf_append(out, "\n", 1);
        }
    }
}

static void append_labelled(const struct wire_event *event, struct slice lines, struct buf *out) {
    struct buf data = {0};
    take_apart(lines, out, &data);
    buf_append_text(out, "data: {\"topic\":");
    json_quote(topic_key_name(event->topic), out);
    buf_append_text(out, ",\"data\":");
    if (event->is_text) {
        json_quote(buf_slice(&data), out);
    } else {
        buf_append_slice(out, buf_slice(&data));
    }
    buf_append_text(out, "}\n\n");
    buf_release(&data);
}

/* The id line goes in where sse_event_body left its place. */
void stream_form_event(enum stream_form form, const struct wire_event *event, struct buf *out) {
    struct position position = stream_form_position(form, &event->position);
    struct slice rest = {event->body.at + event->id_at, event->body.length - event->id_at};
    buf_append(out, event->body.at, event->id_at);
    sse_id(out, &position, event->publisher_id);
    if (form == STREAM_FORM_LABELLED) {
        append_labelled(event, rest, out);
    } else {
        buf_append_slice(out, rest);
    }
}
