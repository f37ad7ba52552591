/* Two kinds of trouble: what a request to a service met, counted by kind, and
 * what is wrong with something we were asked, told in one line. */
#ifndef COELOAD_FAULT_H
#define COELOAD_FAULT_H

#include <stdbool.h>

enum fault {
    FAULT_NONE,
    FAULT_REFUSED,
    FAULT_RESET,
    FAULT_TIMEOUT,
    FAULT_CLOSED,
    FAULT_BAD_STATUS,
    FAULT_BAD_HTTP,
    FAULT_WRONG_VERSION,
    FAULT_WRONG_BODY,
    FAULT_UNREACHABLE,
    FAULT_UNRESOLVED,
    FAULT_LOCAL, /* we ran out of ports, descriptors or memory: not the service's fault */
    FAULT_KINDS
};

const char *fault_name(enum fault fault);
enum fault fault_of_errno(int error);

/* The first complaint is the one that is kept; later ones follow from it. */
struct complaint {
    char text[256];
};

/* Always false, so that a check can say `return complain(c, "…")`. */
bool complain(struct complaint *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
