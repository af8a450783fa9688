package main

import (
	"crypto/sha1"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"gpuctl.lab/incluster"
)

// Slice is a MIG device: a part of a card with memory and compute of its own.
type Slice struct{ Profile, UUID string }

const (
	migConfig = "nvidia.com/mig.config"
	migState  = "nvidia.com/mig.config.state"
	uncut     = "all-disabled"
	// beside the cards' description, wherever that is mounted
	migFile = "mig"
)

// layouts: how many slices of a profile fit on a card, smallest first; A100 80GB, from NVIDIA's MIG user guide.
var layouts = []struct {
	profile string
	count   int
}{{"1g.10gb", 7}, {"2g.20gb", 3}, {"3g.40gb", 2}, {"4g.40gb", 1}, {"7g.80gb", 1}}

// profiles is what a configuration of the MIG manager's default file makes of every card.
func profiles(config string) ([]string, error) {
	switch config {
	case "", uncut:
		return nil, nil
	case "all-balanced":
		return []string{layouts[0].profile, layouts[0].profile, layouts[1].profile, layouts[2].profile}, nil
	}
	for _, layout := range layouts {
		if config == "all-"+layout.profile {
			return strings.Split(strings.Repeat(layout.profile+" ", layout.count-1)+layout.profile, " "), nil
		}
	}
	return nil, fmt.Errorf("selected mig-config not present: %q", config)
}

// cut reads how the cards described at this path are cut, and cuts them.
func cut(path string, cards []Card) error {
	config, err := os.ReadFile(filepath.Join(filepath.Dir(path), migFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	names, err := profiles(string(config))
	if err != nil {
		return err
	}
	for i := range cards {
		for number, name := range names {
			sum := sha1.Sum([]byte(fmt.Sprint(cards[i].UUID, name, number)))
			uuid := fmt.Sprintf("MIG-%x-%x-%x-%x-%x", sum[0:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
			cards[i].Slices = append(cards[i].Slices, Slice{name, uuid})
		}
	}
	return nil
}

// resources is what the device plugin offers of these cards, by resource name: device ids of healthy and other cards.
func resources(cards []Card, strategy string) map[string][]string {
	found := map[string][]string{}
	for _, card := range cards {
		if len(card.Slices) == 0 || strategy == "none" {
			found["nvidia.com/gpu"] = append(found["nvidia.com/gpu"], card.UUID)
			continue
		}
		for _, slice := range card.Slices {
			name := "nvidia.com/gpu"
			if strategy == "mixed" {
				name = "nvidia.com/mig-" + slice.Profile
			}
			found[name] = append(found[name], slice.UUID)
		}
	}
	return found
}

// runMigManager cuts the cards as the node's label says, as the real one only while nobody uses them.
func runMigManager([]string) {
	waitFor("toolkit-ready")
	node, path := os.Getenv("NODE_NAME"), filepath.Join(filepath.Dir(driverCards), migFile)
	last := ""
	incluster.Forever(2*time.Second, func() error {
		var have struct {
			Metadata struct{ Labels map[string]string }
		}
		if err := incluster.Call("GET", "/api/v1/nodes/"+node, nil, "", &have); err != nil {
			return err
		}
		wanted := have.Metadata.Labels[migConfig]
		now, _ := os.ReadFile(path)
		if wanted == last && string(now) == wanted {
			return nil
		}
		if err := labelNode(map[string]any{migState: "pending"}); err != nil {
			return err
		}
		last = wanted
		_, err := profiles(wanted)
		if err == nil && string(now) != wanted && (len(now) > 0 || wanted != uncut) {
			err = unused(node)
		}
		if err == nil {
			err = write(path, []byte(wanted), 0o644)
		}
		if err != nil {
			incluster.Logf("error: %v", err)
			return labelNode(map[string]any{migState: "failed"})
		}
		incluster.Logf("applied %s", wanted)
		return labelNode(map[string]any{migState: "success"})
	})
}

// unused waits for a moment until no pod on the node holds a GPU.
func unused(node string) error {
	holder := ""
	for range 10 {
		var pods struct {
			Items []struct {
				Metadata struct{ Namespace, Name string }
				Spec     struct {
					Containers []struct {
						Resources struct{ Limits map[string]string }
					}
				}
				Status struct{ Phase string }
			}
		}
		if err := incluster.Call("GET", "/api/v1/pods?fieldSelector=spec.nodeName="+node, nil, "", &pods); err != nil {
			return err
		}
		holder = ""
		for _, pod := range pods.Items {
			for _, container := range pod.Spec.Containers {
				for name := range container.Resources.Limits {
					if strings.HasPrefix(name, "nvidia.com/") && (pod.Status.Phase == "Running" || pod.Status.Phase == "Pending") {
						holder = pod.Metadata.Namespace + "/" + pod.Metadata.Name
					}
				}
			}
		}
		if holder == "" {
			return nil
		}
		time.Sleep(time.Second)
	}
	return fmt.Errorf("the cards are in use by %s", holder)
}
