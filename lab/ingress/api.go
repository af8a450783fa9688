package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

const account = "/var/run/secrets/kubernetes.io/serviceaccount/"

type metadata struct {
	Name              string            `json:"name"`
	Namespace         string            `json:"namespace"`
	UID               string            `json:"uid,omitempty"`
	GenerateName      string            `json:"generateName,omitempty"`
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

func (item ingress) reports(address string) bool {
	known := item.Status.LoadBalancer.Ingress
	return len(known) == 1 && known[0].IP == address
}

// report writes the address into the Ingress' status, as the real controller does with external-status-address.
func report(item ingress, address string) error {
	known := map[string]any{"ingress": []any{map[string]any{"ip": address}}}
	path := "/apis/networking.k8s.io/v1/namespaces/" + item.Metadata.Namespace + "/ingresses/" + item.Metadata.Name + "/status"
	var answer map[string]any
	return call(http.MethodPatch, path, map[string]any{"status": map[string]any{"loadBalancer": known}}, &answer)
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

var client = func() *http.Client {
	pool := x509.NewCertPool()
	if ca, err := os.ReadFile(account + "ca.crt"); err == nil {
		pool.AppendCertsFromPEM(ca)
	}
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
}()

func call(method, path string, body, answer any) error {
	token, err := os.ReadFile(account + "token")
	if err != nil {
		return err
	}
	encoded, err := json.Marshal(body)
	if err != nil {
		return err
	}
	address := "https://" + os.Getenv("KUBERNETES_SERVICE_HOST") + ":" + os.Getenv("KUBERNETES_SERVICE_PORT")
	request, err := http.NewRequest(method, address+path, bytes.NewReader(encoded))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+string(token))
	request.Header.Set("Content-Type", map[bool]string{true: "application/merge-patch+json", false: "application/json"}[method == http.MethodPatch])
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %d %s", method, path, response.StatusCode, text)
	}
	return json.Unmarshal(text, answer)
}

func list[T any](path string) ([]T, error) {
	var answer struct {
		Items []T `json:"items"`
	}
	err := call(http.MethodGet, path, nil, &answer)
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
	var answer map[string]any
	return call(http.MethodPost, "/api/v1/namespaces/"+item.Metadata.Namespace+"/events", event, &answer)
}
