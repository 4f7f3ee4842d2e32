/* Other modules and other programs have functions of the same names: ours are called all the same. */
#include "host.h"

/* Built with -rdynamic: these stand in the global scope before anything else. */
CK_RV C_GetInfo(CK_INFO_PTR info)
{
    (void)info;
    FAIL("the host's C_GetInfo was called");
}

CK_RV C_Sign(CK_SESSION_HANDLE session, CK_BYTE_PTR data, CK_ULONG length, CK_BYTE_PTR signature, CK_ULONG_PTR size)
{
    (void)session, (void)data, (void)length, (void)signature, (void)size;
    FAIL("the host's C_Sign was called");
}

CK_RV C_GetSlotList(CK_BBOOL present, CK_SLOT_ID_PTR slots, CK_ULONG_PTR count)
{
    (void)present, (void)slots, (void)count;
    FAIL("the host's C_GetSlotList was called");
}

static void is_ours(void)
{
    CK_INFO info;
    Dl_info where, list;
    OK(p11->C_GetInfo(&info));
    CHECK(memcmp(info.manufacturerID, "FerroHSM", 8) == 0);
    CHECK(dladdr((void *)p11, &list) != 0);
    void **functions = (void **)((char *)p11_3_2 + offsetof(CK_FUNCTION_LIST_3_2, C_Initialize));
    for (int i = 0; i < 104; i++)
        CHECK(dladdr(functions[i], &where) != 0 && where.dli_fbase == list.dli_fbase);
}

int main(int argc, char **argv)
{
    CHECK(argc > 2);
    int flags = RTLD_NOW;
    if (strcmp(argv[2], "global") == 0)
        flags |= RTLD_GLOBAL;
#if defined(RTLD_DEEPBIND)
    else if (strcmp(argv[2], "deepbind") == 0)
        flags |= RTLD_LOCAL | RTLD_DEEPBIND;
#endif
    else if (strcmp(argv[2], "lazy") == 0)
        flags = RTLD_LAZY | RTLD_LOCAL;
    if (argc > 3 && dlopen(argv[3], RTLD_NOW | RTLD_GLOBAL) == NULL)
        FAIL("%s", dlerror());
    load_with(argv[1], flags);
    OK(p11->C_Initialize(NULL));
    is_ours();
    work_once();
    OK(p11->C_Finalize(NULL));
    return 0;
}
