/* What a topic is known by, and what a subscription names. Pure.
 *
 * A topic has a tenant and a name. Topics of different tenants never meet, whatever their names.
 * The tenant "" is a tenant like the others. A topic's key is both in one string: the tenant, a
 * newline, the name. Neither has control characters, so two keys are the same bytes if and only if
 * both parts are the same. Tables and the wire know topics by their keys: a lookup or comparison
 * cannot forget the tenant. Names alone are for clients and for Postgres.
 *
 * A subscription may also name patterns. A pattern's key is a '*', the tenant, a newline, and the
 * pattern as it was written: "orders.*" of tenant t is "*t\norders.*". No topic's key begins with
 * '*'. So a pattern can stand wherever a topic can, and is never taken for one. */
#pragma once

#include "hash.h"
#include "topic.h"

enum {
    TOPIC_KEY_BYTES_MAX = 1 + TENANT_BYTES_MAX + 1 + TOPIC_BYTES_MAX,
};

struct topic_key {
    struct slice bytes; /* borrowed; length 0: none */
};
#define TOPIC_KEY_NONE ((struct topic_key){{"", 0}}) /* can be looked up, too */

/* Writes the key into room, which it points into. None if the tenant or the name is not valid. */
struct topic_key topic_key_make(char room[TOPIC_KEY_BYTES_MAX], struct slice tenant,
                                struct slice name) must_check;

/* The same for what a subscription names: the key of a pattern if the name ends in '*'. */
struct topic_key topic_key_of_name(char room[TOPIC_KEY_BYTES_MAX], struct slice tenant,
                                   struct slice name) must_check;

/* False if the bytes are no key, of a topic or a pattern. */
bool topic_key_parse(struct slice bytes, struct topic_key *key) must_check;

/* Point into the key, which is not none. */
struct slice topic_key_tenant(struct topic_key key) must_check;
struct slice topic_key_name(struct topic_key key) must_check;

static inline bool topic_key_is_none(struct topic_key key) {
    return key.bytes.length == 0;
}

static inline bool topic_key_is_pattern(struct topic_key key) {
    return key.bytes.length > 0 && key.bytes.at[0] == '*';
}

static inline bool topic_key_equals(struct topic_key a, struct topic_key b) {
    return slice_equals(a.bytes, b.bytes);
}

/* True if the name is that topic, or a pattern that matches it. */
bool topic_key_covers(struct topic_key name, struct topic_key topic) must_check;

/* Less than 0, 0, or more than 0, in the order of the bytes: a tenant's topics are neighbours. */
int topic_key_compare(struct topic_key a, struct topic_key b) must_check;

/* The one way to find and add what is known by a topic's key in a uthash table: item has
 * UT_hash_handle hh, and owns the key's bytes as long as it is in the table. */
#define TOPIC_KEY_FIND(table, key, item) \
    HASH_FIND(hh, table, (key).bytes.at, (key).bytes.length, item)
#define TOPIC_KEY_ADD(table, key, item) \
    HASH_ADD_KEYPTR(hh, table, (key).bytes.at, (key).bytes.length, item)
#define TOPIC_KEY_HASH(key, hash) HASH_VALUE((key).bytes.at, (key).bytes.length, hash)

/* --- names ------------------------------------------------------------------------------------ */

enum {
    NAMES_ASKED_MAX = 64,            /* that a client may ask for */
    NAMES_MAX = NAMES_ASKED_MAX + 2, /* the user's own topic, and TOPIC_BROADCAST */
};

/* What one subscription names: topics and patterns, each once, all of one tenant. */
struct names {
    size_t count;
    struct topic_key keys[NAMES_MAX];
};

bool names_contain(const struct names *names, struct topic_key key) must_check;

bool names_have_pattern(const struct names *names) must_check;

/* In the order of topic_key_compare. */
void names_sort(struct names *names);
