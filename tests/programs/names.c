/* names: asks the name services, converts characters, loads a library by its name. */
#include <dlfcn.h>
#include <grp.h>
#include <iconv.h>
#include <locale.h>
#include <netdb.h>
#include <pwd.h>
#include <stdio.h>
int main(void) {
    setlocale(LC_ALL, "C.UTF-8");
    if (!getpwnam("daemon") || !getgrnam("daemon") || !getservbyname("http", "tcp")) fprintf(stderr, "a name is unknown\n");
    iconv_open("ISO-8859-2", "UTF-8");
    return !dlopen("libm.so.6", RTLD_NOW);
}
