/* A set-user-id program: nothing that its caller put into the environment is listened to. */
#include "host.h"

#include <sys/auxv.h>

int main(int argc, char **argv)
{
    CHECK(argc > 2);
    if (getauxval(AT_SECURE) == 0)
        return 77; /* such programs don't work here (a mount without set-user-id) */
    CHECK(getenv("FERROHSM_TRACE") != NULL && getenv("FERROHSM_CONF") != NULL);
    load(argv[1]);
    OK(p11->C_Initialize(NULL));
    OK(p11->C_Finalize(NULL));
    CHECK(access(argv[2], F_OK) != 0);
    return 0;
}
