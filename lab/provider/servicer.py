"""Protocol 6 of Terraform's plugins, driven by schema.json; the resources themselves are in resources.py."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tf.gen import tfplugin_pb2 as pb
from tf.gen import tfplugin_pb2_grpc as rpc
from tf.types import Unknown
from tf.utils import read_dynamic_value, to_dynamic_value

from lab.provider.resources import KINDS, Failed, client, known

SCHEMA: dict[str, Any] = json.loads(Path(__file__).with_name("schema.json").read_text(encoding="utf-8"))
NESTING = {"single": 1, "list": 2, "set": 3, "map": 4}
VM = "proxmox_virtual_environment_vm"
# paths whose change replaces the resource, as with the real provider
REPLACE: dict[str, set[tuple[str, ...]]] = {
    VM: {
        ("vm_id",),
        ("node_name",),
        ("initialization", "datastore_id"),
        ("initialization", "user_account", "username"),
    },
    "proxmox_hardware_mapping_pci": {("name",)},
    "proxmox_download_file": {
        ("url",),
        ("file_name",),
        ("node_name",),
        ("datastore_id",),
        ("content_type",),
        ("checksum",),
        ("checksum_algorithm",),
    },
}


def _attribute(name: str, a: dict[str, Any]) -> Any:
    shape: dict[str, Any] = {}
    if "type" in a:
        shape["type"] = json.dumps(a["type"]).encode()
    else:
        inside = [_attribute(key, value) for key, value in a["nested"]["attrs"].items()]
        shape["nested_type"] = pb.Schema.Object(nesting=NESTING[a["nested"]["mode"]], attributes=inside)
    return pb.Schema.Attribute(
        name=name,
        required="R" in a["mode"],
        optional="O" in a["mode"],
        computed="C" in a["mode"],
        sensitive=a.get("sensitive", False),
        **shape,
    )


def _block(block: dict[str, Any]) -> Any:
    nested = [
        pb.Schema.NestedBlock(
            type_name=name, block=_block(inner), nesting=NESTING[inner["mode"]], max_items=inner.get("max", 0)
        )
        for name, inner in block.get("blocks", {}).items()
    ]
    return pb.Schema.Block(
        version=0, attributes=[_attribute(n, a) for n, a in block["attrs"].items()], block_types=nested
    )


def _diagnostic(summary: str, detail: str = "") -> Any:
    return pb.Diagnostic(severity=pb.Diagnostic.ERROR, summary=summary, detail=detail)


def _planned(schema: dict[str, Any], prior: Any, proposed: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """The proposed state with defaults; what is computed keeps its prior value, or is unknown on creation."""
    out = dict(proposed)
    for name, attribute in schema["attrs"].items():
        if out.get(name) is None:
            if name in defaults:
                out[name] = defaults[name]
            elif "C" in attribute["mode"]:
                out[name] = prior.get(name) if prior is not None else Unknown
        elif name == "network_device" and prior and isinstance(out[name], list):
            # members that are not set (the MAC address) keep what they have
            before = prior.get(name) or []
            out[name] = [
                {k: before[i].get(k) if v is None and i < len(before) else v for k, v in item.items()}
                for i, item in enumerate(out[name])
            ]
    for name, inner in schema.get("blocks", {}).items():
        items = out.get(name) or []
        before = (prior or {}).get(name) or []
        out[name] = [
            _planned(inner, before[i] if i < len(before) else None, item, defaults.get(name, {}))
            for i, item in enumerate(items)
        ]
    return out


def _changed(before: Any, after: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in before:
            yield from _changed(before[key], after.get(key), (*path, key))
    elif isinstance(before, list) and isinstance(after, list) and any(isinstance(x, dict) for x in (*before, *after)):
        for index in range(min(len(before), len(after))):
            yield from _changed(before[index], after[index], (*path, index))
        if len(before) != len(after):
            yield path
    elif before != after:
        yield path


def _steps(path: tuple[str | int, ...]) -> Any:
    return pb.AttributePath(
        steps=[
            pb.AttributePath.Step(attribute_name=s) if isinstance(s, str) else pb.AttributePath.Step(element_key_int=s)
            for s in path
        ]
    )


class Servicer(rpc.ProviderServicer):  # type: ignore[misc]
    """One provider process."""

    def __init__(self, _app: object = None) -> None:
        self._api: Any = None

    def GetMetadata(self, _request: Any, _context: Any) -> Any:
        return pb.GetMetadata.Response(server_capabilities=pb.ServerCapabilities())

    def GetProviderSchema(self, _request: Any, _context: Any) -> Any:
        return pb.GetProviderSchema.Response(
            provider=pb.Schema(block=_block(SCHEMA["provider"])),
            provider_meta=pb.Schema(block=pb.Schema.Block()),
            resource_schemas={name: pb.Schema(version=0, block=_block(s)) for name, s in SCHEMA["resources"].items()},
        )

    def ValidateProviderConfig(self, _request: Any, _context: Any) -> Any:
        return pb.ValidateProviderConfig.Response()

    def ValidateResourceConfig(self, _request: Any, _context: Any) -> Any:
        return pb.ValidateResourceConfig.Response()

    def UpgradeResourceState(self, request: Any, _context: Any) -> Any:
        return pb.UpgradeResourceState.Response(upgraded_state=to_dynamic_value(json.loads(request.raw_state.json)))

    def ConfigureProvider(self, request: Any, _context: Any) -> Any:
        config = read_dynamic_value(request.config)
        token = config.get("api_token") or os.environ.get("PROXMOX_VE_API_TOKEN", "")
        endpoint = config.get("endpoint") or os.environ.get("PROXMOX_VE_ENDPOINT", "")
        try:
            self._api = client(endpoint, token)
        except (Failed, ValueError) as error:
            return pb.ConfigureProvider.Response(diagnostics=[_diagnostic("Unable to create client", str(error))])
        return pb.ConfigureProvider.Response()

    def PlanResourceChange(self, request: Any, _context: Any) -> Any:
        prior, proposed = read_dynamic_value(request.prior_state), read_dynamic_value(request.proposed_new_state)
        if proposed is None:
            return pb.PlanResourceChange.Response(planned_state=request.proposed_new_state)
        name = request.type_name
        new = _planned(SCHEMA["resources"][name], prior, proposed, SCHEMA["defaults"].get(name, {}))
        replaced = [
            _steps(path)
            for path in (_changed(prior, new) if prior else ())
            if tuple(step for step in path if isinstance(step, str)) in REPLACE[name]
        ]
        return pb.PlanResourceChange.Response(
            planned_state=to_dynamic_value(new), requires_replace=replaced, legacy_type_system=name == VM
        )

    def ApplyResourceChange(self, request: Any, _context: Any) -> Any:
        prior, planned = read_dynamic_value(request.prior_state), read_dynamic_value(request.planned_state)
        kind = KINDS[request.type_name](self._api)
        state, diagnostics = prior, []
        try:
            if planned is None:
                kind.delete(prior)
                state = None
            elif prior is None:
                state = kind.create(known(planned))
            else:
                state = kind.update(prior, known(planned))
        except Failed as error:
            diagnostics.append(_diagnostic(error.summary, error.detail))
            # what was made is kept, tainted by Terraform, so that nothing is lost
            state = kind.partial if prior is None else prior
        except Exception as error:  # noqa: BLE001 - a bug of ours must reach Terraform as a diagnostic
            traceback.print_exc(file=sys.stderr)
            diagnostics.append(_diagnostic("the stand-in provider failed", repr(error)))
            state = kind.partial if prior is None else prior
        return pb.ApplyResourceChange.Response(
            new_state=to_dynamic_value(state), diagnostics=diagnostics, legacy_type_system=request.type_name == VM
        )

    def ReadResource(self, request: Any, _context: Any) -> Any:
        try:
            state = KINDS[request.type_name](self._api).read(read_dynamic_value(request.current_state))
        except Failed as error:
            return pb.ReadResource.Response(
                new_state=request.current_state, diagnostics=[_diagnostic(error.summary, error.detail)]
            )
        return pb.ReadResource.Response(new_state=to_dynamic_value(state))

    def ImportResourceState(self, request: Any, _context: Any) -> Any:
        schema = SCHEMA["resources"][request.type_name]
        state: dict[str, Any] = {**dict.fromkeys(schema["attrs"]), **{name: [] for name in schema.get("blocks", {})}}
        if request.type_name == VM:
            node, _, number = request.id.rpartition("/")
            state.update(id=number, node_name=node, vm_id=int(number))
        else:
            state.update(id=request.id, name=request.id)
        made = pb.ImportResourceState.ImportedResource(type_name=request.type_name, state=to_dynamic_value(state))
        return pb.ImportResourceState.Response(imported_resources=[made])

    def StopProvider(self, _request: Any, _context: Any) -> Any:
        return pb.StopProvider.Response()
