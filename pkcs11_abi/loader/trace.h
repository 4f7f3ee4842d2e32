/* The call trace: FERROHSM_TRACE names a file, or "stderr". */
#ifndef FERROHSM_TRACE_H
#define FERROHSM_TRACE_H

#include "gate.h"

typedef struct {
    unsigned long value;
    const char *name;
} ferro_name;

extern const ferro_name ferro_result_names[], ferro_mechanism_names[];
extern const size_t ferro_result_names_count, ferro_mechanism_names_count;

/* Write one line: time, process, thread, function, arguments, result, microseconds. The format is made of name=kind
 * words: %h a handle or number, %x flags, %t a mechanism type, %m a CK_MECHANISM pointer (its type is shown), %o a
 * pointer to a handle, shown when the call succeeded. */
void ferro_trace(const ferro_call *call, const char *function, CK_RV rv, const char *format, ...);

/* Write a line about the loader itself. */
void ferro_trace_note(const char *text);

#define FERRO_TRACE(call, function, rv, ...)                    \
    do {                                                        \
        if (FERRO_UNLIKELY(ferro_tracing))                      \
            ferro_trace((call), (function), (rv), __VA_ARGS__); \
    } while (0)

#endif
