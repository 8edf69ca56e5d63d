"""Every command in README and docs is run by a test: here, or in the one that is named here.

A command that no line below knows fails the build, so that nobody documents what nobody runs.
"""

import ast
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.documented import commands

from finetuning.api.crd import job_schema

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    p
    for p in [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "charts/finetuning-operator/README.md",
        *(ROOT / "docs").rglob("*.md"),
    ]
    if p.exists() and "decisions" not in p.parts
)

TUTORIAL = (
    "cluster/test_tutorial_on_a_cluster.py::"
    "test_a_reader_comes_from_a_job_to_a_model_in_a_store_and_what_serves_it"
)
VALIDATION = "cluster/test_validation_on_a_cluster.py::"
TRAINING = "cluster/test_training_on_a_cluster.py::"
CHART = "cluster/test_chart_on_a_cluster.py::"
DEMO = "cluster/test_demo.py::"
SPECIFIED = "contract/test_specified_commands.py::"
REMOTE = "unit/sidecar/test_remote_access.py::"
PROCESSES = "unit/trainer/test_processes.py::test_a_wish_to_stop_on_one_machine"
COMMANDS = "cluster/test_commands_on_a_cluster.py::"
TRACKING = "unit/trainer/test_tracking.py::"
LOCAL = "unit/local/test_real_runs.py::"
PUBLISHING = "unit/publish/test_publish_to_s3.py::"
REGISTRY = "unit/publish/test_publish_to_a_registry.py::"
HUB = "unit/publish/test_publish_to_the_hub.py::"
SIGNED = "unit/publish/test_signature.py::"
SERVED = "faults/test_serving.py::"
MERGING = "unit/publish/test_merge.py::"
ANEW = "unit/controller/test_publishing.py::"

