"""The Marathon-compatible API, driven by PyPI's ``marathon`` against real Mesos."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("marathon")
import requests
from marathon import MarathonClient, MarathonHttpError, NotFoundError
from marathon.exceptions import ConflictError
from marathon.models import MarathonApp, MarathonHealthCheck
from marathon.models.app import MarathonUpgradeStrategy, ReadinessCheck
from marathon.models.container import MarathonContainer, MarathonDockerContainer
from mesos_fixture import MesosBay, mesos_bay  # noqa: F401

from coebench.lab import cgroups, plan

pytestmark = [pytest.mark.lab, pytest.mark.timeout(60)]

# answers with its version; /health can be told to fail, and begins to only when told
SERVER = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    bad = False
    def do_GET(self):
        if self.path == "/break": Handler.bad = True
        self.send_response(500 if Handler.bad and self.path == "/health" else 200)
        self.end_headers()
        self.wfile.write(" ".join(os.environ[n] for n in ("SHOWN", "MESOS_TASK_ID", "MARATHON_APP_ID", "HOST")).encode())
    def log_message(self, *words): pass
http.server.ThreadingHTTPServer(("", int(os.environ["PORT0"])), Handler).serve_forever()
"""


class Api:
    """The client and what the tests ask over and over."""

    def __init__(self, bay: MesosBay) -> None:
        self.bay = bay
        self.url = bay.url
        session = requests.Session()
        session.trust_env = False
        events = requests.Session()
        events.trust_env = False
        self.client = MarathonClient(bay.url, session=session, sse_session=events)

    def app(self, **parts: Any) -> MarathonApp:
        health = MarathonHealthCheck(
            protocol="MESOS_HTTP", path="/health", interval_seconds=0.2, timeout_seconds=1, max_consecutive_failures=2
        )
        given = {"cpus": 0.05, "mem": 32, "instances": 2, "env": {"SHOWN": "1"}, "health_checks": [health], **parts}
        if "cmd" not in given and "args" not in given:
            given["args"] = ["/usr/bin/python3", "-c", SERVER]
        return MarathonApp(**given)

    def idle(self) -> bool:
        return not self.client.list_deployments()

    def settled(self, seconds: float = 15) -> None:
        self.bay.wait(self.idle, "the deployments to end", seconds)

    def tasks(self, app_id: str) -> dict[str, Any]:
        return {task.id: task for task in self.client.list_tasks(app_id)}

    def raw(self, method: str, path: str, body: Any = None, **parameters: Any) -> requests.Response:
        answer: requests.Response = self.client.session.request(method, self.url + path, json=body, params=parameters, timeout=10)
        return answer

    def answer(self, task: Any, path: str = "/") -> str:
        text: str = self.client.session.get(f"http://{plan.address(task.host)}:{task.ports[0]}{path}", timeout=5).text
        return text


@pytest.fixture
def api(mesos_bay: MesosBay) -> Iterator[Api]:  # noqa: F811
    with mesos_bay.inside():
        api = Api(mesos_bay)
        yield api
        for app in api.client.list_apps():
            api.client.delete_app(app.id, force=True)
        mesos_bay.wait(lambda: not api.client.list_apps(), "the apps to go")


class Events:
    """Listens in a thread; the thread has the network of the one that starts it."""

    def __init__(self, api: Api, kinds: list[str] | None = None) -> None:
        self.found: queue.Queue[Any] = queue.Queue()
        stream = api.client.event_stream(event_types=kinds)

        def listen() -> None:
            with contextlib.suppress(requests.RequestException):  # it ends with the scheduler
                for event in stream:
                    self.found.put(event)

        threading.Thread(target=listen, daemon=True).start()
        if not kinds:
            assert self.until("event_stream_attached")
        else:
            time.sleep(0.1)

    def until(self, kind: str, seconds: float = 10) -> list[Any]:
        """All events up to and with the first of that kind."""
        seen: list[Any] = []
        end = time.monotonic() + seconds
        while not seen or seen[-1].event_type != kind:
            seen.append(self.found.get(timeout=max(0.01, end - time.monotonic())))
        return seen

    def until_ended(self) -> list[Any]:
        seen = [self.found.get(timeout=5)]
        while seen[-1].task_status not in ("TASK_KILLED", "TASK_FAILED", "TASK_FINISHED"):
            seen.append(self.found.get(timeout=5))
        return seen


