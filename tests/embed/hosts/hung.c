/* A slot whose adapter hangs, or blocks its loop, beside a software slot: the other threads, a fork, C_Finalize and the
 * end of the process do not wait for it. */
#include "host.h"

#define FAR 77

static CK_SLOT_ID near;
static const char *what;
static volatile CK_RV answer;

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void *hang(void *session)
{
    CK_MECHANISM mechanism = {CKM_SHA256, NULL, 0};
    CK_BYTE out[64];
    CK_ULONG length = sizeof out;
    OK(p11->C_DigestInit((CK_SESSION_HANDLE)session, &mechanism));
    answer = p11->C_Digest((CK_SESSION_HANDLE)session, (CK_BYTE *)what, strlen(what), out, &length);
    return NULL;
}

static void work_beside(void)
{
    CK_SESSION_HANDLE session = open_session(near);
    CK_OBJECT_HANDLE key = mac_key(session);
    double begin = now();
    for (int i = 0; i < 100; i++)
        sign(session, key);
    OK(p11->C_CloseSession(session));
    CHECK(now() - begin < 2);
}

int main(int argc, char **argv)
{
    CK_UTF8CHAR label[32] = "far                             ";
    pthread_t thread;
    CK_SLOT_ID slots[8];
    CK_ULONG count = 8;
    double begin;
    CHECK(argc > 3);
    what = argv[2];
    load(argv[1]);
    OK(p11->C_Initialize(NULL));
    OK(p11->C_GetSlotList(CK_FALSE, slots, &count));
    near = token_slot();
    CHECK(near != FAR);
    OK(p11->C_InitToken(FAR, (CK_UTF8CHAR_PTR)SO_PIN, sizeof SO_PIN - 1, label));
    CHECK(pthread_create(&thread, NULL, hang, (void *)open_session(FAR)) == 0);
    milliseconds(300);
    work_beside();

    begin = now();
    pid_t child = fork();
    if (child == 0) {
        OK(p11->C_Initialize(NULL));
        work_beside();
        OK(p11->C_Finalize(NULL));
        _exit(0);
    }
    CHECK(now() - begin < 2); /* a fork does not wait for the call */
    CHECK(await(child, 30) == 0);
    work_beside();

    begin = now();
    if (strcmp(argv[3], "exit") == 0)
        exit(0);
    OK(p11->C_Finalize(NULL));
    CHECK(now() - begin < 5);
    CHECK(pthread_join(thread, NULL) == 0);
    EXPECT(CKR_CRYPTOKI_NOT_INITIALIZED, answer);
    OK(p11->C_Initialize(NULL)); /* and all is as it was */
    work_beside();
    OK(p11->C_Finalize(NULL));
    CHECK(now() - begin < 10);
    return 0;
}
