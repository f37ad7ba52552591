/* Which addresses of a name take connections: tried side by side, with little patience. */
#ifndef COELOAD_ATTEMPT_H
#define COELOAD_ATTEMPT_H

#include "address.h"

struct attempts;

/* Of each address 0 if it took a connection, else an errno; ETIMEDOUT if it said nothing in time. */
typedef void attempts_answer(void *arg, const struct address *list, const int *errors, size_t count);

/* Copies the list. The answer comes from the loop, never from within this call. */
struct attempts *attempts_begin(struct loop *loop, const struct address *list, size_t count,
                                int64_t patience, attempts_answer *answer, void *arg);
/* The answer will not be called. Attempts are forgotten by themselves once answered. */
void attempts_forget(struct attempts *attempts);

#endif
