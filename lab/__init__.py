"""The rehearsal lab: an air-gapped site on one Linux machine. Never imported by gpuctl."""
