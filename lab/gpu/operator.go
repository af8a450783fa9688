package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"reflect"
	"time"

	"gpuctl.lab/incluster"
)

const (
	namespace = "gpu-operator"
	policies  = "/apis/nvidia.com/v1/clusterpolicies"
)

type object = incluster.Object

// Policy is the part of ClusterPolicy that the lab acts on; the chart refuses values that it does not know.
type Policy struct {
	Metadata struct {
		Name string `json:"name"`
		UID  string `json:"uid"`
	} `json:"metadata"`
	Spec struct {
		Daemonsets struct {
			Tolerations []any `json:"tolerations"`
		} `json:"daemonsets"`
		Toolkit struct {
			Enabled bool  `json:"enabled"`
			Env     []any `json:"env"`
		} `json:"toolkit"`
		Driver, DCGMExporter, MigManager struct {
			Enabled bool `json:"enabled"`
		}
		Mig struct {
			Strategy string `json:"strategy"`
		} `json:"mig"`
		DevicePlugin struct {
			Config struct {
				Name    string `json:"name"`
				Default string `json:"default"`
			} `json:"config"`
		} `json:"devicePlugin"`
	} `json:"spec"`
	Status struct {
		State string `json:"state"`
	} `json:"status"`
}

type operand struct {
	name, deploy, program string
	arguments             []string
	// withRuntime: the pod itself runs under the runtime class, so it waits until K3s knows the runtime
	withRuntime bool
	enabled     bool
}

func runOperator([]string) { incluster.Forever(2*time.Second, reconcile) }

func reconcile() error {
	var found struct{ Items []Policy }
	if err := incluster.Call("GET", policies, nil, "", &found); err != nil {
		return err
	}
	if len(found.Items) != 1 {
		return fmt.Errorf("%d ClusterPolicies instead of one", len(found.Items))
	}
	policy := found.Items[0]
	if !policy.Spec.Driver.Enabled || !policy.Spec.Toolkit.Enabled {
		return errors.New("a preinstalled driver or toolkit: not part of the rehearsal lab")
	}
	if err := labelNodes(policy.Spec.MigManager.Enabled); err != nil {
		return err
	}
	runtime := object{"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "handler": "nvidia",
		"metadata": object{"name": "nvidia", "ownerReferences": owner(policy)}}
	if err := incluster.Apply("gpu-operator", "/apis/node.k8s.io/v1/runtimeclasses/nvidia", runtime); err != nil {
		return err
	}
	ready := true
	for _, part := range []operand{
		{"nvidia-driver-daemonset", "driver", "nvidia-driver", nil, false, true},
		{"nvidia-container-toolkit-daemonset", "container-toolkit", "nvidia-toolkit", nil, false, true},
		{"nvidia-operator-validator", "operator-validator", "nvidia-validator", nil, true, true},
		{"nvidia-device-plugin-daemonset", "device-plugin", "nvidia-device-plugin", nil, true, true},
		{"gpu-feature-discovery", "gpu-feature-discovery", "gpu-feature-discovery", nil, true, true},
		{"nvidia-mig-manager", "mig-manager", "nvidia-mig-manager", nil, true, policy.Spec.MigManager.Enabled},
		{"nvidia-dcgm-exporter", "dcgm-exporter", "dcgm-exporter", nil, true, policy.Spec.DCGMExporter.Enabled},
	} {
		path := "/apis/apps/v1/namespaces/" + namespace + "/daemonsets/" + part.name
		if !part.enabled {
			if err := incluster.Call("DELETE", path, nil, "", nil); err != nil && !incluster.Is(err, http.StatusNotFound) {
				return err
			}
			continue
		}
		if err := incluster.Apply("gpu-operator", path, daemonSet(part, policy)); err != nil {
			return err
		}
		var live struct {
			Metadata struct{ Generation int }
			Status   struct{ ObservedGeneration, DesiredNumberScheduled, NumberReady, UpdatedNumberScheduled int }
		}
		if err := incluster.Call("GET", path, nil, "", &live); err != nil {
			return err
		}
		status := live.Status
		ready = ready && status.ObservedGeneration == live.Metadata.Generation && status.DesiredNumberScheduled > 0 &&
			status.NumberReady == status.DesiredNumberScheduled && status.UpdatedNumberScheduled == status.DesiredNumberScheduled
	}
	state := "notReady"
	if ready {
		state = "ready"
	}
	if state == policy.Status.State {
		return nil
	}
	incluster.Logf("ClusterPolicy is %s", state)
	return incluster.Call("PATCH", policies+"/"+policy.Metadata.Name+"/status", object{"status": object{"state": state, "namespace": namespace}},
		incluster.MergePatch, nil)
}

func owner(policy Policy) []any {
	return []any{object{"apiVersion": "nvidia.com/v1", "kind": "ClusterPolicy", "name": policy.Metadata.Name, "uid": policy.Metadata.UID,
		"controller": true, "blockOwnerDeletion": true}}
}

