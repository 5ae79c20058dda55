#include "json.h"

#include "decimal.h"
#include "utf8.h"

struct scan {
    struct slice text;
    size_t at;
    const char *message; /* set at the first mistake */
};

/* --- bytes ------------------------------------------------------------------------------- */

/* The next byte, or -1 at the end. */
static int peek(const struct scan *scan) {
    return scan->at < scan->text.length ? (unsigned char)scan->text.at[scan->at] : -1;
}

static bool fail(struct scan *scan, const char *message) {
    if (scan->message == NULL) {
        scan->message = message;
    }
    return false;
}

static bool is_space(int c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_digit(int c) {
    return c >= '0' && c <= '9';
}

static void skip_space(struct scan *scan) {
    while (is_space(peek(scan))) {
        scan->at++;
    }
}

/* --- scalars ----------------------------------------------------------------------------- */

static bool scan_word(struct scan *scan, const char *word) {
    size_t length = strlen(word);
    if (scan->text.length - scan->at < length ||
        memcmp(scan->text.at + scan->at, word, length) != 0) {
        return fail(scan, "not a JSON value");
    }
    scan->at += length;
    return true;
}

static bool scan_digits(struct scan *scan) {
    if (!is_digit(peek(scan))) {
        return fail(scan, "a digit is missing in a number");
    }
    while (is_digit(peek(scan))) {
        scan->at++;
    }
    return true;
}

static bool scan_number(struct scan *scan) {
    if (peek(scan) == '-') {
        scan->at++;
    }
    if (peek(scan) == '0') {
        scan->at++;
        if (is_digit(peek(scan))) {
            return fail(scan, "a number starts with a needless zero");
        }
    } else if (!scan_digits(scan)) {
        return false;
    }
    if (peek(scan) == '.') {
        scan->at++;
        if (!scan_digits(scan)) {
            return false;
        }
    }
    if (peek(scan) == 'e' || peek(scan) == 'E') {
        scan->at++;
        if (peek(scan) == '+' || peek(scan) == '-') {
            scan->at++;
        }
        return scan_digits(scan);
    }
    return true;
}

static bool scan_escape(struct scan *scan) {
    int c = peek(scan);
    if (c != 'u') {
        if (c <= 0 || strchr("\"\\/bfnrt", c) == NULL) {
            return fail(scan, "an unknown escape in a string");
        }
        scan->at++;
        return true;
    }
    scan->at++;
    for (int i = 0; i < 4; i++) {
        if (hex_digit(peek(scan)) < 0) {
            return fail(scan, "\\u without four hexadecimal digits");
        }
        scan->at++;
    }
    return true;
}

static bool scan_string(struct scan *scan) {
    scan->at++; /* the opening quote */
    for (;;) {
        int c = peek(scan);
        if (c < 0) {
            return fail(scan, "a string does not end");
        }
        if (c < 0x20) {
            return fail(scan, "a raw control character in a string");
        }
        scan->at++;
        if (c == '"') {
            return true;
        }
        if (c == '\\' && !scan_escape(scan)) {
            return false;
        }
    }
}

static bool scan_scalar(struct scan *scan) {
    int c = peek(scan);
    switch (c) {
    case '"':
        return scan_string(scan);
    case 't':
        return scan_word(scan, "true");
    case 'f':
        return scan_word(scan, "false");
    case 'n':
        return scan_word(scan, "null");
    default:
        if (c == '-' || is_digit(c)) {
            return scan_number(scan);
        }
        return fail(scan, c < 0 ? "a value is missing" : "not a JSON value");
    }
}

/* --- containers: one loop, a stack of open ones ------------------------------------------ */

static bool scan_key(struct scan *scan) {
    skip_space(scan);
    if (peek(scan) != '"') {
        return fail(scan, "a member's name is missing");
    }
    if (!scan_string(scan)) {
        return false;
    }
    skip_space(scan);
    if (peek(scan) != ':') {
        return fail(scan, "':' is missing behind a member's name");
    }
    scan->at++;
    return true;
}

/* After a value: closes the arrays and objects that end here, up to a ',' before the next value. If
 * none is open any more, the document is complete. */
static bool scan_after_value(struct scan *scan, const char *closers, size_t *depth) {
    while (*depth > 0) {
        skip_space(scan);
        int c = peek(scan);
        if (c == ',') {
            scan->at++;
            return closers[*depth - 1] == ']' || scan_key(scan);
        }
        if (c != closers[*depth - 1]) {
            return fail(scan, c < 0 ? "an array or object does not end"
                                    : "',' or the end of an array or object is missing");
        }
        scan->at++;
        (*depth)--;
    }
    return true;
}

/* At '[' or '{': opens an array or object. If it is empty, it is closed, too, and *is_empty is
 * true. */
static bool scan_open(struct scan *scan, char *closers, size_t *depth, bool *is_empty) {
    char closer = peek(scan) == '{' ? '}' : ']';
    if (*depth == JSON_DEPTH_MAX) {
        return fail(scan, "nested deeper than 128 levels");
    }
    scan->at++;
    skip_space(scan);
    *is_empty = peek(scan) == closer;
    if (*is_empty) {
        scan->at++;
        return true;
    }
    closers[(*depth)++] = closer;
    return closer == ']' || scan_key(scan);
}

static bool scan_value(struct scan *scan) {
    char closers[JSON_DEPTH_MAX];
    size_t depth = 0;
    do {
        skip_space(scan);
        int c = peek(scan);
        if (c == '[' || c == '{') {
            bool is_empty;
            if (!scan_open(scan, closers, &depth, &is_empty)) {
                return false;
            }
            if (!is_empty) {
                continue;
            }
        } else if (!scan_scalar(scan)) {
            return false;
        }
        if (!scan_after_value(scan, closers, &depth)) {
            return false;
        }
    } while (depth > 0);
    return true;
}

static enum json_type type_of(char first) {
    switch (first) {
    case '{':
        return JSON_OBJECT;
    case '[':
        return JSON_ARRAY;
    case '"':
        return JSON_STRING;
    case 't':
    case 'f':
        return JSON_BOOL;
    case 'n':
        return JSON_NULL;
    default:
        return JSON_NUMBER;
    }
}

static struct json_value value_between(struct slice text, size_t from, size_t to) {
    return (struct json_value){type_of(text.at[from]), {text.at + from, to - from}};
}

bool json_parse(struct slice text, struct json_value *value, struct json_error *error) {
    struct scan scan = {.text = text};
    skip_space(&scan);
    size_t start = scan.at;
    bool is_value = scan_value(&scan);
    size_t end = scan.at;
    if (is_value) {
        skip_space(&scan);
        if (scan.at < text.length) {
            fail(&scan, "there is something after the document");
        } else if (!utf8_is_valid(text)) {
            scan.at = 0;
            fail(&scan, "not valid UTF-8");
        }
    }
    if (scan.message != NULL) {
        *error = (struct json_error){scan.message, scan.at};
        return false;
    }
    *value = value_between(text, start, end);
    return true;
}

/* --- reading what is known to be valid --------------------------------------------------- */

/* Moves to the next member or element. False if the bracket follows that ends them. */
static bool to_next(struct scan *scan, char end) {
    scan->at += scan->at == 0 ? 1 : 0; /* the bracket that begins them */
    skip_space(scan);
    if (peek(scan) == ',') {
        scan->at++;
        skip_space(scan);
    }
    return peek(scan) != end;
}

bool json_next_element(struct json_elements *elements, struct json_value *value) {
    struct scan scan = {.text = elements->array, .at = elements->offset};
    if (!to_next(&scan, ']')) {
        return false;
    }
    size_t start = scan.at;
    check(scan_value(&scan));
    *value = value_between(scan.text, start, scan.at);
    elements->offset = scan.at;
    return true;
}

bool json_next_member(struct json_members *members, struct json_value *key,
                      struct json_value *value) {
    struct scan scan = {.text = members->object, .at = members->offset};
    if (!to_next(&scan, '}')) {
        return false;
    }
    size_t key_start = scan.at;
    check(scan_string(&scan));
    *key = value_between(scan.text, key_start, scan.at);
    skip_space(&scan);
    scan.at++; /* the colon */
    skip_space(&scan);
    size_t value_start = scan.at;
    check(scan_value(&scan));
    *value = value_between(scan.text, value_start, scan.at);
    members->offset = scan.at;
    return true;
}

static uint32_t decode_hex4(const char *at) {
    uint32_t value = 0;
    for (int i = 0; i < 4; i++) {
        value = value << 4 | (uint32_t)hex_digit((unsigned char)at[i]);
    }
    return value;
}

static bool is_surrogate(uint32_t unit, uint32_t first) {
    return unit >= first && unit < first + 0x400;
}

/* text starts after "\u". Appends the character and returns how many bytes of text were used. */
static size_t decode_unicode_escape(struct slice text, struct buf *out) {
    enum { HIGH = 0xd800, LOW = 0xdc00, REPLACEMENT = 0xfffd };
    uint32_t unit = decode_hex4(text.at);
    size_t taken = 4;
    if (is_surrogate(unit, HIGH) && text.length >= 10 && text.at[4] == '\\' && text.at[5] == 'u' &&
        is_surrogate(decode_hex4(text.at + 6), LOW)) {
        unit = 0x10000 + ((unit - HIGH) << 10) + (decode_hex4(text.at + 6) - LOW);
        taken = 10;
    } else if (is_surrogate(unit, HIGH) || is_surrogate(unit, LOW)) {
        unit = REPLACEMENT;
    }
    char encoded[4];
    buf_append(out, encoded, utf8_encode(unit, encoded));
    return taken;
}

void json_string_decode(struct json_value string, struct buf *out) {
    static const char names[] = "\"\\/bfnrt";
    static const char means[] = "\"\\/\b\f\n\r\t";
    check(string.type == JSON_STRING);
    struct slice text = {string.text.at + 1, string.text.length - 2};
    for (size_t i = 0; i < text.length; i++) {
        if (text.at[i] != '\\') {
            buf_append(out, text.at + i, 1);
            continue;
        }
        i++;
        if (text.at[i] == 'u') {
            struct slice rest = {text.at + i + 1, text.length - i - 1};
            i += decode_unicode_escape(rest, out);
        } else {
            buf_append(out, &means[strchr(names, text.at[i]) - names], 1);
        }
    }
}

bool json_string_is(struct json_value string, const char *text) {
    struct slice inner = {string.text.at + 1, string.text.length - 2};
    if (memchr(inner.at, '\\', inner.length) == NULL) {
        return slice_is(inner, text);
    }
    struct buf decoded = {0};
    json_string_decode(string, &decoded);
    bool is_equal = slice_is(buf_slice(&decoded), text);
    buf_release(&decoded);
    return is_equal;
}

bool json_parse_unsigned(struct json_value number, uint64_t limit, uint64_t *result) {
    return number.type == JSON_NUMBER &&
           decimal_parse(number.text, DECIMAL_DIGITS_MAX, UINT64_MAX, result) && *result <= limit;
}

void json_compact(struct json_value value, struct buf *out) {
    struct slice text = value.text;
    char *to = buf_reserve(out, text.length);
    bool is_in_string = false;
    size_t kept = 0;
    for (size_t i = 0; i < text.length; i++) {
        char c = text.at[i];
        if (!is_in_string && is_space((unsigned char)c)) {
            continue;
        }
        to[kept++] = c;
        if (c == '"') {
            is_in_string = !is_in_string;
        } else if (c == '\\') {
            to[kept++] = text.at[++i]; /* only strings have one, and never as their last byte */
        }
    }
    out->length += kept;
}

void json_quote(struct slice text, struct buf *out) {
    buf_append(out, "\"", 1);
    for (size_t i = 0; i < text.length; i++) {
        unsigned char c = (unsigned char)text.at[i];
        if (c == '"' || c == '\\') {
            buf_append(out, "\\", 1);
        }
        if (c < 0x20) {
            buf_printf(out, "\\u%04x", c);
        } else {
            buf_append(out, &text.at[i], 1);
        }
    }
    buf_append(out, "\"", 1);
}
