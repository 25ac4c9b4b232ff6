#include <fcntl.h>
int open_own(void) { return open("/data/own", O_RDONLY); }
