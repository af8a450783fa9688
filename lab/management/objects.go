package main

import (
	"fmt"
	"net/http"
	"time"

	"gpuctl.lab/incluster"
)

// Meta is the part of an object's metadata that the stand-ins read.
type Meta struct {
	Name              string
	Namespace         string
	UID               string
	Generation        int64
	Annotations       map[string]string
	DeletionTimestamp string
	OwnerReferences   []struct{ UID string }
}

// Condition as cert-manager and Rancher write them.
type Condition struct {
	Type               string `json:"type"`
	Status             string `json:"status"`
	Reason             string `json:"reason"`
	Message            string `json:"message"`
	LastTransitionTime string `json:"lastTransitionTime"`
	ObservedGeneration int64  `json:"observedGeneration,omitempty"`
}

func now() string { return time.Now().UTC().Format(time.RFC3339) }

// with is the conditions with this one in place of that of its type, and whether that changed anything.
func with(have []Condition, wanted Condition) ([]Condition, bool) {
	wanted.LastTransitionTime = now()
	changed := append([]Condition(nil), have...)
	for i, condition := range have {
		if condition.Type != wanted.Type {
			continue
		}
		if condition.Status == wanted.Status {
			wanted.LastTransitionTime = condition.LastTransitionTime
		}
		changed[i] = wanted
		return changed, condition != wanted
	}
	return append(changed, wanted), true
}

func without(have []Condition, kind string) []Condition {
	left := []Condition{}
	for _, condition := range have {
		if condition.Type != kind {
			left = append(left, condition)
		}
	}
	return left
}

func find(conditions []Condition, kind string) Condition {
	for _, condition := range conditions {
		if condition.Type == kind {
			return condition
		}
	}
	return Condition{}
}

// event tells about an object what `kubectl describe` shows; a repeated one is counted.
func event(reporter, apiVersion, kind string, of Meta, level, reason, message string) {
	namespace := of.Namespace
	if namespace == "" {
		namespace = "default"
	}
	events := "/api/v1/namespaces/" + namespace + "/events"
	name := fmt.Sprintf("%s.%x", of.Name, hash(of.UID+reason+message))
	var known struct{ Count int }
	err := incluster.Call("GET", events+"/"+name, nil, "", &known)
	if err == nil {
		err = incluster.Call("PATCH", events+"/"+name, object{"count": known.Count + 1, "lastTimestamp": now()}, incluster.MergePatch, nil)
	} else if incluster.Is(err, http.StatusNotFound) {
		err = incluster.Call("POST", events, object{
			"metadata":       object{"name": name, "namespace": namespace},
			"involvedObject": object{"apiVersion": apiVersion, "kind": kind, "name": of.Name, "namespace": of.Namespace, "uid": of.UID},
			"type":           level, "reason": reason, "message": message, "count": 1, "firstTimestamp": now(), "lastTimestamp": now(),
			"source": object{"component": reporter}, "reportingComponent": reporter, "reportingInstance": reporter,
		}, "", nil)
	}
	if err != nil {
		incluster.Logf("error: event %s: %v", reason, err)
	}
}
