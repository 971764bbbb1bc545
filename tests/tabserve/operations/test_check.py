"""The check as people call it: files, components, kustomizations, and the command line."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tabserve.operations import check
from tests.tabserve.conftest import PACKAGE
from tests.tabserve.operations.documents import PATHS, Documents, assert_just, claim, document, of, put

COMPONENT = {"apiVersion": "kustomize.config.k8s.io/v1alpha1", "kind": "Component"}


def documents_in(folder: Path) -> Documents:
    return check.part(folder)[0]


def kustomization(folder: Path, **changed: object) -> None:
    path = folder / "kustomization.yaml"
    found = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    path.write_text(yaml.safe_dump(found | changed), encoding="utf-8")


def listing(folder: Path, *more: object) -> None:
    path = folder / "kustomization.yaml"
    kustomization(folder, resources=[*yaml.safe_load(path.read_text(encoding="utf-8"))["resources"], *more])


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def extra_settings(folder: Path, k8s: Path | None = None, **changed: object) -> None:
    """A file with a correct ConfigMap of its own, listed nowhere."""
    made = document(documents_in(k8s or folder), "v1", "ConfigMap") | changed
    (folder / "extra.yaml").write_text(yaml.safe_dump(made), encoding="utf-8")


def component(folder: Path, **changed: object) -> Path:
    """A correct component, but for what is changed in its document."""
    made = folder / "components" / "extra"
    made.mkdir(parents=True)
    kustomization(made, **COMPONENT, resources=["extra.yaml"])
    extra_settings(made, folder, **changed)
    return made


def budget_file(folder: Path, text: str) -> None:
    """Nothing refers to a budget, so a file that cannot be read breaks nothing else."""
    (folder / "disruption-budget.yaml").write_text(text, encoding="utf-8")


def lone_job(folder: Path) -> None:
    """A component whose job may be root."""
    job = folder / "components" / "train" / "train.yaml"
    replace(job, "runAsNonRoot: true", "runAsNonRoot: false")


def files_elsewhere(folder: Path) -> None:
    """A file by another spelling, one in a folder, and one from the network."""
    path = folder / "kustomization.yaml"
    replace(path, "- service.yaml", "- ./service.yaml\n  - https://example.org/more.yaml")
    (folder / "more").mkdir()
    (folder / "disruption-budget.yaml").rename(folder / "more/budget.yaml")
    replace(path, "- disruption-budget.yaml", "- more/budget.yaml")


def bad_file_elsewhere(folder: Path) -> None:
    files_elsewhere(folder)
    replace(folder / "more/budget.yaml", "maxUnavailable: 1", "")


FILE_CASES: dict[str, tuple[Callable[[Path], object], str | tuple[str, ...]]] = {
    "no kustomization": (lambda folder: (folder / "kustomization.yaml").unlink(), "kustomization.yaml is missing"),
    "a file that is not listed": (extra_settings, "kustomization.yaml: extra.yaml exists, but is not listed"),
    "a file that is not there": (
        lambda folder: listing(folder, "gone.yaml"),
        "gone.yaml is listed, but does not exist",
    ),
    "a ConfigMap whose changes roll nothing": (
        lambda folder: replace(folder / "configmap.yaml", "needsHashSuffix: enabled", "other: enabled"),
        "needsHashSuffix: enabled a change would not trigger a rollout",
    ),
    "an example that is applied": (
        lambda folder: listing(folder, "secret.example.yaml"),
        "secret.example.yaml is an example: remove it",
    ),
    "an example with a wrong type": (
        lambda folder: replace(folder / "secret.example.yaml", "type: Opaque", "type: [Opaque]"),
        "Secret/loan-offers: type: ['Opaque'] is not of type 'string'",
    ),
    "an example that is not valid YAML": (
        lambda folder: (folder / "more.example.yaml").write_text("a: [", encoding="utf-8"),
        "more.example.yaml: not valid YAML",
    ),
    "a file of a folder with a defect": (
        bad_file_elsewhere,
        "it must have either maxUnavailable or minAvailable",
    ),
    "a key that is a list": (
        lambda folder: (folder / "more.example.yaml").write_text("[a]: 1", encoding="utf-8"),
        "more.example.yaml: not valid YAML",
    ),
    "a list that is none": (
        lambda folder: kustomization(folder, components="components/extra", resources=5),
        "exists, but is not listed",
    ),
    "a file that is listed twice": (
        lambda folder: listing(folder, "deployment.yaml"),
        "deployment.yaml is listed twice",
    ),
    "a patch that is not there": (
        lambda folder: kustomization(folder, patches=[{"path": "gone.yaml"}]),
        "gone.yaml is listed, but does not exist",
    ),
    "a component that is not there": (
        lambda folder: kustomization(folder, components=["components/gone"]),
        "kustomization.yaml: there is no component components/gone",
    ),
    "a component without a kustomization": (
        lambda folder: (component(folder) / "kustomization.yaml").unlink(),
        "components/extra/kustomization.yaml is missing",
    ),
    "a component's file that is not listed": (
        lambda folder: kustomization(component(folder), resources=[]),
        "components/extra/kustomization.yaml: extra.yaml exists, but is not listed",
    ),
    "a component's document with a wrong type": (
        lambda folder: component(folder, data={"MORE": 1}),
        "extra: ConfigMap/added-configmap: data.MORE: 1 is not of type 'string'",
    ),
    "a component's document with a defect": (
        lambda folder: component(folder, data={"SERVE_MORE": "1"}),
        "extra: ConfigMap/added-configmap: the server has no setting SERVE_MORE",
    ),
    "a component's job that may be root": (
        lone_job,
        "train: Job/loan-offers-train: securityContext.runAsNonRoot must be true",
    ),
    "a component's document that the base has": (
        lambda folder: component(folder, metadata=of("ConfigMap")(documents_in(folder))["metadata"]),
        "extra: ConfigMap/loan-offers is defined twice",
    ),
    "a component's file that is not valid YAML": (
        lambda folder: (component(folder) / "extra.yaml").write_text("a: [", encoding="utf-8"),
        "components/extra/extra.yaml: not valid YAML",
    ),
    "a component's patch that is not valid YAML": (
        lambda folder: (folder / "components/gpu/gpu.yaml").write_text("a: [", encoding="utf-8"),
        "components/gpu/gpu.yaml: not valid YAML",
    ),
    "not valid YAML": (lambda folder: budget_file(folder, "kind: [a"), "disruption-budget.yaml: not valid YAML"),
    "a key twice": (lambda folder: budget_file(folder, "kind: a\nkind: b"), "duplicate key 'kind'"),
    "a key twice inside": (lambda folder: budget_file(folder, "a:\n  - b: 1\n    b: 2"), "duplicate key 'b'"),
    "not a mapping": (
        lambda folder: budget_file(folder, "- a"),
        "disruption-budget.yaml: each document must be a mapping",
    ),
    "not UTF-8": (
        lambda folder: (folder / "disruption-budget.yaml").write_bytes(b"a: \xff"),
        "disruption-budget.yaml: not valid YAML",
    ),
    "a kustomization that is not valid YAML": (
        lambda folder: (folder / "kustomization.yaml").write_text("resources: [", encoding="utf-8"),
        "kustomization.yaml: not valid YAML",
    ),
    "an empty kustomization": (
        lambda folder: (folder / "kustomization.yaml").write_text("", encoding="utf-8"),
        "exists, but is not listed",
    ),
    "a kustomization that lists nothing": (
        lambda folder: kustomization(folder, resources=None),
        "exists, but is not listed",
    ),
    "a wrong type, which hides what depends on it": (
        lambda folder: replace(folder / "deployment.yaml", "      containers:", "      contaniers:"),
        "Deployment/loan-offers: spec.template.spec: unknown field 'contaniers'; did you mean containers?",
    ),
    "a defect of the base, said once": (
        lambda folder: replace(folder / "disruption-budget.yaml", "maxUnavailable: 1", "maxUnavailable: 0"),
        "PodDisruptionBudget/loan-offers: it never lets a pod go",
    ),
}


@pytest.mark.parametrize(("change", "expected"), FILE_CASES.values(), ids=FILE_CASES)
def test_one_defect_in_files_gives_just_its_own_message(
    folder: Path, change: Callable[[Path], object], expected: str
) -> None:
    change(folder)
    problems = list(check.in_folder(folder, PATHS))
    assert_just(problems, expected)
    assert len(set(problems)) == len(problems)


def inline_patch(folder: Path) -> None:
    patch = {"target": {"kind": "Deployment"}, "patch": "- op: remove\n  path: /spec/replicas"}
    kustomization(folder, patches=[patch])


def patch_in_file(folder: Path) -> None:
    """A patch of a Deployment is not a Deployment: it need not keep the rules of one."""
    made = component(folder)
    patch = document(documents_in(folder), "apps/v1", "Deployment", spec={"template": {"spec": {}}})
    (made / "patch.yaml").write_text(yaml.safe_dump(patch), encoding="utf-8")
    kustomization(made, patches=[{"path": "patch.yaml"}])


def json_patch_in_file(folder: Path) -> None:
    made = component(folder)
    (made / "patch.yaml").write_text("- op: remove\n  path: /spec/replicas\n", encoding="utf-8")
    kustomization(made, patches=[{"path": "./patch.yaml", "target": {"kind": "Deployment"}}])


def patch_of_the_autoscaler(folder: Path) -> None:
    made = component(folder)
    found = of("HorizontalPodAutoscaler")(documents_in(folder))
    patch = {key: found[key] for key in ("apiVersion", "kind", "metadata")} | {"spec": {"maxReplicas": 9}}
    (made / "patch.yaml").write_text(yaml.safe_dump(patch), encoding="utf-8")
    kustomization(made, patches=[{"path": "patch.yaml"}])


def storage(folder: Path) -> None:
    """A component with one of the claims that other components leave to people."""
    made = folder / "components" / "storage"
    made.mkdir()
    (made / "claim.yaml").write_text(yaml.safe_dump(claim(documents_in(folder))), encoding="utf-8")
    kustomization(made, **COMPONENT, resources=["claim.yaml"])


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: None,
        component,
        inline_patch,
        patch_in_file,
        json_patch_in_file,
        patch_of_the_autoscaler,
        storage,
        files_elsewhere,
    ],
    ids=[
        "the project's own",
        "a component",
        "an inline patch",
        "a patch in a file",
        "a JSON patch",
        "another patch",
        "claims",
        "elsewhere",
    ],
)
def test_correct_files_give_no_problem(folder: Path, change: Callable[[Path], object]) -> None:
    change(folder)
    assert list(check.in_folder(folder, PATHS)) == []


def test_the_project_without_an_autoscaler_is_correct_too(folder: Path) -> None:
    (folder / "autoscale.yaml").unlink()
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))["resources"]
    kustomization(folder, resources=[name for name in listed if name != "autoscale.yaml"])
    replace(folder / "deployment.yaml", "  revisionHistoryLimit: 5\n", "  revisionHistoryLimit: 5\n  replicas: 2\n")
    assert list(check.in_folder(folder, PATHS)) == []


# --- the application


def test_the_application_has_the_paths_that_manifests_name() -> None:
    assert {"/livez", "/readyz", "/metrics", "/predict", "/docs"} <= PATHS


def test_a_path_of_the_projects_own_may_be_monitored(project: Path) -> None:
    path = project / "k8s/components/service-monitor/service-monitor.yaml"
    replace(path, "path: /metrics", "path: /stats")
    assert_just(list(check.in_folder(project / "k8s", PATHS)), "the application has no path '/stats'")
    assert list(check.in_folder(project / "k8s", PATHS | {"/stats"})) == []


# --- the command line


@pytest.fixture
def command(project: Path, environment: dict[str, str]) -> Callable[..., tuple[int, str, str]]:
    """Run the check in the project: exit code, output, errors."""

    def run(*arguments: str, piped: str = "") -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", PACKAGE, "check-k8s", *arguments],
            cwd=project,
            env=environment,
            input=piped,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=60,
        )
        return done.returncode, done.stdout, done.stderr

    return run


Command = Callable[..., tuple[int, str, str]]


def test_the_command_says_that_correct_manifests_agree(command: Command) -> None:
    assert command() == (0, "ok  k8s: the manifests agree with each other and with the application\n", "")


def test_the_command_prints_one_line_for_each_problem(command: Command, folder: Path) -> None:
    listing(folder, "gone.yaml")
    extra_settings(folder, data={"MORE": 1})
    code, out, err = command()
    assert (code, out) == (1, "")
    assert err.splitlines() == [
        "error: k8s/kustomization.yaml: gone.yaml is listed, but does not exist",
        "error: k8s/kustomization.yaml: extra.yaml exists, but is not listed",
        "error: ConfigMap/added-configmap: data.MORE: 1 is not of type 'string': put it in quotes",
    ]


def test_the_command_reads_manifests_from_standard_input(command: Command, whole: Documents) -> None:
    assert command("-", piped=yaml.safe_dump_all(whole))[::2] == (0, "")
    put(of("PodDisruptionBudget"), 0, "spec", "maxUnavailable")(whole)
    code, out, err = command("-", piped=yaml.safe_dump_all(whole))
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert err.startswith("error: PodDisruptionBudget/loan-offers: it never lets a pod go")


def test_problems_of_schemas_on_standard_input(command: Command, whole: Documents) -> None:
    put(of("PodDisruptionBudget"), 0, "spec", "more")(whole)
    assert command("-", piped=yaml.safe_dump_all(whole)) == (
        1,
        "",
        "error: PodDisruptionBudget/loan-offers: spec: unknown field 'more'\n",
    )


def test_nothing_on_standard_input_is_a_problem(command: Command) -> None:
    assert command("-")[::2] == (1, "error: there must be one Namespace, not 0\n")


def test_what_is_not_yaml_on_standard_input_is_a_problem(command: Command) -> None:
    code, _, err = command("-", piped="a: [")
    assert code == 1
    assert err.startswith("error: -: not valid YAML: ")
    assert err.count("\n") == 1
