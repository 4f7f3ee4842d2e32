/* A field that some callers fill with a number and others with a pointer to it must not be followed blindly. */
#if !defined(_WIN32)
#define _GNU_SOURCE
#include <fcntl.h>
#include <unistd.h>
#endif

#include "peek.h"

#if defined(_WIN32)

int ferro_peek(CK_ULONG address, CK_ULONG *value)
{
    (void)address;
    (void)value;
    return 0;
}

#else

/* A pipe that no program inherits which another thread of the host begins at this very moment. */
static int private_pipe(int ends[2])
{
#if defined(__APPLE__)
    if (pipe(ends) != 0) /* there is nothing that does both at once */
        return 0;
    (void)fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    (void)fcntl(ends[1], F_SETFD, FD_CLOEXEC);
    return 1;
#else
    return pipe2(ends, O_CLOEXEC) == 0;
#endif
}

int ferro_peek(CK_ULONG address, CK_ULONG *value)
{
    int ends[2];
    int there;
    if (address % sizeof(*value) != 0 || !private_pipe(ends))
        return 0;
    /* The kernel reads it for us, and says EFAULT where we would be ended by a signal. */
    there = write(ends[1], (const void *)address, sizeof(*value)) == (ssize_t)sizeof(*value) &&
            read(ends[0], value, sizeof(*value)) == (ssize_t)sizeof(*value);
    close(ends[0]);
    close(ends[1]);
    return there;
}

#endif
