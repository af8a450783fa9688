// Command gpu plays what NVIDIA's GPU Operator brings to a node, over the cards that the lab says a host has. One
// program under the names of the real ones; what it does not know, it refuses.
package main

import (
	"os"
	"path/filepath"

	"gpuctl.lab/incluster"
)

var programs = map[string]func(arguments []string){
	"gpu-operator":             runOperator,
	"nfd-worker":               runDiscoveryWorker,
	"nvidia-driver":            runDriver,
	"nvidia-toolkit":           runToolkit,
	"nvidia-device-plugin":     runDevicePlugin,
	"gpu-feature-discovery":    runFeatureDiscovery,
	"nvidia-mig-manager":       runMigManager,
	"dcgm-exporter":            runExporter,
	"nvidia-validator":         runValidator,
	"nvidia-smi":               runSmi,
	"nvidia-container-runtime": runRuntime,
	"vectorAdd":                runVectorAdd,
}

func main() {
	name, arguments := filepath.Base(os.Args[0]), os.Args[1:]
	if programs[name] == nil && len(arguments) > 0 {
		name, arguments = filepath.Base(arguments[0]), arguments[1:]
	}
	program := programs[name]
	if program == nil {
		incluster.Fatal("%s: not part of the rehearsal lab", name)
	}
	program(arguments)
}
