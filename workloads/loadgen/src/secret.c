#include "secret.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "buf.h"

#define LEAST 16
#define MOST 128

static char *own;

bool secret_begin(bool open, struct complaint *c)
{
    const char *given = getenv("COEBENCH_SECRET");

    if (!given || !*given)
        return open || complain(c, "set COEBENCH_SECRET to what callers must know, or give --open: whoever reaches "
                                   "the port may then give orders");
    if (strlen(given) < LEAST || strlen(given) > MOST)
        return complain(c, "COEBENCH_SECRET: want %d to %d characters", LEAST, MOST);
    for (const char *at = given; *at; at++)
        if (!isalnum((unsigned char)*at) && *at != '-' && *at != '_')
            return complain(c, "COEBENCH_SECRET: want letters, digits, - and _ only");
    own = must_strdup(given);
    unsetenv("COEBENCH_SECRET");
    return true;
}

bool secret_is(const char *guess)
{
    char padded[MOST + 1] = {0};
    char right[MOST + 1] = {0};
    unsigned char differs = 0;

    if (!own)
        return true;
    if (!guess || strlen(guess) > MOST)
        return false;
    memcpy(padded, guess, strlen(guess));
    memcpy(right, own, strlen(own));
    for (size_t i = 0; i < sizeof right; i++)
        differs |= (unsigned char)(padded[i] ^ right[i]);
    return !differs;
}

const char *secret_own(void)
{
    return own;
}
