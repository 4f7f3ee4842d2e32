/* Threads that come, call and go: nothing of them stays. */
#include "host.h"

#include <dirent.h>

static CK_SLOT_ID slot;

static void *visit(void *own_session)
{
    CK_BYTE random[16];
    static CK_SESSION_HANDLE common;
    CK_SESSION_HANDLE session;
    if (own_session == NULL) {
        CK_SESSION_HANDLE known = __atomic_load_n(&common, __ATOMIC_ACQUIRE);
        if (known == 0) {
            known = open_session(slot);
            __atomic_store_n(&common, known, __ATOMIC_RELEASE);
        }
        OK(p11->C_GenerateRandom(known, random, sizeof random));
        return NULL;
    }
    session = open_session(slot);
    sign(session, mac_key(session));
    OK(p11->C_CloseSession(session));
    return NULL;
}

static long memory(void)
{
    char line[256];
    long total = 0, one;
    FILE *file = fopen("/proc/self/smaps_rollup", "r");
    CHECK(file != NULL);
    while (fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "Private_Dirty: %ld kB", &one) == 1)
            total += one;
    }
    fclose(file);
    return total;
}

/* KiB. AddressSanitizer remembers every thread. */
#if defined(__SANITIZE_ADDRESS__)
#define LIMIT 4096
#else
#define LIMIT 1024
#endif

int main(int argc, char **argv)
{
    CHECK(argc > 2);
    int count = atoi(argv[2]);
    long used = 0;
    load(argv[1]);
    OK(p11->C_Initialize(NULL));
    slot = token_slot();
    for (int i = 0; i < count; i += 4) {
        pthread_t threads[4];
        if (i >= count / 5 && used == 0)
            used = memory();
        for (int t = 0; t < 4; t++)
            CHECK(pthread_create(&threads[t], NULL, visit, t == 0 ? NULL : &slot) == 0);
        for (int t = 0; t < 4; t++)
            pthread_join(threads[t], NULL);
    }
    long grown = memory() - used;
    printf("memory %ld -> %ld KiB\n", used, used + grown);
    if (grown > LIMIT)
        FAIL("memory has grown by %ld KiB with %d threads", grown, count);
    OK(p11->C_Finalize(NULL));
    return 0;
}
