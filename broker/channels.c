#include "channels.h"

#include "schema.h"
#include "utf8.h"

#include <stdio.h>
#include <stdlib.h>

static int compare_channels(const void *a, const void *b) {
    const struct channel *left = a;
    const struct channel *right = b;
    return strcmp(left->name, right->name);
}

static struct channel *add(struct channels *channels, enum channel_kind kind, struct slice name) {
    struct channel *channel = &channels->list[channels->count++];
    check(name.length <= CHANNEL_BYTES_MAX);
    *channel = (struct channel){.kind = kind};
    memcpy(channel->name, name.at, name.length);
    return channel;
}

static void add_own(struct channels *channels, bool has_forge) {
    for (unsigned i = 0; i < TOPIC_CHANNELS; i++) {
        char name[TOPIC_CHANNEL_BYTES];
        topic_channel_at(i, name);
        (void)add(channels, CHANNEL_TOPICS, slice_of(name));
    }
    (void)add(channels, CHANNEL_MARKERS, slice_of(CHANNEL_OF_MARKERS));
    (void)add(channels, CHANNEL_HINTS, slice_of(SCHEMA_HINT_CHANNEL));
    (void)add(channels, has_forge ? CHANNEL_FORGE : CHANNEL_HINTS,
              slice_of(SCHEMA_OLD_HINT_CHANNEL));
}

/* --- the list of raw channels ----------------------------------------------------------------- */

/* An entry while it is read. Texts are appended without their quotes. */
struct entry {
    struct slice text; /* all of it, for complaints */
    struct buf name;
    struct buf topic; /* empty: none was given */
    bool has_topic;
};

static void trim(struct slice *text) {
    *text = slice_trim(*text, " \t");
}

static bool begins(struct slice text, const char *start) {
    return slice_begins_with(text, slice_of(start));
}

static void skip(struct slice *text, size_t length) {
    text->at += length;
    text->length -= length;
}

/* Takes a text in double quotes. False if its end is missing. */
static bool take_quoted(struct slice *text, struct buf *out) {
    skip(text, 1);
    while (text->length > 0) {
        if (begins(*text, "\"\"")) {
            skip(text, 1);
        } else if (text->at[0] == '"') {
            skip(text, 1);
            return true;
        }
        buf_append(out, text->at, 1);
        skip(text, 1);
    }
    return false;
}

static bool is_identifier_byte(char c, bool is_first) {
    bool is_letter = (c >= 'a' && c <= 'z') || c == '_' || (unsigned char)c >= 0x80;
    return is_letter || (!is_first && ((c >= '0' && c <= '9') || c == '$'));
}

/* Takes an identifier, and folds it as Postgres does in a database whose encoding has several bytes
 * for a character. */
static void take_identifier(struct slice *text, struct buf *out) {
    while (text->length > 0) {
        char c = text->at[0];
        c = c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
        if (!is_identifier_byte(c, out->length == 0)) {
            return;
        }
        buf_append(out, &c, 1);
        skip(text, 1);
    }
}

/* The length of the entry at the beginning of the text: up to a comma that is not in quotes. */
static size_t entry_length(struct slice text) {
    bool is_quoted = false;
    size_t length = 0;
    while (length < text.length && (is_quoted || text.at[length] != ',')) {
        is_quoted = is_quoted != (text.at[length] == '"');
        length++;
    }
    return length;
}

/* The functions below return what is wrong with the entry, or NULL. */

static const char *read_topic(struct slice *text, struct buf *topic) {
    trim(text);
    if (begins(*text, "\"")) {
        return take_quoted(text, topic) ? NULL : "a quote is not closed";
    }
    if (text->length > 0 && memchr(text->at, '"', text->length) != NULL) {
        return "a topic with a double quote in it must be in double quotes";
    }
    buf_append_slice(topic, *text);
    skip(text, text->length);
    return NULL;
}

static const char *read_name(struct slice *text, struct buf *name) {
    if (begins(*text, "\"")) {
        return take_quoted(text, name) ? NULL : "a quote is not closed";
    }
    take_identifier(text, name);
    return name->length > 0 ? NULL : "a channel that is no identifier must be in double quotes";
}

static const char *read_entry(struct entry *entry) {
    struct slice text = entry->text;
    const char *wrong = read_name(&text, &entry->name);
    trim(&text);
    if (wrong == NULL && begins(text, "->")) {
        skip(&text, 2);
        entry->has_topic = true;
        wrong = read_topic(&text, &entry->topic);
        trim(&text);
    }
    if (wrong == NULL && text.length > 0) {
        wrong = entry->has_topic ? "there is something after the topic"
                                 : "after the channel only \"-> topic\" may follow; a channel that "
                                   "is no identifier must be in double quotes";
    }
    return wrong;
}

static struct slice topic_of(const struct entry *entry) {
    return buf_slice(entry->has_topic ? &entry->topic : &entry->name);
}

static const char *judge_entry(const struct entry *entry) {
    struct slice name = buf_slice(&entry->name);
    if (name.length == 0) {
        return "the channel has no name";
    }
    if (name.length > CHANNEL_BYTES_MAX) {
        return "the channel's name has more than 63 bytes";
    }
    if (!utf8_is_valid(name)) {
        return "the channel's name is not UTF-8";
    }
    if (!topic_is_valid(topic_of(entry)) || topic_is_pattern(topic_of(entry))) {
        return "the topic must be 1 to 255 bytes of UTF-8 without control characters, and must not "
               "end in *";
    }
    return NULL;
}

static bool is_known(const struct channels *channels, struct slice name, enum channel_kind *kind) {
    for (size_t i = 0; i < channels->count; i++) {
        if (slice_is(name, channels->list[i].name)) {
            *kind = channels->list[i].kind;
            return true;
        }
    }
    return false;
}

