/* The module cannot start: it says so, in code and in words, as often as it is asked, and the process goes on. */
#include "host.h"

int main(int argc, char **argv)
{
    CK_INFO info;
    CHECK(argc > 1);
    load(argv[1]);
    for (int i = 0; i < 2; i++) {
        EXPECT(CKR_GENERAL_ERROR, p11->C_Initialize(NULL));
        EXPECT(CKR_CRYPTOKI_NOT_INITIALIZED, p11->C_GetInfo(&info));
        EXPECT(CKR_CRYPTOKI_NOT_INITIALIZED, p11->C_Finalize(NULL));
    }
    pid_t child = fork();
    if (child == 0) {
        EXPECT(CKR_GENERAL_ERROR, p11->C_Initialize(NULL));
        _exit(0);
    }
    CHECK(await(child, 30) == 0);
    return 0;
}
