/* Loaded before libc (LD_PRELOAD): counts the calls that change files below one folder and makes the k-th one go wrong.

   faults_arm(prefix, k, mode): CRASH ends the process at the call; TEAR writes half and ends it; FULL fails it, and
   every later one that needs room, with ENOSPC; FAIL fails that one alone with EIO. Calls after faults_arm count from 1;
   k = 0 counts only. POWER, LOST and REORDER end it and take what was not synced, or some of it. Calls of C, C++ and Rust
   libraries are seen as Python's are. */
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
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CRASH = 1, TEAR, FULL, FAIL, POWER, LOST, REORDER };
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

/* The absolute path of one that is relative to an open folder; "" where it is unknown. */
static const char *resolve(int folder, const char *path, char *full) {
    full[0] = 0;
    if (!path || path[0] == '/') return path;
    if (folder == AT_FDCWD) {
        if (!getcwd(full, PATH_MAX)) return "";
    } else {
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t n = readlink(link, full, PATH_MAX - 1);
        if (n < 0) return "";
        full[n] = 0;
    }
    strncat(full, "/", PATH_MAX - strlen(full) - 1);
    strncat(full, path, PATH_MAX - strlen(full) - 1);
    return full;
}

static int below(const char *path) {
    if (!armed || !path) return 0;
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


/* What a loss of power may take: the content of each file since its last sync, and each change of a name since the last
   sync of its folder. POWER and LOST take all of it, REORDER a half of it, chosen by k. POWER leaves names that are new
   and gone, and zeros for content; LOST and REORDER undo both. */
enum { MOST = 8192 };
enum { CREATE, RENAME, UNLINK, MKDIR, RMDIR };
static struct { char path[512]; off_t synced; int dirty; } files[MOST];
static struct { int kind; char from[512], to[512], old[PATH_MAX + 32]; int pending; } names[MOST];
static int file_count, name_count;

static int fd_path(int fd, char *path, size_t size) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, size - 1);
    path[n < 0 ? 0 : n] = 0;
    return n >= 0;
}

static int noting(void) { return armed && target && mode >= POWER; }

static int find_file(const char *path) {
    int i = file_count;
    while (i-- > 0) if (!strcmp(files[i].path, path)) break;
    if (i < 0 && file_count < MOST) {
        i = file_count++;
        snprintf(files[i].path, sizeof files[i].path, "%s", path), files[i].dirty = 0;
    }
    return i;
}

static void note_write(int fd) {
    char path[512];
    struct stat now;
    if (!noting() || !fd_path(fd, path, sizeof path) || fstat(fd, &now)) return;
    int i = find_file(path);
    if (i >= 0 && !files[i].dirty) files[i].dirty = 1, files[i].synced = now.st_size;
}

static int is_in(const char *path, const char *folder) {
    size_t n = strlen(folder);
    return !strncmp(path, folder, n) && path[n] == '/' && !strchr(path + n + 1, '/');
}

static void note_sync(int fd) {
    char path[512];
    if (!noting() || !fd_path(fd, path, sizeof path)) return;
    for (int i = 0; i < file_count; i++) if (!strcmp(files[i].path, path)) files[i].dirty = 0;
    for (int i = 0; i < name_count; i++) if (is_in(names[i].to, path)) names[i].pending = 0;
}

static int note_name(int kind, const char *from, const char *to) {
    if (name_count >= MOST) return -1;
    int i = name_count++;
    names[i].kind = kind, names[i].pending = 1, names[i].old[0] = 0;
    snprintf(names[i].from, 512, "%s", from), snprintf(names[i].to, 512, "%s", to);
    return i;
}

static void keep_old(int i, const char *path) {
    snprintf(names[i].old, sizeof names[i].old, "%s.old-%d", prefix, i);
    syscall(SYS_unlinkat, AT_FDCWD, names[i].old, 0);
    if (link(path, names[i].old)) names[i].old[0] = 0;
}

static void note_open(const char *path, int flags) { /* before the call */
    struct stat now;
    if (!noting()) return;
    if (stat(path, &now)) {
        if (flags & O_CREAT) note_name(CREATE, path, path);
    } else if (flags & O_TRUNC && now.st_size) {
        int i = find_file(path);
        if (i >= 0) files[i].dirty = 1, files[i].synced = 0;
    }
}

