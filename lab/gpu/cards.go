package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Card is one simulated GPU as lab/cards.py describes it. A fault changes the description while everything runs.
type Card struct {
	PCI           string `json:"pci"`
	UUID          string `json:"uuid"`
	Name          string `json:"name"`
	Product       string `json:"product"`
	MemoryMiB     int    `json:"memory_mib"`
	Healthy       bool   `json:"healthy"`
	Xid           int    `json:"xid"`
	Uncorrectable int    `json:"ecc_uncorrectable"`
	RowsPending   bool   `json:"remap_pending"`
	RowsFailed    bool   `json:"remap_failed"`
	Persistence   bool   `json:"persistence"`
	// MIG devices, when the card is cut
	Slices []Slice `json:"-"`
}

const (
	hostCards     = "/host/etc/lab/gpus.json" // in the operator's own pods, which mount the host's root at /host
	driverRoot    = "/host/run/nvidia/driver"
	driverCards   = driverRoot + "/lab/gpus.json"
	validations   = "/host/run/nvidia/validations"
	driverVersion = "580.105.08"
	cudaVersion   = "13.0"
)

func readCards(path string) ([]Card, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var cards []Card
	if err := json.Unmarshal(text, &cards); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return cards, cut(path, cards)
}

// driverSees is what the loaded driver reports on this host, for the operator's own pods.
func driverSees() ([]Card, error) {
	cards, err := readCards(driverCards)
	if err != nil {
		return nil, fmt.Errorf("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver: %w", err)
	}
	return cards, nil
}

// visible is what a process sees: in a container what its GPU request brought, in the driver's root everything.
func visible() ([]Card, error) {
	for _, path := range []string{"/run/lab-gpu/gpus.json", "/lab/gpus.json", "/run/nvidia/driver/lab/gpus.json"} {
		cards, err := readCards(path)
		if err != nil {
			continue
		}
		if wanted, set := os.LookupEnv("NVIDIA_VISIBLE_DEVICES"); set && wanted != "all" && strings.HasPrefix(path, "/run/lab-gpu") {
			cards = among(cards, wanted)
		}
		return cards, nil
	}
	return nil, fmt.Errorf("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver")
}

func among(cards []Card, uuids string) []Card {
	var found []Card
	for _, wanted := range strings.Split(uuids, ",") {
		// a replica of a shared card is called UUID::N
		wanted, _, _ = strings.Cut(wanted, "::")
		for _, card := range cards {
			if card.UUID == wanted {
				found = append(found, card)
			}
			for _, slice := range card.Slices {
				if slice.UUID == wanted {
					card.Slices = []Slice{slice}
					found = append(found, card)
					break
				}
			}
		}
	}
	return found
}

// write replaces a file in one step: others read it at any moment.
func write(path string, data []byte, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", data, mode); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
