#include "procs.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "clock.h"

#define PROCS_MOST 4096

struct process {
    pid_t pid;
    pid_t parent;
    int64_t cpu_ns;
    bool is_ours;
    char name[16];
};

/* The kernel keeps 15 bytes of a name. */
static const char *const names[PROCS_ROLES] = {
    [PROCS_WEB] = "lighttpd",
    [PROCS_STREAM] = "pgsse-stream",
    [PROCS_BROKER] = "pgsse-broker",
    [PROCS_PUBLISH] = "pgsse-publish",
};

static bool read_file(pid_t pid, const char *name, char *text, size_t size) {
    char path[64];
    size_t got;
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%ld/%s", (long)pid, name);
    file = fopen(path, "re");
    if (file == NULL) {
        return false;
    }
    got = fread(text, 1, size - 1, file);
    text[got] = '\0';
    fclose(file);
    return got > 0;
}

/* `pid (name) state parent ...`; the name may hold anything, so its end is the last bracket. */
static bool process_read(struct process *process, pid_t pid) {
    char text[1024];
    char *name;
    char *end;
    long parent;
    unsigned long user;
    unsigned long system;

    if (!read_file(pid, "stat", text, sizeof(text))) {
        return false;
    }
    name = strchr(text, '(');
    end = strrchr(text, ')');
    if (name == NULL || end == NULL) {
        return false;
    }
    *end = '\0';
    if (sscanf(end + 1, " %*c %ld %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &parent, &user,
               &system) != 3) {
        return false;
    }
    *process = (struct process){.pid = pid, .parent = (pid_t)parent};
    process->cpu_ns = (int64_t)(user + system) * (CLOCK_NS_PER_S / sysconf(_SC_CLK_TCK));
    snprintf(process->name, sizeof(process->name), "%.15s", name + 1);
    return true;
}

static size_t read_processes(struct process *processes) {
    DIR *directory = opendir("/proc");
    struct dirent *entry;
    size_t count = 0;

    if (directory == NULL) {
        return 0;
    }
    while (count < PROCS_MOST && (entry = readdir(directory)) != NULL) {
        long pid = strtol(entry->d_name, NULL, 10);

        if (pid > 0 && process_read(&processes[count], (pid_t)pid)) {
            count++;
        }
    }
    closedir(directory);
    return count;
}

static bool is_parent_ours(const struct process *processes, size_t count, pid_t parent) {
    for (size_t i = 0; i < count; i++) {
        if (processes[i].pid == parent) {
            return processes[i].is_ours;
        }
    }
    return false;
}

static void mark_descendants(struct process *processes, size_t count, pid_t supervisor) {
    bool has_changed = true;

    for (size_t i = 0; i < count; i++) {
        processes[i].is_ours = processes[i].pid == supervisor;
    }
    while (has_changed) {
        has_changed = false;
        for (size_t i = 0; i < count; i++) {
            if (processes[i].is_ours || !is_parent_ours(processes, count, processes[i].parent)) {
                continue;
            }
            processes[i].is_ours = true;
            has_changed = true;
        }
    }
}

static bool read_pss_bytes(pid_t pid, int64_t *bytes) {
    char text[2048];
    const char *line;

    if (!read_file(pid, "smaps_rollup", text, sizeof(text))) {
        return false;
    }
    line = strstr(text, "\nPss:");
    if (line == NULL) {
        return false;
    }
    *bytes = strtoll(line + sizeof("\nPss:") - 1, NULL, 10) * 1024;
    return true;
}

static bool add_process(struct procs *procs, const struct process *process) {
    for (int role = 0; role < PROCS_ROLES; role++) {
        int64_t pss_bytes;

        if (strncmp(process->name, names[role], strlen(names[role])) != 0) {
            continue;
        }
        if (!read_pss_bytes(process->pid, &pss_bytes)) {
            return false;
        }
        procs->count[role]++;
        procs->pss_bytes[role] += pss_bytes;
        procs->cpu_ns[role] += process->cpu_ns;
        return true;
    }
    return true;
}

bool procs_measure(struct procs *procs, pid_t supervisor) {
    static struct process processes[PROCS_MOST];
    size_t count = supervisor > 0 ? read_processes(processes) : 0;

    *procs = (struct procs){0};
    mark_descendants(processes, count, supervisor);
    for (size_t i = 0; i < count; i++) {
        if (processes[i].is_ours && !add_process(procs, &processes[i])) {
            return false;
        }
    }
    return procs->count[PROCS_WEB] > 0 && procs->count[PROCS_STREAM] > 0 &&
           procs->count[PROCS_BROKER] > 0;
}

int64_t procs_own_cpu_ns(void) {
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * CLOCK_NS_PER_S +
           (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000;
}
