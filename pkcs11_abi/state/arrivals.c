#include "arrivals.h"

#include <stddef.h>

static ferro_mutex mutex = FERRO_MUTEX_INIT;
static ferro_arrival *waiting;
static int interrupted;

void ferro_arrival_begin(ferro_arrival *arrival)
{
    ferro_mutex_renew(&arrival->mutex);
    ferro_condition_renew(&arrival->condition);
    ferro_lock(&mutex);
    arrival->state = interrupted ? FERRO_INTERRUPTED : 0;
    arrival->next = waiting;
    arrival->link = &waiting;
    if (waiting != NULL)
        waiting->link = &arrival->next;
    waiting = arrival;
    ferro_unlock(&mutex);
}

void ferro_arrival_end(ferro_arrival *arrival)
{
    ferro_lock(&mutex);
    if (arrival->link != NULL) {
        *arrival->link = arrival->next;
        if (arrival->next != NULL)
            arrival->next->link = arrival->link;
        arrival->link = NULL;
    }
    ferro_unlock(&mutex);
}

static void raise_state(ferro_arrival *arrival, int state)
{
    ferro_lock(&arrival->mutex);
    arrival->state |= state;
    ferro_wake_all(&arrival->condition);
    ferro_unlock(&arrival->mutex);
}

void ferro_arrival_raise(ferro_arrival *arrival) { raise_state(arrival, FERRO_ARRIVED); }

int ferro_arrival_await(ferro_arrival *arrival, unsigned milliseconds)
{
    int state;

    ferro_lock(&arrival->mutex);
    if (arrival->state == 0)
        ferro_wait(&arrival->condition, &arrival->mutex, milliseconds);
    state = arrival->state;
    ferro_unlock(&arrival->mutex);
    return state;
}

void ferro_arrivals_interrupt(void)
{
    ferro_arrival *arrival;

    ferro_lock(&mutex);
    interrupted = 1;
    for (arrival = waiting; arrival != NULL; arrival = arrival->next)
        raise_state(arrival, FERRO_INTERRUPTED);
    ferro_unlock(&mutex);
}

void ferro_arrivals_resume(void)
{
    ferro_lock(&mutex);
    interrupted = 0;
    ferro_unlock(&mutex);
}

void ferro_arrivals_fork_child(void)
{
    ferro_mutex_renew(&mutex);
    waiting = NULL;
    interrupted = 0;
}
