module gpuctl.lab/incluster

go 1.24.0
