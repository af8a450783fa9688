package main

import (
	"context"
	"fmt"
	"io"
	"reflect"
	"strings"

	"helm.sh/helm/v3/pkg/action"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
)

// look compares what is in the cluster with the release as it was installed, and asks whether it works.
func (f *Fleet) look(ctx context.Context, deployment *BundleDeployment) error {
	namespace := deployment.Spec.Options.DefaultNamespace
	helm, err := f.helm(namespace)
	if err != nil {
		return err
	}
	found, err := helm.Releases.Deployed(releaseName(deployment))
	if err != nil {
		return err
	}
	var modified []Changed
	var nonReady []NonReady
	decoder := yaml.NewYAMLOrJSONDecoder(strings.NewReader(found.Manifest), 4096)
	for {
		item := &unstructured.Unstructured{}
		if err := decoder.Decode(&item.Object); err == io.EOF {
			break
		} else if err != nil {
			return err
		}
		if len(item.Object) == 0 {
			continue
		}
		changed, waiting, err := f.compare(ctx, item, namespace)
		if err != nil {
			return err
		}
		if changed != nil {
			modified = append(modified, *changed)
		}
		if waiting != nil {
			nonReady = append(nonReady, *waiting)
		}
	}
	drift := deployment.Spec.Options.CorrectDrift
	if len(modified) > 0 && drift != nil && drift.Enabled {
		rollback := action.NewRollback(helm)
		rollback.Force, rollback.MaxHistory, rollback.Version = drift.Force, history, found.Version
		if err := rollback.Run(found.Name); err != nil {
			return fmt.Errorf("correcting drift: %w", err)
		}
	}
	deployment.Status.ModifiedStatus, deployment.Status.NonReadyStatus = modified, nonReady
	deployment.Status.NonModified, deployment.Status.Ready = len(modified) == 0, len(nonReady) == 0 && len(modified) == 0
	return nil
}

func (f *Fleet) client(item *unstructured.Unstructured, namespace string) (dynamic.ResourceInterface, error) {
	kind := item.GroupVersionKind()
	mapping, err := f.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if meta.IsNoMatchError(err) {
		f.mapper.Reset()
		mapping, err = f.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	}
	if err != nil {
		return nil, err
	}
	resource := f.dynamic.Resource(mapping.Resource)
	if mapping.Scope.Name() == meta.RESTScopeNameRoot {
		return resource, nil
	}
	if own := item.GetNamespace(); own != "" {
		namespace = own
	}
	item.SetNamespace(namespace)
	return resource.Namespace(namespace), nil
}

// compare asks the API server itself, by a dry run, whether applying the object again would change it.
func (f *Fleet) compare(ctx context.Context, item *unstructured.Unstructured, namespace string) (*Changed, *NonReady, error) {
	client, err := f.client(item, namespace)
	if err != nil {
		return nil, nil, err
	}
	changed := &Changed{item.GetAPIVersion(), item.GetKind(), item.GetNamespace(), item.GetName(), false}
	live, err := client.Get(ctx, item.GetName(), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		changed.Missing = true
		return changed, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	wanted, err := client.Apply(ctx, item.GetName(), item, metav1.ApplyOptions{FieldManager: "fleet-drift", Force: true, DryRun: []string{metav1.DryRunAll}})
	if err == nil && reflect.DeepEqual(substance(live), substance(wanted)) {
		changed = nil
	} else if err != nil && !apierrors.IsInvalid(err) {
		return nil, nil, err
	}
	message := waiting(live)
	if message == "" {
		return changed, nil, nil
	}
	behind := &NonReady{APIVersion: item.GetAPIVersion(), Kind: item.GetKind(), Namespace: item.GetNamespace(), Name: item.GetName()}
	behind.Summary.State, behind.Summary.Message = "in-progress", []string{message}
	return changed, behind, nil
}

// substance is an object without what the server keeps for itself.
func substance(item *unstructured.Unstructured) map[string]any {
	kept := map[string]any{"labels": item.GetLabels(), "annotations": item.GetAnnotations()}
	for key, value := range item.Object {
		if key != "metadata" && key != "status" {
			kept[key] = value
		}
	}
	return kept
}

// waiting says why a workload does not run as wanted yet, "" when it does.
func waiting(live *unstructured.Unstructured) string {
	number := func(fields ...string) int64 {
		value, _, _ := unstructured.NestedInt64(live.Object, fields...)
		return value
	}
	wanted, ready := int64(0), int64(0)
	switch live.GetKind() {
	case "Deployment", "StatefulSet":
		wanted, ready = number("spec", "replicas"), min(number("status", "readyReplicas"), number("status", "updatedReplicas"))
	case "DaemonSet":
		wanted = number("status", "desiredNumberScheduled")
		ready = min(number("status", "numberReady"), number("status", "updatedNumberScheduled"))
	default:
		return ""
	}
	if number("status", "observedGeneration") < live.GetGeneration() {
		return "not seen by its controller yet"
	}
	if ready < wanted {
		return fmt.Sprintf("Available: %d/%d", ready, wanted)
	}
	return ""
}
