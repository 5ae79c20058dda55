/* Whether the page that a POST comes from may post. A browser sends a POST of any page with the
 * user's credentials, and from the user's network. It names the page's site in Origin (RFC 6454),
 * and says in Sec-Fetch-Site whether that is another site. Clients that are no browsers send
 * neither.
 *
 * An origin is written scheme "://" host [":" port], in lower case, without the scheme's usual
 * port. */
#pragma once

#include "request.h"

enum { ORIGIN_LIST_MAX = 64 };

struct origin_network {
    unsigned char address[16]; /* IPv4 as ::ffff:a.b.c.d */
    unsigned bits;             /* how many leading bits are compared */
};

struct origin_rules {
    char *allowed[ORIGIN_LIST_MAX]; /* owned; cors_origins */
    size_t allowed_count;
    struct origin_network proxies[ORIGIN_LIST_MAX]; /* trusted_proxies */
    size_t proxy_count;
};

/* Both texts are lists with commas or spaces between. False: *reason says which word is wrong (good
 * until the next call), and there is nothing to release. */
bool origin_rules_parse(struct origin_rules *rules, const char *allowed, const char *proxies,
                        const char **reason) must_check;
void origin_rules_release(struct origin_rules *rules);

/* True if the page that sent this may post. If not, *reason names both sites (good until the next
 * call). The host's own site is the one that the client sees: X-Forwarded-Proto, X-Forwarded-Host
 * and X-Forwarded-Port of a trusted proxy (of a list the first entry, which is the outermost
 * proxy's) win over what the web server says. */
bool origin_is_permitted(const struct origin_rules *rules, const struct parameters *parameters,
                         const char **reason) must_check;
