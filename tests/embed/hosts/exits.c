/* Ends of a process: without C_Finalize, with it in an exit handler, with threads inside calls. */
#include "host.h"

static CK_SLOT_ID slot;

static void finalize_at_exit(void)
{
    OK(p11->C_Finalize(NULL));
    fputs("finalized\n", stderr);
}

static void *sign_for_ever(void *unused)
{
    CK_SESSION_HANDLE session = open_session(slot);
    CK_OBJECT_HANDLE key = mac_key(session);
    (void)unused;
    /* C_Finalize in an exit handler may come first: that is no error here. */
    while (try_sign(session, key) == CKR_OK)
        ;
    return NULL;
}

static void *wait_for_event(void *result)
{
    CK_SLOT_ID changed;
    *(CK_RV *)result = p11->C_WaitForSlotEvent(0, &changed, NULL);
    return NULL;
}

__attribute__((destructor)) static void last_words(void)
{
    CK_INFO info;
    /* Destructors of a program run after the exit handlers, those of its libraries later still. */
    if (p11 != NULL)
        (void)p11->C_GetInfo(&info);
}

int main(int argc, char **argv)
{
    CK_RV waited = CKR_OK;
    pthread_t thread, waiter;
    CHECK(argc > 2);
    int at_exit = strstr(argv[2], "atexit") != NULL, early = strstr(argv[2], "early") != NULL;
    if (at_exit && early)
        atexit(finalize_at_exit); /* before the library is there: runs after its own handlers */
    load(argv[1]);
    if (at_exit && !early)
        atexit(finalize_at_exit);
    OK(p11->C_Initialize(NULL));
    slot = token_slot();
    CK_SESSION_HANDLE session = open_session(slot);
    login(session);
    sign(session, mac_key(session));
    if (strstr(argv[2], "threads") != NULL) {
        for (int i = 0; i < 4; i++)
            CHECK(pthread_create(&thread, NULL, sign_for_ever, NULL) == 0);
        milliseconds(50);
    }
    if (strstr(argv[2], "waiting") != NULL) {
        CHECK(pthread_create(&waiter, NULL, wait_for_event, &waited) == 0);
        milliseconds(50);
        OK(p11->C_Finalize(NULL));
        pthread_join(waiter, NULL);
        CHECK(waited == CKR_CRYPTOKI_NOT_INITIALIZED);
    }
    if (strstr(argv[2], "dlclose") != NULL)
        CHECK(dlclose(module_handle) == 0);
    if (strstr(argv[2], "pthread_exit") != NULL)
        pthread_exit(NULL); /* the process ends with its last thread, which is this one */
    return 0;
}
