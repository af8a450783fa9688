"""manage: what the cluster is managed with."""
