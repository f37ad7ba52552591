/* coeload: coebench's native load generator and prober. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent.h"
#include "clock.h"
#include "text.h"
#include "version.h"

#define EXIT_USAGE 2

static const char usage[] =
    "usage: coeload agent [--port P] [--allow-exec]\n"
    "       coeload --version\n";

static int refuse(const char *message)
{
    fprintf(stderr, "coeload: %s\n", message);
    return EXIT_USAGE;
}

static bool env_is_true(const char *name)
{
    const char *value = getenv(name);

    return value && !strcmp(value, "1");
}

static int agent_main(int argc, char **argv)
{
    struct agent_options options = {.port = 7770, .allow_exec = env_is_true("COEBENCH_ALLOW_EXEC")};
    struct complaint c = {0};
    const char *from = "COEBENCH_PORT";
    const char *port = getenv(from);
    int64_t number;

    if (!port || !*port) /* Mesos tells a task its port by this name */
        port = getenv(from = "PORT0");
    for (int i = 0; i < argc; i++) {
        if (!strcmp(argv[i], "--port") && i + 1 < argc) {
            from = "--port";
            port = argv[++i];
        } else if (!strcmp(argv[i], "--allow-exec")) {
            options.allow_exec = true;
        } else {
            complain(&c, "agent: unknown or incomplete option '%.40s'", argv[i]);
            return refuse(c.text);
        }
    }
    if (port && *port) {
        if (!text_int(from, port, 0, 65535, &number, &c))
            return refuse(c.text);
        options.port = (uint16_t)number;
    }
    return agent_run(&options);
}

int main(int argc, char **argv)
{
    const char *command = argc > 1 ? argv[1] : "";

    clock_anchor();
    if (!strcmp(command, "agent"))
        return agent_main(argc - 2, argv + 2);
    if (!strcmp(command, "--version")) {
        puts("coeload " COELOAD_VERSION);
        return 0;
    }
    if (!strcmp(command, "--help") || !strcmp(command, "-h")) {
        fputs(usage, stdout);
        return 0;
    }
    fputs(usage, stderr);
    return EXIT_USAGE;
}