RUN_ELSEWHERE: dict[str, str] = {
    r"^(export MLFLOW_TRACKING_URI=|.* --report-to )": TRACKING + "test_mlflow_has_one_run",
    r"^tensorboard --logdir ": TRACKING + "test_the_documented_tensorboard",
    r"^python3 -m finetuning\.publish .*--s3": PUBLISHING + "test_a_validated_run_is_copied_whole",
    r"^python3 -m finetuning\.publish .*--oci": REGISTRY + "test_a_validated_run_is_pulled_back",
    r"^python3 -m finetuning\.publish .*--hub": HUB + "test_a_validated_run_becomes_a_private",
    r"^kubectl create secret generic hub-writer ": VALIDATION
    + "test_a_validated_model_is_published",
    r"^oras pull ": REGISTRY + "test_a_validated_run_is_pulled_back",
    r"^kubectl create secret docker-registry ": VALIDATION + "test_a_validated_model_is_published",
    r"^python3 -m finetuning\.publish .*--form Merged ": MERGING + "test_the_documented_command",
    r"^kubectl wait --for=condition=Ready": TRAINING + "test_a_job_trains_and_its_model",
    r"^kubectl wait --for=condition=Published": TUTORIAL,
    r"^kubectl annotate ftj .*/republish=": ANEW + "test_a_failure_is_told",
    r"^(openssl ec|python3 -m model_signing verify )": SIGNED + "test_the_documented_commands",
    r"^kubectl create secret generic model-signing ": SIGNED + "test_the_documented_commands",
    r"^pip install model-signing pyopenssl$": SIGNED + "test_the_documented_commands",
    r"^kubectl wait --for=condition=ServingCreated": SERVED + "test_a_published_model_gets",
    r"^kubectl annotate ftj .*/serve=": SERVED + "test_a_published_model_gets",
    r"^kubectl create secret generic store-writer ": TUTORIAL,
    r"^kubectl get --raw /api/v1/namespaces/.*-metrics:8000/": TUTORIAL,
    r"^kubectl patch ftj tiny-lora .*publish\.yaml$": TUTORIAL,
    r"^kubectl get ftj .*status\.(serving|publish)": TUTORIAL,
    r"^python3 -m finetuning\.base\.app ": SPECIFIED + "place",
    r"^(JOB_COMPLETION_INDEX=0 )?python3 -m finetuning\.base\.torchrun ": PROCESSES,
    r"^curl -s http://localhost:8000/metrics \| grep": SPECIFIED + "place",
    r"^python3 -m finetuning\.monitoring\.validate_job .*--tasks": "benchmarks/test_harness.py::"
    "test_a_tuned_model_is_compared_with_its_base",
    r"^python3 -m finetuning\.monitoring\.validate_job ": SPECIFIED + "test_validation_after",
    r"^python3 -m finetuning\.monitoring\.metrics_server ": SPECIFIED + "test_a_server_of_its_own",
    r"^\./validate_metrics_remote\.sh": SPECIFIED + "test_a_server_of_its_own",
    r"^ssh -f -N -L ": REMOTE + "test_the_documented_tunnel_brings_the_metrics_here",
    r"^ssh -N -o ExitOnForwardFailure=yes ": REMOTE + "test_a_local_port_that_another_program_has",
    r"^ssh -f -N finetuning-server$": REMOTE + "test_a_forwarding_from_the_configuration",
    r"^curl -s http://localhost:\d+/metrics": REMOTE + "test_the_documented_tunnel",
    r"^helm install ": CHART + "test_jobs_survive_an_uninstall",
    r"^kubectl explain ": "cluster/test_crd_cases.py::test_kubectl_explain",
    r"^kubectl wait --for=condition=Validated": TRAINING + "test_a_job_trains_and_its_model",
    r"^kubectl wait ftj/my-job --for=condition=MemorySufficient": CHART + "memory_is_judged",
    r"^kubectl annotate ftj .*/revalidate=": VALIDATION + "test_the_annotation_judges_again",
    r"^kubectl wait --for=jsonpath='.*revalidate": VALIDATION + "test_the_annotation_judges_again",
    r"^kubectl apply -f examples/finetuningjob-lora": TUTORIAL,
    r"^kubectl get finetuningjobs --watch$": DEMO + "test_make_demo_trains",
    r"^kubectl get ftj -o wide$": TRAINING + "test_a_job_trains_and_its_model",
    r"^kubectl get ftj .*validation.report": TUTORIAL,
    r"^(export KUBECONFIG=|kubectl get nodes)": DEMO + "test_the_commands_it_suggests_work",
    # The same file, by buildah where there is no Docker daemon.
    r"docker build -f Dockerfile\.(trainer|operator)": DEMO + "test_both_images_were_built",
    r"python examples/tiny-model/make_model\.py": "cluster/conftest.py::workspace",
    r"python examples/tiny-model/make_data\.py": "unit/examples/test_data.py::test_every_derived",
    r"python examples/ask\.py ": DEMO + "test_make_demo_fetches_the_model_and_shows",
    r"^bash examples/fetch\.sh ": TUTORIAL,
    r"^bash examples/tiny-model/load\.sh ": "cluster/conftest.py::workspace",
    r"^kubectl create configmap finetuning-demo-data ": "cluster/conftest.py::workspace",
    r"^kubectl finetune list -A$": COMMANDS + "test_kubectl_takes_it_for_its_own",
    r"^source <\(finetuning completion bash": "unit/cli/test_completion.py::test_bash_completes",
    r"^python examples/sweeps/sweep\.py ": "unit/readers/test_real_jobs.py::"
    "test_every_rate_is_trained_and_the_best_one_comes_first",
    # No Katib and no Argo here: their own libraries judge what these manifests ask for.
    r"^kubectl (apply|create) -f examples/sweeps/": "unit/readers/test_katib_and_argo.py::"
    "test_katib_sees_when_a_trial_has_ended",
    r"^kubectl (apply|create) -f examples/kueue/": "faults/test_kueue.py::"
    "test_a_real_kueue_admits_preempts_and_admits_again",
    r"^kubectl kustomize examples/gitops": "cluster/test_gitops_on_a_cluster.py::test_the_kustom",
    # No Argo CD here: the script runs in a real Lua, and the patch is a ConfigMap with its text.
    r"^kubectl -n argocd patch ": "unit/readers/test_argocd.py::test_the_patch_for_argo_cds",
    r"^finetuning doctor$": COMMANDS + "test_the_doctor_finds_this_cluster_well",
    r"^finetuning init --model": "unit/scaffold/test_init.py::test_a_small_file_becomes",
    r"^finetuning init$": "unit/scaffold/test_init.py::test_a_person_is_asked",
    r"^finetuning validate --local": LOCAL + "test_a_model_is_trained_watched",
    r"^finetuning (submit|list|get|logs|pause|resume|validate|cancel) ": COMMANDS
    + "test_a_jobs_life_by_the_command_line",
    r"^finetuning top": "unit/top/test_command.py::test_a_pipe_gets_one_frame",
    r"^finetuning estimate job\.yaml": "unit/estimate/test_command.py::test_a_job_that_fits",
    r"^finetuning report tiny-lora$": TUTORIAL,
    r"^kubectl describe ftj tiny-lora$": "cluster/test_terminal.py::test_events_and_top_tell",
    r"finetuning run examples/finetuningjob-lora": LOCAL + "test_a_model_is_trained_watched",
}
"""Pattern of a command: the test that runs it, as file::name below tests/."""


