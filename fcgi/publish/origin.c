#include "origin.h"

#include "buf.h"
#include "decimal.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdlib.h>

/* --- origins ---------------------------------------------------------------------------------- */

/* The text as origin.h says that origins are written; "" if it is none. To be freed. */
static char *origin_normalise(const char *text) {
    static const struct {
        const char *scheme;
        const char *port;
    } schemes[] = {{"http://", ":80"}, {"https://", ":443"}};
    char *origin = must_strdup(text, strlen(text));
    for (char *at = origin; *at != '\0'; at++) {
        *at = (char)tolower((unsigned char)*at);
    }
    for (size_t i = 0; i < length_of(schemes); i++) {
        size_t scheme = strlen(schemes[i].scheme);
        size_t port = strlen(schemes[i].port);
        size_t length = strlen(origin);
        if (strncmp(origin, schemes[i].scheme, scheme) != 0) {
            continue;
        }
        if (length > scheme + port && strcmp(origin + length - port, schemes[i].port) == 0) {
            origin[length - port] = '\0';
        }
        if (origin[scheme] != '\0' && strpbrk(origin + scheme, "/?#@* ") == NULL) {
            return origin;
        }
    }
    origin[0] = '\0';
    return origin;
}

static bool is_allowed(const struct origin_rules *rules, const char *origin) {
    for (size_t i = 0; i < rules->allowed_count; i++) {
        if (strcmp(rules->allowed[i], origin) == 0) {
            return true;
        }
    }
    return false;
}

/* --- proxies ---------------------------------------------------------------------------------- */

enum { MAPPED_BITS = 96 }; /* of ::ffff:0:0, before an IPv4 address */

static bool address_parse(const char *text, struct origin_network *network) {
    static const unsigned char mapped[] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    network->bits = 8 * sizeof network->address;
    if (inet_pton(AF_INET6, text, network->address) == 1) {
        return true;
    }
    memcpy(network->address, mapped, sizeof mapped);
    return inet_pton(AF_INET, text, network->address + sizeof mapped) == 1;
}

/* An address, or one with "/" and the number of bits that matter. */
static bool network_parse(char *text, struct origin_network *network) {
    char *slash = strchr(text, '/');
    bool is_short = strchr(text, ':') == NULL;
    if (slash != NULL) {
        *slash = '\0';
    }
    if (!address_parse(text, network)) {
        return false;
    }
    if (slash == NULL) {
        return true;
    }
    uint64_t bits;
    if (!decimal_parse(slice_of(slash + 1), 3, UINT64_MAX, &bits)) {
        return false;
    }
    network->bits = (unsigned)bits + (is_short ? MAPPED_BITS : 0);
    return network->bits <= 8 * sizeof network->address;
}

static bool network_has(const struct origin_network *network,
                        const struct origin_network *address) {
    size_t bytes = network->bits / 8;
    unsigned rest = network->bits % 8;
    unsigned differences = 0;
    if (rest > 0) {
        differences = (unsigned)(network->address[bytes] ^ address->address[bytes]) >> (8 - rest);
    }
    return memcmp(network->address, address->address, bytes) == 0 && differences == 0;
}

static bool is_proxy(const struct origin_rules *rules, const char *text) {
    struct origin_network address;
    if (!address_parse(text, &address)) {
        return false;
    }
    for (size_t i = 0; i < rules->proxy_count; i++) {
        if (network_has(&rules->proxies[i], &address)) {
            return true;
        }
    }
    return false;
}

/* --- the rules -------------------------------------------------------------------------------- */

static bool allowed_add(struct origin_rules *rules, const char *word) {
    char *origin = origin_normalise(word);
    if (origin[0] == '\0' || rules->allowed_count == ORIGIN_LIST_MAX) {
        free(origin);
        return false;
    }
    rules->allowed[rules->allowed_count++] = origin;
    return true;
}

static bool proxy_add(struct origin_rules *rules, char *word) {
    if (rules->proxy_count == ORIGIN_LIST_MAX ||
        !network_parse(word, &rules->proxies[rules->proxy_count])) {
        return false;
    }
    rules->proxy_count++;
    return true;
}

static bool rules_parse(struct origin_rules *rules, const char *text, bool is_proxies,
                        const char **reason) {
    static char complaint[160];
    char *copy = must_strdup(text, strlen(text));
    char *rest = copy;
    char *word;
    bool is_good = true;
    while (is_good && (word = strsep(&rest, ", ")) != NULL) {
        snprintf(complaint, sizeof complaint, "\"%.64s\" is no %s, or there are more than %d", word,
                 is_proxies ? "address, with or without /bits" : "origin like https://example.org",
                 ORIGIN_LIST_MAX);
        is_good =
            word[0] == '\0' || (is_proxies ? proxy_add(rules, word) : allowed_add(rules, word));
    }
    free(copy);
    *reason = complaint;
    return is_good;
}

