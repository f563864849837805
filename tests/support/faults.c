/* Loaded before libc (LD_PRELOAD): counts the calls that change files below one folder and makes the k-th one go wrong.

   faults_arm(prefix, k, mode): CRASH ends the process at the call; TEAR writes half and ends it; FULL fails it, and
   every later one that needs room, with ENOSPC; FAIL fails that one alone with EIO. Calls after faults_arm count from 1;
   k = 0 counts only. POWER ends it and takes what was not synced: content becomes zeros, renames are undone. Calls of C,
   C++ and Rust libraries are seen as Python's are. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CRASH = 1, TEAR, FULL, FAIL, POWER };
static char prefix[PATH_MAX];
static int armed, target, mode;
static volatile int calls;
static char last[PATH_MAX + 64];

int faults_calls(void) { return calls; }
const char *faults_last(void) { return last; }

void faults_arm(const char *folder, int k, int how) {
    snprintf(prefix, sizeof prefix, "%s", folder);
    target = k, mode = how, calls = 0, armed = 1;
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static int below(const char *path) {
    char full[PATH_MAX];
    if (!armed || !path) return 0;
    if (path[0] != '/') {
        if (!getcwd(full, sizeof full)) return 0;
        strncat(full, "/", sizeof full - strlen(full) - 1);
        strncat(full, path, sizeof full - strlen(full) - 1);
        path = full;
    }
    size_t n = strlen(prefix); /* not `PREFIX.old-1`, which is this file's own */
    return !strncmp(path, prefix, n) && (!path[n] || path[n] == '/');
}

static int below_fd(int fd) {
    char link[64], path[PATH_MAX];
    if (!armed) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return below(path);
}


/* What a loss of power would take: the end of each file since its last sync, and each rename since its folder's. */
enum { MOST = 4096 };
static struct { char path[512]; off_t synced; int dirty; } files[MOST];
static struct { char from[512], to[512], old[PATH_MAX + 32]; int pending; } renames[MOST];
static int file_count, rename_count;

static int fd_path(int fd, char *path, size_t size) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, size - 1);
    path[n < 0 ? 0 : n] = 0;
    return n >= 0;
}

static void note_write(int fd) {
    char path[512];
    struct stat now;
    if (mode != POWER || !fd_path(fd, path, sizeof path) || fstat(fd, &now)) return;
    int i = file_count;
    while (i-- > 0) if (!strcmp(files[i].path, path)) break;
    if (i < 0 && file_count < MOST) {
        i = file_count++;
        strcpy(files[i].path, path), files[i].dirty = 0;
    }
    if (i >= 0 && !files[i].dirty) files[i].dirty = 1, files[i].synced = now.st_size;
}

static void note_sync(int fd) {
    char path[512];
    if (mode != POWER || !fd_path(fd, path, sizeof path)) return;
    for (int i = 0; i < file_count; i++) if (!strcmp(files[i].path, path)) files[i].dirty = 0;
    size_t n = strlen(path);
    for (int i = 0; i < rename_count; i++)
        if (!strncmp(renames[i].to, path, n) && renames[i].to[n] == '/' && !strchr(renames[i].to + n + 1, '/'))
            renames[i].pending = 0;
}

static void note_rename(const char *from, const char *to) {
    if (mode != POWER || !target || rename_count >= MOST) return;
    for (int i = 0; i < file_count; i++) {
        size_t n = strlen(from);
        if (!strncmp(files[i].path, from, n) && (!files[i].path[n] || files[i].path[n] == '/')) {
            char moved[1100];
            snprintf(moved, sizeof moved, "%s%s", to, files[i].path + n);
            memcpy(files[i].path, moved, sizeof files[i].path - 1);
        }
    }
    int i = rename_count++;
    snprintf(renames[i].from, 512, "%s", from), snprintf(renames[i].to, 512, "%s", to);
    snprintf(renames[i].old, sizeof renames[i].old, "%s.old-%d", prefix, i);
    renames[i].pending = 1;
    unlink(renames[i].old);
    if (link(to, renames[i].old)) renames[i].old[0] = 0;
}

static void lose_power(void) {
    armed = 0;
    for (int i = 0; i < file_count; i++) {
        int fd = files[i].dirty ? open(files[i].path, O_WRONLY) : -1;
        struct stat now;
        if (fd < 0 || fstat(fd, &now)) continue;
        static const char zeros[65536];
        for (off_t at = files[i].synced; at < now.st_size; at += sizeof zeros) {
            size_t n = now.st_size - at < (off_t)sizeof zeros ? now.st_size - at : sizeof zeros;
            if (pwrite(fd, zeros, n, at) < 0) break;
        }
        close(fd);
    }
    for (int i = rename_count - 1; i >= 0; i--) {
        if (!renames[i].pending) continue;
        rename(renames[i].to, renames[i].from);
        if (renames[i].old[0]) rename(renames[i].old, renames[i].to);
    }
    for (int i = 0; i < rename_count; i++) if (renames[i].old[0]) unlink(renames[i].old);
}

