/* The interpreter's state of a foreign thread: made at its first call that needs Python, kept, freed at its end. */
#ifndef FERROHSM_STATE_ATTACH_H
#define FERROHSM_STATE_ATTACH_H

/* Make sure that PyGILState_Ensure on this thread finds a state instead of making one for every call. Without memory
 * for that it does nothing, and the calls are only slower. */
void ferro_attach(void);

/* How to ask whether Python may still be called (ferro_host.python_usable); NULL: always. */
void ferro_attach_host(int (*python_usable)(void));

/* In the child of a fork: the states of the parent's threads are not ours to free. */
void ferro_attach_fork_child(void);

/* Let the interpreter go around a wait, if this thread's host came in holding it. */
void *ferro_let_go(void);
void ferro_take_back(void *state);

#endif
