package main

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	group      = "fleet.cattle.io"
	version    = "v1alpha1"
	cluster    = "local"
	repoLabel  = group + "/repo-name"
	commitMark = group + "/commit"
)

// The fields of Fleet's own types that gpuctl or the lab uses; reading an object with any other field is an error.

type CorrectDrift struct {
	Enabled bool `json:"enabled,omitempty"`
	Force   bool `json:"force,omitempty"`
}

type Helm struct {
	Chart         string         `json:"chart,omitempty"`
	Repo          string         `json:"repo,omitempty"`
	Version       string         `json:"version,omitempty"`
	ReleaseName   string         `json:"releaseName,omitempty"`
	Values        map[string]any `json:"values,omitempty"`
	ValuesFiles   []string       `json:"valuesFiles,omitempty"`
	TakeOwnership bool           `json:"takeOwnership,omitempty"`
}

type Dependency struct {
	Name string `json:"name"`
}

// Options are what fleet.yaml says; they travel in the Bundle and its BundleDeployment.
type Options struct {
	DefaultNamespace string            `json:"defaultNamespace,omitempty"`
	NamespaceLabels  map[string]string `json:"namespaceLabels,omitempty"`
	Helm             *Helm             `json:"helm,omitempty"`
	KeepResources    bool              `json:"keepResources,omitempty"`
	CorrectDrift     *CorrectDrift     `json:"correctDrift,omitempty"`
}

type FleetYaml struct {
	Options   `json:",inline"`
	DependsOn []Dependency `json:"dependsOn,omitempty"`
}

type Condition struct {
	Type           string `json:"type"`
	Status         string `json:"status"`
	Reason         string `json:"reason,omitempty"`
	Message        string `json:"message,omitempty"`
	LastUpdateTime string `json:"lastUpdateTime,omitempty"`
}

type Summary struct {
	Ready        int `json:"ready"`
	DesiredReady int `json:"desiredReady"`
	ErrApplied   int `json:"errApplied,omitempty"`
	WaitApplied  int `json:"waitApplied,omitempty"`
	OutOfSync    int `json:"outOfSync,omitempty"`
	Modified     int `json:"modified,omitempty"`
	NotReady     int `json:"notReady,omitempty"`
	Pending      int `json:"pending,omitempty"`
}

type GitRepo struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Repo             string        `json:"repo"`
		Branch           string        `json:"branch,omitempty"`
		Paths            []string      `json:"paths,omitempty"`
		ClientSecretName string        `json:"clientSecretName,omitempty"`
		CABundle         []byte        `json:"caBundle,omitempty"`
		PollingInterval  string        `json:"pollingInterval,omitempty"`
		CorrectDrift     *CorrectDrift `json:"correctDrift,omitempty"`
	} `json:"spec"`
	Status struct {
		Commit               string      `json:"commit,omitempty"`
		PollingCommit        string      `json:"pollingCommit,omitempty"`
		LastPollingTriggered string      `json:"lastPollingTriggered,omitempty"`
		ObservedGeneration   int64       `json:"observedGeneration"`
		GitJobStatus         string      `json:"gitJobStatus,omitempty"`
		ReadyClusters        int         `json:"readyClusters"`
		DesiredReadyClusters int         `json:"desiredReadyClusters"`
		Summary              Summary     `json:"summary"`
		Display              Display     `json:"display"`
		Conditions           []Condition `json:"conditions,omitempty"`
	} `json:"status,omitempty"`
}

type Display struct {
	State                  string `json:"state,omitempty"`
	Message                string `json:"message,omitempty"`
	Error                  bool   `json:"error,omitempty"`
	ReadyBundleDeployments string `json:"readyBundleDeployments,omitempty"`
}

type Resource struct {
	Name     string `json:"name"`
	Content  string `json:"content"`
	Encoding string `json:"encoding,omitempty"`
}

type Bundle struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              BundleSpec `json:"spec"`
	Status            struct {
		ObservedGeneration int64       `json:"observedGeneration"`
		Summary            Summary     `json:"summary"`
		Display            StateOnly   `json:"display"`
		Conditions         []Condition `json:"conditions,omitempty"`
	} `json:"status,omitempty"`
}

type BundleSpec struct {
	Options   `json:",inline"`
	DependsOn []Dependency `json:"dependsOn,omitempty"`
	Resources []Resource   `json:"resources,omitempty"`
	Targets   []Target     `json:"targets,omitempty"`
}

type Target struct {
	ClusterName string `json:"clusterName"`
}

type StateOnly struct {
	State string `json:"state,omitempty"`
}

// Changed is an object that is not as it was installed.
type Changed struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace,omitempty"`
	Name       string `json:"name"`
	Missing    bool   `json:"missing,omitempty"`
}

// NonReady is an object that is there and does not work yet.
type NonReady struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace,omitempty"`
	Name       string `json:"name"`
	Summary    struct {
		State   string   `json:"state"`
		Message []string `json:"message,omitempty"`
	} `json:"summary"`
}

type BundleDeployment struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		DeploymentID string       `json:"deploymentID"`
		Options      Options      `json:"options"`
		DependsOn    []Dependency `json:"dependsOn,omitempty"`
	} `json:"spec"`
	Status struct {
		AppliedDeploymentID string      `json:"appliedDeploymentID,omitempty"`
		Release             string      `json:"release,omitempty"`
		Ready               bool        `json:"ready"`
		NonModified         bool        `json:"nonModified"`
		ModifiedStatus      []Changed   `json:"modifiedStatus,omitempty"`
		NonReadyStatus      []NonReady  `json:"nonReadyStatus,omitempty"`
		Display             StateOnly   `json:"display"`
		Conditions          []Condition `json:"conditions,omitempty"`
	} `json:"status,omitempty"`
}

// setCondition keeps the time of a condition that stays as it is.
func setCondition(conditions []Condition, kind string, good bool, message string) []Condition {
	status := map[bool]string{true: "True", false: "False"}[good]
	reason := ""
	if message != "" {
		reason = "Error"
	}
	made := Condition{kind, status, reason, message, metav1.Now().UTC().Format("2006-01-02T15:04:05Z")}
	for i, have := range conditions {
		if have.Type == kind {
			if have.Status != status || have.Message != message {
				conditions[i] = made
			}
			return conditions
		}
	}
	return append(conditions, made)
}
