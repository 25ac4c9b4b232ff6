#include <unistd.h>
int main(void) { return access("/file0", R_OK) || access("/file299", R_OK); }
