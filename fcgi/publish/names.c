#include "names.h"

#include "topic.h"

bool names_is_channel(struct slice name) {
    return topic_is_valid(name) && memchr(name.at, ',', name.length) == NULL;
}

bool names_is_user(struct slice name) {
    return topic_is_valid(name);
}

bool names_is_number(struct slice name) {
    bool is_negative = name.length > 0 && name.at[0] == '-';
    struct slice digits = {name.at + is_negative, name.length - is_negative};
    if (digits.length == 0 || digits.length > TOPIC_BYTES_MAX) {
        return false;
    }
    for (size_t i = 0; i < digits.length; i++) {
        if (digits.at[i] < '0' || digits.at[i] > '9') {
            return false;
        }
    }
    return digits.at[0] != '0' || (digits.length == 1 && !is_negative);
}
