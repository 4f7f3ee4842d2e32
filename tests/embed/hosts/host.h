/* What the small host programs of these tests share. Each is its own process: it loads the module that its first
 * argument names and ends with 0 when everything was as it should be, else with a line on the standard error. */
#ifndef HOST_H
#define HOST_H

#define _GNU_SOURCE 1
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "pkcs11.h"

#define FAIL(...)                                               \
    do {                                                        \
        fprintf(stderr, "%s:%d: ", __FILE__, __LINE__);         \
        fprintf(stderr, __VA_ARGS__);                           \
        fprintf(stderr, "\n");                                  \
        fflush(stderr);                                         \
        _exit(1);                                               \
    } while (0)

#define CHECK(condition)                     \
    do {                                     \
        if (!(condition))                    \
            FAIL("not so: %s", #condition);  \
    } while (0)

#define EXPECT(result, call)                                                                             \
    do {                                                                                                 \
        CK_RV got = (call);                                                                              \
        if (got != (result))                                                                             \
            FAIL("%s: 0x%lx instead of %s", #call, (unsigned long)got, #result);                         \
    } while (0)

#define OK(call) EXPECT(CKR_OK, call)

static CK_FUNCTION_LIST *p11;
static CK_FUNCTION_LIST_3_2 *p11_3_2;
static void *module_handle;

static inline void load_with(const char *path, int flags)
{
    CK_C_GetFunctionList get_list;
    CK_C_GetInterface get_interface;
    CK_INTERFACE *interface;
    module_handle = dlopen(path, flags);
    if (module_handle == NULL)
        FAIL("%s", dlerror());
    *(void **)&get_list = dlsym(module_handle, "C_GetFunctionList");
    *(void **)&get_interface = dlsym(module_handle, "C_GetInterface");
    CHECK(get_list != NULL && get_interface != NULL);
    OK(get_list(&p11));
    OK(get_interface(NULL, NULL, &interface, 0));
    p11_3_2 = interface->pFunctionList;
}

static inline void load(const char *path)
{
    load_with(path, RTLD_NOW | RTLD_LOCAL);
}

#define PIN "2468-user"
#define SO_PIN "1357-officer"

/* Return the slot of a token: an initialized one, or the free slot, on which one is made. */
static inline CK_SLOT_ID token_slot(void)
{
    CK_SLOT_ID slots[16];
    CK_ULONG count = 16;
    CK_TOKEN_INFO info;
    CK_UTF8CHAR label[32];
    CK_SESSION_HANDLE session;
    OK(p11->C_GetSlotList(CK_TRUE, slots, &count));
    for (CK_ULONG i = 0; i < count; i++) {
        if (p11->C_GetTokenInfo(slots[i], &info) == CKR_OK && (info.flags & CKF_USER_PIN_INITIALIZED))
            return slots[i];
    }
    CHECK(count > 0);
    memset(label, ' ', sizeof label);
    memcpy(label, "embedded", 8);
    OK(p11->C_InitToken(slots[count - 1], (CK_UTF8CHAR_PTR)SO_PIN, sizeof SO_PIN - 1, label));
    OK(p11->C_OpenSession(slots[count - 1], CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &session));
    OK(p11->C_Login(session, CKU_SO, (CK_UTF8CHAR_PTR)SO_PIN, sizeof SO_PIN - 1));
    OK(p11->C_InitPIN(session, (CK_UTF8CHAR_PTR)PIN, sizeof PIN - 1));
    OK(p11->C_CloseSession(session));
    return slots[count - 1];
}

static inline CK_SESSION_HANDLE open_session(CK_SLOT_ID slot)
{
    CK_SESSION_HANDLE session;
    OK(p11->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &session));
    return session;
}

static inline void login(CK_SESSION_HANDLE session)
{
    CK_RV rv = p11->C_Login(session, CKU_USER, (CK_UTF8CHAR_PTR)PIN, sizeof PIN - 1);
    if (rv != CKR_USER_ALREADY_LOGGED_IN)
        OK(rv);
}

/* A session key for HMAC with a known value: what it signs is known too. It is public, no login is needed. */
static inline CK_OBJECT_HANDLE mac_key(CK_SESSION_HANDLE session)
{
    CK_OBJECT_CLASS class = CKO_SECRET_KEY;
    CK_KEY_TYPE type = CKK_GENERIC_SECRET;
    CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    CK_BYTE value[20];
    CK_OBJECT_HANDLE key;
    memset(value, 0x0b, sizeof value);
    CK_ATTRIBUTE template[] = {
        {CKA_CLASS, &class, sizeof class}, {CKA_KEY_TYPE, &type, sizeof type}, {CKA_TOKEN, &no, sizeof no},
        {CKA_PRIVATE, &no, sizeof no},     {CKA_SIGN, &yes, sizeof yes},       {CKA_VALUE, value, sizeof value},
    };
    OK(p11->C_CreateObject(session, template, sizeof template / sizeof template[0], &key));
    return key;
}

/* RFC 4231, test case 1, with SHA-256. */
static inline CK_RV try_sign(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE key)
{
    static const CK_BYTE expected[32] = {
        0xb0, 0x34, 0x4c, 0x61, 0xd8, 0xdb, 0x38, 0x53, 0x5c, 0xa8, 0xaf, 0xce, 0xaf, 0x0b, 0xf1, 0x2b,
        0x88, 0x1d, 0xc2, 0x00, 0xc9, 0x83, 0x3d, 0xa7, 0x26, 0xe9, 0x37, 0x6c, 0x2e, 0x32, 0xcf, 0xf7,
    };
    CK_MECHANISM mechanism = {CKM_SHA256_HMAC, NULL, 0};
    CK_BYTE signature[64];
    CK_ULONG length = sizeof signature;
    CK_RV rv = p11->C_SignInit(session, &mechanism, key);
    if (rv == CKR_OK)
        rv = p11->C_Sign(session, (CK_BYTE_PTR) "Hi There", 8, signature, &length);
    if (rv == CKR_OK && (length != sizeof expected || memcmp(signature, expected, length) != 0))
        FAIL("a wrong signature");
    return rv;
}

static inline void sign(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE key)
{
    OK(try_sign(session, key));
}

/* An EC key pair of the session, and a signature with it that is verified. */
static inline void ec_keys(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE *public, CK_OBJECT_HANDLE *private)
{
    static CK_BYTE p256[] = {0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07};
    CK_MECHANISM mechanism = {CKM_EC_KEY_PAIR_GEN, NULL, 0};
    CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    CK_ATTRIBUTE public_template[] = {
        {CKA_EC_PARAMS, p256, sizeof p256}, {CKA_TOKEN, &no, sizeof no}, {CKA_VERIFY, &yes, sizeof yes}};
    CK_ATTRIBUTE private_template[] = {
        {CKA_TOKEN, &no, sizeof no}, {CKA_PRIVATE, &no, sizeof no}, {CKA_SIGN, &yes, sizeof yes}};
    OK(p11->C_GenerateKeyPair(session, &mechanism, public_template, 3, private_template, 3, public, private));
}

static inline CK_RV try_ec_sign(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE public, CK_OBJECT_HANDLE private)
{
    CK_MECHANISM mechanism = {CKM_ECDSA_SHA256, NULL, 0};
    CK_BYTE signature[64];
    CK_ULONG length = sizeof signature;
    CK_RV rv = p11->C_SignInit(session, &mechanism, private);
    if (rv == CKR_OK)
        rv = p11->C_Sign(session, (CK_BYTE_PTR) "Hi There", 8, signature, &length);
    if (rv == CKR_OK)
        rv = p11->C_VerifyInit(session, &mechanism, public);
    if (rv == CKR_OK)
        rv = p11->C_Verify(session, (CK_BYTE_PTR) "Hi There", 8, signature, length);
    return rv;
}

/* Start, sign, stop: the whole of it once. */
static inline void work_once(void)
{
    CK_SESSION_HANDLE session = open_session(token_slot());
    sign(session, mac_key(session));
    OK(p11->C_CloseSession(session));
}

static inline void milliseconds(long count)
{
    struct timespec pause = {count / 1000, count % 1000 * 1000000};
    nanosleep(&pause, NULL);
}

/* Wait for a child and return its exit status; a child that hangs is killed and counts as -1. */
static inline int await(pid_t child, int seconds)
{
    int status = 0;
    for (int i = 0; i < seconds * 100; i++) {
        pid_t done = waitpid(child, &status, WNOHANG);
        if (done == child)
            return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
        milliseconds(10);
    }
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    return -1;
}

#endif
