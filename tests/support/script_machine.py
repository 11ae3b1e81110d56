"""A machine with stand-ins for Docker, kubectl and the like, which write down how they are called."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.support.chart import Rendered, merge, render
from tests.support.kubernetes_schemas import check

ROOT = Path(__file__).parents[2]
STAND_IN = ROOT / "tests" / "support" / "stand_in.sh"
TOOLS = ("docker", "k3d", "kind", "kubectl", "helm", "curl")
#: What the scripts may use of the machine beside their tools.
ORDINARY = [
    "base64",
    "bash",
    "cat",
    "chmod",
    "dirname",
    "env",
    "git",
    "grep",
    "head",
    "mkdir",
    "rm",
    "sed",
    "sha256sum",
    "tail",
    "touch",
]


@dataclass
class Machine:
    """A checkout of what the scripts need, and a PATH with stand-ins and ordinary tools alone."""

    root: Path
    state: Path
    path: Path
    variables: dict[str, str] = field(default_factory=dict)

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.root,
            env={
                "PATH": str(self.path),
                "STATE": str(self.state),
                "PROVIDER": "",
                "SOURCE_DATE_EPOCH": "1700000000",
                **self.variables,
                **variables,
            },
            capture_output=True,
            text=True,
            check=False,
        )

    def done(self, script: str, *arguments: str, **variables: str) -> str:
        """What a script told, once it has ended well."""
        done = self.run(f"deploy/local/{script}", *arguments, **variables)
        assert done.returncode == 0, done.stderr
        return done.stderr

    def refused(self, script: str, *arguments: str, **variables: str) -> str:
        """What a script told that ended with an error."""
        done = self.run(f"deploy/local/{script}", *arguments, **variables)
        assert done.returncode == 1, done.stderr
        return done.stderr

    @property
    def calls(self) -> list[list[str]]:
        """Every call of a tool: its name and arguments."""
        file = self.state / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        return [[words[0], *words[2:]] for words in self._split(lines)]

    def kubeconfigs(self, tool: str) -> set[str]:
        lines = (self.state / "calls").read_text().splitlines()
        return {words[1] for words in self._split(lines) if words[0] == tool}

    def _split(self, lines: list[str]) -> list[list[str]]:
        return [line.split("\x1f")[:-1] for line in lines]

    def called(self, *begin: str) -> list[list[str]]:
        return [call for call in self.calls if call[: len(begin)] == list(begin)]

    def there(self, name: str) -> None:
        (self.state / name).touch()


def open_machine(tmp_path: Path) -> Machine:
    """In an empty folder."""
    root, state, path = tmp_path / "sfumato", tmp_path / "state", tmp_path / "bin"
    for folder in (root, state, path):
        folder.mkdir()
    for each in ("deploy/local", "deploy/overlays", "src/sfumato/__init__.py"):
        source, target = ROOT / each, root / each
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    for tool in TOOLS:
        shutil.copy(STAND_IN, path / tool)
        (path / tool).chmod(0o755)
    for tool in ORDINARY:
        found = shutil.which(tool)
        assert found is not None, tool
        (path / tool).symlink_to(found)
    return Machine(root, state, path)


def values_of(call: list[str]) -> list[str]:
    return [call[index + 1] for index, word in enumerate(call) if word == "--values"]


def installed(machine: Machine) -> Rendered:
    """What the last `helm upgrade` of the chart would install, by the chart itself."""
    call = [each for each in machine.called("helm", "upgrade") if "deploy/helm" in " ".join(each)][
        -1
    ]
    values: dict[str, Any] = {
        "database": {"existingSecret": {"name": ""}},
        "storage": {"imagesUrl": ""},
    }
    for file in values_of(call):
        values = merge(values, yaml.safe_load((machine.root / file).read_text()))
    for index, word in enumerate(call):
        if word in ("--set", "--set-string"):
            keys, _, text = call[index + 1].partition("=")
            value: Any = text if word == "--set-string" else yaml.safe_load(text)
            for key in reversed(keys.split(".")):
                value = {key: value}
            values = merge(values, value)
    rendered = render(values)
    for manifest in rendered:
        check(manifest)
    return rendered
