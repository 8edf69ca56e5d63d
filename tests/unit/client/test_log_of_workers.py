"""Of several pods that train together the first one reports; the others say warnings alone."""

from pathlib import Path
from typing import Any

import pytest
from tests.unit.client.server import Api, pod

from finetuning.client import FineTuningClient, LogOf, WrongStateError

INDEX = "batch.kubernetes.io/job-completion-index"
ENDED = {"terminated": {"exitCode": 0}}
BEGUN = {"running": {"startedAt": "2026-01-01T10:00:00Z"}}


def worker(index: int, container: str, state: dict[str, Any], attempt: str = "a") -> Any:
    """As the Job controller names and labels them; all begin within the same second."""
    found = pod(f"demo-train-{index}-{attempt}", "demo", "training", container, state)
    found["metadata"]["labels"][INDEX] = str(index)
    found["metadata"]["creationTimestamp"] = "2026-01-01T10:00:00Z"
    return found


@pytest.mark.parametrize(
    ("of", "container"), [(LogOf.TRAINING, "finetuning"), (LogOf.SIDECAR, "metrics")]
)
def test_a_groups_log_is_that_of_its_first_pod(
    api: Api, kubeconfig: Path, of: LogOf, container: str
) -> None:
    api.keep(status={"phase": "Running"}, spec={"workers": 2})
    api.pods = [worker(0, container, ENDED), worker(1, container, BEGUN)]
    api.logs = {"demo-train-0-a": "step 1/9\n", "demo-train-1-a": "a warning\n"}
    with FineTuningClient(kubeconfig=kubeconfig) as client:
        assert "".join(client.log("demo", of)) == "step 1/9\n"


def test_a_group_whose_first_pod_is_gone_has_no_log(api: Api, kubeconfig: Path) -> None:
    api.keep(status={"phase": "Running"}, spec={"workers": 2})
    api.pods = [worker(1, "finetuning", BEGUN)]
    with (
        FineTuningClient(kubeconfig=kubeconfig) as client,
        pytest.raises(WrongStateError, match="there is no training pod"),
    ):
        list(client.log("demo"))
