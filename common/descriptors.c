#include "descriptors.h"

#include "log.h"

#include <limits.h>
#include <sys/resource.h>

static int clamp(rlim_t limit) {
    return limit < INT_MAX ? (int)limit : INT_MAX;
}

static int reserved_from(int limit) {
    int quarter = limit / 4;
    return limit - (quarter < DESCRIPTORS_RESERVE ? quarter : DESCRIPTORS_RESERVE);
}

void descriptors_prepare(int64_t wanted, const char *what) {
    struct rlimit limit;
    rlim_t needed = (rlim_t)wanted + DESCRIPTORS_RESERVE;
    check(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    if (limit.rlim_cur < needed && limit.rlim_cur < limit.rlim_max) {
        struct rlimit raised = {needed < limit.rlim_max ? needed : limit.rlim_max, limit.rlim_max};
        if (setrlimit(RLIMIT_NOFILE, &raised) == 0) {
            limit = raised;
        }
    }
    if (limit.rlim_cur < needed) {
        int most = clamp(limit.rlim_cur);
        log_warning("%s: %lld descriptors are needed for that, and the limit is %d (ulimit -Hn): "
                    "about %d can be reached",
                    what, (long long)needed, most, reserved_from(most));
    }
}

int descriptors_reserved_from(void) {
    struct rlimit limit;
    check(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    return reserved_from(clamp(limit.rlim_cur));
}
