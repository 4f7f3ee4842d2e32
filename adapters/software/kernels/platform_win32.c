/* The Windows side of platform.h: no fork there, thread ends come through fibre-local storage. */
#if defined(_WIN32)

#include "platform.h"

size_t ferro_page_size(void)
{
    SYSTEM_INFO info;

    GetSystemInfo(&info);
    return info.dwPageSize;
}

void *ferro_map_reserve(size_t size, int wiped)
{
    (void)wiped;
    return VirtualAlloc(NULL, size, MEM_RESERVE, PAGE_NOACCESS);
}

void ferro_map_release(void *address, size_t size)
{
    (void)size;
    (void)VirtualFree(address, 0, MEM_RELEASE);
}

int ferro_map_commit(void *address, size_t size)
{
    return VirtualAlloc(address, size, MEM_COMMIT, PAGE_READWRITE) != NULL ? 0 : -1;
}

int ferro_map_lock(void *address, size_t size)
{
    return VirtualLock(address, size) ? 0 : -1;
}

int ferro_thread_hook_make(ferro_thread_hook *hook, void (*ended)(void *))
{
    hook->key = FlsAlloc((PFLS_CALLBACK_FUNCTION)ended);
    hook->ready = hook->key != FLS_OUT_OF_INDEXES;
    return hook->ready ? 0 : -1;
}

void ferro_thread_hook_set(ferro_thread_hook *hook, void *value)
{
    if (hook->ready)
        (void)FlsSetValue(hook->key, value);
}

/* GetProcAddress does not look into what a library needs: SQLite is not found, and Python searches. */
void *ferro_library_loaded(const char *path)
{
    (void)path;
    return NULL;
}

void *ferro_library_symbol(void *library, const char *name)
{
    (void)library;
    (void)name;
    return NULL;
}

int ferro_around_fork(void (*prepare)(void), void (*parent)(void), void (*child)(void))
{
    (void)prepare;
    (void)parent;
    (void)child;
    return 0;
}

#else
typedef int ferro_platform_win32_is_empty;
#endif
