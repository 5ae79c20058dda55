#include "address.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

bool address_parse(struct address *address, const char *url) {
    static const char scheme[] = "http://";
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    char name[sizeof(address->host)];
    size_t length;
    char *colon;

    if (strncmp(url, scheme, sizeof(scheme) - 1) != 0) {
        return false;
    }
    url += sizeof(scheme) - 1;
    length = strcspn(url, "/");
    if (length == 0 || length >= sizeof(name)) {
        return false;
    }
    memcpy(name, url, length);
    name[length] = '\0';
    snprintf(address->host, sizeof(address->host), "%s", name);

    colon = strrchr(name, ':');
    if (colon != NULL) {
        *colon = '\0';
    }
    if (getaddrinfo(name, colon != NULL ? colon + 1 : "80", &hints, &found) != 0) {
        return false;
    }
    memcpy(&address->socket, found->ai_addr, found->ai_addrlen);
    address->socket_bytes = found->ai_addrlen;
    freeaddrinfo(found);
    return true;
}

int address_connect(const struct address *address) {
    int fd = socket(address->socket.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int yes = 1;
    int saved;

    if (fd < 0) {
        return -1;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
    if (connect(fd, (const struct sockaddr *)&address->socket, address->socket_bytes) == 0 ||
        errno == EINPROGRESS) {
        return fd;
    }
    saved = errno;
    close(fd);
    errno = saved;
    return -1;
}
