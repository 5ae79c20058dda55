#include "hash.h"

#include <endian.h>

static uint64_t key[2];

/* Before main, so that no table can exist without it. */
__attribute__((constructor)) static void draw_key(void) {
    random_bytes(key, sizeof key);
}

void hash_set_key(uint64_t first, uint64_t second) {
    key[0] = first;
    key[1] = second;
}

struct sip {
    uint64_t a, b, c, d;
};

static inline uint64_t rotated(uint64_t word, unsigned bits) {
    return word << bits | word >> (64 - bits);
}

static inline void round_of(struct sip *sip) {
    sip->a += sip->b;
    sip->b = rotated(sip->b, 13) ^ sip->a;
    sip->a = rotated(sip->a, 32);
    sip->c += sip->d;
    sip->d = rotated(sip->d, 16) ^ sip->c;
    sip->a += sip->d;
    sip->d = rotated(sip->d, 21) ^ sip->a;
    sip->c += sip->b;
    sip->b = rotated(sip->b, 17) ^ sip->c;
    sip->c = rotated(sip->c, 32);
}

static inline void take_word(struct sip *sip, uint64_t word) {
    sip->d ^= word;
    round_of(sip);
    sip->a ^= word;
}

static inline uint64_t word_at(const char *bytes) {
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
    return le64toh(word);
}

/* The last bytes, fewer than eight, and the length in the highest byte. */
static inline uint64_t last_word(const char *bytes, size_t length) {
    uint64_t word = (uint64_t)length << 56;
    for (size_t i = 0; i < length % 8; i++) {
        word |= (uint64_t)(unsigned char)bytes[i] << (8 * i);
    }
    return word;
}

uint32_t hash_of(const void *bytes, size_t length) {
    struct sip sip = {key[0] ^ 0x736f6d6570736575, key[1] ^ 0x646f72616e646f6d,
                      key[0] ^ 0x6c7967656e657261, key[1] ^ 0x7465646279746573};
    const char *at = bytes;
    for (size_t left = length; left >= 8; left -= 8, at += 8) {
        take_word(&sip, word_at(at));
    }
    take_word(&sip, last_word(at, length));
    sip.c ^= 0xff;
    for (int i = 0; i < 3; i++) {
        round_of(&sip);
    }
    uint64_t hash = sip.a ^ sip.b ^ sip.c ^ sip.d;
    return (uint32_t)(hash ^ hash >> 32);
}
