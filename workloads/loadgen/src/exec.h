/* Peer tools (wrk, hey, …) run beside us so that our figures can be checked. */
#ifndef COELOAD_EXEC_H
#define COELOAD_EXEC_H

#include "job.h"
#include "request.h"

struct job *exec_begin(struct loop *loop, struct request *request, struct complaint *c);
void exec_go(struct job *job);

/* A child has ended (SIGCHLD): finds out which, and tells its job. */
void exec_reap(void);

#endif
