"""What Proxmox lets root@pam set and no API token, whatever its role: gpuctl knows no such field and says what to do.

Not rules, since the format has no such keys: the loader asks here before it calls one unknown. Source: PVE::API2::Qemu,
check_vm_modify_config_perm ("only root can set ..."); older releases have ciupgrade among them.
"""

from __future__ import annotations

# what somebody may write -> the option of `qm set`
ROOT_ONLY = {
    "affinity": "--affinity 0-15",
    "cpu_affinity": "--affinity 0-15",
    "cpu_pinning": "--affinity 0-15",
    "hugepages": "--hugepages 1024",
    "keephugepages": "--keephugepages 1",
    "keep_hugepages": "--keephugepages 1",
    "args": "--args '...'",
    "kvm_arguments": "--args '...'",
    "hookscript": "--hookscript local:snippets/FILE",
    "ciupgrade": "--ciupgrade 0",
}


def refusal(key: object) -> tuple[str, str] | None:
    """What is wrong with this key, and the way out; None when a token may set it, or it is nothing of Proxmox's."""
    option = ROOT_ONLY.get(str(key))
    if option is None:
        return None
    return (
        f"{key} is set by root@pam only, and gpuctl holds an API token",
        f"remove it; root on the Proxmox node may: qm set VMID {option} (gpuctl resolve shows the VM ids; gpuctl "
        "plan may call it drift)",
    )
