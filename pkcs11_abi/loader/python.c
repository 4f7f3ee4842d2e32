/* Finding, starting and joining an interpreter. libpython is never linked: its functions are looked up by name, and
 * Python.h serves for their types and for the layout of PyConfig, which is fixed within a minor version. */
#if defined(_WIN32)
#define Py_NO_ENABLE_SHARED 1 /* no import library */
#endif
#include <Python.h>

#include "python.h"

#include <stdio.h>
#include <string.h>

#include "environment.h"
#include "trace.h"

/* --- Python's functions ------------------------------------------------------------------------------------------ */

#if PY_VERSION_HEX >= 0x030D0000
#define GET_UNCHECKED PyThreadState_GetUnchecked
#define IS_FINALIZING Py_IsFinalizing
#else
#define GET_UNCHECKED _PyThreadState_UncheckedGet
#define IS_FINALIZING _Py_IsFinalizing
#endif

#define FUNCTIONS(X)                                                                                                  \
    X(Py_IsInitialized) X(IS_FINALIZING) X(Py_GetVersion) X(Py_PreInitialize) X(Py_InitializeFromConfig)              \
    X(PyPreConfig_InitIsolatedConfig) X(PyConfig_InitIsolatedConfig) X(PyConfig_SetBytesString) X(PyConfig_Clear)     \
    X(PyStatus_Exception) X(PyGILState_Ensure) X(PyGILState_Release) X(PyGILState_GetThisThreadState)                 \
    X(GET_UNCHECKED) X(PyThreadState_GetInterpreter) X(PyInterpreterState_Main) X(PyInterpreterState_Head)            \
    X(PyEval_SaveThread) X(PyEval_RestoreThread) X(PyImport_ImportModule) X(PyObject_GetAttrString)                   \
    X(PyObject_CallFunction) X(PyCapsule_GetPointer) X(PyErr_Fetch) X(PyErr_NormalizeException) X(PyErr_Clear)        \
    X(PyObject_Str) X(PyUnicode_AsUTF8) X(Py_IncRef) X(Py_DecRef) X(PyDict_New) X(PyDict_GetItemString)               \
    X(PyRun_StringFlags) X(PyCFunction_NewEx) X(PyOS_BeforeFork) X(PyOS_AfterFork_Parent) X(PyOS_AfterFork_Child)    \
    X(PyThread_get_thread_ident)

#define DECLARE(name) static __typeof__(name) *DECLARED(name);
#define DECLARED(name) DECLARED_(name)
#define DECLARED_(name) py_##name
FUNCTIONS(DECLARE)

#define QUOTED(name) QUOTED_(name)
#define QUOTED_(name) #name
#define py_GetUnchecked DECLARED(GET_UNCHECKED)
#define py_IsFinalizing DECLARED(IS_FINALIZING)

static PyObject *py_none;

static int find_functions(void *library, char *message, size_t size)
{
    const char *missing = NULL;
#define FIND(name)                                                                   \
    *(void **)&DECLARED(name) = ferro_library_symbol(library, QUOTED(name));           \
    if (DECLARED(name) == NULL)                                                      \
        missing = QUOTED(name);
    FUNCTIONS(FIND)
    py_none = ferro_library_symbol(library, "_Py_NoneStruct");
    if (py_none == NULL)
        missing = "None";
    if (missing != NULL)
        snprintf(message, size, "the Python in this process has no %s", missing);
    return missing == NULL ? 0 : -1;
}

/* --- the state ------------------------------------------------------------------------------------------------- */

int ferro_hosted;

static atomic_int running;            /* the functions are known and the interpreter runs */
static volatile int starting;         /* inside the first start: a child made now cannot use the interpreter */
static const ferro_table *entered;    /* the ABI's table once it is imported */
static char failure[1200];            /* why the first start failed, for good */
static int failed;
static int cloned;                    /* 1: a child whose interpreter has to be put right, 2: it cannot be */
static PyGILState_STATE fork_state;   /* of the one fork under way */
static char module_path[FERRO_PATH_MAX];

