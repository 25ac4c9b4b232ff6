/* raised: an ordinary user runs /helper, which is setuid root and reads what only root may. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
int main(int count, char **names) {
    if (!strcmp(names[0], "helper")) return geteuid() != 0 || getuid() == 0 || open("/secret", O_RDONLY) < 0;
    if (geteuid() == 0 || open("/secret", O_RDONLY) >= 0) return 9;
    execl("/helper", "helper", (char *)0);
    return 8;
}
