/* Something that a control connection has asked for and that goes on by itself:
 * a watch, a load, a peer tool. */
#ifndef COELOAD_JOB_H
#define COELOAD_JOB_H

#include <stdbool.h>

#include "json.h"
#include "loop.h"

struct job;
struct outlet; /* where its events go: the agent's control connection */

struct job_class {
    const char *noun;
    void (*stop)(struct job *job); /* leads to job_over(), now or soon */
};

struct job {
    const struct job_class *class;
    char *id;
    bool keep;             /* outlives the connection that asked for it */
    struct outlet *outlet; /* NULL once that is gone */
    struct job *next;
};

/* Sends the line and empties it. */
void job_send(struct job *job, struct json *line);
/* The job has said its last word: the agent forgets it and frees its memory,
 * of which struct job must be the first member. */
void job_over(struct job *job);
/* The agent has been told to end: nothing can wait for anybody any more. */
bool job_last_call(void);

#endif
