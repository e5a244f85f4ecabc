/* A disk that is full, cannot sync or cannot be read, for as long as a file of that name is in the directory that FAULTS names; and a wall clock
   that is off by as many seconds as the file `clock` there says. Stands between the program and the C library. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static int planted(const char *name) {
    char path[4096];
    const char *directory = getenv("FAULTS");
    if (!directory) return 0;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    int before = errno, found = access(path, F_OK) == 0;
    errno = before;
    return found;
}

#define FAIL(name, code) if (planted(name)) { errno = code; return -1; }

ssize_t pwrite(int file, const void *bytes, size_t count, off_t at) {
    static ssize_t (*real)(int, const void *, size_t, off_t);
    if (!real) real = dlsym(RTLD_NEXT, "pwrite");
    FAIL("full", ENOSPC)
    return real(file, bytes, count, at);
}

ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t at) {
    static ssize_t (*real)(int, const void *, size_t, off64_t);
    if (!real) real = dlsym(RTLD_NEXT, "pwrite64");
    FAIL("full", ENOSPC)
    return real(file, bytes, count, at);
}

ssize_t pread(int file, void *bytes, size_t count, off_t at) {
    static ssize_t (*real)(int, void *, size_t, off_t);
    if (!real) real = dlsym(RTLD_NEXT, "pread");
    FAIL("no-read", EIO)
    return real(file, bytes, count, at);
}

ssize_t pread64(int file, void *bytes, size_t count, off64_t at) {
    static ssize_t (*real)(int, void *, size_t, off64_t);
    if (!real) real = dlsym(RTLD_NEXT, "pread64");
    FAIL("no-read", EIO)
    return real(file, bytes, count, at);
}

int fdatasync(int file) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fdatasync");
    FAIL("no-sync", EIO)
    return real(file);
}

int fsync(int file) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fsync");
    FAIL("no-sync", EIO)
    return real(file);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    const char *directory = getenv("FAULTS");
    if (result == 0 && clock == CLOCK_REALTIME && directory) {
        char path[4096];
        long off = 0;
        int before = errno;
        snprintf(path, sizeof path, "%s/clock", directory);
        FILE *file = fopen(path, "r");
        if (file) {
            if (fscanf(file, "%ld", &off) == 1) now->tv_sec += off;
            fclose(file);
        }
        errno = before;
    }
    return result;
}
