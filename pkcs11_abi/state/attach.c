#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "attach.h"

#include <stdlib.h>

#if defined(_WIN32)
#include <windows.h>
#define KEY_CALLBACK NTAPI
typedef DWORD key_type;
#else
#include <pthread.h>
#define KEY_CALLBACK
typedef pthread_key_t key_type;
#endif

typedef struct {
    PyThreadState *state;
    unsigned generation;
} attachment;

static key_type key;
static int key_made;
static unsigned generation; /* moves in the child of a fork */
static int (*usable)(void);

/* At the thread's end. PyGILState_Release would look for the thread's state under a key that the system may have
 * cleared already, so the state is taken up by name. */
static void KEY_CALLBACK detach(void *value)
{
    attachment *attached = value;

    if (attached == NULL)
        return;
    if (attached->generation == generation && (usable == NULL || usable()) && Py_IsInitialized()) {
        PyEval_RestoreThread(attached->state);
        PyThreadState_Clear(attached->state);
        PyThreadState_DeleteCurrent();
    }
    free(attached);
}

#if defined(_WIN32)
static INIT_ONCE once = INIT_ONCE_STATIC_INIT;

static BOOL CALLBACK make_key(PINIT_ONCE self, PVOID argument, PVOID *context)
{
    (void)self, (void)argument, (void)context;
    key = FlsAlloc(detach);
    key_made = key != FLS_OUT_OF_INDEXES;
    return TRUE;
}

static void ensure_key(void) { InitOnceExecuteOnce(&once, make_key, NULL, NULL); }
static int remember(attachment *attached) { return FlsSetValue(key, attached) != 0; }
#else
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void make_key(void) { key_made = pthread_key_create(&key, detach) == 0; }
static void ensure_key(void) { pthread_once(&once, make_key); }
static int remember(attachment *attached) { return pthread_setspecific(key, attached) == 0; }
#endif

void ferro_attach(void)
{
    PyGILState_STATE before;
    attachment *attached;

    if (PyGILState_GetThisThreadState() != NULL)
        return;
    ensure_key();
    if (!key_made || (attached = malloc(sizeof *attached)) == NULL)
        return;
    before = PyGILState_Ensure(); /* its count stays at one, so that nobody's Release deletes the state */
    attached->state = PyThreadState_Get();
    attached->generation = generation;
    if (remember(attached)) {
        PyEval_SaveThread();
    } else {
        PyGILState_Release(before);
        free(attached);
    }
}

void ferro_attach_host(int (*python_usable)(void)) { usable = python_usable; }

void ferro_attach_fork_child(void) { generation += 1; }

/* Whether this thread holds the interpreter's lock. PyGILState_Check says yes to everybody once a subinterpreter was
 * made, so the current state is compared with the thread's own. */
static int holds_lock(void)
{
    PyThreadState *own = PyGILState_GetThisThreadState();
#if PY_VERSION_HEX >= 0x030D0000
    return own != NULL && PyThreadState_GetUnchecked() == own;
#else
    return own != NULL && _PyThreadState_UncheckedGet() == own;
#endif
}

void *ferro_let_go(void) { return holds_lock() ? PyEval_SaveThread() : NULL; }

void ferro_take_back(void *state)
{
    if (state != NULL)
        PyEval_RestoreThread(state);
}
