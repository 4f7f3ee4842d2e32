/* Waiting for a call that another thread is at: each waiter has a place of its own, so that one end wakes one thread.
 *
 * ferro_arrivals_interrupt (C_Finalize) wakes them all. No interpreter's lock is held in ferro_arrival_await.
 */
#ifndef FERROHSM_STATE_ARRIVALS_H
#define FERROHSM_STATE_ARRIVALS_H

#include "lock.h"

enum { FERRO_ARRIVED = 1, FERRO_INTERRUPTED = 2 };

typedef struct ferro_arrival {
    ferro_mutex mutex;
    ferro_condition condition;
    int state;
    struct ferro_arrival *next, **link; /* among those that wait; the list's lock */
} ferro_arrival;

/* Prepare one, and enter it among those that wait; it has to be ended. */
void ferro_arrival_begin(ferro_arrival *arrival);
void ferro_arrival_end(ferro_arrival *arrival);

/* Say that what is waited for is there; may be called before, during and after the wait. */
void ferro_arrival_raise(ferro_arrival *arrival);

/* Wait for at most the time given. Returns what has happened: FERRO_ARRIVED, FERRO_INTERRUPTED, both, or 0. */
int ferro_arrival_await(ferro_arrival *arrival, unsigned milliseconds);

void ferro_arrivals_interrupt(void);
void ferro_arrivals_resume(void);

/* In the child of a fork: nobody waits. */
void ferro_arrivals_fork_child(void);

#endif
