#!/bin/sh
# What only the Proxmox host itself can tell about passing cards on. Reads /proc, /sys and /etc/modprobe.d; changes
# nothing. One fact a line, read by: gpuctl doctor --host-report FILE
LC_ALL=C
export LC_ALL
echo "gpuctl-host-report 1"
echo "host $(uname -n)"
echo "kernel $(uname -r)"
echo "cmdline $(cat /proc/cmdline)"

# link DIR NAME: the last part of where a link leads, - without it
link() {
    if [ -e "$1/$2" ]; then basename "$(readlink "$1/$2")"; else echo -; fi
}

# pci ADDRESS VENDOR DEVICE CLASS IOMMU-GROUP NUMA-NODE DRIVER BAR1-START BAR1-END BAR1-FLAGS
for device in /sys/bus/pci/devices/*; do
    [ -e "$device/vendor" ] || continue
    echo "pci $(basename "$device") $(cat "$device/vendor" "$device/device" "$device/class" | tr '\n' ' ')$(
        link "$device" iommu_group) $(cat "$device/numa_node" 2>/dev/null || echo -1) $(
        link "$device" driver) $(sed -n 2p "$device/resource" 2>/dev/null)"
done

for node in /sys/devices/system/node/node[0-9]*; do
    [ -e "$node" ] && echo "numa $(basename "$node")"
done

for pages in /sys/kernel/mm/hugepages/hugepages-*; do
    [ -e "$pages/nr_hugepages" ] && echo "hugepages $(basename "$pages") $(cat "$pages/nr_hugepages")"
done

grep -hE '^(nouveau|nvidia|nvidiafb|vfio_pci) ' /proc/modules 2>/dev/null | cut -d ' ' -f 1 | sed 's/^/module /'
cat /etc/modprobe.d/*.conf /lib/modprobe.d/*.conf 2>/dev/null |
    grep -E '^[[:space:]]*(blacklist|install|options[[:space:]]+vfio)' | sed 's/^[[:space:]]*/modprobe /'
echo end
