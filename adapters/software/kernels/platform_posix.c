/* The POSIX side of platform.h; platform_win32.c is the other. */
#if !defined(_WIN32)

#if !defined(_GNU_SOURCE)
#define _GNU_SOURCE 1
#endif

#include "platform.h"

#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__linux__)
#include <sys/syscall.h>
#endif

size_t ferro_page_size(void)
{
    static size_t size;

    if (size == 0)
        size = (size_t)sysconf(_SC_PAGESIZE);
    return size;
}

void *ferro_map_reserve(size_t size, int wiped)
{
    void *address = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS
#if defined(MAP_NORESERVE)
                         | MAP_NORESERVE
#endif
                         , -1, 0);

    if (address == MAP_FAILED)
        return NULL;
#if defined(MADV_DONTDUMP)
    (void)madvise(address, size, MADV_DONTDUMP);
#endif
#if defined(MADV_WIPEONFORK)
    if (wiped)
        (void)madvise(address, size, MADV_WIPEONFORK);
#elif defined(INHERIT_ZERO)
    if (wiped)
        (void)minherit(address, size, INHERIT_ZERO);
#else
    (void)wiped;
#endif
    return address;
}

void ferro_map_release(void *address, size_t size)
{
    (void)munmap(address, size);
}

int ferro_map_commit(void *address, size_t size)
{
    return mprotect(address, size, PROT_READ | PROT_WRITE) == 0 ? 0 : -1;
}

int ferro_map_lock(void *address, size_t size)
{
    /* On fault, so that a span costs memory only for the pages that are touched. */
#if defined(__linux__) && defined(SYS_mlock2)
    if (syscall(SYS_mlock2, address, size, 1 /* MLOCK_ONFAULT */) == 0)
        return 0;
#endif
    return mlock(address, size) == 0 ? 0 : -1;
}

int ferro_thread_hook_make(ferro_thread_hook *hook, void (*ended)(void *))
{
    if (pthread_key_create(&hook->key, ended) != 0)
        return -1;
    hook->ready = 1;
    return 0;
}

void ferro_thread_hook_set(ferro_thread_hook *hook, void *value)
{
    if (hook->ready)
        (void)pthread_setspecific(hook->key, value);
}

void *ferro_library_loaded(const char *path) { return dlopen(path, RTLD_LAZY | RTLD_NOLOAD); }

void *ferro_library_symbol(void *library, const char *name) { return dlsym(library, name); }

int ferro_around_fork(void (*prepare)(void), void (*parent)(void), void (*child)(void))
{
    return pthread_atfork(prepare, parent, child) == 0 ? 0 : -1;
}

#else
typedef int ferro_platform_posix_is_empty;
#endif
