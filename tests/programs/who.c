#include <unistd.h>
#include <string.h>
#include <stdlib.h>
int main(void) {
    gid_t groups[8]; char here[99];
    return !(getuid() == 33 && getgid() == 44 && getgroups(8, groups) == 2 && groups[0] == 44 && groups[1] == 55
             && !strcmp(getcwd(here, 99), "/data") && !strcmp(getenv("HOME"), "/data") && !strcmp(getenv("A"), "b"));
}
