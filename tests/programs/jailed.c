/* jailed: opens /link below /jail as its root. */
#include <fcntl.h>
#include <unistd.h>
int main(void) { return chroot("/jail") || chdir("/") || open("/link", O_RDONLY) < 0; }