bool origin_rules_parse(struct origin_rules *rules, const char *allowed, const char *proxies,
                        const char **reason) {
    *rules = (struct origin_rules){0};
    if (rules_parse(rules, allowed, false, reason) && rules_parse(rules, proxies, true, reason)) {
        return true;
    }
    origin_rules_release(rules);
    return false;
}

void origin_rules_release(struct origin_rules *rules) {
    for (size_t i = 0; i < rules->allowed_count; i++) {
        free(rules->allowed[i]);
    }
    rules->allowed_count = 0;
}

/* --- one request ------------------------------------------------------------------------------ */

/* The first entry of a list. */
static struct slice first_of(const char *list) {
    list += strspn(list, " ");
    return (struct slice){list, strcspn(list, ", ")};
}

static struct slice forwarded(const struct parameters *parameters, bool is_trusted,
                              const char *name) {
    return is_trusted ? first_of(parameters->get(parameters->source, name)) : (struct slice){0};
}

static struct slice own_scheme(const struct parameters *parameters) {
    const char *scheme = parameters->get(parameters->source, "REQUEST_SCHEME");
    const char *https = parameters->get(parameters->source, "HTTPS");
    if (scheme[0] != '\0') {
        return slice_of(scheme);
    }
    return slice_of(strcmp(https, "on") == 0 || strcmp(https, "1") == 0 ? "https" : "http");
}

/* Of an IPv6 address only what stands after the brackets can be a port. */
static bool has_port(struct slice host) {
    for (size_t i = host.length; i > 0 && host.at[i - 1] != ']'; i--) {
        if (host.at[i - 1] == ':') {
            return true;
        }
    }
    return false;
}

/* The site that the client sees; "" if nobody says it. To be freed. */
static char *own_origin(const struct origin_rules *rules, const struct parameters *parameters) {
    const void *source = parameters->source;
    bool is_trusted = is_proxy(rules, parameters->get(source, "REMOTE_ADDR"));
    struct slice scheme = forwarded(parameters, is_trusted, "HTTP_X_FORWARDED_PROTO");
    struct slice host = forwarded(parameters, is_trusted, "HTTP_X_FORWARDED_HOST");
    struct slice port = forwarded(parameters, is_trusted, "HTTP_X_FORWARDED_PORT");
    struct buf text = {0};
    scheme = scheme.length > 0 ? scheme : own_scheme(parameters);
    host = host.length > 0 ? host : slice_of(parameters->get(source, "HTTP_HOST"));
    buf_printf(&text, "%.*s://%.*s", (int)scheme.length, scheme.at, (int)host.length, host.at);
    if (port.length > 0 && !has_port(host)) {
        buf_printf(&text, ":%.*s", (int)port.length, port.at);
    }
    buf_append(&text, "", 1);
    char *origin = origin_normalise(text.bytes);
    buf_release(&text);
    return origin;
}

/* If Sec-Fetch-Site says that it is another site, the names can be equal only by mistake. */
static bool is_permitted(const struct origin_rules *rules, const char *origin, const char *own,
                         bool is_cross_site) {
    char *page = origin_normalise(origin);
    bool is_own = origin[0] == '\0' || (page[0] != '\0' && strcmp(page, own) == 0);
    bool is_good = (is_own && !is_cross_site) || is_allowed(rules, page);
    free(page);
    return is_good;
}

bool origin_is_permitted(const struct origin_rules *rules, const struct parameters *parameters,
                         const char **reason) {
    static char complaint[400];
    const void *source = parameters->source;
    const char *origin = parameters->get(source, "HTTP_ORIGIN");
    bool is_cross_site = strcmp(parameters->get(source, "HTTP_SEC_FETCH_SITE"), "cross-site") == 0;
    if (origin[0] == '\0' && !is_cross_site) {
        return true;
    }
    char *own = own_origin(rules, parameters);
    bool is_good = is_permitted(rules, origin, own, is_cross_site);
    snprintf(complaint, sizeof complaint,
             "a page of %.120s may not post to %.120s: see cors_origins, and trusted_proxies if "
             "that is not where clients find this host",
             origin[0] == '\0' ? "another site" : origin, own[0] == '\0' ? "this host" : own);
    *reason = complaint;
    free(own);
    return is_good;
}
