/* The real parts: brokers and stream handlers. Each in a file of its own, because the rooms have
 * headers of the same names. */
#pragma once

#include "config.h"
#include "loop.h"

struct broker;
struct stream;

struct broker *real_broker_create(struct loop *loop, const struct config *config) must_check;
void real_broker_destroy(struct broker **broker);
void real_broker_adopt(struct broker *broker, int fd); /* a handler's connection */

/* A count of all notifications, by one that hears every one: their order. set_of: a broker that is
 * there. */
void real_order_begin(const struct broker *set_of);
void real_order_release(void);
/* marker: NULL: it is none. */
void real_order_count(const char *marker, int sender_pid);
/* 0: it is not known. */
uint64_t real_order_place(const char *id);

/* Topics of the same number share a slot of floors. */
unsigned real_topic_slot(const char *name);

/* The topics API has no way to name patterns: a path with the topic "any-" and names is taken for
 * these names. '_' stands between them, and '-' for '*'. */
void real_stream_prepare(int listen_fd); /* libfcgi, once in the process */
struct stream *real_stream_create(struct loop *loop, const struct config *config,
                                  int listen_fd) must_check;
void real_stream_destroy(struct stream **stream);
void real_stream_drain(struct stream *stream);
bool real_stream_is_empty(const struct stream *stream);
