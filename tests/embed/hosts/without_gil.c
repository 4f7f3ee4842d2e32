/* Sessions are opened, looked at and closed while somebody else has the interpreter to himself. */
#include "host.h"

static CK_SLOT_ID slot;
static volatile int done;

static void *sessions(void *unused)
{
    (void)unused;
    for (int i = 0; i < 1000; i++) {
        CK_SESSION_HANDLE session;
        CK_SESSION_INFO info;
        CK_SLOT_INFO slot_info;
        CK_INFO library_info;
        OK(p11->C_OpenSession(slot, CKF_SERIAL_SESSION | (i % 2 ? CKF_RW_SESSION : 0), NULL, NULL, &session));
        OK(p11->C_GetSessionInfo(session, &info));
        CHECK(info.slotID == slot);
        OK(p11->C_GetSlotInfo(slot, &slot_info));
        OK(p11->C_GetInfo(&library_info));
        EXPECT(CKR_SESSION_HANDLE_INVALID, p11->C_GetSessionInfo(session + 1000000, &info));
        OK(p11->C_CloseSession(session));
    }
    done = 1;
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    int (*ensure)(void);
    void (*release)(int);
    int (*run)(const char *, void *);
    CHECK(argc > 1);
    load(argv[1]);
    OK(p11->C_Initialize(NULL));
    slot = token_slot();
    *(void **)&ensure = dlsym(RTLD_DEFAULT, "PyGILState_Ensure");
    *(void **)&release = dlsym(RTLD_DEFAULT, "PyGILState_Release");
    *(void **)&run = dlsym(RTLD_DEFAULT, "PyRun_SimpleStringFlags");
    CHECK(ensure != NULL && release != NULL && run != NULL);
    int state = ensure();
    CHECK(run("import gc\nassert gc.isenabled()\n", NULL) == 0); /* it is off while C_Initialize imports */
    CHECK(pthread_create(&thread, NULL, sessions, NULL) == 0);
    for (int wait = 0; !done; wait++) {
        CHECK(wait < 60000);
        milliseconds(1);
    }
    pthread_join(thread, NULL);
    release(state);
    OK(p11->C_Finalize(NULL));
    return 0;
}
