"""The process: arguments, parts, end."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
from pathlib import Path

from .api import Api
from .events import Bus
from .scheduler import NAME, Scheduler
from .store import Store
from .wire import Server


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="marathon", description=f"{NAME}: Marathon's API on Mesos; not Marathon.")
    parser.add_argument("--master", required=True, help="IP:PORT of the Mesos master; several with commas")
    parser.add_argument("--listen", required=True, help="IP:PORT for the REST API")
    parser.add_argument("--state", required=True, type=Path, help="folder for what outlives this process")
    parser.add_argument("--user", help="user name for HTTP basic authentication")
    parser.add_argument("--password-file", type=Path, help="file with the password")
    parser.add_argument("--mesos-user", default="root", help="user that tasks run as (default: root)")
    parser.add_argument(
        "--first-check",
        type=float,
        default=0.1,
        metavar="SECONDS",
        help="ask an instance this often until its first good answer, then at its check's interval;"
        " 0 keeps to the interval from the beginning, as Marathon does (default: 0.1)",
    )
    parser.add_argument("--verbose", action="store_true")
    given = parser.parse_args(words)
    if bool(given.user) != bool(given.password_file):
        parser.error("--user and --password-file belong together")
    return given


async def serve(given: argparse.Namespace) -> None:
    password = given.password_file.read_text().strip() if given.password_file else None
    store, bus = Store(given.state), Bus()
    scheduler = Scheduler(given.master.split(","), store, bus, given.mesos_user, given.first_check)
    api = Api(scheduler, bus, given.listen, given.user, password)
    host, _, port = given.listen.rpartition(":")
    await Server(api.handle).listen(host, int(port))
    running = scheduler.start()
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    waiting = asyncio.create_task(stopped.wait())
    await asyncio.wait((running, waiting), return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        running.result()
    store.close()


def main(words: list[str] | None = None) -> None:
    given = arguments(words)
    level = logging.DEBUG if given.verbose else logging.INFO
    logging.basicConfig(level=level, format="%(asctime)s %(levelname).1s %(name)s: %(message)s")
    asyncio.run(serve(given))
