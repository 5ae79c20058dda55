#include "door.h"

#include "descriptors.h"
#include "log.h"
#include "sock.h"

#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

bool door_open_socket(const struct config *config, const char *name, int *fd,
                      char path[DOOR_PATH_BYTES], char *reason, size_t reason_bytes) {
    const char *why;
    int length = snprintf(path, DOOR_PATH_BYTES, "%s/%s", config->socket_dir, name);
    if (length > SOCK_PATH_MAX) {
        snprintf(reason, reason_bytes,
                 "socket_dir: a socket's path ends at %d bytes, this one has %d: %s", SOCK_PATH_MAX,
                 length, path);
        return false;
    }
    *fd = sock_listen(path, (mode_t)config->socket_mode, &why);
    if (*fd < 0) {
        snprintf(reason, reason_bytes, "%s: %s", path, why);
    }
    return *fd >= 0;
}

static bool user_add(struct door *door, const char *name) {
    const struct passwd *entry = getpwnam(name);
    if (entry == NULL || door->user_count == DOOR_USERS_MAX) {
        return false;
    }
    door->users[door->user_count++] = entry->pw_uid;
    return true;
}

static bool users_resolve(struct door *door, const char *list, char *reason, size_t reason_bytes) {
    door->users[door->user_count++] = 0;
    door->users[door->user_count++] = geteuid();
    char *copy = must_strdup(list, strlen(list));
    char *rest = copy;
    char *name;
    bool is_known = true;
    while (is_known && (name = strsep(&rest, ", ")) != NULL) {
        is_known = name[0] == '\0' || user_add(door, name);
        if (!is_known) {
            snprintf(reason, reason_bytes, "handler_users: no user '%.64s', or too many", name);
        }
    }
    free(copy);
    return is_known;
}

static bool is_welcome(const struct door *door, uid_t uid) {
    for (size_t i = 0; i < door->user_count; i++) {
        if (door->users[i] == uid) {
            return true;
        }
    }
    return false;
}

static void on_connection(void *owner, int fd) {
    struct door *door = owner;
    static struct log_limit limit;
    uid_t uid;
    pid_t pid;
    if (!sock_peer(fd, &uid, &pid) || !is_welcome(door, uid)) {
        log_limited(&limit, LOG_LEVEL_WARNING,
                    "a process of user %d may not connect: not in handler_users", (int)uid);
        close(fd);
        return;
    }
    if (fd >= descriptors_reserved_from()) {
        log_limited(&limit, LOG_LEVEL_WARNING,
                    "a handler is refused: too many descriptors are open (ulimit -Hn)");
        close(fd);
        return;
    }
    handler_create(door->handlers, fd, pid);
}

bool door_open(struct door *door, struct handlers *handlers, char *reason, size_t reason_bytes) {
    *door = (struct door){.handlers = handlers};
    if (!users_resolve(door, handlers->config->handler_users, reason, reason_bytes) ||
        !door_open_socket(handlers->config, "broker.sock", &door->fd, door->path, reason,
                          reason_bytes)) {
        *door = (struct door){0};
        return false;
    }
    acceptor_start(&door->acceptor, handlers->loop, door->fd, door, on_connection);
    return true;
}

void door_close(struct door *door) {
    if (door->handlers != NULL) {
        acceptor_stop(&door->acceptor);
        close(door->fd);
        unlink(door->path);
        *door = (struct door){0};
    }
}