static const ferro_host host = {
    FERRO_HOST_VERSION, 0, module_path, ferro_gate_step_out, ferro_gate_step_in, ferro_python_usable,
};
static ferro_host told_host; /* as the ABI sees it */

/* Anything in this library, to find our own path. */
static const char anchor = 0;

int ferro_python_usable(void)
{
    return atomic_load_explicit(&running, memory_order_acquire) && py_Py_IsInitialized() && !py_IsFinalizing();
}

int ferro_python_attached(void)
{
    if (!atomic_load_explicit(&running, memory_order_acquire))
        return 0;
    PyThreadState *current = py_GetUnchecked();
#if PY_VERSION_HEX >= 0x030C0000
    return current != NULL;
#else
    /* Up to 3.11 this is the state that holds the GIL, in whichever thread. */
    return current != NULL && current == py_PyGILState_GetThisThreadState();
#endif
}

void *ferro_python_detach(void)
{
    return ferro_python_attached() ? py_PyEval_SaveThread() : NULL;
}

void ferro_python_reattach(void *state)
{
    if (state != NULL)
        py_PyEval_RestoreThread(state);
}

/* --- forks ----------------------------------------------------------------------------------------------------- */

int ferro_python_before_fork(void)
{
    if (!ferro_python_usable())
        return 0;
    fork_state = py_PyGILState_Ensure();
    py_PyOS_BeforeFork();
    return 1;
}

void ferro_python_after_fork_parent(void)
{
    PyGILState_STATE state = fork_state;
    py_PyOS_AfterFork_Parent();
    py_PyGILState_Release(state);
}

void ferro_python_after_fork_child(void)
{
    py_PyOS_AfterFork_Child();
    /* This thread's state is the only one left. It stays, even if it was made for the fork: an interpreter of 3.11
     * without any thread state cannot make another one. */
    py_PyEval_SaveThread();
}

void ferro_python_cloned(int alone)
{
    if (atomic_load(&running))
        cloned = alone ? 1 : 2;
}

/* Make a cloned child's interpreter forget the parent's other threads, as fork handlers would have done. */
static int reconcile_clone(char *message, size_t size)
{
    if (cloned == 2) {
        snprintf(message, size, "this process was cloned without fork() while calls were in progress");
        return -1;
    }
    if (cloned == 1) {
        if (ferro_python_attached()) {
            snprintf(message, size, "this process was cloned without fork() by a thread that ran Python");
            return -1;
        }
        (void)py_PyGILState_Ensure();
        py_PyOS_BeforeFork();
        ferro_python_after_fork_child();
        cloned = 0;
    }
    return 0;
}

/* --- joining the host's interpreter ------------------------------------------------------------------------------- */

static int same_version(const char *version)
{
    char wanted[16];
    int length = snprintf(wanted, sizeof wanted, "%d.%d.", PY_MAJOR_VERSION, PY_MINOR_VERSION);
    return strncmp(version, wanted, (size_t)length) == 0;
}

/* Check the Python that is in the process: 0 when it can be used. */
static int check_version(void *library, char *message, size_t size)
{
    const char *(*get_version)(void);
    *(void **)&get_version = ferro_library_symbol(library, "Py_GetVersion");
    const char *version = get_version != NULL ? get_version() : "?";
    if (!same_version(version)) {
        snprintf(message, size,
                 "this process contains Python %.*s, but this build is for Python %d.%d: install FerroHSM for that "
                 "version, or set the module's path to such an installation",
                 (int)strcspn(version, " "), version, PY_MAJOR_VERSION, PY_MINOR_VERSION);
        return -1;
    }
    if (strstr(version, "free-threading") != NULL) {
        snprintf(message, size, "this process runs a free-threaded Python, which is not supported");
        return -1;
    }
    return 0;
}

