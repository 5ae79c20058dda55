/* The limit of descriptors: raised as far as possible, with a reserve. Limits belong to a process,
 * so each case has its own process. */
#include "descriptors.h"
#include "log.h"
#include "support.h"

#include <sys/resource.h>
#include <sys/wait.h>

struct limit_case {
    rlim_t soft;
    rlim_t hard;
    int64_t wanted;
    rlim_t raised;     /* the soft limit afterwards */
    int reserved_from; /* then */
    bool is_said;
};

static const struct limit_case cases[] = {
    {1024, 4096, 5000, 4096, 4000, true},
    {1024, 4096, 1000, 1096, 1000, false},
    {1024, 4096, 4000, 4096, 4000, false},
    {1024, 4096, 4001, 4096, 4000, true},
    {1024, 4096, 100, 1024, 928, false}, /* it is never lowered */
    {1024, 1024, 5000, 1024, 928, true},
    {128, 128, 5000, 128, 96, true},
    {64, 128, 1, 97, 73, false},
    {384, 384, 288, 384, 288, false},
    {16, 16, 1, 16, 12, true},
};

static bool has_output(int fd) {
    char byte;
    return read(fd, &byte, 1) == 1;
}

/* Returns the number of the failed check; 0: none. */
static int try_case(const struct limit_case *at) {
    int pipe_fds[2];
    struct rlimit limit = {at->soft, at->hard};
    if (pipe(pipe_fds) != 0 || dup2(pipe_fds[1], STDERR_FILENO) < 0) {
        return 1;
    }
    close(pipe_fds[1]);
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return 2;
    }
    descriptors_prepare(at->wanted, "what is promised");
    close(STDERR_FILENO);
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur != at->raised ||
        limit.rlim_max != at->hard) {
        return 3;
    }
    return descriptors_reserved_from() != at->reserved_from ? 4
           : has_output(pipe_fds[0]) != at->is_said         ? 5
                                                            : 0;
}

static void test_limits(void **state) {
    log_init("pgsse-unit", LOG_LEVEL_INFO);
    for (size_t i = 0; i < length_of(cases); i++) {
        int status;
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            _exit(try_case(&cases[i]));
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        if (status != 0) {
            fail_msg("case %zu: %d", i, WEXITSTATUS(status));
        }
    }
}

RUN_TESTS(TEST(test_limits))
