module gpuctl.lab/ingress

go 1.24.0

require gpuctl.lab/incluster v0.0.0

replace gpuctl.lab/incluster => ../incluster
