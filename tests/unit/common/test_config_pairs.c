/* Pairs of keys that contradict each other: each pair just wrong, just right, and switched off. */
#include "config_pairs.h"
#include "support.h"

enum verdict { FITS, IS_ODD, CONTRADICTS };

struct pair_case {
    const char *one;
    const char *one_value;
    const char *other;
    const char *other_value;
    enum verdict verdict;
};

static const struct pair_case cases[] = {
    {"reconnect_min", "1s", "reconnect_max", "999ms", CONTRADICTS},
    {"reconnect_min", "1s", "reconnect_max", "1s", FITS},
    {"marker_memory", "60s", "canary_interval", "61s", CONTRADICTS},
    {"marker_memory", "60s", "canary_interval", "60s", FITS},
    {"healthz_path", "/ok", "health_path", "/ok", CONTRADICTS},
    {"healthz_path", "/ok", "health_path", "/ok/short", FITS},
    {"healthz_path", "/ok", "events_path", "/ok", CONTRADICTS},
    {"healthz_path", "/ok", "events_path", "/ok/all", FITS},
    {"health_path", "/ok", "events_path", "/ok", CONTRADICTS},
    {"health_path", "/ok", "events_path", "/OK", FITS},
    {"durable_path", "/x", "events_path", "/x", CONTRADICTS},
    {"durable_path", "/x/y", "events_path", "/x", FITS},
    {"durable_path", "/x", "sse_path", "/x", CONTRADICTS},
    {"durable_path", "/x", "sse_path", "/x/y", FITS},
    {"events_path", "/x", "sse_path", "/x", CONTRADICTS},
    {"events_path", "/x", "sse_path", "/y", FITS},
    {"handler_users", "www-data", "socket_mode", "0600", IS_ODD},
    {"handler_users", "www-data", "socket_mode", "0640", IS_ODD},
    {"handler_users", "www-data", "socket_mode", "0660", FITS},
    {"handler_users", "www-data", "socket_mode", "0602", FITS},
    {"handler_users", "", "socket_mode", "0600", FITS},
    {"handler_queue_bytes", "256KiB", "client_queue_bytes", "257KiB", IS_ODD},
    {"handler_queue_bytes", "256KiB", "client_queue_bytes", "256KiB", FITS},
    {"max_stream_age", "1s", "keep_alive", "1s", IS_ODD},
    {"max_stream_age", "1001ms", "keep_alive", "1s", FITS},
    {"max_stream_age", "0", "keep_alive", "1s", FITS},
    {"max_durable_body", "1K", "max_body", "1025", IS_ODD},
    {"max_durable_body", "1K", "max_body", "1K", FITS},
    {"forge_control", "on", "forge_events", "off", IS_ODD},
    {"forge_control", "on", "forge_events", "on", FITS},
    {"forge_control", "off", "forge_events", "off", FITS},
    {"retain_age", "1s", "table_poll", "1001ms", IS_ODD},
    {"retain_age", "1s", "table_poll", "1s", FITS},
    {"retain_age", "0", "table_poll", "1s", FITS},
    /* work in every combination */
    {"canary_timeout", "1h", "canary_interval", "100ms", FITS},
    {"canary_timeout", "100ms", "canary_interval", "1h", FITS},
    {"stall_timeout", "1s", "keep_alive", "1d", FITS},
    {"stall_timeout", "1d", "max_stream_age", "20s", FITS},
    {"retry", "0", "graceful_drain", "0", FITS},
    {"publish_timeout", "600s", "graceful_drain", "0", FITS},
    {"history_bytes", "0", "ring_capacity", "1000000000", FITS},
    {"max_notify_bytes", "7999", "max_body", "1", FITS},
    {"base_path", "/x", "durable_path", "/x", FITS},
    {"queue_poll", "1h", "canary_interval", "100ms", FITS},
};

static void expect_verdict(const struct pair_case *at) {
    struct config config = {0};
    const char *reason = "";
    size_t next = 0;
    config_set_defaults(&config);
    assert_true(config_set(&config, at->one, at->one_value, &reason));
    assert_true(config_set(&config, at->other, at->other_value, &reason));
    const struct config_pair *pair = config_next_wrong_pair(&config, &next);
    enum verdict verdict = pair == NULL                            ? FITS
                           : pair->kind == CONFIG_PAIR_CONTRADICTS ? CONTRADICTS
                                                                   : IS_ODD;
    if (verdict != at->verdict) {
        fail_msg("%s = %s, %s = %s: %d", at->one, at->one_value, at->other, at->other_value,
                 (int)verdict);
    }
    if (pair != NULL) {
        assert_string_equal(pair->one, at->one);
        assert_string_equal(pair->other, at->other);
        assert_null(config_next_wrong_pair(&config, &next));
    }
    config_release(&config);
}

static void test_pairs(void **state) {
    for (size_t i = 0; i < length_of(cases); i++) {
        expect_verdict(&cases[i]);
    }
}

static void test_the_defaults_fit(void **state) {
    struct config config = {0};
    size_t next = 0;
    config_set_defaults(&config);
    assert_null(config_next_wrong_pair(&config, &next));
    config_release(&config);
}

/* Several are found, one after the other. */
static void test_all_are_found(void **state) {
    struct config config = {0};
    const char *reason = "";
    size_t next = 0;
    config_set_defaults(&config);
    assert_true(config_set(&config, "reconnect_max", "100ms", &reason));
    assert_true(config_set(&config, "health_path", "/healthz", &reason));
    assert_true(config_set(&config, "max_stream_age", "1s", &reason));
    assert_string_equal(config_next_wrong_pair(&config, &next)->other, "reconnect_max");
    assert_string_equal(config_next_wrong_pair(&config, &next)->other, "health_path");
    assert_string_equal(config_next_wrong_pair(&config, &next)->other, "keep_alive");
    assert_null(config_next_wrong_pair(&config, &next));
    config_release(&config);
}

RUN_TESTS(TEST(test_pairs), TEST(test_the_defaults_fit), TEST(test_all_are_found))
