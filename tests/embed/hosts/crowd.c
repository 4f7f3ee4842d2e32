/* Threads that do everything at once, most of it without the interpreter: sessions, digests, signatures, new keys that
 * nobody looks at and such that somebody does, searches, attributes; and one that logs out and in again. */
#include "host.h"

enum { THREADS = 3 };

static CK_SLOT_ID slot;
static CK_SESSION_HANDLE main_session;
static pthread_barrier_t together;
static int rounds;

static CK_OBJECT_HANDLE new_key(CK_SESSION_HANDLE session)
{
    static CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    static CK_ULONG length = 32;
    CK_MECHANISM mechanism = {CKM_GENERIC_SECRET_KEY_GEN, NULL, 0};
    CK_ATTRIBUTE template[] = {
        {CKA_VALUE_LEN, &length, sizeof length}, {CKA_SIGN, &yes, 1}, {CKA_PRIVATE, &no, 1}, {CKA_TOKEN, &no, 1}};
    CK_OBJECT_HANDLE key;

    OK(p11->C_GenerateKey(session, &mechanism, template, 4, &key));
    return key;
}

static void digest(CK_SESSION_HANDLE session)
{
    CK_MECHANISM mechanism = {CKM_SHA256, NULL, 0};
    CK_BYTE out[32];
    CK_ULONG length = sizeof out;

    OK(p11->C_DigestInit(session, &mechanism));
    OK(p11->C_Digest(session, (CK_BYTE *)"data", 4, out, &length));
}

static void hmac(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE key)
{
    CK_MECHANISM mechanism = {CKM_SHA256_HMAC, NULL, 0};
    CK_BYTE out[32];
    CK_ULONG length = sizeof out;

    OK(p11->C_SignInit(session, &mechanism, key));
    OK(p11->C_Sign(session, (CK_BYTE *)"data", 4, out, &length));
}

static void look(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE key)
{
    static CK_OBJECT_CLASS class = CKO_SECRET_KEY;
    CK_ATTRIBUTE wanted = {CKA_CLASS, &class, sizeof class};
    CK_KEY_TYPE type;
    CK_ATTRIBUTE asked = {CKA_KEY_TYPE, &type, sizeof type};
    CK_OBJECT_HANDLE found[8];
    CK_ULONG count;

    OK(p11->C_GetAttributeValue(session, key, &asked, 1));
    CHECK(type == CKK_GENERIC_SECRET);
    OK(p11->C_FindObjectsInit(session, &wanted, 1));
    OK(p11->C_FindObjects(session, found, 8, &count));
    OK(p11->C_FindObjectsFinal(session));
    CHECK(count > 0);
}

static void *visit(void *number)
{
    CK_BYTE random[16];
    int i;

    pthread_barrier_wait(&together);
    for (i = 0; i < rounds; i++) {
        CK_SESSION_INFO info;
        CK_SESSION_HANDLE session = open_session(slot);
        CK_OBJECT_HANDLE key = new_key(session), unseen;
        OK(p11->C_GetSessionInfo(session, &info));
        OK(p11->C_GenerateRandom(session, random, sizeof random));
        digest(session);
        hmac(session, key);
        hmac(session, key);
        unseen = new_key(session);
        if (i % 4 == 0)
            look(session, key);
        if (i % 2)
            OK(p11->C_DestroyObject(session, unseen));
        OK(p11->C_CloseSession(session));
    }
    return number;
}

int main(int argc, char **argv)
{
    pthread_t threads[THREADS];
    CK_SESSION_HANDLE first;
    int i;

    CHECK(argc > 2);
    rounds = atoi(argv[2]);
    load(argv[1]);
    OK(p11->C_Initialize(NULL));
    slot = token_slot();
    main_session = open_session(slot);
    first = open_session(slot);
    for (i = 0; i < 3; i++)
        new_key(first); /* the way is known from here on */
    OK(p11->C_CloseSession(first));
    pthread_barrier_init(&together, NULL, THREADS + 1);
    for (i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, visit, NULL) == 0);
    pthread_barrier_wait(&together);
    login(main_session);
    OK(p11->C_Logout(main_session));
    for (i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    OK(p11->C_CloseSession(main_session));
    OK(p11->C_Finalize(NULL));
    return 0;
}
