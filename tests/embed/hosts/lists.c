/* The three functions that may be called before C_Initialize. */
#include "host.h"

static CK_C_GetFunctionList get_list;
static CK_C_GetInterfaceList get_interfaces;
static CK_C_GetInterface get_interface;

static void function_list(void)
{
    CK_FUNCTION_LIST *list = NULL;
    EXPECT(CKR_ARGUMENTS_BAD, get_list(NULL));
    OK(get_list(&list));
    CHECK(list->version.major == 2 && list->version.minor == 40);
    void **functions = (void **)((char *)list + offsetof(CK_FUNCTION_LIST, C_Initialize));
    for (int i = 0; i < 68; i++)
        CHECK(functions[i] != NULL);
    CHECK((void *)list->C_GetFunctionList == dlsym(module_handle, "C_GetFunctionList"));
    CHECK((void *)list->C_WaitForSlotEvent == dlsym(module_handle, "C_WaitForSlotEvent"));
}

static void interfaces(void)
{
    static const CK_VERSION expected[] = {{3, 2}, {3, 0}, {2, 40}};
    static const int functions[] = {104, 92, 68};
    CK_INTERFACE list[4];
    CK_ULONG count = 77;
    EXPECT(CKR_ARGUMENTS_BAD, get_interfaces(NULL, NULL));
    OK(get_interfaces(NULL, &count));
    CHECK(count == 3);
    count = 2;
    EXPECT(CKR_BUFFER_TOO_SMALL, get_interfaces(list, &count));
    CHECK(count == 3);
    count = 4;
    OK(get_interfaces(list, &count));
    CHECK(count == 3);
    for (int i = 0; i < 3; i++) {
        const CK_VERSION *version = list[i].pFunctionList;
        CHECK(strcmp((char *)list[i].pInterfaceName, "PKCS 11") == 0);
        CHECK(version->major == expected[i].major && version->minor == expected[i].minor);
        CHECK(list[i].flags == 0);
        void **pointers = (void **)((char *)list[i].pFunctionList + offsetof(CK_FUNCTION_LIST, C_Initialize));
        for (int f = 0; f < functions[i]; f++)
            CHECK(pointers[f] != NULL);
    }
}

static void version_is(CK_INTERFACE *interface, int major, int minor)
{
    const CK_VERSION *version = interface->pFunctionList;
    CHECK(version->major == major && version->minor == minor);
}

static void one_interface(void)
{
    CK_UTF8CHAR name[] = "PKCS 11", wrong[] = "Vendor other", prefix[] = "PKCS";
    CK_VERSION three = {3, 0}, two = {2, 40}, newest = {3, 2}, unknown = {3, 1}, old = {2, 20};
    CK_INTERFACE *interface = NULL;
    EXPECT(CKR_ARGUMENTS_BAD, get_interface(NULL, NULL, NULL, 0));
    OK(get_interface(NULL, NULL, &interface, 0));
    version_is(interface, 3, 2);
    OK(get_interface(name, NULL, &interface, 0));
    version_is(interface, 3, 2);
    OK(get_interface(name, &newest, &interface, 0));
    version_is(interface, 3, 2);
    OK(get_interface(name, &three, &interface, 0));
    version_is(interface, 3, 0);
    OK(get_interface(NULL, &two, &interface, 0));
    version_is(interface, 2, 40);
    EXPECT(CKR_ARGUMENTS_BAD, get_interface(wrong, NULL, &interface, 0));
    CHECK(interface == NULL);
    EXPECT(CKR_ARGUMENTS_BAD, get_interface(prefix, NULL, &interface, 0));
    EXPECT(CKR_ARGUMENTS_BAD, get_interface(name, &unknown, &interface, 0));
    EXPECT(CKR_ARGUMENTS_BAD, get_interface(name, &old, &interface, 0));
    /* Sessions don't live on in the child of a fork: whoever asks for that is told. */
    EXPECT(CKR_ARGUMENTS_BAD, get_interface(NULL, NULL, &interface, CKF_INTERFACE_FORK_SAFE));
}

int main(int argc, char **argv)
{
    CHECK(argc > 1);
    load(argv[1]);
    *(void **)&get_list = dlsym(module_handle, "C_GetFunctionList");
    *(void **)&get_interfaces = dlsym(module_handle, "C_GetInterfaceList");
    *(void **)&get_interface = dlsym(module_handle, "C_GetInterface");
    for (int i = 0; i < 2; i++) {
        function_list();
        interfaces();
        one_interface();
        if (i == 0)
            OK(p11->C_Initialize(NULL)); /* and the same again while it is initialized */
    }
    OK(p11->C_Finalize(NULL));
    one_interface();
    return 0;
}
