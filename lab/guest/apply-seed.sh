#!/bin/sh
# User, keys and SSH host keys from /etc/lab/seed (shell assignments), once; a stand-in for cloud-init's NoCloud source.
set -eu
[ -f /var/lib/cloud/instance-applied ] && exit 0
. /etc/lab/seed
rm -f /etc/ssh/ssh_host_*
ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
useradd --create-home --shell /bin/bash --user-group "$SEED_USER" 2>/dev/null || true
install -d -m 0700 -o "$SEED_USER" -g "$SEED_USER" "/home/$SEED_USER/.ssh"
install -m 0600 -o "$SEED_USER" -g "$SEED_USER" /etc/lab/authorized_keys "/home/$SEED_USER/.ssh/authorized_keys"
echo "$SEED_USER ALL=(ALL) NOPASSWD:ALL" > /etc/sudoers.d/90-cloud-init-users
chmod 0440 /etc/sudoers.d/90-cloud-init-users
mkdir -p /var/lib/cloud
touch /var/lib/cloud/instance-applied
