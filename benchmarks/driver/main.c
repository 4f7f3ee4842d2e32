/* The protocol: a line of tab-separated fields in, a line out.
 *
 *     load PATH INIT                    ok NANOSECONDS          INIT is handed over as pReserved
 *     engine PATH                       ok VERSION              libcrypto instead of a module
 *     token MODE LABEL SO_PIN PIN       ok
 *     info                              ok MANUFACTURER, VERSION
 *     prepare OPERATION SIZE PARTS MECHANISM   ok
 *     run THREADS COUNT WARM            ok NANOSECONDS OPERATIONS
 *     finish                            ok
 *     grow COUNT                        ok COUNT                until that many token objects are there
 *     count MOST                        ok COUNT                how many of them are there, up to MOST
 *     shrink                            ok                      they are destroyed
 *     memory WHAT COUNT                 ok BYTES COUNT          WHAT: process, sessions, objects, touched
 *     key LABEL                         ok                      a P-256 key pair in the token
 *     quit
 *
 * What does not work is answered with "lacks MECHANISM" or "error TEXT"; a text may hold the number of a CKR_ code.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "driver.h"

static FILE *answers;
static run current;

static void error(const char *call, CK_RV rv) {
    fprintf(answers, "error %s 0x%lx\n", call == NULL ? "?" : call, (unsigned long)rv);
}

static const operation *find_in(const operation *table, const char *name) {
    for (; table->name != NULL; table++)
        if (strcmp(table->name, name) == 0)
            return table;
    return NULL;
}

static const operation *find(const char *name) {
    const operation *found = NULL;

    if (ck == NULL)
        return find_in(raw_operations, name);
    found = find_in(module_operations, name);
    found = found != NULL ? found : find_in(key_operations, name);
    return found != NULL ? found : find_in(search_operations, name);
}

static void finish(void) {
    if (current.operation != NULL && current.operation->finish != NULL)
        current.operation->finish(&current);
    memset(&current, 0, sizeof current);
}

static void prepare(char **field) {
    finish();
    current.operation = find(field[1]);
    current.size = strtoul(field[2], NULL, 10);
    current.parts = strtoul(field[3], NULL, 10);
    current.mechanism = strtoul(field[4], NULL, 0);
    current.slot = token_slot;
    if (current.operation == NULL)
        fprintf(answers, "error no such operation here\n");
    else if (current.operation->prepare != NULL && current.operation->prepare(&current) != 0) {
        if (current.is_lacking)
            fprintf(answers, "lacks 0x%lx\n", (unsigned long)current.lacks);
        else
            error(current.call, current.rv);
        finish();
    } else
        fprintf(answers, "ok\n");
}

static void measure(char **field) {
    uint64_t nanoseconds = 0;
    worker trouble = {0};
    unsigned long threads = strtoul(field[1], NULL, 10), count = strtoul(field[2], NULL, 10);

    if (current.operation == NULL || threads == 0 || threads > MAX_THREADS)
        fprintf(answers, "error nothing is prepared\n");
    else if (timing_run(&current, (unsigned)threads, count, strtoul(field[3], NULL, 10), &nanoseconds, &trouble) != 0)
        error(trouble.call, trouble.rv);
    else
        fprintf(answers, "ok %llu %lu\n", (unsigned long long)nanoseconds, threads * count);
}

static void memory(char **field) {
    unsigned long count = strtoul(field[2], NULL, 10);
    CK_RV rv = CKR_OK;
    long bytes;

    if (strcmp(field[1], "process") == 0)
        bytes = resident();
    else if (strcmp(field[1], "sessions") == 0)
        bytes = memory_of_sessions(count, &rv);
    else if (strcmp(field[1], "objects") == 0)
        bytes = memory_of_objects(count, &rv);
    else
        bytes = memory_of_touched(&count, &rv);
    if (rv != CKR_OK)
        error(field[1], rv);
    else
        fprintf(answers, "ok %ld %lu\n", bytes, count);
}

static void say_info(void) {
    CK_INFO info;

    if (ck->C_GetInfo(&info) != CKR_OK)
        fprintf(answers, "ok\n");
    else
        fprintf(answers, "ok %.32s %d.%d\n", info.libraryDescription, info.libraryVersion.major,
                info.libraryVersion.minor);
}

static void answer(char **field, int count) {
    char problem[512];
    uint64_t nanoseconds;
    CK_RV rv = CKR_OK;
    const char *command = field[0];

    if (strcmp(command, "load") == 0 && count == 3) {
        if (module_load(field[1], field[2], &nanoseconds, problem, sizeof problem) != 0)
            fprintf(answers, "error %s\n", problem);
        else
            fprintf(answers, "ok %llu\n", (unsigned long long)nanoseconds);
    } else if (strcmp(command, "engine") == 0 && count == 2) {
        if (raw_load(field[1], problem, sizeof problem) != 0)
            fprintf(answers, "error %s\n", problem);
        else
            fprintf(answers, "ok %s\n", raw_version());
    } else if (strcmp(command, "prepare") == 0 && count == 5)
        prepare(field);
    else if (strcmp(command, "run") == 0 && count == 4)
        measure(field);
    else if (strcmp(command, "finish") == 0) {
        finish();
        fprintf(answers, "ok\n");
    } else if (strcmp(command, "memory") == 0 && count == 3)
        memory(field);
    else if (ck == NULL)
        fprintf(answers, "error no module is loaded, or no such command\n");
    else if (strcmp(command, "token") == 0 && count == 5) {
        if (module_token(field[1], field[2], field[3], field[4], problem, sizeof problem) != 0)
            fprintf(answers, "error %s\n", problem);
        else
            fprintf(answers, "ok\n");
    } else if (strcmp(command, "info") == 0)
        say_info();
    else if (strcmp(command, "grow") == 0 && count == 2) {
        if (objects_grow(strtoul(field[1], NULL, 10), &rv) != 0)
            error("C_CreateObject", rv);
        else
            fprintf(answers, "ok %s\n", field[1]);
    } else if (strcmp(command, "count") == 0 && count == 2) {
        unsigned long there = objects_count(strtoul(field[1], NULL, 10), &rv);
        if (rv != CKR_OK)
            error("C_FindObjects", rv);
        else
            fprintf(answers, "ok %lu\n", there);
    } else if (strcmp(command, "shrink") == 0) {
        if (objects_shrink(&rv) != 0)
            error("C_DestroyObject", rv);
        else
            fprintf(answers, "ok\n");
    } else if (strcmp(command, "key") == 0 && count == 2) {
        rv = token_pair(field[1]);
        if (rv != CKR_OK)
            error("C_GenerateKeyPair", rv);
        else
            fprintf(answers, "ok\n");
    } else
        fprintf(answers, "error no such command\n");
}

int main(void) {
    char line[8192];

    /* Whatever a module prints is not an answer. */
    answers = fdopen(dup(STDOUT_FILENO), "w");
    if (answers == NULL || dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
        return 1;
    fcntl(fileno(answers), F_SETFD, FD_CLOEXEC);
    setvbuf(answers, NULL, _IOLBF, 0);
    while (fgets(line, sizeof line, stdin) != NULL) {
        char *field[8], *rest = line;
        int count = 0;

        line[strcspn(line, "\n")] = 0;
        while (count < 8 && rest != NULL)
            field[count++] = strsep(&rest, "\t");
        if (strcmp(field[0], "quit") == 0)
            break;
        answer(field, count);
    }
    finish();
    module_unload();
    return 0;
}