static void note_rename(const char *from, const char *to) {
    if (!noting()) return;
    for (int i = 0; i < file_count; i++) {
        size_t n = strlen(from);
        if (!strncmp(files[i].path, from, n) && (!files[i].path[n] || files[i].path[n] == '/')) {
            char moved[1100];
            snprintf(moved, sizeof moved, "%s%s", to, files[i].path + n);
            memcpy(files[i].path, moved, sizeof files[i].path - 1);
        }
    }
    int i = note_name(RENAME, from, to);
    if (i >= 0) keep_old(i, to);
}

static void note_gone(const char *path, int is_folder) { /* before the call */
    if (!noting()) return;
    int i = note_name(is_folder ? RMDIR : UNLINK, path, path);
    if (i >= 0 && !is_folder) keep_old(i, path);
}

static int is_lost(unsigned n) { /* a hash of k and n decides */
    if (mode != REORDER) return 1;
    unsigned hash = (target * 2654435761u) ^ (n * 2246822519u);
    hash ^= hash >> 15, hash *= 2654435761u, hash ^= hash >> 13;
    return hash & 1;
}

static void lose_power(void) {
    armed = 0;
    for (int i = 0; i < file_count; i++) {
        int fd = files[i].dirty && is_lost(i) ? open(files[i].path, O_WRONLY) : -1;
        struct stat now;
        if (fd < 0 || fstat(fd, &now)) continue;
        static const char zeros[65536];
        if (mode == LOST || (mode == REORDER && is_lost(i + 2 * MOST))) {
            if (ftruncate(fd, files[i].synced)) _exit(78);
        } else for (off_t at = files[i].synced; at < now.st_size; at += sizeof zeros) {
            size_t n = now.st_size - at < (off_t)sizeof zeros ? now.st_size - at : sizeof zeros;
            if (pwrite(fd, zeros, n, at) < 0) break;
        }
        close(fd);
    }
    for (int i = name_count - 1; i >= 0; i--) {
        if (!names[i].pending || !is_lost(i + MOST) || (mode == POWER && names[i].kind != RENAME)) continue;
        struct stat now;
        switch (names[i].kind) {
        case CREATE: unlink(names[i].to); break;
        case MKDIR: rmdir(names[i].to); break; /* stays if something in it is synced, as with it the folder is */
        case RMDIR: mkdir(names[i].to, 0777); break;
        case UNLINK:
            if (names[i].old[0] && stat(names[i].to, &now)) rename(names[i].old, names[i].to);
            break;
        case RENAME:
            rename(names[i].to, names[i].from);
            if (names[i].old[0]) rename(names[i].old, names[i].to);
        }
    }
    for (int i = 0; i < name_count; i++) if (names[i].old[0]) unlink(names[i].old);
}

/* The end of a job that met no fault: power is lost at once. */
void faults_end(void) {
    if (noting()) lose_power();
}

/* 0: go on; -1: the call fails with errno; 1: write half, then end. */
static int fault(const char *name, const char *path, int needs_room) {
    int k = __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST);
    if (k == target) snprintf(last, sizeof last, "%s %s", name, path ? path : "");
    if (!target || k < target || (k > target && mode != FULL)) return 0;
    if (mode >= POWER) lose_power();
    if (mode == CRASH || mode >= POWER) _exit(77);
    if (mode == TEAR) { if (needs_room == 2) return 1; _exit(77); }
    if (mode == FULL && needs_room) { errno = ENOSPC; return -1; }
    if (mode == FAIL && k == target) { errno = EIO; return -1; }
    return 0;
}

static int creates(int flags) { return flags & (O_CREAT | O_TRUNC | O_WRONLY | O_RDWR); }

static int before_open(int folder, const char *path, int flags) {
    char buffer[PATH_MAX];
    const char *full = armed ? resolve(folder, path, buffer) : NULL;
    if (!creates(flags) || !below(full)) return 0;
    if (fault("open", full, flags & O_CREAT ? 1 : 0) < 0) return -1;
    note_open(full, flags);
    return 0;
}

