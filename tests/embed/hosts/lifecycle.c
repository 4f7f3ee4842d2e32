/* C_Initialize and C_Finalize: their arguments, their order, and every other function before, between and after. */
#include "host.h"

typedef CK_RV (*any_function)(CK_ULONG, CK_ULONG, CK_ULONG, CK_ULONG, CK_ULONG, CK_ULONG, CK_ULONG, CK_ULONG, CK_ULONG,
                              CK_ULONG);

/* Everything but the list functions and C_Initialize says that there is nothing to call yet. */
static void all_not_initialized(void)
{
    any_function *functions = (any_function *)((char *)p11_3_2 + offsetof(CK_FUNCTION_LIST_3_2, C_Initialize));
    int asked = 0;
    for (int i = 0; i < 104; i++) {
        void *one = (void *)functions[i];
        if (one == (void *)p11_3_2->C_Initialize || one == (void *)p11_3_2->C_GetFunctionList ||
            one == (void *)p11_3_2->C_GetInterfaceList || one == (void *)p11_3_2->C_GetInterface)
            continue;
        EXPECT(CKR_CRYPTOKI_NOT_INITIALIZED, functions[i](0, 0, 0, 0, 0, 0, 0, 0, 0, 0));
        asked++;
    }
    CHECK(asked == 100);
}

static int created;
static CK_RV create_mutex(CK_VOID_PTR_PTR mutex)
{
    created++;
    *mutex = malloc(1);
    return CKR_OK;
}
static CK_RV other_mutex(CK_VOID_PTR mutex)
{
    (void)mutex;
    return CKR_OK;
}

static void initialize_arguments(void)
{
    CK_C_INITIALIZE_ARGS none = {NULL, NULL, NULL, NULL, 0, NULL};
    CK_C_INITIALIZE_ARGS arguments = none;

    OK(p11->C_Initialize(&arguments));
    OK(p11->C_Finalize(NULL));

    arguments.flags = CKF_OS_LOCKING_OK;
    OK(p11->C_Initialize(&arguments));
    OK(p11->C_Finalize(NULL));

    arguments.CreateMutex = create_mutex;
    EXPECT(CKR_ARGUMENTS_BAD, p11->C_Initialize(&arguments));
    arguments.DestroyMutex = other_mutex;
    arguments.LockMutex = other_mutex;
    EXPECT(CKR_ARGUMENTS_BAD, p11->C_Initialize(&arguments));
    arguments.UnlockMutex = other_mutex;
    OK(p11->C_Initialize(&arguments)); /* all four and the system's locks: those are taken */
    OK(p11->C_Finalize(NULL));
    CHECK(created == 0);
    arguments.flags = 0; /* only the host's: they cannot be honoured */
    EXPECT(CKR_CANT_LOCK, p11->C_Initialize(&arguments));

    arguments = none;
    arguments.flags = CKF_LIBRARY_CANT_CREATE_OS_THREADS | CKF_OS_LOCKING_OK;
    OK(p11->C_Initialize(&arguments));
    work_once();
    OK(p11->C_Finalize(NULL));

    arguments = none;
    arguments.pReserved = "anything";
    EXPECT(CKR_ARGUMENTS_BAD, p11->C_Initialize(&arguments));
}

/* Two libraries of a program use the module without knowing of each other: the second is told, and both work. */
static void two_callers(void)
{
    CK_SESSION_HANDLE first, second;
    OK(p11->C_Initialize(NULL));
    first = open_session(token_slot());
    EXPECT(CKR_CRYPTOKI_ALREADY_INITIALIZED, p11->C_Initialize(NULL));
    second = open_session(token_slot());
    sign(first, mac_key(first));
    sign(second, mac_key(second));
    OK(p11->C_CloseSession(second));
    sign(first, mac_key(first));
    EXPECT(CKR_ARGUMENTS_BAD, p11->C_Finalize("reserved"));
    sign(first, mac_key(first));
    OK(p11->C_Finalize(NULL));
    EXPECT(CKR_CRYPTOKI_NOT_INITIALIZED, p11->C_CloseSession(first));
    EXPECT(CKR_CRYPTOKI_NOT_INITIALIZED, p11->C_Finalize(NULL));
}

static void *initialize_too(void *result)
{
    *(CK_RV *)result = p11->C_Initialize(NULL);
    return NULL;
}

/* Eight threads at once, also the first time: one does it, the others wait for it and are told. */
static void all_at_once(void)
{
    pthread_t threads[8];
    CK_RV results[8];
    int done = 0;
    for (int i = 0; i < 8; i++)
        CHECK(pthread_create(&threads[i], NULL, initialize_too, &results[i]) == 0);
    for (int i = 0; i < 8; i++) {
        pthread_join(threads[i], NULL);
        if (results[i] == CKR_OK)
            done++;
        else
            CHECK(results[i] == CKR_CRYPTOKI_ALREADY_INITIALIZED);
    }
    CHECK(done == 1);
    work_once();
    OK(p11->C_Finalize(NULL));
}

/* A handle of an earlier life means nothing in the next one. */
static void old_handles(void)
{
    CK_SESSION_HANDLE session;
    CK_SESSION_INFO info;
    OK(p11->C_Initialize(NULL));
    session = open_session(token_slot());
    OK(p11->C_Finalize(NULL));
    OK(p11->C_Initialize(NULL));
    EXPECT(CKR_SESSION_HANDLE_INVALID, p11->C_GetSessionInfo(session, &info));
    OK(p11->C_Finalize(NULL));
}

int main(int argc, char **argv)
{
    CHECK(argc > 1);
    load(argv[1]);
    all_not_initialized();
    all_at_once();
    initialize_arguments();
    two_callers();
    old_handles();
    all_not_initialized();
    return 0;
}
