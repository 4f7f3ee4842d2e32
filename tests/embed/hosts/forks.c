/* fork without exec. The child is not initialized, may initialize, and works; the parent goes on as if nothing were. */
#include "host.h"

#include <sched.h>
#include <sys/syscall.h>

static CK_SLOT_ID slot;
static volatile int ending;
static volatile long signatures;

static int child_works(void)
{
    CK_INFO info;
    CK_SESSION_INFO session_info;
    CK_SESSION_HANDLE session;
    EXPECT(CKR_CRYPTOKI_NOT_INITIALIZED, p11->C_GetInfo(&info));
    EXPECT(CKR_CRYPTOKI_NOT_INITIALIZED, p11->C_GetSessionInfo(1, &session_info));
    EXPECT(CKR_CRYPTOKI_NOT_INITIALIZED, p11->C_Finalize(NULL));
    OK(p11->C_Initialize(NULL));
    session = open_session(slot);
    login(session);
    sign(session, mac_key(session));
    OK(p11->C_Logout(session));
    OK(p11->C_Finalize(NULL));
    return 0;
}

/* One fork in a process with one thread; the parent is initialized or not. */
static void quiet(int initialized, int grandchild)
{
    CK_SESSION_HANDLE session = 0;
    CK_OBJECT_HANDLE key = 0;
    if (initialized) {
        session = open_session(slot);
        key = mac_key(session);
    }
    pid_t child = fork();
    if (child == 0) {
        if (grandchild) {
            pid_t second = fork();
            if (second == 0)
                _exit(child_works());
            CHECK(await(second, 30) == 0);
        }
        _exit(child_works());
    }
    int status = await(child, 30);
    if (status != 0)
        FAIL("the child ended with %d", status);
    if (initialized) {
        sign(session, key);
        OK(p11->C_CloseSession(session));
    }
}

static void *sign_on(void *kind)
{
    CK_SESSION_HANDLE session = open_session(slot);
    CK_OBJECT_HANDLE key = mac_key(session), public, private;
    ec_keys(session, &public, &private);
    while (!ending) {
        if (kind != NULL)
            sign(session, key);
        else
            OK(try_ec_sign(session, public, private));
        __sync_fetch_and_add(&signatures, 1);
    }
    OK(p11->C_CloseSession(session));
    return NULL;
}

static void *wait_for_event(void *unused)
{
    CK_SLOT_ID changed;
    (void)unused;
    EXPECT(CKR_CRYPTOKI_NOT_INITIALIZED, p11->C_WaitForSlotEvent(0, &changed, NULL));
    return NULL;
}

static long seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

/* Forks by a thread that has nothing to do with the four that sign. */
static void busy(int children)
{
    pthread_t threads[4], waiter;
    long fastest = -1;
    for (long i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, sign_on, i % 2 ? &threads : NULL) == 0);
    CHECK(pthread_create(&waiter, NULL, wait_for_event, NULL) == 0);
    while (signatures < 100)
        milliseconds(1);
    for (int i = 0; i < children; i++) {
        long begin = seconds();
        pid_t child = fork();
        if (child == 0) {
            if (i % 5 == 0)
                _exit(0); /* as before an exec */
            _exit(child_works());
        }
        long taken = seconds() - begin;
        CHECK(child > 0);
        fastest = fastest < 0 || taken < fastest ? taken : fastest;
        long before = signatures;
        int status = await(child, 60);
        if (status != 0)
            FAIL("child %d ended with %d", i, status);
        for (int wait = 0; signatures == before; wait++) {
            CHECK(wait < 60000);
            milliseconds(1);
        }
    }
    /* A thread that waits for an event would hold every fork up for as long as calls are waited for, 5 s. */
    CHECK(fastest < 4);
    ending = 1;
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    OK(p11->C_Finalize(NULL));
    pthread_join(waiter, NULL);
    OK(p11->C_Initialize(NULL));
}

static void *fork_here(void *rounds)
{
    for (int i = 0; i < *(int *)rounds; i++)
        quiet(1, i == 0);
    return NULL;
}

/* Forks by a thread that is not the one which started the interpreter, and by several at once. */
static void by_other_threads(void)
{
    pthread_t threads[3];
    int rounds = 5;
    for (int i = 0; i < 3; i++)
        CHECK(pthread_create(&threads[i], NULL, fork_here, &rounds) == 0);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
}

/* A child that no fork handler has seen. */
static void raw_clone(void)
{
    CK_SESSION_HANDLE session = open_session(slot);
    CK_OBJECT_HANDLE key = mac_key(session);
    pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
    if (child == 0)
        _exit(child_works());
    CHECK(child > 0);
    int status = await(child, 30);
    if (status != 0)
        FAIL("the clone ended with %d", status);
    sign(session, key);
    OK(p11->C_CloseSession(session));
}

int main(int argc, char **argv)
{
    CHECK(argc > 2);
    load(argv[1]);
    OK(p11->C_Initialize(NULL));
    slot = token_slot();
    if (strcmp(argv[2], "quiet") == 0) {
        quiet(1, 0);
        quiet(1, 1);
        OK(p11->C_Finalize(NULL));
        quiet(0, 0);
        OK(p11->C_Initialize(NULL));
        quiet(1, 0);
    } else if (strcmp(argv[2], "clone") == 0) {
        raw_clone();
        quiet(1, 0);
    } else if (strcmp(argv[2], "others") == 0) {
        by_other_threads();
        quiet(1, 1);
    } else {
        CHECK(argc > 3);
        busy(atoi(argv[3]));
    }
    OK(p11->C_Finalize(NULL));
    return 0;
}
