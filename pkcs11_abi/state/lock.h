/* Mutexes and condition variables, for POSIX threads and for Windows.
 *
 * Rule of the house: a mutex is held for a few instructions, never across a wait and never while the
 * interpreter's lock is being acquired.
 */
#ifndef FERROHSM_STATE_LOCK_H
#define FERROHSM_STATE_LOCK_H

/* What threads write at the same time stands this many bytes apart: two cache lines, as processors fetch them. */
#define FERRO_CACHE_LINES 128

#if defined(_WIN32)
#include <windows.h>

typedef SRWLOCK ferro_mutex;
typedef CONDITION_VARIABLE ferro_condition;
#define FERRO_MUTEX_INIT SRWLOCK_INIT
#define FERRO_CONDITION_INIT CONDITION_VARIABLE_INIT

static inline void ferro_mutex_renew(ferro_mutex *mutex) { InitializeSRWLock(mutex); }
static inline void ferro_lock(ferro_mutex *mutex) { AcquireSRWLockExclusive(mutex); }
static inline int ferro_try_lock(ferro_mutex *mutex) { return TryAcquireSRWLockExclusive(mutex) != 0; }
static inline void ferro_unlock(ferro_mutex *mutex) { ReleaseSRWLockExclusive(mutex); }
static inline void ferro_condition_renew(ferro_condition *condition) { InitializeConditionVariable(condition); }
static inline void ferro_wake_all(ferro_condition *condition) { WakeAllConditionVariable(condition); }

static inline void ferro_wait(ferro_condition *condition, ferro_mutex *mutex, unsigned milliseconds)
{
    SleepConditionVariableSRW(condition, mutex, milliseconds, 0);
}

#else
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

typedef pthread_mutex_t ferro_mutex;
typedef pthread_cond_t ferro_condition;
#define FERRO_MUTEX_INIT PTHREAD_MUTEX_INITIALIZER
#define FERRO_CONDITION_INIT PTHREAD_COND_INITIALIZER

/* For the child of a fork: the old mutex may be held by a thread that is not there, so it is made anew in place. */
static inline void ferro_mutex_renew(ferro_mutex *mutex)
{
    static const pthread_mutex_t fresh = PTHREAD_MUTEX_INITIALIZER;
    memcpy(mutex, &fresh, sizeof *mutex);
}

static inline void ferro_condition_renew(ferro_condition *condition)
{
    static const pthread_cond_t fresh = PTHREAD_COND_INITIALIZER;
    memcpy(condition, &fresh, sizeof *condition);
}

static inline void ferro_lock(ferro_mutex *mutex) { pthread_mutex_lock(mutex); }
static inline int ferro_try_lock(ferro_mutex *mutex) { return pthread_mutex_trylock(mutex) == 0; }
static inline void ferro_unlock(ferro_mutex *mutex) { pthread_mutex_unlock(mutex); }
static inline void ferro_wake_all(ferro_condition *condition) { pthread_cond_broadcast(condition); }

/* Wait with the mutex held, for at most the time given. A clock that jumps only makes one wait shorter or longer:
 * every caller checks its condition again and waits for short times. */
static inline void ferro_wait(ferro_condition *condition, ferro_mutex *mutex, unsigned milliseconds)
{
    struct timeval now;
    struct timespec until;

    gettimeofday(&now, NULL);
    until.tv_sec = now.tv_sec + (time_t)(milliseconds / 1000);
    until.tv_nsec = now.tv_usec * 1000L + (long)(milliseconds % 1000) * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_sec += 1;
        until.tv_nsec -= 1000000000L;
    }
    pthread_cond_timedwait(condition, mutex, &until);
}
#endif

/* For a lock that is held for some nanoseconds only: going to sleep for it takes a hundred times as long, and whoever
 * sleeps has to be woken by the next one. */
static inline void ferro_lock_briefly(ferro_mutex *mutex)
{
    volatile int pause;
    int tries;

    for (tries = 0; tries < 200; tries++) {
        if (ferro_try_lock(mutex))
            return;
        for (pause = 0; pause < 8; pause++)
            ;
    }
    ferro_lock(mutex);
}

#endif
