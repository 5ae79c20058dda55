#pragma once

#include <stdbool.h>
#include <sys/socket.h>

/* Where the web server under test listens. */
struct address {
    struct sockaddr_storage socket;
    socklen_t socket_bytes;
    char host[128]; /* host:port, as the Host header wants it */
};

/* From http://host:port/; what follows the port is ignored. False: not of that form, or unknown. */
bool address_parse(struct address *address, const char *url);

/* A non-blocking socket whose connect was begun: writable when it is through. -1 with errno. */
int address_connect(const struct address *address);
