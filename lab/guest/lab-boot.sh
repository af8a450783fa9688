#!/bin/sh
# First thing in a host: what a hypervisor, udev and systemd-sysctl would have done. The lab writes /etc/lab.
set -u
for controller in /sys/fs/cgroup/*; do [ -d "$controller" ] && [ ! -L "$controller" ] && mount -o remount,bind,rw "$controller" 2>/dev/null; done
mount --make-rshared /
# Sysctls that belong to the whole machine are files of this host; they start with the kernel's defaults.
mkdir -p /run/lab/sysctl
for entry in vm/overcommit_memory:0 vm/panic_on_oom:0 kernel/panic:0 kernel/panic_on_oops:0; do
  name=${entry%%:*} file=/run/lab/sysctl/$(echo "${entry%%:*}" | tr / .)
  echo "${entry##*:}" > "$file"
  mount --bind "$file" "/proc/sys/$name"
done
for fake in meminfo cpuinfo; do [ -f /etc/lab/$fake ] && mount --bind /etc/lab/$fake /proc/$fake; done
# the PCI devices of this host, not those of the machine
mkdir -p /etc/lab/pci
mount --bind /etc/lab/pci /sys/bus/pci/devices
# what systemd-sysctl would do with this host's own settings
cat /etc/sysctl.d/*.conf 2>/dev/null | sysctl -e -q -p - 2>/dev/null
# udev's links: NAME DEVICE per line
mkdir -p /dev/disk/by-id /dev/disk/by-label
while read -r name device; do [ -n "$name" ] && ln -sfn "$device" "/dev/disk/by-id/$name"; done < /etc/lab/disks
while read -r _ device; do
  label=$(blkid -o value -s LABEL "$device" 2>/dev/null)
  [ -n "$label" ] && ln -sfn "$device" "/dev/disk/by-label/$label"
done < /etc/lab/disks
exit 0
