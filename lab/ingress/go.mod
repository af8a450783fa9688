module gpuctl.lab/ingress

go 1.24.0
