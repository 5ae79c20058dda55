#include "real.h"

#include "stream.h"
#include "stream_query.h"

#include <unistd.h>

void __real_stream_query_of_topic(struct stream_query *wanted, struct slice name,
                                  const struct identity *identity);
void __wrap_stream_query_of_topic(struct stream_query *wanted, struct slice name,
                                  const struct identity *identity);

static void add_name(struct stream_query *wanted, const char *text, size_t length) {
    struct names *names = &wanted->topics;
    char name[TOPIC_PATH_BYTES_MAX];
    memcpy(name, text, length);
    if (length > 0 && name[length - 1] == '-') {
        name[length - 1] = '*';
    }
    struct topic_key key =
        topic_key_of_name(wanted->room[names->count], wanted->tenant, (struct slice){name, length});
    check(!topic_key_is_none(key) && !names_contain(names, key));
    names->keys[names->count++] = key;
}

void __wrap_stream_query_of_topic(struct stream_query *wanted, struct slice name,
                                  const struct identity *identity) {
    static const char sign[] = "any-";
    size_t at = sizeof sign - 1;
    __real_stream_query_of_topic(wanted, name, identity);
    if (name.length < at || memcmp(name.at, sign, at) != 0) {
        return;
    }
    wanted->topics.count = 0;
    while (at < name.length) {
        const char *end = memchr(name.at + at, '_', name.length - at);
        size_t length = end == NULL ? name.length - at : (size_t)(end - name.at) - at;
        add_name(wanted, name.at + at, length);
        at += length + 1;
    }
}

void real_stream_prepare(int listen_fd) {
    if (dup2(listen_fd, HANDOVER_LISTEN_FD) < 0 || !handover_init()) {
        die(3, "libfcgi does not start");
    }
}

struct stream *real_stream_create(struct loop *loop, const struct config *config, int listen_fd) {
    return stream_create(loop, config, listen_fd);
}

void real_stream_drain(struct stream *stream) {
    stream_drain(stream);
}

bool real_stream_is_empty(const struct stream *stream) {
    return stream->clients.count == 0;
}

void real_stream_destroy(struct stream **stream) {
    stream_destroy(stream);
}