// labelNodes marks the nodes that node-feature-discovery found NVIDIA cards on, and takes the marks off the others.
func labelNodes(cutting bool) error {
	var nodes struct {
		Items []struct {
			Metadata struct {
				Name   string
				Labels map[string]string
			}
		}
	}
	if err := incluster.Call("GET", "/api/v1/nodes", nil, "", &nodes); err != nil {
		return err
	}
	for _, node := range nodes.Items {
		wanted := map[string]any{"nvidia.com/gpu.present": nil}
		for _, part := range []string{"driver", "container-toolkit", "operator-validator", "device-plugin", "gpu-feature-discovery", "dcgm-exporter"} {
			wanted["nvidia.com/gpu.deploy."+part] = nil
		}
		if node.Metadata.Labels["feature.node.kubernetes.io/pci-10de.present"] == "true" {
			for name := range wanted {
				wanted[name] = "true"
			}
		}
		if cutting && len(wanted) > 0 && wanted["nvidia.com/gpu.present"] == "true" {
			wanted["nvidia.com/gpu.deploy.mig-manager"] = "true"
			if node.Metadata.Labels[migConfig] == "" {
				wanted[migConfig] = uncut
			}
		} else {
			wanted["nvidia.com/gpu.deploy.mig-manager"] = nil
		}
		changed := object{}
		for name, value := range wanted {
			current, there := node.Metadata.Labels[name]
			if value == nil && there || value != nil && !reflect.DeepEqual(value, any(current)) {
				changed[name] = value
			}
		}
		if len(changed) == 0 {
			continue
		}
		body := object{"metadata": object{"labels": changed}}
		if err := incluster.Call("PATCH", "/api/v1/nodes/"+node.Metadata.Name, body, incluster.MergePatch, nil); err != nil {
			return err
		}
	}
	return nil
}

func daemonSet(part operand, policy Policy) object {
	labels := object{"app": part.name}
	container := func(name string, arguments ...string) object {
		words := []any{}
		for _, argument := range arguments {
			words = append(words, argument)
		}
		return object{
			"name": name, "image": os.Getenv("OPERATOR_IMAGE"), "command": []any{"/gpu"}, "args": words,
			"securityContext": object{"privileged": true},
			"env": []any{
				object{"name": "NODE_NAME", "valueFrom": object{"fieldRef": object{"fieldPath": "spec.nodeName"}}},
				object{"name": "DEFAULT_CONFIG", "value": policy.Spec.DevicePlugin.Config.Default},
				object{"name": "MIG_STRATEGY", "value": policy.Spec.Mig.Strategy},
			},
			"volumeMounts": []any{
				object{"name": "host", "mountPath": "/host", "mountPropagation": "HostToContainer"},
				object{"name": "plugins", "mountPath": "/var/lib/kubelet/device-plugins"},
				object{"name": "config", "mountPath": "/config"},
			},
		}
	}
	config := object{"name": "config", "emptyDir": object{}}
	if name := policy.Spec.DevicePlugin.Config.Name; name != "" && part.program == "nvidia-device-plugin" {
		config = object{"name": "config", "configMap": object{"name": name}}
	}
	main := container(part.name, append([]string{part.program}, part.arguments...)...)
	if part.program == "nvidia-toolkit" {
		main["env"] = append(main["env"].([]any), policy.Spec.Toolkit.Env...)
	}
	if part.program == "nvidia-driver" {
		main["startupProbe"] = object{"exec": object{"command": []any{"/gpu", "nvidia-validator", "driver"}},
			"periodSeconds": 1, "failureThreshold": 120, "timeoutSeconds": 10}
	}
	if part.program == "dcgm-exporter" {
		main["ports"] = []any{object{"name": "metrics", "containerPort": 9400}}
		main["readinessProbe"] = object{"httpGet": object{"path": "/metrics", "port": 9400}, "periodSeconds": 2}
	}
	pod := object{
		"serviceAccountName": "gpu-operator", "nodeSelector": object{"nvidia.com/gpu.deploy." + part.deploy: "true"},
		"tolerations": append([]any{object{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}}, policy.Spec.Daemonsets.Tolerations...),
		"containers":  []any{main}, "terminationGracePeriodSeconds": 0, "priorityClassName": "system-node-critical",
		"volumes": []any{
			object{"name": "host", "hostPath": object{"path": "/"}},
			object{"name": "plugins", "hostPath": object{"path": "/var/lib/kubelet/device-plugins"}},
			config,
		},
	}
	if part.withRuntime {
		pod["runtimeClassName"] = "nvidia"
	}
	if part.program == "nvidia-validator" {
		pod["initContainers"] = []any{container("driver-validation", "nvidia-validator", "driver"),
			container("toolkit-validation", "nvidia-validator", "toolkit"), container("cuda-validation", "nvidia-validator", "cuda"),
			container("plugin-validation", "nvidia-validator", "plugin")}
	}
	return object{
		"apiVersion": "apps/v1", "kind": "DaemonSet",
		"metadata": object{"name": part.name, "namespace": namespace, "labels": labels, "ownerReferences": owner(policy)},
		"spec": object{
			"selector": object{"matchLabels": labels}, "updateStrategy": object{"type": "RollingUpdate"},
			"template": object{"metadata": object{"labels": labels}, "spec": pod},
		},
	}
}
