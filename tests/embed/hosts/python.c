/* A program that embeds Python itself. The compiler's flags name the Python: HOST_PYTHON is its program. */
#include <Python.h>

#include "host.h"

static void *visit(void *unused)
{
    (void)unused;
    work_once();
    return NULL;
}

static void run(const char *code)
{
    if (PyRun_SimpleString(code) != 0)
        FAIL("a Python exception");
}

/* With the GIL, without it, and from a thread that Python doesn't know. */
static void work_in_every_way(void)
{
    pthread_t thread;
    OK(p11->C_Initialize(NULL));
    work_once();
    PyThreadState *state = PyEval_SaveThread();
    work_once();
    CHECK(pthread_create(&thread, NULL, visit, NULL) == 0);
    pthread_join(thread, NULL);
    PyEval_RestoreThread(state);
}

static void child_works(void)
{
    CK_INFO info;
    EXPECT(CKR_CRYPTOKI_NOT_INITIALIZED, p11->C_GetInfo(&info));
    OK(p11->C_Initialize(NULL));
    work_once();
    OK(p11->C_Finalize(NULL));
    _exit(0);
}

/* fork in the host by a thread that Python doesn't know, while others are in and out of Python. */
static void *fork_in_c(void *unused)
{
    (void)unused;
    pid_t child = fork();
    if (child == 0)
        child_works();
    CHECK(await(child, 30) == 0);
    work_once();
    return NULL;
}

static void fork_without_python(void)
{
    pthread_t thread;
    PyThreadState *state = PyEval_SaveThread();
    CHECK(pthread_create(&thread, NULL, fork_in_c, NULL) == 0);
    pthread_join(thread, NULL);
    PyEval_RestoreThread(state);
    run("import threading\nassert threading.active_count() >= 1\n");
}

/* os.fork in the host while other threads call: the child may initialize. */
static void fork_in_python(void)
{
    run("import os, warnings\n"
        "warnings.simplefilter('ignore')\n" /* 3.12 warns of forks among threads: that they work is the point here */
        "def child():\n"
        "    return os.fork()\n");
    PyObject *main_module = PyImport_AddModule("__main__");
    PyObject *pid = PyObject_CallMethod(main_module, "child", NULL);
    CHECK(pid != NULL);
    pid_t child = (pid_t)PyLong_AsLong(pid);
    Py_DECREF(pid);
    if (child == 0)
        child_works();
    /* As os.waitpid does: a thread that holds a file's lock needs Python to give it back, and the child wants it. */
    PyThreadState *state = PyEval_SaveThread();
    CHECK(await(child, 30) == 0);
    PyEval_RestoreThread(state);
    work_once();
}

static volatile int ending;

static void *work_on(void *unused)
{
    (void)unused;
    while (!ending)
        work_once();
    return NULL;
}

static void fork_among_threads(void)
{
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        CHECK(pthread_create(&threads[i], NULL, work_on, NULL) == 0);
    for (int i = 0; i < 10; i++) {
        fork_in_python();
        fork_without_python();
    }
    ending = 1;
    PyThreadState *state = PyEval_SaveThread();
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    PyEval_RestoreThread(state);
}

/* Without site-packages of its own, or with what the environment says. */
static void start_python(int site)
{
    PyConfig config;
    PyConfig_InitPythonConfig(&config);
    CHECK(!PyStatus_Exception(PyConfig_SetBytesString(&config, &config.program_name, HOST_PYTHON)));
    config.site_import = site;
    config.install_signal_handlers = 0;
    CHECK(!PyStatus_Exception(Py_InitializeFromConfig(&config)));
    PyConfig_Clear(&config);
}

int main(int argc, char **argv)
{
    CHECK(argc > 2);
    const char *mode = argv[2];
    if (strcmp(mode, "other") == 0) {
        start_python(1);
        load(argv[1]);
        EXPECT(CKR_GENERAL_ERROR, p11->C_Initialize(NULL));
        CK_INFO info;
        EXPECT(CKR_CRYPTOKI_NOT_INITIALIZED, p11->C_GetInfo(&info));
        EXPECT(CKR_GENERAL_ERROR, p11->C_Initialize(NULL));
        run("import sys, json\nassert sys.version_info[0] == 3\n");
        CHECK(Py_FinalizeEx() == 0);
        return 0;
    }
    if (strcmp(mode, "late") == 0) {
        /* libpython is in the process, but nobody has started it: the module does. */
        load(argv[1]);
        OK(p11->C_Initialize(NULL));
        work_once();
        OK(p11->C_Finalize(NULL));
        return 0;
    }
    start_python(strcmp(mode, "site") == 0);
    run("import sys\n"
        "path = list(sys.path)\n"
        "import _signal\n"
        "handlers = [_signal.getsignal(n) for n in (2, 13, 15)]\n");
    load(argv[1]);
    if (strcmp(mode, "site") == 0) {
        /* The host's path leads to a dependency that is too old. */
        EXPECT(CKR_GENERAL_ERROR, p11->C_Initialize(NULL));
        CHECK(Py_FinalizeEx() == 0);
        return 0;
    }
    if (strcmp(mode, "sub") == 0) {
        PyThreadState *main_state = PyThreadState_Get();
        PyThreadState *sub = Py_NewInterpreter();
        CHECK(sub != NULL);
        EXPECT(CKR_GENERAL_ERROR, p11->C_Initialize(NULL));
        Py_EndInterpreter(sub);
        PyThreadState_Swap(main_state);
        CHECK(Py_FinalizeEx() == 0);
        return 0;
    }
    work_in_every_way();
    run("assert sys.path == path, sys.path\n"
        "assert [_signal.getsignal(n) for n in (2, 13, 15)] == handlers\n");
    fork_in_python();
    fork_without_python();
    fork_among_threads();
    if (strcmp(mode, "finalized") == 0) {
        /* The host's interpreter goes first, then somebody finalizes the module. */
        CK_INFO info;
        CHECK(Py_FinalizeEx() == 0);
        EXPECT(CKR_CRYPTOKI_NOT_INITIALIZED, p11->C_GetInfo(&info));
        OK(p11->C_Finalize(NULL));
        EXPECT(CKR_CRYPTOKI_NOT_INITIALIZED, p11->C_Finalize(NULL));
        return 0;
    }
    OK(p11->C_Finalize(NULL));
    OK(p11->C_Initialize(NULL));
    work_once();
    OK(p11->C_Finalize(NULL));
    CHECK(Py_FinalizeEx() == 0);
    return 0;
}
