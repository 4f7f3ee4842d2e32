/* Everything that differs between operating systems, one function each (platform_posix.c, platform_win32.c). */
#ifndef FERROHSM_PLATFORM_H
#define FERROHSM_PLATFORM_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#include <windows.h>
#define FERRO_EXPORT __declspec(dllexport)
#if defined(_MSC_VER)
#define FERRO_THREAD_LOCAL __declspec(thread)
#else
#define FERRO_THREAD_LOCAL __thread
#endif
#define FERRO_UNLIKELY(x) (x)
#define FERRO_OPAQUE(pointer) ((void)0)
typedef SRWLOCK ferro_mutex;
typedef CONDITION_VARIABLE ferro_condition;
#define FERRO_MUTEX_INIT SRWLOCK_INIT
#define FERRO_CONDITION_INIT CONDITION_VARIABLE_INIT
#define FERRO_SEPARATOR '\\'
#else
#include <pthread.h>
#define FERRO_EXPORT __attribute__((visibility("default")))
#define FERRO_THREAD_LOCAL __thread
#define FERRO_UNLIKELY(x) __builtin_expect(!!(x), 0)
/* Keep a pointer: the compiler would rather find the address of a thread's variable anew each time. */
#define FERRO_OPAQUE(pointer) __asm__("" : "+r"(pointer))
typedef pthread_mutex_t ferro_mutex;
typedef pthread_cond_t ferro_condition;
#define FERRO_MUTEX_INIT PTHREAD_MUTEX_INITIALIZER
#define FERRO_CONDITION_INIT PTHREAD_COND_INITIALIZER
#define FERRO_SEPARATOR '/'
#endif

#define FERRO_PATH_MAX 4096

/* Locks. ferro_mutex_renew and ferro_condition_renew make a lock new in the child of a fork, whoever held it. */
void ferro_mutex_lock(ferro_mutex *mutex);
void ferro_mutex_unlock(ferro_mutex *mutex);
void ferro_mutex_renew(ferro_mutex *mutex);
void ferro_condition_wait(ferro_condition *condition, ferro_mutex *mutex);
void ferro_condition_broadcast(ferro_condition *condition);
void ferro_condition_renew(ferro_condition *condition);

/* Shared libraries. A library opened by ferro_library_open stays and its symbols serve the libraries loaded later. */
void *ferro_library_open(const char *path);
void *ferro_library_symbol(void *library, const char *name);
/* Return the library of a Python that the process has loaded already, or NULL. */
void *ferro_library_find_python(void);
/* Make the symbols of the library that contains `address` visible to libraries loaded later. */
void ferro_library_promote(const void *address);
/* Write the absolute path of the library that contains `address`; 0 on success. */
int ferro_library_path(const void *address, char *path, size_t size);
/* Write the reason of the last failed ferro_library_open. */
void ferro_library_error(char *text, size_t size);

/* A word that is 1 in this process and 0 in a child of it, whichever way the child was made; NULL where the system
 * has no such thing. */
volatile int *ferro_fork_word(void);
/* Register handlers that run around fork(). */
void ferro_fork_handlers(void (*prepare)(void), void (*parent)(void), void (*child)(void));

/* Signals. begin() blocks what can be blocked on this thread and remembers the process's handlers, end() restores
 * both. Neither has a meaning on Windows. */
typedef struct ferro_signals ferro_signals;
ferro_signals *ferro_signals_begin(void);
void ferro_signals_end(ferro_signals *saved);

/* The environment, NULL in set-user-id processes. */
const char *ferro_secure_getenv(const char *name);
int ferro_file_exists(const char *path);
/* Write the path without links; 0 on success. */
int ferro_file_real_path(const char *path, char *real, size_t size);
/* Read a small text file into `text`, terminated; 0 on success. */
int ferro_file_read(const char *path, char *text, size_t size);

/* The trace's file: appended to, made 0600, never a link. -1 on failure. */
int ferro_trace_file(const char *path);
/* Write to it unless the descriptor has been closed by the host and means another file now. */
void ferro_trace_write(int file, const char *text, size_t length);
/* Write a line to the standard error. */
void ferro_message(const char *text);

uint64_t ferro_microseconds(void);
void ferro_sleep_microseconds(unsigned int microseconds);
unsigned long ferro_process_id(void);
unsigned long ferro_thread_id(void);

#endif
