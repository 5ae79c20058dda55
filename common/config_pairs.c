#include "config_pairs.h"

static bool is_min_above_max(const struct config *config) {
    return config->reconnect_min > config->reconnect_max;
}

static bool is_memory_below_interval(const struct config *config) {
    return config->marker_memory < config->canary_interval;
}

static bool is_one_health_path(const struct config *config) {
    return strcmp(config->healthz_path, config->health_path) == 0;
}

/* The stream of the events API would not be found. */
static bool is_stream_hidden_by_healthz(const struct config *config) {
    return strcmp(config->healthz_path, config->events_path) == 0;
}

static bool is_stream_hidden_by_health(const struct config *config) {
    return strcmp(config->health_path, config->events_path) == 0;
}

/* Each of the three has a path publish below it. */
static bool is_publish_of_events_and_streams(const struct config *config) {
    return strcmp(config->durable_path, config->events_path) == 0;
}

static bool is_publish_of_events_and_sse(const struct config *config) {
    return strcmp(config->durable_path, config->sse_path) == 0;
}

static bool is_publish_of_streams_and_sse(const struct config *config) {
    return strcmp(config->events_path, config->sse_path) == 0;
}

static bool is_mode_for_one_user(const struct config *config) {
    return config->handler_users[0] != '\0' && (config->socket_mode & 0022) == 0;
}

static bool is_handler_queue_below_client_queue(const struct config *config) {
    return config->handler_queue_bytes < config->client_queue_bytes;
}

static bool is_age_below_keep_alive(const struct config *config) {
    return config->max_stream_age > 0 && config->max_stream_age <= config->keep_alive;
}

static bool is_durable_body_below_body(const struct config *config) {
    return config->max_durable_body < config->max_body;
}

static bool is_pruned_before_poll(const struct config *config) {
    return config->retain_age > 0 && config->retain_age < config->table_poll;
}

#define TWO_ANSWERS "one path cannot have two answers"
#define TWO_PUBLISH "the path publish below it would have two meanings"

static bool is_control_without_events(const struct config *config) {
    return config->forge_control != 0 && config->forge_events == 0;
}

static const struct config_pair pairs[] = {
    {"reconnect_min", "reconnect_max", CONFIG_PAIR_CONTRADICTS, is_min_above_max,
     "the second attempt would come after the longest pause"},
    {"marker_memory", "canary_interval", CONFIG_PAIR_CONTRADICTS, is_memory_below_interval,
     "a position would be forgotten while it is still given out"},
    {"healthz_path", "health_path", CONFIG_PAIR_CONTRADICTS, is_one_health_path, TWO_ANSWERS},
    {"healthz_path", "events_path", CONFIG_PAIR_CONTRADICTS, is_stream_hidden_by_healthz,
     TWO_ANSWERS},
    {"health_path", "events_path", CONFIG_PAIR_CONTRADICTS, is_stream_hidden_by_health,
     TWO_ANSWERS},
    {"durable_path", "events_path", CONFIG_PAIR_CONTRADICTS, is_publish_of_events_and_streams,
     TWO_PUBLISH},
    {"durable_path", "sse_path", CONFIG_PAIR_CONTRADICTS, is_publish_of_events_and_sse,
     TWO_PUBLISH},
    {"events_path", "sse_path", CONFIG_PAIR_CONTRADICTS, is_publish_of_streams_and_sse,
     TWO_PUBLISH},
    {"handler_users", "socket_mode", CONFIG_PAIR_IS_ODD, is_mode_for_one_user,
     "the mode keeps other users than the broker's own from connecting"},
    {"handler_queue_bytes", "client_queue_bytes", CONFIG_PAIR_IS_ODD,
     is_handler_queue_below_client_queue,
     "a burst that one client could take closes the connection of a whole handler, which resumes"},
    {"max_stream_age", "keep_alive", CONFIG_PAIR_IS_ODD, is_age_below_keep_alive,
     "a quiet stream ends before its first heartbeat"},
    {"max_durable_body", "max_body", CONFIG_PAIR_IS_ODD, is_durable_body_below_body,
     "a topic takes larger durable events than the API that is for them"},
    {"forge_control", "forge_events", CONFIG_PAIR_IS_ODD, is_control_without_events,
     "the notifications that it is about are not heard"},
    {"retain_age", "table_poll", CONFIG_PAIR_IS_ODD, is_pruned_before_poll,
     "events whose hint was lost may be pruned before they are read"},
};

const struct config_pair *config_next_wrong_pair(const struct config *config, size_t *next) {
    for (; *next < length_of(pairs); (*next)++) {
        if (pairs[*next].is_wrong(config)) {
            return &pairs[(*next)++];
        }
    }
    return NULL;
}