def test_says_what_it_is(api: Api) -> None:
    info = api.client.get_info()
    assert info.name == "coebench-marathon-compatible"
    assert info.version == "coebench-1"
    assert info.framework_id
    assert api.client.ping() == b"pong"
    assert api.client.get_leader()["leader"]
    assert "gauges" in api.client.get_metrics()


def test_create_scale_and_delete(api: Api) -> None:
    created = api.client.create_app("/shop/web", api.app())
    assert created.deployments
    api.settled()
    app = api.client.get_app("/shop/web")
    assert (app.tasks_running, app.tasks_healthy, app.tasks_staged, app.tasks_unhealthy) == (2, 2, 0, 0)
    assert {task.host for task in app.tasks} == {"n1", "n2"}, "spread over both agents"
    for task in app.tasks:
        assert task.started_at and task.staged_at and task.slave_id and task.version == app.version
        assert task.health_check_results[0].alive
        assert api.answer(task) == f"1 {task.id} /shop/web {task.host}"

    api.client.scale_app("/shop/web", instances=4)
    api.settled()
    scaled = api.tasks("/shop/web")
    assert len(scaled) == 4
    assert {t.id for t in app.tasks} <= scaled.keys(), "scaling keeps what runs"
    api.client.scale_app("/shop/web", delta=-3)
    api.settled()
    (left,) = api.tasks("/shop/web")
    assert left in {t.id for t in app.tasks}, "the youngest go first"

    assert [a.id for a in api.client.list_apps(embed_tasks=True)] == ["/shop/web"]
    assert api.client.list_groups()[0].apps[0].id == "/shop/web"
    api.client.delete_app("/shop/web")
    api.settled()
    with pytest.raises(NotFoundError):
        api.client.get_app("/shop/web")


def test_an_image(api: Api) -> None:
    def image(version: str) -> MarathonContainer:
        return MarathonContainer(type="MESOS", docker=MarathonDockerContainer(image=f"coebench-http:{version}"))

    health = MarathonHealthCheck(protocol="MESOS_HTTP", path="/healthz", interval_seconds=0.2, timeout_seconds=1)
    app = MarathonApp(cpus=0.1, mem=48, instances=2, container=image("v1"), health_checks=[health])
    api.client.create_app("/image", app)
    api.settled()
    for task in api.client.list_tasks("/image"):
        assert api.answer(task, "/id") == f"{task.id} v1\n"
        pids = cgroups.pids(api.bay.lab.host(task.host).cgroup)
        (master,) = (p for pid in pids if b"nginx: master" in ((p := Path(f"/proc/{pid}")) / "cmdline").read_bytes())
        assert (master / "root/srv/nginx.conf").exists() and not (master / "root/opt/mesos").exists(), "it sees its image alone"
        groups = dict(line.split(":")[1:] for line in (master / "cgroup").read_text().splitlines())
        if "memory" in groups:  # cgroup v1 is all that Mesos knows
            limit = int(Path(f"/sys/fs/cgroup/memory{groups['memory']}/memory.limit_in_bytes").read_text())
            assert limit == (48 + 32) << 20, "the app's, and 32 MiB for the executor"
    api.client.update_app("/image", MarathonApp(container=image("v2")))
    api.settled()
    assert [api.answer(t, "/id").split()[1] for t in api.client.list_tasks("/image")] == ["v2"] * 2