/* Refuse a thread that runs in a sub-interpreter: the core can live in the main interpreter only. */
static int check_interpreter(char *message, size_t size)
{
    PyThreadState *current = py_GetUnchecked();
    if (current == NULL || py_PyInterpreterState_Head() == py_PyInterpreterState_Main())
        return 0;
#if PY_VERSION_HEX < 0x030C0000
    if (current->thread_id != py_PyThread_get_thread_ident())
        return 0;
#endif
    if (py_PyThreadState_GetInterpreter(current) == py_PyInterpreterState_Main())
        return 0;
    snprintf(message, size, "C_Initialize was called in a sub-interpreter of Python, which is not supported");
    return -1;
}

static int join(void *library, char *message, size_t size)
{
    if (find_functions(library, message, size) != 0 || check_interpreter(message, size) != 0)
        return -1;
    if (py_IsFinalizing()) {
        snprintf(message, size, "the Python of this process is being finalized");
        return -1;
    }
    ferro_library_promote((const void *)py_Py_IsInitialized);
    ferro_hosted = 1;
    atomic_store_explicit(&running, 1, memory_order_release);
    return 0;
}

/* --- starting our own --------------------------------------------------------------------------------------------- */

static int status_failed(PyStatus status, char *message, size_t size)
{
    if (!py_PyStatus_Exception(status))
        return 0;
    snprintf(message, size, "Python does not start: %s", status.err_msg != NULL ? status.err_msg : "unknown reason");
    return 1;
}

/* An isolated interpreter: no PYTHON* variables, no user site, no arguments, no handlers, no change of the locale or
 * of the standard streams. UTF-8 mode makes it independent of the host's locale. */
static int start_isolated(const char *executable, char *message, size_t size)
{
    PyPreConfig preconfig;
    PyConfig config;
    py_PyPreConfig_InitIsolatedConfig(&preconfig);
    preconfig.utf8_mode = 1;
    if (status_failed(py_Py_PreInitialize(&preconfig), message, size))
        return -1;
    py_PyConfig_InitIsolatedConfig(&config);
    config.install_signal_handlers = 0;
    config.site_import = 0;    /* only when something is missing without it: pkcs11_abi/start.py */
    config.write_bytecode = 0; /* a host, root perhaps and with any umask, writes nothing into the environment */
    int bad = 0;
    if (executable[0] != '\0') {
        bad = status_failed(py_PyConfig_SetBytesString(&config, &config.program_name, executable), message, size) ||
              status_failed(py_PyConfig_SetBytesString(&config, &config.executable, executable), message, size);
    }
    bad = bad || status_failed(py_Py_InitializeFromConfig(&config), message, size);
    py_PyConfig_Clear(&config);
    return bad ? -1 : 0;
}

static int start_own(void *library, char *message, size_t size)
{
    char executable[FERRO_PATH_MAX];
    if (library == NULL) {
        library = ferro_environment_library(module_path, executable, message, size);
        if (library == NULL || check_version(library, message, size) != 0)
            return -1;
    } else {
        /* libpython is in the process and hasn't been started: it is ours to start. */
        ferro_environment_executable(module_path, ferro_library_symbol(library, "Py_IsInitialized"), executable);
    }
    if (find_functions(library, message, size) != 0 || start_isolated(executable, message, size) != 0)
        return -1;
    ferro_library_promote((const void *)py_Py_IsInitialized);
    /* The state of this thread stays; the GIL is free from here on. */
    py_PyEval_SaveThread();
    atomic_store_explicit(&running, 1, memory_order_release);
    return 0;
}

/* --- importing the ABI --------------------------------------------------------------------------------------------- */

/* Import pkcs11_abi from our own site-packages, whatever else the interpreter finds under that name, and let its
 * `start` module prepare the rest. Where ours is not the environment's (pip install --target), it comes before that,
 * and after the standard library. Nothing is collected among what is being imported; the ABI lets it be collected again
 * at the end of C_Initialize. */
