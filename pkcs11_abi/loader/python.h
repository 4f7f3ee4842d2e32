/* The interpreter: found, started or joined. Every function of Python is looked up by name; nothing links to it. */
#ifndef FERROHSM_PYTHON_H
#define FERROHSM_PYTHON_H

#include "gate.h"

/* Find or start the interpreter and import the ABI. Done once; later calls return the same table, or fail in the same
 * way. NULL on failure, with the reason in `message`. The thread may hold the GIL or not. */
const ferro_table *ferro_python_table(char *message, size_t size);

/* 1 when this thread holds the GIL. */
int ferro_python_attached(void);

/* Release the GIL if this thread holds it, and take it again. Never called with a lock held. */
void *ferro_python_detach(void);
void ferro_python_reattach(void *state);

/* Around fork(), for a thread that doesn't hold the GIL: take it and let CPython prepare; 0 when there is no running
 * interpreter. The others follow in the parent and in the child. */
int ferro_python_before_fork(void);
void ferro_python_after_fork_parent(void);
void ferro_python_after_fork_child(void);

/* In a child that no handler has seen (a raw clone): the next ferro_python_table() has to put the interpreter right.
 * `alone`: no call was in progress in the parent. */
void ferro_python_cloned(int alone);

#endif
