/* coeload: coebench's native load generator and prober. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent.h"
#include "clock.h"
#include "null.h"
#include "run.h"
#include "text.h"
#include "version.h"

#define EXIT_USAGE 2

static const char usage[] =
    "usage: coeload agent [--port P] [--allow-exec]    probe and generate on request\n"
    "       coeload run URL… …                         one load from here; see run --help\n"
    "       coeload null [--port P] [--pauses]         a server that does nothing, to calibrate\n"
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

static int null_main(int argc, char **argv)
{
    struct complaint c = {0};
    int64_t port = 0;

    bool tell = argc && !strcmp(argv[argc - 1], "--pauses");

    argc -= tell;
    if (argc && (argc != 2 || strcmp(argv[0], "--port")))
        return refuse("null: want --port P, --pauses and nothing else");
    if (argc && !text_int("--port", argv[1], 0, 65535, &port, &c))
        return refuse(c.text);
    return null_run((uint16_t)port, tell);
}

static bool wants_help(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
            return true;
    return false;
}

int main(int argc, char **argv)
{
    const char *command = argc > 1 ? argv[1] : "";

    clock_anchor();
    if (wants_help(argc, argv)) {
        fputs(strcmp(command, "run") ? usage : run_usage, stdout);
        return 0;
    }
    if (!strcmp(command, "agent"))
        return agent_main(argc - 2, argv + 2);
    if (!strcmp(command, "run"))
        return run_main(argc - 2, argv + 2);
    if (!strcmp(command, "null"))
        return null_main(argc - 2, argv + 2);
    if (!strcmp(command, "--version")) {
        puts("coeload " COELOAD_VERSION);
        return 0;
    }
    fputs(usage, stderr);
    return EXIT_USAGE;
}