DOCUMENTED = sorted({(str(p.relative_to(ROOT)), c) for p in PAGES for c in commands(p.read_text())})


NEWCOMERS = ("README.md", "docs/tutorial.md")
TAKE_LONGER = {
    "--watch",  # Of a whole training, as `make demo` shows it.
    "examples/ask.py",  # 75 questions to two models.
    "finetuning run",  # A training, and two starts of torch.
}
"""Of what a newcomer types, what `make test-all` runs and `make test` does not."""


Function = ast.FunctionDef | ast.AsyncFunctionDef


def marks_of(file: Path, name: str) -> str:
    """The marks of the tests of a file whose name begins so, its own among them."""
    tree = ast.parse(file.read_text())
    marks = [ast.unparse(x.value) for x in tree.body if isinstance(x, ast.Assign)]
    found = (x for x in tree.body if isinstance(x, Function))
    marks += [ast.unparse(y) for x in found if x.name.startswith(name) for y in x.decorator_list]
    return " ".join(marks)


def takes_long(marks: str) -> bool:
    """Whether `make test` leaves it out; what is no test, as a fixture, runs with all of them."""
    return re.search(r"mark\.(long|faults)\b", marks) is not None


def marks_of_known(test: str) -> str:
    file, _, name = test.partition("::")
    return marks_of(ROOT / "tests" / file, name)


def test_what_a_newcomer_types_is_run_by_make_test() -> None:
    left = set()
    for page, command in DOCUMENTED:
        if page in NEWCOMERS and not command.startswith("make "):
            test = next(test for sign, test in RUN_ELSEWHERE.items() if re.search(sign, command))
            left |= {command} if takes_long(marks_of_known(test)) else set()
    unsaid = [each for each in left if not any(sign in each for sign in TAKE_LONGER)]
    assert unsaid == []
    assert len(left) == len(TAKE_LONGER)


def test_what_make_test_leaves_out_make_test_docs_runs() -> None:
    known = {test: marks_of_known(test) for test in RUN_ELSEWHERE.values()}
    long = {test for test, marks in known.items() if takes_long(marks)}
    assert len(long) > 5
    assert [test for test in sorted(long) if "mark.documented" not in known[test]] == []


def test_every_example_is_applied_to_a_cluster_by_make_test_or_make_test_docs() -> None:
    """By the name of its file; the one of seven billion weights is for a GPU."""
    names = {path.stem.partition("-")[2] for path in ROOT.glob("examples/finetuningjob-*.yaml")}
    assert {"lora", "workers", "hub", "oci"} <= names
    applied = dict.fromkeys(names, "")
    for file in (ROOT / "tests" / "cluster").glob("*.py"):
        for test in (x for x in ast.parse(file.read_text()).body if isinstance(x, Function)):
            source, marks = ast.unparse(test), marks_of(file, test.name)
            if not takes_long(marks) or "mark.documented" in marks:
                for name in (each for each in names if f"'{each}'" in source):
                    applied[name] += test.name
    assert sorted(name for name, tests in applied.items() if not tests) == []


def test_there_are_documented_commands() -> None:
    assert len(DOCUMENTED) > 15


@pytest.mark.parametrize(("page", "command"), DOCUMENTED)
def test_a_documented_command_is_run_by_a_test(page: str, command: str) -> None:
    if command.startswith("make "):
        _make_knows(command)
        return
    where = [test for pattern, test in RUN_ELSEWHERE.items() if re.search(pattern, command)]
    assert where, f"{page}: no test runs `{command}`; run it in one and name that test here"
    file, _, name = where[0].partition("::")
    assert f"def {name}" in (ROOT / "tests" / file).read_text(), where[0]


def test_every_documented_path_into_a_job_is_one_that_it_has() -> None:
    """kubectl prints nothing for a field that is not there, and ends with 0."""
    schema = job_schema()
    texts = [p.read_text() for p in PAGES]
    told = {
        path
        for text in texts
        for path in re.findall(r"ftj[^\n]* jsonpath='?\{\.([\w.\[\]]+)\}", text)
    }
    assert len(told) > 3
    assert sorted(path for path in told if not _leads_somewhere(path, schema)) == []


def _leads_somewhere(path: str, schema: dict[str, Any]) -> bool:
    for name in re.sub(r"\[\d+\]", "", path).split("."):
        inner = schema.get("items", schema)
        if name not in inner.get("properties", {}):
            return False
        schema = inner["properties"][name]
    return True


def _make_knows(command: str) -> None:
    """`make` itself says whether the target is there; CI and the demo's test run the big ones."""
    words = shlex.split(command)
    done = subprocess.run(
        [*words, "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
