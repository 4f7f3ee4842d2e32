/* The call trace. It shows functions, handles, mechanisms, results and times, never a buffer. */
#include "trace.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define LINE_SIZE 512

int ferro_tracing;

static int trace_file = -1;
static atomic_int trace_opened;

/* Open the trace at the first call of C_Initialize or of a list function; later calls do nothing. */
void ferro_trace_open(void)
{
    if (atomic_exchange(&trace_opened, 1))
        return;
    const char *target = ferro_secure_getenv("FERROHSM_TRACE");
    if (target == NULL || target[0] == '\0')
        return;
    trace_file = strcmp(target, "stderr") == 0 ? 2 : ferro_trace_file(target);
    if (trace_file < 0)
        ferro_message("ferrohsm: the file that FERROHSM_TRACE names cannot be opened\n");
    else
        ferro_tracing = 1;
}

static const char *find_name(const ferro_name *table, size_t count, unsigned long value)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (table[middle].value == value)
            return table[middle].name;
        if (table[middle].value < value)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

typedef struct {
    char text[LINE_SIZE];
    size_t length;
} trace_line;

/* Append to the line, keeping room for its end. */
static void append(trace_line *line, const char *format, ...)
{
    va_list arguments;
    size_t room = LINE_SIZE - 1 - line->length;
    va_start(arguments, format);
    int written = vsnprintf(line->text + line->length, room, format, arguments);
    va_end(arguments);
    if (written > 0)
        line->length += (size_t)written < room ? (size_t)written : room - 1;
}

static void append_name(trace_line *line, const ferro_name *table, size_t count, unsigned long value)
{
    const char *name = find_name(table, count, value);
    if (name != NULL)
        append(line, "%s", name);
    else
        append(line, "0x%lx", value);
}

/* Append one argument by its kind. */
static void append_argument(trace_line *line, char kind, va_list *arguments, CK_RV rv)
{
    if (kind == 'h') {
        append(line, "%lu", va_arg(*arguments, CK_ULONG));
    } else if (kind == 'x') {
        append(line, "0x%lx", va_arg(*arguments, CK_ULONG));
    } else if (kind == 't') {
        append_name(line, ferro_mechanism_names, ferro_mechanism_names_count, va_arg(*arguments, CK_ULONG));
    } else if (kind == 'm') {
        const CK_MECHANISM *mechanism = va_arg(*arguments, CK_MECHANISM *);
        if (mechanism == NULL)
            append(line, "NULL");
        else
            append_name(line, ferro_mechanism_names, ferro_mechanism_names_count, mechanism->mechanism);
    } else {
        const CK_ULONG *result = va_arg(*arguments, CK_ULONG *);
        if (rv == CKR_OK && result != NULL)
            append(line, "%lu", *result);
        else
            append(line, "-");
    }
}

static void begin_line(trace_line *line)
{
    line->length = 0;
    append(line, "%lu %lu ", ferro_process_id(), ferro_thread_id());
}

static void end_line(trace_line *line)
{
    line->text[line->length++] = '\n';
    ferro_trace_write(trace_file, line->text, line->length);
}

void ferro_trace(const ferro_call *call, const char *function, CK_RV rv, const char *format, ...)
{
    trace_line line;
    uint64_t now = ferro_microseconds();
    va_list arguments;
    begin_line(&line);
    append(&line, "%s(", function);
    va_start(arguments, format);
    for (const char *at = format; *at != '\0'; at++) {
        if (*at == '%')
            append_argument(&line, *++at, &arguments, rv);
        else
            append(&line, "%c", *at);
    }
    va_end(arguments);
    append(&line, ") = ");
    append_name(&line, ferro_result_names, ferro_result_names_count, rv);
    append(&line, " %llu us", (unsigned long long)(call->started ? now - call->started : 0));
    end_line(&line);
}

void ferro_trace_note(const char *text)
{
    trace_line line;
    if (!ferro_tracing)
        return;
    /* A note may have several lines (a traceback) and be longer than a line of the trace. */
    while (*text != '\0') {
        size_t length = strcspn(text, "\n");
        begin_line(&line);
        append(&line, "%.*s", (int)(length < 400 ? length : 400), text);
        end_line(&line);
        text += length + (text[length] == '\n');
    }
}
