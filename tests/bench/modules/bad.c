/* Modules that let their host down, one a build:
 *
 *     -DABORTS_IN_INITIALIZE   C_Initialize ends the process
 *     -DABORTS_IN_RANDOM       C_GenerateRandom ends the process
 *     -DHANGS_IN_RANDOM        C_GenerateRandom does not return
 *
 * All have one token, with one session of no content and no mechanism.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pkcs11.h"

static CK_RV initialize(CK_VOID_PTR arguments) {
    (void)arguments;
#ifdef ABORTS_IN_INITIALIZE
    abort();
#endif
    return CKR_OK;
}

static CK_RV finalize(CK_VOID_PTR reserved) { return reserved == NULL ? CKR_OK : CKR_ARGUMENTS_BAD; }

static CK_RV get_info(CK_INFO_PTR info) {
    memset(info, ' ', sizeof *info);
    return CKR_OK;
}

static CK_RV get_slot_list(CK_BBOOL present, CK_SLOT_ID_PTR slots, CK_ULONG_PTR count) {
    (void)present;
    if (slots != NULL)
        slots[0] = 1;
    *count = 1;
    return CKR_OK;
}

static CK_RV get_token_info(CK_SLOT_ID slot, CK_TOKEN_INFO_PTR info) {
    (void)slot;
    memset(info, 0, sizeof *info);
    memset(info->label, ' ', sizeof info->label);
    memcpy(info->label, "bad", 3);
    info->flags = CKF_TOKEN_INITIALIZED;
    return CKR_OK;
}

static CK_RV get_mechanism_info(CK_SLOT_ID slot, CK_MECHANISM_TYPE type, CK_MECHANISM_INFO_PTR info) {
    (void)slot, (void)type, (void)info;
    return CKR_MECHANISM_INVALID;
}

static CK_RV open_session(CK_SLOT_ID slot, CK_FLAGS flags, CK_VOID_PTR application, CK_NOTIFY notify,
                          CK_SESSION_HANDLE_PTR session) {
    (void)slot, (void)flags, (void)application, (void)notify;
    *session = 1;
    return CKR_OK;
}

static CK_RV close_session(CK_SESSION_HANDLE session) { return session == 1 ? CKR_OK : CKR_SESSION_HANDLE_INVALID; }

static CK_RV get_session_info(CK_SESSION_HANDLE session, CK_SESSION_INFO_PTR info) {
    memset(info, 0, sizeof *info);
    return close_session(session);
}

static CK_RV login(CK_SESSION_HANDLE session, CK_USER_TYPE user, CK_UTF8CHAR_PTR pin, CK_ULONG length) {
    (void)session, (void)user;
    return length == 4 && memcmp(pin, "good", 4) == 0 ? CKR_OK : CKR_PIN_INCORRECT;
}

static CK_RV find_init(CK_SESSION_HANDLE session, CK_ATTRIBUTE_PTR template, CK_ULONG count) {
    (void)template, (void)count;
    return close_session(session);
}

static CK_RV find(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE_PTR objects, CK_ULONG most, CK_ULONG_PTR count) {
    (void)objects, (void)most;
    *count = 0;
    return close_session(session);
}

static CK_RV generate_random(CK_SESSION_HANDLE session, CK_BYTE_PTR data, CK_ULONG length) {
    (void)session;
    memset(data, 4, length);
#ifdef ABORTS_IN_RANDOM
    abort();
#endif
#ifdef HANGS_IN_RANDOM
    for (;;)
        pause();
#endif
    return CKR_OK;
}

CK_RV C_GetFunctionList(CK_FUNCTION_LIST_PTR_PTR list) {
    static CK_FUNCTION_LIST functions;

    functions.version.major = 2;
    functions.version.minor = 40;
    functions.C_Initialize = initialize;
    functions.C_Finalize = finalize;
    functions.C_GetInfo = get_info;
    functions.C_GetSlotList = get_slot_list;
    functions.C_GetTokenInfo = get_token_info;
    functions.C_GetMechanismInfo = get_mechanism_info;
    functions.C_OpenSession = open_session;
    functions.C_CloseSession = close_session;
    functions.C_GetSessionInfo = get_session_info;
    functions.C_Login = login;
    functions.C_FindObjectsInit = find_init;
    functions.C_FindObjects = find;
    functions.C_FindObjectsFinal = close_session;
    functions.C_GenerateRandom = generate_random;
    *list = &functions;
    return CKR_OK;
}