/* 0: go on; -1: the call fails with errno; 1: write half, then end. */
static int fault(const char *name, const char *path, int needs_room) {
    int k = __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST);
    if (k == target) snprintf(last, sizeof last, "%s %s", name, path ? path : "");
    if (!target || k < target || (k > target && mode != FULL)) return 0;
    if (mode == POWER) lose_power();
    if (mode == CRASH || mode == POWER) _exit(77);
    if (mode == TEAR) { if (needs_room == 2) return 1; _exit(77); }
    if (mode == FULL && needs_room) { errno = ENOSPC; return -1; }
    if (mode == FAIL && k == target) { errno = EIO; return -1; }
    return 0;
}

static int creates(int flags) { return flags & (O_CREAT | O_TRUNC | O_WRONLY | O_RDWR); }

#define OPEN(name) \
int name(const char *path, int flags, ...) { \
    REAL(name); \
    mode_t bits = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { va_list list; va_start(list, flags); bits = va_arg(list, mode_t); va_end(list); } \
    if (creates(flags) && below(path) && fault("open", path, flags & O_CREAT ? 1 : 0) < 0) return -1; \
    return real(path, flags, bits); \
}
OPEN(open)
OPEN(open64)

#define OPENAT(name) \
int name(int folder, const char *path, int flags, ...) { \
    REAL(name); \
    mode_t bits = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { va_list list; va_start(list, flags); bits = va_arg(list, mode_t); va_end(list); } \
    if (creates(flags) && below(path) && fault("open", path, flags & O_CREAT ? 1 : 0) < 0) return -1; \
    return real(folder, path, flags, bits); \
}
OPENAT(openat)
OPENAT(openat64)

#define FOPEN(name) \
FILE *name(const char *path, const char *how) { \
    REAL(name); \
    if (strpbrk(how, "wa+") && below(path) && fault("fopen", path, 1) < 0) return NULL; \
    return real(path, how); \
}
FOPEN(fopen)
FOPEN(fopen64)

ssize_t write(int fd, const void *data, size_t n) {
    REAL(write);
    if (below_fd(fd)) {
        note_write(fd);
        int what = fault("write", NULL, 2);
        if (what < 0) return -1;
        if (what > 0) { real(fd, data, n / 2); _exit(77); }
    }
    return real(fd, data, n);
}

ssize_t writev(int fd, const struct iovec *parts, int n) {
    REAL(writev);
    if (below_fd(fd) && fault("writev", NULL, 1) < 0) return -1;
    return real(fd, parts, n);
}

size_t fwrite(const void *data, size_t size, size_t n, FILE *file) { /* stdio's own writes do not pass through write() */
    REAL(fwrite);
    if (armed && below_fd(fileno(file))) {
        note_write(fileno(file));
        int what = fault("fwrite", NULL, 2);
        if (what < 0) return 0;
        if (what > 0) { real(data, size, n / 2, file); fflush(file); _exit(77); }
    }
    return real(data, size, n, file);
}

#define ON_FD(name, needs) int name(int fd) { \
    REAL(name); \
    if (below_fd(fd)) { \
        if (fault(#name, NULL, needs) < 0) return -1; \
        note_sync(fd); \
    } \
    return real(fd); \
}
ON_FD(fsync, 1)
ON_FD(fdatasync, 1)

#define ON_LENGTH(name, type) int name(int fd, type n) { \
    REAL(name); \
    if (below_fd(fd) && fault(#name, NULL, 0) < 0) return -1; \
    return real(fd, n); \
}
ON_LENGTH(ftruncate, off_t)
ON_LENGTH(ftruncate64, off64_t)

#define ON_PATH(name) int name(const char *path) { \
    REAL(name); \
    if (below(path) && fault(#name, path, 0) < 0) return -1; \
    return real(path); \
}
ON_PATH(unlink)
ON_PATH(rmdir)

int unlinkat(int folder, const char *path, int flags) {
    REAL(unlinkat);
    if ((below(path) || (folder >= 0 && below_fd(folder))) && fault("unlinkat", path, 0) < 0) return -1;
    return real(folder, path, flags);
}

int mkdir(const char *path, mode_t bits) {
    REAL(mkdir);
    if (below(path) && fault("mkdir", path, 1) < 0) return -1;
    return real(path, bits);
}

int rename(const char *from, const char *to) {
    REAL(rename);
    if (below(to)) {
        if (fault("rename", to, 0) < 0) return -1;
        note_rename(from, to);
    }
    return real(from, to);
}

int chmod(const char *path, mode_t bits) {
    REAL(chmod);
    if (below(path) && fault("chmod", path, 0) < 0) return -1;
    return real(path, bits);
}
