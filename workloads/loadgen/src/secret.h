/* What a caller must know before an agent or a relay does anything for it: COEBENCH_SECRET, drawn for each run. */
#ifndef COELOAD_SECRET_H
#define COELOAD_SECRET_H

#include <stdbool.h>

#include "fault.h"

/* Takes COEBENCH_SECRET out of the environment, so that no child has it. Without one, `open` must say that whoever
 * reaches the port may give orders. */
bool secret_begin(bool open, struct complaint *c);
/* Whether this is it; true for anything if the port is open. Takes the same time for every wrong guess. */
bool secret_is(const char *guess);
/* For one that calls a relay; NULL if there is none. */
const char *secret_own(void);

#endif
