#include "fault.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

static const char *const names[FAULT_KINDS] = {
    [FAULT_NONE] = "none",
    [FAULT_REFUSED] = "refused",
    [FAULT_RESET] = "reset",
    [FAULT_TIMEOUT] = "timeout",
    [FAULT_CLOSED] = "closed",
    [FAULT_BAD_STATUS] = "bad_status",
    [FAULT_BAD_HTTP] = "bad_http",
    [FAULT_WRONG_VERSION] = "wrong_version",
    [FAULT_WRONG_BODY] = "wrong_body",
    [FAULT_UNREACHABLE] = "unreachable",
    [FAULT_UNRESOLVED] = "unresolved",
    [FAULT_LOCAL] = "local",
};

const char *fault_name(enum fault fault)
{
    return names[fault];
}

enum fault fault_of_errno(int error)
{
    switch (error) {
    case 0:
        return FAULT_NONE;
    case ECONNREFUSED:
        return FAULT_REFUSED;
    case ECONNRESET:
    case ECONNABORTED:
    case EPIPE:
    case ENOTCONN:
        return FAULT_RESET;
    case ETIMEDOUT:
        return FAULT_TIMEOUT;
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
    case EADDRNOTAVAIL:
    case EADDRINUSE:
        return FAULT_LOCAL;
    default: /* EHOSTUNREACH, ENETUNREACH, EPERM of a firewall, … */
        return FAULT_UNREACHABLE;
    }
}

bool complain(struct complaint *c, const char *format, ...)
{
    va_list args;

    if (c->text[0])
        return false;
    va_start(args, format);
    vsnprintf(c->text, sizeof c->text, format, args);
    va_end(args);
    return false;
}
