/* A load as a job of the agent: its events. */
#ifndef COELOAD_LOAD_JOB_H
#define COELOAD_LOAD_JOB_H

#include "address.h"
#include "job.h"
#include "request.h"

/* `acked`: every line is kept until the coordinator says that it has it. */
struct job *load_begin(struct loop *loop, struct resolver *resolver, struct request *request,
                       bool acked, struct complaint *c);
void load_job_go(struct job *job);
bool load_job_retarget(struct job *job, struct request *request, struct complaint *c);
/* Sends the seconds from number `since` on again (-1: those that are not acknowledged), and
 * the end if there has been one. */
void load_job_replay(struct job *job, int64_t since);
/* The coordinator has all seconds before number `next`, and the end if it says so. */
void load_job_acknowledged(struct job *job, int64_t next, bool end);

extern const struct job_class load_class;

#endif
