package main

import (
	"fmt"
	"os"
	"strings"

	"gpuctl.lab/incluster"
)

// runSmi answers `-L` and `--query-gpu=... --format=csv,noheader[,nounits]`; the fields are those of the real tool.
func runSmi(arguments []string) {
	cards, err := visible()
	if err != nil {
		incluster.Fatal("%v. Make sure that the latest NVIDIA driver is installed and running.", err)
	}
	query, format, fields := "", "", Card.field
	for _, argument := range arguments {
		switch {
		case argument == "-L":
			for index, card := range cards {
				fmt.Printf("GPU %d: %s (UUID: %s)\n", index, card.Name, card.UUID)
				for number, slice := range card.Slices {
					fmt.Printf("  MIG %-12sDevice %2d: (UUID: %s)\n", slice.Profile, number, slice.UUID)
				}
			}
			return
		case strings.HasPrefix(argument, "--query-gpu="):
			query, fields = strings.TrimPrefix(argument, "--query-gpu="), Card.field
		case strings.HasPrefix(argument, "--query-remapped-rows="):
			query, fields = strings.TrimPrefix(argument, "--query-remapped-rows="), Card.remappedRows
		case argument == "--format=csv,noheader,nounits", argument == "--format=csv,noheader":
			format = argument
		default:
			incluster.Fatal("nvidia-smi %s: not part of the rehearsal lab", argument)
		}
	}
	if query == "" || format == "" {
		incluster.Fatal("nvidia-smi: only -L and --query-gpu with --format=csv,noheader are part of the rehearsal lab")
	}
	if len(cards) == 0 {
		incluster.Fatal("No devices were found")
	}
	for index, card := range cards {
		var row []string
		for _, field := range strings.Split(query, ",") {
			value, known := fields(card, strings.TrimSpace(field), index)
			if !known {
				incluster.Fatal("Field %q is not a valid field to query.", field)
			}
			row = append(row, value)
		}
		fmt.Println(strings.Join(row, ", "))
	}
}

func (card Card) field(name string, index int) (string, bool) {
	value, known := map[string]string{
		"index":                                fmt.Sprint(index),
		"uuid":                                 card.UUID,
		"name":                                 card.Name,
		"driver_version":                       driverVersion,
		"pci.bus_id":                           "0000" + strings.ToUpper(card.PCI),
		"memory.total":                         fmt.Sprint(card.MemoryMiB),
		"persistence_mode":                     map[bool]string{true: "Enabled", false: "Disabled"}[card.Persistence],
		"mig.mode.current":                     map[bool]string{true: "Enabled", false: "Disabled"}[len(card.Slices) > 0],
		"ecc.errors.uncorrected.volatile.sram": fmt.Sprint(card.Uncorrectable),
	}[name]
	return value, known
}

func (card Card) remappedRows(name string, _ int) (string, bool) {
	yes := map[bool]string{true: "Yes", false: "No"}
	value, known := map[string]string{
		"gpu_bus_id":                  "0000" + strings.ToUpper(card.PCI),
		"gpu_uuid":                    card.UUID,
		"remapped_rows.correctable":   "0",
		"remapped_rows.uncorrectable": "0",
		"remapped_rows.pending":       yes[card.RowsPending],
		"remapped_rows.failure":       yes[card.RowsFailed],
	}[name]
	return value, known
}

// runVectorAdd adds two vectors "on" the first visible card, as NVIDIA's sample does, and fails where a real one would.
func runVectorAdd([]string) {
	cards, err := visible()
	if wanted, set := os.LookupEnv("CUDA_VISIBLE_DEVICES"); err == nil && set {
		cards = among(cards, wanted)
	}
	const elements = 50000
	fmt.Printf("[Vector addition of %d elements]\n", elements)
	if err != nil || len(cards) == 0 {
		incluster.Fatal("Failed to allocate device vector A (error code no CUDA-capable device is detected)!")
	}
	if card := cards[0]; !card.Healthy || card.Xid != 0 {
		incluster.Fatal("Failed to copy vector A from host to device (error code uncorrectable ECC error encountered)!")
	}
	a, b, sum := make([]float32, elements), make([]float32, elements), make([]float32, elements)
	for i := range a {
		a[i], b[i] = float32(i)/3, float32(elements-i)/3
		sum[i] = a[i] + b[i]
	}
	for i := range sum {
		if d := sum[i] - (a[i] + b[i]); d > 1e-5 || d < -1e-5 {
			incluster.Fatal("Result verification failed at element %d!", i)
		}
	}
	fmt.Println("Test PASSED\nDone")
}
