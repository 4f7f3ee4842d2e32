/* The contract between the loader (libpkcs11.so, plain C) and the ABI (the extension module pkcs11_abi.module).
 *
 * The loader finds or starts an interpreter, imports pkcs11_abi.module and takes from it one capsule, the attribute
 * `table` named FERRO_TABLE_CAPSULE, which holds a ferro_table *. From then on every call is: trampoline, gate, table.
 */
#ifndef FERROHSM_BOOT_H
#define FERROHSM_BOOT_H

#include "pkcs11.h"

#ifdef __cplusplus
extern "C" {
#endif

#define FERRO_TABLE_VERSION 1
#define FERRO_HOST_VERSION 1
#define FERRO_TABLE_CAPSULE "pkcs11_abi.module.table"

/* The identity of the build. setup.py compiles it into the loader and into the ABI; ferrohsm._build has it too. */
#if defined(__GNUC__)
__attribute__((visibility("hidden")))
#endif
extern const char ferro_build_id[];
#define FERRO_BUILD_ID ferro_build_id

/* What the loader offers to the ABI. It lives as long as the process. */
typedef struct ferro_host {
    unsigned int version;     /* FERRO_HOST_VERSION */
    int hosted;               /* 1: the interpreter belongs to the host program, 0: the loader started it */
    const char *module_path;  /* absolute path of libpkcs11.so, UTF-8 */

    /* A call that waits for something that may take long (C_WaitForSlotEvent) steps out of the gate while it waits,
     * so that neither a fork nor C_Finalize has to wait for it. Neither function needs or takes the GIL, and no lock
     * that others need may be held across resume(), which blocks for the duration of a fork. resume() returns 0 when
     * all is as before, and 1 when the library was finalized meanwhile: the call then returns
     * CKR_CRYPTOKI_NOT_INITIALIZED at once and touches neither Python nor any state of the ABI. */
    void (*pause)(void);
    int (*resume)(void);

    /* 0 when the interpreter is being finalized or is gone: no Python function may be called any more. For code that
     * runs outside a call, such as the destructor of a thread key. */
    int (*python_usable)(void);
} ferro_host;

typedef struct ferro_table {
    unsigned int version;                  /* FERRO_TABLE_VERSION */
    const char *build_id;                  /* FERRO_BUILD_ID of the ABI: a mixed upgrade is refused */
    const CK_FUNCTION_LIST_3_2 *functions; /* the implementations; only the three C_Get... list functions, which the
                                              loader answers itself, may be NULL */

    /* C_Finalize has begun: wake every call that waits. Any thread, without the GIL. It holds until the next
     * C_Initialize of the table. C_Finalize of the table comes after the calls in progress have returned. */
    void (*interrupt)(void);

    /* In the child of a fork, once, before any other call there: forget sessions, handles, operations and locks (make
     * the locks new, they may be held by threads that don't exist). Without the GIL, without touching a Python
     * object, without closing a descriptor. The child may then call C_Initialize. */
    void (*fork_child)(void);

    /* Called once, right after the import and before the first C_Initialize. May be NULL. */
    void (*attach_host)(const ferro_host *host);
} ferro_table;

/* How C_Initialize, C_Finalize and the gate meet the table:
 *  - C_Initialize: the loader has checked CK_C_INITIALIZE_ARGS (everything but pReserved, which the ABI judges by the
 *    configuration) and passes the pointer on, NULL included. The thread may or may not hold the GIL.
 *  - every other call: the loader has answered CKR_CRYPTOKI_NOT_INITIALIZED where it applies; the call counts as in
 *    progress until it returns. The thread holds the GIL only if its host does.
 *  - C_Finalize: no other call is in progress. The loader has checked that the argument is NULL.
 */

#ifdef __cplusplus
}
#endif
#endif
