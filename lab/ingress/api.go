package main

import (
	"encoding/json"
	"net/http"
	"time"

	"gpuctl.lab/incluster"
)

type metadata struct {
	Name              string            `json:"name"`
	Namespace         string            `json:"namespace"`
	UID               string            `json:"uid,omitempty"`
	CreationTimestamp time.Time         `json:"creationTimestamp,omitzero"`
	Labels            map[string]string `json:"labels,omitempty"`
	Annotations       map[string]string `json:"annotations,omitempty"`
}

type backendPort struct {
	Number int    `json:"number"`
	Name   string `json:"name"`
}

type ingress struct {
	Metadata metadata `json:"metadata"`
	Spec     struct {
		IngressClassName string          `json:"ingressClassName"`
		DefaultBackend   json.RawMessage `json:"defaultBackend"`
		TLS              []struct {
			Hosts      []string `json:"hosts"`
			SecretName string   `json:"secretName"`
		} `json:"tls"`
		Rules []struct {
			Host string `json:"host"`
			HTTP struct {
				Paths []struct {
					Path     string `json:"path"`
					PathType string `json:"pathType"`
					Backend  struct {
						Service struct {
							Name string      `json:"name"`
							Port backendPort `json:"port"`
						} `json:"service"`
					} `json:"backend"`
				} `json:"paths"`
			} `json:"http"`
		} `json:"rules"`
	} `json:"spec"`
	Status struct {
		LoadBalancer struct {
			Ingress []struct {
				IP string `json:"ip"`
			} `json:"ingress"`
		} `json:"loadBalancer"`
	} `json:"status"`
}

type service struct {
	Metadata metadata `json:"metadata"`
	Spec     struct {
		Ports []struct {
			Name string `json:"name"`
			Port int    `json:"port"`
		} `json:"ports"`
	} `json:"spec"`
}

type endpointSlice struct {
	Metadata metadata `json:"metadata"`
	Ports    []struct {
		Name string `json:"name"`
		Port int    `json:"port"`
	} `json:"ports"`
	Endpoints []struct {
		Addresses  []string `json:"addresses"`
		Conditions struct {
			Ready *bool `json:"ready"`
		} `json:"conditions"`
	} `json:"endpoints"`
}

type secret struct {
	Metadata metadata          `json:"metadata"`
	Data     map[string][]byte `json:"data"`
}

// cluster is all that the configuration is made of.
type cluster struct {
	ingresses []ingress
	services  []service
	slices    []endpointSlice
	secrets   []secret
}

func list[T any](path string) ([]T, error) {
	var answer struct {
		Items []T `json:"items"`
	}
	err := incluster.Call(http.MethodGet, path, nil, "", &answer)
	return answer.Items, err
}

func observe() (seen cluster, err error) {
	if seen.ingresses, err = list[ingress]("/apis/networking.k8s.io/v1/ingresses"); err != nil {
		return
	}
	if seen.services, err = list[service]("/api/v1/services"); err != nil {
		return
	}
	if seen.slices, err = list[endpointSlice]("/apis/discovery.k8s.io/v1/endpointslices"); err != nil {
		return
	}
	seen.secrets, err = list[secret]("/api/v1/secrets?fieldSelector=type%3Dkubernetes.io%2Ftls")
	return
}

// tell attaches a warning to the Ingress, as the real controller does.
func tell(item ingress, message string) error {
	now := time.Now().UTC().Format(time.RFC3339)
	event := map[string]any{
		"metadata": map[string]any{"generateName": item.Metadata.Name + ".", "namespace": item.Metadata.Namespace},
		"involvedObject": map[string]any{
			"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "name": item.Metadata.Name,
			"namespace": item.Metadata.Namespace, "uid": item.Metadata.UID,
		},
		"type": "Warning", "reason": "Rejected", "message": message, "source": map[string]any{"component": "nginx-ingress-controller"},
		"firstTimestamp": now, "lastTimestamp": now, "count": 1,
	}
	return incluster.Call(http.MethodPost, "/api/v1/namespaces/"+item.Metadata.Namespace+"/events", event, "", nil)
}

// report writes the address into the Ingress' status, where it says otherwise.
func report(item ingress, address string) error {
	have := item.Status.LoadBalancer.Ingress
	if address == "" || len(have) == 1 && have[0].IP == address {
		return nil
	}
	path := "/apis/networking.k8s.io/v1/namespaces/" + item.Metadata.Namespace + "/ingresses/" + item.Metadata.Name + "/status"
	status := map[string]any{"status": map[string]any{"loadBalancer": map[string]any{"ingress": []any{map[string]any{"ip": address}}}}}
	return incluster.Call(http.MethodPatch, path, status, incluster.MergePatch, nil)
}
