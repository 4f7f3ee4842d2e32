/* Threads are dealt out over a few lanes, each with a copy of what all of them read and its own place for what each of them
 * writes, so that two threads at the same kind of work seldom touch the same cache line. */
#ifndef FERROHSM_STATE_LANES_H
#define FERROHSM_STATE_LANES_H

enum { FERRO_LANES = 8 }; /* a power of two */

/* The calling thread's lane, from 0; always the same one for a thread. */
unsigned ferro_lane(void);

#endif
