/* Test Anything Protocol, and a way to see what a library prints. */
#ifndef TAP_H
#define TAP_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int tap_count;
static int tap_failed;
static FILE* tap_out; /* the real stdout: the library's own is captured */
static char tap_log[1 << 20];

static void ok(int holds, const char* format, ...) {
    va_list arguments;
    fprintf(tap_out, "%sok %d - ", holds ? "" : "not ", ++tap_count);
    va_start(arguments, format);
    vfprintf(tap_out, format, arguments);
    va_end(arguments);
    fputc('\n', tap_out);
    fflush(tap_out);
    tap_failed += !holds;
}

/* From here on stdout goes to a file that `printed` reads. */
static void tap_begin(void) {
    int copy = dup(1);
    tap_out = fdopen(copy, "w");
    char name[] = "/tmp/mock-npu-conformance-XXXXXX";
    int file = mkstemp(name);
    unlink(name);
    dup2(file, 1);
    close(file);
}

/* What the library has printed since the last call. */
static inline const char* printed(void) {
    static long read_len;
    fflush(stdout);
    ssize_t len = pread(1, tap_log, sizeof tap_log - 1, read_len);
    if (len < 0) len = 0;
    tap_log[len] = 0;
    read_len += len;
    return tap_log;
}

static inline int has(const char* text, const char* part) {
    return strstr(text, part) != NULL;
}

static int tap_end(void) {
    fprintf(tap_out, "1..%d\n", tap_count);
    fclose(tap_out);
    return tap_failed != 0;
}

#endif
