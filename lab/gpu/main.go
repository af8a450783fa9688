// Command gpu plays what NVIDIA's GPU Operator brings to a node, over the cards that the lab says a host has. One
// program under the names of the real ones; what it does not know, it refuses.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
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
		fatal("%s: not part of the rehearsal lab", name)
	}
	program(arguments)
}

func fatal(format string, values ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", values...)
	os.Exit(1)
}

func must(err error, doing string) {
	if err != nil {
		fatal("%s: %v", doing, err)
	}
}

func logf(format string, values ...any) {
	fmt.Printf("%s "+format+"\n", append([]any{time.Now().UTC().Format(time.RFC3339)}, values...)...)
}

// rest ends only with the pod.
func rest() {
	for {
		time.Sleep(time.Hour)
	}
}

// forever calls step every two seconds; an error is logged and tried again, as a controller does.
func forever(step func() error) {
	for last := ""; ; time.Sleep(2 * time.Second) {
		said := ""
		if err := step(); err != nil {
			said = err.Error()
		}
		if said != "" && said != last {
			logf("error: %s", said)
		}
		last = said
	}
}