def test_rolling_update_keeps_capacity_and_versions_can_go_back(api: Api) -> None:
    strategy = MarathonUpgradeStrategy(minimum_health_capacity=0.5, maximum_over_capacity=0.5)
    api.client.create_app("/web", api.app(upgrade_strategy=strategy))
    api.settled()
    first = api.client.get_app("/web")
    api.client.update_app("/web", MarathonApp(env={"SHOWN": "2"}))
    fewest, most = 9, 0
    while not api.idle():
        tasks = api.client.list_tasks("/web")
        alive = [t for t in tasks if any(r.alive for r in t.health_check_results) and t.state == "TASK_RUNNING"]
        fewest, most = min(fewest, len(alive)), max(most, len(tasks))
    assert fewest >= 1, "half of them stay"
    assert most <= 3, "no more than half again"
    second = api.client.get_app("/web")
    assert not {t.id for t in first.tasks} & {t.id for t in second.tasks}
    assert {api.answer(t).split()[0] for t in second.tasks} == {"2"}

    versions = api.client.list_versions("/web")
    assert versions[0] == second.version and first.version in versions
    assert api.client.get_version("/web", first.version).env == {"SHOWN": "1"}
    api.client.rollback_app("/web", first.version)
    api.settled()
    assert {api.answer(t).split()[0] for t in api.client.list_tasks("/web")} == {"1"}


def test_sending_an_app_back_changes_nothing(api: Api) -> None:
    api.client.create_app("/web", api.app(constraints=[["hostname", "LIKE", ".*"]]))
    api.settled()
    tasks = api.tasks("/web")
    app = api.client.get_app("/web")
    app.instances = 1
    api.client.update_app("/web", app)
    api.settled()
    (left,) = api.tasks("/web")
    assert left in tasks, "its size was changed, nothing else"


def test_killing_takes_all_processes_and_waits_for_the_grace(api: Api) -> None:
    stubborn = "trap '' TERM; sh -c \"trap '' TERM; while :; do sleep 60; done\" & while :; do sleep 60; done"
    app = api.app(cmd=stubborn, instances=1, health_checks=[], task_kill_grace_period_seconds=1)
    events = Events(api, ["status_update_event"])
    api.client.create_app("/stubborn", app)
    api.settled()
    (task,) = api.tasks("/stubborn")
    begun = time.monotonic()
    api.client.scale_app("/stubborn", instances=0)
    api.settled()
    assert 0.9 < time.monotonic() - begun < 3
    seen = events.until_ended()
    assert [e.task_status for e in seen][-2:] == ["TASK_KILLING", "TASK_KILLED"]
    assert seen[-1].message == "Command terminated with signal Killed"
    environs = Path("/proc").glob
    api.bay.wait(lambda: not any(names(p, task) for p in environs("[0-9]*/environ")), "its last process to go", 1)


def names(environ: Path, task: str) -> bool:
    try:
        return task.encode() in environ.read_bytes() and b"MESOS_TASK_ID" in environ.read_bytes()
    except OSError:
        return False


def test_restart(api: Api) -> None:
    api.client.create_app("/web", api.app())
    api.settled()
    before = api.tasks("/web")
    api.client.restart_app("/web")
    api.settled()
    after = api.tasks("/web")
    assert len(after) == 2 and not before.keys() & after.keys()


def test_kill_replaces_and_kill_with_scale_does_not(api: Api) -> None:
    api.client.create_app("/web", api.app())
    api.settled()
    one, other = api.tasks("/web")
    killed = api.client.kill_task("/web", one)
    assert killed.id == one
    assert api.raw("GET", f"/v2/apps/web/tasks/{other}").json()["task"]["id"] == other
    api.bay.wait(lambda: one not in api.tasks("/web") and api.client.get_app("/web").tasks_healthy == 2, "a replacement")
    (new,) = api.tasks("/web").keys() - {other}
    api.client.kill_task("/web", new, scale=True)
    api.settled()
    assert set(api.tasks("/web")) == {other}
    assert api.client.get_app("/web").instances == 1
    assert api.client.kill_given_tasks([other])
    api.bay.wait(lambda: other not in api.tasks("/web") and api.client.get_app("/web").tasks_healthy == 1, "another")
    assert len(api.client.kill_tasks("/web")) == 1