static const char bootstrap[] =
    "def start(site, hosted, before, parent):\n"
    "    import sys\n"
    "    if not hosted:\n"
    "        import gc\n"
    "        gc.disable()\n"
    "    if hosted and 'pkcs11_abi' not in sys.modules:\n"
    "        from importlib.machinery import PathFinder\n"
    "        from _frozen_importlib import module_from_spec\n"
    "        spec = PathFinder.find_spec('pkcs11_abi', [site])\n"
    "        module = module_from_spec(spec)\n"
    "        sys.modules['pkcs11_abi'] = module\n"
    "        spec.loader.exec_module(module)\n"
    "    elif not hosted and site not in sys.path:\n"
    "        ends = [i for i, path in enumerate(sys.path) if path.endswith('-packages')]\n"
    "        sys.path.insert(ends[0] if ends else len(sys.path), site)\n"
    "    from pkcs11_abi.start import prepare\n"
    "    return prepare(site, hosted, before, parent)\n";

static PyObject *none(void)
{
    py_Py_IncRef(py_none);
    return py_none;
}

static PyObject *hook_before(PyObject *self, PyObject *unused)
{
    (void)self, (void)unused;
    ferro_gate_before_fork();
    return none();
}

static PyObject *hook_parent(PyObject *self, PyObject *unused)
{
    (void)self, (void)unused;
    ferro_gate_after_fork_parent();
    return none();
}

static PyMethodDef hooks[] = {
    {"before_fork", hook_before, METH_NOARGS, NULL},
    {"after_fork_parent", hook_parent, METH_NOARGS, NULL},
};

/* Write the exception that is set as "ImportError: ...", with its traceback into the trace, and clear it. */
static void describe_exception(char *message, size_t size)
{
    PyObject *type = NULL, *value = NULL, *traceback = NULL;
    py_PyErr_Fetch(&type, &value, &traceback);
    py_PyErr_NormalizeException(&type, &value, &traceback);
    PyObject *text = value != NULL ? py_PyObject_Str(value) : NULL;
    PyObject *name = type != NULL ? py_PyObject_GetAttrString(type, "__name__") : NULL;
    const char *what = text != NULL ? py_PyUnicode_AsUTF8(text) : NULL;
    const char *kind = name != NULL ? py_PyUnicode_AsUTF8(name) : NULL;
    snprintf(message, size, "%s: %s", kind != NULL ? kind : "error", what != NULL ? what : "?");
    if (ferro_tracing) {
        PyObject *module = py_PyImport_ImportModule("traceback");
        PyObject *format = module != NULL ? py_PyObject_GetAttrString(module, "format_exception") : NULL;
        PyObject *lines = format != NULL ? py_PyObject_CallFunction(format, "OOO", type != NULL ? type : py_none,
                                                                    value != NULL ? value : py_none,
                                                                    traceback != NULL ? traceback : py_none)
                                         : NULL;
        PyObject *all = lines != NULL ? py_PyObject_Str(lines) : NULL;
        const char *note = all != NULL ? py_PyUnicode_AsUTF8(all) : NULL;
        if (note != NULL)
            ferro_trace_note(note);
        py_Py_DecRef(all);
        py_Py_DecRef(lines);
        py_Py_DecRef(format);
        py_Py_DecRef(module);
    }
    py_Py_DecRef(text);
    py_Py_DecRef(name);
    py_Py_DecRef(type);
    py_Py_DecRef(value);
    py_Py_DecRef(traceback);
    py_PyErr_Clear();
}

