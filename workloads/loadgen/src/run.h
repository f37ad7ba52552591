/* `coeload run`: one load from the command line. */
#ifndef COELOAD_RUN_H
#define COELOAD_RUN_H

int run_main(int argc, char **argv);

extern const char run_usage[];

#endif
