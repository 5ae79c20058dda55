/* One line per message, whatever bytes are in it. */
#include "log.h"
#include "support.h"

#include <fcntl.h>

/* What write_some writes to standard error. */
static void capture(struct buf *text, void (*write_some)(void)) {
    int pipe_fds[2];
    assert_int_equal(pipe2(pipe_fds, O_NONBLOCK), 0);
    int kept = dup(STDERR_FILENO);
    dup2(pipe_fds[1], STDERR_FILENO);
    write_some();
    dup2(kept, STDERR_FILENO);
    close(kept);
    close(pipe_fds[1]);
    ssize_t got;
    while ((got = read(pipe_fds[0], buf_reserve(text, 4096), 4096)) > 0) {
        text->length += (size_t)got;
    }
    close(pipe_fds[0]);
    buf_append(text, "", 1);
}

static size_t lines_of(const struct buf *text) {
    size_t lines = 0;
    for (size_t i = 0; i < text->length; i++) {
        lines += text->bytes[i] == '\n' ? 1 : 0;
    }
    return lines;
}

static void write_line(void) {
    log_init("pgsse-test", LOG_LEVEL_INFO);
    log_info("hello %d", 5);
}

static void test_line(void **state) {
    struct buf text = {0};
    capture(&text, write_line);
    char wanted[64];
    snprintf(wanted, sizeof wanted, "Z pgsse-test[%d] info: hello 5\n", (int)getpid());
    assert_non_null(strstr(text.bytes, wanted));
    assert_int_equal(text.bytes[4], '-');
    assert_int_equal(text.bytes[10], 'T');
    assert_int_equal(lines_of(&text), 1);
    buf_release(&text);
}

static void write_controls(void) {
    log_warning("a\nb\rc\td\x1b[31m\x7f caf\xc3\xa9");
}

static void test_control_characters_are_escaped(void **state) {
    struct buf text = {0};
    capture(&text, write_controls);
    assert_int_equal(lines_of(&text), 1);
    assert_non_null(strstr(text.bytes, "a\\x0ab\\x0dc\\x09d\\x1b[31m\\x7f caf\xc3\xa9\n"));
    buf_release(&text);
}

static void write_long(void) {
    char *controls = repeated('\n', 100000);
    char *letters = repeated('x', 100000);
    log_info("%s", controls);
    log_info("%s", letters);
    free(controls);
    free(letters);
}

static void test_long_messages_are_cut_to_a_line(void **state) {
    struct buf text = {0};
    capture(&text, write_long);
    assert_int_equal(lines_of(&text), 2);
    assert_true(text.length <= 2 * 2048 + 1);
    buf_release(&text);
}

static void write_levels(void) {
    log_init("pgsse-test", LOG_LEVEL_WARNING);
    log_error("e");
    log_warning("w");
    log_info("i");
    log_debug("d");
    log_init("pgsse-test", LOG_LEVEL_INFO);
}

static void test_levels(void **state) {
    struct buf text = {0};
    capture(&text, write_levels);
    assert_int_equal(lines_of(&text), 2);
    assert_non_null(strstr(text.bytes, "error: e\n"));
    assert_non_null(strstr(text.bytes, "warning: w\n"));
    buf_release(&text);
}

static void write_flood(void) {
    struct log_limit limit = {0};
    for (int i = 0; i < 1000; i++) {
        log_limited(&limit, LOG_LEVEL_WARNING, "flood %d", i);
    }
    limit.next_ms = 0; /* a second later */
    log_limited(&limit, LOG_LEVEL_WARNING, "after");
}

static void test_floods_are_counted(void **state) {
    struct buf text = {0};
    capture(&text, write_flood);
    assert_int_equal(lines_of(&text), 3);
    assert_non_null(strstr(text.bytes, "flood 0\n"));
    assert_non_null(strstr(text.bytes, "999 more"));
    assert_non_null(strstr(text.bytes, "after\n"));
    buf_release(&text);
}

RUN_TESTS(TEST(test_line), TEST(test_control_characters_are_escaped),
          TEST(test_long_messages_are_cut_to_a_line), TEST(test_levels),
          TEST(test_floods_are_counted))
