"""Whether a command line is one that its tool would take: its subcommand, and each of its flags.

``kubectl`` is asked itself, and so is our own command line. The other tools can't be had from a
package index, so what their documentation names, as far as it is used here, stands below.
"""

from __future__ import annotations

import functools
import re
import subprocess
import sysconfig
from collections.abc import Sequence
from pathlib import Path

import typer
from typer.core import TyperGroup

from sfumato.cli.main import app

SCRIPTS = Path(sysconfig.get_path("scripts"))

_HELM = "--namespace -n --kube-context --kubeconfig --help"
#: Of Helm 3.14 to 4.
_HELM_INSTALL = (
    "--values -f --set --set-string --set-json --version --repo --create-namespace --wait "
    f"--timeout --install -i --dry-run --reuse-values {_HELM}"
)
_DOCKER_BUILD = (
    "--file -f --target --tag -t --build-arg --secret --builder --platform --sbom --provenance "
    "--metadata-file --output --load --push --iidfile"
)
FLAGS = {
    "helm upgrade": _HELM_INSTALL,
    "helm uninstall": f"--ignore-not-found --wait --timeout {_HELM}",
    "docker buildx build": _DOCKER_BUILD,
    "docker buildx create": "--name --driver",
    "docker buildx inspect": "",
    "docker buildx version": "",
    "docker info": "",
    "docker tag": "",
    "k3d cluster create": "--port -p --kubeconfig-update-default --wait --timeout",
    "k3d cluster get": "",
    "k3d cluster delete": "",
    "k3d kubeconfig get": "",
    "k3d image import": "--cluster -c",
    "kind get clusters": "",
    "kind get kubeconfig": "--name",
    "kind create cluster": "--name --kubeconfig --wait --config",
    "kind delete cluster": "--name",
    "kind load docker-image": "--name",
    "curl": "--silent -s --show-error --fail --fail-with-body --output -o --max-time --config "
    "--header -H --data -d --retry --retry-delay --retry-all-errors",
    "gcloud container clusters create": "--zone --machine-type --num-nodes --enable-dataplane-v2",
    "gcloud container clusters get-credentials": "--zone",
    "gcloud container node-pools create": "--cluster --zone --machine-type --accelerator --disk-size "
    "--spot --num-nodes --enable-autoscaling --total-min-nodes --total-max-nodes",
}


def wrong(command: Sequence[str]) -> str | None:
    """What its tool would say against a command line; None: nothing."""
    tool = Path(command[0]).name
    if tool == "kubectl":
        return _wrong_for_kubectl(command[1:])
    if tool == "sfumato":
        return _wrong_for_sfumato(command[1:])
    for words in range(4, 0, -1):
        name = " ".join([tool, *command[1:words]])
        if name in FLAGS:
            unknown = set(flags(command[words:])) - set(FLAGS[name].split())
            return f"{name} has no {sorted(unknown)}" if unknown else None
    return f"{' '.join(command[:3])}: no such command"


def flags(arguments: Sequence[str]) -> list[str]:
    """The names of the flags among arguments, without their values."""
    before = list(arguments)[: arguments.index("--")] if "--" in arguments else arguments
    return [each.partition("=")[0] for each in before if re.match(r"-{1,2}[A-Za-z]", each)]


def _wrong_for_kubectl(arguments: Sequence[str]) -> str | None:
    known = _kubectl_flags("options")
    words = []
    rest = iter(arguments)
    for each in rest:
        if each.startswith("-"):
            # A global flag before the subcommand; its value is the next word.
            if "=" not in each:
                next(rest, None)
            continue
        words.append(each)
    for count in (3, 2, 1):
        found = _kubectl_flags(*words[:count], "--help")
        if found:
            unknown = set(flags(arguments)) - found - known
            return f"kubectl {words[0]} has no {sorted(unknown)}" if unknown else None
    return f"kubectl has no {words[0]}"


@functools.cache
def _kubectl_flags(*arguments: str) -> frozenset[str]:
    """The flags that kubectl's help lists; none for a subcommand that it does not have."""
    done = subprocess.run(
        [SCRIPTS / "kubectl", *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode or ("Usage:" not in done.stdout and arguments != ("options",)):
        return frozenset()
    listed = re.findall(r"^ +(?:(-\w), )?(--[\w-]+)=?", done.stdout, re.MULTILINE)
    return frozenset(name for names in listed for name in names if name)


def _wrong_for_sfumato(arguments: Sequence[str]) -> str | None:
    """Parsed by the real command line, which is then not run."""
    command = typer.main.get_command(app)
    rest = list(arguments)
    try:
        while isinstance(command, TyperGroup):
            _, command, rest = command.resolve_command(typer.Context(command), rest)
        command.make_context(command.name, rest)
    except typer.TyperException as error:
        return str(error) or type(error).__name__
    return None
