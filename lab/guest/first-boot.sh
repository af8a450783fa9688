#!/bin/sh
# As on a real first boot with ciupgrade on: dpkg is locked for some seconds, and then a reboot is wanted.
[ -f /var/lib/cloud/first-boot-done ] && exit 0
mkdir -p /run/cloud-init /var/lib/cloud
python3 - <<'END'
import fcntl, time
locks = [open(path, "w") for path in ("/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock")]
for lock in locks:
    fcntl.lockf(lock, fcntl.LOCK_EX)
time.sleep(3)
END
touch /var/lib/cloud/first-boot-done
echo "*** System restart required ***" > /run/reboot-required