/* Run pkcs11_abi.start and return the build id of the Python part, a new reference, or NULL. */
static PyObject *run_start(const char *site)
{
    PyObject *names = py_PyDict_New();
    PyObject *result = NULL;
    if (names == NULL)
        return NULL;
    PyObject *done = py_PyRun_StringFlags(bootstrap, Py_file_input, names, names, NULL);
    PyObject *start = done != NULL ? py_PyDict_GetItemString(names, "start") : NULL;
    PyObject *before = py_PyCFunction_NewEx(&hooks[0], NULL, NULL);
    PyObject *parent = py_PyCFunction_NewEx(&hooks[1], NULL, NULL);
    if (start != NULL && before != NULL && parent != NULL)
        result = py_PyObject_CallFunction(start, "siOO", site, ferro_hosted, before, parent);
    py_Py_DecRef(before);
    py_Py_DecRef(parent);
    py_Py_DecRef(done);
    py_Py_DecRef(names);
    return result;
}

/* Return the table in the capsule pkcs11_abi.module.table. */
static const ferro_table *fetch_table(void)
{
    const ferro_table *table = NULL;
    PyObject *module = py_PyImport_ImportModule("pkcs11_abi.module");
    PyObject *capsule = module != NULL ? py_PyObject_GetAttrString(module, "table") : NULL;
    if (capsule != NULL)
        table = py_PyCapsule_GetPointer(capsule, FERRO_TABLE_CAPSULE);
    /* The module lives as long as the process: its table is in use. */
    if (table == NULL)
        py_Py_DecRef(module);
    py_Py_DecRef(capsule);
    return table;
}

static const ferro_table *import_table(const char *site, char *message, size_t size)
{
    const ferro_table *table = NULL;
    const char *python_id = NULL;
    PyObject *id = run_start(site);
    if (id != NULL)
        python_id = py_PyUnicode_AsUTF8(id);
    if (python_id != NULL)
        table = fetch_table();
    if (table == NULL) {
        describe_exception(message, size);
    } else if (table->version != FERRO_TABLE_VERSION || strcmp(table->build_id, FERRO_BUILD_ID) != 0 ||
               strcmp(python_id, FERRO_BUILD_ID) != 0) {
        snprintf(message, size, "the parts of this installation come from different builds: was it upgraded while "
                                "this process was running? Restart the process");
        table = NULL;
    }
    py_Py_DecRef(id);
    return table;
}

/* --- the first start --------------------------------------------------------------------------------------------- */

static int find_interpreter(char *message, size_t size)
{
    if (ferro_library_path(&anchor, module_path, sizeof module_path) != 0) {
        snprintf(message, size, "the path of libpkcs11 is unknown");
        return -1;
    }
    void *library = ferro_library_find_python();
    if (library == NULL)
        return start_own(NULL, message, size);
    if (check_version(library, message, size) != 0)
        return -1;
    int (*is_initialized)(void);
    *(void **)&is_initialized = ferro_library_symbol(library, "Py_IsInitialized");
    return is_initialized() ? join(library, message, size) : start_own(library, message, size);
}

static void first_start(void)
{
    char site[FERRO_PATH_MAX];
    ferro_signals *signals = ferro_signals_begin();
    starting = 1;
    failed = 1;
    if (find_interpreter(failure, sizeof failure) == 0) {
        ferro_environment_site(module_path, site);
        PyGILState_STATE state = py_PyGILState_Ensure();
        entered = import_table(site, failure, sizeof failure);
        py_PyGILState_Release(state);
        failed = entered == NULL;
    }
    starting = 0;
    ferro_signals_end(signals);
    if (!failed && entered->attach_host != NULL) {
        told_host = host;
        told_host.hosted = ferro_hosted;
        entered->attach_host(&told_host);
    }
}

const ferro_table *ferro_python_table(char *message, size_t size)
{
    if (starting) {
        snprintf(message, size, "this process was forked while another thread was starting Python");
        return NULL;
    }
    if (entered == NULL && !failed)
        first_start();
    if (failed) {
        snprintf(message, size, "%s", failure);
        return NULL;
    }
    if (!ferro_python_usable()) {
        snprintf(message, size, "the Python of this process has been finalized");
        return NULL;
    }
    return reconcile_clone(message, size) == 0 ? entered : NULL;
}
