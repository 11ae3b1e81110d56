"""Tensors of the Open Inference Protocol, in JSON and in its binary extension.

Contract: the protocol's ``inference_rest.yaml``, and Triton's "binary tensor data extension", which
KServe has too: a body then is JSON of as many bytes as ``Inference-Header-Content-Length`` says,
and after it the tensors that have a ``binary_data_size``, in their order.
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import orjson
from pydantic import BaseModel, ConfigDict, Field

from sfumato.core.errors import InvalidRequest
from sfumato.core.request import MAX_IMAGES

LENGTH_HEADER = "Inference-Header-Content-Length"
BYTES = "BYTES"
#: Datatype -> how :mod:`struct` calls one element.
_NUMBERS: Mapping[str, str] = {
    "BOOL": "?",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "FP16": "e",
    "FP32": "f",
    "FP64": "d",
}
_MAX_DIMENSIONS = 8


class InputTensor(BaseModel):
    """An input. ``data`` is flat or nested, in row-major order; of BYTES, texts."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str = Field(max_length=64)
    datatype: str = Field(description=f"{BYTES}, {', '.join(_NUMBERS)}.")
    shape: list[int] = Field(description="One element, or as many as there are prompts.")
    parameters: dict[str, Any] = Field(default_factory=dict)
    data: list[Any] | None = None

    def elements(self, binary: bytes | None) -> list[Any]:
        """Its elements; of BYTES, bytes.

        Args:
            binary: what the body has of it behind the JSON.

        Raises ``InvalidRequest``.
        """
        if (self.data is None) == (binary is None):
            raise self._refused("needs either data or a binary_data_size")
        if self.datatype != BYTES and self.datatype not in _NUMBERS:
            raise self._refused(f"must be of {BYTES}, or of {', '.join(_NUMBERS)}")
        count = self._count()
        # No more is read than was announced: a body may hold millions.
        found = list(islice(_flat(self.data) if binary is None else self._read(binary), count + 1))
        if len(found) != count:
            what = "more elements" if len(found) > count else f"{len(found)} elements"
            raise self._refused(f"has {what}, but a shape of {count}")
        if self.datatype == BYTES and binary is None:
            if not all(isinstance(each, str) for each in found):
                raise self._refused("is of BYTES: its elements must be texts")
            return [each.encode() for each in found]
        if any(isinstance(each, float) and not math.isfinite(each) for each in found):
            raise self._refused("has a number that is none")
        return found

    def _count(self) -> int:
        """How many elements the shape says there are."""
        possible = len(self.shape) <= _MAX_DIMENSIONS and all(side >= 0 for side in self.shape)
        count = math.prod(self.shape) if possible else -1
        if not 0 <= count <= MAX_IMAGES:
            raise self._refused(f"has a shape that can't be; at most {MAX_IMAGES} elements")
        return count

    def _read(self, binary: bytes) -> Iterator[Any]:
        if self.datatype == BYTES:
            yield from self._strings(binary)
            return
        number = struct.Struct("<" + _NUMBERS[self.datatype])
        if len(binary) % number.size:
            raise self._refused(f"has {len(binary)} bytes, which is no whole number of elements")
        for (value,) in number.iter_unpack(binary):
            yield value

    def _strings(self, binary: bytes) -> Iterator[bytes]:
        place = 0
        while place < len(binary):
            start = place + 4
            place = start + int.from_bytes(binary[place:start], "little")
            if start > len(binary) or place > len(binary):
                raise self._refused("is cut off: each element is its length in 4 bytes, and itself")
            yield binary[start:place]

    def _refused(self, what: str) -> InvalidRequest:
        return InvalidRequest(f"The input {self.name!r} {what}.", field=f"inputs.{self.name}")


class RequestedOutput(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: str = Field(max_length=64)
    parameters: dict[str, Any] = Field(default_factory=dict, description="`binary_data` alone.")


class InferRequest(BaseModel):
    """The JSON of an inference. KServe's client names the model in it, too; the path's counts."""

    model_config = ConfigDict(extra="forbid", strict=True)

    id: str | None = Field(None, max_length=200, description="Echoed.")
    model_name: str | None = None
    model_version: str | None = None
    parameters: dict[str, Any] = Field(
        default_factory=dict, description="Inputs of one element, and `binary_data_output`."
    )
    inputs: list[InputTensor] = Field(min_length=1, max_length=64)
    outputs: list[RequestedOutput] = Field(
        default_factory=list, description="Left out: all of them."
    )


class Output(NamedTuple):
    """A tensor of one dimension. Its elements: bytes of BYTES, else whole numbers."""

    name: str
    datatype: str
    elements: Sequence[Any]


def read_inputs(request: InferRequest, binary: memoryview) -> dict[str, list[Any]]:
    """The elements of every input.

    Args:
        binary: what follows the JSON; all of it must be somebody's.

    Raises ``InvalidRequest``.
    """
    found: dict[str, list[Any]] = {}
    place = 0
    for tensor in request.inputs:
        field = f"inputs.{tensor.name}"
        if tensor.name in found:
            raise InvalidRequest(f"There are two inputs {tensor.name!r}.", field=field)
        size = tensor.parameters.get("binary_data_size")
        part = None
        if size is not None:
            if isinstance(size, bool) or not isinstance(size, int) or size < 0:
                raise InvalidRequest(
                    "binary_data_size must be a whole number of bytes.", field=field
                )
            if place + size > len(binary):
                raise InvalidRequest(
                    f"The body ends within the input {tensor.name!r}.", field=field
                )
            part = bytes(binary[place : place + size])
            place += size
        found[tensor.name] = tensor.elements(part)
    if place != len(binary):
        raise InvalidRequest(
            f"{len(binary) - place} bytes follow the JSON that belong to no input.",
            field=LENGTH_HEADER,
            accepted="a binary_data_size for each binary input",
        )
    return found


def encoded(head: Mapping[str, Any], outputs: Iterable[tuple[Output, bool]]) -> tuple[bytes, int]:
    """An answer's body, and how long its JSON is; the whole body where nothing is binary.

    Args:
        head: the JSON's other members.
        outputs: each with whether it is to be binary. BYTES that are not are texts in base64.
    """
    described, tail = [], []
    for output, binary in outputs:
        tensor: dict[str, Any] = {
            "name": output.name,
            "datatype": output.datatype,
            "shape": [len(output.elements)],
        }
        if binary:
            packed = _packed(output)
            tensor["parameters"] = {"binary_data_size": len(packed)}
            tail.append(packed)
        elif output.datatype == BYTES:
            tensor["parameters"] = {"content_type": "base64"}
            tensor["data"] = [base64.b64encode(each).decode() for each in output.elements]
        else:
            tensor["data"] = list(output.elements)
        described.append(tensor)
    text = orjson.dumps({**head, "outputs": described})
    return b"".join((text, *tail)), len(text)


def _packed(output: Output) -> bytes:
    if output.datatype == BYTES:
        return b"".join(len(each).to_bytes(4, "little") + each for each in output.elements)
    return struct.pack(f"<{len(output.elements)}{_NUMBERS[output.datatype]}", *output.elements)


def _flat(data: Any) -> Iterator[Any]:
    for each in data:
        if isinstance(each, list):
            yield from _flat(each)
        else:
            yield each
