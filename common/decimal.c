#include "decimal.h"

bool decimal_parse(struct slice text, size_t digits_max, uint64_t max, uint64_t *value) {
    *value = 0;
    for (size_t i = 0; i < text.length; i++) {
        if (text.at[i] < '0' || text.at[i] > '9') {
            return false;
        }
        if (__builtin_mul_overflow(*value, 10, value) ||
            __builtin_add_overflow(*value, text.at[i] - '0', value) || *value > max) {
            *value = max; /* and with every further digit again */
        }
    }
    return text.length > 0 && text.length <= digits_max;
}
