package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"gpuctl.lab/incluster"
)

const (
	runc       = "/usr/sbin/runc"
	acceptFile = "/usr/local/nvidia/toolkit/accepts-environment"
)

// runRuntime hands over to runc. Where it was left at its default, a container that sets NVIDIA_VISIBLE_DEVICES=all gets
// every card without having asked the scheduler for one, as with the real runtime.
func runRuntime(arguments []string) {
	if _, err := os.Stat(acceptFile); err == nil {
		for i, argument := range arguments {
			if (argument == "--bundle" || argument == "-b") && i+1 < len(arguments) {
				incluster.Must(giveAll(filepath.Join(arguments[i+1], "config.json")), "changing the bundle")
			}
		}
	}
	incluster.Must(syscall.Exec(runc, append([]string{runc}, arguments...), os.Environ()), "running runc")
}

func giveAll(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil // not a create
	}
	var bundle map[string]any
	if err := json.Unmarshal(text, &bundle); err != nil {
		return err
	}
	process, _ := bundle["process"].(map[string]any)
	environment, _ := process["env"].([]any)
	for _, entry := range environment {
		if text, _ := entry.(string); strings.TrimSpace(text) != "NVIDIA_VISIBLE_DEVICES=all" {
			continue
		}
		mounts, _ := bundle["mounts"].([]any)
		for target, source := range map[string]string{"/usr/bin/nvidia-smi": "/run/nvidia/driver/usr/bin/nvidia-smi", "/run/lab-gpu": "/run/nvidia/driver/lab"} {
			mounts = append(mounts, object{"destination": target, "source": source, "type": "bind", "options": []any{"rbind", "ro"}})
		}
		bundle["mounts"] = mounts
		changed, err := json.Marshal(bundle)
		if err != nil {
			return err
		}
		return write(path, changed, 0o644)
	}
	return nil
}
