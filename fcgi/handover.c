#include "handover.h"

#include <fcgiapp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

struct handover {
    FCGX_Request request;
    int file; /* owned: the file that the request is read from; -1: there is none */
};

static void renew(struct handover *handover) {
    handover->file = -1;
    /* Without a listening socket, libfcgi never accepts a connection by itself. */
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

void handover_destroy(struct handover **slot) {
    struct handover *handover = *slot;
    *slot = NULL;
    FCGX_Free(&handover->request, 0);
    free(handover);
}

bool handover_receive(struct handover *handover, int fd, int source) {
    FCGX_Request *request = &handover->request;
    request->ipcFd = source;
    request->keepConnection = 1; /* FCGX_Accept_r ends the last request first: without close */
    FCGX_Detach(request); /* if libfcgi closes the connection anyway, it does not linger for 2 s */
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

static const char *get_parameter(const void *source, const char *name) {
    return handover_parameter(source, name);
}

struct parameters handover_parameters(const struct handover *handover) {
    return (struct parameters){handover, get_parameter};
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