static const char *add_entry(struct channels *channels, const struct entry *entry) {
    struct slice name = buf_slice(&entry->name);
    enum channel_kind kind;
    if (is_known(channels, name, &kind)) {
        return kind == CHANNEL_RAW ? "the channel is there twice"
                                   : "this channel is pgsse's own and cannot be mapped";
    }
    struct channel *channel = add(channels, CHANNEL_RAW, name);
    struct topic_key topic = topic_key_make(channel->room, (struct slice){0}, topic_of(entry));
    channel->topic_length = topic.bytes.length;
    return NULL;
}

static const char *parse_entry(struct channels *channels, struct slice text) {
    struct entry entry = {.text = text};
    const char *wrong = text.length == 0 ? "there is an empty entry" : read_entry(&entry);
    wrong = wrong != NULL ? wrong : judge_entry(&entry);
    wrong = wrong != NULL ? wrong : add_entry(channels, &entry);
    buf_release(&entry.name);
    buf_release(&entry.topic);
    return wrong;
}

static size_t count_entries(struct slice text) {
    size_t count = 0;
    for (;;) {
        size_t length = entry_length(text);
        count++;
        if (length == text.length) {
            return count;
        }
        skip(&text, length + 1);
    }
}

/* False: *wrong is wrong with *entry. */
static bool parse_entries(struct channels *channels, struct slice text, struct slice *entry,
                          const char **wrong) {
    for (bool has_more = text.length > 0; has_more;) {
        size_t length = entry_length(text);
        *entry = (struct slice){text.at, length};
        has_more = length < text.length;
        skip(&text, length + (has_more ? 1 : 0));
        trim(entry);
        *wrong = parse_entry(channels, *entry);
        if (*wrong != NULL) {
            return false;
        }
    }
    return true;
}

bool channels_parse(struct channels *channels, const char *raw, bool has_forge, char *reason) {
    struct slice text = slice_of(raw);
    struct slice entry = {0};
    const char *wrong = NULL;
    trim(&text);
    size_t count = text.length == 0 ? 0 : count_entries(text);
    if (count > CHANNELS_RAW_MAX) {
        snprintf(reason, CHANNELS_REASON_BYTES, "there are more than %d channels",
                 CHANNELS_RAW_MAX);
        return false;
    }
    struct channels parsed = {0};
    parsed.list = must_zalloc((CHANNELS_OWN + count) * sizeof *parsed.list);
    add_own(&parsed, has_forge);
    if (!parse_entries(&parsed, text, &entry, &wrong)) {
        snprintf(reason, CHANNELS_REASON_BYTES, "'%.*s': %s",
                 (int)(entry.length < 200 ? entry.length : 200), entry.at, wrong);
        channels_release(&parsed);
        return false;
    }
    qsort(parsed.list, parsed.count, sizeof *parsed.list, compare_channels);
    channels_release(channels);
    *channels = parsed;
    return true;
}

void channels_release(struct channels *channels) {
    free(channels->list);
    *channels = (struct channels){0};
}

/* --- a set ------------------------------------------------------------------------------------ */

const struct channel *channels_find(const struct channels *channels, const char *name) {
    size_t low = 0;
    size_t high = channels->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(name, channels->list[middle].name);
        if (order == 0) {
            return &channels->list[middle];
        }
        low = order > 0 ? middle + 1 : low;
        high = order > 0 ? high : middle;
    }
    return NULL;
}

struct topic_key channel_topic(const struct channel *channel) {
    return (struct topic_key){{channel->room, channel->topic_length}};
}

bool channels_are_equal(const struct channels *a, const struct channels *b) {
    struct buf texts[2] = {{0}, {0}};
    channels_print_set(a, &texts[0]);
    channels_print_set(b, &texts[1]);
    bool are_equal = slice_equals(buf_slice(&texts[0]), buf_slice(&texts[1]));
    buf_release(&texts[0]);
    buf_release(&texts[1]);
    return are_equal;
}

static void print_quoted(const char *name, struct buf *out) {
    buf_append_text(out, "\"");
    for (const char *at = name; *at != '\0'; at++) {
        buf_append(out, at, 1);
        buf_append(out, at, *at == '"' ? 1 : 0);
    }
    buf_append_text(out, "\"");
}

void channels_print_listen(const struct channels *channels, struct buf *out) {
    for (size_t i = 0; i < channels->count; i++) {
        const struct channel *channel = &channels->list[i];
        buf_append_text(out, "LISTEN ");
        if (channel->kind == CHANNEL_RAW) {
            print_quoted(channel->name, out);
        } else {
            buf_append_text(out, channel->name);
        }
        buf_append_text(out, "; ");
    }
}

void channels_print_names(const struct channels *channels, struct buf *out) {
    for (size_t i = 0; i < channels->count; i++) {
        buf_printf(out, "%s%s", i == 0 ? "" : " ", channels->list[i].name);
    }
}

/* A raw channel's line has the lengths in it, since a name may hold any character. Sets without raw
 * channels are written as they were before there were any. */
void channels_print_set(const struct channels *channels, struct buf *out) {
    for (size_t i = 0; i < channels->count; i++) {
        const struct channel *channel = &channels->list[i];
        if (channel->kind == CHANNEL_RAW) {
            buf_printf(out, "raw %zu %zu ", strlen(channel->name), channel->topic_length);
            buf_append_slice(out, channel_topic(channel).bytes);
            buf_append_text(out, " ");
        }
        buf_append_text(out, channel->kind == CHANNEL_FORGE ? "events " : "");
        buf_printf(out, "%s\n", channel->name);
    }
}
