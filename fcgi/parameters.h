/* The parameters of a request, wherever they come from: libfcgi, or a test. */
#pragma once

struct parameters {
    const void *source;
    const char *(*get)(const void *source, const char *name); /* "" if absent */
};
