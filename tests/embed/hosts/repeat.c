/* A thousand lives in one process: no descriptor, thread or memory is left over. With "reload" the library is closed
 * and opened each time. */
#include "host.h"

#include <dirent.h>

static int entries(const char *path)
{
    DIR *directory = opendir(path);
    int count = 0;
    CHECK(directory != NULL);
    while (readdir(directory) != NULL)
        count++;
    closedir(directory);
    return count;
}

/* Private memory in KiB: what the process alone has made. */
static long memory(void)
{
    char line[256];
    long total = 0, one;
    FILE *file = fopen("/proc/self/smaps_rollup", "r");
    CHECK(file != NULL);
    while (fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "Private_Dirty: %ld kB", &one) == 1 || sscanf(line, "Private_Clean: %ld kB", &one) == 1)
            total += one;
    }
    fclose(file);
    return total;
}

int main(int argc, char **argv)
{
    int descriptors = 0, threads = 0;
    long used = 0;
    CHECK(argc > 3);
    int rounds = atoi(argv[2]), reload = strcmp(argv[3], "reload") == 0, work = strcmp(argv[3], "work") == 0;
    load(argv[1]);
    for (int i = 0; i < rounds; i++) {
        if (reload) {
            CHECK(dlclose(module_handle) == 0);
            load(argv[1]);
        }
        OK(p11->C_Initialize(NULL));
        if (work || i == 0)
            work_once();
        OK(p11->C_Finalize(NULL));
        /* The first tenth fills caches and arenas. */
        if (i == rounds / 10) {
            descriptors = entries("/proc/self/fd");
            threads = entries("/proc/self/task");
            used = memory();
        }
    }
    long grown = memory() - used;
    printf("descriptors %d -> %d, threads %d -> %d, memory %ld -> %ld KiB\n", descriptors, entries("/proc/self/fd"),
           threads, entries("/proc/self/task"), used, used + grown);
    CHECK(entries("/proc/self/fd") == descriptors);
    CHECK(entries("/proc/self/task") == threads);
    if (grown > 1024)
        FAIL("memory has grown by %ld KiB in %d rounds", grown, rounds - rounds / 10);
    return 0;
}
