/* Linux, macOS and other POSIX systems. */
#if !defined(_GNU_SOURCE)
#define _GNU_SOURCE 1
#endif
#include "platform.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#if defined(__linux__)
#include <link.h>
#include <sys/syscall.h>
#elif defined(__APPLE__)
#include <mach-o/dyld.h>
#include <mach/vm_inherit.h>
#endif

/* --- locks ----------------------------------------------------------------------------------------------------- */

void ferro_mutex_lock(ferro_mutex *mutex)
{
    pthread_mutex_lock(mutex);
}

void ferro_mutex_unlock(ferro_mutex *mutex)
{
    pthread_mutex_unlock(mutex);
}

void ferro_mutex_renew(ferro_mutex *mutex)
{
    pthread_mutex_t fresh = PTHREAD_MUTEX_INITIALIZER;
    memcpy(mutex, &fresh, sizeof fresh);
}

void ferro_condition_wait(ferro_condition *condition, ferro_mutex *mutex)
{
    pthread_cond_wait(condition, mutex);
}

void ferro_condition_broadcast(ferro_condition *condition)
{
    pthread_cond_broadcast(condition);
}

void ferro_condition_renew(ferro_condition *condition)
{
    pthread_cond_t fresh = PTHREAD_COND_INITIALIZER;
    memcpy(condition, &fresh, sizeof fresh);
}

/* --- shared libraries ------------------------------------------------------------------------------------------ */

void *ferro_library_open(const char *path)
{
    return dlopen(path, RTLD_NOW | RTLD_GLOBAL);
}

void *ferro_library_symbol(void *library, const char *name)
{
    return dlsym(library, name);
}

void ferro_library_error(char *text, size_t size)
{
    const char *reason = dlerror();
    snprintf(text, size, "%s", reason != NULL ? reason : "unknown reason");
}

/* Return the library if it is a loaded Python; a library that isn't loaded is left alone. */
static void *python_at(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *base = slash != NULL ? slash + 1 : path;
    if (strncmp(base, "libpython", 9) != 0 && strcmp(base, "Python") != 0)
        return NULL;
    void *library = dlopen(path, RTLD_LAZY | RTLD_NOLOAD);
    if (library != NULL && dlsym(library, "Py_IsInitialized") == NULL) {
        dlclose(library);
        return NULL;
    }
    return library;
}

static int python_runs(void *library)
{
    int (*is_initialized)(void);
    *(void **)&is_initialized = dlsym(library, "Py_IsInitialized");
    return is_initialized != NULL && is_initialized();
}

#if defined(__linux__)
static int visit_object(struct dl_phdr_info *info, size_t size, void *found)
{
    /* Opening a library here would deadlock in some C libraries: remember the name. */
    char(*names)[FERRO_PATH_MAX] = found;
    const char *slash = info->dlpi_name != NULL ? strrchr(info->dlpi_name, '/') : NULL;
    (void)size;
    if (slash == NULL || strncmp(slash + 1, "libpython", 9) != 0)
        return 0;
    for (int i = 0; i < 4; i++) {
        if (names[i][0] == '\0') {
            snprintf(names[i], sizeof names[i], "%s", info->dlpi_name);
            return 0;
        }
    }
    return 1;
}
#endif

/* A Python that a plug-in brought along with RTLD_LOCAL isn't found by its symbols: look at what is loaded. Only one
 * that runs counts, since one that doesn't is in nobody's way. */
static void *find_local_python(void)
{
    void *found = NULL;
#if defined(__linux__)
    char names[4][FERRO_PATH_MAX];
    for (int i = 0; i < 4; i++)
        names[i][0] = '\0';
    dl_iterate_phdr(visit_object, names);
    for (int i = 0; i < 4 && found == NULL && names[i][0] != '\0'; i++) {
        found = python_at(names[i]);
        if (found != NULL && !python_runs(found)) {
            dlclose(found);
            found = NULL;
        }
    }
#elif defined(__APPLE__)
    for (uint32_t i = 0; i < _dyld_image_count() && found == NULL; i++) {
        found = python_at(_dyld_get_image_name(i));
        if (found != NULL && !python_runs(found)) {
            dlclose(found);
            found = NULL;
        }
    }
#endif
    return found;
}

void *ferro_library_find_python(void)
{
    if (dlsym(RTLD_DEFAULT, "Py_IsInitialized") != NULL)
        return dlopen(NULL, RTLD_LAZY);
    return find_local_python();
}

void ferro_library_promote(const void *address)
{
    Dl_info info;
    if (dladdr(address, &info) != 0 && info.dli_fname != NULL) {
        /* The handle is kept on purpose: the promotion has to last. It fails for a Python linked into the program,
         * whose symbols are visible already if the program exports them. */
        if (dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_GLOBAL) == NULL)
            (void)dlerror();
    }
}

int ferro_file_real_path(const char *path, char *real, size_t size)
{
    char *resolved = realpath(path, NULL);
    if (resolved == NULL)
        return -1;
    int written = snprintf(real, size, "%s", resolved);
    free(resolved);
    return written > 0 && (size_t)written < size ? 0 : -1;
}

static char own_path[FERRO_PATH_MAX];

