/* Starting a process that the host never sees, and hardening it from inside.
 *
 * A library must not have children: a host that waits for any child, or handles SIGCHLD, would find one that it doesn't
 * know. So the process is started by an intermediate that exits at once and leaves it to init. The intermediate is a
 * clone that shares the host's memory, whose exit sends no signal and which wait() doesn't see without __WCLONE; it
 * runs no fork handlers and copies nothing. It calls posix_spawn, and before it exits (while the new process cannot
 * vanish, for it is its parent) it takes a pidfd, which the host shares. Linux only. */
#define PY_SSIZE_T_CLEAN
#define _GNU_SOURCE 1
#include <Python.h>

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define STACK (256 * 1024)
#define CHANNEL 3 /* the descriptor that the new process finds its socket at */

extern char **environ;

typedef struct start {
    const char *program;
    char **arguments;
    char **variables;
    int channel;
    pid_t pid;
    int pidfd;
    int error;
} start;

typedef int (*add_closefrom_t)(posix_spawn_file_actions_t *, int);

static int fill_actions(posix_spawn_file_actions_t *actions, int channel)
{
    /* Older C libraries don't have it; the program closes what it has inherited in that case. */
    add_closefrom_t add_closefrom;
    *(void **)&add_closefrom = dlsym(RTLD_DEFAULT, "posix_spawn_file_actions_addclosefrom_np");
    int error = posix_spawn_file_actions_adddup2(actions, channel, CHANNEL);
    for (int fd = 0; fd < 3 && error == 0; fd++)
        error = posix_spawn_file_actions_addopen(actions, fd, "/dev/null", O_RDWR, 0);
    if (error == 0 && add_closefrom != NULL)
        error = add_closefrom(actions, CHANNEL + 1);
    return error;
}

static int fill_attributes(posix_spawnattr_t *attributes)
{
    sigset_t none, all;
    short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
#ifdef POSIX_SPAWN_SETSID
    flags |= POSIX_SPAWN_SETSID; /* the terminal's signals are for the host, which ends the process itself */
#endif
    sigemptyset(&none);
    sigfillset(&all);
    int error = posix_spawnattr_setsigmask(attributes, &none);
    if (error == 0)
        error = posix_spawnattr_setsigdefault(attributes, &all);
    return error == 0 ? posix_spawnattr_setflags(attributes, flags) : error;
}

static int intermediate(void *argument)
{
    start *given = argument;
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    given->error = posix_spawn_file_actions_init(&actions);
    if (given->error != 0)
        _exit(0);
    given->error = posix_spawnattr_init(&attributes);
    if (given->error == 0) {
        given->error = fill_actions(&actions, given->channel);
        if (given->error == 0)
            given->error = fill_attributes(&attributes);
        if (given->error == 0)
            given->error = posix_spawn(&given->pid, given->program, &actions, &attributes, given->arguments,
                                       given->variables);
        posix_spawnattr_destroy(&attributes);
    }
    posix_spawn_file_actions_destroy(&actions);
#ifdef SYS_pidfd_open
    if (given->error == 0)
        given->pidfd = (int)syscall(SYS_pidfd_open, given->pid, 0);
#endif
    _exit(0);
}

static int start_apart(start *given)
{
    sigset_t all, before;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *stack = mmap(NULL, STACK + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED)
        return errno;
    mprotect(stack, page, PROT_NONE);
    /* A handler of the host must not run in the clone, which has the host's memory. */
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    pid_t clone_pid = clone(intermediate, stack + page + STACK, CLONE_VM | CLONE_VFORK | CLONE_FILES, given);
    int error = clone_pid < 0 ? errno : 0;
    if (clone_pid > 0) {
        while (waitpid(clone_pid, NULL, __WCLONE) < 0 && errno == EINTR)
            ;
        error = given->error;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    munmap(stack, STACK + page);
    return error;
}

/* Return a NULL-terminated copy of the pointers to the bytes objects of a sequence, which has to outlive it. */
static char **pointers(PyObject *sequence)
{
    Py_ssize_t count = PySequence_Fast_GET_SIZE(sequence);
    char **made = PyMem_Calloc((size_t)count + 1, sizeof *made);
    if (made == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        if (PyBytes_AsStringAndSize(PySequence_Fast_GET_ITEM(sequence, i), &made[i], NULL) < 0) {
            PyMem_Free(made);
            return NULL;
        }
    }
    return made;
}

static PyObject *py_start(PyObject *self, PyObject *args)
{
    const char *program;
    PyObject *argument_list, *variable_list;
    int channel, clean;
    (void)self;
    if (!PyArg_ParseTuple(args, "yO!O!ip:start", &program, &PyTuple_Type, &argument_list, &PyTuple_Type,
                          &variable_list, &channel, &clean))
        return NULL;
    char **arguments = pointers(argument_list);
    char **variables = arguments != NULL ? pointers(variable_list) : NULL;
    if (variables == NULL) {
        PyMem_Free(arguments);
        return NULL;
    }
    start given = {program, arguments, clean ? variables : environ, channel, -1, -1, 0};
    int error;
    Py_BEGIN_ALLOW_THREADS
    error = start_apart(&given);
    Py_END_ALLOW_THREADS
    PyMem_Free(arguments);
    PyMem_Free(variables);
    if (error != 0) {
        errno = error;
        return PyErr_SetFromErrnoWithFilename(PyExc_OSError, program);
    }
    return Py_BuildValue("ii", (int)given.pid, given.pidfd);
}

static PyObject *py_harden(PyObject *self, PyObject *unused)
{
    struct rlimit none = {0, 0};
    (void)self, (void)unused;
    if (setrlimit(RLIMIT_CORE, &none) != 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"start", py_start, METH_VARARGS,
     "start(program, arguments, variables, channel, clean) -> (pid, pidfd or -1)\n\n"
     "Start a program that is no child of this process. It has /dev/null as its standard streams, `channel` at\n"
     "descriptor 3 and no other; with `clean` the variables that are given, else the process's own."},
    {"harden", py_harden, METH_NOARGS, "harden()\n\nLet no core be dumped and nobody trace this process."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "ferrohsm.isolation._start", NULL, -1, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__start(void)
{
    return PyModule_Create(&module);
}
