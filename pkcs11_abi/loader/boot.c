/* C_Initialize and C_Finalize. */
#include "gate.h"

#include <stdio.h>

#include "python.h"
#include "trace.h"

#define FINALIZE_WAIT_MS 10000

const ferro_table *ferro_entered;

/* Check what the loader answers for: the ways of locking. The ABI judges pReserved by the configuration. */
static CK_RV check_arguments(const CK_C_INITIALIZE_ARGS *arguments)
{
    if (arguments == NULL)
        return CKR_OK;
    int given = (arguments->CreateMutex != NULL) + (arguments->DestroyMutex != NULL) +
                (arguments->LockMutex != NULL) + (arguments->UnlockMutex != NULL);
    if (given != 0 && given != 4)
        return CKR_ARGUMENTS_BAD;
    /* Python has locks of its own: the host's cannot take their place, only stand beside them. */
    if (given == 4 && !(arguments->flags & CKF_OS_LOCKING_OK))
        return CKR_CANT_LOCK;
    return CKR_OK;
}

static void report(const char *reason)
{
    char line[1400];
    snprintf(line, sizeof line, "ferrohsm: libpkcs11 cannot start: %s\n", reason);
    ferro_message(line);
    ferro_trace_note(line);
}

/* Start or find the interpreter, then initialize the ABI. */
static CK_RV start(CK_VOID_PTR pInitArgs)
{
    char message[1200] = "";
    const ferro_table *table = ferro_python_table(message, sizeof message);
    if (table == NULL) {
        report(message);
        return CKR_GENERAL_ERROR;
    }
    ferro_entered = table;
    ferro_functions = table->functions;
    CK_RV rv = table->functions->C_Initialize(pInitArgs);
    if (rv == CKR_OK)
        ferro_gate_outermost();
    return rv;
}

CK_RV ferro_initialize(CK_VOID_PTR pInitArgs)
{
    CK_RV rv = check_arguments(pInitArgs);
    if (rv != CKR_OK)
        return rv;
    ferro_gate_begin();
    (void)ferro_gate_check_child();
    if (ferro_self.depth != 0 || ferro_self.counted) /* called from within one of our calls */
        return CKR_CRYPTOKI_ALREADY_INITIALIZED;
    ferro_mutex_lock(&ferro_gate_mutex);
    if (ferro_gate_settle() == FERRO_OPEN) {
        ferro_mutex_unlock(&ferro_gate_mutex);
        return CKR_CRYPTOKI_ALREADY_INITIALIZED;
    }
    ferro_gate_change(FERRO_STARTING);
    ferro_mutex_unlock(&ferro_gate_mutex);
    rv = start(pInitArgs);
    ferro_mutex_lock(&ferro_gate_mutex);
    ferro_gate_change(rv == CKR_OK ? FERRO_OPEN : FERRO_CLOSED);
    ferro_mutex_unlock(&ferro_gate_mutex);
    return rv;
}

/* Wake what waits, wait for what computes, then let the ABI finalize; the GIL is lent to the others meanwhile. */
static CK_RV stop(int *phase)
{
    void *state = ferro_python_detach();
    ferro_entered->interrupt();
    int left = ferro_gate_drain(FINALIZE_WAIT_MS);
    ferro_python_reattach(state);
    if (left != 0) {
        /* A call that cannot be interrupted still uses what would be torn down: stay as we are. */
        *phase = FERRO_OPEN;
        return CKR_FUNCTION_FAILED;
    }
    *phase = FERRO_CLOSED;
    return ferro_functions->C_Finalize(NULL);
}

CK_RV ferro_finalize(CK_VOID_PTR pReserved)
{
    int phase;
    (void)ferro_gate_check_child();
    if (ferro_self.depth != 0 || ferro_self.counted) /* called from within one of our calls, which goes on */
        return CKR_FUNCTION_FAILED;
    ferro_mutex_lock(&ferro_gate_mutex);
    if (ferro_gate_settle() != FERRO_OPEN) {
        ferro_mutex_unlock(&ferro_gate_mutex);
        return CKR_CRYPTOKI_NOT_INITIALIZED;
    }
    if (pReserved != NULL) {
        ferro_mutex_unlock(&ferro_gate_mutex);
        return CKR_ARGUMENTS_BAD;
    }
    if (!ferro_python_usable()) {
        /* The host's interpreter is on its way out, and everything of ours in it as well. */
        ferro_gate_change(FERRO_CLOSED);
        ferro_mutex_unlock(&ferro_gate_mutex);
        return CKR_OK;
    }
    ferro_gate_change(FERRO_CLOSING);
    ferro_mutex_unlock(&ferro_gate_mutex);
    CK_RV rv = stop(&phase);
    ferro_mutex_lock(&ferro_gate_mutex);
    ferro_gate_change(phase);
    ferro_mutex_unlock(&ferro_gate_mutex);
    return rv;
}