#define OPEN(name) \
int name(const char *path, int flags, ...) { \
    REAL(name); \
    mode_t bits = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { va_list list; va_start(list, flags); bits = va_arg(list, mode_t); va_end(list); } \
    if (before_open(AT_FDCWD, path, flags)) return -1; \
    return real(path, flags, bits); \
}
OPEN(open)
OPEN(open64)

#define OPENAT(name) \
int name(int folder, const char *path, int flags, ...) { \
    REAL(name); \
    mode_t bits = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { va_list list; va_start(list, flags); bits = va_arg(list, mode_t); va_end(list); } \
    if (before_open(folder, path, flags)) return -1; \
    return real(folder, path, flags, bits); \
}
OPENAT(openat)
OPENAT(openat64)

#define FOPEN(name) \
FILE *name(const char *path, const char *how) { \
    REAL(name); \
    int flags = strchr(how, 'w') ? O_CREAT | O_TRUNC : strchr(how, 'a') ? O_CREAT | O_WRONLY : strchr(how, '+') ? O_RDWR : 0; \
    if (flags && before_open(AT_FDCWD, path, flags)) return NULL; \
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
    if (below_fd(fd)) {
        note_write(fd);
        if (fault("writev", NULL, 1) < 0) return -1;
    }
    return real(fd, parts, n);
}

#define PWRITE(name, type) ssize_t name(int fd, const void *data, size_t n, type at) { \
    REAL(name); \
    if (below_fd(fd)) { \
        note_write(fd); \
        int what = fault(#name, NULL, 2); \
        if (what < 0) return -1; \
        if (what > 0) { real(fd, data, n / 2, at); _exit(77); } \
    } \
    return real(fd, data, n, at); \
}
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define SENDFILE(name, type) ssize_t name(int to, int from, type *at, size_t n) { \
    REAL(name); \
    if (below_fd(to)) { \
        note_write(to); \
        if (fault(#name, NULL, 1) < 0) return -1; \
    } \
    return real(to, from, at, n); \
}
SENDFILE(sendfile, off_t)
SENDFILE(sendfile64, off64_t)

ssize_t copy_file_range(int from, off64_t *at, int to, off64_t *to_at, size_t n, unsigned flags) {
    REAL(copy_file_range);
    if (below_fd(to)) {
        note_write(to);
        if (fault("copy_file_range", NULL, 1) < 0) return -1;
    }
    return real(from, at, to, to_at, n, flags);
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

static int before_removal(int folder, const char *path, int is_folder) {
    char buffer[PATH_MAX];
    const char *full = armed ? resolve(folder, path, buffer) : NULL;
    if (!below(full)) return 0;
    if (fault(is_folder ? "rmdir" : "unlink", full, 0) < 0) return -1;
    note_gone(full, is_folder);
    return 0;
}

#define REMOVE(name, is_folder) int name(const char *path) { \
    REAL(name); \
    return before_removal(AT_FDCWD, path, is_folder) ? -1 : real(path); \
}
REMOVE(unlink, 0)
REMOVE(rmdir, 1)

int unlinkat(int folder, const char *path, int flags) {
    REAL(unlinkat);
    return before_removal(folder, path, flags & AT_REMOVEDIR) ? -1 : real(folder, path, flags);
}

int mkdir(const char *path, mode_t bits) {
    REAL(mkdir);
    char buffer[PATH_MAX];
    const char *full = armed ? resolve(AT_FDCWD, path, buffer) : NULL;
    struct stat now;
    if (below(full)) {
        if (fault("mkdir", full, 1) < 0) return -1;
        if (noting() && stat(full, &now)) note_name(MKDIR, full, full);
    }
    return real(path, bits);
}

int rename(const char *from, const char *to) {
    REAL(rename);
    char buffers[2][PATH_MAX];
    const char *full = armed ? resolve(AT_FDCWD, to, buffers[0]) : NULL;
    if (below(full)) {
        if (fault("rename", full, 0) < 0) return -1;
        note_rename(resolve(AT_FDCWD, from, buffers[1]), full);
    }
    return real(from, to);
}

int chmod(const char *path, mode_t bits) {
    REAL(chmod);
    char buffer[PATH_MAX];
    const char *full = armed ? resolve(AT_FDCWD, path, buffer) : NULL;
    if (below(full) && fault("chmod", full, 0) < 0) return -1;
    return real(path, bits);
}
