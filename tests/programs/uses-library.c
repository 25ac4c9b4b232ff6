/* Links with library.c. */
int open_own(void);
int main(void) { return open_own() < 0; }
