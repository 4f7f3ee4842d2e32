/* A host under load: threads that create, find, sign and destroy on one token.
 *
 *   worker MODULE TOKEN_LABEL PIN NAME THREADS SECONDS [sign]
 *
 * With "sign" it only signs and verifies, and says how often: "s COUNT", once a thread.
 *
 * Every acknowledged change is one line on standard output, written after the call returned and
 * before the next one starts: "+ LABEL" (created), "- LABEL" (about to be destroyed), "x LABEL"
 * (destroyed). The reader can thus tell at any instant, also after SIGKILL, which objects must be
 * there, which must not, and which may be either.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "pkcs11.h"

static CK_FUNCTION_LIST *f;
static CK_SLOT_ID slot;
static const char *name;
static double until;
static CK_OBJECT_HANDLE signing_key;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void check(const char *what, CK_RV rv)
{
    if (rv != CKR_OK) {
        fprintf(stderr, "%s: %s: 0x%lx\n", name, what, (unsigned long)rv);
        _exit(3);
    }
}

static void say(char sign, const char *label)
{
    char line[80];
    int n = snprintf(line, sizeof line, "%c %s\n", sign, label);
    if (write(1, line, (size_t)n) != n)
        _exit(4);
}

static CK_OBJECT_HANDLE find(CK_SESSION_HANDLE s, const char *label, CK_ULONG *count)
{
    CK_ATTRIBUTE t[] = {{CKA_LABEL, (void *)label, strlen(label)}};
    CK_OBJECT_HANDLE found[2] = {0, 0};
    check("C_FindObjectsInit", f->C_FindObjectsInit(s, t, 1));
    check("C_FindObjects", f->C_FindObjects(s, found, 2, count));
    check("C_FindObjectsFinal", f->C_FindObjectsFinal(s));
    return found[0];
}

static void *sign(void *argument)
{
    CK_SESSION_HANDLE s;
    unsigned char value[48], mac[32];
    char line[32];
    long i = 0;
    check("C_OpenSession", f->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &s));
    for (; now() < until; i++) {
        CK_MECHANISM hmac = {CKM_SHA256_HMAC, NULL, 0};
        CK_ULONG length = sizeof mac;
        memset(value, (int)(i & 0xff), sizeof value);
        check("C_SignInit", f->C_SignInit(s, &hmac, signing_key));
        check("C_Sign", f->C_Sign(s, value, sizeof value, mac, &length));
        check("C_VerifyInit", f->C_VerifyInit(s, &hmac, signing_key));
        check("C_Verify", f->C_Verify(s, value, sizeof value, mac, length));
    }
    snprintf(line, sizeof line, "%ld", i);
    say('s', line);
    check("C_CloseSession", f->C_CloseSession(s));
    return argument;
}

static void *work(void *argument)
{
    long thread = (long)argument;
    CK_SESSION_HANDLE s;
    check("C_OpenSession", f->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &s));
    for (long i = 0; now() < until; i++) {
        char label[64];
        unsigned char value[48], got[48], mac[32];
        CK_ULONG count, length;
        CK_OBJECT_CLASS class = CKO_DATA;
        CK_BBOOL yes = CK_TRUE, private = (CK_BBOOL)(i % 2);
        CK_OBJECT_HANDLE object, again;
        snprintf(label, sizeof label, "%s-%ld-%ld", name, thread, i);
        memset(value, (int)(i & 0xff), sizeof value);
        CK_ATTRIBUTE template[] = {
            {CKA_CLASS, &class, sizeof class},
            {CKA_TOKEN, &yes, sizeof yes},
            {CKA_PRIVATE, &private, sizeof private},
            {CKA_LABEL, label, strlen(label)},
            {CKA_VALUE, value, sizeof value},
        };
        check("C_CreateObject", f->C_CreateObject(s, template, 5, &object));
        say('+', label);

        again = find(s, label, &count);
        if (count != 1) {
            fprintf(stderr, "%s: found %lu of %s\n", name, (unsigned long)count, label);
            _exit(5);
        }
        CK_ATTRIBUTE read = {CKA_VALUE, got, sizeof got};
        check("C_GetAttributeValue", f->C_GetAttributeValue(s, again, &read, 1));
        if (read.ulValueLen != sizeof value || memcmp(got, value, sizeof value) != 0) {
            fprintf(stderr, "%s: wrong value of %s\n", name, label);
            _exit(6);
        }

        CK_MECHANISM hmac = {CKM_SHA256_HMAC, NULL, 0};
        length = sizeof mac;
        check("C_SignInit", f->C_SignInit(s, &hmac, signing_key));
        check("C_Sign", f->C_Sign(s, value, sizeof value, mac, &length));
        check("C_VerifyInit", f->C_VerifyInit(s, &hmac, signing_key));
        check("C_Verify", f->C_Verify(s, value, sizeof value, mac, length));

        if (i % 4 != 3) {
            say('-', label);
            check("C_DestroyObject", f->C_DestroyObject(s, again));
            say('x', label);
        }
    }
    check("C_CloseSession", f->C_CloseSession(s));
    return NULL;
}

int main(int argc, char **argv)
{
    CK_C_INITIALIZE_ARGS init = {0};
    CK_SLOT_ID slots[64];
    CK_ULONG count = 64;
    CK_SESSION_HANDLE s;
    pthread_t threads[64];
    if (argc != 7 && !(argc == 8 && strcmp(argv[7], "sign") == 0))
        return 2;
    name = argv[4];
    long n = atol(argv[5]);
    void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (library == NULL || n < 1 || n > 64) {
        fprintf(stderr, "%s\n", library ? "threads: 1 to 64" : dlerror());
        return 2;
    }
    CK_RV (*get)(CK_FUNCTION_LIST **) = (CK_RV (*)(CK_FUNCTION_LIST **))dlsym(library, "C_GetFunctionList");
    check("C_GetFunctionList", get(&f));
    init.flags = CKF_OS_LOCKING_OK;
    check("C_Initialize", f->C_Initialize(&init));
    check("C_GetSlotList", f->C_GetSlotList(CK_TRUE, slots, &count));
    int present = 0;
    for (CK_ULONG i = 0; i < count && !present; i++) {
        CK_TOKEN_INFO info;
        if (f->C_GetTokenInfo(slots[i], &info) == CKR_OK && strlen(argv[2]) <= 32 &&
            memcmp(info.label, argv[2], strlen(argv[2])) == 0) {
            slot = slots[i];
            present = 1;
        }
    }
    if (!present) {
        fprintf(stderr, "no token %s\n", argv[2]);
        return 2;
    }
    check("C_OpenSession", f->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &s));
    check("C_Login", f->C_Login(s, CKU_USER, (CK_UTF8CHAR *)argv[3], strlen(argv[3])));
    signing_key = find(s, "signing key", &count);
    if (count != 1) {
        fprintf(stderr, "no signing key\n");
        return 2;
    }
    say('r', "eady");
    until = now() + atof(argv[6]);
    for (long i = 0; i < n; i++)
        if (pthread_create(&threads[i], NULL, argc == 8 ? sign : work, (void *)i) != 0)
            return 2;
    for (long i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
    check("C_Finalize", f->C_Finalize(NULL));
    return 0;
}
