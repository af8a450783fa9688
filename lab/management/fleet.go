package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"gpuctl.lab/incluster"
)

// bringFleet applies the objects of Fleet's chart, which the image carries, as Rancher installs Fleet by itself. They are
// not part of Rancher's release: removing that leaves Fleet behind, as the real one does.
func bringFleet(path string) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		incluster.Logf("this image carries no Fleet")
		return
	}
	incluster.Must(err, "reading Fleet")
	namespace := object{"apiVersion": "v1", "kind": "Namespace", "metadata": object{"name": "cattle-fleet-system"}}
	objects := []object{}
	incluster.Must(json.Unmarshal(text, &objects), path)
	for _, wanted := range append([]object{namespace}, objects...) {
		for said := ""; ; time.Sleep(time.Second) {
			err := applyAny(wanted)
			if err == nil {
				break
			}
			if err.Error() != said {
				said = err.Error()
				incluster.Logf("error: Fleet: %s", said)
			}
		}
	}
	incluster.Logf("Fleet is installed: %d objects", len(objects))
}

// applyAny applies an object whose collection the API server tells.
func applyAny(wanted object) error {
	version, _ := wanted["apiVersion"].(string)
	kind, _ := wanted["kind"].(string)
	metadata, _ := wanted["metadata"].(object)
	group := "/apis/" + version
	if !strings.Contains(version, "/") {
		group = "/api/" + version
	}
	var known struct {
		Resources []struct {
			Name, Kind string
			Namespaced bool
		}
	}
	if err := incluster.Call("GET", group, nil, "", &known); err != nil {
		return err
	}
	for _, resource := range known.Resources {
		if resource.Kind != kind || strings.Contains(resource.Name, "/") {
			continue
		}
		path := group
		if resource.Namespaced {
			path += fmt.Sprintf("/namespaces/%v", metadata["namespace"])
		}
		return incluster.Apply("rancher", fmt.Sprintf("%s/%s/%v", path, resource.Name, metadata["name"]), wanted)
	}
	return fmt.Errorf("the API server does not know %s %s yet", version, kind)
}