def test_events(api: Api) -> None:
    events, filtered = Events(api), Events(api, ["deployment_success"])
    api.client.create_app("/web", api.app(instances=1))
    seen = events.until("deployment_success")
    kinds = [e.event_type for e in seen]
    assert kinds.count("deployment_info") == 2 and kinds.count("deployment_step_success") == 2
    assert {"api_post_event", "health_status_changed_event"} <= set(kinds)
    states = [e.task_status for e in seen if e.event_type == "status_update_event"]
    assert states[-1] == "TASK_RUNNING"
    assert filtered.found.get(timeout=5).event_type == "deployment_success"
    assert filtered.found.empty()
    api.client.delete_app("/web")
    states = [e.task_status for e in events.until("app_terminated_event") if e.event_type == "status_update_event"]
    assert states[-1] == "TASK_KILLED"


def test_a_locked_app(api: Api) -> None:
    api.client.create_app("/web", api.app(instances=1))
    api.settled()
    api.client.update_app("/web", MarathonApp(cpus=64.0))  # fits nowhere
    with pytest.raises(ConflictError) as refused:
        api.client.scale_app("/web", instances=2)
    assert "locked by one or more deployments" in refused.value.error_message
    (deployment,) = api.client.list_deployments()
    answer = api.raw("PUT", "/v2/apps/web", {"instances": 2})
    assert (answer.status_code, answer.json()["deployments"]) == (409, [{"id": deployment.id}])
    with pytest.raises(ConflictError):
        api.client.delete_app("/web")
    assert deployment.affected_apps == ["/web"]
    assert deployment.current_actions[0].action == "RestartApplication"

    back = api.client.delete_deployment(deployment.id)
    assert back["deploymentId"] != deployment.id
    api.settled()
    app = api.client.get_app("/web")
    assert app.cpus == 0.05 and app.tasks_healthy == 1
    api.client.update_app("/web", MarathonApp(cpus=64.0))
    (deployment,) = api.client.list_deployments()
    assert api.client.delete_deployment(deployment.id, force=True) == {}
    assert api.idle()
    api.client.scale_app("/web", instances=0)
    api.settled()


def test_the_queue_says_why(api: Api) -> None:
    api.client.create_app("/big", api.app(mem=1 << 20, instances=3))
    (item,) = api.bay.wait(api.client.list_queue, "the queue")
    assert item.app.id == "/big" and item.count == 3 and item.delay.overdue
    api.bay.wait(lambda: api.client.list_queue()[0].processed_offers_summary["unusedOffersCount"], "an offer")
    summary = api.client.list_queue()[0].processed_offers_summary
    reasons = {r["reason"]: r["declined"] for r in summary["rejectSummaryLastOffers"]}
    assert reasons["InsufficientMemory"] > 0 and reasons["InsufficientCpus"] == 0

    api.client.update_app("/big", MarathonApp(mem=32), force=True)
    api.settled()
    assert api.client.list_queue() == []


def test_what_fails_waits_longer_and_longer(api: Api) -> None:
    api.client.create_app("/sad", api.app(cmd="exit 3", instances=1, health_checks=[], backoff_seconds=30))
    api.bay.wait(lambda: any(not i.delay.overdue for i in api.client.list_queue()), "a delay")
    (item,) = api.client.list_queue()
    assert 20 < item.delay.time_left_seconds <= 30
    failure = api.client.get_app("/sad").last_task_failure
    assert failure.state == "TASK_FAILED" and "exited with status 3" in failure.message
    task = failure.task_id
    api.client.reset_delay("/sad")
    api.bay.wait(lambda: api.client.get_app("/sad").last_task_failure.task_id != task, "the next try")


