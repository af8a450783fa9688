"""What only the Proxmox host itself can tell: kernel, drivers, memory windows, NUMA.

What is wrong with an A100 host follows Proxmox' and NVIDIA's documentation; no real host has been judged by this yet.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from gpuctl.doctor.base import Line, broken, judged
from gpuctl.doctor.facts import Facts
from gpuctl.doctor.groups.cards import IOMMU_OFF, shared
from gpuctl.doctor.report_of_host import Device, HostReport
from gpuctl.spec import units
from gpuctl.spec.units import counted
from gpuctl.spec.versions import gpu_model, table

GIB = 1 << 30
HOST_DRIVERS = ("nouveau", "nvidia", "nvidiafb")
NAMES = ("cards", "iommu", "iommu mode", "blacklist", "hugepages", "iommu groups", "drivers", "bar1", "numa")
RELOAD = "then update-initramfs -u -k all and reboot"


def judge(facts: Facts) -> Iterator[Line]:
    host, spec = facts.host, facts.resolved
    if spec and not any(node.gpus for node in spec.nodes):
        return  # nothing is passed on
    if isinstance(host, HostReport):
        for look in (_cards, _iommu, _mode, _blacklist, _hugepages):
            yield look(host)
        for name, look in (("iommu groups", _groups), ("drivers", _drivers), ("bar1", _bar1), ("numa", _numa)):
            yield look(host) if host.cards else Line(name, "not looked at", "there is no card")
        return
    if host is not None:
        yield broken("report", host)
    why = "the host could not be asked" if host is not None else "only the host itself tells"
    hint = f"gpuctl doctor --host-ssh {facts.way}, or --host-script and --host-report FILE"
    for name in NAMES:
        yield Line(name, "not looked at", why, hint)
        hint = ""  # once is enough


def _cards(host: HostReport) -> Line:
    if host.cards:
        shown = ", ".join(f"{card.path} {gpu_model(card.id) or card.id}" for card in host.cards)
        return Line("cards", "ok", f"{host.host}: {shown}")
    hint = "lspci -nn -d 10de: on the host; a card that it does not list has no power, or its slot is off"
    return Line("cards", "fail", f"{host.host} has no NVIDIA card", hint)


def _iommu(host: HostReport) -> Line:
    groups = {device.group for device in host.devices} - {-1}
    if groups:
        return Line("iommu", "ok", f"on: {counted(len(groups), 'group')}, kernel {host.kernel}")
    said = [word for word in host.cmdline if "iommu" in word]
    return Line("iommu", "fail", f"off; kernel {host.kernel}, {' '.join(said) or 'nothing about it'}", IOMMU_OFF)


def _mode(host: HostReport) -> Line:
    if "iommu=pt" in host.cmdline:
        return Line("iommu mode", "ok", "iommu=pt")
    return Line(
        "iommu mode",
        "warn",
        "no iommu=pt on the kernel command line: the host's own devices are translated too, which costs speed",
        "GRUB_CMDLINE_LINUX_DEFAULT and update-grub, or /etc/kernel/cmdline and proxmox-boot-tool refresh; then reboot",
    )


def _groups(host: HostReport) -> Line:
    groups = {device.path: device.group for device in host.devices if not device.bridge}
    paths = [card.path for card in host.cards if card.group >= 0]
    problems = [f"{card} shares its group with {', '.join(others)}" for card, others in shared(paths, groups).items()]
    if not paths:
        return Line("iommu groups", "not looked at", "no card is in a group")
    hint = "another slot, or ACS on in the firmware; pcie_acs_override isolates nothing and only says so"
    return judged("iommu groups", problems, "each card alone", hint)


def _drivers(host: HostReport) -> Line:
    # without a driver is fine: Proxmox binds a card to vfio-pci when its VM starts
    problems = [f"{c.path} is held by {c.driver}" for c in host.cards if c.driver not in ("", "vfio-pci")]
    bound = sum(card.driver == "vfio-pci" for card in host.cards)
    hint = f"blacklist it in /etc/modprobe.d, {RELOAD}"
    return judged(
        "drivers", problems, f"{bound} of {counted(len(host.cards), 'card')} on vfio-pci, the others free", hint
    )


def _blacklist(host: HostReport) -> Line:
    kept = {line.split()[1] for line in host.modprobe if line.startswith(("blacklist ", "install "))}
    for word in host.cmdline:
        key, _, value = word.partition("=")
        if key in ("module_blacklist", "modprobe.blacklist"):
            kept |= set(value.split(","))
    claimed = " ".join(line for line in host.modprobe if line.startswith("options vfio"))
    open_ = [name for name in HOST_DRIVERS[:2] if name not in kept]
    loaded = [name for name in HOST_DRIVERS if name in host.modules]
    if not open_ or (host.cards and all(card.id in claimed for card in host.cards)):
        return Line("blacklist", "ok", "the host's drivers are kept off the cards")
    measured = f"{' and '.join(open_)} not blacklisted" + (f", {' '.join(loaded)} loaded" if loaded else "")
    lines = " ".join(f"blacklist {name};" for name in open_)
    return Line("blacklist", "warn", measured, f"{lines} one a line in /etc/modprobe.d/gpuctl.conf, {RELOAD}")


def _bar1(host: HostReport) -> Line:
    without, short, sizes = [], [], []
    for card in host.cards:
        start, size = card.bar1
        needed = table()["gpu_models"].get(gpu_model(card.id), {}).get("bar1")
        if not start:
            without.append(f"{card.path} has no memory window" + (f" (it needs {needed})" if needed else ""))
        elif needed and size < units.size(needed):
            short.append(f"{card.path} has {units.show_size(size)} of {needed}")
        else:
            sizes.append(units.show_size(size))
    hint = "turn Above 4G Decoding on in the firmware (and Resizable BAR as the vendor says)"
    if without:
        return Line("bar1", "fail", "; ".join(without + short), hint)
    if short:
        return Line("bar1", "warn", "; ".join(short), hint)
    return Line("bar1", "ok", ", ".join(dict.fromkeys(sizes)))


def _numa(host: HostReport) -> Line:
    places: dict[int, list[Device]] = defaultdict(list)
    for card in host.cards:
        places[card.numa].append(card)
    shown = ", ".join(f"node {n}: {counted(len(c), 'card')}" for n, c in sorted(places.items()) if n >= 0)
    if host.numa_nodes > 1 and -1 in places:
        lost = ", ".join(card.path for card in places[-1])
        hint = "a firmware update or its NUMA setting; without it nobody can keep a VM beside its cards"
        return Line("numa", "warn", f"{lost}: the firmware does not tell the node", hint)
    return Line("numa", "ok", f"{counted(host.numa_nodes, 'node')}; {shown or 'cards not placed'}")


def _hugepages(host: HostReport) -> Line:
    if not host.hugepages:
        return Line("hugepages", "ok", "none reserved")
    return Line(
        "hugepages",
        "warn",
        f"{units.show_size(host.hugepages)} reserved, which the cluster's VMs cannot use",
        "hugepages= on the kernel command line or vm.nr_hugepages; leave it if other VMs need them",
    )
