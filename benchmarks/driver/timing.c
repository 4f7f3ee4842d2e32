/* The clock and the threads. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "driver.h"

/* The threads of one measurement meet twice: when all are warm, and when all are through. */
typedef struct {
    pthread_barrier_t warm;
    unsigned long count, warm_count;
} meeting;

/* On cache lines of its own: what one thread writes does not slow another one down. */
typedef struct {
    _Alignas(128) worker worker;
    meeting *meeting;
    pthread_t thread;
    uint64_t begin, end;
} runner;

uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void *work(void *argument) {
    runner *runner = argument;
    worker *self = &runner->worker;
    int (*step)(worker *) = self->run->operation->step;
    unsigned long done;
    int bad = self->run->operation->open != NULL && self->run->operation->open(self);

    for (done = 0; !bad && done < runner->meeting->warm_count; done++)
        bad = step(self);
    pthread_barrier_wait(&runner->meeting->warm);
    runner->begin = now();
    for (done = 0; !bad && done < runner->meeting->count; done++)
        bad = step(self);
    runner->end = now();
    if (self->run->operation->close != NULL)
        self->run->operation->close(self);
    return NULL;
}

/* Run the prepared case: every thread `warm` times unwatched, then `count` times; the time is that from the first
 * thread's begin to the last one's end. Returns 1 when a step failed; `trouble` then says which. */
int timing_run(run *run, unsigned int threads, unsigned long count, unsigned long warm, uint64_t *nanoseconds,
               worker *trouble) {
    runner *runners = aligned_alloc(128, threads * sizeof *runners);
    meeting meeting = {.count = count, .warm_count = warm};
    size_t room = run->size + LONGEST;
    uint64_t begin = UINT64_MAX, end = 0;
    unsigned int index;
    int bad = 0;

    if (runners == NULL)
        abort();
    memset(runners, 0, threads * sizeof *runners);
    pthread_barrier_init(&meeting.warm, NULL, threads);
    for (index = 0; index < threads; index++) {
        worker *one = &runners[index].worker;
        one->run = run;
        one->index = index;
        one->turn = run->turns;
        one->input = calloc(1, room);
        one->output = calloc(1, room);
        if (one->input == NULL || one->output == NULL)
            abort();
        memset(one->input, 'a' + (int)index % 26, room);
        memset(one->output, 0, room);
        one->iv[0] = (unsigned char)index;
        runners[index].meeting = &meeting;
    }
    for (index = 0; index < threads; index++)
        if (pthread_create(&runners[index].thread, NULL, work, &runners[index]) != 0)
            abort();
    for (index = 0; index < threads; index++) {
        runner *one = &runners[index];
        pthread_join(one->thread, NULL);
        begin = one->begin < begin ? one->begin : begin;
        end = one->end > end ? one->end : end;
        if (one->worker.call != NULL && !bad) {
            bad = 1;
            *trouble = one->worker;
        }
        free(one->worker.input);
        free(one->worker.output);
    }
    run->turns += warm + count; /* so that no measurement repeats the one before */
    pthread_barrier_destroy(&meeting.warm);
    free(runners);
    *nanoseconds = end - begin;
    return bad;
}
