"""The emulated Proxmox VE API, on fakepve (AGPL-3.0: see NOTICE.md)."""
