#include "handover.h"

#include <fcgiapp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

struct handover {
    FCGX_Request request;
    int file; /* owned: the request's source, when it is not the connection; else -1 */
};

static void renew(struct handover *handover) {
    handover->file = -1;
    /* Without a listening socket: libfcgi never accepts by itself. */
    check(FCGX_InitRequest(&handover->request, -1, FCGI_FAIL_ACCEPT_ON_INTR) == 0);
}

void handover_die_with_parent(void) {
    check(prctl(PR_SET_PDEATHSIG, SIGTERM) == 0);
}

bool handover_init(void) {
    return FCGX_IsCGI() == 0 && FCGX_Init() == 0;
}

struct handover *handover_create(void) {
    struct handover *handover = must_zalloc(sizeof *handover);
    renew(handover);
    return handover;
}

void handover_destroy(struct handover **place) {
    struct handover *handover = *place;
    *place = NULL;
    FCGX_Free(&handover->request, 0);
    free(handover);
}

bool handover_receive(struct handover *handover, int fd, int source) {
    FCGX_Request *request = &handover->request;
    request->ipcFd = source;
    request->keepConnection = 1; /* FCGX_Accept_r begins with ending what was: without close */
    FCGX_Detach(request);        /* when it closes after all, it does not linger for 2 s */
    if (FCGX_Accept_r(request) != 0) {
        if (source != fd) {
            close(fd);
        }
        renew(handover);
        return false;
    }
    handover->file = source == fd ? -1 : source;
    return true;
}

const char *handover_parameter(const struct handover *handover, const char *name) {
    const char *value = FCGX_GetParam(name, handover->request.envp);
    return value == NULL ? "" : value;
}

size_t handover_read_body(struct handover *handover, char *bytes, size_t length) {
    int wanted = length < INT32_MAX ? (int)length : INT32_MAX;
    int got = FCGX_GetStr(bytes, wanted, handover->request.in);
    return got < 0 ? 0 : (size_t)got;
}

uint16_t handover_request_id(const struct handover *handover) {
    return (uint16_t)handover->request.requestId;
}

void handover_release(struct handover *handover) {
    FCGX_Free(&handover->request, 0);
    if (handover->file >= 0) {
        close(handover->file);
    }
    renew(handover);
}