/* A host may load us by a relative path and change its directory afterwards: look at once. */
__attribute__((constructor)) static void remember_own_path(void)
{
    Dl_info info;
    if (dladdr(own_path, &info) == 0 || info.dli_fname == NULL ||
        ferro_file_real_path(info.dli_fname, own_path, sizeof own_path) != 0)
        own_path[0] = '\0';
}

int ferro_library_path(const void *address, char *path, size_t size)
{
    Dl_info info, own;
    if (dladdr(address, &info) == 0 || info.dli_fname == NULL)
        return -1;
    if (dladdr(own_path, &own) != 0 && own.dli_fbase == info.dli_fbase) {
        int written = snprintf(path, size, "%s", own_path);
        return own_path[0] != '\0' && (size_t)written < size ? 0 : -1;
    }
    return ferro_file_real_path(info.dli_fname, path, size);
}

/* --- forks ----------------------------------------------------------------------------------------------------- */

volatile int *ferro_fork_word(void)
{
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return NULL;
#if defined(MADV_WIPEONFORK)
    int wiped = madvise(page, size, MADV_WIPEONFORK);
#elif defined(VM_INHERIT_ZERO)
    int wiped = minherit(page, size, VM_INHERIT_ZERO);
#else
    int wiped = -1;
#endif
    if (wiped != 0) {
        munmap(page, size);
        return NULL;
    }
    volatile int *word = page;
    *word = 1;
    return word;
}

void ferro_fork_handlers(void (*prepare)(void), void (*parent)(void), void (*child)(void))
{
    pthread_atfork(prepare, parent, child);
}

/* --- signals --------------------------------------------------------------------------------------------------- */

#if !defined(NSIG)
#define NSIG 65
#endif

struct ferro_signals {
    struct sigaction actions[NSIG];
    int known[NSIG];
    sigset_t mask;
};

ferro_signals *ferro_signals_begin(void)
{
    static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS};
    sigset_t all;
    ferro_signals *saved = malloc(sizeof *saved);
    if (saved == NULL)
        return NULL;
    sigfillset(&all);
    /* A fault of this thread cannot be put off. */
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        sigdelset(&all, own[i]);
    pthread_sigmask(SIG_SETMASK, &all, &saved->mask);
    for (int number = 1; number < NSIG; number++)
        saved->known[number] = sigaction(number, NULL, &saved->actions[number]) == 0;
    return saved;
}

void ferro_signals_end(ferro_signals *saved)
{
    if (saved == NULL)
        return;
    for (int number = 1; number < NSIG; number++) {
        struct sigaction now;
        if (!saved->known[number] || sigaction(number, NULL, &now) != 0)
            continue;
        if (now.sa_handler != saved->actions[number].sa_handler || now.sa_flags != saved->actions[number].sa_flags)
            sigaction(number, &saved->actions[number], NULL);
    }
    pthread_sigmask(SIG_SETMASK, &saved->mask, NULL);
    free(saved);
}

/* --- environment, files, time ------------------------------------------------------------------------------------ */

const char *ferro_secure_getenv(const char *name)
{
#if defined(__linux__)
    return secure_getenv(name);
#else
    return issetugid() ? NULL : getenv(name);
#endif
}

int ferro_file_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

int ferro_file_read(const char *path, char *text, size_t size)
{
    size_t length = 0;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return -1;
    while (length < size - 1) {
        ssize_t got = read(file, text + length, size - 1 - length);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            break;
        length += (size_t)got;
    }
    close(file);
    text[length] = '\0';
    return 0;
}

static dev_t trace_device;
static ino_t trace_inode;

int ferro_trace_file(const char *path)
{
    struct stat status;
    int file = open(path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY, 0600);
    if (file < 0)
        return -1;
    if (file <= 2) { /* the host has closed a standard stream: leave its number free */
        int higher = fcntl(file, F_DUPFD_CLOEXEC, 3);
        close(file);
        file = higher;
    }
    if (file < 0 || fstat(file, &status) != 0)
        return -1;
    trace_device = status.st_dev;
    trace_inode = status.st_ino;
    return file;
}

void ferro_trace_write(int file, const char *text, size_t length)
{
    struct stat status;
    int kept = errno;
    if (file == 2 || (fstat(file, &status) == 0 && status.st_dev == trace_device && status.st_ino == trace_inode)) {
        ssize_t written;
        do
            written = write(file, text, length);
        while (written < 0 && errno == EINTR);
    }
    errno = kept;
}

void ferro_message(const char *text)
{
    size_t length = strlen(text);
    int kept = errno;
    while (length > 0) {
        ssize_t written = write(STDERR_FILENO, text, length);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            break;
        text += written;
        length -= (size_t)written;
    }
    errno = kept;
}

uint64_t ferro_microseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

void ferro_sleep_microseconds(unsigned int microseconds)
{
    struct timespec pause = {microseconds / 1000000u, (long)(microseconds % 1000000u) * 1000};
    nanosleep(&pause, NULL);
}

unsigned long ferro_process_id(void)
{
    return (unsigned long)getpid();
}

unsigned long ferro_thread_id(void)
{
#if defined(__linux__)
    return (unsigned long)syscall(SYS_gettid);
#else
    return (unsigned long)(uintptr_t)pthread_self();
#endif
}
