/* A host that does what a short-lived program does with a PKCS#11 module, once:
 *
 *     cold_start MODULE                initialize and finalize
 *     cold_start MODULE LABEL PIN      initialize, find the token, log in, find a private key, sign with ECDSA, finalize
 */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "pkcs11.h"

static int failed(const char *what, CK_RV rv) {
    fprintf(stderr, "%s: 0x%lx\n", what, (unsigned long)rv);
    return 1;
}

#define CALL(name, arguments)                     \
    do {                                          \
        CK_RV result = functions->name arguments; \
        if (result != CKR_OK)                     \
            return failed(#name, result);         \
    } while (0)

static int sign(CK_FUNCTION_LIST *functions, const char *label, const char *pin) {
    CK_SLOT_ID slots[64];
    CK_ULONG count = sizeof slots / sizeof *slots, chosen, found = 0;
    CK_TOKEN_INFO info;
    CK_SESSION_HANDLE session;
    CK_OBJECT_CLASS class = CKO_PRIVATE_KEY;
    CK_ATTRIBUTE template[] = {{CKA_CLASS, &class, sizeof class}};
    CK_OBJECT_HANDLE key;
    CK_MECHANISM mechanism = {CKM_ECDSA, NULL, 0};
    CK_BYTE digest[32] = {1}, signature[256];
    CK_ULONG length = sizeof signature;

    CALL(C_GetSlotList, (CK_TRUE, slots, &count));
    for (chosen = 0; chosen < count; chosen++) {
        CALL(C_GetTokenInfo, (slots[chosen], &info));
        if (strncmp((const char *)info.label, label, strlen(label)) == 0 && info.label[strlen(label)] == ' ')
            break;
    }
    if (chosen == count)
        return failed("no such token", CKR_TOKEN_NOT_PRESENT);
    CALL(C_OpenSession, (slots[chosen], CKF_SERIAL_SESSION, NULL, NULL, &session));
    CALL(C_Login, (session, CKU_USER, (CK_UTF8CHAR *)pin, strlen(pin)));
    CALL(C_FindObjectsInit, (session, template, 1));
    CALL(C_FindObjects, (session, &key, 1, &found));
    CALL(C_FindObjectsFinal, (session));
    if (found != 1)
        return failed("no private key", CKR_OBJECT_HANDLE_INVALID);
    CALL(C_SignInit, (session, &mechanism, key));
    CALL(C_Sign, (session, digest, sizeof digest, signature, &length));
    return length == 64 ? 0 : failed("length of the signature", length);
}

int main(int argc, char **argv) {
    CK_C_GetFunctionList get_list;
    CK_FUNCTION_LIST *functions;
    void *library;

    if (argc != 2 && argc != 4)
        return 2;
    library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    get_list = (CK_C_GetFunctionList)dlsym(library, "C_GetFunctionList");
    if (get_list == NULL || get_list(&functions) != CKR_OK)
        return failed("C_GetFunctionList", CKR_GENERAL_ERROR);
    CALL(C_Initialize, (NULL));
    if (argc == 4 && sign(functions, argv[2], argv[3]) != 0)
        return 1;
    CALL(C_Finalize, (NULL));
    return 0;
}
