/* Peer tools (wrk, hey, …) run beside us so that our figures can be checked. */
#ifndef COELOAD_EXEC_H
#define COELOAD_EXEC_H

#include "job.h"
#include "request.h"

struct job *exec_begin(struct loop *loop, struct request *request, struct complaint *c);
void exec_go(struct job *job);

/* "coeload EXEC_AS_NOBODY program argument…": gives all rights up, then becomes the program. Returns only if it can't. */
#define EXEC_AS_NOBODY "exec-as-nobody"
#define EXEC_FAILED 126
int exec_as_nobody(char **argv);

/* A child has ended (SIGCHLD): finds out which, and tells its job. */
void exec_reap(void);

#endif
