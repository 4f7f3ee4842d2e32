/* The driver: a process that loads one PKCS#11 module, or libcrypto itself, and times operations on it.
 *
 * It is told what to do by lines on its standard input and answers each with one line (main.c). Nothing but C runs
 * between two readings of the clock, and threads are the operating system's.
 */
#ifndef FERROHSM_BENCH_DRIVER_H
#define FERROHSM_BENCH_DRIVER_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "pkcs11.h"

#define MAX_THREADS 64
#define CHUNK 4096 /* what one update of a multi-part operation takes */
#define LONGEST 49856 /* the longest signature: SLH-DSA's of the largest parameter sets */

/* What one thread works with; the memory is its own. */
typedef struct worker {
    struct run *run;
    CK_SESSION_HANDLE session;
    unsigned int index;
    unsigned long turn;
    unsigned char *input, *output;
    void *engine; /* the raw engine's context */
    unsigned char iv[16];
    const char *call; /* the function that failed */
    CK_RV rv;
} worker;

/* One case as it is prepared: the threads share it, and change nothing in it while the clock runs. */
typedef struct run {
    const struct operation *operation;
    unsigned long size, parts;
    unsigned long turns; /* of each thread in the measurements before */
    CK_SLOT_ID slot;
    CK_MECHANISM_TYPE mechanism;
    CK_OBJECT_HANDLE key, other;
    CK_OBJECT_HANDLE handles[64];
    unsigned long handle_count;
    CK_SESSION_HANDLE *sessions;
    unsigned long session_count;
    unsigned char blob[LONGEST]; /* a signature to verify, a ciphertext to open, the other side's point */
    CK_ULONG blob_length;
    void *engine, *engine_other;
    const char *call;
    CK_RV rv;
    CK_MECHANISM_TYPE lacks;
    int is_lacking;
} run;

/* An operation; `prepare`, `open`, `close` and `finish` are not timed and may be NULL. Each returns 0 when done. */
typedef struct operation {
    const char *name;
    int (*prepare)(run *run);
    int (*open)(worker *worker);
    int (*step)(worker *worker);
    void (*close)(worker *worker);
    void (*finish)(run *run);
} operation;

/* module.c */
extern CK_FUNCTION_LIST *ck;
extern CK_FUNCTION_LIST_3_2 *ck32; /* NULL where the module is older */
extern CK_SLOT_ID token_slot;
extern CK_SESSION_HANDLE main_session;
extern char user_pin[256];
int module_load(const char *path, const char *init, uint64_t *nanoseconds, char *problem, size_t size);
int module_token(const char *mode, const char *label, const char *so_pin, const char *pin, char *problem, size_t size);
void module_unload(void);
int module_slot_for(CK_MECHANISM_TYPE mechanism, CK_SLOT_ID *slot);

/* cases.c, keys.c, searching.c, raw.c */
extern const operation module_operations[], key_operations[], search_operations[], raw_operations[];
extern CK_BBOOL yes, no;
int failed(run *run, const char *call, CK_RV rv);
int stopped(worker *worker, const char *call, CK_RV rv);
int needs(run *run, CK_MECHANISM_TYPE mechanism);
int session_open(worker *worker);
void session_close(worker *worker);
void key_destroy(run *run);
int secret_create(CK_SESSION_HANDLE session, CK_BBOOL token, unsigned long number, CK_OBJECT_HANDLE *object, CK_RV *rv);
CK_RV token_pair(const char *label);
int raw_load(const char *path, char *problem, size_t size);
const char *raw_version(void);

/* searching.c */
int objects_grow(unsigned long count, CK_RV *rv);
unsigned long objects_count(unsigned long most, CK_RV *rv);
int objects_shrink(CK_RV *rv);
long memory_of_sessions(unsigned long count, CK_RV *rv);
long memory_of_objects(unsigned long count, CK_RV *rv);
long memory_of_touched(unsigned long *count, CK_RV *rv);
long resident(void);

/* timing.c */
uint64_t now(void);
int timing_run(run *run, unsigned int threads, unsigned long count, unsigned long warm, uint64_t *nanoseconds,
               worker *trouble);

#endif
