/* What a call to a dispatched adapter costs: processor time in microseconds, with one thread and with eight, on one
 * processor. Prints both. */
#include "host.h"

#include <sched.h>
#include <sys/resource.h>

#define CALLS 4000

static CK_SLOT_ID slot;

static double used(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static void *call(void *unused)
{
    CK_SESSION_HANDLE session = open_session(slot);
    CK_BYTE out[16];
    for (int i = 0; i < CALLS; i++)
        OK(p11->C_GenerateRandom(session, out, sizeof out));
    OK(p11->C_CloseSession(session));
    return unused;
}

static double measure(int threads)
{
    pthread_t started[8];
    double begin = used();
    for (int i = 0; i < threads; i++)
        CHECK(pthread_create(&started[i], NULL, call, NULL) == 0);
    for (int i = 0; i < threads; i++)
        CHECK(pthread_join(started[i], NULL) == 0);
    return (used() - begin) / CALLS / threads;
}

int main(int argc, char **argv)
{
    CK_UTF8CHAR label[32] = "far                             ";
    CK_ULONG count = 1;
    cpu_set_t one;
    CHECK(argc > 1);
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    CHECK(sched_setaffinity(0, sizeof one, &one) == 0); /* or the machine's way of waking a processor is measured */
    /* Where that is allowed, nobody else's work is measured either. */
    struct sched_param first = {.sched_priority = 1};
    (void)sched_setscheduler(0, SCHED_RR, &first);
    load(argv[1]);
    OK(p11->C_Initialize(NULL));
    OK(p11->C_GetSlotList(CK_FALSE, &slot, &count));
    OK(p11->C_InitToken(slot, (CK_UTF8CHAR_PTR)SO_PIN, sizeof SO_PIN - 1, label));
    (void)measure(1);
    printf("%.2f %.2f\n", measure(1), measure(8));
    OK(p11->C_Finalize(NULL));
    return 0;
}
