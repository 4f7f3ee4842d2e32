/* What the kernels need of the operating system, and nothing else of it is used elsewhere. */
#ifndef FERRO_KERNELS_PLATFORM_H
#define FERRO_KERNELS_PLATFORM_H 1

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#include <windows.h>
typedef SRWLOCK ferro_mutex;
#define FERRO_MUTEX_INIT SRWLOCK_INIT
#define ferro_mutex_init(m) InitializeSRWLock(m)
#define ferro_mutex_destroy(m) ((void)(m))
#define ferro_mutex_lock(m) AcquireSRWLockExclusive(m)
#define ferro_mutex_try_lock(m) (TryAcquireSRWLockExclusive(m) != 0)
#define ferro_mutex_unlock(m) ReleaseSRWLockExclusive(m)
#else
#include <pthread.h>
typedef pthread_mutex_t ferro_mutex;
#define FERRO_MUTEX_INIT PTHREAD_MUTEX_INITIALIZER
#define ferro_mutex_init(m) ((void)pthread_mutex_init((m), NULL))
#define ferro_mutex_destroy(m) ((void)pthread_mutex_destroy(m))
#define ferro_mutex_lock(m) ((void)pthread_mutex_lock(m))
#define ferro_mutex_try_lock(m) (pthread_mutex_trylock(m) == 0)
#define ferro_mutex_unlock(m) ((void)pthread_mutex_unlock(m))
#endif

/* Address space without access; `wiped` asks that a child of fork() finds zeros there. */
void *ferro_map_reserve(size_t size, int wiped);
void ferro_map_release(void *address, size_t size);
/* Make part of a reservation usable; 0, or -1 when there is no memory. */
int ferro_map_commit(void *address, size_t size);
/* Keep pages out of swap; 0, or -1 when the limit is reached. */
int ferro_map_lock(void *address, size_t size);
size_t ferro_page_size(void);

/* Run `ended(value)` when the calling thread ends; one value a thread and hook. */
typedef struct ferro_thread_hook ferro_thread_hook;
struct ferro_thread_hook {
    int ready;
#if defined(_WIN32)
    DWORD key;
#else
    pthread_key_t key;
#endif
};
int ferro_thread_hook_make(ferro_thread_hook *hook, void (*ended)(void *));
void ferro_thread_hook_set(ferro_thread_hook *hook, void *value);

/* A library that the process has loaded already, and what it or one that it needs defines; NULL when there is none. */
void *ferro_library_loaded(const char *path);
void *ferro_library_symbol(void *library, const char *name);

/* Run once around every fork() of the process; does nothing where there is no fork. */
int ferro_around_fork(void (*prepare)(void), void (*parent)(void), void (*child)(void));

#endif
