#include "utf8.h"

/* The length of the UTF-8 sequence that starts at text, or 0 if it is not valid; *code_point is its
 * character. */
static size_t decode(const unsigned char *text, size_t left, uint32_t *code_point) {
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned char first = text[0];
    if (first < 0x80) {
        *code_point = first;
        return 1;
    }
    size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (first < 0xc2 || first > 0xf4 || length > left) {
        return 0;
    }
    uint32_t value = first & (0x7fu >> length);
    for (size_t i = 1; i < length; i++) {
        if ((text[i] & 0xc0) != 0x80) {
            return 0;
        }
        value = value << 6 | (text[i] & 0x3fu);
    }
    bool is_surrogate = value >= 0xd800 && value <= 0xdfff;
    *code_point = value;
    return value < least[length] || value > 0x10ffff || is_surrogate ? 0 : length;
}

bool utf8_is_valid(struct slice text) {
    uint32_t code_point;
    for (size_t i = 0; i < text.length;) {
        size_t length = decode((const unsigned char *)text.at + i, text.length - i, &code_point);
        if (length == 0) {
            return false;
        }
        i += length;
    }
    return true;
}

bool utf8_is_printable(struct slice text) {
    uint32_t code_point;
    for (size_t i = 0; i < text.length;) {
        size_t length = decode((const unsigned char *)text.at + i, text.length - i, &code_point);
        if (length == 0 || code_point < 0x20 || (code_point >= 0x7f && code_point < 0xa0)) {
            return false;
        }
        i += length;
    }
    return true;
}

size_t utf8_encode(uint32_t code_point, char *out) {
    check(code_point <= 0x10ffff);
    if (code_point < 0x80) {
        out[0] = (char)code_point;
        return 1;
    }
    size_t length = code_point < 0x800 ? 2 : code_point < 0x10000 ? 3 : 4;
    for (size_t i = length - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (code_point & 0x3f));
        code_point >>= 6;
    }
    out[0] = (char)((0xf0u << (4 - length)) | code_point);
    return length;
}

void utf8_repair(struct slice text, struct buf *out) {
    uint32_t code_point;
    for (size_t i = 0; i < text.length;) {
        size_t length = decode((const unsigned char *)text.at + i, text.length - i, &code_point);
        if (length > 0) {
            buf_append(out, text.at + i, length);
            i += length;
        } else {
            buf_append_text(out, "\xef\xbf\xbd");
            i++;
        }
    }
}
