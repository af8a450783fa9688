variable "endpoint" {
  description = "Proxmox API, without path."
  type        = string
}

variable "proxmox_node" {
  description = "Name of the Proxmox node."
  type        = string
}

variable "mark" {
  description = "What marks everything as this cluster's: gpuctl:<cluster>:<cluster id>."
  type        = string
}

variable "image" {
  description = "The cloud image, pinned by checksum."
  type = object({
    url                = string
    checksum           = string
    checksum_algorithm = string
    file_name          = string
    datastore          = string
  })
}

variable "storage" {
  description = "Names of the Proxmox storages for OS and scratch disks."
  type        = object({ os = string, scratch = string })
}

variable "network" {
  description = "What all nodes share of the LAN."
  type = object({
    bridge        = string
    gateway       = string
    dns           = list(string)
    search_domain = string
    vlan          = optional(number)
    mtu           = optional(number)
  })
}

variable "ssh" {
  description = "The user that cloud-init makes, with these public keys."
  type        = object({ user = string, keys = list(string) })
}

variable "cards" {
  description = "PCI cards by mapping name."
  type = map(object({
    path         = string
    id           = string
    iommu_group  = number
    subsystem_id = string
  }))
}

variable "nodes" {
  description = "VMs by name; address with prefix length; cards are mapping names."
  type = map(object({
    vm_id       = number
    address     = string
    cpus        = number
    memory_mib  = number
    disk_gib    = number
    scratch_gib = optional(number)
    cards       = list(string)
    tags        = list(string)
  }))
}
