/* Loading a module and getting a token that can be used, by nothing but its C ABI. */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "driver.h"

CK_FUNCTION_LIST *ck;
CK_FUNCTION_LIST_3_2 *ck32;
CK_SLOT_ID token_slot;
CK_SESSION_HANDLE main_session;
char user_pin[256];

/* Load and initialize; the time is from before dlopen until C_Initialize has returned. */
int module_load(const char *path, const char *init, uint64_t *nanoseconds, char *problem, size_t size) {
    /* NSS reads its parameters where everybody else has pReserved, and has one pointer more. */
    struct {
        CK_C_INITIALIZE_ARGS arguments;
        void *one_more;
    } wide;
    CK_C_GetFunctionList get_list;
    CK_C_GetInterface get_interface;
    CK_INTERFACE *interface = NULL;
    CK_VERSION version = {3, 2};
    uint64_t begin = now();
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    CK_RV rv;

    if (library == NULL) {
        snprintf(problem, size, "does not load: %s", dlerror());
        return 1;
    }
    get_list = (CK_C_GetFunctionList)dlsym(library, "C_GetFunctionList");
    if (get_list == NULL || get_list(&ck) != CKR_OK || ck == NULL) {
        snprintf(problem, size, "does not load: it has no C_GetFunctionList");
        return 1;
    }
    memset(&wide, 0, sizeof wide);
    wide.arguments.flags = CKF_OS_LOCKING_OK;
    wide.arguments.pReserved = init[0] ? (void *)init : NULL;
    rv = ck->C_Initialize(&wide);
    *nanoseconds = now() - begin;
    if (rv != CKR_OK) {
        snprintf(problem, size, "C_Initialize 0x%lx", (unsigned long)rv);
        return 1;
    }
    get_interface = (CK_C_GetInterface)dlsym(library, "C_GetInterface");
    if (get_interface != NULL && get_interface((CK_UTF8CHAR *)"PKCS 11", &version, &interface, 0) == CKR_OK)
        ck32 = interface->pFunctionList;
    return 0;
}

static int is_label(const CK_TOKEN_INFO *info, const char *label) {
    char padded[sizeof info->label];
    size_t length = strlen(label);

    memset(padded, ' ', sizeof padded);
    memcpy(padded, label, length < sizeof padded ? length : sizeof padded);
    return memcmp(padded, info->label, sizeof padded) == 0;
}

enum choice { BY_LABEL, UNINITIALIZED, WRITABLE };

static int find_slot(enum choice choice, const char *label) {
    CK_SLOT_ID slots[256];
    CK_ULONG count = sizeof slots / sizeof *slots, index;
    CK_TOKEN_INFO info;

    if (ck->C_GetSlotList(CK_TRUE, slots, &count) != CKR_OK)
        return 0;
    for (index = 0; index < count; index++) {
        if (ck->C_GetTokenInfo(slots[index], &info) != CKR_OK)
            continue;
        if ((choice == BY_LABEL && (info.flags & CKF_TOKEN_INITIALIZED) && is_label(&info, label)) ||
            (choice == UNINITIALIZED && !(info.flags & CKF_TOKEN_INITIALIZED)) ||
            (choice == WRITABLE && !(info.flags & CKF_WRITE_PROTECTED))) {
            token_slot = slots[index];
            return 1;
        }
    }
    return 0;
}

#define TRY(name, arguments)                                              \
    do {                                                                  \
        CK_RV rv = ck->name arguments;                                    \
        if (rv != CKR_OK) {                                               \
            snprintf(problem, size, #name " 0x%lx", (unsigned long)rv);   \
            return 1;                                                     \
        }                                                                 \
    } while (0)

static CK_UTF8CHAR *text(const char *string) { return (CK_UTF8CHAR *)string; }

/* Set the user's PIN as the security officer. */
static int set_pin(const char *so_pin, const char *pin, char *problem, size_t size) {
    CK_SESSION_HANDLE session;

    TRY(C_OpenSession, (token_slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &session));
    TRY(C_Login, (session, CKU_SO, text(so_pin), strlen(so_pin)));
    TRY(C_InitPIN, (session, text(pin), strlen(pin)));
    TRY(C_Logout, (session));
    TRY(C_CloseSession, (session));
    return 0;
}

/* Make or find the token, and log the main session in.
 *
 * Modes: "named" uses the token with that label as it is; "fresh" makes one of a token that is not initialized;
 * "nss" sets the first PIN of a new NSS database. The two last ones find their own token again. */
int module_token(const char *mode, const char *label, const char *so_pin, const char *pin, char *problem, size_t size) {
    CK_UTF8CHAR padded[32];
    CK_TOKEN_INFO info;

    if (strcmp(mode, "nss") == 0) {
        if (!find_slot(WRITABLE, label)) {
            snprintf(problem, size, "no token that can be written");
            return 1;
        }
        TRY(C_GetTokenInfo, (token_slot, &info));
        if (!(info.flags & CKF_USER_PIN_INITIALIZED) && set_pin("", pin, problem, size) != 0)
            return 1;
    } else if (!find_slot(BY_LABEL, label)) {
        if (strcmp(mode, "fresh") != 0) {
            snprintf(problem, size, "no token labelled %s", label);
            return 1;
        }
        if (!find_slot(UNINITIALIZED, label)) {
            snprintf(problem, size, "no token: none is free to be initialized, and none was named");
            return 1;
        }
        memset(padded, ' ', sizeof padded);
        memcpy(padded, label, strlen(label) < sizeof padded ? strlen(label) : sizeof padded);
        TRY(C_InitToken, (token_slot, text(so_pin), strlen(so_pin), padded));
        if (!find_slot(BY_LABEL, label)) {
            snprintf(problem, size, "no token: it is not there after C_InitToken");
            return 1;
        }
        if (set_pin(so_pin, pin, problem, size) != 0)
            return 1;
    }
    TRY(C_OpenSession, (token_slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &main_session));
    TRY(C_Login, (main_session, CKU_USER, text(pin), strlen(pin)));
    snprintf(user_pin, sizeof user_pin, "%s", pin);
    return 0;
}

/* Find a slot that has a mechanism: the token's own, or another one of the module (NSS has a slot for digests). */
int module_slot_for(CK_MECHANISM_TYPE mechanism, CK_SLOT_ID *slot) {
    CK_SLOT_ID slots[256];
    CK_ULONG count = sizeof slots / sizeof *slots, index;
    CK_MECHANISM_INFO info;

    *slot = token_slot;
    if (ck->C_GetMechanismInfo(token_slot, mechanism, &info) == CKR_OK)
        return 1;
    if (ck->C_GetSlotList(CK_TRUE, slots, &count) != CKR_OK)
        return 0;
    for (index = 0; index < count; index++)
        if (ck->C_GetMechanismInfo(slots[index], mechanism, &info) == CKR_OK) {
            *slot = slots[index];
            return 1;
        }
    return 0;
}

void module_unload(void) {
    if (ck != NULL)
        ck->C_Finalize(NULL);
}
