"""The messages of ``externalscaler.proto``, built as this is imported: no generated code, and no
compiler of protocols wherever the service is installed."""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    MethodDescriptorProto,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

PACKAGE = "externalscaler"
SERVICE = f"{PACKAGE}.ExternalScaler"

_SCALARS = {
    "string": FieldDescriptorProto.TYPE_STRING,
    "bool": FieldDescriptorProto.TYPE_BOOL,
    "int64": FieldDescriptorProto.TYPE_INT64,
    "double": FieldDescriptorProto.TYPE_DOUBLE,
}
_REPEATED = "repeated "
#: Message -> its fields, numbered from 1: (name, type).
_MESSAGES: dict[str, list[tuple[str, str]]] = {
    "ScaledObjectRef": [("name", "string"), ("namespace", "string"), ("scalerMetadata", "map")],
    "IsActiveResponse": [("result", "bool")],
    "GetMetricSpecResponse": [("metricSpecs", f"{_REPEATED}MetricSpec")],
    "MetricSpec": [
        ("metricName", "string"),
        ("targetSize", "int64"),
        ("targetSizeFloat", "double"),
    ],
    "GetMetricsRequest": [("scaledObjectRef", "ScaledObjectRef"), ("metricName", "string")],
    "GetMetricsResponse": [("metricValues", f"{_REPEATED}MetricValue")],
    "MetricValue": [
        ("metricName", "string"),
        ("metricValue", "int64"),
        ("metricValueFloat", "double"),
    ],
}
#: Method -> what it takes, what it answers, whether that is a stream.
METHODS = {
    "IsActive": ("ScaledObjectRef", "IsActiveResponse", False),
    "StreamIsActive": ("ScaledObjectRef", "IsActiveResponse", True),
    "GetMetricSpec": ("ScaledObjectRef", "GetMetricSpecResponse", False),
    "GetMetrics": ("GetMetricsRequest", "GetMetricsResponse", False),
}


def _field(message: str, number: int, name: str, kind: str) -> FieldDescriptorProto:
    field = FieldDescriptorProto(name=name, number=number)
    field.label = FieldDescriptorProto.LABEL_OPTIONAL
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
        return field
    field.type = FieldDescriptorProto.TYPE_MESSAGE
    if kind == "map":
        kind = f"{_REPEATED}{message}.{_entry(name)}"
    if kind.startswith(_REPEATED):
        field.label = FieldDescriptorProto.LABEL_REPEATED
    field.type_name = f".{PACKAGE}.{kind.removeprefix(_REPEATED)}"
    return field


def _entry(field: str) -> str:
    """The name that a map's entries have by the rules of the format."""
    return f"{field[0].upper()}{field[1:]}Entry"


def _message(name: str) -> DescriptorProto:
    fields = _MESSAGES[name]
    message = DescriptorProto(name=name)
    for number, (field, kind) in enumerate(fields, 1):
        message.field.append(_field(name, number, field, kind))
        if kind == "map":
            entry = DescriptorProto(name=_entry(field))
            entry.field.extend(
                _field(name, n, part, "string") for n, part in ((1, "key"), (2, "value"))
            )
            entry.options.map_entry = True
            message.nested_type.append(entry)
    return message


def describe() -> FileDescriptorProto:
    """The whole protocol."""
    file = FileDescriptorProto(name="externalscaler.proto", package=PACKAGE, syntax="proto3")
    file.message_type.extend(map(_message, _MESSAGES))
    service = file.service.add(name=SERVICE.rpartition(".")[2])
    for name, (takes, answers, streams) in METHODS.items():
        method = MethodDescriptorProto(
            name=name, input_type=f".{PACKAGE}.{takes}", output_type=f".{PACKAGE}.{answers}"
        )
        method.options.SetInParent()
        if streams:
            method.server_streaming = True
        service.method.append(method)
    return file


#: Apart from protobuf's own: another package may bring this protocol, too.
_POOL = DescriptorPool()
_POOL.Add(describe())

#: Message -> its class.
MESSAGES: dict[str, Any] = {
    name: GetMessageClass(_POOL.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in _MESSAGES
}