def test_constraints(api: Api) -> None:
    api.client.create_app("/one-each", api.app(instances=3, constraints=[["hostname", "UNIQUE"]]))
    api.bay.wait(lambda: api.client.get_app("/one-each").tasks_healthy == 2, "two of three")
    assert {t.host for t in api.client.list_tasks("/one-each")} == {"n1", "n2"}
    api.bay.wait(lambda: [i.count for i in api.client.list_queue()] == [1], "the third to wait")
    api.client.create_app("/together", api.app(instances=2, constraints=[["name", "CLUSTER", "n2"]]))
    api.bay.wait(lambda: api.client.get_app("/together").tasks_healthy == 2, "both")
    assert {t.host for t in api.client.list_tasks("/together")} == {"n2"}


def test_unhealthy_is_replaced(api: Api) -> None:
    api.client.create_app("/web", api.app())
    api.settled()
    events = Events(api)
    tasks = api.tasks("/web")
    sick = next(iter(tasks))
    api.answer(tasks[sick], "/break")
    seen = events.until("unhealthy_task_kill_event")
    assert seen[-1].task_id == sick
    assert any(e.event_type == "health_status_changed_event" and not hasattr(e, "alive") for e in seen), "alive is false"
    api.bay.wait(lambda: sick not in api.tasks("/web") and api.client.get_app("/web").tasks_healthy == 2, "a replacement")


def test_readiness_holds_a_deployment(api: Api) -> None:
    check = ReadinessCheck(path="/", port_name="default", interval_seconds=0.2, http_status_codes_for_ready=[204])
    app = api.app(instances=1)
    app.readiness_checks = [check]
    api.client.create_app("/web", app)
    api.bay.wait(lambda: api.client.get_app("/web").tasks_healthy == 1, "health")
    time.sleep(0.3)
    (deployment,) = api.client.list_deployments()
    assert deployment.current_actions[0].readiness_check_results[0]["ready"] is False
    changed = {"readinessChecks": [{"name": "r", "path": "/", "portName": "default", "intervalSeconds": 0.2}]}
    assert api.raw("PUT", "/v2/apps/web", changed, force="true").status_code == 200
    api.settled()


def test_refusals(api: Api) -> None:
    def refused(status: int, method: str, path: str, body: Any = None) -> dict[str, Any]:
        answer = api.raw(method, path, body)
        assert answer.status_code == status, answer.text
        found: dict[str, Any] = answer.json()
        return found

    assert refused(404, "GET", "/v2/apps/none")["message"] == "App '/none' does not exist"
    assert refused(404, "DELETE", "/v2/deployments/none")["message"]
    assert refused(404, "POST", "/v2/apps/none/restart")["message"]
    bad = refused(422, "POST", "/v2/apps", {"id": "/x", "cmd": "a", "args": ["b"], "instances": -1})
    assert bad["message"] == "Object is not valid"
    assert {d["path"] for d in bad["details"]} == {"/", "/instances"}
    tcp = {"id": "/x", "cmd": "a", "healthChecks": [{"protocol": "COMMAND", "command": {"value": "true"}}]}
    assert "only HTTP and MESOS_HTTP" in str(refused(422, "POST", "/v2/apps", tcp)["details"])
    docker = {"id": "/x", "container": {"type": "DOCKER", "docker": {"image": "x"}}}
    assert "only MESOS is supported" in str(refused(422, "POST", "/v2/apps", docker)["details"])
    broken = api.client.session.post(api.url + "/v2/apps", data="{", timeout=5)
    assert (broken.status_code, broken.json()["message"]) == (400, "Invalid JSON")
    api.client.create_app("/web", api.app(instances=0))
    api.settled()
    with pytest.raises(MarathonHttpError) as exists:
        api.client.create_app("/web", api.app())
    assert "already exists" in exists.value.error_message


