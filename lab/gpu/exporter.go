package main

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"gpuctl.lab/incluster"
)

// runExporter answers on :9400 with the metrics of the real exporter that gpuctl reads.
func runExporter([]string) {
	waitFor("toolkit-ready")
	http.HandleFunc("/metrics", func(answer http.ResponseWriter, _ *http.Request) {
		cards, err := driverSees()
		if err != nil {
			http.Error(answer, err.Error(), http.StatusInternalServerError)
			return
		}
		metrics := []struct {
			name, help string
			value      func(Card) int
		}{
			{"DCGM_FI_DEV_GPU_TEMP", "GPU temperature (in C).", func(Card) int { return 34 }},
			{"DCGM_FI_DEV_GPU_UTIL", "GPU utilization (in %).", func(Card) int { return 0 }},
			{"DCGM_FI_DEV_FB_FREE", "Framebuffer memory free (in MiB).", func(card Card) int { return card.MemoryMiB }},
			{"DCGM_FI_DEV_XID_ERRORS", "Value of the last XID error encountered.", func(card Card) int { return card.Xid }},
		}
		var text strings.Builder
		for _, metric := range metrics {
			fmt.Fprintf(&text, "# HELP %s %s\n# TYPE %s gauge\n", metric.name, metric.help, metric.name)
			for index, card := range cards {
				fmt.Fprintf(&text, "%s{gpu=\"%d\",UUID=\"%s\",device=\"nvidia%d\",modelName=\"%s\",Hostname=\"%s\"} %d\n",
					metric.name, index, card.UUID, index, card.Name, os.Getenv("NODE_NAME"), metric.value(card))
			}
		}
		_, _ = answer.Write([]byte(text.String()))
	})
	server := http.Server{Addr: ":9400", ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second}
	incluster.Must(server.ListenAndServe(), "serving")
}

func labelNode(labels map[string]any) error {
	node := os.Getenv("NODE_NAME")
	var have struct {
		Metadata struct{ Labels map[string]string }
	}
	if err := incluster.Call("GET", "/api/v1/nodes/"+node, nil, "", &have); err != nil {
		return err
	}
	changed := map[string]any{}
	for name, value := range labels {
		if current, there := have.Metadata.Labels[name]; value == nil && there || value != nil && current != value {
			changed[name] = value
		}
	}
	if len(changed) == 0 {
		return nil
	}
	body := map[string]any{"metadata": map[string]any{"labels": changed}}
	return incluster.Call("PATCH", "/api/v1/nodes/"+node, body, incluster.MergePatch, nil)
}

// runDiscoveryWorker sets the one label of node-feature-discovery that the operator waits for.
func runDiscoveryWorker([]string) {
	incluster.Forever(2*time.Second, func() error {
		entries, err := os.ReadDir("/host/sys/bus/pci/devices")
		if err != nil {
			return err
		}
		var found any
		for _, entry := range entries {
			vendor, _ := os.ReadFile("/host/sys/bus/pci/devices/" + entry.Name() + "/vendor")
			if strings.TrimSpace(string(vendor)) == "0x10de" {
				found = "true"
			}
		}
		return labelNode(map[string]any{"feature.node.kubernetes.io/pci-10de.present": found})
	})
}

func runFeatureDiscovery([]string) {
	waitFor("toolkit-ready")
	incluster.Forever(2*time.Second, func() error {
		cards, err := driverSees()
		if err != nil || len(cards) == 0 {
			return err
		}
		major, rest, _ := strings.Cut(driverVersion, ".")
		minor, _, _ := strings.Cut(rest, ".")
		product, count := cards[0].Product, len(cards)
		if slices := cards[0].Slices; len(slices) > 0 && os.Getenv("MIG_STRATEGY") == "single" {
			product, count = product+"-MIG-"+slices[0].Profile, len(slices)*len(cards)
		}
		return labelNode(map[string]any{
			"nvidia.com/gpu.product":              product,
			"nvidia.com/gpu.count":                fmt.Sprint(count),
			"nvidia.com/mig.strategy":             os.Getenv("MIG_STRATEGY"),
			"nvidia.com/gpu.memory":               fmt.Sprint(cards[0].MemoryMiB),
			"nvidia.com/gpu.family":               "ampere",
			"nvidia.com/cuda.driver-version.full": driverVersion,
			"nvidia.com/cuda.driver.major":        major,
			"nvidia.com/cuda.driver.minor":        minor,
			"nvidia.com/mig.capable":              "true",
		})
	})
}
