# The VMs of one cluster on one Proxmox VE server. Static: everything that varies comes from gpuctl.auto.tfvars.json,
# which gpuctl renders. The API token comes from PROXMOX_VE_API_TOKEN, the server's CA from SSL_CERT_FILE.

terraform {
  required_version = ">= 1.6"
  required_providers {
    proxmox = {
      source  = "bpg/proxmox"
      version = "0.111.1"
    }
  }
}

provider "proxmox" {
  endpoint = var.endpoint
}

resource "proxmox_download_file" "image" {
  node_name           = var.proxmox_node
  datastore_id        = var.image.datastore
  content_type        = "import"
  url                 = var.image.url
  file_name           = var.image.file_name
  checksum            = var.image.checksum
  checksum_algorithm  = var.image.checksum_algorithm
  overwrite           = false
  overwrite_unmanaged = false
}

# One mapping per card: of several cards in one mapping Proxmox would take any that is free.
resource "proxmox_hardware_mapping_pci" "gpu" {
  for_each = var.cards
  name     = each.key
  comment  = var.mark
  map = [{
    node         = var.proxmox_node
    path         = each.value.path
    id           = each.value.id
    iommu_group  = each.value.iommu_group
    subsystem_id = each.value.subsystem_id
  }]
}

# No ignore_changes: a disk that grows and an address that changes must be seen in the plan, where gpuctl does or
# refuses them.
resource "proxmox_virtual_environment_vm" "node" {
  for_each        = var.nodes
  name            = each.key
  description     = var.mark
  vm_id           = each.value.vm_id
  node_name       = var.proxmox_node
  tags            = each.value.tags
  machine         = "q35"
  bios            = "ovmf"
  scsi_hardware   = "virtio-scsi-single"
  boot_order      = ["scsi0"]
  on_boot         = true
  started         = true
  stop_on_destroy = true

  timeout_create = 1800
  # all guest memory is pinned for passthrough, which takes Proxmox longer the more there is
  timeout_start_vm    = 300 + ceil(each.value.memory_mib / 1024) * 2
  timeout_stop_vm     = 300
  timeout_shutdown_vm = 300

  # The cloud image lacks the agent and bootstrap installs it: waiting for it would cost 15 minutes a VM.
  agent {
    enabled = true
    trim    = true
    timeout = "10s"
    wait_for_ip {
      disabled = true
    }
  }

  # host: the 128 GiB BAR of an A100 needs the real processor's physical address width.
  cpu {
    cores   = each.value.cpus
    sockets = 1
    type    = "host"
    numa    = true
  }

  # no balloon: passed-through devices pin all memory
  memory {
    dedicated = each.value.memory_mib
    floating  = 0
  }

  efi_disk {
    datastore_id      = var.storage.os
    file_format       = "raw"
    type              = "4m"
    pre_enrolled_keys = false
  }

  disk {
    datastore_id = var.storage.os
    interface    = "scsi0"
    import_from  = proxmox_download_file.image.id
    size         = each.value.disk_gib
    iothread     = true
    discard      = "on"
    ssd          = true
    serial       = "os"
  }

  dynamic "disk" {
    for_each = each.value.scratch_gib == null ? [] : [each.value.scratch_gib]
    content {
      datastore_id = var.storage.scratch
      interface    = "scsi1"
      size         = disk.value
      iothread     = true
      discard      = "on"
      ssd          = true
      backup       = false
      serial       = "scratch"
    }
  }

  dynamic "hostpci" {
    for_each = each.value.cards
    content {
      device  = "hostpci${hostpci.key}"
      mapping = proxmox_hardware_mapping_pci.gpu[hostpci.value].name
      pcie    = true
      rombar  = true
      xvga    = false
    }
  }

  network_device {
    bridge  = var.network.bridge
    model   = "virtio"
    vlan_id = var.network.vlan
    mtu     = var.network.mtu
  }

  operating_system {
    type = "l26"
  }

  # Debian's and Ubuntu's cloud images can panic on a resized disk without a serial device.
  serial_device {}
  vga {
    type = "serial0"
  }

  # `upgrade` is not set: only root@pam may. What it then does on first boot is waited for.
  initialization {
    datastore_id = var.storage.os
    interface    = "ide2"
    dns {
      domain  = var.network.search_domain
      servers = var.network.dns
    }
    ip_config {
      ipv4 {
        address = each.value.address
        gateway = var.network.gateway
      }
    }
    user_account {
      username = var.ssh.user
      keys     = var.ssh.keys
    }
  }
}