def test_survives_its_own_end(api: Api) -> None:
    api.client.create_app("/web", api.app(instances=3))
    api.settled()
    framework, tasks = api.client.get_info().framework_id, api.tasks("/web")
    api.client.update_app("/web", MarathonApp(cpus=64.0))  # a deployment that is under way
    (deployment,) = api.client.list_deployments()
    api.bay.kill_marathon()
    first = next(iter(tasks.values()))
    assert api.answer(first).startswith("1 "), "tasks do not need the scheduler"
    api.bay.start_marathon()
    assert [d.id for d in api.client.list_deployments()] == [deployment.id], "it is taken up again"
    api.bay.wait(lambda: api.client.get_info().framework_id, "the subscription")
    assert api.client.get_info().framework_id == framework
    time.sleep(0.5)
    assert api.tasks("/web").keys() == tasks.keys(), "neither lost nor doubled"
    api.client.delete_deployment(deployment.id)
    api.settled()
    # what ends while nobody looks is found out by reconciliation
    assert api.client.get_app("/web").tasks_healthy == 3
    api.bay.kill_marathon()
    api.answer(first, "/break")
    api.bay.start_marathon()
    api.bay.wait(lambda: first.id not in api.tasks("/web") and api.client.get_app("/web").tasks_healthy == 3, "repair")


def test_survives_the_masters_end(api: Api) -> None:
    api.client.create_app("/web", api.app())
    api.settled()
    tasks = api.tasks("/web")
    api.bay.restart_master()
    api.bay.wait(lambda: api.bay.agents() == 2, "the agents to come back", 15)
    api.client.scale_app("/web", instances=3)
    api.settled()
    assert tasks.keys() <= api.tasks("/web").keys()


def test_an_agent_that_restarts_keeps_its_tasks(api: Api) -> None:
    api.client.create_app("/web", api.app())
    api.settled()
    tasks = api.tasks("/web")
    api.bay.kill_agent("n1")
    api.bay.start_agent("n1")
    api.bay.wait(lambda: api.bay.agents() == 2, "the agent")
    time.sleep(0.5)
    assert api.tasks("/web").keys() == tasks.keys()
    here = next(t for t in tasks.values() if t.host == "n1")
    api.client.kill_task("/web", here.id)
    api.bay.wait(lambda: here.id not in api.tasks("/web") and api.client.get_app("/web").tasks_healthy == 2, "replaced")


def test_a_drained_agents_tasks_move(api: Api) -> None:
    api.client.create_app("/web", api.app())
    api.settled()
    agent = next(t for t in api.client.list_tasks("/web") if t.host == "n1").slave_id
    master = f"http://{api.client.get_info().marathon_config.master}/api/v1"

    def tell(kind: str) -> None:
        body = {"type": kind, kind.lower(): {"agent_id": {"value": agent}}}
        answer = api.client.session.post(master, json=body, timeout=5)
        assert answer.ok, answer.text

    tell("DRAIN_AGENT")
    api.bay.wait(
        lambda: [t.host for t in api.client.list_tasks("/web")] == ["n2"] * 2 and api.client.get_app("/web").tasks_healthy == 2,
        "both to be on the other agent",
    )
    api.bay.wait(lambda: not api.client.list_queue(), "the queue to be empty", 1)
    tell("REACTIVATE_AGENT")


def test_a_lost_agents_tasks_are_replaced_and_killed_when_they_return(api: Api) -> None:
    api.client.create_app("/web", api.app())
    api.settled()
    lost = next(t for t in api.client.list_tasks("/web") if t.host == "n1")
    events = Events(api, ["status_update_event"])
    api.bay.kill_agent("n1")
    api.bay.wait(lambda: lost.id not in api.tasks("/web") and api.client.get_app("/web").tasks_healthy == 2, "a replacement", 15)
    assert {t.host for t in api.client.list_tasks("/web")} == {"n2"}
    assert any(e.task_status == "TASK_UNREACHABLE" for e in list(events.found.queue))
    assert api.answer(lost).startswith("1 "), "it runs on where nobody sees it"
    api.bay.start_agent("n1")

    def ended() -> bool:
        try:
            return not api.answer(lost)
        except requests.ConnectionError:
            return True

    api.bay.wait(ended, "the one that came back to be killed")
