#include "url.h"

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool url_decode(struct slice text, char *decoded, size_t size, size_t *length) {
    *length = 0;
    for (size_t i = 0; i < text.length; i++) {
        char c = text.at[i];
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

enum url_value url_query_value(const char *query, const char *name, char *decoded, size_t size,
                               size_t *length) {
    size_t name_length = strlen(name);
    while (*query != '\0') {
        size_t pair = strcspn(query, "&");
        if (pair > name_length && query[name_length] == '=' &&
            memcmp(query, name, name_length) == 0) {
            struct slice value = {query + name_length + 1, pair - name_length - 1};
            return url_decode(value, decoded, size, length) ? URL_VALUE_FOUND : URL_VALUE_BROKEN;
        }
        query += pair + (query[pair] == '&' ? 1 : 0);
    }
    return URL_VALUE_ABSENT;
}
