/* The agent: takes requests over TCP, runs the jobs, sends the events. */
#ifndef COELOAD_AGENT_H
#define COELOAD_AGENT_H

#include <stdbool.h>
#include <stdint.h>

struct agent_options {
    uint16_t port; /* 0 lets the kernel choose */
    bool allow_exec;
    const char *join; /* host:port of a relay to register with; NULL for none */
    const char *name; /* to register as; NULL is the host's name and our process id */
};

/* Serves until SIGTERM or SIGINT. Returns the exit code. */
int agent_run(const struct agent_options *options);

#endif
