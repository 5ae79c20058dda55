#include "url.h"

static bool decode(struct slice text, char plus, char *decoded, size_t size, size_t *length) {
    *length = 0;
    for (size_t i = 0; i < text.length; i++) {
        char c = text.at[i] == '+' ? plus : text.at[i];
        if (c == '%') {
            int high = i + 2 < text.length ? hex_digit(text.at[i + 1]) : -1;
            int low = high < 0 ? -1 : hex_digit(text.at[i + 2]);
            if (low < 0) {
                return false;
            }
            c = (char)(high << 4 | low);
            i += 2;
        }
        if (*length == size) {
            return false;
        }
        decoded[(*length)++] = c;
    }
    return true;
}

bool url_decode(struct slice text, char *decoded, size_t size, size_t *length) {
    return decode(text, '+', decoded, size, length);
}

bool url_decode_value(struct slice text, char *decoded, size_t size, size_t *length) {
    return decode(text, ' ', decoded, size, length);
}

bool url_next_value(const char **query, const char *name, struct slice *value) {
    size_t name_length = strlen(name);
    while (**query != '\0') {
        const char *pair = *query;
        size_t length = strcspn(pair, "&");
        *query = pair + length + (pair[length] == '&' ? 1 : 0);
        if (length > name_length && pair[name_length] == '=' &&
            memcmp(pair, name, name_length) == 0) {
            *value = (struct slice){pair + name_length + 1, length - name_length - 1};
            return true;
        }
    }
    return false;
}

enum url_value url_query_value(const char *query, const char *name, char *decoded, size_t size,
                               size_t *length) {
    struct slice value;
    if (!url_next_value(&query, name, &value)) {
        return URL_VALUE_ABSENT;
    }
    return url_decode_value(value, decoded, size, length) ? URL_VALUE_FOUND : URL_VALUE_BROKEN;
}
